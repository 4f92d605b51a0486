"""Known answers: a few observations with the actions that every rendering of the policy must give.

They are chosen so that a changed number shows: a saturated action or a unit that is off hides the weights behind it.
"""

import numpy as np
from numpy.typing import NDArray

from export.sparse_policy import SparsePolicy
from export.squash import Float32, Float64, activate, squash_float32
from export.student_file import Student

SELF_TEST_TOLERANCE = 1e-6
"""Largest error of a known answer, as a fraction of the action range."""
CHOSEN_LIMIT = 6
"""Vectors chosen for what they show, beside the all-zero and the saturating one; each costs flash in the self test."""
_CHANGE = 0.01
_FRAME_DIFFERENCE = 0.1
_SPREADS = (0.03, 0.1, 0.3, 1.0, 2.0)
_CANDIDATES = (64, 4096)
_MULTIPLICATIONS = 100_000_000
_NUMBERS_PER_LAYER = 4096


def known_answers(student: Student, policy: SparsePolicy) -> tuple[Float32, Float32]:
    """Return (observations (k, history*base), actions (k, action)) of the pruned student in float64, k at most 8.

    First all zeros (physical units; left out where single precision is too coarse for them, as it may be where they lie
    far from anything that the plant shows), then the candidate with the most extreme first action, then as few others
    as show a change by 1 % of nearly every weight and bias in `policy` (the simplified student, still without answers)
    that any candidate shows. The generator is seeded with a constant: same student, same bytes.
    """
    generator = np.random.default_rng(2024)
    numbers = sum(layer.matrix.nnz for layer in policy.layers) * len(student.action_low)
    count = _MULTIPLICATIONS // max(1, numbers)
    candidates = plausible_observations(student, generator, int(np.clip(count, *_CANDIDATES)))
    with np.errstate(over="ignore", invalid="ignore"):
        actions = student.evaluate(candidates.astype(np.float64))
        errors = _rounding_errors(policy, candidates, actions)
        steady = np.all(errors <= _tolerance(policy) / 4, axis=1)  # with another a healthy policy might fail its test
        shown = _shown(policy, candidates, actions, generator) & steady[:, None]
    middle = (student.action_low[0].astype(np.float64) + student.action_high[0]) / 2
    coarse = bool(np.isfinite(errors[0]).all() and np.any(errors[0] > _tolerance(policy) / 2))
    chosen = [] if coarse else [0]
    chosen.append(int(np.argmax(np.where(steady, np.abs(actions[:, 0] - middle), -1))))
    for _ in range(CHOSEN_LIMIT):
        gains = (shown & ~shown[chosen].any(axis=0)).sum(axis=1)
        if not gains.max():
            break
        chosen.append(int(np.argmax(gains)))
    return candidates[chosen], actions[chosen].astype(np.float32)


def plausible_observations(student: Student, generator: np.random.Generator, count: int) -> Float32:
    """Return all zeros, then stacked frames as a plant gives them: one frame near the mean that changes little."""
    base, history = len(student.observation_mean), student.history
    spread = generator.choice(_SPREADS, (count - 1, 1, 1))
    frames = spread * generator.standard_normal((count - 1, 1, base))
    frames = frames + _FRAME_DIFFERENCE * generator.standard_normal((count - 1, history, base))
    observations = student.observation_mean + student.observation_scale.astype(np.float64) * frames
    limit = np.finfo(np.float32).max
    stacked = np.clip(observations, -limit, limit).reshape(count - 1, history * base)
    return np.concatenate([np.zeros((1, history * base)), stacked]).astype(np.float32)


def _tolerance(policy: SparsePolicy) -> Float64:
    tolerance: Float64 = SELF_TEST_TOLERANCE * (policy.action_high.astype(np.float64) - policy.action_low)
    return tolerance


def _rounding_errors(policy: SparsePolicy, candidates: Float32, actions: Float64) -> Float64:
    """Return (candidates, actions): how far single precision is off, the worse of two orders of sums."""
    values = candidates - np.tile(policy.centre, policy.history)
    for layer in policy.layers[:-1]:
        values = activate(layer.activation, values @ layer.matrix.toarray().T + layer.bias)
    last = policy.layers[-1]
    outputs = values @ last.matrix.toarray().T + last.bias
    dense = squash_float32(last.activation, outputs, policy.action_low, policy.action_high)
    errors: Float64 = np.maximum(np.abs(dense - actions), np.abs(policy.evaluate_float32(candidates) - actions))
    return errors


def _shown(
    policy: SparsePolicy, candidates: Float32, actions: Float64, generator: np.random.Generator
) -> NDArray[np.bool_]:
    """Return (candidates, numbers): whether a number changed by 1 % would move an action by twice the tolerance.

    To first order: change times gradient. Of a large layer a sample of the numbers stands for all.
    """
    low, high, tolerance = policy.action_low, policy.action_high, _tolerance(policy)
    layers = policy.layers
    weights = [layer.matrix.toarray().astype(np.float64) for layer in layers]
    inputs = [candidates.astype(np.float64) - np.tile(policy.centre, policy.history)]
    for layer, weight in zip(layers[:-1], weights, strict=False):
        inputs.append(activate(layer.activation, inputs[-1] @ weight.T + layer.bias))
    tables = [np.column_stack([weight, layer.bias]) for weight, layer in zip(weights, layers, strict=True)]
    samples = [_sample(table, generator) for table in tables]
    shown = [np.zeros((len(candidates), len(rows)), bool) for rows, _ in samples]
    for index in range(len(low)):
        slope = np.zeros_like(actions)
        slope[:, index] = _squash_slope(layers[-1].activation, actions[:, index], low[index], high[index])
        for depth in reversed(range(len(layers))):
            rows, columns = samples[depth]
            extended = np.column_stack([inputs[depth], np.ones(len(candidates))])
            moved = np.abs(_CHANGE * tables[depth][rows, columns] * slope[:, rows] * extended[:, columns])
            shown[depth] |= moved > 2 * tolerance[index]
            if depth:
                slope = slope @ weights[depth]
                slope = slope * _slope(layers[depth - 1].activation, inputs[depth])
    return np.concatenate(shown, axis=1)


def _sample(table: Float64, generator: np.random.Generator) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return (rows, columns) of nonzero numbers of [weight | bias]: all, or a random sample of a large layer."""
    rows, columns = np.nonzero(table)
    if len(rows) > _NUMBERS_PER_LAYER:
        some = np.sort(generator.choice(len(rows), _NUMBERS_PER_LAYER, replace=False))
        rows, columns = rows[some], columns[some]
    return rows, columns


def _slope(name: str, outputs: Float64) -> Float64:
    """Derivative of an activation, from its outputs."""
    if name == "relu":
        return (outputs > 0).astype(np.float64)
    return 1 - outputs**2 if name == "tanh" else np.ones_like(outputs)


def _squash_slope(name: str, actions: Float64, low: np.float32, high: np.float32) -> Float64:
    middle, half = (np.float64(low) + high) / 2, (np.float64(high) - low) / 2
    if name == "tanh":
        return half * _slope("tanh", (actions - middle) / half)
    inside: Float64 = half * ((actions > low) & (actions < high))
    return inside
