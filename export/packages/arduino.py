"""An Arduino library: what "Add .ZIP Library" takes."""

from export.packages.archive import archive
from export.packages.facts import description, fact_lines, library_name, library_version, policy_facts
from export.packages.pair import library_sources, template
from export.sparse_policy import SparsePolicy

SKETCH = "examples/control_loop/control_loop.ino"
_KEYWORDS = {
    "KEYWORD1": ("policy_state_t",),
    "KEYWORD2": (
        "policy_reset",
        "policy_observe",
        "policy_step",
        "policy_step_fixed",
        "policy_evaluate",
        "policy_self_test",
    ),
    "LITERAL1": (
        "POLICY_ACTION_SIZE",
        "POLICY_BASE_OBSERVATION_SIZE",
        "POLICY_DIGEST_HEX",
        "POLICY_HISTORY",
        "POLICY_OBSERVATION_SIZE",
        "POLICY_PERIOD_US",
        "policy_action_high",
        "policy_action_low",
        "policy_digest",
    ),
}


def arduino_library(policy: SparsePolicy, digest: str, header: str) -> bytes:
    """Return the bytes of the zip: library.properties, keywords.txt, src/ and one sketch."""
    files = {
        "library.properties": _properties(policy, digest),
        "keywords.txt": "".join(f"{word}\t{kind}\n" for kind, words in _KEYWORDS.items() for word in words),
        SKETCH: sketch(policy, digest),
        **library_sources(policy, digest, header),
    }
    return archive(library_name(policy), files)


def sketch(policy: SparsePolicy, digest: str) -> str:
    """Return a sketch that runs the policy behind the serial line."""
    lines = [f" * {line}" for line in fact_lines(policy_facts(policy, digest))]
    return template("control_loop.ino").replace("@FACTS@", "\n".join(lines))


def _properties(policy: SparsePolicy, digest: str) -> str:
    """Arduino's own keys first; it ignores others, here the policy's facts."""
    facts = policy_facts(policy, digest)
    entries = {
        "name": library_name(policy),
        "version": library_version(digest),
        "author": "bayesian-policy-distillation",
        "maintainer": "bayesian-policy-distillation",
        "sentence": description(policy),
        "paragraph": f"Observation, in this order: {facts['observation_order']}. Actions: {facts['action_limits']}.",
        "category": "Device Control",
        "url": "",
        "architectures": "*",
        "includes": "policy.h",
        **facts,
    }
    return "".join(f"{key}={value}\n" for key, value in entries.items())
