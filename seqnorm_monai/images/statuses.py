"""What may become of a file, in the words of `FileRecord.status`."""

from __future__ import annotations

# in an image; in order, but no image that is wanted; not to be read
USED, SET_ASIDE, REJECTED = "used", "set_aside", "rejected"
