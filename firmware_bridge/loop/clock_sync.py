"""Device time as host time, with an uncertainty that holds.

An answered observation gives four stamps: sampled on the device, read here, about to be written here, accepted on the
device. What is read was sampled before, and what is accepted was sent before: each such sample encloses the offset
(host minus device) between two bounds, half a round trip to either side of its middle.

* The bounds of all samples are intersected. Between samples they open by `drift_limit_ppm`: how far two clocks may
  part. While both clocks keep to that limit the true offset lies between them, whatever the link does.
* The estimate is Klipper's: a linear regression, decayed over `DECAY_S`, over those samples whose round trip was near
  the smallest; then it is limited to the bounds. The uncertainty is its distance to the farther one.
* A sample that contradicts the bounds means that the device started again, or that its clock drifts faster than the
  limit (an RC oscillator): the estimate starts anew, and in the second case the limit is doubled.

The device's stamps are 32 bits of microseconds; a wrap is told from a restart by what the estimate expects.
"""

import dataclasses
import math

DRIFT_LIMIT_PPM = 300.0
"""Crystals keep within 100 ppm each; beyond `LARGEST_DRIFT_PPM` nothing is called a clock."""
LARGEST_DRIFT_PPM = 50_000.0
DECAY_S = 30.0
_NEAR = 1.5  # of the smallest round trip: samples that enter the regression
_RESOLUTION_NS = 2_000  # two stamps in whole microseconds, both rounded down
_AGEING = 20e-6  # by which the smallest round trip grows: 20 us a second
_DRIFT_AFTER_NS = 1e9  # spread of the samples from which on a slope is believed
_WRAP_NS = 2**32 * 1000


@dataclasses.dataclass(frozen=True)
class ClockEstimate:
    """At one moment: host time is device time plus `offset_ns`, give or take `uncertainty_ns`.

    Device time counts on where its 32 bits wrap. `drift_ppm`: by which the device's clock is slow. `samples`: since the
    last start of the estimate; `restarts`: starts behind the first; `rejected`: samples that no clock could give.
    """

    offset_ns: int
    drift_ppm: float
    uncertainty_ns: int
    round_trip_ns: int
    samples: int
    restarts: int
    rejected: int


