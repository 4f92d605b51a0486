"""The table of objectives: what each reads, needs and refuses, on numbers, arrays and tensors alike."""

import dataclasses

import numpy as np
import pytest
import torch

from distill.errors import DistillError
from distill.policy_distillation.objectives import OBJECTIVES, Quantities, check, objective_named

# primes, so that no two sums of them agree by accident
STEP = {
    "reward": 2.0,
    "forward_cross_entropy": 3.0,
    "next_forward_cross_entropy": 5.0,
    "reverse_cross_entropy": 7.0,
    "teacher_log_probability": -11.0,
    "next_teacher_log_probability": -13.0,
    "student_log_probability": -17.0,
    "teacher_value": 19.0,
    "next_teacher_value": 23.0,
    "student_value": 18.0,
}
# (loss, pseudo-reward) of the paper's table at STEP
TABLE = {
    "teacher": (3.0, 0.0),
    "on-policy": (3.0, 0.0),
    "entropy-regularised": (0.0, -11.0),
    "n-distill": (3.0, -5.0),
    "expected-entropy": (7.0, -13.0),
    "teacher-v-reward": (0.0, 2.0 + 23.0 - 19.0),
    "on-policy+r": (3.0, 2.0),
    "n-distill+r": (3.0, 2.0 - 5.0),
    "expected-entropy+r": (7.0, 2.0 - 13.0),
    "on-policy+r+v-cond": (3.0, 2.0),
    "kl-regularised": (0.0, -11.0 + 17.0),
    "td+v": (0.0, 2.0 + 23.0),
}


def test_all_rows_of_the_paper_are_there() -> None:
    assert list(OBJECTIVES) == list(TABLE)
    assert set(STEP) == {field.name for field in dataclasses.fields(Quantities)}
    assert [row.name for row in OBJECTIVES.values() if row.control == "teacher"] == ["teacher"]
    assert [row.name for row in OBJECTIVES.values() if row.one_step] == ["td+v"]


@pytest.mark.parametrize("name", TABLE)
def test_a_row_is_what_the_paper_prints(name: str) -> None:
    row = OBJECTIVES[name]
    step = Quantities(**STEP)
    assert (row.loss(step), row.reward(step)) == TABLE[name]
    arrays = Quantities(**{key: np.full((2, 3), value) for key, value in STEP.items()})
    tensors = Quantities(**{key: torch.full((2, 3), value) for key, value in STEP.items()})
    for found in (arrays, tensors):
        assert np.allclose(np.asarray(row.loss(found)), TABLE[name][0])
        assert np.allclose(np.asarray(row.reward(found)), TABLE[name][1])


@pytest.mark.parametrize("name", TABLE)
def test_a_row_reads_exactly_what_it_declares(name: str) -> None:
    row = OBJECTIVES[name]
    given = Quantities(**{key: STEP[key] for key in row.uses})
    assert (row.loss(given), row.reward(given)) == TABLE[name]
    for term, reads in ((row.loss, row.loss_uses), (row.reward, row.reward_uses)):
        for key in reads:
            with pytest.raises(DistillError, match=f"objective .*: got no {key}, expected"):
                term(dataclasses.replace(given, **{key: None}))


def test_the_teacher_is_left_alone_where_the_student_is_not_worse() -> None:
    row = OBJECTIVES["on-policy+r+v-cond"]
    step = Quantities(**STEP | {"student_value": 19.0})
    assert row.loss(step) == 0.0


def test_needs_follow_from_what_is_read() -> None:
    def names(attribute: str) -> set[str]:
        return {row.name for row in OBJECTIVES.values() if getattr(row, attribute)}

    assert names("needs_environment") == set(TABLE) - {"teacher"}
    assert names("needs_teacher_probabilities") == set(TABLE) - {"teacher-v-reward", "td+v"}
    assert names("needs_teacher_value") == {"teacher-v-reward", "on-policy+r+v-cond", "td+v"}
    assert names("needs_student_value") == {"on-policy+r+v-cond"}
    assert names("uses_reward") == {name for name in TABLE if "+r" in name} | {"teacher-v-reward", "td+v"}
    assert names("has_pseudo_reward") == set(TABLE) - {"teacher", "on-policy"}


@pytest.mark.parametrize(
    ("name", "lacks", "words"),
    [
        ("on-policy", "environment", "got a dataset alone, .* or take teacher$"),
        ("expected-entropy", "teacher_has_probabilities", "or take teacher-v-reward, td\\+v$"),
        ("td+v", "teacher_has_value", "expected V_pi; .* one of teacher, on-policy, entropy-regularised, n-distill,"),
    ],
)
def test_what_the_teacher_cannot_give_is_refused(name: str, lacks: str, words: str) -> None:
    everything = {"teacher_has_probabilities": True, "teacher_has_value": True, "environment": True}
    for row in OBJECTIVES.values():
        check(row, **everything)
    with pytest.raises(DistillError, match=words):
        check(OBJECTIVES[name], **everything | {lacks: False})
    check(OBJECTIVES["teacher"], teacher_has_probabilities=True, teacher_has_value=False, environment=False)


def test_an_unknown_name_is_refused_with_the_valid_ones() -> None:
    assert objective_named("td+v") is OBJECTIVES["td+v"]
    with pytest.raises(DistillError, match="got 'dagger', expected one of teacher, on-policy, "):
        objective_named("dagger")
