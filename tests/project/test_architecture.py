"""The shape of the project: imports go one way, Python lives in the package, the README's tree is true."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from tests.makers.bundles import ROOT

PACKAGE = ROOT / "seqnorm_monai"

# what everything in images/ stands on
GROUND = ("images.errors", "images.machine_errors", "images.records", "images.image_array")
# What a room may import of the package, beside itself. A module's own rule is the one with the longest name that its
# name starts with; a name allows all that starts with it.
ALLOWED: dict[str, tuple[str, ...]] = {
    "": ("version",),
    "version": (),
    "atomic_files": (),
    "file_locks": (),
    "optional": (),
    "paths": ("monai_options",),
    "attention": (),
    "networks": ("attention",),
    "streaming": ("attention", "networks", "images.slides.regions", "atomic_files"),
    "evaluation": ("atomic_files",),
    # nothing in the package needs a generated study
    "phantoms": (),
    "data": ("images", "atomic_files", "file_locks", "optional", "paths", "version"),
    "handlers": (
        *("data", "evaluation", "images.records", "images.machine_errors"),
        *("atomic_files", "file_locks", "paths", "version"),
    ),
    "benchmarking": ("attention", "networks", "streaming", "data", "images", "atomic_files", "optional", "version"),
    # the formats do not know each other
    "monai_options": (),
    "refusals": ("monai_options",),
    "preflight": ("data", "handlers", "images.errors", "images.machine_errors", "atomic_files", "paths"),
    "commands": ("data", "images", "preflight", "atomic_files", "refusals", "version"),
    "__main__": ("commands",),
    "images.errors": (),
    "images.machine_errors": (),
    "images.records": (),
    "images.image_array": (),
    "images.rules": (),
    "images.unpacked": (),
    "images.folders": ("images.machine_errors",),
    "images.dicom": (*GROUND, "atomic_files", "optional"),
    "images.nifti": GROUND,
    "images.raster": GROUND,
    "images.documents": ("images.machine_errors",),
    "images.itk_volume": GROUND,
    "images.slides": ("optional",),
    "images.archives": (*GROUND, "images.dicom.errors"),
    "images.sources": (*GROUND, "images.archives", "images.dicom", "images.folders", "images.unpacked", "paths"),
    "images.rows": (*GROUND, "images.dicom", "images.itk_volume", "images.nifti", "images.raster"),
    "images.entries": (*GROUND, "images.rows"),
    "images.lone_files": (
        *(*GROUND, "images.documents", "images.entries", "images.itk_volume", "images.nifti", "images.raster"),
        *("images.rows", "images.sources"),
    ),
    "images.inventory": (
        *(*GROUND, "images.dicom", "images.entries", "images.lone_files"),
        *("images.rows", "images.rules", "images.sources"),
    ),
    "images.study_image": (
        *(*GROUND, "images.inventory", "images.raster"),
        *("images.rules", "images.sources", "images.unpacked"),
    ),
    "images.dynamic": (
        *(*GROUND, "images.dicom.volume", "images.inventory", "images.rules"),
        *("images.sources", "images.unpacked"),
    ),
    "images.export": (*GROUND, "images.inventory", "images.rows", "atomic_files"),
    "images.terminal_table": (*GROUND, "images.inventory", "images.rows", "atomic_files"),
    "images.__main__": ("images",),
    "images": ("images.errors",),
}
# Inside images/dicom: the floors from the ground up; a module imports from its own floor and from those below.
DICOM_FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors", "silence", "geometry", "identifiers", "processes"),
    ("header",),
    ("open", "sop_classes", "phase_attributes", "pixels"),
    ("functional_groups", "rule_attributes", "encoding", "dicomdir", "write"),
    ("plane",),
    ("instance", "load_planes", "stacks"),
    ("copies", "phases", "volume"),
    ("scan",),
    ("series",),
    ("__init__",),
)


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.splitlines() if (ROOT / name).is_file()]


def module_of(path: Path) -> str:
    """The name of a module below the package, "" for the package itself."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip(".")


def starts_with(name: str, prefix: str) -> bool:
    return not prefix or name == prefix or name.startswith(f"{prefix}.")


def rule_of(module: str) -> str:
    return max((rule for rule in ALLOWED if starts_with(module, rule)), key=len)


