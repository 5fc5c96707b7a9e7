"""The cases after public reports, which live beside the project: made by name, or a reason to skip."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

from tests.makers.bundles import SHARED

SCRIPT = SHARED / "cases" / "make_cases.py"
# the options that the cases name SMALL
SMALL = {
    "image_size": 64,
    "network_def__hidden_size": 48,
    "network_def__mlp_dim": 96,
    "network_def__num_layers": 1,
    "network_def__num_heads": 3,
}


@cache
def script() -> ModuleType:
    if not SCRIPT.is_file():
        pytest.skip("the cases after public reports are not at hand")
    specification = importlib.util.spec_from_file_location("make_cases", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def make(name: str, folder: Path) -> Path:
    """The folder of a case, made anew."""
    script().CASES[name](folder / name)
    return folder / name