class ClockSync:
    """Feed it with `add`; it allocates nothing that stays and takes a few microseconds a sample."""

    def __init__(self, drift_limit_ppm: float = DRIFT_LIMIT_PPM) -> None:
        self.drift_limit_ppm = drift_limit_ppm
        self.samples = 0
        self.restarts = 0
        self.rejected = 0
        self._device_ns = 0  # of the newest sample, unwrapped
        self._at_ns = 0  # host time of the bounds
        self._low_ns = self._high_ns = 0.0
        self._round_trip_ns = math.inf
        self._begin_ns = self._begin_offset_ns = 0  # the regression's origin
        self._newest_ns = 0.0  # of the regression's samples, like `_mean_t` since its origin
        self._weight = self._mean_t = self._mean_o = self._variance = self._covariance = 0.0

    def add(self, sampled_us: int, received_ns: int, sent_ns: int, accepted_us: int) -> None:
        """One answered observation: device stamps modulo 2^32, host stamps of CLOCK_MONOTONIC.

        `received_ns` is taken when the observation has been read, `sent_ns` before its answer is written: the order is
        what the bounds rest on. Samples come in order.
        """
        turn_ns = ((accepted_us - sampled_us) & 0xFFFF_FFFF) * 1000  # sampled to accepted
        round_trip_ns = turn_ns - (sent_ns - received_ns) + _RESOLUTION_NS
        parting_ns = self.drift_limit_ppm * 1.1e-6 * turn_ns  # of the clocks within the turn, at most
        if round_trip_ns < -parting_ns:
            self.rejected += 1
            return
        elapsed_ns = max(0, sent_ns - self._at_ns) if self.samples else 0
        self._open(elapsed_ns)
        half_ns = round_trip_ns / 2 + parting_ns  # both bounds of the sample hold at `sent_ns`
        middle_host_ns = (received_ns + sent_ns - turn_ns - _RESOLUTION_NS) / 2
        device_ns = self._unwrap(sampled_us, received_ns)
        apart_ns = abs(middle_host_ns - device_ns - (self._low_ns + self._high_ns) / 2) - half_ns
        if self.samples and apart_ns > (self._high_ns - self._low_ns) / 2:
            self._start_anew(apart_ns, elapsed_ns)
            device_ns = sampled_us * 1000
        offset_ns = middle_host_ns - device_ns
        if self.samples:
            self._low_ns = max(self._low_ns, offset_ns - half_ns)
            self._high_ns = min(self._high_ns, offset_ns + half_ns)
        else:
            self._low_ns, self._high_ns = offset_ns - half_ns, offset_ns + half_ns
            self._begin_ns, self._begin_offset_ns = sent_ns, round(offset_ns)
        self.samples += 1
        self._device_ns, self._at_ns = device_ns, max(sent_ns, self._at_ns)
        self._round_trip_ns = min(max(0, round_trip_ns), self._round_trip_ns + _AGEING * elapsed_ns)
        if round_trip_ns <= _NEAR * self._round_trip_ns:
            self._regress(sent_ns - self._begin_ns, offset_ns - self._begin_offset_ns)

    @property
    def round_trip_ns(self) -> int:
        """The smallest round trip without the time between receiving and sending [ns], slowly ageing; 0 before any."""
        return round(self._round_trip_ns) if self.samples else 0

    def estimate(self, now_ns: int) -> ClockEstimate | None:
        """What is known at host time `now_ns`; None before the first sample."""
        if not self.samples:
            return None
        offset_ns, uncertainty_ns = self._offset(now_ns)
        return ClockEstimate(
            offset_ns=round(offset_ns),
            drift_ppm=self._slope() * 1e6,
            uncertainty_ns=math.ceil(uncertainty_ns),
            round_trip_ns=self.round_trip_ns,
            samples=self.samples,
            restarts=self.restarts,
            rejected=self.rejected,
        )

    def host_ns(self, device_us: int) -> tuple[int, int] | None:
        """(host time, uncertainty) [ns] of a device stamp within 35 minutes of the newest sample; None without one."""
        if not self.samples:
            return None
        device_ns = _nearest(device_us, self._device_ns)
        offset_ns, uncertainty_ns = self._offset(device_ns + (self._low_ns + self._high_ns) / 2)
        return round(device_ns + offset_ns), math.ceil(uncertainty_ns) + 1_000  # the stamp was rounded down

    def _offset(self, at_ns: float) -> tuple[float, float]:
        opened_ns = self.drift_limit_ppm * 1e-6 * abs(at_ns - self._at_ns)
        low_ns, high_ns = self._low_ns - opened_ns, self._high_ns + opened_ns
        since_ns = at_ns - self._begin_ns - self._mean_t
        fitted_ns = self._begin_offset_ns + self._mean_o + self._slope() * since_ns
        offset_ns = min(max(fitted_ns, low_ns), high_ns)
        return offset_ns, max(offset_ns - low_ns, high_ns - offset_ns)

    def _slope(self) -> float:
        if self._variance < self._weight * _DRIFT_AFTER_NS**2:
            return 0.0
        limit = self.drift_limit_ppm * 1e-6
        return min(max(self._covariance / self._variance, -limit), limit)

    def _regress(self, time_ns: float, offset_ns: float) -> None:
        """Weighted means, variance and covariance in one pass; what is `DECAY_S` old counts 1/e."""
        faded = math.exp(min(0.0, self._newest_ns - time_ns) / (DECAY_S * 1e9))
        self._newest_ns = time_ns
        self._weight = self._weight * faded + 1.0
        time_off, offset_off = time_ns - self._mean_t, offset_ns - self._mean_o
        self._mean_t += time_off / self._weight
        self._mean_o += offset_off / self._weight
        self._variance = self._variance * faded + time_off * (time_ns - self._mean_t)
        self._covariance = self._covariance * faded + time_off * (offset_ns - self._mean_o)

    def _unwrap(self, device_us: int, host_ns: int) -> int:
        if not self.samples:
            return device_us * 1000
        return _nearest(device_us, host_ns - (self._low_ns + self._high_ns) / 2)

    def _open(self, elapsed_ns: int) -> None:
        opened_ns = self.drift_limit_ppm * 1e-6 * elapsed_ns
        self._low_ns -= opened_ns
        self._high_ns += opened_ns

    def _start_anew(self, apart_ns: float, elapsed_ns: int) -> None:
        if apart_ns < LARGEST_DRIFT_PPM * 1e-6 * elapsed_ns:
            self.drift_limit_ppm = min(2 * self.drift_limit_ppm, LARGEST_DRIFT_PPM)
        self.restarts += 1
        self.samples = 0
        self._round_trip_ns = math.inf
        self._newest_ns = self._weight = self._mean_t = self._mean_o = self._variance = self._covariance = 0.0


def _nearest(device_us: int, expected_ns: float) -> int:
    """The unwrapped time [ns] that a 32-bit stamp [us] stands for, nearest to the expected one."""
    device_ns = device_us * 1000
    return device_ns + round((expected_ns - device_ns) / _WRAP_NS) * _WRAP_NS
