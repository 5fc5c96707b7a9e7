"""Identifiers of studies, series, images and frames of reference: opaque text that tells things apart."""

from __future__ import annotations

import hashlib
import re

# PS3.5 section 9.1
_UID = re.compile(r"[0-2](\.(0|[1-9][0-9]*))+")
_MAX_UID = 64
# Digits and dots as many systems write them although the standard does not allow it: leading zeros, and too long.
_LENIENT_UID = re.compile(r"0*[0-2](\.[0-9]+)+")
_MAX_LENIENT = 256
_REPLACEMENT = "not-a-uid-"
_DIGITS = 16


def is_uid(text: str) -> bool:
    """Whether `text` has the form of a unique identifier (PS3.5 section 9.1)."""
    return len(text) <= _MAX_UID and _UID.fullmatch(text) is not None


def is_replacement(identifier: str) -> bool:
    """Whether an identifier stands for a text that is no UID: nobody promised that it is unique."""
    return identifier.startswith(_REPLACEMENT)


def safe_identifier(value: bytes | str) -> str:
    """`value` where it looks like a UID, else a replacement that tells as much apart.

    What is no UID may be the name of a patient, and may hold any character. Nothing is refused for it: instead of the
    text the first 16 hexadecimal digits of its SHA-256 are used, behind "not-a-uid-". Leading zeros and too many digits
    do not make a UID a name.
    """
    data = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
    text = data.decode("ascii", "replace")
    if not data or (len(text) <= _MAX_LENIENT and _LENIENT_UID.fullmatch(text)):
        return text
    return _REPLACEMENT + hashlib.sha256(data).hexdigest()[:_DIGITS]
