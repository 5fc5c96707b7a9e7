"""Advice on what resampling loses."""

from __future__ import annotations

import pytest

from seqnorm_monai.preflight.images import ImageSurvey, image_findings


@pytest.mark.parametrize(
    ("spacing", "says"),
    [
        ([3.5, 3.5, 5.0], "voxels of 0.7 mm or less, and the network sees 3.5 mm"),
        ([0.7, 0.7, 3.0], ""),
        (None, "half of the images are 448 pixels or longer, and the network sees 40"),
    ],
)
def test_a_crop_is_judged_by_its_spacing(spacing: list[float] | None, says: str) -> None:
    found = ImageSurvey()
    found.sizes, found.spacings = [(448, 448, 160)] * 3, [(0.7, 0.7, 1.2), (0.7, 0.7, 1.2), None]
    findings = image_findings(found, {}, [40, 24, 24], spacing)
    assert [says in str(finding) for finding in findings] == ([True] if says else [])
