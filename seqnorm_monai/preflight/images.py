"""The images of a datalist, each read as the training reads it: what cannot be read, sizes, spacings, copies."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from monai.data import MetaTensor
from monai.transforms import Compose

from seqnorm_monai.data.fault_tolerant import FaultTolerantDataset, Rejection
from seqnorm_monai.data.progress import Progress
from seqnorm_monai.preflight.findings import Finding, named


@dataclass
class ImageSurvey:
    """What was seen of the images.

    `unreadable`: path and reason; `sizes`: pixels along each axis, as they are in the file; `spacings`: mm along each
    axis, None where unknown; `copies`: paths of images with the same pixels; `seconds`: to read and transform all.
    """

    looked_at: int = 0
    unreadable: list[Rejection] = field(default_factory=list)
    sizes: list[tuple[int, ...]] = field(default_factory=list)
    spacings: list[tuple[float, ...] | None] = field(default_factory=list)
    copies: list[list[str]] = field(default_factory=list)
    samples: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0


class _Look:
    """A transform behind the loader: it notes what the loader gave, and changes nothing."""

    def __init__(self) -> None:
        self.last: tuple[tuple[int, ...], tuple[float, ...] | None, str] | None = None

    def __call__(self, sample: Mapping[str, Any]) -> Mapping[str, Any]:
        image = sample["image"]
        pixels = np.ascontiguousarray(image)
        digest = hashlib.sha256(repr((pixels.shape, pixels.dtype.str)).encode())
        digest.update(pixels)
        self.last = (tuple(image.shape[1:]), spacing_of(image), digest.hexdigest())
        return sample


def spacing_of(image: object) -> tuple[float, ...] | None:
    """Spacing in mm along each axis, None where the reader says nothing of it."""
    if not isinstance(image, MetaTensor):
        return None
    # a projection has no place in the patient, and may have a spacing all the same
    if not (image.meta.get("has_geometry", True) or image.meta.get("spacing_source")):
        return None
    return tuple(round(float(value), 4) for value in image.pixdim)


def survey(
    items: Sequence[Mapping[str, Any]], transforms: Sequence[Callable[..., Any]], *, num_kept: int
) -> ImageSurvey:
    """Read all items through the transforms, of which the first one loads; keep `num_kept` results for later steps.

    Raises MachineError.
    """
    look, found = _Look(), ImageSurvey()
    data = FaultTolerantDataset(items, Compose([transforms[0], look, *transforms[1:]]))
    paths: dict[str, list[str]] = {}
    start = time.perf_counter()
    with Progress(len(items), "images") as progress:
        for index in range(len(items)):
            look.last = None
            sample = data[index]
            if look.last is not None:
                size, spacing, digest = look.last
                found.sizes.append(size)
                found.spacings.append(spacing)
                paths.setdefault(digest, []).append(str(items[index]["image"]))
            if isinstance(sample, Rejection):
                found.unreadable.append(sample)
            elif len(found.samples) < num_kept:
                found.samples.append(sample)
            progress.add(1)
    found.looked_at = len(items)
    found.seconds = time.perf_counter() - start
    # both sides of one image are two items, and no copies
    found.copies = [list(same) for names in paths.values() if len(same := dict.fromkeys(names)) > 1]
    return found


def image_findings(
    found: ImageSurvey,
    split_of: Mapping[str, str],
    image_size: Sequence[int],
    spacing: Sequence[float] | None = None,
) -> list[Finding]:
    """What cannot be read, images that stand twice, and sizes that do not fit what the network sees.

    `spacing`: mm to which images are resampled before they are cropped to `image_size`, None where they are scaled.
    """
    findings = [
        Finding(True, f"{rejection.path}: {rejection.reason}", "repair the file or take it out of the datalist")
        for rejection in found.unreadable
    ]
    for same in found.copies:
        splits = sorted({split_of[path] for path in same})
        text = f"one image under {len(same)} names: {named(same)}"
        if len(splits) > 1:
            text += f", in the splits {' and '.join(splits)}"
        findings.append(Finding(len(splits) > 1, text, "keep one of them"))
    return findings + (_lost_detail(found, image_size) if spacing is None else _lost_spacing(found, spacing))


def _lost_detail(found: ImageSurvey, image_size: Sequence[int]) -> list[Finding]:
    """Images that are scaled to half of their size or less."""
    median = float(np.median([max(size) for size in found.sizes])) if found.sizes else 0.0
    if median < 2 * max(image_size):
        return []
    text = f"half of the images are {median:.0f} pixels or longer, and the network sees {max(image_size)}"
    return [Finding(False, text, "small findings may be lost: try a larger image_size")]


def _lost_spacing(found: ImageSurvey, spacing: Sequence[float]) -> list[Finding]:
    """Images that are resampled to twice the distance of their voxels or more."""
    known = [min(one) for one in found.spacings if one is not None]
    median = float(np.median(known)) if known else float("inf")
    if min(spacing) < 2 * median:
        return []
    text = f"half of the images have voxels of {median:.2g} mm or less, and the network sees {min(spacing):.2g} mm"
    return [Finding(False, text, "small findings may be lost: try a finer spacing")]


def most_common(values: Sequence[object], most: int = 3) -> str:
    """The values that occur most, with their numbers."""
    counts = Counter(values).most_common()
    text = ", ".join(f"{_text(value)} ({count})" for value, count in counts[:most])
    return text + (f" and {len(counts) - most} others" if len(counts) > most else "")


def _text(value: object) -> str:
    if value is None:
        return "unknown"
    return " x ".join(f"{one:g}" for one in value) if isinstance(value, tuple) else str(value)
