"""Every file ends as a sample or as a rejection, in every mixture, with and without worker processes."""

import errno
import logging
import os
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.data import MetaTensor
from monai.engines import SupervisedEvaluator
from monai.transforms import Compose, Lambda, OneOf

from seqnorm_monai.data import fault_tolerant
from seqnorm_monai.data.fault_tolerant import FaultTolerantDataset, FaultTolerantLoader, Rejection, single_line
from seqnorm_monai.data.machine_errors import MachineError, remedy

SECRET = "DOE^JANE"


class ReadError(Exception):
    """As a reader would raise it: a path, and a reason that is fit for a table."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason} {SECRET}")
        self.path = path
        self.reason = reason


# errors of the machine, and a word of what to do
ERRORS: dict[str, tuple[BaseException, str]] = {
    "memory": (MemoryError(SECRET), "MemoryError while reading .*/01: .* fewer num_workers"),
    "no memory": (OSError(errno.ENOMEM, SECRET), "Cannot allocate memory.* smaller batch_size"),
    "allocator": (RuntimeError(f"DefaultCPUAllocator: can't allocate memory: {SECRET}"), "smaller batch_size"),
    "files": (OSError(errno.EMFILE, SECRET), "Too many open files.*ulimit -n"),
    "all files": (OSError(errno.ENFILE, SECRET), "Too many open files in system.*ulimit -n"),
    "disk": (OSError(errno.ENOSPC, SECRET), "No space left on device.*free space"),
    "large": (OSError(errno.EFBIG, SECRET), "File too large.*ulimit -f"),
    "read only": (OSError(errno.EROFS, SECRET), "Read-only file system.*output_dir"),
    "drive": (OSError(errno.EIO, SECRET), "Input/output error.*drive failed"),
    "server": (OSError(errno.ESTALE, SECRET), "Stale file handle.*drive failed"),
    "passed on": (
        RuntimeError(
            "Caught RuntimeError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
            '  File "x.py", line 1\nRuntimeError: unable to allocate shared memory(shm) for file </torch_1_2_1>: No '
            "space left on device (28)\n"
        ),
        "--shm-size",
    ),
    "shared": (RuntimeError("unable to write to file </torch_17_19>: No space left on device (28)"), "--shm-size"),
    "mapped": (RuntimeError("unable to mmap 17 bytes from file </torch_1>: Cannot allocate memory (12)"), "--shm-size"),
    "descriptors": (RuntimeError("received 0 items of ancdata"), "num_workers to 0"),
}


class Read:
    """Reads what a file of these tests says: a number, or how reading it fails."""

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        text = Path(item["image"]).read_text()
        if text == "typed":
            raise ReadError(item["image"], "no pixel\ndata")
        if text == "typed below":
            try:
                raise ReadError(item["image"], "no pixel data")
            except ReadError as error:
                raise KeyError(SECRET) from error
        if text == "foreign":
            raise ValueError(SECRET)
        if text == "unicode":
            b"\xff".decode()
        if text == "typed over memory":
            try:
                raise MemoryError
            except MemoryError as error:
                raise ReadError(item["image"], "too large") from error
        if text == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if text in ERRORS:
            raise ERRORS[text][0]
        if text == "interrupt":
            raise KeyboardInterrupt
        shape = (1, 3, 2) if text == "17" else (1, 2, 2)
        meta = {"SOPInstanceUID": f"1.{text}"} if text != "13" else {}
        return {"image": MetaTensor(torch.full(shape, float(text)), meta=meta), "patient": f"p{text}"}


@pytest.fixture
def silent(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing is printed or logged: monai would show the item that fails in a transform or in the collation."""
    caplog.set_level(logging.DEBUG)
    yield
    assert capfd.readouterr() == ("", "")
    assert [record for record in caplog.get_records("call") if record.levelno >= logging.INFO] == []


def folder_of(folder: Path, texts: list[str]) -> Path:
    for position, text in enumerate(texts):
        (folder / f"{position:02}").write_text(text)
    return folder


def items_of(folder: Path) -> list[dict[str, str]]:
    return [{"image": str(path)} for path in sorted(folder.iterdir())]


def loader_of(folder: Path, *, num_workers: int = 0, batch_size: int = 3) -> FaultTolerantLoader:
    dataset = FaultTolerantDataset(items_of(folder), Read())
    return FaultTolerantLoader(dataset, batch_size=batch_size, num_workers=num_workers)


def values_of(batches: list[dict[str, Any]]) -> list[float]:
    return [image.flatten()[0].item() for batch in batches for image in batch["image"]]


