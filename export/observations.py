"""The stacked observations that a policy is verified and measured with."""

from pathlib import Path

import numpy as np

from export.sparse_policy import SparsePolicy
from export.squash import Float32, Float64
from export.tensor_file import TensorFile


def perturbed_known_observations(policy: SparsePolicy, count: int) -> Float32:
    """Return (count, history*base) observations around the known ones: random mixtures of pairs, column by column."""
    generator = np.random.default_rng(7)
    known = policy.known_observations.astype(np.float64)
    first = known[generator.integers(len(known), size=count)]
    second = known[generator.integers(len(known), size=count)]
    mixed = first + generator.uniform(-0.25, 1.25, first.shape) * (second - first)
    return mixed.astype(np.float32)


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


def exact_actions(policy: SparsePolicy, observations: Float32) -> Float32 | None:
    """Return what every C rendering must give to the bit: integer weights alone define that, else None."""
    return None if policy.fixed is None else policy.evaluate_exact(observations)


def range_fractions(policy: SparsePolicy, actions: Float32 | Float64, reference: Float32 | Float64) -> Float64:
    """Return |actions - reference| (n, action) as fractions of each action's range."""
    error = np.abs(actions.astype(np.float64) - reference)
    fractions: Float64 = error / (policy.action_high.astype(np.float64) - policy.action_low)
    return fractions
