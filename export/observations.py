"""The stacked observations that a policy is verified and measured with."""

from pathlib import Path

import numpy as np

from export.c_code.header import observation_limit
from export.c_code.layer_tables import live_inputs
from export.fixed_point.network import READING_LIMIT
from export.sparse_policy import SparsePolicy
from export.squash import Float32, Float64
from export.tensor_file import TensorFile

_EXTREME_COLUMNS = 8


def perturbed_known_observations(policy: SparsePolicy, count: int) -> Float32:
    """Return (count, history*base) observations around the known ones: random mixtures of pairs, column by column."""
    generator = np.random.default_rng(7)
    known = policy.known_observations.astype(np.float64)
    first = known[generator.integers(len(known), size=count)]
    second = known[generator.integers(len(known), size=count)]
    mixed = first + generator.uniform(-0.25, 1.25, first.shape) * (second - first)
    limit = np.finfo(np.float32).max
    return mixed.clip(-limit, limit).astype(np.float32)


def dataset_observations(path: Path, policy: SparsePolicy, count: int) -> Float32:
    """Return rows of the tensor `observations` (n, history*base) of a safetensors file.

    First `count` evenly spaced rows, then its corners: of every column the rows with the smallest and the largest
    value, as far as they are not among the first.
    """
    file = TensorFile(path, None, "write it with `python -m distill collect --flat`", only=("observations",))
    observations = file.array("observations", (None, policy.observation_size))
    rows = np.unique(np.linspace(0, len(observations) - 1, min(count, len(observations))).astype(np.int64))
    corners = np.concatenate([observations.argmin(axis=0), observations.argmax(axis=0)])
    rows = np.concatenate([rows, np.setdiff1d(corners, rows)])
    return np.asarray(observations[rows], dtype=np.float32)


def extreme_observations(policy: SparsePolicy) -> Float32:
    """Return (n, history*base) known observations with one number each that is broken, tiny, or at an end of a range.

    Integers also get what saturates, and the largest that is still read.
    """
    base = len(policy.centre)
    columns = np.unique(np.linspace(0, base - 1, min(base, _EXTREME_COLUMNS)).astype(np.int64))
    values = [np.full(base, value) for value in (np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-40, -0.0)]
    if policy.fixed is not None:
        low, high = policy.fixed.range().T
        largest = np.ldexp(np.float64(READING_LIMIT), -policy.fixed.input_exponent)
        values += [low, high, 2 * low - high, 2 * high - low, largest, -largest]
        values += [np.nextafter(largest.astype(np.float32), np.float32(0)) * sign for sign in (1, -1)]
    pairs = [(column, value[column]) for value in values for column in columns]
    places = np.random.default_rng(9).integers(policy.history, size=len(pairs))
    result = np.resize(policy.known_observations, (len(pairs), policy.observation_size))
    limit = np.finfo(np.float32).max
    for row, (place, (column, value)) in enumerate(zip(places, pairs, strict=True)):
        result[row, place * base + column] = value if not np.isfinite(value) else np.clip(value, -limit, limit)
    return result


def c_reference(policy: SparsePolicy, observations: Float32) -> Float32 | Float64:
    """Return the actions that every C rendering must give: of integers to the bit; NaN where a number is broken.

    A number that no weight reads may be broken.
    """
    if policy.fixed is not None:
        return policy.evaluate_exact(observations)
    broken = ~(np.abs(observations) <= observation_limit(policy))
    broken &= np.tile(np.isin(np.arange(len(policy.centre)), live_inputs(policy)), policy.history)
    actions = policy.evaluate(np.where(np.isfinite(observations) & ~broken, observations, 0))
    return np.where(broken.any(axis=1, keepdims=True), np.nan, actions)


def range_fractions(policy: SparsePolicy, actions: Float32 | Float64, reference: Float32 | Float64) -> Float64:
    """Return |actions - reference| (n, action) as fractions of each action's range."""
    error = np.abs(actions.astype(np.float64) - reference)
    fractions: Float64 = error / (policy.action_high.astype(np.float64) - policy.action_low)
    return fractions
