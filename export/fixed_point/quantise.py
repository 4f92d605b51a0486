"""From a float policy to integers: scales from bounds, weights rounded row by row against calibration observations.

Scales cost nothing where a hidden layer is relu: a unit may be multiplied by any positive number if what it feeds is
divided by it (Nagel et al. 2019). So every row gets the scale at which its own integers fit best, and only tanh layers
and the last one need a multiplier in the code.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from export.errors import ExportError
from export.fixed_point.balance import Balance
from export.fixed_point.bounds import SUM_LIMIT, Interval, bounds, row_interval
from export.fixed_point.network import (
    ACTIVATION_LIMIT,
    CLIP_BITS,
    READING_LIMIT,
    FixedLayer,
    FixedNetwork,
)
from export.fixed_point.rounding import rounded_row
from export.fixed_point.tanh import ARGUMENT_BITS, RESULT_BITS, SEGMENTS, Integers
from export.squash import Float64, activate

_SCALES = 24  # tried for every row, twice
_NARROWEST, _WIDEST = 0.7, 1.3  # around the balanced scale
_LARGEST_BIAS_SHIFT = 20
_BIAS_ROOM = 0.8  # of its integers for the bias itself, the rest for what rounding adds
_EXPONENT_LIMIT = 100


@dataclass(frozen=True)
class FloatLayer:
    """weight (out, in), bias (out,), activation; float64."""

    weight: Float64
    bias: Float64
    activation: str


def quantise(
    layers: tuple[FloatLayer, ...],
    centre: Float64,
    low: Float64,
    high: Float64,
    reach: Float64,
    observations: Float64,
    value_bits: tuple[int, ...],
    bias_bits: tuple[int, ...],
) -> FixedNetwork:
    """Return integers for `layers`, which take stacked observations minus `centre` (base,).

    low, high (action,): action limits; reach (base,): the largest |observation - centre| to represent, beyond it inputs
    saturate; observations (n, in): calibration, physical units; value_bits, bias_bits: 8 or 16 for every layer.

    Raises:
        ExportError: an input or an action cannot be represented.
    """
    exponent, offset, limit = _inputs(centre, reach)
    middle, half, action_exponent = _action_scales(low, high)
    history = layers[0].weight.shape[1] // len(centre)
    # What the first layer sees, in the integers' unit.
    weights = [layer.weight for layer in layers]
    weights[0] = weights[0] * np.ldexp(1.0, -np.tile(exponent, history))
    chosen: list[FixedLayer] = []
    true = observations - np.tile(centre, history)
    true = true * np.ldexp(1.0, np.tile(exponent, history))
    seen = np.trunc(np.ldexp(observations, np.tile(exponent, history))) - np.tile(offset, history)
    reached = np.clip(seen, -np.tile(limit, history), np.tile(limit, history)).astype(np.int64)
    interval = Interval(-np.tile(limit, history), np.tile(limit, history))
    gains = _gains(layers, observations - np.tile(centre, history))
    for index, layer in enumerate(layers):
        weight = weights[index]
        sums = true @ weight.T + layer.bias
        following = weights[index + 1] if index + 1 < len(layers) else None
        if following is None or layer.activation == "tanh":
            bits = ARGUMENT_BITS if layer.activation == "tanh" else CLIP_BITS
            fixed = _scaled_layer(layer, weight, sums, reached, interval, value_bits[index], bias_bits[index], bits)
            unit = np.full(weight.shape[0], 2.0**-RESULT_BITS)
        else:
            fixed, unit = _free_layer(
                layer,
                weight,
                following,
                sums,
                reached,
                interval,
                value_bits[index],
                bias_bits[index],
                value_bits[index + 1],
                gains[index + 1],
            )
        chosen.append(fixed)
        if following is not None:
            weights[index + 1] = following * unit
            true = activate(layer.activation, sums) / unit
            reached = fixed.hidden(fixed.sums(reached))
            interval = _after(fixed, interval)
    network = FixedNetwork(exponent, offset, limit, tuple(chosen), middle, half, action_exponent)
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


def _inputs(centre: Float64, reach: Float64) -> tuple[Integers, Integers, Integers]:
    """Return (exponent, offset, limit) of every base input, as fine as int16 allows."""
    if not (np.isfinite(reach).all() and (reach > 0).all()):
        raise ExportError(
            f"observation range reaches {reach.min()} to {reach.max()} around the centre, expected finite numbers above "
            "0; give --dataset or --observation-range"
        )
    exponent = np.floor(np.log2(ACTIVATION_LIMIT / reach)).astype(np.int64)
    # The offset too has to fit, with room for the reading around it.
    exponent = np.minimum(exponent, np.floor(np.log2(READING_LIMIT / 4 / np.maximum(np.abs(centre), reach))).astype(np.int64))
    if (np.abs(exponent) > _EXPONENT_LIMIT).any():
        raise ExportError(
            f"observation range of 2**{-int(exponent.min())} units, expected 2**-{_EXPONENT_LIMIT} to 2**{_EXPONENT_LIMIT}; "
            "give --observation-range"
        )
    offset = np.rint(np.ldexp(centre, exponent)).astype(np.int64)
    limit = np.minimum(ACTIVATION_LIMIT, np.ceil(np.ldexp(reach, exponent))).astype(np.int64)
    return exponent, offset, np.maximum(limit, 1)


def _action_scales(low: Float64, high: Float64) -> tuple[Integers, Integers, Integers]:
    """Return (middle, half, exponent): (middle +- half * 2**RESULT_BITS) 2**-exponent fills [low, high], never leaves it."""
    middle, half = (low + high) / 2, (high - low) / 2
    largest = np.maximum(np.abs(low), np.abs(high))
    exponent = np.floor(np.log2(2.0**30 / largest)).astype(np.int64)
    whole = np.floor(np.ldexp(half, exponent - RESULT_BITS)).astype(np.int64)
    centre = np.rint(np.ldexp(middle, exponent)).astype(np.int64)
    for _ in range(64):
        ends = [np.ldexp((centre + sign * whole * 2**RESULT_BITS).astype(np.float32), -exponent) for sign in (-1, 1)]
        outside = (ends[0] < low) | (ends[1] > high)
        if not outside.any():
            break
        whole = np.where(outside, whole - 1, whole)
    if (whole < 2**7).any():
        raise ExportError(
            f"action limits {low.tolist()} to {high.tolist()} are too narrow for where they lie, expected a half range of "
            "at least 1/128 of the largest limit; export this policy with --weights float32"
        )
    return centre, whole, exponent


def _after(layer: FixedLayer, inputs: Interval) -> Interval:
    if layer.activation == "tanh":
        top = np.full(len(layer.bias), ACTIVATION_LIMIT)
        return Interval(-top, top)
    sums = row_interval(layer.weights, layer.bias << layer.bias_shift, inputs)
    if layer.activation == "relu":
        return Interval(np.maximum(sums.low, 0) >> layer.shift, np.maximum(sums.high, 0) >> layer.shift)
    return Interval(sums.low >> layer.shift, sums.high >> layer.shift)


def _row_reach(weight: Float64, bias: Float64, interval: Interval) -> Float64:
    """Return (out,): the largest magnitude of the row's sum, real units."""
    size = np.maximum(np.abs(interval.low), np.abs(interval.high)).astype(np.float64)
    reach: Float64 = np.abs(weight) @ size + np.abs(bias)
    return reach


