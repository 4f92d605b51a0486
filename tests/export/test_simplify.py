"""Pruning and simplification: the same outputs, never more bytes, nothing dead left."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.compile import build_policy
from export.errors import ExportError
from export.prune import prune
from export.simplify import centre, simplify
from export.sparse_policy import ByteCount, SparseLayer, SparsePolicy, csr_arrays, sparse_layers
from export.squash import middle_and_half
from export.student_file import Layer, Student

MakeStudent = Callable[..., Student]


def byte_count(layers: tuple[SparseLayer, ...]) -> int:
    arrays = [csr_arrays(layer.matrix) for layer in layers]
    biases = sum(layer.bias.nbytes for layer in layers)
    return ByteCount(*(sum(array[part].nbytes for array in arrays) for part in range(3)), biases, normaliser=0).total


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    hidden=st.lists(
        st.tuples(st.integers(1, 40), st.sampled_from(["relu", "tanh", "identity"])), min_size=0, max_size=3
    ),
    final=st.sampled_from(["tanh", "identity"]),
    density=st.one_of(st.sampled_from([0.0, 0.02, 1.0]), st.floats(0, 1)),
    base=st.integers(1, 6),
    history=st.integers(1, 4),
    limits=st.sampled_from([(-1.0, 1.0), (-20.0, 20.0), (-1e-3, 3e-3), (0.25, 7.0), (-1e6, 5e5)]),
)
def test_same_outputs_never_more_bytes(
    request: pytest.FixtureRequest,
    seed: int,
    hidden: list[tuple[int, str]],
    final: str,
    density: float,
    base: int,
    history: int,
    limits: tuple[float, float],
) -> None:
    make_student = request.getfixturevalue("make_student")
    low, high = limits
    widths = (base * history, *(width for width, _ in hidden), 2)
    activations = (*(name for _, name in hidden), final)
    student = make_student(widths, density, seed=seed, history=history, activations=activations, low=low, high=high)
    policy = build_policy(student)
    observations = np.random.default_rng(seed).normal(0, 3, (50, widths[0])).astype(np.float32)
    expected = student.evaluate(observations.astype(np.float64))
    np.testing.assert_allclose(policy.evaluate(observations), expected, atol=1e-5 * (high - low), rtol=0)

    plain = tuple(Layer(layer.weight, layer.bias, layer.activation) for layer in student.layers)
    # The student's normaliser: a mean and a scale for each of its inputs.
    assert policy.byte_count.total <= byte_count(sparse_layers(plain, student.history)) + 2 * 4 * base
    assert byte_count(policy.layers) <= byte_count(sparse_layers(plain, student.history))
    assert policy.kept_weights <= sum(np.count_nonzero(layer.weight) for layer in student.layers)
    for layer, following in zip(policy.layers[:-1], policy.layers[1:], strict=True):
        assert (np.diff(layer.matrix.indptr) > 0).all(), "a constant unit is left"
        assert len(np.unique(following.matrix.indices)) == layer.matrix.shape[0], "an unused unit is left"


def test_dead_and_constant_units_cascade_to_the_fixpoint() -> None:
    """Unit 0 feeds nothing; unit 1 is constant and makes a second-layer unit constant; only unit 2 lives."""
    first = np.array([[1, 1], [0, 0], [2, 0]], np.float32)
    second = np.array([[0, 3, 0], [0, 0, 4]], np.float32)
    third = np.array([[5, 6]], np.float32)
    student = Student(
        layers=(
            Layer(first, np.array([9, 2, 0.5], np.float32), "relu"),
            Layer(second, np.array([1, -1], np.float32), "relu"),
            Layer(third, np.array([0.25], np.float32), "identity"),
        ),
        observation_mean=np.array([1, 0], np.float32),
        observation_scale=np.array([0.5, 1], np.float32),
        action_low=np.array([-1000], np.float32),
        action_high=np.array([1000], np.float32),
        history=1,
        environment="none",
        control_period_s=0.01,
        observation_names=("a", "b"),
        action_names=("c",),
    )
    layers = simplify(student)
    assert [layer.weight.tolist() for layer in layers] == [[[4, 0]], [[4]], [[6]]]
    # 2 (x - 1) / 0.5 + 0.5 = 4 (x - 1) + 0.5; the constant unit: relu(3 * relu(2) + 1) = 7, times 5, plus 0.25.
    assert centre(student).tolist() == [1, 0]
    assert [layer.bias.tolist() for layer in layers] == [[0.5], [-1], [35.25]]
    # a mean within the spread is folded: 4 x - 3.5
    folded = replace(student, observation_mean=np.array([0.5, 0], np.float32))
    assert centre(folded).tolist() == [0, 0]
    assert simplify(folded)[0].bias.tolist() == [-1.5]


def test_centre_is_short_near_the_mean_and_only_where_the_mean_is_large(make_student: MakeStudent) -> None:
    mean, scale = np.float32([0.02, -0.9, 100.0, 1e-30, 3.2]), np.float32([0.1, 0.3, 30.0, 1.0, 3.3])
    student = replace(make_student(), observation_mean=mean, observation_scale=scale)
    assert centre(student).tolist() == [0.0, -1.0, 96.0, 0.0, 0.0]


def test_centring_keeps_float32_close_to_float64_near_a_large_mean(make_student: MakeStudent) -> None:
    """What the centre is for: an input that hardly moves, far from zero, through opposite weights of five frames."""
    student = make_student((25, 8, 1), 1.0, seed=3)
    mean = np.full(5, 0.91, np.float32)
    student = replace(student, observation_mean=mean, observation_scale=np.full(5, 0.02, np.float32))
    observations = np.random.default_rng(0).normal(0.91, 0.01, (500, 25)).astype(np.float32)
    centred = build_policy(student)
    matrix = centred.layers[0].matrix
    offset = np.tile(centred.centre.astype(np.float64), 5)
    bias = (centred.layers[0].bias - matrix.astype(np.float64) @ offset).astype(np.float32)
    layers = (replace(centred.layers[0], bias=bias), *centred.layers[1:])
    folded = replace(centred, centre=np.zeros(5, np.float32), layers=layers)

    def error(policy: SparsePolicy) -> float:
        return float(np.abs(policy.evaluate_float32(observations) - policy.evaluate(observations)).max())

    assert error(centred) * 4 < error(folded)


def test_everything_pruned_is_a_constant_policy(make_student: MakeStudent) -> None:
    student = make_student(density=0.0)
    policy = build_policy(student)
    assert policy.widths == (25, 1)
    assert policy.kept_weights == 0
    observations = np.random.default_rng(0).normal(size=(5, 25))
    np.testing.assert_allclose(policy.evaluate(observations), student.evaluate(observations), atol=1e-7)


def test_normaliser_beyond_float32_is_refused(make_student: MakeStudent) -> None:
    student = replace(make_student(), observation_scale=np.full(5, 1e-44, np.float32))
    with pytest.raises(ExportError, match="beyond float32"):
        simplify(student)


def test_prune_uses_fine_tuned_weights_by_default_and_at_the_stored_threshold(make_student: MakeStudent) -> None:
    student = make_student(density=0.3, posterior=True)
    for threshold in (None, student.threshold):
        pruned = prune(student, threshold)
        assert pruned.student is student
        assert pruned.warning is None


def test_another_threshold_prunes_the_mean_and_warns(make_student: MakeStudent) -> None:
    student = make_student(density=0.3, posterior=True)
    pruned = prune(student, -1.0)
    assert pruned.warning is not None
    assert "fine-tuned weights are lost" in pruned.warning
    layer, original = pruned.student.layers[0], student.layers[0]
    assert original.mean is not None
    assert original.log_alpha is not None
    kept = original.log_alpha <= -1.0
    np.testing.assert_array_equal(layer.weight[kept], original.mean[kept])
    assert not layer.weight[~kept].any()
    assert prune(student, -10.0).student.layers[0].weight.any() == np.False_


def test_a_weight_at_the_threshold_is_pruned(make_student: MakeStudent) -> None:
    student = make_student((5, 3), history=1, posterior=True)
    threshold = np.float32(1.25)
    below, above = np.nextafter(threshold, np.float32(0)), np.nextafter(threshold, np.float32(2))
    log_alpha = np.full((3, 5), threshold)
    log_alpha[0], log_alpha[2] = below, above
    layer = replace(student.layers[0], log_alpha=log_alpha)
    weight = prune(replace(student, layers=(layer,)), float(threshold)).student.layers[0].weight
    assert layer.mean is not None
    np.testing.assert_array_equal(weight[0], layer.mean[0])
    assert not weight[1:].any()


def test_threshold_without_posterior_or_not_a_number(make_student: MakeStudent) -> None:
    with pytest.raises(ExportError, match="needs tensors 'mean' and 'log_alpha'"):
        prune(make_student(), 1.0)
    with pytest.raises(ExportError, match="finite"):
        prune(make_student(posterior=True), float("nan"))


@given(low=st.floats(-1e6, 1e6, width=32), span=st.floats(0.0078125, 1e6, width=32))
def test_float32_actions_never_leave_the_limits(low: float, span: float) -> None:
    low32 = np.array([low], np.float32)
    high32 = (low32 + np.float32(span)).astype(np.float32)
    if not low32 < high32:
        return
    middle, half = middle_and_half(low32, high32)
    assert middle + half <= high32
    assert middle - half >= low32
    assert half > 0
