"""bridge.toml: what is taken, what is refused, who wins, and what `check` says about it."""

import dataclasses
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from fake_device import FakeDevice
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge import configuration_file
from firmware_bridge.check import check, print_check, template
from firmware_bridge.config import Check, Run
from firmware_bridge.configuration_file import configurable_fields, read_configuration, with_configuration
from firmware_bridge.errors import ConfigurationError
from firmware_bridge.field_texts import field_texts
from firmware_bridge.logs.read_log import read_log
from firmware_bridge.loop.policy_folder import open_policy_folder


def _file(tmp_path, text):
    path = tmp_path / "bridge.toml"
    path.write_text(text)
    return path


def test_values_have_the_fields_types_and_paths_belong_to_the_file(tmp_path):
    path = _file(tmp_path, 'port = "sim:"\npolicy = "p"\nlog = "/l"\nduration_s = 3\nseed = 7\nrandomise = true\n')
    values = read_configuration(path)
    assert values == {
        "port": "sim:",
        "policy": tmp_path / "p",
        "log": Path("/l"),
        "duration_s": 3.0,
        "seed": 7,
        "randomise": True,
    }
    assert [type(value) for value in values.values()][3:] == [float, int, bool]
    assert Run(**values).duration_s == 3.0


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("duration = 3", r"unknown key 'duration'; did you mean duration_s\?"),
        ("duration-s = 3", r"unknown key 'duration-s'; did you mean duration_s\?"),
        ("homing_timeout_ms = 3", r"did you mean homing_timeout_s\?"),
        ("zzzzzz = 3", "unknown key 'zzzzzz'; leave it out; `python -m"),
        ("json = true", "unknown key 'json'"),
        ('config = "x"', "unknown key 'config'"),
        ('duration_s = "3"', "duration_s = '3' is text, expected a number"),
        ("duration_s = true", "is true or false, expected a number"),
        ("seed = 1.0", "seed = 1.0 is a number, expected a whole number"),
        ("randomise = 1", "is a whole number, expected true or false"),
        ("port = 5", "expected text"),
        ("policy = 1979-05-27", "is a date or time, expected a path in quotes"),
        ('mode = "hots"', "mode = 'hots' is text, expected one of 'host', 'device', 'shadow'"),
        ("[run]\nseed = 1", "unknown key 'run'"),
        ("seed = [1]", "is a list, expected a whole number"),
        ("seed = {a = 1}", "is a table, expected a whole number"),
        ("seed = ", "not TOML"),
        ("seed = 1\nseed = 2", "not TOML"),
        ("seed = " + "9" * 5000, "not TOML"),
        ("x = " + "[" * 100_000, "not TOML"),
        ("duration_s = " + "9" * 400, "duration_s has 400 digits, expected a number of 64 bits"),
        ("seed = -" + "9" * 400, "seed has 400 digits, expected a whole number of 64 bits"),
        ("baudrate = " + "9" * 20, "baudrate has 20 digits"),
        ("# " + "x" * 1_000_000, "more than 1000000 bytes"),
    ],
)
def test_refused_in_one_line(text, complaint, tmp_path):
    with pytest.raises(ConfigurationError, match=complaint) as caught:
        read_configuration(_file(tmp_path, text))
    assert str(tmp_path) in str(caught.value)
    assert len(" ".join(str(caught.value).splitlines())) < 6000


def test_unreadable_files_say_how_to_get_one(tmp_path):
    for path in (tmp_path / "absent.toml", tmp_path):
        with pytest.raises(ConfigurationError, match="check --template"):
            read_configuration(path)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match="not TOML"):
        read_configuration(tmp_path / "binary.toml")


def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.toml")
    for path in (tmp_path / "pipe.toml", Path("/dev/zero")):
        with pytest.raises(ConfigurationError, match=r"cannot read \(not a regular file\)"):
            read_configuration(path)


def test_byte_order_mark_of_some_editors_is_no_key(tmp_path):
    (tmp_path / "bridge.toml").write_bytes(b'\xef\xbb\xbfport = "sim:"\n')
    assert read_configuration(tmp_path / "bridge.toml") == {"port": "sim:"}


