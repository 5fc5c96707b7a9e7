"""Options of a command line that are no paths any more are refused by the name of their argument."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from seqnorm_monai.data import CachedDataset, find_images, load_datalist
from seqnorm_monai.paths import require_flag, require_path

# what Fire makes of 2024, 1e5, "a,b", None, [x] and True
VALUES = (2024, 100000.0, ("a", "b"), None, ["x"], True)
READERS: dict[str, Callable[[object], object]] = {
    "source": find_images,
    "datalist": lambda value: load_datalist(value, split="test", class_names=["a"]),
    "cache_dir": lambda value: CachedDataset([], [], cache_dir=value),
}


@pytest.mark.parametrize("value", VALUES, ids=str)
def test_what_is_no_path_is_refused_by_name(value: object) -> None:
    with pytest.raises(TypeError, match=r"argument output_dir must be a path; got .*\./2024"):
        require_path(value, "output_dir")


@pytest.mark.parametrize("value", VALUES, ids=str)
@pytest.mark.parametrize("argument", READERS)
def test_every_reader_names_its_argument(argument: str, value: object) -> None:
    if (argument, value) == ("cache_dir", None):
        return
    with pytest.raises(TypeError, match=f"argument {argument} must be a path"):
        READERS[argument](value)


@pytest.mark.parametrize("name", ["2024", "20240105", "1e5", "a,b", "x#1", "None", "@x"])
def test_names_that_look_like_values_are_names(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    folder.mkdir()
    (folder / "text.txt").write_text("no image")
    assert require_path(folder, "source") == str(folder)
    assert len(find_images(folder)) == 1


@pytest.mark.parametrize(
    ("value", "flag"),
    [(True, True), (False, False), ("true", True), ("false", False), ("False", False), ("TRUE", True)],
)
def test_flags_are_true_or_false_as_a_user_writes_them(value: object, flag: bool) -> None:
    assert require_flag(value, "resume") is flag


@pytest.mark.parametrize("value", ["no", "yes", "", 1, 0, None, [True]])
def test_other_flags_are_refused_by_name(value: object) -> None:
    with pytest.raises(TypeError, match="argument resume must be true or false; got"):
        require_flag(value, "resume")
