"""One image of a DICOM study, or of a NIfTI file, with its phases."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends

from seqnorm_monai.data.items import StudyImage, load_image
from seqnorm_monai.images.dicom import OtherModalityError
from seqnorm_monai.images.rules import parse_rules


class LoadStudy(Transform):
    """One image of a DICOM study or NIfTI file -> `MetaTensor` (channels, x, y[, z]), float32.

    Takes the path of a file, of a folder, a DICOMDIR or a ZIP archive, or a `seqnorm_monai.data.items.StudyImage`. Axes
    are those of MONAI's readers: x along the columns of a slice, y along the rows, z along the slices; the affine maps
    them to mm in RAS. Phases of a series on one grid (contrast phases, echoes, b-values) are channels, one after the
    other. Values are those of the modality LUT (PS3.3 section C.11.1), MONOCHROME1 inverted, colour as RGB.

    Args:
        selections: rules in the grammar of MONAI Deploy's series selector, see `seqnorm_monai.images.rules`.
        phase: the number of the phase to load, from 1; None for all.
        modalities: those accepted, e.g. ``["MR"]``; an image without Modality is accepted too.

    Raises `seqnorm_monai.images.errors.ImageReadError`: `ImageChoiceError` where a path holds several images and no
    rule chooses one.
    """

    backend = [TransformBackends.NUMPY]  # noqa: RUF012

    def __init__(
        self,
        *,
        selections: Mapping[str, Any] | None = None,
        phase: int | None = None,
        modalities: Sequence[str] | None = None,
    ) -> None:
        if isinstance(modalities, str):
            raise TypeError(f"modalities: a sequence of strings is needed, not the string {modalities!r}")
        self.selections = None if selections is None else parse_rules(selections)
        self.phase = phase
        self.modalities = None if modalities is None else tuple(modalities)

    def __call__(self, source: str | os.PathLike[str] | StudyImage) -> MetaTensor:
        if isinstance(source, StudyImage):
            self._check(source.path, source.entries[0].row.modality)
            return source.load(self.phase)
        if not isinstance(source, (str, os.PathLike)):
            raise TypeError(f"LoadStudy needs a path or a StudyImage, got {type(source).__name__}")
        image = load_image(source, selections=self.selections, phase=self.phase)
        self._check(source, image.meta.get("Modality", ""))
        return image

    def _check(self, path: str | os.PathLike[str], modality: str) -> None:
        if self.modalities is not None and modality and modality not in self.modalities:
            raise OtherModalityError(path, f"Modality {modality}, accepted are {', '.join(self.modalities)}")


class LoadStudyd(MapTransform):
    """`LoadStudy` for the entries `keys` of a dictionary. Raises KeyError that names a missing key."""

    backend = LoadStudy.backend

    def __init__(
        self,
        keys: KeysCollection,
        *,
        selections: Mapping[str, Any] | None = None,
        phase: int | None = None,
        modalities: Sequence[str] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.loader = LoadStudy(selections=selections, phase=phase, modalities=modalities)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.loader(result[key])
        return result
