"""Options of a command line that are no paths any more are refused by the name of their argument."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from seqnorm_monai.data import CachedDataset, find_images, load_datalist
from seqnorm_monai.paths import require_path

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
