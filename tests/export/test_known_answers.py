"""The self test sees: nearly every number of a policy, changed by 1 %, moves a known answer beyond the tolerance."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from export.compile import build_policy
from export.known_answers import SELF_TEST_TOLERANCE
from export.sparse_policy import SparseLayer, SparsePolicy
from export.student_file import Layer, Student

MakeStudent = Callable[..., Student]


def self_test_passes(policy: SparsePolicy) -> bool:
    """What policy_self_test() does, by scipy in float32."""
    tolerance = SELF_TEST_TOLERANCE * (policy.action_high.astype(np.float64) - policy.action_low)
    actions = policy.evaluate_float32(policy.known_observations).astype(np.float64)
    return bool((np.abs(actions - policy.known_actions) <= tolerance).all())


def with_changed_weight(policy: SparsePolicy, layer: int, index: int) -> SparsePolicy:
    old: SparseLayer = policy.layers[layer]
    values = old.matrix.data.copy()
    values[index] *= np.float32(1.01)
    matrix = sparse.csr_array((values, old.matrix.indices, old.matrix.indptr), shape=old.matrix.shape)
    layers = list(policy.layers)
    layers[layer] = replace(old, matrix=matrix)
    return replace(policy, layers=tuple(layers))


def seen_share(policy: SparsePolicy, sample: int = 1000) -> float:
    """Share of the weights whose change by 1 % fails the self test; of a large policy a sample."""
    weights = [(layer, index) for layer, entry in enumerate(policy.layers) for index in range(entry.matrix.nnz)]
    chosen = np.random.default_rng(0).permutation(len(weights))[:sample]
    return float(np.mean([not self_test_passes(with_changed_weight(policy, *weights[i])) for i in chosen]))


def test_a_changed_weight_of_a_sparse_student_fails_the_self_test(make_live_student: MakeStudent) -> None:
    """Measured on distilled students: 99 to 100 %. Random ones also hold units that no plausible observation wakes."""
    for seed in (3, 5, 7):
        policy = build_policy(make_live_student((90, 40, 12), 32, seed=seed, low=-20.0, high=20.0))
        assert self_test_passes(policy)
        assert seen_share(policy) >= 0.95


@pytest.mark.parametrize("final", ["tanh", "identity"])
def test_other_squashes_and_several_actions_are_seen_too(make_student: MakeStudent, final: str) -> None:
    student = make_student((25, 12, 9, 3), 0.4, activations=("relu", "tanh", final), low=-2.5, high=0.5)
    policy = build_policy(student)
    assert self_test_passes(policy)
    assert seen_share(policy) >= 0.95


def test_zero_first_then_a_saturated_answer_and_few_in_all(make_live_student: MakeStudent) -> None:
    policy = build_policy(make_live_student())
    assert not policy.known_observations[0].any()
    assert abs(policy.known_actions[1, 0]) > 0.99
    assert len(policy.known_observations) <= 8
    np.testing.assert_allclose(policy.evaluate(policy.known_observations), policy.known_actions, atol=1e-6)
    again = build_policy(make_live_student())
    assert policy.known_observations.tobytes() == again.known_observations.tobytes()


def test_zeros_that_no_plant_shows_do_not_refuse_a_healthy_policy() -> None:
    """A height of 500 mm that moves by one: zeros are 500 deviations away, where two large terms cancel."""
    student = Student(
        layers=(
            Layer(np.float32([[-1.1], [-1.7]]), np.zeros(2, np.float32), "relu"),
            Layer(np.float32([[2.21, -1.43]]), np.float32([0.1]), "tanh"),
        ),
        observation_mean=np.float32([500.3]),
        observation_scale=np.float32([1.0]),
        action_low=np.float32([-1.0]),
        action_high=np.float32([1.0]),
        history=1,
        environment="Far-v0",
        control_period_s=0.02,
        observation_names=("height",),
        action_names=("force",),
    )
    policy = build_policy(student)
    assert len(policy.known_observations)
    assert policy.known_observations[0].any()
    assert self_test_passes(policy)


def test_frames_of_one_vector_are_alike(make_live_student: MakeStudent) -> None:
    """As a plant gives them: over one history the observation changes by a fraction of its scale."""
    student = make_live_student()
    for observation in build_policy(student).known_observations[1:]:
        frames = observation.reshape(5, 5)
        assert (np.ptp(frames, axis=0) < 0.6 * student.observation_scale).all()


def test_a_network_without_weights_has_two_answers(make_student: MakeStudent) -> None:
    policy = build_policy(make_student(density=0.0))
    assert 2 <= len(policy.known_observations) <= 3
    assert self_test_passes(policy)


def test_dense_teacher(make_student: MakeStudent) -> None:
    """72,192 weights: most move the action by less than the tolerance, which no vector can change."""
    policy = build_policy(make_student((25, 256, 256, 1)))
    assert self_test_passes(policy)
    assert len(policy.known_observations) <= 8
    assert seen_share(policy, 50) > 0.2
