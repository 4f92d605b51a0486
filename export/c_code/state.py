"""The ring of frames that the caller owns, and the functions that a firmware calls."""

import numpy as np
from numpy.typing import NDArray

from export.c_code.dialect import Dialect, number
from export.c_code.layer_tables import live_inputs
from export.sparse_policy import SparsePolicy


def state_code(policy: SparsePolicy, dialect: Dialect) -> str:
    """Return policy_state_t, policy_reset, policy_observe, policy_step and policy_evaluate."""
    return "\n".join(
        part
        for part in (
            _input_tables(policy, dialect),
            _state(policy),
            _frame(policy, dialect),
            "/* Pushes one base observation (POLICY_BASE_OBSERVATION_SIZE values) without computing an action. */",
            *_observe(policy, "policy_observe", "float base_observation", "policy_frame"),
            _outputs(policy, dialect),
            _step(policy),
            _fixed_interface(policy, dialect),
        )
        if part
    )


def _value(policy: SparsePolicy) -> str:
    return "int16_t" if policy.fixed is not None else "float"


def _input_tables(policy: SparsePolicy, dialect: Dialect) -> str:
    live = live_inputs(policy)
    if len(live) == policy.observation_size // policy.history:
        return _scale_tables(policy, dialect)
    comment = "/* The base observations that some weight reads; the others are not kept. */"
    return f"{comment}\n{dialect.array('policy_live_inputs', live, _live_kind(live))}\n{_scale_tables(policy, dialect)}"


def _scale_tables(policy: SparsePolicy, dialect: Dialect) -> str:
    if policy.fixed is None:
        if not policy.centre.any():
            return ""
        comment = (
            "/* Subtracted from every frame before layer 0; the rest of the normaliser is folded into its weights. */"
        )
        return f"{comment}\n{dialect.array('policy_centre', policy.centre)}\n"
    fixed = policy.fixed
    parts = ["/* An observation x is read as x * 2^exponent, less the offset, within +-limit. */"]
    if len(set(fixed.input_limit.tolist())) > 1:
        parts.append(dialect.array("policy_input_limit", fixed.input_limit, "int16"))
    if len(set(fixed.input_exponent.tolist())) > 1:
        parts.append(dialect.array("policy_input_exponent", fixed.input_exponent, "int8"))
    if fixed.input_offset.any():
        parts.append(dialect.array("policy_input_offset", fixed.input_offset, "int32"))
    return "\n".join(parts) + "\n"


def _state(policy: SparsePolicy) -> str:
    value, width = _value(policy), len(live_inputs(policy))
    if policy.history == 1:
        fields = [
            f"    {value} frames[{width}];",
            "    uint8_t broken; /* the observation was no number */",
        ]
        reset = ["    state->broken = 0u;"]
    else:
        fields = [
            f"    {value} frames[2 * POLICY_HISTORY * {width}]; /* every frame twice, so that the last POLICY_HISTORY",
            "                    ones always lie in one piece */",
            "    uint8_t oldest; /* slot of the oldest frame, 1 to POLICY_HISTORY; 0: the next one fills them all */",
            "    uint8_t broken; /* steps until the history holds no observation that was no number */",
        ]
        reset = ["    state->oldest = 0u;", "    state->broken = 0u;"]
    return "\n".join(
        [
            "/* The last POLICY_HISTORY base observations. Owned by the caller; any number of them may exist. */",
            "typedef struct {",
            *fields,
            "} policy_state_t;",
            "",
            "/* Forgets the history: the next observation fills all frames. */",
            "static inline void policy_reset(policy_state_t *state) {",
            *reset,
            "}",
            "",
        ]
    )


def _frame(policy: SparsePolicy, dialect: Dialect) -> str:
    """policy_frame: one frame of observations as layer 0 takes them, written to two places."""
    if policy.fixed is None:
        centre = dialect.read("float32", "policy_centre[i]")
        converted = f"observation[i] - {centre}" if policy.centre.any() else "observation[i]"
        checked = ["broken |= policy_is_broken(observation[i]);"]
    else:
        exponent = _each(dialect, "policy_input_exponent", policy.fixed.input_exponent, "int8")
        converted = _limited(policy, dialect, f"policy_reading(observation[i], {exponent}, &broken)")
        checked = []
    return "\n".join(
        [
            "/* Turns base observations (physical units) into a frame and a copy; 1 when one of them is broken. */",
            *_frame_function(
                policy, dialect, "policy_frame", "float observation", [*checked, f"const T value = {converted};"]
            ),
        ]
    )


