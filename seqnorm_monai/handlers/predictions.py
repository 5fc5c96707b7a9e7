"""Tables of an inference: every file is in the predictions or, with its reason, among the rejections.

A third table, `files.csv`, has one row for every file, whatever became of it; of dynamic studies a fourth one,
`studies.csv`, says how each was understood.
"""

import logging
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path

from ignite.engine import Engine, Events

from seqnorm_monai.atomic_files import GrowingTable
from seqnorm_monai.data.fault_tolerant import IMAGE, INDEX, PATH, FaultTolerantLoader, Rejection, item_path
from seqnorm_monai.handlers.file_status import FileStatuses
from seqnorm_monai.handlers.outputs import decollated, probabilities_of
from seqnorm_monai.handlers.study_table import STUDY_COLUMNS, has_studies, study_rows
from seqnorm_monai.images.records import FileStatus
from seqnorm_monai.paths import require_path

UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
FILE_COLUMNS = (PATH, "status", "reason", "study", "series")

logger = logging.getLogger(__name__)


class PredictionWriter:
    """`predictions.csv` (path, UIDs, one probability per class), `rejected.csv` (path, reason) and `files.csv`.

    `files.csv` has the columns `path, status, reason, study, series`, one row for every file: `predicted`, `used` (one
    of several files of a predicted image), `set_aside` (in order, but not to be predicted: another modality, a report,
    a derived map) or `rejected`; the UIDs of study and series where they are known.

    Rows come in the order of `loader.dataset.data`; paths are relative to `root`, the folder (or file) given to
    `seqnorm_monai.data.items.find_images`. The UIDs are read from the metadata of `image` and empty where absent.
    `columns` are entries of the items that stand behind the path, as the `side` of a breast, of a rejection too.
    `pred` of the engine's output must be probabilities (classes,): a value that is not finite rejects its image. Every
    item of the dataset stands in one of the two tables, but for documents (tables, texts, programs), which stand in
    `files.csv` alone; what the run did not reach is rejected with that reason.

    Rows go to `predictions.partial.csv` and so on as they come, and the tables get their names, whole, when the run
    completes. Tables of an earlier run are removed at the start. So after a failure or a kill the rows so far are in
    the partial files, and nothing looks like a complete result.

    Raises, while running: `ValueError` when `pred` has another shape or lies outside [0, 1].
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        class_names: Sequence[str],
        *,
        root: str | os.PathLike[str],
        loader: FaultTolerantLoader,
        columns: Sequence[str] = (),
    ) -> None:
        if not isinstance(loader, FaultTolerantLoader):
            raise TypeError(f"argument loader must be an FaultTolerantLoader; got {type(loader).__name__}")
        self.class_names = list(class_names)
        self.columns = list(columns)
        self.root = os.path.abspath(root)
        self.loader = loader
        folder = Path(require_path(output_dir, "output_dir"))
        self._predictions = GrowingTable(folder / "predictions.csv", [PATH, *self.columns, *UIDS, *self.class_names])
        self._rejections = GrowingTable(folder / "rejected.csv", [PATH, *self.columns, "reason"])
        self._files = GrowingTable(folder / "files.csv", FILE_COLUMNS)
        self._studies = GrowingTable(folder / "studies.csv", STUDY_COLUMNS)
        self._statuses = FileStatuses([])
        self._num_taken = self._num_documents = 0

    def attach(self, engine: Engine) -> None:
        self.loader.attach(engine)
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def _start(self, _engine: Engine) -> None:
        self._statuses = FileStatuses(self.loader.dataset.data)
        self._num_taken = self._num_documents = 0
        for table in self._tables():
            table.start()
        rows = list(study_rows(self.loader.dataset.data, self._relative))
        if rows:
            self._studies.append(rows)
        else:
            # of an earlier run
            self._studies.path.unlink(missing_ok=True)

    def _collect(self, engine: Engine) -> None:
        rows, files, rejections = [], [], []
        for item, output in zip(*decollated(engine), strict=True):
            values = probabilities_of(output, self.class_names)
            path, index = item[PATH], int(item[INDEX])
            if all(map(math.isfinite, values)):
                # nine digits tell any two 32-bit numbers apart
                uids = _uids(item[IMAGE])
                rows.append([self._relative(path), *self._cells(index), *uids, *(f"{value:.9g}" for value in values)])
                files += self._statuses.record(index, FileStatus.PREDICTED, "", uids[:2])
            else:
                rejections.append(Rejection(path, "the output of the network is not a finite number", index))
        self._predictions.append(rows)
        self._append_files(files)
        self._reject(rejections)
        self._take_rejections()

    def _finish(self, _engine: Engine) -> None:
        self._take_rejections()
        items = self.loader.dataset.data
        reason = "not processed: the run ended before"
        self._reject([Rejection(item_path(items[index]), reason, index) for index in self._statuses.unrecorded])
        for table in self._tables():
            table.finish()
        logger.info(
            "%d predictions in %s, %d rejections in %s; %d tables, texts and programs, see %s",
            self._predictions.num_rows,
            self._predictions.path,
            self._rejections.num_rows,
            self._rejections.path,
            self._num_documents,
            self._files.path,
        )

    def _take_rejections(self) -> None:
        """Write what the loader has rejected since the last time."""
        new = self.loader.rejections[self._num_taken :]
        self._num_taken += len(new)
        self._reject(new)

    def _reject(self, rejections: Sequence[Rejection]) -> None:
        images = [rejection for rejection in rejections if not rejection.document]
        self._num_documents += len(rejections) - len(images)
        self._rejections.append([self._relative(one.path), *self._cells(one.index), one.reason] for one in images)
        for rejection in rejections:
            status = FileStatus.SET_ASIDE if rejection.set_aside else FileStatus.REJECTED
            self._append_files(self._statuses.record(rejection.index, status, rejection.reason))

    def _tables(self) -> list[GrowingTable]:
        """Those of every run; how studies were understood only where there are any."""
        tables = [self._predictions, self._rejections, self._files]
        return [*tables, self._studies] if has_studies(self.loader.dataset.data) else tables

    def _cells(self, index: int) -> list[str]:
        """The entries `columns` of an item, "" where it has none."""
        item = self.loader.dataset.data[index]
        return [str(item.get(name, "")) for name in self.columns]

    def _append_files(self, rows: Sequence[Sequence[str]]) -> None:
        self._files.append([self._relative(path), *rest] for path, *rest in rows)

    def _relative(self, path: str) -> str:
        relative = os.path.relpath(path, self.root if os.path.isdir(self.root) else os.path.dirname(self.root))
        # the same file, but no formula to a spreadsheet
        return os.path.join(".", relative) if relative[0] in "=+-@\t\r" else relative


def _uids(image: object) -> list[str]:
    """The UIDs in the metadata of an image; empty for what is no UID, so that no text of a header gets into a table."""
    values = [getattr(image, "meta", {}).get(name) for name in UIDS]
    return [v if isinstance(v, str) and re.fullmatch(r"[0-9A-Za-z.]{1,64}", v) else "" for v in values]
