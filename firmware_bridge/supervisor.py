"""One run's state, requests and witnesses together: what happens is logged, shown to systemd, and asked about."""

import time

from firmware_bridge import notices
from firmware_bridge.errors import StopRequested
from firmware_bridge.live.page import LivePage
from firmware_bridge.logs import topics as log_topics
from firmware_bridge.logs.recorder import Recorder
from firmware_bridge.safety.controls import Controls
from firmware_bridge.safety.host_state import HostState, HostStateMachine
from firmware_bridge.systemd.service_manager import ServiceManager

_SLICE_S = 1.0  # of a longer pause: the watchdog is fed in between


class Supervisor:
    """`controls` takes requests, `states` says where the run stands; events go to the recorder of `record_to`."""

    def __init__(self, controls: Controls, service: ServiceManager) -> None:
        self.controls = controls
        self.service = service
        self.states = HostStateMachine(self._changed)
        self.page: LivePage | None = None
        self._recorder: Recorder | None = None

    def record_to(self, recorder: Recorder) -> None:
        """Log events there from now on."""
        self._recorder = recorder

    def poll(self) -> None:
        """Feed the watchdog; raise StopRequested when somebody asked for a stop. Called once a control period."""
        self.service.feed()
        self.controls.poll()

    def pause(self, seconds: float) -> None:
        """Do nothing for so long. Raises StopRequested as soon as somebody asks."""
        deadline = time.monotonic() + seconds
        self.poll()
        while (left := deadline - time.monotonic()) > 0:
            self.controls.wait(min(left, _SLICE_S))
            self.poll()

    def event(self, kind: str, text: str) -> None:
        """Log one event."""
        if self._recorder is not None:
            self._recorder.put(log_topics.EVENT, time.monotonic_ns(), (kind, text))

    def enter(self, state: HostState, why: str) -> None:
        """Change the state, as `HostStateMachine.enter`."""
        self.states.enter(state, why)

    def ended(self, error: BaseException | None) -> None:
        """A connection is over: IDLE when it was meant to be, else FAULT. FAULT stays."""
        if self.states.state == HostState.FAULT:
            return
        if error is None or isinstance(error, StopRequested):
            self.enter(HostState.IDLE, "stopped" if error is None else f"stopped by {error}")
        else:
            self.enter(HostState.FAULT, str(error))

    def _changed(self, state: HostState, why: str) -> None:
        text = f"{state.name}: {why}"
        self.event("state", text)
        self.service.status(text)
        if notices.is_journal():
            notices.say(text, notices.ERROR if state == HostState.FAULT else notices.INFORMATION)
