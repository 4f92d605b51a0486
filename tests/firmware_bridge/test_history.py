import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge.loop.history import History
from firmware_bridge.loop.host_policy import CBackend, CsrBackend
from firmware_bridge.loop.policy_folder import open_policy_folder

FRAMES = 5


class Ring:
    """A backend whose action is the ring itself."""

    name = "ring"

    def __init__(self):
        self.frames = []

    def reset(self):
        self.frames = []

    def observe(self, frame):
        self.frames = ([*self.frames, frame] if self.frames else [frame] * FRAMES)[-FRAMES:]

    def step(self, frame):
        self.observe(frame)
        return tuple(self.frames)


def _frame(tick):
    return (float(tick),)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.booleans(), min_size=1, max_size=60))
def test_every_action_comes_from_the_true_last_frames(start, arrives):
    history = History(Ring(), FRAMES)
    history.restart()
    first, expected_since_gap, last = None, 0, None
    for offset, here in enumerate(arrives):
        if not here:
            continue
        tick = (start + offset) & 0xFFFFFFFF
        action = history.step(tick, _frame(offset), _frame(offset - 1))
        first = offset if first is None else first
        # Consecutive frames known up to now: an isolated loss is repaired, a longer one starts again with two.
        if last is None:
            expected_since_gap = FRAMES
        elif offset - last <= 2:
            expected_since_gap += offset - last
        else:
            expected_since_gap = 2
        last = offset
        if expected_since_gap >= FRAMES:
            assert action == tuple(_frame(max(first, offset - age)) for age in reversed(range(FRAMES)))
        else:
            assert action is None


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.lists(st.booleans(), min_size=1, max_size=40))
def test_every_action_of_a_run_comes_from_the_devices_ring(start, armed, arrives):
    # Offset 0 is seen and IDLE; the device is ARMED from offset `armed` on. Any later one may be lost.
    history, idle, actions, seen = History(Ring(), FRAMES), 0, {}, []
    for offset, here in enumerate(arrives, start=1):
        if here and offset < armed:
            idle = offset
        elif here:
            if not seen:
                history.restart((start + idle) & 0xFFFFFFFF)
            actions[offset] = history.step((start + offset) & 0xFFFFFFFF, _frame(offset), _frame(offset - 1))
            seen.append(offset)
    for offset, action in actions.items():
        assert action in (None, tuple(_frame(max(armed, offset - age)) for age in reversed(range(FRAMES))))
        recent = range(max(seen[0], offset - FRAMES), offset + 1)
        if set(recent) <= set(seen) and (idle + 1 == armed == seen[0] or len(recent) > FRAMES):
            assert action is not None  # it does not withhold what it knows


def test_losses_are_counted_by_kind():
    history = History(Ring(), FRAMES)
    for tick in (1, 2, 4, 5, 5, 9, 10, 11, 12):
        history.step(tick, _frame(tick), _frame(tick - 1))
    assert (history.repaired, history.gaps, history.withheld) == (1, 1, 3)


def test_c_kernel_and_csr_agree_and_both_match_the_stacked_reference(policy_folder):
    folder = open_policy_folder(policy_folder)
    rng = np.random.default_rng(3)
    frames = rng.normal(0, 1, (40, 5)).astype(np.float32)
    backends = [CBackend(folder), CsrBackend(folder)]
    for backend in backends:
        backend.reset()
    for index in range(len(frames)):
        stacked = np.concatenate([frames[max(0, index - age)] for age in reversed(range(FRAMES))])
        reference = folder.policy.evaluate(stacked[None])[0, 0]
        for backend in backends:
            if index == 17:
                backend.observe(tuple(frames[index].tolist()))
            else:
                assert abs(backend.step(tuple(frames[index].tolist())) - reference) < 1e-6 * 40
