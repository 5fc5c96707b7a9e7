"""One study in all its storage forms gives the same phases, and the same voxels."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from seqnorm_monai.images import open_sources, take_inventory
from seqnorm_monai.images.dynamic import FoundStudies, find_studies
from seqnorm_monai.images.rules import parse_rules
from tests.makers.dynamic_files import FORMS, PHASES, SECONDS, affine, values


def find(folder: Path, rules: object = None) -> FoundStudies:
    selections = () if rules is None else parse_rules(rules)
    with open_sources(folder) as sources:
        return find_studies(take_inventory(sources), sources, selections)


def sorted_axes(pixels: np.ndarray, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same voxels with z rising: readers of DICOM sort slices along their normal."""
    if matrix[2, 2] > 0:
        return pixels, matrix
    flipped = matrix.copy()
    flipped[:, 3] += (pixels.shape[-1] - 1) * matrix[:, 2]
    flipped[:, 2] *= -1
    return pixels[..., ::-1], flipped


@pytest.mark.parametrize("form", FORMS)
def test_each_form_gives_the_same_phases_and_voxels(form: str, tmp_path: Path) -> None:
    FORMS[form](tmp_path)
    found = find(tmp_path)
    assert [str(error) for error in found.refused] == []
    (study,) = found.studies
    assert [phase.role for phase in study.phases] == ["pre", "post_1", "post_2", "post_3"]
    image = study.read(["pre", "post_1", "post_2", "post_3", "sub_1", "sub_3"])
    truth, matrix = sorted_axes(values(), affine())
    pixels, found_affine = sorted_axes(image.pixels, image.affine)
    np.testing.assert_allclose(found_affine, matrix, atol=1e-5)
    np.testing.assert_array_equal(pixels[:PHASES], truth)
    np.testing.assert_array_equal(pixels[PHASES], truth[1] - truth[0])
    np.testing.assert_array_equal(pixels[PHASES + 1], truth[3] - truth[0])
    assert found.files == ()
    if not form.startswith("NIfTI"):
        assert study.seconds == pytest.approx(SECONDS)
        assert len(study.files) == len(list(tmp_path.rglob("*.dcm")))


def test_only_the_phases_that_are_asked_for_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FORMS["a series each"](tmp_path)
    (study,) = find(tmp_path).studies
    decoded = []
    kind = type(study.phases[0].entry)
    read = kind.read
    monkeypatch.setattr(kind, "read", lambda entry, *a: decoded.append(entry.row.series) or read(entry, *a))
    study.read(["sub_2", "pre", "post_2"])
    assert len(decoded) == 2


@pytest.mark.parametrize(("channel", "reason"), [("post_4", "has no post_4"), ("sub_7", "has no post_7")])
def test_a_channel_that_the_study_lacks_is_named(tmp_path: Path, channel: str, reason: str) -> None:
    FORMS["a series each"](tmp_path)
    (study,) = find(tmp_path).studies
    with pytest.raises(Exception, match=f"{reason} for the channel {channel}: pre, post_1, post_2, post_3"):
        study.read(["pre", channel])
    with pytest.raises(ValueError, match="'late' is none of pre, post_1, sub_1, t2"):
        study.read(["late"])


def test_phases_in_nrrd(tmp_path: Path) -> None:
    """MetaImage and NRRD are told by their names, as NIfTI is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import itk

        for name, pixels in zip(("pre", "post_1"), values(), strict=False):
            itk.imwrite(
                itk.image_from_array(pixels.transpose(2, 1, 0).astype(np.float32)), str(tmp_path / f"{name}.nrrd")
            )
    (study,) = find(tmp_path).studies
    np.testing.assert_array_equal(study.read(["sub_1"]).pixels[0], values()[1] - values()[0])
