"""Where the bytes of a linked policy go, told by the names of its symbols."""

from collections.abc import Sequence

_PARTS = {
    "policy_values_": "values",
    "policy_columns_": "indices",
    "policy_runs_": "row_pointers",
    "policy_multipliers_": "tables",
    "policy_input_": "normaliser",
    "policy_live_inputs": "normaliser",
    "policy_biases_": "biases",
    "policy_centre": "normaliser",
    "policy_layer_": "code",
    "policy_action_": "tables",
    "policy_digest": "tables",
    "policy_known_": "tables",
    "policy_self_": "tables",
    "policy_tanh_cubics": "tables",
    "policy_tanh": "tanh",
    "policy_": "code",
    "reset_handler": "code",
    **dict.fromkeys(("__ieee754_", "__math_", "exp", "log", "pow", "sqrt", "tanh", "sin", "cos", "tan"), "libm"),
}


def flash_parts(symbols: Sequence[tuple[str, int]], without: Sequence[tuple[str, int]], flash: int) -> dict[str, int]:
    """Return the bytes of each part by the symbols' names; what no name explains of `flash` comes last.

    symbols, without: (name, bytes) of the image and of the same one without a policy.
    """
    parts = dict.fromkeys((*_PARTS.values(), "library_and_alignment"), 0)
    for name, size in (*symbols, *((name, -size) for name, size in without)):
        part = next((part for prefix, part in _PARTS.items() if name.startswith(prefix)), None)
        if part is not None:
            parts[part] += size
    parts["library_and_alignment"] = flash - sum(parts.values())
    return parts
