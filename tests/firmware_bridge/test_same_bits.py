"""numpy and the compiled C give the same bits: floats by the same order of operations, integers by being exact."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.c_order import COrder, tanh_of_c
from export.compile import compile_student
from export.student_file import Layer, Student, write_student
from firmware_bridge.loop.host_policy import CBackend, CsrBackend
from firmware_bridge.loop.policy_folder import open_policy_folder

FRAMES = 400


def _student(seed, widths, activation, end, density):
    rng = np.random.default_rng(seed)
    layers = []
    for index, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        weight = rng.normal(0, 1.5 / np.sqrt(inputs * density), (outputs, inputs)).astype(np.float32)
        weight[rng.random(weight.shape) > density] = 0
        kind = activation if index < len(widths) - 2 else end
        layers.append(Layer(weight, rng.normal(0, 0.3, outputs).astype(np.float32), kind))
    return Student(
        layers=tuple(layers),
        observation_mean=np.array([0.1, 0.0, 0.0, 0.9, 0.0], np.float32),
        observation_scale=np.array([0.4, 1.5, 1.0, 0.2, 6.0], np.float32),
        action_low=np.array([-20], np.float32),
        action_high=np.array([20], np.float32),
        history=5,
        environment="hardware:CartRail-v0",
        control_period_s=0.02,
        observation_names=("x [m]", "x' [m/s]", "sin", "cos", "theta' [rad/s]"),
        action_names=("cart acceleration [m/s^2]",),
    )


NETWORKS = {
    "sparse relu": ((25, 40, 30, 1), "relu", "tanh", 0.2),
    "dense tanh": ((25, 16, 16, 1), "tanh", "tanh", 1.0),  # fused
    "identity end": ((25, 24, 1), "relu", "identity", 0.5),
    "linear": ((25, 1), "relu", "identity", 0.6),
    "unread inputs": ((25, 8, 8, 1), "tanh", "identity", 0.05),
}


CASES = [
    *((name, "float32", "size") for name in NETWORKS),
    *((name, "float32", "speed") for name in NETWORKS if name != "dense tanh"),  # whose layers are blocked
    *((name, "int8", "size") for name in NETWORKS if name != "dense tanh"),  # whose fitting takes long
    ("sparse relu", "int16", "speed"),
]


@pytest.mark.parametrize(("name", "weights", "optimise"), CASES)
def test_every_action_has_the_same_bits(name, weights, optimise, tmp_path):
    widths, activation, end, density = NETWORKS[name]
    write_student(tmp_path / "student.safetensors", _student(3, widths, activation, end, density))
    options = {"weights": weights, "optimise": optimise, "target": "host"}
    compile_student(tmp_path / "student.safetensors", tmp_path / "policy", None, **options)
    folder = open_policy_folder(tmp_path / "policy")
    compiled, numpy = CBackend(folder), CsrBackend(folder)
    rng = np.random.default_rng(5)
    frames = rng.normal(0, [0.5, 2.0, 0.8, 0.8, 8.0], (FRAMES, 5)).astype(np.float32)
    frames[50] = frames[51]
    frames[100, 2] = np.nan
    frames[200, 0] = np.inf
    frames[300, 4] = 3e38
    frames[350] = 0.0
    different = 0
    for index, frame in enumerate(frames.tolist()):
        if index == 120:
            for backend in (compiled, numpy):
                backend.reset()
        pair = [np.float32(backend.step(tuple(frame))) for backend in (compiled, numpy)]
        assert np.array_equal(*pair, equal_nan=True), (index, *pair)
        with np.errstate(over="ignore", invalid="ignore"):
            different += pair[0] != folder.policy.evaluate_float32(numpy.frames.reshape(1, -1))[0, 0]
    if weights != "float32" and name == "sparse relu":
        assert different > FRAMES // 2  # the float network that the integers stand for is another function


def test_blocked_layers_differ_by_rounding_only(tmp_path):
    """As export/c_order.py says; what is in its order stays so with the other loops (above)."""
    write_student(tmp_path / "student.safetensors", _student(3, *NETWORKS["dense tanh"]))
    compile_student(tmp_path / "student.safetensors", tmp_path, None, optimise="speed", target="host")
    folder = open_policy_folder(tmp_path)
    frames = np.random.default_rng(5).normal(0, [0.5, 2.0, 0.8, 0.8, 8.0], (FRAMES, 5)).astype(np.float32)
    backends = CBackend(folder), CsrBackend(folder)
    compiled, numpy = np.array([[each.step(tuple(frame)) for frame in frames.tolist()] for each in backends])
    assert np.abs(compiled - numpy).max() < 40 * 1e-6


def test_the_order_is_what_makes_them_equal(policy_folder):
    """scipy's product, in another order and with the library's tanh, is close and not the same."""
    policy = open_policy_folder(policy_folder).policy
    rng = np.random.default_rng(1)
    observations = rng.normal(0, 1, (2000, policy.observation_size)).astype(np.float32)
    ours, scipys = COrder(policy).evaluate(observations), policy.evaluate_float32(observations)
    assert np.mean(ours != scipys) > 0.01
    assert np.abs(ours - scipys).max() < 1e-4


@settings(deadline=None, max_examples=300)
@given(st.floats(width=32, allow_nan=False))
def test_tanh_is_odd_bounded_and_near(x):
    y = tanh_of_c(np.array([x], np.float32))[0]
    assert abs(y) <= 1.0
    assert tanh_of_c(np.array([-x], np.float32))[0] == -y
    assert abs(float(y) - np.tanh(x)) <= 5e-7
