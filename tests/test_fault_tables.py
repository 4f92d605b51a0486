"""docs/faults.md says what docs/results/bridge_faults.json holds, and that holds what was asked for."""

import json

import pytest

from benchmarks import fault_tables
from benchmarks.bridge_faults import ASKED


@pytest.fixture(scope="module")
def stored():
    return json.loads(fault_tables.STORED.read_text(encoding="utf-8"))


def test_page_is_what_the_command_writes(stored):
    page = fault_tables.PAGE.read_text(encoding="utf-8")
    assert fault_tables.filled(page, stored) == page
    other = {**stored, "runs": stored["runs"][:1]}
    assert fault_tables.filled(page, other) != page


def test_twenty_seeds_of_30000_periods_and_one_in_real_time_without_a_violation(stored):
    assert stored["asked"] == ASKED == {"drop": 0.01, "corrupt": 0.005, "jitter_ms": 10.0, "disconnect_every_s": 10.0}
    lockstep = [run for run in stored["runs"] if (run["rates"], run["clock"]) == ("asked", "lockstep")]
    assert sorted(run["seed"] for run in lockstep) == list(range(20))
    assert all(run["simulated_s"] * 50 >= 30_000 for run in lockstep)
    assert [run["rates"] for run in stored["runs"] if run["clock"] == "real"] == ["asked"]
    for run in stored["runs"]:
        assert run["violations"] == []
        assert run["driven"] > 1000
        assert run["proxy"]["cut"] >= 5


def test_ten_minutes_in_shadow_mode_agree(stored):
    assert [row["weights"] for row in stored["shadow"]] == ["int8", "float32"]
    for row in stored["shadow"]:
        assert (row["compared"], row["differences"]) == (30_000, [])


def test_ten_million_bytes(stored):
    assert stored["fuzz"]["bytes"] >= 10_000_000