def _free_layer(
    layer: FloatLayer,
    weight: Float64,
    following: Float64,
    sums: Float64,
    reached: Integers,
    interval: Interval,
    value_bits: int,
    bias_bits: int,
    following_bits: int,
    gain: Float64,
) -> tuple[FixedLayer, Float64]:
    """Return the integers of a hidden relu or identity layer, and (out,) what one unit of its activations stands for."""
    limit = 2 ** (value_bits - 1) - 1
    reach = _row_reach(weight, layer.bias, interval)
    # Partial sums stay in int32 with one bit to spare, which rounding needs.
    top = np.minimum(limit / np.abs(weight).max(axis=1), SUM_LIMIT / 2 / reach)
    power = (activate(layer.activation, sums) ** 2).mean(axis=0)
    share = (sums > 0).mean(axis=0) if layer.activation == "relu" else np.ones(len(top))
    inputs = (weight != 0) @ (reached.astype(np.float64) ** 2).mean(axis=0)
    following_limit = 2 ** (following_bits - 1) - 1
    # Biases share one unit, 2**bias_shift: a coarse one rounds them all, a fine one keeps scales small where a bias is large.
    offset = np.abs(layer.bias)
    trials = []
    for bias_shift in range(_LARGEST_BIAS_SHIFT):
        allowed = np.minimum(top, _BIAS_ROOM * 2.0 ** (bias_bits - 1 + bias_shift) / np.maximum(offset, 1e-30))
        balance = Balance(share * (inputs + 4.0**bias_shift), power, following, gain, allowed, following_limit)
        trials.append((balance.cost(allowed), bias_shift, balance))
    _, bias_shift, balance = min(trials, key=lambda trial: trial[:2])
    top, scales = balance.top, balance.best()
    shift = max(0, int(np.ceil(np.log2((scales * reach).max() / (ACTIVATION_LIMIT - 256)))))
    # The integers of the following layer are its weights / scale * following_top.
    following_top = following_limit / (np.abs(following) / scales).max(axis=1)
    importance = (following**2).T @ gain
    rows: list[Integers] = []
    columns: list[Integers] = []
    for row in range(len(top)):
        used = np.flatnonzero(weight[row])
        covariance = _covariance(reached[:, used])
        best: tuple[float, Integers, float] | None = None
        for scale in _candidates(scales[row], top[row], following[:, row], following_top, following_limit):
            integers, error = rounded_row(weight[row, used] * scale, covariance, limit)
            wanted = following[:, row] / scale * following_top
            fed = ((np.rint(wanted) - wanted) / following_top) ** 2 @ gain
            # Shifting rounds the activation to whole units.
            own = share[row] * (error + 4.0**bias_shift / 12) + 4.0**shift / 12
            cost = importance[row] * own / scale**2 + fed * power[row] * scale**2
            if best is None or cost < best[0]:
                best = (cost, integers, scale)
        assert best is not None
        rows.append(best[1])
        columns.append(used)
        scales[row] = best[2]
    bias_limit = 2 ** (bias_bits - 1) - 1
    matrix = _matrix(rows, columns, weight.shape)
    offsets = (sums * scales - reached @ matrix.astype(np.float64).T).mean(axis=0) + (2.0**shift / 2 if shift else 0)
    bias, bias_shift = _rounded_bias(offsets, bias_limit)
    fixed = FixedLayer(matrix, value_bits, bias, bias_bits, bias_shift, shift, layer.activation)
    while _exceeds(fixed, interval):
        fixed = FixedLayer(matrix, value_bits, bias, bias_bits, bias_shift, fixed.shift + 1, layer.activation)
    return fixed, 2.0**fixed.shift / scales


