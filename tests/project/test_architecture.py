"""The shape of the project: imports go one way, Python lives in the package, the README's tree is true."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

from tests.makers.bundles import ROOT

PACKAGE = ROOT / "seqnorm_monai"

# what each module may import of the package: mathematics knows no network, networks know no DICOM
ALLOWED: dict[str, set[str]] = {
    "reference": set(),
    "positions": set(),
    "recompute": set(),
    "functional": {"recompute"},
    "mixing": set(),
    "paths": {"functional", "mixing"},
    "attention": {"functional", "paths"},
    "layer_map": {"attention", "functional", "paths"},
    "mlp": {"functional"},
    "layers": {"attention", "functional", "layer_map", "mlp"},
    "networks": {"layers", "positions"},
    "tokenwise": {"attention", "layer_map", "layers", "networks"},
    "image_source": set(),
    "token_store": set(),
    "progress": {"files", "functional", "image_source"},
    "streaming": {"functional", "image_source", "layer_map", "networks", "progress", "token_store", "tokenwise"},
    "streaming_training": {
        *("attention", "functional", "image_source", "layer_map", "streaming", "token_store", "tokenwise"),
    },
    "parallel": {"attention", "functional", "layer_map", "networks", "tokenwise"},
    "peers": {"attention", "functional", "paths"},
    "complexity": {"mlp", "paths", "peers", "recompute"},
    "benchmarking": {
        *("benchmarking", "attention", "caching", "complexity", "files", "networks", "peers", "__version__"),
    },
    "caching": {"__version__", "folders"},
    "folders": set(),
    "read_errors": set(),
    "nifti": {"nifti", "read_errors"},
    "dicom": {"dicom", "files", "folders", "nifti", "read_errors"},
    "studies": {"accounting", "dicom", "read_errors"},
    "transforms": {"transforms", "dicom", "studies"},
    "files": set(),
    "datalist_rules": set(),
    "labels_csv": {"datalist_rules"},
    "datalists": {"datalist_rules", "labels_csv", "files"},
    "evaluation": {"files"},
    "metrics": set(),
    "accounting": set(),
    "handlers": {"handlers", "accounting", "evaluation", "files"},
    "__init__": set(),
}


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.splitlines() if (ROOT / name).is_file()]


def module_of(path: Path) -> str:
    """The first part of a module's name below the package."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Everything of this project that a file imports, by full name."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.split(".")[0] in ("seqnorm_monai", "tests", "scripts", "bundles")}


MODULES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path: Path) -> None:
    own = module_of(path)
    for name in imported(path):
        parts = name.split(".")
        assert parts[0] == "seqnorm_monai", f"{path.name} imports {name}"
        assert len(parts) > 1 and parts[1] in ALLOWED[own], f"{own} may not import {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_package_names_no_bundle(path: Path) -> None:
    assert "bundles/" not in path.read_text()


def test_table_of_imports_is_complete() -> None:
    assert {module_of(path) for path in MODULES} == set(ALLOWED)


def test_python_lives_where_it_belongs() -> None:
    homes = {path.relative_to(ROOT).parts[0] for path in tracked() if path.suffix == ".py"}
    assert homes <= {"seqnorm_monai", "scripts", "tests"}


def test_top_level_is_the_fixed_one() -> None:
    top = {path.relative_to(ROOT).parts[0] for path in tracked()}
    visible = {name for name in top if not name.startswith(".")}
    assert visible == {
        "README.md",
        "LICENSE",
        "bundles",
        "seqnorm_monai",
        "scripts",
        "tests",
        "pyproject.toml",
        "constraints.txt",
    }


def test_tree_in_the_readme_is_true() -> None:
    """Every module and every bundle stands in the drawing, and nothing that does not exist does."""
    text = (ROOT / "README.md").read_text()
    drawing = re.search(r"## The tree\n+```\n(.*?)```", text, re.S).group(1)
    for name in {module_of(path) for path in MODULES} - {"__init__"}:
        assert re.search(rf"\b{name}(\.py|/)", drawing), f"{name} is not in the drawing"
    for bundle in (ROOT / "bundles").iterdir():
        assert f"{bundle.name}/" in drawing
    for script in (ROOT / "scripts").glob("*"):
        if script.is_file() and script.name != "common.sh":
            assert script.name in drawing, f"{script.name} is not in the drawing"
    drawn = re.findall(r"[\w/.-]+\.(?:py|sh|toml|txt|md)\b", drawing)
    for name in drawn:
        assert list(ROOT.glob(name)) or list(ROOT.glob(f"*/{name}")), f"{name} does not exist"


def test_files_and_functions_stay_small() -> None:
    """The project's own limits, with room: about 300 lines a file, 40 a function."""
    for path in tracked():
        if path.suffix != ".py" or "tests" in path.parts:
            continue
        text = path.read_text()
        assert text.count("\n") <= 320, f"{path.name} has {text.count(chr(10))} lines"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) and len(node.body) > 1 else node.body
                length = body[-1].end_lineno - body[0].lineno + 1
                assert length <= 50, f"{path.name}: {node.name} has {length} lines"
