"""Files to tensors inside a MONAI pipeline: any image of a study, or one radiograph."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends

from seqnorm_monai.data.tensors import to_metatensor
from seqnorm_monai.images.dicom.errors import OtherModalityError
from seqnorm_monai.images.image_array import ImageArray, ReadOptions
from seqnorm_monai.images.rules import parse_rules
from seqnorm_monai.images.study_image import StudyImage, check_radiograph, open_image, read_radiograph

Source = str | os.PathLike[str] | StudyImage


def load_image(source: Source, *, selections: Mapping[str, Any] | None = None, phase: int | None = None) -> MetaTensor:
    """Read the one image of a file, folder, DICOMDIR or ZIP archive: `LoadStudy` for a single call."""
    return LoadStudy(selections=selections, phase=phase)(source)


class LoadStudy(Transform):
    """One image of a DICOM study, or of a NIfTI, PNG, JPEG or TIFF file -> `MetaTensor` (channels, x, y[, z]), float32.

    Takes the path of a file, of a folder, a DICOMDIR, a ZIP archive or a member of one, or a `StudyImage` of
    `seqnorm_monai.data.find_images`. Axes are those of MONAI's readers: x along the columns of a slice, y along the
    rows, z along the slices; the affine maps them to mm in RAS. Phases of a series on one grid (contrast phases,
    echoes, b-values) are channels, one after the other. Values are those of the modality LUT (PS3.3 section C.11.1),
    MONOCHROME1 inverted, colour as RGB.

    Args:
        selections: rules in the grammar of MONAI Deploy's series selector, see `seqnorm_monai.images.rules`.
        phase: the number of the phase to load, from 1; None for all.
        modalities: those accepted, e.g. ``["MR"]``; an image without Modality is accepted too.
        apply_voi, fill_padding: see `seqnorm_monai.images.image_array.ReadOptions`.

    Raises `seqnorm_monai.images.errors.ImageReadError`: `ImageChoiceError` where a path holds several images and no
    rule chooses one. Inside a `Compose`, `seqnorm_monai.images.find_read_error` gets at it.
    """

    backend = [TransformBackends.NUMPY]  # noqa: RUF012

    def __init__(
        self,
        *,
        selections: Mapping[str, Any] | None = None,
        phase: int | None = None,
        modalities: Sequence[str] | None = None,
        apply_voi: bool = False,
        fill_padding: bool = False,
    ) -> None:
        if isinstance(modalities, str):
            raise TypeError(f"modalities: a sequence of strings is needed, not the string {modalities!r}")
        self.selections = None if selections is None else parse_rules(selections)
        self.phase = phase
        self.modalities = None if modalities is None else tuple(modalities)
        self.options = ReadOptions(apply_voi=apply_voi, fill_padding=fill_padding)

    def __call__(self, source: Source) -> MetaTensor:
        if isinstance(source, StudyImage):
            return self._read(source)
        if not isinstance(source, (str, os.PathLike)):
            raise TypeError(f"{type(self).__name__} needs a path or a StudyImage, got {type(source).__name__}")
        with open_image(source, selections=self.selections) as image:
            return self._read(image)

    def _read(self, image: StudyImage) -> MetaTensor:
        self._check(image)
        return to_metatensor(self._decode(image))

    def _decode(self, image: StudyImage) -> ImageArray:
        return image.read(self.phase, self.options)

    def _check(self, image: StudyImage) -> None:
        """Refuse, before anything is decoded, an image of another kind."""
        if self.modalities is not None and image.modality and image.modality not in self.modalities:
            raise OtherModalityError(
                image.path, f"Modality {image.modality}, accepted are {', '.join(self.modalities)}"
            )


class LoadRadiograph(LoadStudy):
    """One grey projection out of a DICOM, PNG, JPEG or TIFF file -> `MetaTensor` (1, x, y), float32, the largest value
    shown white.

    `LoadStudy` with padding filled (dark like air), which refuses volumes, several frames, colour, masks and NIfTI by
    name. RGB with three equal channels is grey, and becomes one channel. Without geometry, as projections are, the
    affine holds the spacing in mm alone, 1 where it is unknown.
    """

    def __init__(self, *, apply_voi: bool = False, modalities: Sequence[str] | None = None) -> None:
        super().__init__(modalities=modalities, apply_voi=apply_voi, fill_padding=True)

    def _check(self, image: StudyImage) -> None:
        super()._check(image)
        check_radiograph(image)

    def _decode(self, image: StudyImage) -> ImageArray:
        return read_radiograph(image, self.options)


class _LoadImaged(MapTransform):
    """A loader for the entries `keys` of a dictionary. Raises KeyError that names a missing key."""

    backend = LoadStudy.backend

    def __init__(self, keys: KeysCollection, loader: LoadStudy, allow_missing_keys: bool) -> None:
        super().__init__(keys, allow_missing_keys)
        self.loader = loader

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.loader(result[key])
        return result


class LoadStudyd(_LoadImaged):
    """`LoadStudy` for the entries `keys` of a dictionary. Raises KeyError that names a missing key."""

    def __init__(
        self,
        keys: KeysCollection,
        *,
        selections: Mapping[str, Any] | None = None,
        phase: int | None = None,
        modalities: Sequence[str] | None = None,
        apply_voi: bool = False,
        fill_padding: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        loader = LoadStudy(
            selections=selections,
            phase=phase,
            modalities=modalities,
            apply_voi=apply_voi,
            fill_padding=fill_padding,
        )
        super().__init__(keys, loader, allow_missing_keys)


class LoadRadiographd(_LoadImaged):
    """`LoadRadiograph` for the entries `keys` of a dictionary. Raises KeyError that names a missing key."""

    def __init__(
        self,
        keys: KeysCollection,
        *,
        apply_voi: bool = False,
        modalities: Sequence[str] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, LoadRadiograph(apply_voi=apply_voi, modalities=modalities), allow_missing_keys)
