"""An optional package that is missing is named with its install line; a broken one speaks for itself."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

from seqnorm_monai.benchmarking.figure import new_figure
from seqnorm_monai.benchmarking.reading import ReadingCase, measure
from seqnorm_monai.data import LoadRadiographd
from seqnorm_monai.images.slides.regions import open_image
from seqnorm_monai.optional import require
from tests.makers.bundles import ROOT

FILES = sorted((ROOT / "seqnorm_monai").rglob("*.py"))


def extras() -> dict[str, set[str]]:
    """Extra -> the packages that it installs, as pyproject.toml says."""
    section = re.search(
        r"^\[project\.optional-dependencies\]\n(.*?)^\[", (ROOT / "pyproject.toml").read_text(), re.M | re.S
    )
    lines = re.findall(r"^(\w+) = \[(.*?)\]", section.group(1), re.M | re.S)
    return {name: set(re.findall(r'"([\w-]+)[>=]', packages)) for name, packages in lines}


def test_the_module_itself() -> None:
    assert require("json.decoder", "test") is sys.modules["json.decoder"]


@pytest.mark.parametrize("module", ["seqnorm_absent", "seqnorm_absent.part"])
def test_missing_package_names_the_command(module: str) -> None:
    message = r"the optional package seqnorm_absent is not installed: pip install 'seqnorm-monai\[slides\]'$"
    with pytest.raises(ImportError, match=message) as caught:
        require(module, "slides")
    assert caught.value.name == "seqnorm_absent"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import seqnorm_absent", "No module named 'seqnorm_absent'"),
        ("from os import seqnorm_absent", "cannot import name"),
        ("raise ImportError('libjpeg.so.8: cannot open shared object file')", "libjpeg"),
    ],
)
@pytest.mark.parametrize("module", ["seqnorm_broken", "seqnorm_broken.part"])
def test_broken_package_speaks_for_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, message: str, module: str
) -> None:
    """The fault lies in the package, or in the module of it that is wanted."""
    folder = tmp_path / "seqnorm_broken"
    folder.mkdir()
    name = "part.py" if "." in module else "__init__.py"
    (folder / "__init__.py").touch()
    (folder / name).write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ImportError, match=message) as caught:
        require(module, "slides")
    assert "pip install" not in str(caught.value)
    sys.modules.pop("seqnorm_broken", None)


def test_absent_part_of_an_installed_package_is_no_missing_package() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'json\.absent'"):
        require("json.absent", "slides")


def _read(tmp_path: Path) -> object:
    return measure(ReadingCase("none", [], LoadRadiographd("image")), repeats=1)


@pytest.mark.parametrize(
    ("package", "extra", "use"),
    [
        ("tifffile", "slides", lambda folder: open_image(folder / "slide.tiff")),
        ("matplotlib", "benchmark", lambda folder: new_figure()),
        ("itk", "benchmark", _read),
    ],
)
def test_where_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, extra: str, use: object
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"{package} is not installed: pip install 'seqnorm-monai\[{extra}\]'"):
        use(tmp_path)


def test_every_call_names_an_extra_that_has_the_package() -> None:
    calls = []
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "require":
                calls.append([argument.value for argument in node.args])
    assert {module.partition(".")[0] for module, _ in calls} == {
        "tifffile",
        "matplotlib",
        "itk",
        "imagecodecs",
        "openpyxl",
    }
    for module, extra in calls:
        assert module.partition(".")[0] in extras()[extra], (module, extra)
