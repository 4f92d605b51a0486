import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.safety.action_limits import ActionLimits


def test_without_slew_limit_only_the_range_counts():
    limits = ActionLimits(-20.0, 15.0, None, 0.02)
    assert [limits.limit(action) for action in (-20.0, 15.0, -21.0, 16.0, 3.0)] == [-20.0, 15.0, -20.0, 15.0, 3.0]
    assert (limits.clamped, limits.slewed) == (2, 0)


def test_slew_limit_is_per_second_and_starts_from_rest():
    limits = ActionLimits(-20.0, 20.0, 100.0, 0.02)  # 2 m/s^2 a period
    assert [limits.limit(action) for action in (20.0, 20.0, 5.0, -20.0, 4.0)] == pytest.approx(
        [2.0, 4.0, 5.0, 3.0, 4.0]
    )
    assert limits.slewed == 3


@given(st.lists(st.floats(-1e6, 1e6), max_size=50), st.floats(0.001, 1e5))
def test_what_is_sent_keeps_both_limits(actions, slew_limit):
    limits = ActionLimits(-20.0, 20.0, slew_limit, 0.001)
    last = 0.0
    for action in actions:
        sent = limits.limit(action)
        assert -20.0 <= sent <= 20.0
        assert abs(sent - last) <= slew_limit * 0.001 * (1 + 1e-9) + 1e-12
        last = sent
