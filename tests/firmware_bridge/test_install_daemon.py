"""Unit and udev rule: installed where they belong, and right by systemd's own judgement."""

import grp
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from firmware_bridge.config import InstallDaemon, Run
from firmware_bridge.configuration_file import read_configuration
from firmware_bridge.errors import BridgeError
from firmware_bridge.ports.known_devices import _PRODUCTS, _VENDORS
from firmware_bridge.systemd.install_daemon import RULES, UNIT, install_daemon, print_installation

ROOT = Path(__file__).resolve().parents[2]
GROUP = grp.getgrgid(os.getgid()).gr_name


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "bin" / "bpd-bridge"
    path.parent.mkdir()
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def _install(program, tmp_path, **changes):
    return install_daemon(InstallDaemon(**{"destdir": tmp_path / "root", "bridge": program, "group": GROUP, **changes}))


def test_files_go_below_destdir_and_nobody_is_told(program, tmp_path):
    result = _install(program, tmp_path)
    root = tmp_path / "root" / "etc"
    unit = (root / "systemd/system" / UNIT).read_text()
    assert f"ExecStart={program} run --config /etc/bpd-bridge/%i.toml --arm ask --reconnect\n" in unit
    assert f"SupplementaryGroups={GROUP}\n" in unit
    assert f'GROUP="{GROUP}"' in (root / "udev/rules.d" / RULES).read_text()
    example = read_configuration(root / "bpd-bridge/example.toml")
    assert example.keys() == {"port", "policy", "log", "log_rotate_mb", "log_keep_parts"}
    # Days of waiting do not fill a disk; and `run` takes it.
    assert 0 < example["log_rotate_mb"] * example["log_keep_parts"] <= 5_000
    Run(**example)
    assert result["commands"] == []
    for path in result["files"]:
        assert Path(path).stat().st_mode & 0o777 == 0o644
    print_installation(result)
    assert _install(program, tmp_path)["files"] == result["files"]  # again changes nothing


def test_dry_run_says_what_and_does_nothing(program, tmp_path, capsys):
    print_installation(_install(program, tmp_path, dry_run=True))
    assert not (tmp_path / "root").exists()
    assert capsys.readouterr().out.count("would write") == 3
    system_wide = _install(program, tmp_path, dry_run=True, destdir=None)
    assert system_wide["files"][0] == f"/etc/systemd/system/{UNIT}"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"bridge": Path("/nowhere/bpd-bridge")}, "no program, expected the bpd-bridge"),
        ({"bridge": Path(__file__).with_name("conftest.py")}, "no program"),
        ({"group": "no such group"}, "name it with --group"),
    ],
)
def test_refused(changes, text, program, tmp_path):
    with pytest.raises(BridgeError, match=text):
        _install(program, tmp_path, **changes)
    assert not (tmp_path / "root").exists()


def test_path_that_a_unit_cannot_hold(tmp_path):
    path = tmp_path / "my programs%" / "bpd-bridge"
    path.parent.mkdir()
    path.write_text("")
    path.chmod(0o755)
    with pytest.raises(BridgeError, match="cannot hold such a path"):
        _install(path, tmp_path)


def test_program_that_others_cannot_reach_is_warned_of(program, tmp_path):
    program.parent.chmod(0o700)
    assert f"{program.parent} is closed to other users" in _install(program, tmp_path)["warnings"][0]


def test_folder_that_cannot_be_written_is_one_line(program, tmp_path):
    (tmp_path / "root").write_text("a file")
    with pytest.raises(BridgeError, match=r"cannot write \(.*\); expected to be root"):
        _install(program, tmp_path)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze missing: apt-get install systemd")
