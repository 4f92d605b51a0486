"""Success on a grid of wrong plants: what is counted, that jobs change nothing, and refusals."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from distill.errors import DistillError
from distill.robustness import _LONGEST_DELAY, Condition, _wilson, robustness
from distill.robustness_config import RobustnessConfig
from export.student_file import Layer, read_student, write_student

ROOT = Path(__file__).resolve().parents[2]
STUDENT, TEACHER = ROOT / "students" / "cart_rail.safetensors", ROOT / "teachers" / "cart_rail.safetensors"


def little(**changes: object) -> RobustnessConfig:
    config = RobustnessConfig(
        students=(STUDENT,),
        teacher=TEACHER,
        mass_factors=(1.0,),
        length_factors=(0.8, 1.0),
        friction_factors=(1.0,),
        extra_delay_periods=(0, 4),
        episodes=2,
    )
    return dataclasses.replace(config, **changes)


def still(folder: Path) -> Path:
    """A student that does nothing."""
    student = read_student(STUDENT)
    last = student.layers[-1]
    layers = (*student.layers[:-1], Layer(last.weight * 0, last.bias * 0, last.activation))
    write_student(folder / "still.safetensors", dataclasses.replace(student, layers=layers))
    return folder / "still.safetensors"


def test_a_teacher_that_knows_random_plants_holds_where_a_delay_lets_all_fall(tmp_path: Path) -> None:
    result = robustness(little(students=(STUDENT, still(tmp_path))))
    summary = result["summary"]
    assert summary["nominal"]["teacher"]["success"] == summary["extra delay 0"]["teacher"]["success"] == 1.0
    assert summary["nominal"]["students"]["success"] == 0.5
    assert summary["nominal"]["students"]["range"] == [0.0, 1.0], "one of the two never holds"
    assert summary["nominal"]["teacher"]["range"] == [1.0, 1.0]
    assert summary["extra delay 4"]["teacher"]["success"] == 0.0
    assert summary["nominal"]["teacher"]["episodes"] == 2
    assert summary["all"]["students"]["episodes"] == 2 * 2 * 4
    low, high = summary["nominal"]["teacher"]["interval"]
    assert 0.2 < low < 0.5
    assert high == pytest.approx(1.0)
    assert len(result["plants"]) == 4
    both = [plant for plant in result["plants"] if plant["extra_delay_periods"] == 0]
    mean = sum(plant["students"]["success"] for plant in both) / 2
    assert summary["extra delay 0"]["students"]["success"] == mean
    assert not result["at_least_teacher"]
    for each in summary.values():  # two starts are two starts, on one plant or on many, with one student or several
        for policies in ("teacher", "students"):
            low, high = each[policies]["interval"]
            assert high - low > 0.6


def test_the_longest_delay_is_the_plants_own() -> None:
    from distill.environment import EnvironmentSpec

    EnvironmentSpec("hardware:CartRail-v0", {"extra_delay_periods": _LONGEST_DELAY}).make().close()
    with pytest.raises(DistillError, match=f"expected 0 to {_LONGEST_DELAY}"):
        EnvironmentSpec("hardware:CartRail-v0", {"extra_delay_periods": _LONGEST_DELAY + 1}).make()


@pytest.mark.parametrize(("rate", "count", "low", "high"), [(0.5, 10, 0.2366, 0.7634), (1.0, 20, 0.8389, 1.0)])
def test_wilsons_interval(rate: float, count: int, low: float, high: float) -> None:
    assert _wilson(rate, count) == pytest.approx([low, high], abs=1e-4)
    assert _wilson(1.0 - rate, count) == pytest.approx([1.0 - high, 1.0 - low], abs=1e-4)


WITHOUT = """
import gymnasium

class Silent(gymnasium.Wrapper):
    def step(self, action):
        *rest, info = self.env.step(action)
        return *rest, {key: value for key, value in info.items() if key != "upright"}
"""


def test_a_wrapper_that_drops_what_success_is_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "without_upright.py").write_text(WITHOUT)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DistillError, match=r'got no "upright" in the info .*; leave out the --wrapper that drops it'):
        robustness(little(wrapper=("without_upright:Silent",), extra_delay_periods=(0,), length_factors=(1.0,)))


def test_jobs_change_nothing() -> None:
    config = little(extra_delay_periods=(0,))
    assert robustness(config) == robustness(dataclasses.replace(config, jobs=2))


def test_the_nominal_plant_is_the_environment_as_it_is() -> None:
    from distill.environment import EnvironmentSpec
    from distill.rollout import play
    from export.compile import build_policy

    policy = build_policy(read_student(STUDENT)).evaluate_float32
    condition = Condition(1.0, 1.0, 1.0, 0)
    assert condition.nominal
    env = "hardware:CartRail-v0"
    plain = play(EnvironmentSpec(env, {}), policy, range(3))
    on_grid = play(EnvironmentSpec(env, condition.arguments()), policy, range(3))
    assert plain.returns.tolist() == on_grid.returns.tolist()


def test_what_is_no_grid_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.robustness._Players", None)
    copy = Path(shutil.copy(STUDENT, tmp_path / "copy.safetensors"))
    for changes, message in (
        ({"env": "Pendulum-v1"}, "--env: got 'Pendulum-v1', expected a plant of `hardware`"),
        ({"mass_factors": ()}, "--mass-factors: got none, expected at least one"),
        ({"length_factors": (float("nan"),)}, "--length-factors: got nan, expected 0.01 to 100"),
        ({"students": ()}, "--students: got none"),
        ({"episodes": 0}, "--episodes: got 0, expected 1 to"),
        ({"env_kwargs": '{"parameters": {}, "randomise": true}'}, "--env-kwargs: got parameters, randomise, which"),
        ({"env_kwargs": "{bad"}, "--env-kwargs: got '{bad', expected a JSON object"),
        ({"extra_delay_periods": (0, 20)}, "--extra-delay-periods: got 20, expected 0 to 10"),
        ({"extra_delay_periods": (1, 1)}, "--extra-delay-periods: got .1, 1., expected different ones"),
        ({"mass_factors": (1.0, 0.8, 1.0)}, "--mass-factors: got .1.0, 0.8, 1.0., expected different ones"),
        ({"students": (STUDENT, STUDENT)}, "students: got .*, which is the same as .*; name each once"),
        ({"students": (STUDENT, copy)}, "students: got .*, which is the same as .*; name each once"),
    ):
        with pytest.raises(DistillError, match=message):
            robustness(little(**changes))
    student = read_student(STUDENT)
    path = tmp_path / "narrow.safetensors"
    first = Layer(student.layers[0].weight[:, :5].copy(), student.layers[0].bias, "relu")
    write_student(path, dataclasses.replace(student, layers=(first, *student.layers[1:]), history=1))
    with pytest.raises(DistillError, match=r"narrow\.safetensors: got 5 inputs and 1 actions, the environment has 25"):
        robustness(little(students=(path,)))
