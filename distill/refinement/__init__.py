"""From a student to a better one: driven by itself, corrected by any objective, pruned on, searched at the last."""
