"""Every file of a folder ends as a prediction or as a rejection with a reason; one bad file never stops the others.

`FaultTolerantDataset` turns an item that fails into a `Rejection`, and `FaultTolerantLoader` gives the network the
rest. A machine that runs out of memory, disk space or file descriptors is no fault of a file: it stops the run.

Items may be plain paths, or what `seqnorm_monai.data.items.find_images` says of every file of a folder: a file that
nobody can open is among them too, so that nothing drops out unseen.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ignite.engine import Engine, Events
from monai.data import DataLoader, Dataset, MetaTensor, list_data_collate
from monai.transforms import Compose

from seqnorm_monai.data.machine_errors import MachineError, chain, explained, own_reason
from seqnorm_monai.data.progress import Progress
from seqnorm_monai.data.workers import init_worker

IMAGE = "image"
# where an item and its sample carry the path of their (first) file: metadata depends on the reader, this does not
PATH = "path"
# where a sample carries the position of its item in the data
INDEX = "item_index"
# all files of an item, and their UIDs
FILES, STUDY, SERIES = "files", "study", "series"
# of each phase of a dynamic study since the one before the contrast agent, None where unknown
SECONDS = "seconds"
# lists whose lengths differ from item to item: the data set keeps them, a batch cannot
_NO_BATCH = (FILES, SECONDS)
# why an item can never be read, whether it is in order all the same, and whether it is a table, a text or a program:
# the transforms are not asked
UNREADABLE, SET_ASIDE, DOCUMENT = "unreadable", "set_aside", "document"


@dataclass(frozen=True)
class Rejection:
    """An item without a prediction, and why in one line; `set_aside` if it is in order but none was asked for.

    `document`: a table, a text or a program among the images.

    `index` is the position of the item in the data: several items may have one path.
    """

    path: str
    reason: str
    index: int
    set_aside: bool = False
    document: bool = False


def item_path(item: Mapping[str, Any]) -> str:
    """The path under which an item stands in tables: its own, or that of its image."""
    return str(item.get(PATH, item[IMAGE]))


class FaultTolerantDataset(Dataset):
    """A `monai.data.Dataset` whose items are transformed samples or `Rejection`s.

    `data` holds mappings with a path under `image`, or an image that is read later and its path under `path`; a sample
    is what the transform returns, a dict, without `files` and `seconds`, with the path added under `path` and the
    position of the item under `item_index`. An item with a reason under `unreadable` is a rejection. Any `Exception` of
    a transform rejects its item, except those of the machine, which are raised as `MachineError`; `KeyboardInterrupt`
    and the like pass. The reason is the text of the first exception of the chain that carries a string `reason`; of any
    other exception it is the name of its class and of the transform only, as its text could quote the header, and so a
    patient, into logs. For the same cause `log_stats` of the transform, which prints the failing item, is switched off.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        transform: Sequence[Callable[..., Any]] | Callable[..., Any] | None = None,
    ) -> None:
        for position, item in enumerate(data):
            if not isinstance(item, Mapping) or IMAGE not in item:
                raise ValueError(f"argument data: item {position} must be a mapping with the key {IMAGE!r}")
        super().__init__(data, transform)
        for step in _steps(self.transform):
            if isinstance(step, Compose):
                step.log_stats = False

    def _transform(self, index: int) -> dict[str, Any] | Rejection:
        item = self.data[index]
        # from the end, as sequences allow
        index %= len(self.data)
        path = item_path(item)
        if UNREADABLE in item:
            kinds = bool(item.get(SET_ASIDE, False)), bool(item.get(DOCUMENT, False))
            return Rejection(path, single_line(item[UNREADABLE]), index, *kinds)
        try:
            sample = super()._transform(index)
        except Exception as error:
            _stop_for_machine(error, path)
            return Rejection(path, reason_text(error, self.transform), index, is_set_aside(error))
        if not isinstance(sample, dict):
            raise TypeError(f"argument transform must return one dict per item; got {type(sample).__name__}")
        kept = {key: value for key, value in sample.items() if key not in _NO_BATCH}
        return {**kept, PATH: path, INDEX: index}


@dataclass(frozen=True)
class _Outcome:
    """What became of one batch of items: batches for the network (none, one, or more) and rejections."""

    num_items: int
    batches: list[dict[str, Any]]
    rejections: list[Rejection]


