"""The second paper's figures: verdicts."""

from benchmarks import (
    policy_distillation_tables,
)
from tests.benchmarks.rows import BEGUN


def test_claims_of_the_second_paper_come_with_verdict_and_numbers() -> None:
    claims = [
        {"claim": "p(R|s0)", "reproduced": False, "figures": {"ratio": {"mean": 0.51234, "low": 0.4, "high": 0.6}}},
        {"claim": "two", "reproduced": None, "figures": {"few": {"mean": 1.0, "low": None, "high": None}}},
        {"claim": "three", "reproduced": True, "figures": {"many": {str(number): number for number in range(99)}}},
    ]
    text = policy_distillation_tables.section({"figures": {"fig2": {**BEGUN, "verdicts": claims}}})
    assert "| p(R\\|s0) | **no** | ratio 0.512 (0.4 to 0.6) |" in text
    assert "| two | cannot be said | few 1 |" in text
    assert "| three | yes | see the JSON file |" in text
    assert "![fig2](results/fig2.svg)" in text