GOOD = ["2", "3", "5", "7", "11"]
MIXTURES = {
    "none rejected": ["2", "3", "5", "7", "11"],
    "some rejected": ["typed", "2", "3", "foreign", "5", "7", "typed", "typed", "typed", "11"],
    "a whole batch at the end": ["2", "3", "5", "7", "11", "typed", "typed", "typed", "typed", "typed", "typed"],
    "a whole batch at the start": ["typed", "typed", "typed", "2", "3", "5", "7", "11"],
    "all rejected": ["typed", "foreign", "typed", "typed below", "typed"],
}


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("mixture", MIXTURES)
def test_nothing_is_lost(tmp_path: Path, mixture: str, num_workers: int) -> None:
    texts = MIXTURES[mixture]
    loader = loader_of(folder_of(tmp_path, texts), num_workers=num_workers)
    for _ in range(2):
        batches = list(loader)
        assert all(len(batch["image"]) for batch in batches)
        good = [float(text) for text in texts if text.isdigit()]
        assert values_of(batches) == good
        paths = [path for batch in batches for path in batch["path"]] + [item.path for item in loader.rejections]
        assert sorted(paths) == [str(tmp_path / f"{i:02}") for i in range(len(texts))]


@pytest.mark.parametrize("mixture", MIXTURES)
def test_the_engine_reads_each_file_once(tmp_path: Path, mixture: str) -> None:
    texts = MIXTURES[mixture]
    loader = loader_of(folder_of(tmp_path, texts))
    seen: list[float] = []

    class Net(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            seen.extend(image.flatten(1)[:, 0].tolist())
            return image

    engine = SupervisedEvaluator(
        device=torch.device("cpu"), val_data_loader=loader, network=Net(), val_handlers=[loader]
    )
    good = [float(text) for text in texts if text.isdigit()]
    for epoch in (1, 1, 3):
        seen.clear()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            engine.run(epoch)
        assert seen == good
        assert len(loader.rejections) == len(texts) - len(good)


def test_files_that_change_between_runs(tmp_path: Path) -> None:
    """The second run has fewer batches than the first: an engine that kept its length would start over."""
    loader = loader_of(folder_of(tmp_path, GOOD), batch_size=1)
    outputs = []
    engine = SupervisedEvaluator(
        device=torch.device("cpu"), val_data_loader=loader, network=torch.nn.Identity(), val_handlers=[loader]
    )
    engine.add_event_handler(
        Events.ITERATION_COMPLETED, lambda e: outputs.append(e.state.output[0]["pred"].max().item())
    )
    engine.run()
    (tmp_path / "01").write_text("typed")
    (tmp_path / "04").write_text("typed")
    engine.run()
    assert outputs == [2, 3, 5, 7, 11, 2, 5, 7]
    assert [Path(rejection.path).name for rejection in loader.rejections] == ["01", "04"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("typed", "no pixel data"),
        ("typed below", "no pixel data"),
        ("foreign", "ValueError in Read"),
        ("unicode", "UnicodeDecodeError in Read"),
        ("typed over memory", "too large"),
    ],
)
@pytest.mark.parametrize("nesting", ["bare", "compose", "one of"])
def test_reasons_do_not_quote_foreign_texts(tmp_path: Path, silent: None, text: str, reason: str, nesting: str) -> None:
    steps: list[Any] = {
        "bare": [Read()],
        "compose": [Compose([Lambda(lambda x: x), Compose([Read()], log_stats=True)])],
        "one of": [OneOf([Read()])],
    }[nesting]
    dataset = FaultTolerantDataset(items_of(folder_of(tmp_path, [text])), Compose(steps, log_stats=True))
    assert dataset[0] == Rejection(str(tmp_path / "00"), reason, 0)


def test_later_transforms_are_named(tmp_path: Path) -> None:
    class Fold:
        def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
            raise IndexError(SECRET)

    dataset = FaultTolerantDataset(items_of(folder_of(tmp_path, ["2"])), [Read(), Fold()])
    assert dataset[0] == Rejection(str(tmp_path / "00"), "IndexError in Fold", 0)

    def unfold(item: dict[str, Any]) -> dict[str, Any]:
        raise IndexError(SECRET)

    dataset = FaultTolerantDataset(items_of(tmp_path), [Read(), unfold])
    assert dataset[0] == Rejection(str(tmp_path / "00"), "IndexError in unfold", 0)


def test_interrupts_pass(tmp_path: Path) -> None:
    loader = loader_of(folder_of(tmp_path, ["2", "interrupt"]))
    with pytest.raises(KeyboardInterrupt):
        list(loader)


@pytest.mark.parametrize("text", ERRORS)
@pytest.mark.parametrize("nesting", ["bare", "compose"])
def test_errors_of_the_machine_stop_the_run(tmp_path: Path, silent: None, text: str, nesting: str) -> None:
    step = Read() if nesting == "bare" else Compose([Lambda(lambda x: x), Compose([Read()])])
    dataset = FaultTolerantDataset(items_of(folder_of(tmp_path, ["2", text])), step)
    with pytest.raises(MachineError, match=ERRORS[text][1]) as caught:
        list(FaultTolerantLoader(dataset, batch_size=1, num_workers=0))
    assert SECRET not in str(caught.value)