def _live_kind(live: NDArray[np.int64]) -> str:
    return "uint8" if live.max() < 256 else "uint16"


def _frame_function(policy: SparsePolicy, dialect: Dialect, name: str, argument: str, lines: list[str]) -> list[str]:
    live = live_inputs(policy)
    place, count, index = "i", "POLICY_BASE_OBSERVATION_SIZE", []
    if len(live) < policy.observation_size // policy.history:
        read = dialect.read(_live_kind(live), "policy_live_inputs[k]")
        place, count, index = "k", str(len(live)), [f"const uint_fast16_t i = {read};"]
    body = [*index, *lines, f"frame[{place}] = value;", f"copy[{place}] = value;"]
    value = _value(policy)
    return [
        f"static inline uint32_t {name}(const {argument}[], {value} *frame, {value} *copy) {{",
        "    uint32_t broken = 0u;",
        f"    for (uint_fast16_t {place} = 0; {place} < {count}; ++{place}) {{",
        *(f"        {line.replace('const T ', f'const {value} ')}" for line in body),
        "    }",
        "    return broken;",
        "}\n",
    ]


def _limited(policy: SparsePolicy, dialect: Dialect, reading: str) -> str:
    assert policy.fixed is not None
    if policy.fixed.input_offset.any():
        reading = f"{reading} - {dialect.read('int32', 'policy_input_offset[i]')}"
    return (
        f"(int16_t)policy_limited({reading}, {_each(dialect, 'policy_input_limit', policy.fixed.input_limit, 'int16')})"
    )


def _each(dialect: Dialect, table: str, values: NDArray[np.int64], kind: str) -> str:
    """Return the value for input i: from its table, or the number where all have the same."""
    return dialect.read(kind, f"{table}[i]") if len(set(values.tolist())) > 1 else str(int(values[0]))


def _observe(policy: SparsePolicy, name: str, argument: str, frame: str) -> list[str]:
    """The function that pushes one base observation, through the function `frame`."""
    width = len(live_inputs(policy))
    head = f"static inline void {name}(policy_state_t *state, const {argument}[]) {{"
    if policy.history == 1:
        call = f"{frame}({argument.rsplit(maxsplit=1)[-1]}, state->frames, state->frames)"
        return [head, f"    state->broken = (uint8_t){call};", "}\n"]
    return [
        head,
        "    int_fast16_t slot = state->oldest;",
        "    uint_fast16_t frames = slot != 0 ? 1u : POLICY_HISTORY;",
        "    uint32_t broken = 0u;",
        "    do {",
        "        slot &= (slot - POLICY_HISTORY) >> 15; /* POLICY_HISTORY becomes 0, without a branch */",
        f"        {_value(policy)} *frame = &state->frames[slot * {width}];",
        f"        broken |= {frame}({argument.rsplit(maxsplit=1)[-1]}, frame, frame + POLICY_HISTORY * {width});",
        "        ++slot;",
        "    } while (--frames > 0u);",
        "    state->oldest = (uint8_t)slot;",
        "    /* POLICY_HISTORY where broken, else one less, down to 0; without a branch. */",
        "    int32_t left = (int32_t)state->broken - 1;",
        "    left -= left >> 31;",
        "    state->broken = (uint8_t)(left + ((POLICY_HISTORY - left) & -(int32_t)broken));",
        "}\n",
    ]


