"""What distill raises: one line that says what, got, expected and the next step."""


class DistillError(Exception):
    """Bad input or an impossible request; the message is one line for a person."""
