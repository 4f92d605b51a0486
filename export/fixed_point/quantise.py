"""From a float policy to integers: scales from bounds, weights rounded row by row against calibration observations.

Scales cost nothing where a hidden layer is relu: a unit may be multiplied by any positive number if what it feeds is
divided by it (Nagel et al. 2019). So every row gets the scale at which its own integers fit best, and only tanh layers
and the last one need a multiplier in the code.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from export.errors import ExportError
from export.fixed_point.balance import Balance
from export.fixed_point.bounds import SUM_LIMIT, Interval, bounds, hidden_interval, input_interval
from export.fixed_point.ends import action_scales, input_scales
from export.fixed_point.network import ACTIVATION_LIMIT, FixedLayer, FixedNetwork, argument_bits
from export.fixed_point.rounding import Spread, rounded_rows
from export.fixed_point.tanh import RESULT_BITS, SEGMENTS, Integers
from export.squash import Float64, activate

_SCALES = 24  # tried for every row, twice; fewer where rows are longer than _SHORT_ROW
_SHORT_ROW, _FEWEST = 16, 3
_WHOLE_LIMIT = 1000  # of an int16 weight every scale is as good as a whole one
_NARROWEST, _WIDEST = 0.7, 1.3  # around the balanced scale
_LARGEST_BIAS_SHIFT = 20
_BIAS_ROOM = 0.8  # of its integers for the bias itself, the rest for what rounding adds
_SUM_ROOM = SUM_LIMIT / 2.1  # what sums may reach before rounding and before the last clamp
_ACTIVATION_ROOM = ACTIVATION_LIMIT - 256
_SCALE_RANGE = 64  # between the rows of one scaled layer


@dataclass(frozen=True)
class FloatLayer:
    """weight (out, in), bias (out,), activation; float64."""

    weight: Float64
    bias: Float64
    activation: str


@dataclass(frozen=True)
class _Fit:
    """What a layer is fitted with.

    layer: its weights taken on integer inputs; sums (n, out): what they should be, real; reached (n, in): its inputs as
    the integers before it leave them; interval: what those can be; bits: of its weights and biases.
    """

    layer: FloatLayer
    sums: Float64
    reached: Integers
    interval: Interval
    bits: int

    @property
    def limit(self) -> int:
        """Largest weight and bias."""
        return int(2 ** (self.bits - 1) - 1)

    @property
    def reach(self) -> Float64:
        """(out,): the largest magnitude of a row's sum, real."""
        size = np.maximum(np.abs(self.interval.low), np.abs(self.interval.high)).astype(np.float64)
        result: Float64 = np.abs(self.layer.weight) @ size + np.abs(self.layer.bias)
        return result


@dataclass(frozen=True)
class _Following:
    """The next layer: weight (next, out), real; gain (next,): what a squared error there does; limit: its integers'."""

    weight: Float64
    gain: Float64
    limit: int


def quantise(
    layers: tuple[FloatLayer, ...],
    observations: Float64,
    *,
    centre: Float64,
    reach: Float64,
    low: Float64,
    high: Float64,
    bits: tuple[int, ...],
) -> FixedNetwork:
    """Return integers for `layers`, which take stacked observations (n, in) minus `centre` (base,).

    reach (base,): the largest |observation - centre| to represent, beyond it inputs saturate; low, high (action,):
    action limits; bits: 8 or 16 for the weights and biases of every layer.

    Raises:
        ExportError: an input or an action cannot be represented.
    """
    exponent, offset, limit = input_scales(centre, reach)
    network = FixedNetwork(exponent, offset, limit, (), *action_scales(low, high))
    history = layers[0].weight.shape[1] // len(centre)
    unit = np.ldexp(1.0, -np.tile(exponent, history))
    true = (observations - np.tile(centre, history)) / unit
    reached = network.read(observations)
    interval = input_interval(network, history)
    gains = _gains(layers, observations - np.tile(centre, history))
    chosen: list[FixedLayer] = []
    for index, layer in enumerate(layers):
        scaled = replace(layer, weight=layer.weight * unit)
        sums = true @ scaled.weight.T + layer.bias
        fit = _Fit(scaled, sums, reached, interval, bits[index])
        last = index + 1 == len(layers)
        if last or layer.activation == "tanh":
            fixed = _scaled_layer(fit)
            unit = np.full(len(layer.bias), 2.0**-RESULT_BITS)
        else:
            after = _Following(layers[index + 1].weight, gains[index + 1], 2 ** (bits[index + 1] - 1) - 1)
            fixed, unit = _free_layer(fit, after)
        chosen.append(fixed)
        if not last:
            true = activate(layer.activation, sums) / unit
            reached = fixed.hidden(fixed.sums(reached))
            interval = hidden_interval(fixed, interval)
    network = replace(network, layers=tuple(chosen))
    bounds(network)
    return network