def _candidates(scale: float, top: float, following: Float64, following_top: Float64, following_limit: int) -> Float64:
    """Return scales around `scale`, up to `top`: evenly spread, and where the heaviest following weight becomes whole.

    None is so small that a following weight would outgrow its limit: that would cost its whole row.
    """
    heaviest = int(np.argmax(np.abs(following) * following_top))
    size = abs(following[heaviest]) * following_top[heaviest]
    low, high = max(_NARROWEST * scale, size / following_limit), min(_WIDEST * scale, top)
    low = min(low, high)
    whole = np.arange(max(1, np.floor(size / high)), np.ceil(size / low) + 1)
    exact = size / whole
    exact = exact[(exact >= low) & (exact <= high)]
    spread = np.linspace(low, high, _SCALES)
    if len(exact) > _SCALES:
        exact = exact[:: len(exact) // _SCALES]
    result: Float64 = np.concatenate([exact, spread])
    return result


def _covariance(values: Integers) -> Float64:
    """Return the covariance (k, k) of (n, k) values."""
    count = values.shape[1]
    return np.cov(values.astype(np.float64), rowvar=False, bias=True).reshape(count, count)


def _matrix(rows: list[Integers], columns: list[Integers], shape: tuple[int, ...]) -> sparse.csr_array:
    pointers = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    return sparse.csr_array(
        (np.concatenate(rows).astype(np.int64), np.concatenate(columns).astype(np.int32), pointers.astype(np.int32)),
        shape=shape,
    )


def _rounded_bias(offsets: Float64, limit: int) -> tuple[Integers, int]:
    """Return (bias, shift) with bias << shift near `offsets` and |bias| <= limit."""
    size = float(np.abs(offsets).max(initial=0.0))
    shift = max(0, int(np.ceil(np.log2(size / limit)))) if size > 0 else 0
    if np.abs(np.rint(offsets / 2.0**shift)).max(initial=0) > limit:
        shift += 1
    return np.rint(offsets / 2.0**shift).astype(np.int64), shift


def _exceeds(layer: FixedLayer, interval: Interval) -> bool:
    after = _after(layer, interval)
    return bool(np.maximum(np.abs(after.low), np.abs(after.high)).max(initial=0) > ACTIVATION_LIMIT)


def _scaled_layer(
    layer: FloatLayer,
    weight: Float64,
    sums: Float64,
    reached: Integers,
    interval: Interval,
    value_bits: int,
    bias_bits: int,
    argument_bits: int,
) -> FixedLayer:
    """Return the integers of a tanh layer or of the last one: a multiplier for every row brings the sums to one unit."""
    limit = 2 ** (value_bits - 1) - 1
    reach = _row_reach(weight, layer.bias, interval)
    largest = np.maximum(np.abs(weight).max(axis=1, initial=0), np.finfo(np.float64).tiny)
    scales = np.minimum(limit / largest, SUM_LIMIT / 2 / np.maximum(reach, np.finfo(np.float64).tiny))
    rows, columns = [], []
    for row in range(len(scales)):
        used = np.flatnonzero(weight[row])
        if len(used) == 0:
            scales[row] = 1.0
            rows.append(np.zeros(0, np.int64))
        else:
            rows.append(rounded_row(weight[row, used] * scales[row], _covariance(reached[:, used]), limit)[0])
        columns.append(used)
    matrix = _matrix(rows, columns, weight.shape)
    offsets = (sums * scales - reached @ matrix.astype(np.float64).T).mean(axis=0)
    bias, bias_shift = _rounded_bias(offsets, 2 ** (bias_bits - 1) - 1)
    # Where tanh and the clip are flat, and no further: the bits are needed below.
    flat = SEGMENTS / 2 if layer.activation == "tanh" else 1.0
    shift = max(0, int(np.ceil(np.log2((flat + 0.1) * scales.max() / ACTIVATION_LIMIT))))
    # argument = sum / scale * 2**argument_bits = ((sum >> shift) * multiplier) >> multiplier_shift
    factor = np.ldexp(1.0 / scales, argument_bits + shift)
    multiplier_shift = int(np.clip(np.floor(np.log2(ACTIVATION_LIMIT / factor.max())), 0, 30))
    multiplier = np.rint(np.ldexp(factor, multiplier_shift)).astype(np.int64)
    if (multiplier > ACTIVATION_LIMIT).any():
        raise ExportError(
            f"a row's sum would need the multiplier {multiplier.max()}, expected at most {ACTIVATION_LIMIT}; export this "
            "policy with --weights float32"
        )
    return FixedLayer(
        matrix, value_bits, bias, bias_bits, bias_shift, shift, layer.activation, multiplier, multiplier_shift
    )
