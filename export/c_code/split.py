"""policy.h cut in two: what a caller needs to see, and a unit of its own for everything else."""

import re
from collections.abc import Sequence

from export.c_code.dialect import comment
from export.c_code.signature import unsigned
from export.errors import ExportError

_PUBLIC = (
    "policy_reset",
    "policy_observe",
    "policy_step",
    "policy_evaluate",
    "policy_step_fixed",
    "policy_self_test",
)
_OPTIONAL = ("policy_step_fixed",)
_OPENING = "#ifndef POLICY_H\n#define POLICY_H\n"
_LAST_SIZE = re.compile(r"^#define POLICY_KNOWN_ANSWERS \d+\n", re.MULTILINE)
_STATE = re.compile(r"^/\*[^\n]*\*/\ntypedef struct \{\n.*?^\} policy_state_t;\n\n?", re.MULTILINE | re.DOTALL)
_CALLERS_TABLE = re.compile(
    r"^static (const \w+ policy_(?:digest|action_low|action_high)\[\d+\])(?= = \{)", re.MULTILINE
)
_COMMENT = r"(?P<comment>/\*(?:(?!\*/).)*\*/\n)"

# GCC contracts outside -std=c11 unless told not to, and not every build system can pass an option to one file.
_CONTRACTION = """#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=off")
#endif
"""


def split_header(text: str, notes: Sequence[str] = ()) -> tuple[str, str]:
    """Cut the text of policy.h into (policy.h, policy.c) that compute the same bits.

    notes: lines for the comment above the interface. The macros, policy_state_t and the functions in `_PUBLIC` are
    declared in the one and defined in the other, with C linkage; all else is static in policy.c.

    Raises:
        ExportError: a part that every policy.h has is missing.
    """
    banner, opening, rest = (unsigned(text) or text).partition(_OPENING)
    sizes = _LAST_SIZE.search(rest)
    state = _STATE.search(rest)
    ending = rest.rstrip().removesuffix("#endif")
    tables = _CALLERS_TABLE.findall(rest)
    if not (opening and sizes and state and len(tables) == 3 and ending != rest.rstrip()):
        raise _unknown("its macros, tables for the caller or policy_state_t")
    declarations = []
    body = _CALLERS_TABLE.sub(r"\1", ending[sizes.end() :].replace(state.group(), ""))
    for name in _PUBLIC:
        head = re.compile(rf"^{_COMMENT}static inline (?P<head>\w+ {name}\([^)]*\)) \{{$", re.MULTILINE | re.DOTALL)
        found = head.search(body)
        if found is None:
            if name in _OPTIONAL:
                continue
            raise _unknown(name)
        declarations.append(f"{found['comment']}{found['head']};\n")
        body = body[: found.start()] + f"{found['head']} {{" + body[found.end() :]
    interface = [
        banner + ("\n".join(["/*", *(f" * {comment(note)}".rstrip() for note in notes), " */\n"]) if notes else ""),
        opening + rest[: sizes.end()],
        '#ifdef __cplusplus\nextern "C" {\n#endif\n',
        "/* Of the policy that is linked; POLICY_DIGEST_HEX is that of this file. */",
        *(f"extern {table};" for table in tables),
        f"\n{state.group().strip()}\n",
        *declarations,
        "#ifdef __cplusplus\n}\n#endif\n\n#endif\n",
    ]
    return "\n".join(interface), f'{banner}#include "policy.h"\n\n{_CONTRACTION}{body.rstrip()}\n'


def _unknown(part: str) -> ExportError:
    return ExportError(
        f"policy.h has no {part} as `compile` writes it, so it cannot be split; compile the student again"
    )