def _gains(layers: tuple[FloatLayer, ...], inputs: Float64) -> list[Float64]:
    """Return for every layer (out,): how much a squared error of its sums becomes at the output, on average."""
    slopes = []
    for layer in layers:
        sums = inputs @ layer.weight.T + layer.bias
        inputs = activate(layer.activation, sums)
        if layer.activation == "relu":
            slopes.append((sums > 0).mean(axis=0))
        elif layer.activation == "tanh":
            slopes.append(((1 - inputs**2) ** 2).mean(axis=0))
        else:
            slopes.append(np.ones(sums.shape[1]))
    gains = [slopes[-1]]
    for layer, slope in zip(layers[:0:-1], slopes[-2::-1], strict=True):
        gains.insert(0, slope * ((layer.weight**2).T @ gains[0]))
    return gains


def _free_layer(fit: _Fit, after: _Following) -> tuple[FixedLayer, Float64]:
    """Return a hidden relu or identity layer, and (out,) what one unit of its activations stands for."""
    layer = fit.layer
    relu = layer.activation == "relu"
    power = (activate(layer.activation, fit.sums) ** 2).mean(axis=0)
    share = (fit.sums > 0).mean(axis=0) if relu else np.ones(len(layer.bias))
    balance, bias_shift = _balance(fit, after, share, power)
    top, scales = balance.top, balance.best()
    shift = max(0, int(np.ceil(np.log2((scales * fit.reach).max() / _ACTIVATION_ROOM))))
    # The integers of the following layer are its weights / scale * steps.
    heaviest = (np.abs(after.weight) / scales).max(axis=1)
    # A row of the following layer may have no weights: a constant action.
    steps = after.limit / np.where(heaviest > 0, heaviest, 1.0)
    importance = (after.weight**2).T @ after.gain
    spread = Spread(fit.reached)
    rows: list[Integers] = []
    for row, weights in enumerate(layer.weight):
        used = np.flatnonzero(weights)
        covariance = spread.of(used)
        fed = np.flatnonzero(after.weight[:, row])
        heights = after.weight[fed, row] * steps[fed]
        tried = _candidates(scales[row], top[row], np.abs(heights), after.limit, len(used))
        integers, errors = rounded_rows(weights[used] * tried[:, None], covariance, fit.limit)
        wanted = heights / tried[:, None]
        fed_errors = ((np.rint(wanted) - wanted) / steps[fed]) ** 2 @ after.gain[fed]
        # Shifting rounds the activation to whole units.
        own = share[row] * (errors + 4.0**bias_shift / 12) + 4.0**shift / 12
        best = int(np.argmin(importance[row] * own / tried**2 + fed_errors * power[row] * tried**2))
        rows.append(integers[best])
        scales[row] = tried[best]
    matrix = _matrix(layer.weight, rows)
    fixed = _with_bias(fit, matrix, scales, 2.0**shift / 2 if shift else 0.0, shift_after=shift)
    while np.abs(_ends(hidden_interval(fixed, fit.interval))).max(initial=0) > ACTIVATION_LIMIT:
        shift += 1
        fixed = _with_bias(fit, matrix, scales, 2.0**shift / 2, shift_after=shift)
    return fixed, 2.0**fixed.shift / scales


def _balance(fit: _Fit, after: _Following, share: Float64, power: Float64) -> tuple[Balance, int]:
    """Return what the scales are balanced by, and the shift of the biases.

    Biases share one unit, 2**shift: a coarse one rounds them all, a fine one keeps scales small where a bias is large.
    """
    layer = fit.layer
    # Partial sums stay in int32 with one bit to spare, which rounding needs.
    top = np.minimum(fit.limit / np.abs(layer.weight).max(axis=1), _SUM_ROOM / fit.reach)
    made = (layer.weight != 0) @ (fit.reached.astype(np.float64) ** 2).mean(axis=0)
    largest = np.maximum(np.abs(layer.bias), np.finfo(np.float64).tiny)
    trials = []
    for shift in range(_LARGEST_BIAS_SHIFT):
        allowed = np.minimum(top, _BIAS_ROOM * fit.limit * 2.0**shift / largest)
        balance = Balance(share * (made + 4.0**shift), power, after.weight, after.gain, allowed, after.limit)
        trials.append((balance.cost(allowed), shift, balance))
    _, shift, balance = min(trials, key=lambda trial: trial[:2])
    return balance, shift


