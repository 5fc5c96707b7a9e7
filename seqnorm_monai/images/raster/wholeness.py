"""Whether the bytes of a file are all there: Pillow draws what it finds, and leaves the rest black or grey.

PNG: every chunk with its check sum up to the end chunk (PNG specification, third edition, section 5). JPEG: an end of
image marker behind the first scan (ITU-T T.81 annex B). TIFF: a place and a length within the file for every strip or
tile that the image has (TIFF 6.0 sections 3 and 15).
"""

from __future__ import annotations

import math
import os
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seqnorm_monai.images.raster.errors import RasterReadError

_CUT_OFF = "is cut off"
# markers of JPEG that stand alone, without a length
_ALONE = (0x01, *range(0xD0, 0xD8))
_START_OF_SCAN, _END = 0xDA, b"\xff\xd9"
# tags of TIFF
_WIDTH, _HEIGHT, _SAMPLES, _ROWS, _PLANAR = 256, 257, 277, 278, 284
_STRIPS, _TILES = (273, 279), (324, 325)
_TILE_WIDTH, _TILE_HEIGHT = 322, 323


def check_png(path: Path) -> None:
    """Raises RasterReadError unless all chunks are whole."""
    with path.open("rb") as stream:
        stream.seek(8)
        while True:
            head = stream.read(8)
            if len(head) < 8:
                raise RasterReadError(path, f"{_CUT_OFF}: its end chunk is missing")
            (length,) = struct.unpack(">L", head[:4])
            content, check = stream.read(length), stream.read(4)
            if len(check) < 4:
                raise RasterReadError(path, f"{_CUT_OFF}: a chunk is not whole")
            # bit 5 of the first letter: a chunk that readers may leave out
            is_critical = not head[4] & 0x20
            if is_critical and zlib.crc32(content, zlib.crc32(head[4:])) != struct.unpack(">L", check)[0]:
                raise RasterReadError(path, "is damaged: the check sum of a chunk is wrong")
            if head[4:] == b"IEND":
                return


def check_jpeg(path: Path) -> None:
    """Raises RasterReadError unless the image ends with its marker; a thumbnail's marker is none."""
    content = path.read_bytes()
    place = 2
    while place + 4 <= len(content):
        if content[place] != 0xFF:
            raise RasterReadError(path, "is damaged: no marker where one belongs")
        marker = content[place + 1]
        if marker == 0xFF or marker in _ALONE:
            place += 1 if marker == 0xFF else 2
            continue
        place += 2 + struct.unpack(">H", content[place + 2 : place + 4])[0]
        if marker == _START_OF_SCAN:
            break
    if content.find(_END, place) < 0:
        raise RasterReadError(path, f"{_CUT_OFF}: its end marker is missing")


def check_tiff(path: Path, tags: Mapping[int, Any]) -> None:
    """Raises RasterReadError unless each strip or tile has a place in the file; `tags` are those of its page."""
    tiled = _TILES[0] in tags
    places, lengths = (_numbers(tags, tag) for tag in (_TILES if tiled else _STRIPS))
    part = "tile" if tiled else "strip"
    expected = _parts(tags, tiled)
    if len(places) != expected or len(lengths) not in (expected, 0):
        raise RasterReadError(path, f"is damaged: {len(places)} of {expected} {part}s are listed")
    size = os.path.getsize(path)
    # a length that is not told can only be checked by decoding
    for place, length in zip(places, lengths or [1] * expected, strict=True):
        if not place or not length:
            raise RasterReadError(path, f"is damaged: a {part} is missing")
        if place + length > size:
            raise RasterReadError(path, f"{_CUT_OFF}: a {part} lies behind its end")


def _parts(tags: Mapping[int, Any], tiled: bool) -> int:
    """How many strips or tiles an image of this size has."""
    width, height = int(tags[_WIDTH]), int(tags[_HEIGHT])
    planes = int(tags.get(_SAMPLES, 1)) if tags.get(_PLANAR, 1) == 2 else 1
    if tiled:
        return planes * math.ceil(width / int(tags[_TILE_WIDTH])) * math.ceil(height / int(tags[_TILE_HEIGHT]))
    rows = min(int(tags.get(_ROWS, height)), height) or height
    return planes * math.ceil(height / rows)


def _numbers(tags: Mapping[int, Any], tag: int) -> list[int]:
    value = tags.get(tag, ())
    return [int(one) for one in (value if isinstance(value, tuple) else (value,))]
