"""``seqnorm``: the one command, what it says of itself, and how little it takes to start."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from seqnorm_monai.commands import _COMMANDS, main
from seqnorm_monai.version import __version__
from tests.makers.bundles import CHEST, ROOT, environment, run_command


def test_help_names_each_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert re.findall(r"^  (\w+) ", shown, re.M) == list(_COMMANDS)


def test_no_command_shows_the_help_and_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage: seqnorm COMMAND" in capsys.readouterr().out


def test_unknown_command_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lits", "x"]) == 2
    assert "no command 'lits'; it is one of check, list, prepare" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"seqnorm {__version__}\n"


@pytest.mark.parametrize("name", list(_COMMANDS))
def test_each_command_has_a_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert f"usage: seqnorm {name}" in capsys.readouterr().out


def test_module_and_console_command_are_the_same(tmp_path: Path) -> None:
    sample = CHEST / "sample_data" / "images" / "00000573_008.dcm"
    one = run_command(["seqnorm", "list", str(sample)], tmp_path)
    assert one == run_command([sys.executable, "-m", "seqnorm_monai", "list", str(sample)], tmp_path)
    assert "512 x 512" in one


@pytest.mark.parametrize(
    "command", [["list", "SAMPLE"], ["prepare", "csv", "--help"], ["check", "--help"], ["--help"]], ids=" ".join
)
def test_starts_without_torch(command: list[str]) -> None:
    sample = str(CHEST / "sample_data" / "images" / "00000573_008.dcm")
    given = [sample if one == "SAMPLE" else one for one in command]
    code = (
        "import sys\nfrom seqnorm_monai.commands import main\n"
        f"try:\n    main({given!r})\nexcept SystemExit:\n    pass\n"
        "print({'torch', 'monai'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "set()", done.stderr
