"""TIFF's Orientation tag, taken out of the way of Pillow.

Pillow (13.0) turns a TIFF image by itself when it loads it, and gives other pixels where it should exchange rows and
columns of a file without compression. So it gets a copy that asks for no turn, and the turn is made afterwards, as for
the other formats.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path

_ORIENTATION, _UPRIGHT = 274, 1


def upright_copy(path: Path) -> tuple[io.BytesIO, int]:
    """The file's content with Orientation 1, and the orientation that it asked for (1 where it has none).

    Raises struct.error for a header that is cut off.
    """
    content = bytearray(path.read_bytes())
    order = "<" if content[:2] == b"II" else ">"
    # classic TIFF (TIFF 6.0 section 2), and BigTIFF with offsets and counts of 8 bytes
    is_big = struct.unpack_from(f"{order}H", content, 2)[0] == 43
    offset = struct.unpack_from(f"{order}{'Q' if is_big else 'L'}", content, 8 if is_big else 4)[0]
    count = struct.unpack_from(f"{order}{'Q' if is_big else 'H'}", content, offset)[0]
    first, size = (offset + 8, 20) if is_big else (offset + 2, 12)
    for entry in range(first, first + count * size, size):
        if struct.unpack_from(f"{order}H", content, entry)[0] == _ORIENTATION:
            # a short stands in the first two bytes of the value
            value = entry + (12 if is_big else 8)
            orientation = struct.unpack_from(f"{order}H", content, value)[0]
            struct.pack_into(f"{order}H", content, value, _UPRIGHT)
            return io.BytesIO(content), orientation
    return io.BytesIO(content), _UPRIGHT