def test_systemd_finds_nothing_to_say_about_the_unit(program, tmp_path):
    _install(program, tmp_path)
    unit = tmp_path / "root/etc/systemd/system" / UNIT
    instance = unit.with_name("bpd-bridge@cart.service")
    shutil.copy(unit, instance)

    def verify():
        command = ["systemd-analyze", "verify", "--man=no", str(instance)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    done = verify()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    # The witness can say no: a directive that does not exist, a program that does not.
    instance.write_text(unit.read_text().replace("WatchdogSec=", "WatchdogSeconds="))
    assert "'WatchdogSeconds'" in verify().stderr
    program.unlink()
    instance.write_text(unit.read_text())
    assert "is not executable" in verify().stderr


def test_unit_keeps_its_promises():
    text = (ROOT / "firmware_bridge/systemd" / UNIT).read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    for line in (
        *("Type=notify", "DynamicUser=yes", "ProtectSystem=strict", "DevicePolicy=closed", "NoNewPrivileges=yes"),
        *("LimitRTPRIO=80", "LimitMEMLOCK=infinity", "StateDirectory=bpd-bridge/%i", "RestartPreventExitStatus=2"),
    ):
        assert line in lines
    # Braking (at most 250 periods of 20 ms) and closing a log (20 s on a blocked disk) must fit.
    assert int(re.search(r"TimeoutStopSec=(\d+)", text)[1]) >= 25
    assert int(re.search(r"WatchdogSec=(\d+)", text)[1]) >= 25
    assert not any(line.startswith("User=root") for line in lines)


def _udev_verify():
    if shutil.which("udevadm") is None:
        return "udevadm missing: apt-get install udev"
    done = subprocess.run(["udevadm", "verify", "--help"], capture_output=True, check=False)
    return "" if done.returncode == 0 else "this udevadm cannot verify, which came with systemd 254"


@pytest.mark.skipif(bool(_udev_verify()), reason=_udev_verify() or "udevadm verifies")
def test_udev_finds_nothing_to_say_about_the_rules():
    path = ROOT / "firmware_bridge/systemd" / RULES
    done = subprocess.run(["udevadm", "verify", str(path)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


_CLAUSE = re.compile(
    r'(ACTION|SUBSYSTEMS?|DRIVER|GOTO|LABEL|GROUP|MODE|TAG|SYMLINK|RUN|(?:ENV|ATTRS?)\{\w+\})(==|!=|\+=|=)"([^"]*)"'
)
_COMPARED = ("ACTION", "SUBSYSTEM", "SUBSYSTEMS", "DRIVER")


def _rules():
    text = (ROOT / "firmware_bridge/systemd" / RULES).read_text()
    for line in text.splitlines():
        if line and not line.startswith("#"):
            clauses = [_CLAUSE.fullmatch(clause.strip()) for clause in line.split(", ")]
            assert all(clauses), line
            yield [clause.groups() for clause in clauses]


def test_rules_compare_and_assign_what_udev_lets_them():
    labels, jumps = [], []
    for rule in _rules():
        for key, operator, value in rule:
            if key in _COMPARED or key.startswith("ATTRS"):
                assert operator in ("==", "!="), key
            if key in ("GOTO", "LABEL", "GROUP", "MODE"):
                assert operator == "=", key
            labels += [value] if key == "LABEL" else []
            jumps += [value] if key == "GOTO" else []
    assert set(jumps) == set(labels)
    assert len(labels) == 1


def test_rules_know_the_devices_that_list_knows():
    products, vendors = set(), set()
    for rule in _rules():
        attributes = {key: value.split("|") for key, operator, value in rule if key.startswith("ATTRS")}
        for vendor in attributes.get("ATTRS{idVendor}", ()):
            named = attributes.get("ATTRS{idProduct}")
            if named is None:
                vendors.add(int(vendor, 16))
            products |= {(int(vendor, 16), int(product, 16)) for product in named or ()}
    assert products == set(_PRODUCTS)
    assert vendors == set(_VENDORS)


def test_make_install_daemon_prints_what_it_would_do(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = ["make", "--no-print-directory", "-n", "install-daemon", "DRY_RUN=1", f"DESTDIR={tmp_path}", "VENV=/venv"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True, env=environment)
    assert f'/venv/bin/python -m firmware_bridge install-daemon --destdir "{tmp_path}"' in done.stdout
    assert done.stdout.strip().endswith("--dry-run")
    verb = [sys.executable, "-m", "firmware_bridge", "install-daemon", "--destdir", str(tmp_path), "--dry-run"]
    verb += ["--bridge", "/bin/true", "--group", GROUP]
    done = subprocess.run(verb, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.count("would write") == 3
    assert not list(tmp_path.iterdir())
