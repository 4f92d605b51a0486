"""One tick of the control loop, with everything around it played."""

from types import SimpleNamespace

from firmware_bridge.device.stopped_device import stopped_error
from firmware_bridge.errors import DeviceFaultError
from firmware_bridge.loop.control_loop import LoopSettings, _Loop
from firmware_bridge.loop.tally import Tally
from firmware_bridge.safety.action_limits import ActionLimits
from hardware.protocol import Fault, Mode, Observation, State, Timing

FRAME = (0.0, 0.0, 0.0, -1.0, 0.0)


def _observation(tick, state):
    return Observation(tick, tick * 20_000, FRAME, FRAME, 0.0, state, Fault.NONE, 0)


def test_sensors_are_judged_while_the_drive_follows_the_policy_and_not_while_it_brakes():
    """What an axis does that brakes is no evidence against its encoder: the fault that it brakes for is the error."""
    checked = []
    conversation = SimpleNamespace(last_ns=1, recorder=SimpleNamespace(put=lambda *_: None, processor_ns=lambda: 0))
    settings = LoopSettings(Mode.HOST, 10, 1.0, ActionLimits(-1.0, 1.0, None, 0.02))
    watch = SimpleNamespace(check=lambda observation: checked.append(observation.tick))
    loop = _Loop(conversation, settings, None, Tally(20_000), watch)
    loop.pass_over([_observation(7, State.ARMED), _observation(8, State.BRAKING)])
    assert checked == [7]
    assert loop.tally.unanswered == 1


def test_ticks_of_an_armed_device_do_not_jump():
    conversation = SimpleNamespace(reply=None)
    assert stopped_error(conversation, _observation(100, State.ARMED), 1) is None
    assert stopped_error(conversation, _observation(3, State.ARMED), 2**32 - 5) is None
    error = stopped_error(conversation, _observation(1_000_000, State.ARMED), 30)
    assert isinstance(error, DeviceFaultError)
    assert "jumped from 30 to 1000000" in str(error)


def test_a_stall_at_the_end_of_a_run_counts_no_observation_behind_that_end():
    """Ten periods from just before the device's counter starts at 0 again."""
    conversation = SimpleNamespace(last_ns=1, recorder=SimpleNamespace(put=lambda *_: None, processor_ns=lambda: 0))
    settings = LoopSettings(Mode.HOST, 10, 1.0, ActionLimits(-1.0, 1.0, None, 0.02))
    loop = _Loop(conversation, settings, None, Tally(20_000), SimpleNamespace(check=lambda _: None))
    loop.first_tick = 2**32 - 3
    loop.pass_over([_observation((2**32 - 3 + since) % 2**32, State.ARMED) for since in range(2, 15)])
    assert (loop.tally.unanswered, loop.tally.steps) == (8, 8)


def test_device_times_are_counted_while_the_tick_counter_starts_again():
    tally = Tally(20_000)
    for tick in (2**32 - 2, 2**32 - 1, 0, 1):
        tally.observe(_observation(tick, State.ARMED), 1)
        tally.device_timing(Timing(tick, 20_000, 300, 0), Mode.HOST)
    assert tally.device_times.percentiles(1.0)["action_age"].n == 3  # that of the first is about the period before it