def _outputs(policy: SparsePolicy, dialect: Dialect) -> str:
    """policy_output: actions as floats, NaN where the history is broken."""
    size = policy.widths[-1]
    if policy.fixed is None:
        source = ""
        lines: list[str] = []
    else:
        source = "const int32_t output[], "
        lines = []
        for k in range(size):
            exponent = int(policy.fixed.action_exponent[k])
            if dialect.float_unit:
                lines.append(f"    action[{k}] = (float)output[{k}] * {number(np.ldexp(1.0, -exponent))};")
            else:
                lines.append(f"    action[{k}] = policy_to_float(output[{k}], {exponent});")
    return "\n".join(
        [
            "/* Hands out the actions in physical units; NaN when an observation in the history was no number. */",
            f"static inline void policy_output({source}uint32_t broken, float action[]) {{",
            *lines,
            "    /* All ones where nothing is broken: the same instructions either way. */",
            "    const int32_t whole = ((int32_t)broken - 1) >> 31;",
            "    for (uint_fast16_t i = 0; i < POLICY_ACTION_SIZE; ++i) {",
            "        union {",
            "            float number;",
            "            int32_t bits;",
            "        } value;",
            "        value.number = action[i];",
            "        value.bits = 0x7fc00000 ^ ((value.bits ^ 0x7fc00000) & whole);",
            "        action[i] = value.number;",
            "    }",
            "}\n",
        ]
    )


def _window(policy: SparsePolicy) -> str:
    """Where the last frames lie in one piece, oldest first."""
    width = len(live_inputs(policy))
    return "state->frames" if policy.history == 1 else f"&state->frames[state->oldest * {width}]"


def _step(policy: SparsePolicy) -> str:
    value, width = _value(policy), len(live_inputs(policy))
    window = _window(policy)
    if policy.fixed is None:
        compute = [f"    policy_network({window}, action);", "    policy_output(state->broken, action);"]
        evaluate = ["    policy_network(stacked, action);", "    policy_output(broken, action);"]
    else:
        compute = [
            "    int32_t output[POLICY_ACTION_SIZE];",
            f"    policy_network({window}, output);",
            "    policy_output(output, state->broken, action);",
        ]
        evaluate = [
            "    int32_t output[POLICY_ACTION_SIZE];",
            "    policy_network(stacked, output);",
            "    policy_output(output, broken, action);",
        ]
    return "\n".join(
        [
            "/* Pushes one base observation and computes the action (POLICY_ACTION_SIZE values, physical units). */",
            "static inline void policy_step(policy_state_t *state, const float base_observation[], float action[]) {",
            "    policy_observe(state, base_observation);",
            *compute,
            "}\n",
            "/* Computes the action for a stacked observation, oldest frame first; both in physical units. */",
            "static inline void policy_evaluate(const float observation[], float action[]) {",
            f"    {value} stacked[POLICY_HISTORY * {width}];",
            f"    {value} *frame = stacked;",
            "    uint32_t broken = 0u;",
            f"    for (uint_fast16_t i = 0; i < POLICY_HISTORY; ++i, frame += {width}) {{",
            "        broken |= policy_frame(&observation[i * POLICY_BASE_OBSERVATION_SIZE], frame, frame);",
            "    }",
            *evaluate,
            "}\n",
        ]
    )


def _fixed_interface(policy: SparsePolicy, dialect: Dialect) -> str:
    """The same without a float: readings in, integer actions out."""
    if policy.fixed is None:
        return ""
    fixed = policy.fixed
    inputs = ", ".join(str(int(value)) for value in fixed.input_exponent)
    actions = ", ".join(str(int(value)) for value in fixed.action_exponent)
    return "\n".join(
        [
            *_frame_function(
                policy,
                dialect,
                "policy_frame_fixed",
                "int32_t reading",
                [
                    "const uint32_t beyond = (uint32_t)(reading[i] ^ (reading[i] >> 31)) >> 30;",
                    "broken |= beyond;",
                    f"const int16_t value = {_limited(policy, dialect, '(reading[i] & ((int32_t)beyond - 1))')};",
                ],
            ),
            *_observe(policy, "policy_observe_fixed", "int32_t reading", "policy_frame_fixed"),
            "/* The same in integers only: reading[i] is observation i times 2 to the power of its fraction bits,",
            " * and output[i] is action i times 2 to the power of its own. Returns 0, or for how many steps more the",
            " * output is not to be used: a reading was 2^30 or more (INT32_MAX: it is missing) or below -2^30.",
            f" * Fraction bits of the readings: {inputs}; of the actions: {actions}. */",
            "static inline uint8_t policy_step_fixed("
            "policy_state_t *state, const int32_t reading[], int32_t output[]) {",
            "    policy_observe_fixed(state, reading);",
            f"    policy_network({_window(policy)}, output);",
            "    return state->broken;",
            "}\n",
        ]
    )
