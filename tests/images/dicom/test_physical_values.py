"""CT numbers and activities do not depend on which end of them is shown white."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import uid

from seqnorm_monai.images.dicom.series import read_studies
from seqnorm_monai.images.image_array import ReadOptions
from seqnorm_monai.images.sources import SourceFile
from tests.makers.dicom_files import ramp

Make = Callable[..., Path]
HU = {"PhotometricInterpretation": "MONOCHROME1", "RescaleSlope": "1", "RescaleIntercept": "-1024"}


@pytest.mark.parametrize(
    ("sop_class", "modality", "kept"),
    [
        (uid.CTImageStorage, "CT", True),
        (uid.CTImageStorage, "", True),
        (uid.PositronEmissionTomographyImageStorage, "PT", True),
        (uid.EnhancedPETImageStorage, "PT", True),
        (uid.SecondaryCaptureImageStorage, "CT", True),
        (None, "PT", True),
        (uid.MRImageStorage, "MR", False),
        (uid.DigitalXRayImageStorageForPresentation, "DX", False),
        # a projection whatever its Modality says
        (uid.ComputedRadiographyImageStorage, "CT", False),
    ],
)
@pytest.mark.parametrize("signed", [False, True])
def test_polarity(make_dicom: Make, sop_class: str | None, modality: str, kept: bool, signed: bool) -> None:
    values = ramp(12, signed=signed)
    path = make_dicom(values, signed=signed, SOPClassUID=sop_class, Modality=modality, **HU)
    (volume,) = read_studies([SourceFile("a", path)]).volumes
    reflected = (-1 if signed else 4095) - values
    np.testing.assert_array_equal(volume.read().pixels[0].squeeze(), (values if kept else reflected).T - 1024)
    shown = volume.read(ReadOptions(apply_voi=True)).pixels[0].squeeze()
    np.testing.assert_allclose(shown, (reflected.T + 2048 * signed) / 4095, atol=1e-6)


def test_slope_by_slice(make_dicom: Make) -> None:
    """PET rescales every slice by itself."""
    for slope in ("0.5", "2.25"):
        attributes = {**HU, "RescaleSlope": slope, "RescaleIntercept": "0"}
        path = make_dicom(ramp(12), SOPClassUID=uid.PositronEmissionTomographyImageStorage, Modality="PT", **attributes)
        (volume,) = read_studies([SourceFile("a", path)]).volumes
        np.testing.assert_array_equal(volume.read().pixels[0].squeeze(), ramp(12).T * float(slope))
