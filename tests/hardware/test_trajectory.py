"""The hash and the upright share of a trajectory."""

import math

import pytest

from hardware.plants.cart_rail import CartRailPlant
from hardware.protocol import Actuate, Enable
from hardware.replace import replacing
from hardware.trajectory import Trajectory


def record(rows, first_tick=1):
    plant, trajectory = CartRailPlant(), Trajectory()
    for offset, (angle, enable) in enumerate(rows):
        plant.reset(0.0, angle)
        trajectory.append(first_tick + offset, plant, Actuate(first_tick + offset, 1.0, 0.0, enable))
    return trajectory


def test_upright_counts_the_last_three_seconds_under_the_policy_only():
    up, down = 2 * math.pi + 0.1, math.pi
    rows = [(down, Enable.DRIVE)] * 100 + [(up, Enable.DRIVE)] * 120 + [(down, Enable.BRAKE)] * 30
    assert record(rows).upright_fraction() == pytest.approx(120 / 150)
    assert record([(0.0, Enable.OFF)] * 200).upright_fraction() == 0.0
    assert record(rows).enabled_steps == 250


def test_hash_ignores_what_lies_outside_the_enabled_ticks():
    middle = [(0.1, Enable.DRIVE), (0.2, Enable.OFF), (0.3, Enable.BRAKE)]
    one = record([(1.0, Enable.OFF)] * 3 + middle)
    two = record([*middle, (2.0, Enable.OFF)], first_tick=900)
    assert one.sha256() == two.sha256()
    assert one.sha256() != record([(0.1, Enable.DRIVE), (0.21, Enable.OFF), (0.3, Enable.BRAKE)]).sha256()
    assert one.sha256() != record([(0.1, Enable.DRIVE), (0.2, Enable.OFF), (0.3, Enable.DRIVE)]).sha256()


def test_file_survives_a_round_trip(tmp_path):
    from safetensors.numpy import load_file

    trajectory = record([(0.1, Enable.DRIVE)] * 4)
    trajectory.write(tmp_path / "t.safetensors")
    rows = load_file(tmp_path / "t.safetensors")
    assert {name: rows[name].shape for name in rows} == {
        "tick": (4,), "counts": (4, 2), "drive": (4, 2), "enable": (4,), "state": (4, 4)
    }  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["t.safetensors"]


def test_a_failed_write_leaves_the_previous_file_alone(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), replacing(path):
        pass  # nothing was written: there is nothing to rename
    assert path.read_text() == "old"
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("file", "new")]
