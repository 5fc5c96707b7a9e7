"""Typed access to the few header elements that an image needs.

The values are taken from the raw bytes of each element instead of through pydicom's conversion, because that one
repairs and warns: its warnings quote the value (which may identify a patient) and become errors under ``-W error``.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.uid import UID

from seqnorm_monai.images.dicom.errors import UnsupportedImageError
from seqnorm_monai.images.dicom.identifiers import is_uid, safe_identifier
from seqnorm_monai.images.dicom.silence import pydicom_silenced
from seqnorm_monai.images.machine_errors import raise_machine_error

# Binary integer value representations, PS3.5 table 6.2-1, as struct formats.
_INTEGER_FORMATS = {"US": "H", "SS": "h", "UL": "L", "SL": "l", "OW": "H"}
_FLOAT_FORMATS = {"FD": "d", "FL": "f"}
# PS3.5 section 6.2: CS is up to 16 of A-Z, 0-9, space and underscore.
_CODE = re.compile(r"[A-Z0-9_ ]{1,16}")
# What stands for a code where none can be relied on: the length of a code string, any printable character.
_LABEL = re.compile(r"[!-~][ -~]{0,15}")


@dataclass(frozen=True)
class Header:
    """The elements read from one file, or from one sequence item in it.

    `transfer_syntax` is empty when the file does not state it. `pixel_offset` is the position in the file of the
    element that holds the pixels (None: there is none, or its position is hidden by the deflated transfer syntax).
    `file`: the open file that the header was read from, as long as its reader keeps it open.
    """

    path: Path
    dataset: Dataset
    little_endian: bool
    transfer_syntax: str = ""
    media_storage_class: str = ""
    pixel_offset: int | None = None
    file: BinaryIO | None = None

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """The file, at any position: the one that is open anyway, or opened for this. Raises OSError."""
        if self.file is not None and not self.file.closed:
            yield self.file
            return
        with self.path.open("rb") as file:
            yield file

    def raw(self, keyword: str) -> tuple[str, bytes] | None:
        """Value representation and bytes of an element; None if it is absent or empty.

        Raises UnsupportedImageError when it is too damaged to be taken out.
        """
        tag = tag_for_keyword(keyword)
        try:
            element = self.dataset.get_item(tag) if tag in self.dataset else None
        # It converts an element of undefined length, whose damaged bytes may raise anything.
        except Exception as error:
            raise_machine_error(error)
            raise self.unusable(keyword, "cannot be read") from None
        value = None if element is None else element.value
        # pydicom itself converts the few elements that it needs for reading, all of them text.
        if isinstance(value, MultiValue):
            value = "\\".join(map(str, value))
        if isinstance(value, str):
            value = value.encode("ascii", "replace")
        # Reading a sequence makes it convert Pixel Representation, for whatever in the items depends on that.
        elif isinstance(value, int):
            value = value.to_bytes(2, "little" if self.little_endian else "big", signed=value < 0)
        if not isinstance(value, bytes) or not value:
            return None
        representation = element.VR
        if representation is None or representation == "UN":
            representation = dictionary_VR(tag)
        return str(representation), value

    def text(self, keyword: str) -> str:
        """The value as text without padding (PS3.5 section 6.2: spaces, NUL for UI), "" if absent."""
        raw = self.raw(keyword)
        return "" if raw is None else raw[1].decode("ascii", "replace").strip(" \0\t\r\n")

    def code(self, keyword: str) -> str:
        """A code string in upper case, "" if absent.

        Raises UnsupportedImageError when the element holds anything that is not a code string.
        """
        value = self.text(keyword).upper()
        if value and not _CODE.fullmatch(value):
            raise self.unusable(keyword, "is not a code string")
        return value

    def label(self, keyword: str) -> str:
        """A code in upper case, in whatever printable characters a system wrote it; "" for what is no short text."""
        value = self.text(keyword).upper()
        return value if _LABEL.fullmatch(value) else ""

    def identifier(self, keyword: str) -> str:
        """An identifier of a study, series, image or frame of reference, "" if absent; see `safe_identifier`."""
        raw = self.raw(keyword)
        return "" if raw is None else safe_identifier(raw[1].strip(b" \0\t\r\n"))

    def integers(self, keyword: str, *, signed: bool = False) -> tuple[int, ...]:
        """The integers of an element; `signed` settles a "US or SS" that the file itself leaves open."""
        raw = self.raw(keyword)
        if raw is None:
            return ()
        representation, value = raw
        if representation == "IS":
            return tuple(self._integer_text(keyword, part) for part in value.decode("ascii", "replace").split("\\"))
        if " or " in representation:
            representation = "SS" if signed and "SS" in representation else "US"
        if representation not in _INTEGER_FORMATS:
            raise self.unusable(keyword, "is not an integer")
        layout = ("<" if self.little_endian else ">") + _INTEGER_FORMATS[representation]
        if len(value) % struct.calcsize(layout):
            raise self.unusable(keyword, "is not an integer")
        return tuple(number for (number,) in struct.iter_unpack(layout, value))

    def integer(self, keyword: str) -> int | None:
        """The single integer of an element, None if absent."""
        values = self.integers(keyword)
        if len(values) > 1:
            raise self.unusable(keyword, "has more than one value")
        return values[0] if values else None

    def frames(self) -> int:
        """Number of Frames; 1 where it is absent, empty or 0, as some writers put it in an image of one frame.

        Raises UnsupportedImageError for what is no whole number, "1.0" being one.
        """
        try:
            return self.integer("NumberOfFrames") or 1
        except UnsupportedImageError:
            values = self._decimals_or_none("NumberOfFrames")
            if len(values) != 1 or not values[0].is_integer():
                raise
            return int(values[0]) or 1

    def decimals(self, keyword: str) -> tuple[float, ...]:
        """The numbers of a decimal string (DS); () if absent. Raises when one is not a finite number."""
        parts = self.text(keyword).split("\\")
        if parts == [""]:
            return ()
        try:
            values = tuple(float(part.strip(" \0")) for part in parts)
        except ValueError:
            raise self.unusable(keyword, "is not a number") from None
        if not all(math.isfinite(value) for value in values):
            raise self.unusable(keyword, "is not a finite number")
        return values

    def numbers(self, keyword: str) -> tuple[float, ...]:
        """The finite numbers of an element of any numeric representation; () if absent."""
        raw = self.raw(keyword)
        if raw is None or raw[0] == "DS":
            return self.decimals(keyword)
        if raw[0] not in _FLOAT_FORMATS:
            return tuple(float(value) for value in self.integers(keyword))
        layout = ("<" if self.little_endian else ">") + _FLOAT_FORMATS[raw[0]]
        if len(raw[1]) % struct.calcsize(layout):
            raise self.unusable(keyword, "is not a number")
        values = tuple(number for (number,) in struct.iter_unpack(layout, raw[1]))
        if not all(math.isfinite(value) for value in values):
            raise self.unusable(keyword, "is not a finite number")
        return values

    def vector(self, keyword: str, count: int) -> tuple[float, ...] | None:
        """`count` numbers, None if absent. Raises UnsupportedImageError for another number of them, or no numbers."""
        values = self.decimals(keyword)
        if values and len(values) != count:
            raise self.unusable(keyword, f"does not have {count} values")
        return values or None

    def positive(self, keyword: str) -> float | None:
        """A length that few images need: what is none is passed over."""
        values = self._decimals_or_none(keyword)
        return values[0] if len(values) == 1 and values[0] > 0 else None

    def spacing_pair(self, keyword: str) -> tuple[float, float] | None:
        """A spacing between rows and between columns; zeros and text, left by anonymisers, are passed over."""
        values = self._decimals_or_none(keyword)
        return (values[0], values[1]) if len(values) == 2 and min(values) > 0 else None

    def first_item(self, keyword: str) -> Header | None:
        """The first item of a sequence, None if the sequence is absent or empty."""
        found = self.items(keyword)
        return found[0] if found else None

    def items(self, keyword: str) -> list[Header]:
        """All items of a sequence, [] if it is absent. Raises UnsupportedImageError if it is none."""
        tag = tag_for_keyword(keyword)
        if tag not in self.dataset:
            return []
        try:
            with pydicom_silenced():
                value = self.dataset[tag].value
        # Damaged items: pydicom raises whatever they led to.
        except Exception as error:
            raise_machine_error(error)
            value = None
        if not isinstance(value, Sequence):
            raise self.unusable(keyword, "is not a sequence")
        return [Header(self.path, item, self.little_endian) for item in value]

    def sop_class_name(self) -> str:
        """The kind of object in words, e.g. "RT Structure Set Storage"."""
        uid = self.text("SOPClassUID") or self.media_storage_class
        if not is_uid(uid):
            return "object of unknown kind"
        name = UID(uid).name
        return "object of a private kind" if name == uid else name

    def unusable(self, keyword: str, problem: str) -> UnsupportedImageError:
        """The error for an element that is named but whose value is not quoted."""
        return UnsupportedImageError(self.path, f"{keyword} {problem}")

    def _decimals_or_none(self, keyword: str) -> tuple[float, ...]:
        try:
            return self.decimals(keyword)
        except UnsupportedImageError:
            return ()

    def _integer_text(self, keyword: str, text: str) -> int:
        try:
            return int(text.strip(" \0"))
        except ValueError:
            raise self.unusable(keyword, "is not an integer") from None
