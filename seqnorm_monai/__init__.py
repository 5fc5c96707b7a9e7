"""Softmax-free attention with sequence normalisation for medical images: networks, readers, data, handlers.

The public names are found when they are first used, so that reading files needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from seqnorm_monai.version import __version__

if TYPE_CHECKING:
    from seqnorm_monai.data import (
        CropBreastd,
        LoadDynamicStudyd,
        LoadRadiographd,
        LoadStudyd,
        find_dynamic_studies,
        find_images,
        load_image,
    )
    from seqnorm_monai.evaluation import evaluate
    from seqnorm_monai.images import ImageReadError
    from seqnorm_monai.networks import SeqNormViT, create_network
    from seqnorm_monai.streaming import SequenceParallel, stream_backward, stream_forward

_WHERE = {
    "CropBreastd": "data",
    "ImageReadError": "images",
    "LoadDynamicStudyd": "data",
    "LoadRadiographd": "data",
    "LoadStudyd": "data",
    "SeqNormViT": "networks",
    "SequenceParallel": "streaming",
    "create_network": "networks",
    "evaluate": "evaluation",
    "find_dynamic_studies": "data",
    "find_images": "data",
    "load_image": "data",
    "stream_backward": "streaming",
    "stream_forward": "streaming",
}
__all__ = [
    "CropBreastd",
    "ImageReadError",
    "LoadDynamicStudyd",
    "LoadRadiographd",
    "LoadStudyd",
    "SeqNormViT",
    "SequenceParallel",
    "__version__",
    "create_network",
    "evaluate",
    "find_dynamic_studies",
    "find_images",
    "load_image",
    "stream_backward",
    "stream_forward",
]


def __getattr__(name: str) -> object:
    """A public name, from the folder that has it (PEP 562)."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE})
