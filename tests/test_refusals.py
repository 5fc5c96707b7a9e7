"""Which error of a chain is a refusal of this package, and what stands last on the terminal."""

from __future__ import annotations

import pickle
import sys
import types

import pytest

from seqnorm_monai import monai_options
from seqnorm_monai.data.datalists import DatalistError, load_datalist
from seqnorm_monai.images.errors import ImageReadError
from seqnorm_monai.paths import require_path, require_paths
from seqnorm_monai.refusals import refusal, show_refusals_last


def raised(function: object, *arguments: object, around: str = "") -> BaseException:
    """What `function` raises, within an error of somebody else's if `around`."""
    try:
        try:
            function(*arguments)
        except Exception as error:
            if not around:
                raise
            raise RuntimeError(around) from error
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


@pytest.fixture
def monai_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if this process were MONAI's command line; the hook is put back afterwards."""
    main = types.ModuleType("__main__")
    main.__spec__ = types.SimpleNamespace(name="monai.bundle.__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    monkeypatch.delenv("SEQNORM_DEBUG", raising=False)


def test_own_error_is_found_below_foreign_ones() -> None:
    error = raised(require_path, 2024, "dataset_dir", around="Failed to instantiate component")
    assert refusal(error).startswith("argument dataset_dir must be a path; got 2024 (int)")


def test_outermost_of_own_errors_has_the_word(tmp_path: object) -> None:
    error = raised(lambda: load_datalist(f"{tmp_path}/none.json", split="test", class_names=["A"]))
    assert isinstance(error, DatalistError)
    assert isinstance(error.__cause__ or error.__context__, FileNotFoundError)
    assert refusal(error) == str(error)


def test_foreign_error_is_none() -> None:
    assert refusal(raised(lambda: [][1])) == ""
    assert refusal(raised(lambda: [][1], around="x")) == ""


def test_fault_inside_the_package_keeps_its_traceback() -> None:
    """An operation that fails there is no refusal: nobody wrote its message for a user."""
    assert refusal(raised(ImageReadError.__str__, 3)) == ""


def test_what_a_worker_raised_is_known_by_its_text() -> None:
    text = (
        "Caught RuntimeError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
        '  File "x.py", line 1\nseqnorm_monai.images.dicom.errors.DamagedError: a.dcm: is cut off\n'
    )
    assert refusal(RuntimeError(text)) == "a.dcm: is cut off"


def test_error_without_traceback_is_no_refusal() -> None:
    assert refusal(pickle.loads(pickle.dumps(ValueError("x")))) == ""


@pytest.mark.usefixtures("monai_command")
def test_hook_shows_one_message_last(capsys: pytest.CaptureFixture[str]) -> None:
    show_refusals_last()
    error = raised(require_path, None, "output_dir", around="Failed to instantiate component")
    sys.excepthook(type(error), error, error.__traceback__)
    shown = capsys.readouterr().err
    assert shown.splitlines()[-1].startswith("argument output_dir must be a path; got None")
    assert "Traceback (most" not in shown
    assert "SEQNORM_DEBUG=1" in shown


@pytest.mark.usefixtures("monai_command")
def test_hook_shows_a_foreign_error_whole_and_its_cause_last(capsys: pytest.CaptureFixture[str]) -> None:
    show_refusals_last()
    error = raised(lambda: {}["hidden"], around="Failed to evaluate")
    sys.excepthook(type(error), error, error.__traceback__)
    shown = capsys.readouterr().err
    assert "Traceback (most" in shown
    assert shown.splitlines()[-1] == "The cause: KeyError: 'hidden'"


@pytest.mark.usefixtures("monai_command")
def test_debug_leaves_all_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQNORM_DEBUG", "1")
    show_refusals_last()
    assert sys.excepthook is sys.__excepthook__


def test_other_programs_keep_their_hook() -> None:
    before = sys.excepthook
    show_refusals_last()
    assert sys.excepthook is before


@pytest.mark.usefixtures("monai_command")
def test_typed_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["x", "run", "training", "--a", "b#1", "--c=d=e", "--net#x", "3", "--last"])
    assert monai_options.typed_options() == {"a": "b#1", "c": "d=e", "net#x": "3", "last": ""}


@pytest.mark.usefixtures("monai_command")
@pytest.mark.parametrize(
    ("typed", "value", "says"),
    [
        ("None", "sample_data", "argument dataset_dir: MONAI takes None for no value; .*such as ./None"),
        ("x#1", "x", "argument dataset_dir: .* no path with the character #, and made 'x' of 'x#1'; rename"),
        ("'x#1'", "x::1", "argument dataset_dir: .* made 'x::1' of"),
        ("./x#1", "./x::1", "argument dataset_dir: .* made './x::1' of"),
        ("2024", 2024, "argument dataset_dir must be a path; got 2024 .int.*./2024"),
        ("1e5", 1e5, "argument dataset_dir must be a path; got 100000.0 .float"),
        ("a,b", ("a", "b"), "argument dataset_dir must be a path; got .'a', 'b'. .tuple"),
    ],
)
def test_values_that_the_command_line_changed(
    typed: str, value: object, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["x", "run", "training", "--dataset_dir", typed])
    with pytest.raises((TypeError, ValueError), match=says):
        require_paths(dataset_dir=value)


@pytest.mark.usefixtures("monai_command")
@pytest.mark.parametrize(
    ("typed", "value"),
    [("x", "x"), ("'x 1'", "x 1"), ("./None", "./None"), ("$@a#b + '/x'", "./x"), ("@a#b", "./x")],
)
def test_values_that_are_what_was_typed(typed: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["x", "run", "training", "--dataset_dir", typed])
    require_paths(dataset_dir=value)


@pytest.mark.usefixtures("monai_command")
def test_none_is_no_value_where_none_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["x", "run", "training", "--cache_dir", "None"])
    require_paths(cache_dir="")
