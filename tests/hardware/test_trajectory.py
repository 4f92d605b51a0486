"""The hash and the upright share of a trajectory."""

import dataclasses
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hardware.errors import HardwareError
from hardware.plants.cart_rail import CartRailPlant
from hardware.plants.edukit import EDUKIT, EdukitPlant
from hardware.protocol import Actuate, Enable, Fault
from hardware.render import read_driven_states, read_plant_name
from hardware.replace import check_writable, replacing
from hardware.trajectory import FORMAT, Trajectory


def record(rows, first_tick=1, fault=Fault.NONE):
    plant, trajectory = CartRailPlant(), Trajectory()
    for offset, (angle, enable) in enumerate(rows):
        plant.reset(0.0, angle)
        trajectory.append(first_tick + offset, plant, Actuate(first_tick + offset, 1.0, 0.0, enable, fault))
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
    assert one.sha256() != record(middle, fault=Fault.WATCHDOG).sha256()


def test_file_survives_a_round_trip(tmp_path):
    from safetensors.numpy import load_file

    trajectory = record([(0.1, Enable.DRIVE)] * 4)
    trajectory.write(tmp_path / "t.safetensors")
    rows = load_file(tmp_path / "t.safetensors")
    assert {name: rows[name].shape for name in rows} == {
        "tick": (4,), "counts": (4, 2), "drive": (4, 2), "enable": (4,), "fault": (4,), "state": (4, 4), "plant": (9,)
    }  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["t.safetensors"]


def test_a_failed_write_leaves_the_previous_file_alone(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(HardwareError, match="cannot write"), replacing(path):
        pass  # nothing was written: there is nothing to rename
    assert path.read_text() == "old"
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("file", "new")]


def test_a_full_disk_leaves_no_temporary_file(tmp_path):
    path = tmp_path / "t.safetensors"
    path.write_bytes(b"old")
    program = (
        "import resource, sys; from pathlib import Path; from hardware.replace import replacing\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "with replacing(Path(sys.argv[1])) as temporary: temporary.write_bytes(bytes(1000))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=False)
    assert f"HardwareError: cannot write {path}: got File too large" in done.stderr
    assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [("t.safetensors", b"old")]


def test_places_that_cannot_be_written_are_named(tmp_path):
    for path in (tmp_path, Path("/proc/x"), tmp_path / "file" / "below"):
        (tmp_path / "file").touch()
        with pytest.raises(HardwareError, match=f"cannot write {path}: got .*, expected .*; "):
            check_writable(path)
    check_writable(tmp_path / "new" / "file")
    assert list((tmp_path / "new").iterdir()) == []


def test_same_rows_give_the_same_bytes_in_every_process(tmp_path):
    program = (
        "import sys; from pathlib import Path; from hardware.trajectory import Trajectory\n"
        "Trajectory().write(Path(sys.argv[1]))\n"
    )
    for name in ("a", "b", "c"):
        subprocess.run([sys.executable, "-c", program, tmp_path / name], check=True)
    assert len({(tmp_path / name).read_bytes() for name in ("a", "b", "c")}) == 1


def test_the_file_names_its_plant(tmp_path):
    from safetensors.numpy import load_file, save_file

    path = tmp_path / "t.safetensors"
    plant, trajectory = EdukitPlant(), Trajectory(EDUKIT)
    for tick in range(1, 11):
        trajectory.append(tick, plant, Actuate(tick, 1.0, 0.0, Enable.DRIVE, 0))
        plant.step(30.0)
    trajectory.write(path)
    assert read_plant_name(path) == "edukit"
    rows = load_file(path)
    assert rows["state"][-1, 0] == pytest.approx(rows["counts"][-1, 0] / EDUKIT.axis_counts_per_unit, abs=1e-3)
    save_file({"state": rows["state"]}, path)  # written before plants had names
    assert read_plant_name(path) == "cart_rail"
    save_file({"plant": np.frombuffer(b"acrobot", dtype=np.uint8), **{n: rows[n] for n in ("state", "enable")}}, path)
    assert read_plant_name(path) == "acrobot"
    save_file({"plant": np.array([255], dtype=np.uint8)}, path)
    with pytest.raises(HardwareError, match="its plant cannot be read"):
        read_plant_name(path)


def test_upright_is_judged_in_the_plants_own_periods():
    constants = dataclasses.replace(EDUKIT, period_us=10_000)
    plant, trajectory = EdukitPlant(), Trajectory(constants)
    for tick in range(1, 401):  # the last 3 s are 300 periods, of which the rod stands in the last 150
        plant.reset(0.0, math.pi if tick <= 250 else 0.0)
        trajectory.append(tick, plant, Actuate(tick, 0.0, 0.0, Enable.DRIVE, 0))
    assert trajectory.upright_fraction() == 0.5


def test_driven_states_are_read_back(tmp_path):
    path = tmp_path / "t.safetensors"
    record([(0.1, Enable.OFF), (0.2, Enable.DRIVE), (0.3, Enable.BRAKE), (0.4, Enable.DRIVE)]).write(path)
    np.testing.assert_allclose(read_driven_states(path)[:, 1], [0.2, 0.4])


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"format": None}, "got format None"),
        ({"format": "bpd-student"}, "got format 'bpd-student'"),
        ({"state": None}, "state"),
        ({"enable": None}, "enable"),
        ({"state": np.zeros((3, 4), np.float32)}, "state is float32"),
        ({"state": np.zeros((3, 3))}, r"state is float64 \(3, 3\)"),
        ({"state": np.zeros(12)}, r"state is float64 \(12,\)"),
        ({"state": np.full((3, 4), np.nan)}, r"state\[0, 0\] is nan"),
        ({"state": np.array([[0.0] * 4, [0.0] * 4, [0.0, 0.0, 0.0, np.inf]])}, r"state\[2, 3\] is inf"),
        ({"enable": np.full(2, Enable.DRIVE, np.uint8)}, r"enable is uint8 \(2,\)"),
        ({"enable": np.full(3, Enable.DRIVE, np.int32)}, "enable is int32"),
        ({"enable": np.zeros(3, np.uint8)}, "no driven period"),
        ({"state": np.zeros((0, 4)), "enable": np.zeros(0, np.uint8)}, "no driven period"),
    ],
)
def test_files_that_are_no_run_are_refused_in_one_line(changes, text, tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / "t.safetensors"
    tensors = {"state": np.zeros((3, 4)), "enable": np.full(3, Enable.DRIVE, np.uint8), "format": FORMAT, **changes}
    name = tensors.pop("format")
    kept = {key: value for key, value in tensors.items() if value is not None}
    save_file(kept, path, metadata=None if name is None else {"format": name})
    with pytest.raises(HardwareError, match=text) as caught:
        read_driven_states(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_safetensors_are_refused(tmp_path):
    (tmp_path / "broken").write_bytes(b"\xff" * 40)
    (tmp_path / "empty").touch()
    for path in (tmp_path / "broken", tmp_path / "empty", tmp_path / "absent", tmp_path):
        with pytest.raises(HardwareError, match="cannot be read"):
            read_driven_states(path)