# a worker that is killed leaves its end of a pipe to the garbage collector, whenever that comes
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("text", "message"),
    [("files", "ulimit -n"), ("shared", "--shm-size"), ("killed", "a worker process died.*fewer num_workers")],
)
def test_errors_of_the_machine_in_a_worker_stop_the_run(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(MachineError, match=message) as caught:
        list(loader_of(folder_of(tmp_path, ["2", text]), num_workers=1))
    assert SECRET not in str(caught.value)


def test_shared_memory_that_ends_in_the_collation_stops_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def collate(_samples: object) -> None:
        raise ERRORS["shared"][0]

    monkeypatch.setattr(fault_tolerant, "list_data_collate", collate)
    with pytest.raises(MachineError, match="--shm-size"):
        list(loader_of(folder_of(tmp_path, GOOD)))


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EACCES, ""),
        OSError(errno.ELOOP, ""),
        OSError(errno.ENOENT, ""),
        OSError("no number"),
        ValueError("shared memory"),
        RuntimeError("unable to open file </a.dcm> in read-only mode: No such file or directory (2)"),
        RuntimeError("a header says (28)"),
    ],
)
def test_other_errors_are_not_those_of_the_machine(error: Exception) -> None:
    assert remedy(error) == ""


def test_images_of_two_sizes_go_in_batches_of_one(tmp_path: Path, silent: None) -> None:
    loader = loader_of(folder_of(tmp_path, ["2", "17", "typed", "3"]), batch_size=4)
    batches = list(loader)
    assert [tuple(batch["image"].shape) for batch in batches] == [(1, 1, 2, 2), (1, 1, 3, 2), (1, 1, 2, 2)]
    assert len(loader.rejections) == 1
    assert not logging.getLogger("dev_collate").disabled


def test_a_sample_that_cannot_be_collated_is_rejected(tmp_path: Path, silent: None) -> None:
    class Odd(Read):
        def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
            sample = super().__call__(item)
            return {**sample, "extra": {SECRET} if sample["patient"] == "p3" else 1.0}

    dataset = FaultTolerantDataset(items_of(folder_of(tmp_path, ["2", "3", "5"])), Odd())
    loader = FaultTolerantLoader(dataset, batch_size=3, num_workers=0)
    assert values_of(list(loader)) == [2, 5]
    assert loader.rejections == [Rejection(str(tmp_path / "01"), "TypeError in the collation", 1)]


def test_metadata_that_one_image_lacks_stays_on_the_others(tmp_path: Path) -> None:
    (batch,) = loader_of(folder_of(tmp_path, ["2", "13", "5"]))
    assert batch["image"].meta["SOPInstanceUID"] == ["1.2", "", "1.5"]


def test_items_that_are_known_to_be_unreadable_are_not_read(tmp_path: Path) -> None:
    items = [
        {"image": str(tmp_path / "a"), "unreadable": "broken\nlink"},
        {"image": str(tmp_path / "b"), "unreadable": "a report", "set_aside": True},
        {"image": object(), "path": "c", "unreadable": "x"},
    ]
    loader = FaultTolerantLoader(FaultTolerantDataset(items, Read()), batch_size=2, num_workers=0)
    assert list(loader) == []
    assert loader.rejections == [
        Rejection(str(tmp_path / "a"), "broken link", 0),
        Rejection(str(tmp_path / "b"), "a report", 1, set_aside=True),
        Rejection("c", "x", 2),
    ]


def test_slices_and_subsets_account_too(tmp_path: Path) -> None:
    dataset = FaultTolerantDataset(items_of(folder_of(tmp_path, ["2", "typed", "5"])), Read())
    subset = dataset[1:]
    assert isinstance(subset[0], Rejection)
    assert subset[1]["path"] == str(tmp_path / "02")
    assert [subset[0].index, subset[1]["item_index"], dataset[-1]["item_index"]] == [1, 2, 2]
    assert len(list(dataset)) == 3


def test_refused_arguments(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="argument data: item 1 must be a mapping with the key 'image'"):
        FaultTolerantDataset([{"image": "a"}, {"img": "b"}])
    with pytest.raises(TypeError, match="argument dataset must be an FaultTolerantDataset; got list"):
        FaultTolerantLoader([], batch_size=1, num_workers=0)  # type: ignore[arg-type]
    dataset = FaultTolerantDataset(items_of(folder_of(tmp_path, ["2"])), lambda item: [item])
    with pytest.raises(TypeError, match="one dict per item; got list"):
        dataset[0]


def test_single_line() -> None:
    assert single_line("=cmd|' /C'\n\tx\x00\u2028y\udcff") == "cmd|' /C' x y"


def test_undecodable_names(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff\xfe.dcm")
    (tmp_path / name).write_text("2")
    (batch,) = loader_of(tmp_path, num_workers=1)
    assert batch["path"] == [str(tmp_path / name)]
    assert np.isclose(batch["image"].max(), 2)


def test_items_whose_lists_differ_in_length_stay_in_one_batch() -> None:
    """Studies have other numbers of files and of phases, and seconds that nobody knows."""
    items = [
        {"image": "a", "files": ("a", "b"), "seconds": [0.0, 9.0]},
        {"image": "c", "files": ("c",), "seconds": [None, None, None]},
    ]
    data = FaultTolerantDataset(items, lambda item: {**item, "image": torch.zeros(1, 2)})
    loader = FaultTolerantLoader(data, batch_size=2, num_workers=0)
    (batch,) = list(loader)
    assert batch["image"].shape == (2, 1, 2)
    assert loader.rejections == []
