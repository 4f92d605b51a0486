"""What a COMMAND may ask for, whatever the policy says: its own range, and if wanted a slew limit."""


class ActionLimits:
    """Clamps to `low` .. `high` [m/s^2] and lets the action change by at most `slew_limit` [m/s^3] times the period.

    The slew limit starts from `initial` and is off when None. Counts: `clamped`, `slewed` actions.
    """

    def __init__(
        self, low: float, high: float, slew_limit: float | None, period_s: float, initial: float = 0.0
    ) -> None:
        self.clamped = 0
        self.slewed = 0
        self._low, self._high = low, high
        self._step = None if slew_limit is None else slew_limit * period_s
        self._last = initial

    def limit(self, action: float) -> float:
        """The action that may be sent; `action` must be finite."""
        if not self._low <= action <= self._high:
            self.clamped += 1
            action = min(max(action, self._low), self._high)
        if self._step is not None:
            change = action - self._last
            if abs(change) > self._step:
                self.slewed += 1
                action = self._last + (self._step if change > 0 else -self._step)
            self._last = action
        return action
