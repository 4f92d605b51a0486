"""The paper's table, re-derived: gradient fields, fixed points, and the identities between rows."""

from pathlib import Path

import numpy as np
import pytest

from distill.policy_distillation.cycle import ORBIT, VARIANTS, parameter_update, right_at_start, summary
from distill.policy_distillation.expected_update import cross_entropies, expected_update, softmax
from distill.policy_distillation.fields import (
    TEACHER_V_REWARD_PRINTED,
    Finding,
    asymmetry,
    cases,
    fields_table,
    find,
    jacobian,
)
from distill.policy_distillation.finite_mdp import best_values, chain_mdp, random_mdp
from distill.policy_distillation.objectives import OBJECTIVES, Objective, Quantities

# name: (is a gradient field, fixed point)
CHECKED = {
    "teacher": (True, "the teacher"),
    "on-policy": (False, "the teacher"),
    "entropy-regularised": (True, "deterministic"),
    "n-distill": (True, "neither the teacher nor deterministic"),
    "expected-entropy": (True, "deterministic"),
    "teacher-v-reward": (True, "optimal"),
    "on-policy+r": (False, None),
    "n-distill+r": (True, None),
    "expected-entropy+r": (True, None),
    "on-policy+r+v-cond": (False, None),
    "kl-regularised": (True, "the teacher"),
    "td+v": (False, None),
    TEACHER_V_REWARD_PRINTED.name: (False, None),
}


ENDS = {
    "neither the teacher nor deterministic": "not at a soft teacher, nor deterministic",
    "on-policy+r": "can go round for ever",  # figure 2
    "on-policy+r+v-cond": "not worse than the teacher",  # test_where_they_end: its gain
    "td+v": "not worse than the teacher",
}
"""How the page puts what is checked: a fixed point, or where there is none what is checked instead."""


@pytest.fixture(scope="module")
def table() -> dict[str, Finding]:
    return fields_table()


def test_which_updates_are_gradients(table: dict[str, Finding]) -> None:
    assert {name: found.is_field for name, found in table.items()} == {name: row[0] for name, row in CHECKED.items()}
    for name, found in table.items():
        assert found.asymmetry < 1e-8 or found.asymmetry > 1e-2, f"{name}: nothing in between"


def test_where_they_end(table: dict[str, Finding]) -> None:
    for name, (_, fixed_point) in CHECKED.items():
        assert table[name].left < 1e-8, f"{name} has not come to rest"
        if fixed_point is not None:
            assert table[name].fixed_point == fixed_point, name
    for name in ("on-policy+r+v-cond", "td+v"):
        assert table[name].gain > 0.0, f"{name} is worse than its teacher"


def test_a_jacobian_taken_by_differences_is_that_of_the_update() -> None:
    """On one step the update of the entropy regularised row is -pi_th (log pi - E log pi); its Jacobian is known."""
    mdp = random_mdp(0, states=1, actions=3, end=1.0)
    rng = np.random.default_rng(0)
    teacher, logits = softmax(rng.normal(size=(1, 3))), rng.normal(size=(1, 3))
    student, score = softmax(logits)[0], np.log(teacher[0])
    spread = np.diag(student) - np.outer(student, student)
    above = score - student @ score
    known = np.outer(student, student * above) - spread * above[:, None]
    found = jacobian(mdp, OBJECTIVES["entropy-regularised"], teacher, logits)
    assert np.allclose(found, known, atol=1e-9)
    assert asymmetry(np.array([[0.0, 1.0], [-1.0, 0.0]])) == 2.0


@pytest.mark.parametrize("discount", [1.0, 0.9])
@pytest.mark.parametrize("suffix", ["", "+r"])
def test_expected_entropy_is_the_rao_blackwellisation_of_entropy_regularised(discount: float, suffix: str) -> None:
    plain = OBJECTIVES["entropy-regularised"]
    if suffix:
        plain = Objective(
            "entropy-regularised+r",
            "student",
            reward_term=lambda step: step.reward + step.teacher_log_probability,
            reward_uses=frozenset({"reward", "teacher_log_probability"}),
        )
    for mdp, teacher, logits in cases(5):
        first = expected_update(mdp, plain, teacher, logits, discount=discount)
        second = expected_update(mdp, OBJECTIVES["expected-entropy" + suffix], teacher, logits, discount=discount)
        assert np.abs(first).max() > 1e-2
        assert np.abs(first - second).max() < 1e-14 * max(1.0, np.abs(first).max())


