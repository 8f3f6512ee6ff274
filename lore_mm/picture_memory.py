"""The memory of decoded pictures, used again by the next ones instead of being given back page by page.

A setting of Pillow, for the whole process. This module does not know what is decoded.
"""

from __future__ import annotations

from PIL import _imaging

__all__ = ["KEPT_BYTES", "keep_picture_memory"]

# A picture of 512 × 512 pixels, at four bytes a pixel, is one block; larger ones take several.
_BLOCK_BYTES, _BLOCKS = 1024 * 1024, 512
KEPT_BYTES = _BLOCK_BYTES * _BLOCKS  # the most that is kept, whatever was decoded


def keep_picture_memory() -> None:
    """Let Pillow keep the memory that pictures leave, KEPT_BYTES at most, from now on.

    For jobs, which decode some hundred pictures, drop them, and decode as many again: otherwise the system takes back
    and clears each page in between. Where PILLOW_BLOCKS_MAX is set, or other code has said, it stays as it is.
    """
    if _imaging.get_blocks_max() == 0:
        _imaging.set_block_size(_BLOCK_BYTES)  # first, as Pillow bounds the number of blocks and the size of each
        _imaging.set_blocks_max(_BLOCKS)