@settings(max_examples=200)
@given(content=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_values_or_a_configuration_error(content, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(content)
    try:
        values = read_configuration(path)
    except ConfigurationError:
        return
    assert set(values) <= set(configurable_fields())


def test_file_comes_first_and_the_command_line_wins(tmp_path):
    path = _file(tmp_path, 'port = "sim:"\nduration_s = -1\nrandomise = true\nreconnect = false\n')
    arguments = ["run", "--duration-s", "2", "--config", str(path), "--no-randomise"]
    assert with_configuration(arguments) == [
        *("run", "--port=sim:", "--duration-s=-1.0", "--randomise", "--no-reconnect"),
        *("--duration-s", "2", "--config", str(path), "--no-randomise"),
    ]
    assert with_configuration(["run", f"--config={path}"])[1] == "--port=sim:"


@pytest.mark.parametrize("arguments", [[], ["run"], ["run", "--config"], ["list", "--config", "x"], ["--help"]])
def test_other_command_lines_are_left_alone(arguments):
    assert with_configuration(arguments) == arguments


@dataclasses.dataclass(frozen=True)
class _Other:
    """A class with the kinds of fields that options may have."""

    pair: tuple[int, float] = (1, 2.0)
    """Two numbers,
    in two lines."""
    many: tuple[str, ...] = ()
    silent: int = 0
    either: int | None = None
    """Perhaps."""


def test_kinds_of_fields_that_run_may_get(tmp_path, monkeypatch):
    monkeypatch.setattr(configuration_file, "Run", _Other)
    path = _file(tmp_path, 'pair = [3, 4]\nmany = ["a", "b"]\neither = 5\n')
    assert read_configuration(path) == {"pair": (3, 4.0), "many": ("a", "b"), "either": 5}
    assert with_configuration(["run", "--config", str(path)])[1:8] == [
        *("--pair", "3", "4.0", "--many", "a", "b", "--either=5"),
    ]
    for text in ("pair = [3]", "pair = [3.5, 4]", "many = [1]", 'either = "x"'):
        with pytest.raises(ConfigurationError):
            read_configuration(_file(tmp_path, text))
    assert field_texts(_Other) == {"pair": "Two numbers, in two lines.", "many": "", "silent": "", "either": "Perhaps."}


def test_every_option_has_a_text():
    texts = field_texts(Run)
    assert set(texts) == {field.name for field in dataclasses.fields(Run)}
    assert all(texts.values())


def test_template_is_a_configuration_and_so_is_every_line_of_it(tmp_path):
    text = template()
    assert read_configuration(_file(tmp_path, text)).keys() == {"port", "policy", "log"}
    everything = re.sub(r"^# (\w+ = )", r"\1", text, flags=re.MULTILINE)
    assert list(tomllib.loads(everything)) == list(configurable_fields())
    values = read_configuration(_file(tmp_path, everything))
    for name, (field, _) in configurable_fields().items():
        if field.default not in (dataclasses.MISSING, None):
            assert values[name] == field.default
    assert max(len(line) for line in text.splitlines()) <= 120


def test_check_explains_every_key_and_what_stands_in_the_way(tmp_path, policy_folder):
    text = f'port = "/dev/ttyNOPE"\npolicy = "{policy_folder}"\nlog = "log"\nduration_s = 99999999\n'
    result = check(Check(file=_file(tmp_path, text)))
    keys = {key["key"]: key for key in result["keys"]}
    assert list(keys) == list(configurable_fields())
    assert (keys["port"]["value"], keys["port"]["source"]) == ("/dev/ttyNOPE", str(tmp_path / "bridge.toml"))
    assert (keys["seed"]["value"], keys["seed"]["source"]) == (0, "default")
    assert "Control periods" in keys["watchdog_periods"]["meaning"]
    findings = {item["what"]: item for item in result["findings"]}
    assert not findings["values"]["ok"]
    assert "--duration-s 1e+08: expected 0.02 to 86400 s" in findings["values"]["text"]
    assert findings["policy"]["ok"]
    assert open_policy_folder(policy_folder).digest[:12] in findings["policy"]["text"]
    assert "does not exist" in findings["port"]["text"]
    assert not result["ok"]
    json.dumps(result)
    print_check(result)


def test_check_looks_at_a_port_without_opening_it(tmp_path, policy_folder, monkeypatch):
    monkeypatch.setattr(os, "open", lambda *_: pytest.fail("opened"))
    with FakeDevice("00" * 32) as device:
        text = f'port = "{device.path}"\npolicy = "{policy_folder}"\nlog = "log"\n'
        result = check(Check(file=_file(tmp_path, text)))
        assert not device.received
    assert result["ok"], result["findings"]


@pytest.mark.parametrize("port", ["socket://127.0.0.1:1", "usb:ffff:ffff", "sim:nothing", "/etc/hostname"])
def test_check_tells_a_port_that_cannot_be_had(port, tmp_path, policy_folder):
    text = f'port = "{port}"\npolicy = "{policy_folder}"\nlog = "log"\n'
    result = check(Check(file=_file(tmp_path, text)))
    finding = next(item for item in result["findings"] if item["what"] == "port")
    assert not finding["ok"]
    assert port in finding["text"]
    assert not result["ok"]


def test_check_of_a_simulated_device_names_what_is_missing(tmp_path, policy_folder, monkeypatch):
    text = f'port = "sim:"\npolicy = "{policy_folder}"\nlog = "log"\n'
    assert check(Check(file=_file(tmp_path, text)))["ok"]
    monkeypatch.setenv("PATH", "/nowhere")
    result = check(Check(file=_file(tmp_path, text)))
    assert "needs the compiler cc; install it" in result["findings"][-1]["text"]


def _bridge(*arguments):
    command = [sys.executable, "-m", "firmware_bridge", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_keys_that_stand_on_the_command_line_only_are_missed_by_name(tmp_path):
    path = _file(tmp_path, "seed = 3\n")
    done = _bridge("check", str(path), "--json")
    assert done.returncode == 1
    assert "port, policy, log: not in the file" in json.loads(done.stdout)["findings"][0]["text"]


def test_wrong_file_ends_a_run_with_the_exit_code_of_wrong_usage(tmp_path):
    path = _file(tmp_path, "durations_s = 3\n")
    for arguments in (("run", "--config", str(path)), ("check", str(path)), ("check",)):
        done = _bridge(*arguments)
        assert done.returncode == 2
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1


def test_run_takes_everything_from_the_file_but_what_was_typed(tmp_path, policy_folder):
    digest = open_policy_folder(policy_folder).digest
    with FakeDevice(digest) as device:
        text = f'port = "{device.path}"\npolicy = "{policy_folder}"\nlog = "log"\nduration_s = 60\nbackend = "csr"\n'
        done = _bridge("run", "--config", str(_file(tmp_path, text)), "--duration-s", "0.4", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["steps"], result["backend"]) == (20, "csr")
    assert result["log"] == str(tmp_path / "log" / "run.mcap")
    assert read_log(tmp_path / "log").session["config"]["config"] == str(tmp_path / "bridge.toml")


def test_template_on_standard_output_is_the_file():
    assert _bridge("check", "--template").stdout == template()