def is_typing_block(node: ast.AST) -> bool:
    """What only a type checker imports is no arrow."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def nodes_of(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if not is_typing_block(node):
            yield node
            yield from nodes_of(node)


def imported(path: Path) -> set[str]:
    """Everything of this project that a file imports, by full name."""
    names: set[str] = set()
    for node in nodes_of(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.split(".")[0] in ("seqnorm_monai", "tests", "scripts", "bundles")}


MODULES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path: Path) -> None:
    rule = rule_of(module_of(path))
    for name in imported(path):
        root, _, rest = name.partition(".")
        assert root == "seqnorm_monai", f"{path.name} imports {name}"
        allowed = any(starts_with(rest, prefix) for prefix in (*ALLOWED[rule], rule) if prefix)
        assert allowed, f"{rule} may not import {name}"


def floor_of(module: str) -> int:
    """The floor of a module inside images/dicom, by the first part of its name there."""
    part = module.removeprefix("images.dicom").lstrip(".").split(".")[0] or "__init__"
    return next(floor for floor, parts in enumerate(DICOM_FLOORS) if part in parts)


DICOM = [path for path in MODULES if starts_with(module_of(path), "images.dicom")]


@pytest.mark.parametrize("path", DICOM, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_floors_inside_dicom(path: Path) -> None:
    own = floor_of(module_of(path))
    for name in imported(path):
        target = name.removeprefix("seqnorm_monai.")
        if starts_with(target, "images.dicom"):
            assert floor_of(target) <= own, f"{module_of(path)} imports {target} from a floor above"


def arrows() -> dict[str, set[str]]:
    """Module -> modules that it imports."""
    names = {module_of(path): path for path in MODULES}
    found: dict[str, set[str]] = {}
    for module, path in names.items():
        targets = {name.removeprefix("seqnorm_monai.") for name in imported(path)}
        known = {max((n for n in names if starts_with(target, n)), key=len) for target in targets}
        found[module] = known - {module}
    return found


def test_no_circle_between_modules() -> None:
    remaining = arrows()
    while ground := {module for module, targets in remaining.items() if not targets & remaining.keys()}:
        remaining = {module: targets for module, targets in remaining.items() if module not in ground}
    assert not remaining, f"circles among {sorted(remaining)}"


@pytest.mark.parametrize("room", ["images", "evaluation"])
def test_rooms_without_torch(room: str) -> None:
    """Every module of the room, imported in a fresh process."""
    names = [f"seqnorm_monai.{module_of(path)}" for path in MODULES if starts_with(module_of(path), room)]
    code = f"import sys; [__import__(name) for name in {names!r}]; print({{'torch', 'monai'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_package_itself_imports_nothing() -> None:
    code = "import sys; before = set(sys.modules); import seqnorm_monai; print(len(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 20


def test_public_names_exist() -> None:
    for folder in ("", ".attention", ".data", ".images", ".networks", ".streaming"):
        package = import_module(f"seqnorm_monai{folder}")
        for name in package.__all__:
            assert getattr(package, name) is not None
        with pytest.raises(AttributeError, match="no attribute 'absent'"):
            package.absent  # noqa: B018


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_optional_packages_are_imported_in_one_place(path: Path) -> None:
    """By seqnorm_monai.optional, which says how to install them."""
    for node in nodes_of(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {node.module.partition(".")[0]}
        else:
            continue
        assert not names & {"tifffile", "imagecodecs", "matplotlib", "onnx", "onnxscript", "jsonschema"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_package_names_no_bundle(path: Path) -> None:
    assert "bundles/" not in path.read_text()


def test_rules_name_what_exists() -> None:
    modules = {module_of(path) for path in MODULES}
    for rule in ALLOWED:
        assert any(starts_with(module, rule) for module in modules), f"{rule} does not exist"
    parts = {
        module.removeprefix("images.dicom").lstrip(".").split(".")[0] or "__init__" for module in map(module_of, DICOM)
    }
    assert parts == {part for floor in DICOM_FLOORS for part in floor}


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
    """Each folder of the package stands in the drawing, with the first sentence of its docstring."""
    text = (ROOT / "README.md").read_text()
    drawing = re.search(r"## The tree\n+```\n(.*?)```", text, re.S).group(1)
    drawn: dict[str, str] = {}
    parents: list[str] = []
    for line in drawing.splitlines():
        indent, name, says = re.fullmatch(r"( *)(\S+)/ +(.*)", line).groups()
        parents = [*parents[: len(indent) // 2], name]
        drawn["/".join(parents)] = says
    for path in MODULES:
        folder = path.parent.relative_to(ROOT).as_posix()
        if path.name == "__init__.py" and folder != "seqnorm_monai":
            sentence = ast.get_docstring(ast.parse(path.read_text())).split("\n")[0].rstrip(".")
            says = drawn.pop(folder)
            assert says[0].lower() + says[1:] == sentence[0].lower() + sentence[1:] or says == sentence, folder
    assert set(drawn) == {"seqnorm_monai", "bundles", "scripts", "scripts/results", "tests"}


def test_readme_stays_short_and_its_links_lead_somewhere() -> None:
    text = (ROOT / "README.md").read_text()
    assert text.count("\n") <= 150
    for bundle in (ROOT / "bundles").iterdir():
        assert f"(bundles/{bundle.name}/docs/README.md)" in text
    for page in [ROOT / "README.md", *PACKAGE.rglob("README.md"), ROOT / "scripts/results/README.md"]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page}: {target}"


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
