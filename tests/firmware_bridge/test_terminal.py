"""What others wrote (a device, a log, the name of a file) does not steer the terminal it is shown on."""

import pytest
from rich.table import Table

from firmware_bridge.device.identify import print_identity
from firmware_bridge.notices import printable, say
from firmware_bridge.reports.tables import console, two_columns

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\x7f\u202eback"
SHOWN = r"\x1b]0;owned\x07\x1b[2J\x9b31m\x7f\u202eback"


def test_printable_text_stays_as_it_is():
    assert printable("p50 60 us, 3 m/s²\nsecond line") == "p50 60 us, 3 m/s²\nsecond line"
    assert printable(HOSTILE) == SHOWN
    assert printable("\udcff") == r"\udcff"  # a byte of a file name that is no UTF-8


@pytest.mark.parametrize("place", ["title", "name", "value", "header", "line"])
def test_control_characters_of_tables_are_written_out(place, capsys):
    texts = dict.fromkeys(("title", "name", "value", "header"), "sound") | {place: HOSTILE}
    table = Table(texts["header"])
    table.add_row("cell")
    out = console()
    out.width = 120
    out.print(two_columns(texts["title"], [(texts["name"], texts["value"])]))
    out.print(table)
    out.print(HOSTILE if place == "line" else "line")
    shown = capsys.readouterr().out
    assert SHOWN in shown.replace("\n", "")  # a title may be longer than its table
    assert all(each.isprintable() for each in shown.replace("\n", ""))


def test_a_device_with_escapes_in_its_name_is_shown_with_them_written_out(capsys):
    print_identity({"board": "\x1b[2Jfake"})
    assert r"\x1b[2Jfake" in capsys.readouterr().out


def test_notice_is_one_line_without_escapes(capsys):
    say("device says \x1b[31mred\nand more")
    assert capsys.readouterr().err == "device says \\x1b[31mred and more\n"
