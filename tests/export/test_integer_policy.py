"""Integer policies over random networks: C has the bits of the reference, the proven bounds hold, files are checked."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, example, given, reject, settings
from hypothesis import strategies as st
from scipy import sparse

from export.c_code.dialect import Dialect
from export.c_code.header import c_code
from export.c_code.layer_tables import layer_tables, live_inputs
from export.c_code.plan import plans
from export.compile import build_policy
from export.errors import ExportError
from export.fixed_point.bounds import bounds
from export.fixed_point.network import ACTIVATION_LIMIT, CLIP_BITS, READING_LIMIT, FixedLayer, FixedNetwork
from export.fixed_point.refine import Refinement, refine
from export.fixed_point.tanh import ARGUMENT_BITS, RESULT_BITS, tanh_fixed
from export.sparse_policy import SparsePolicy
from export.student_file import Student
from export.targets.image import build_image
from export.targets.open_core import open_core, run_vectors
from export.targets.target import TARGETS

MakeStudent = Callable[..., Student]

RANGES = [(-1.0, 1.0), (-20.0, 20.0), (-1e-3, 3e-3), (0.25, 7.0), (-1e6, 5e5), (-4e9, 4e9)]
FIXTURE = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@dataclass(frozen=True)
class Case:
    """A random network and the format of its integers."""

    hidden: tuple[tuple[int, str], ...]
    final: str
    actions: int
    base: int
    history: int
    density: float
    limits: tuple[float, float]
    formats: tuple[str, ...]
    seed: int

    def policy(self, make_student: MakeStudent, **options: Any) -> SparsePolicy:
        widths = (self.base * self.history, *(width for width, _ in self.hidden), self.actions)
        names = (*(name for _, name in self.hidden), self.final)
        low, high = self.limits
        student = make_student(
            widths, self.density, seed=self.seed, history=self.history, activations=names, low=low, high=high
        )
        layers = len(build_policy(student).layers)
        return build_policy(student, weights=",".join(self.formats[:layers]), **options)


def cases(widest: int) -> st.SearchStrategy[Case]:
    """Networks of one to four layers."""
    activation = st.sampled_from(["relu", "tanh", "identity"])
    return st.builds(
        Case,
        hidden=st.lists(st.tuples(st.integers(1, widest), activation), min_size=0, max_size=3).map(tuple),
        final=st.sampled_from(["tanh", "identity"]),
        actions=st.integers(1, 10),
        base=st.integers(1, 6),
        history=st.integers(1, 4),
        density=st.sampled_from([0.0, 0.05, 0.3, 1.0]),
        limits=st.sampled_from(RANGES),
        formats=st.lists(st.sampled_from(["int8", "int16"]), min_size=4, max_size=4).map(tuple),
        seed=st.integers(0, 2**16),
    )


def readings(network: FixedNetwork, generator: np.random.Generator, count: int) -> np.ndarray:
    """(n, history*base) integers as policy_step_fixed takes them: ordinary, on the limits, and the largest."""
    inputs = len(network.input_limit) * network.history
    limit, offset = (np.tile(values, network.history) for values in (network.input_limit, network.input_offset))
    ordinary = offset + limit * generator.normal(0, 0.4, (count, inputs))
    corners = offset + limit * generator.choice([-1, 1], (count, inputs)) + generator.integers(-1, 2, (count, inputs))
    largest = READING_LIMIT * generator.choice([-1, 0, 1], (count, inputs))
    return np.clip(np.rint(np.concatenate([ordinary, corners, largest])), -READING_LIMIT, READING_LIMIT).astype(
        np.int64
    )


def observations(network: FixedNetwork, generator: np.random.Generator, count: int) -> np.ndarray:
    """The same as floats, and every kind of number that a float can be."""
    exponent = np.tile(network.input_exponent, network.history)
    whole = np.ldexp(readings(network, generator, count).astype(np.float64), -exponent).astype(np.float32)
    between = np.nextafter(whole, generator.choice([-np.inf, np.inf], whole.shape).astype(np.float32))
    odd = np.ldexp(generator.normal(0, 1, (count, whole.shape[1])), generator.integers(-149, 128, (count, 1)))
    special = np.array([np.nan, -np.nan, np.inf, -np.inf, 0, -0.0, 1e-45, -1e-40, 3.4e38, 1], np.float32)
    mixed = whole[:count].copy()
    mixed[np.arange(count), generator.integers(whole.shape[1], size=count)] = generator.choice(special, count)
    with np.errstate(over="ignore"):
        return np.concatenate([whole, between, odd.astype(np.float32), mixed])


@settings(max_examples=7, deadline=None, suppress_health_check=FIXTURE)
@given(case=cases(20))
def test_c_has_the_bits_of_the_reference(
    make_student: MakeStudent, tmp_path_factory: pytest.TempPathFactory, case: Case
) -> None:
    """Floats in and floats out, and integers alone; every plan, with and without a floating-point unit."""
    policy = case.policy(make_student)
    network = policy.fixed
    assert network is not None
    generator = np.random.default_rng(case.seed)
    floats = observations(network, generator, 60)
    expected = policy.evaluate_exact(floats)
    whole = readings(network, generator, 20)
    missing = generator.random(whole.shape) < 0.3 / whole.shape[1]
    whole = np.where(
        missing, generator.choice([2**31 - 1, -(2**31), READING_LIMIT, -READING_LIMIT], whole.shape), whole
    )
    limit, offset = (np.tile(values, case.history) for values in (network.input_limit, network.input_offset))
    beyond = (whole >= READING_LIMIT) | (whole < -READING_LIMIT)
    outputs = network.output(np.clip(np.where(beyond, 0, whole) - offset, -limit, limit))
    # How many steps more the newest frame with such a reading is in the history, if layer 0 reads it.
    bad = beyond & np.tile(np.isin(np.arange(case.base), live_inputs(policy)), case.history)
    bad_frames = bad.reshape(len(whole), case.history, case.base).any(axis=2)
    left = (bad_frames * (1 + np.arange(case.history))).max(axis=1)
    variants = list(plans(layer_tables(policy)).values())
    # Both dialects of one plan, and each of the others in one: what differs is in separate functions.
    for index, plan in enumerate([variants[0], *variants]):
        folder = tmp_path_factory.mktemp("plan")
        unit = (index + case.seed) % 2 == 0
        (folder / "policy.h").write_text(c_code(policy, "00" * 32, plan, Dialect(float_unit=unit)))
        build_image(TARGETS["host"], folder, folder / "host.so", "harness.c", ("-O1",))
        core = open_core(TARGETS["host"], folder / "host.so")
        assert core.call("run_self_test").result == 0
        actions = run_vectors(core, floats, case.actions)
        different = (actions.view(np.uint32) != expected.view(np.uint32)).any(axis=1)
        assert not different.any(), (plan, unit, floats[different][0], actions[different][0], expected[different][0])

        state = core.write(0, np.zeros(core.call("run_state_size").result, np.uint8))
        target = core.write(2048, np.zeros(case.actions, np.int32))
        for row, output, steps in zip(whole.astype(np.int32), outputs, left, strict=True):
            core.call("run_reset", state)
            for frame in row.reshape(case.history, case.base):
                answer = core.call("run_step_fixed", state, core.write(4096, frame), target).result
            assert answer == steps
            got = core.read_float32(target, (case.actions,)).view(np.int32)
            assert got.tolist() == output.tolist(), (plan, unit, row)


def worst_corners(network: FixedNetwork) -> np.ndarray:
    """(n, inputs): for every row of layer 0 the inputs that make its sum largest and smallest."""
    weights = network.layers[0].weights.toarray()
    limit = np.tile(network.input_limit, network.history)
    return np.concatenate([sign * np.where(weights < 0, -limit, limit) for sign in (1, -1)])


def test_tanh_keeps_its_stated_bound_at_every_argument() -> None:
    arguments = np.arange(-(2**17), 2**17)
    result = tanh_fixed(arguments)
    assert np.abs(result / 2**RESULT_BITS - np.tanh(arguments / 2**ARGUMENT_BITS)).max() <= 1.6e-4
    # No clamp follows it in a hidden layer.
    assert np.abs(result).max() <= ACTIVATION_LIMIT


@pytest.mark.parametrize("limit", [1e-30, 1e-37])
def test_action_limits_beyond_the_scales_are_refused(make_student: MakeStudent, limit: float) -> None:
    with pytest.raises(ExportError, match=r"actions would be scaled by 2\*\*"):
        build_policy(make_student((5, 4, 1), history=1, low=-limit, high=limit), weights="int8")


@settings(max_examples=15, deadline=None, suppress_health_check=FIXTURE)
@given(case=cases(40))
@example(  # rows without weights, whose biases were once scaled as the other row's tiny weight
    case=Case(
        hidden=((10, "relu"), (28, "relu"), (28, "relu")),
        final="tanh",
        actions=5,
        base=2,
        history=3,
        density=0.05,
        limits=(-1.0, 1.0),
        formats=("int8", "int8", "int8", "int16"),
        seed=30323,
    )
)
def test_proven_bounds_hold_and_are_reached(make_student: MakeStudent, case: Case) -> None:
    policy = case.policy(make_student)
    network = policy.fixed
    assert network is not None
    generator = np.random.default_rng(case.seed)
    limit = np.tile(network.input_limit, network.history)
    inputs = np.concatenate(
        [
            worst_corners(network),
            limit * generator.choice([-1, 1], (200, len(limit))),
            generator.integers(-limit, limit + 1, (200, len(limit))),
        ]
    )
    for index, (layer, proven) in enumerate(zip(network.layers, bounds(network), strict=True)):
        weights = layer.weights.toarray()
        if index + 1 < len(network.layers):
            assert (network.layers[index + 1].weights.toarray() != 0).any(axis=0).all()  # every unit is read
        terms = inputs[:, None, :] * weights
        bias = np.broadcast_to(layer.bias << layer.bias_shift, terms.shape[:2])[..., None]
        for parts in (np.concatenate([bias, terms], axis=2), np.concatenate([terms[..., ::-1], bias], axis=2)):
            partial = np.abs(np.cumsum(parts, axis=2)).max()
            assert partial <= proven.largest_sum
        sums = layer.sums(inputs)
        np.testing.assert_array_equal(sums, terms.sum(axis=2) + bias[..., 0])
        if index == 0 and layer.multiplier is None:
            # With the bias on the side of the sum the bound is the sum itself.
            reached = np.abs(sums - bias[..., 0]).max(axis=0) + np.abs(bias[0, :, 0])
            assert reached.max() == proven.largest_sum
        if layer.multiplier is not None:
            limited = np.clip(sums >> layer.shift, -ACTIVATION_LIMIT, ACTIVATION_LIMIT)
            assert np.abs(limited * layer.multiplier).max() <= proven.largest_product
        if index + 1 < len(network.layers):
            inputs = layer.hidden(sums)
            assert np.abs(inputs).max() <= proven.largest_activation <= ACTIVATION_LIMIT
        assert max(proven.largest_sum, proven.largest_product) < 2**31
    output = network.output(worst_corners(network))
    assert np.abs(output).max() < 2**31
    actions = network.actions(output)
    assert (actions >= policy.action_low).all()
    assert (actions <= policy.action_high).all()


@settings(max_examples=25, deadline=None, suppress_health_check=FIXTURE)
@given(case=cases(8), data=st.data())
def test_nothing_saturates_within_the_declared_range(
    make_student: MakeStudent, case: Case, data: st.DataObject
) -> None:
    ends = st.floats(-1e4, 1e4, width=32)
    pairs = data.draw(st.lists(st.tuples(ends, ends), min_size=case.base, max_size=case.base))
    declared = tuple((min(pair), max(pair)) for pair in pairs)
    assume(all(high - low >= 1e-3 * max(abs(low), abs(high), 1e-3) for low, high in declared))
    try:
        policy = case.policy(make_student, observation_range=declared)
    except ExportError:
        # Integers need not exist for ranges far from what the student was made for.
        reject()
    network = policy.fixed
    assert network is not None
    low, high = (np.array(side, np.float64) for side in zip(*declared, strict=True))
    share = np.random.default_rng(case.seed).random((200, case.history, case.base))
    inside = (low + (high - low) * share).astype(np.float32)
    inside[0], inside[1] = low, high
    frames = np.clip(inside, low.astype(np.float32), high.astype(np.float32)).reshape(200, -1)
    exponent, offset, limit = (
        np.tile(values, case.history) for values in (network.input_exponent, network.input_offset, network.input_limit)
    )
    scaled = np.trunc(np.ldexp(frames.astype(np.float64), exponent)).astype(np.int64) - offset
    assert (np.abs(scaled) <= limit).all()
    np.testing.assert_array_equal(network.read(frames), scaled)
    assert not network.broken(frames).any()


def test_refinement_keeps_no_integers_that_break_the_bounds() -> None:
    """A unit at the edge of int16 whose targets ask for more: its bias may not grow."""

    def layer(weight: int, **options: Any) -> FixedLayer:
        matrix = sparse.csr_array(np.array([[weight]], np.int64))
        return FixedLayer(matrix, 8, np.zeros(1, np.int64), 8, 6, 6, **options)

    one = np.ones(1, np.int64)
    last = layer(100, activation="identity", multiplier=2 * one, multiplier_shift=3)
    network = FixedNetwork(
        input_exponent=15 * one,
        input_offset=0 * one,
        input_limit=ACTIVATION_LIMIT * one,
        layers=(layer(64, activation="relu"), last),
        middle=0 * one,
        half=one,
        action_exponent=0 * one,
    )
    assert bounds(network)[0].largest_activation == ACTIVATION_LIMIT
    inputs = np.arange(1, 400, dtype=np.int64)[:, None]
    outputs = last.arguments(last.sums(network.activations(inputs)[1])) / 2.0**CLIP_BITS
    free = Refinement(network, inputs, outputs + 0.01)
    assert free.sweep() > 0
    with pytest.raises(ExportError, match="activations 3327"):
        bounds(free.result())
    bounds(refine(network, inputs, outputs + 0.01, 5))


def test_simplification_after_rounding_keeps_what_a_weight_of_zero_carried(make_student: MakeStudent) -> None:
    """A weight that rounds to 0 goes, with its unit where nothing else reads it; the policy stays close."""
    student = make_student((10, 12, 1), 1.0, seed=2, history=2)
    last = student.layers[1].weight.copy()
    last[0, 1:] *= 1e-4
    layers = (student.layers[0], replace(student.layers[1], weight=last))
    policy = build_policy(replace(student, layers=layers), weights="int8")
    assert policy.widths[1] < 12
    seen = np.random.default_rng(0).normal(0, 1, (200, 10)).astype(np.float32)
    error = policy.evaluate_exact(seen) - replace(student, layers=layers).evaluate(seen.astype(np.float64))
    assert np.abs(error).max() < 0.02
