"""Files of any kind to arrays, or a refusal with its reason; without torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seqnorm_monai.images.errors import ImageReadError
    from seqnorm_monai.images.image_array import ImageArray, ReadOptions
    from seqnorm_monai.images.inventory import Inventory, take_inventory
    from seqnorm_monai.images.sources import open_sources
    from seqnorm_monai.images.study_image import StudyImage, open_image

_WHERE = {
    "ImageArray": "image_array",
    "ImageReadError": "errors",
    "Inventory": "inventory",
    "ReadOptions": "image_array",
    "StudyImage": "study_image",
    "find_read_error": "errors",
    "open_image": "study_image",
    "open_sources": "sources",
    "take_inventory": "inventory",
}
__all__ = [
    "ImageArray",
    "ImageReadError",
    "Inventory",
    "ReadOptions",
    "StudyImage",
    "find_read_error",
    "open_image",
    "open_sources",
    "take_inventory",
]


def __getattr__(name: str) -> object:
    """A public name, from the module that has it (PEP 562): who lists files does not wait for what exports them."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