class FaultTolerantLoader:
    """The batches of the good samples of an `FaultTolerantDataset`, in its order, never empty; `rejections` gets the
    rest.

    `rejections` is emptied when an iteration starts and complete when it ends. The loader has no length, as nobody
    knows it before all files were read: an ignite engine then reads to the end and takes the number of batches found
    as its `epoch_length`. `attach` makes the engine forget that number after the run; otherwise a second run would
    stop after as many batches, before the last rejections, and a run of no batch would not run again. Do not pass
    `epoch_length` to the evaluator. `num_workers` above 0 reads in worker processes. An iteration shows how many images
    are done: give the evaluator no progress bar beside it.

    Raises, in an iteration, `MachineError` that says what to do when the machine runs out of something or a worker
    dies.
    """

    def __init__(self, dataset: FaultTolerantDataset, *, batch_size: int, num_workers: int) -> None:
        if not isinstance(dataset, FaultTolerantDataset):
            raise TypeError(f"argument dataset must be an FaultTolerantDataset; got {type(dataset).__name__}")
        self.dataset = dataset
        self.rejections: list[Rejection] = []
        self._loader = DataLoader(
            dataset, num_workers=num_workers, batch_size=batch_size, collate_fn=_sort_out, worker_init_fn=init_worker
        )

    def __iter__(self) -> Iterator[dict[str, Any]]:
        self.rejections = []
        outcomes = iter(self._loader)
        with Progress(len(self.dataset), "images") as progress:
            while (outcome := _next(outcomes)) is not None:
                self.rejections.extend(outcome.rejections)
                yield from outcome.batches
                progress.add(outcome.num_items)

    def attach(self, engine: Engine) -> None:
        """Let `engine` find the number of batches anew in every run."""
        if not engine.has_event_handler(self._forget_length, Events.COMPLETED):
            engine.add_event_handler(Events.COMPLETED, self._forget_length)

    def _forget_length(self, engine: Engine) -> None:
        engine.state.epoch_length = None


def _next(outcomes: Iterator[_Outcome]) -> _Outcome | None:
    try:
        return next(outcomes, None)
    except Exception as error:
        # what came from a worker has its message already
        if not isinstance(error, MachineError):
            _stop_for_machine(error, "the batches of the workers")
        raise


def _sort_out(samples: Sequence[dict[str, Any] | Rejection]) -> _Outcome:
    """Collate the good samples; where they do not fit together (two image sizes), each alone."""
    good = [sample for sample in samples if not isinstance(sample, Rejection)]
    rejections = [sample for sample in samples if isinstance(sample, Rejection)]
    if not good:
        return _Outcome(len(samples), [], rejections)
    try:
        return _Outcome(len(samples), [_collated(good)], rejections)
    except Exception as error:
        _stop_for_machine(error, "a batch")
        batches = []
    for sample in good:
        try:
            batches.append(_collated([sample]))
        except Exception as error:
            _stop_for_machine(error, sample[PATH])
            rejections.append(Rejection(sample[PATH], f"{type(error).__name__} in the collation", sample[INDEX]))
    return _Outcome(len(samples), batches, rejections)


def _collated(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """MONAI's collation, without two of its habits.

    It drops metadata that one sample of the batch lacks from all of them: text is filled in as empty instead. And it
    logs the contents of samples it cannot collate, at the level "critical": that logger is off meanwhile.
    """
    for key, value in samples[0].items():
        if isinstance(value, MetaTensor):
            metas = [sample[key].meta for sample in samples if isinstance(sample.get(key), MetaTensor)]
            for name in sorted({str(name) for meta in metas for name in meta if isinstance(meta[name], str)}):
                for meta in metas:
                    meta.setdefault(name, "")
    logger = logging.getLogger("dev_collate")
    was_disabled, logger.disabled = logger.disabled, True
    try:
        return list_data_collate(samples)
    finally:
        logger.disabled = was_disabled


def reason_text(error: BaseException, transform: Compose) -> str:
    """Why a transform failed, in one line that quotes no exception but those that carry a `reason`."""
    wrappers = {
        f"applying transform {step}": getattr(step, "__name__", type(step).__name__) for step in _steps(transform)
    }
    links = list(chain(error))
    for link in links:
        if reason := single_line(own_reason(link)):
            return reason
    origin, where = error, "a transform"
    for origin in links:
        if str(origin) not in wrappers:
            break
        where = wrappers[str(origin)]
    return f"{type(origin).__name__} in {where}"


def _stop_for_machine(error: BaseException, where: str) -> None:
    """Raise `MachineError` if `error` is one of the machine, and no reader made a refusal with a reason of it."""
    explanation = explained(error, f"while reading {where}")
    if explanation is not None:
        raise explanation from None


def is_set_aside(error: BaseException) -> bool:
    """Whether the failure says of itself that the file is in order, by the attribute `set_aside`."""
    return any(getattr(link, "set_aside", False) is True for link in chain(error))


def single_line(text: str) -> str:
    """`text` in one line of printable characters that no spreadsheet takes for a formula."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split()).lstrip("=+-@ ")


def _steps(transform: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """A transform and, if it is a `Compose`, all inside it, at any depth."""
    yield transform
    if isinstance(transform, Compose):
        for step in transform.transforms:
            yield from _steps(step)
