"""Pillow keeps the memory of decoded pictures, so much and no more, unless somebody has said otherwise."""

import subprocess
import sys

import pytest

ASK = """
import sys
from PIL import _imaging
from lore_mm.picture_memory import KEPT_BYTES, keep_picture_memory
if len(sys.argv) > 1:
    _imaging.set_blocks_max(int(sys.argv[1]))
keep_picture_memory()
print(_imaging.get_blocks_max(), _imaging.get_block_size() * _imaging.get_blocks_max() <= KEPT_BYTES)
"""


@pytest.mark.parametrize(("said", "kept"), [((), "512 True"), (("7",), "7 True")])
def test_what_is_kept_is_bounded(said, kept):
    done = subprocess.run([sys.executable, "-c", ASK, *said], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == kept