def _candidates(scale: float, top: float, heights: Float64, limit: int, weights: int) -> Float64:
    """Return scales around `scale`, up to `top`: evenly spread, and where the heaviest following weight becomes whole.

    heights / scale: the integers that the following weights would be. None is so small that one would outgrow `limit`:
    that would cost its whole row.
    """
    count = max(_FEWEST, _SCALES * _SHORT_ROW // max(weights, _SHORT_ROW))
    height = float(heights.max(initial=0.0))
    low, high = max(_NARROWEST * scale, height / limit), min(_WIDEST * scale, top)
    low = min(low, high)
    ends = max(1.0, np.floor(height / high)), np.ceil(height / low) + 1
    whole = np.arange(*ends) if ends[1] - ends[0] < _WHOLE_LIMIT else np.zeros(0)
    exact = height / whole
    exact = exact[(exact >= low) & (exact <= high)]
    if len(exact) > count:
        exact = exact[:: -(-len(exact) // count)]
    result: Float64 = np.concatenate([exact, np.linspace(low, high, count - 1), [scale]])
    return result


def _scaled_layer(fit: _Fit) -> FixedLayer:
    """Return a tanh layer or the last one: a multiplier for every row brings the sums to one unit."""
    layer = fit.layer
    bits = argument_bits(layer.activation)
    largest = np.abs(layer.weight).max(axis=1, initial=0)
    with np.errstate(divide="ignore"):
        # A row without weights is limited by its bias alone, one without either by nothing.
        scales = np.minimum(fit.limit / largest, _SUM_ROOM / fit.reach)
    # Rows share one shift, so their multipliers have to tell their scales apart.
    smallest = scales.min() if np.isfinite(scales.min()) else 2.0**bits
    scales = np.minimum(scales, _SCALE_RANGE * smallest)
    spread = Spread(fit.reached)
    rows = []
    for weights, scale in zip(layer.weight, scales, strict=True):
        used = np.flatnonzero(weights)
        rows.append(
            rounded_rows(weights[None, used] * scale, spread.of(used), fit.limit)[0][0]
            if len(used)
            else np.zeros(0, np.int64)
        )
    matrix = _matrix(layer.weight, rows)
    # Where tanh and the clip are flat, and no further: the bits are needed below.
    flat = SEGMENTS / 2 if layer.activation == "tanh" else 1.0
    shift = max(0, int(np.ceil(np.log2((flat + 0.1) * scales.max() / ACTIVATION_LIMIT))))
    # argument = sum / scale * 2**bits = ((sum >> shift) * multiplier) >> multiplier_shift
    factor = np.ldexp(1.0 / scales, bits + shift)
    multiplier_shift = int(np.clip(np.floor(np.log2(ACTIVATION_LIMIT / factor.max())), 0, 30))
    multiplier = np.rint(np.ldexp(factor, multiplier_shift))
    if not (multiplier <= ACTIVATION_LIMIT).all():
        raise ExportError(
            f"weights of a {layer.activation} layer are so large ({largest.max():.2g} for one step of an input) that "
            "integers could only tell its ends apart; export this policy with --weights float32"
        )
    fixed = _with_bias(fit, matrix, scales, 0.0, shift_after=shift)
    return replace(fixed, multiplier=multiplier.astype(np.int64), multiplier_shift=multiplier_shift)


def _with_bias(
    fit: _Fit, matrix: sparse.csr_array, scales: Float64, rounding: float, *, shift_after: int
) -> FixedLayer:
    """Return the layer with biases that make its mean sums right, `rounding` added, in the finest unit that fits."""
    offsets = (fit.sums * scales - fit.reached @ matrix.astype(np.float64).T).mean(axis=0) + rounding
    size = float(np.abs(offsets).max(initial=0.0))
    shift = max(0, int(np.ceil(np.log2(size / fit.limit)))) if size > 0 else 0
    if np.abs(np.rint(offsets / 2.0**shift)).max(initial=0) > fit.limit:
        shift += 1
    bias = np.rint(offsets / 2.0**shift).astype(np.int64)
    return FixedLayer(matrix, fit.bits, bias, fit.bits, shift, shift_after, fit.layer.activation)


def _matrix(weight: Float64, rows: list[Integers]) -> sparse.csr_array:
    """Return the integers of all rows at the places where `weight` is not 0."""
    where, columns = np.nonzero(weight)
    counts = np.bincount(where, minlength=len(weight))
    pointers = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    values = np.concatenate(rows).astype(np.int64)
    return sparse.csr_array((values, columns.astype(np.int32), pointers), shape=weight.shape)


def _ends(interval: Interval) -> Integers:
    return np.concatenate([interval.low, interval.high])