def test_discounted_rows_stay_gradients() -> None:
    """Because `next_*` is discounted; without that N-distillation would be none."""
    for mdp, teacher, logits in cases(2):
        for name in ("n-distill", "expected-entropy", "teacher-v-reward"):
            assert asymmetry(jacobian(mdp, OBJECTIVES[name], teacher, logits, 0.9)) < 1e-8
        wrong = Objective(
            "n-distill, next loss not discounted",
            "student",
            OBJECTIVES["n-distill"].loss_term,
            OBJECTIVES["n-distill"].loss_uses,
            lambda step: -step.next_forward_cross_entropy / 0.9,
            frozenset({"next_forward_cross_entropy"}),
        )
        assert asymmetry(jacobian(mdp, wrong, teacher, logits, 0.9)) > 1e-3


def test_gradients_of_the_cross_entropies() -> None:
    rng = np.random.default_rng(1)
    teacher, logits = softmax(rng.normal(size=(2, 4))), rng.normal(size=(2, 4))
    found = cross_entropies(softmax(logits), teacher)
    for index in range(4):
        moved = 1e-6 * np.eye(4)[index]
        up, down = (cross_entropies(softmax(logits + sign * moved), teacher) for sign in (1.0, -1.0))
        assert np.allclose((up.forward - down.forward) / 2e-6, found.forward_gradient[:, index], atol=1e-8)
        assert np.allclose((up.reverse - down.reverse) / 2e-6, found.reverse_gradient[:, index], atol=1e-8)


def test_on_policy_reward_alone_is_the_policy_gradient() -> None:
    """+R with the loss taken away must be the gradient of minus the return, by differences."""
    mdp = chain_mdp(5, left=1.0, right=3.0)
    rng = np.random.default_rng(2)
    logits = rng.normal(size=(5, 2))
    row = Objective("return", "student", reward_term=_reward, reward_uses=frozenset({"reward"}))
    found = expected_update(mdp, row, np.full((5, 2), 0.5), logits)
    for index in range(logits.size):
        moved = (1e-6 * np.eye(logits.size)[index]).reshape(logits.shape)
        up, down = (float(mdp.start @ mdp.values(softmax(logits + sign * moved))) for sign in (1.0, -1.0))
        assert found.ravel()[index] == pytest.approx(-(up - down) / 2e-6, abs=1e-7)


def _reward(step: Quantities) -> object:
    return step.reward


def test_the_best_policy_of_a_corridor_walks_to_the_better_end() -> None:
    values = best_values(chain_mdp(5, left=-10.0, right=10.0, death=0.1))
    assert values.tolist() == pytest.approx([10.0 * 0.9**steps for steps in (5, 4, 3, 2, 1)])


def test_figure_2_cycles_under_on_policy_and_converges_under_n_distill() -> None:
    assert VARIANTS == ("on-policy+r", "n-distill+r")
    assert pytest.approx(0.0716, abs=1e-4) == ORBIT
    assert np.abs(parameter_update("on-policy+r", np.zeros(2))).max() < 1e-15, "(0, 0) is a fixed point"
    round_and_round, settled = (summary(right_at_start(variant)) for variant in VARIANTS)
    assert round_and_round["min"] == pytest.approx(ORBIT, abs=1e-4)
    assert round_and_round["max"] == pytest.approx(1.0 - ORBIT, abs=1e-3)
    assert round_and_round["crossings"] >= 4
    assert settled["last"] >= 0.99
    assert settled["crossings"] == 0


def test_figure_2_moves_as_its_formula_says() -> None:
    for x, y in ((-2.0, -2.0), (0.3, 1.1)):
        p, q = 1.0 / (1.0 + np.exp(-x)), 1.0 / (1.0 + np.exp(-y))
        circling = [p * (1 - p) * (1 - 2 * q), q * (1 - q) * (2 * p - 1)]
        assert np.allclose(-parameter_update("on-policy+r", np.array([x, y])), circling, atol=1e-15)


def test_find_is_of_the_mdps_asked_for() -> None:
    one, three = find(OBJECTIVES["n-distill"], 1), find(OBJECTIVES["n-distill"], 3)
    assert 0.01 < one.teacher_distance <= three.teacher_distance


def test_the_page_says_what_is_checked() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "policy_distillation.md").read_text(encoding="utf-8")
    rows = {
        cells[1].strip().strip("`"): cells
        for cells in (line.replace("\\|", "/").split("|") for line in page.splitlines() if line.startswith("| `"))
    }
    assert list(rows) == list(OBJECTIVES)
    for name, cells in rows.items():
        assert cells[2].strip() == ("pi" if OBJECTIVES[name].control == "teacher" else "pi_th"), name
        assert cells[5].strip() == ("yes" if CHECKED[name][0] else "no"), name
        assert cells[6].strip() == ENDS.get(CHECKED[name][1] or name, CHECKED[name][1] or ""), name
