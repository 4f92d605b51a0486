"""The table of verbs leads to functions that exist, for every verb that the command line knows."""

import importlib
from typing import get_args

import pytest

from firmware_bridge import config
from firmware_bridge.command_line import ACTIONS, Verb


def test_every_verb_has_an_action():
    known = {get_args(verb)[0] for verb in get_args(Verb)}
    assert known == {*ACTIONS, config.Run}


@pytest.mark.parametrize(("module", "act", "show"), ACTIONS.values(), ids=lambda name: name)
def test_actions_exist(module, act, show):
    found = importlib.import_module(f"firmware_bridge.{module}")
    assert callable(getattr(found, act))
    assert callable(getattr(found, show))
