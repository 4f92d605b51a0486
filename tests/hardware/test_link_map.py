"""Sizes by module add up to the image."""

import pytest

from hardware.board import BOARDS
from hardware.build import build
from hardware.link_map import module_sizes

WORD = 4


@pytest.mark.cross
@pytest.mark.parametrize(
    ("board", "variant"),
    [(board.name, variant) for board in BOARDS.values() if board.chip for variant in board.variants],
)
def test_the_modules_are_the_whole_image(policy_of, tmp_path, board, variant):
    chip = BOARDS[board].chip
    image = build(policy_of(board), tmp_path, board, variant)
    modules = module_sizes(image.path.with_suffix(".map"), chip)
    assert sum(size.ram_bytes for size in modules.values()) == image.ram_bytes
    # What aligns one section behind another is nobody's.
    assert 0 <= image.flash_bytes - sum(size.flash_bytes for size in modules.values()) <= WORD
    assert modules["safety"].flash_bytes > 500
    assert modules["stack"].ram_bytes == chip.stack_bytes
    assert modules["main"].ram_bytes > 100


@pytest.mark.cross
def test_a_folder_may_have_any_name(policy_folder, tmp_path):
    out = tmp_path / 'two, three = "four" $five'
    image = build(policy_folder, out, "netduinoplus2")
    assert sorted(path.name for path in out.iterdir()) == ["firmware_hil.bin", "firmware_hil.elf", "firmware_hil.map"]
    assert module_sizes(image.path.with_suffix(".map"), BOARDS["netduinoplus2"].chip)["safety"].flash_bytes > 500
