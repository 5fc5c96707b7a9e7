"""The files that real MONAI engines leave behind with these handlers, on a linear network and generated arrays."""

import csv
import json
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Events
from ignite.metrics import Loss
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import CheckpointLoader, CheckpointSaver, LrScheduleHandler, StatsHandler, ValidationHandler
from monai.handlers.utils import from_engine
from monai.transforms import Activationsd

from seqnorm_monai.data.fault_tolerant import FaultTolerantDataset, FaultTolerantLoader
from seqnorm_monai.evaluation import evaluate
from seqnorm_monai.handlers import EvaluationWriter, HistoryWriter, PredictionWriter
from seqnorm_monai.handlers.predictions import UIDS

NAMES = ["effusion", "mass", "nodule"]
CPU = torch.device("cpu")


class ReadError(Exception):
    def __init__(self, reason: str) -> None:
        super().__init__("text that is not for the table")
        self.reason = reason


def read(item: dict[str, Any]) -> dict[str, Any]:
    """An image (1, 7) from a file of numbers, with UIDs if the file's name ends in .dcm."""
    text = Path(item["image"]).read_text()
    if text == "bad":
        raise ReadError("no, pixel data")
    image = torch.tensor([float(number) for number in text.split()])[None]
    meta = dict(zip(UIDS, ("1.2", "1.2.3", "=HYPERLINK()"), strict=True)) if item["image"].endswith(".dcm") else {}
    return {"image": MetaTensor(image, meta=meta)}


class Net(torch.nn.Module):
    """Three logits, linear in an image of shape (1, 7)."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(7, 3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.linear(image.as_tensor().flatten(1) if isinstance(image, MetaTensor) else image.flatten(1))


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    generator = np.random.default_rng(3)
    names = ["b/3.dcm", "a.dcm", "c.png", "=1+1.png", 'quote" , and\nline.png', os.fsdecode(b"\xff.png"), "d.dcm"]
    for position, name in enumerate(names):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("bad" if position in (2, 6) else " ".join(map(str, generator.random(7))))
    return tmp_path / "in"


def items_of(folder: Path) -> list[dict[str, str]]:
    return [{"image": path} for path in sorted(str(path) for path in folder.rglob("*") if path.is_file())]


def predicting(
    folder: Path, net: torch.nn.Module, *, num_workers: int = 0, batch_size: int = 2, sigmoid: bool = True
) -> tuple[SupervisedEvaluator, FaultTolerantLoader]:
    dataset = FaultTolerantDataset(items_of(folder), read)
    loader = FaultTolerantLoader(dataset, batch_size=batch_size, num_workers=num_workers)
    writer = PredictionWriter(folder.parent / "out", NAMES, root=folder, loader=loader)
    evaluator = SupervisedEvaluator(
        device=CPU,
        val_data_loader=loader,
        network=net,
        postprocessing=Activationsd(keys="pred", sigmoid=True) if sigmoid else None,
        val_handlers=[StatsHandler(output_transform=lambda output: None), writer],
    )
    return evaluator, loader


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_predictions_and_rejections(folder: Path, net: Net, num_workers: int, caplog: pytest.LogCaptureFixture) -> None:
    evaluator, _ = predicting(folder, net, num_workers=num_workers)
    out = folder.parent / "out"
    first = None
    with caplog.at_level(logging.INFO, "seqnorm_monai"):
        for _ in range(2):
            evaluator.run()
            assert sorted(os.listdir(out)) == ["files.csv", "predictions.csv", "rejected.csv"]
            again = [(out / name).read_bytes() for name in ("files.csv", "predictions.csv", "rejected.csv")]
            assert first in (None, again)
            first = again
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("seqnorm_monai.handlers")]
    assert len(lines) == 2
    assert lines[0].startswith("5 predictions in ")
    assert ", 2 rejections in " in lines[0]

    rows = table(out / "predictions.csv")
    assert list(rows[0]) == ["path", *UIDS, *NAMES]
    in_order = ["./=1+1.png", "a.dcm", "b/3.dcm", 'quote" , and\nline.png', "\\udcff.png"]
    assert [row["path"] for row in rows] == in_order
    assert [row["SeriesInstanceUID"] for row in rows] == ["", "1.2.3", "1.2.3", "", ""]
    assert [row["SOPInstanceUID"] for row in rows] == [""] * 5
    for row, name in zip(rows, [*in_order[:4], os.fsdecode(b"\xff.png")], strict=True):
        image = read({"image": str(folder / name)})["image"]
        expected = torch.sigmoid(net(image[None]))[0].tolist()
        # nine digits hold a 32-bit number
        assert np.float32([row[c] for c in NAMES]) == pytest.approx(expected, rel=1e-6)
    assert table(out / "rejected.csv") == [
        {"path": "c.png", "reason": "no, pixel data"},
        {"path": "d.dcm", "reason": "no, pixel data"},
    ]
    files = table(out / "files.csv")
    assert list(files[0]) == ["path", "status", "reason", "study", "series"]
    assert sorted(row["path"] for row in files if row["status"] == "predicted") == sorted(in_order)
    assert {row["path"]: row["reason"] for row in files if row["status"] == "rejected"} == {
        "c.png": "no, pixel data",
        "d.dcm": "no, pixel data",
    }
    assert len(files) == 7
    assert {row["path"]: row["series"] for row in files}["a.dcm"] == "1.2.3"


def test_files_of_images_of_many_files(folder: Path, net: Net) -> None:
    """Slices are used; a file of two images has the better status; what is set aside and rejected says why."""

    def item(name: str, *files: str) -> dict[str, Any]:
        paths = tuple(str(folder / file) for file in files)
        return {"image": str(folder / name), "path": paths[0], "files": paths, "study": "1.2", "series": "1.3"}

    aside = {"image": "r", "path": str(folder / "r"), "unreadable": "a report", "set_aside": True, "study": "1.4"}
    items = [item("a.dcm", "s1", "s2"), item("c.png", "s3", "s4"), item("b/3.dcm", "s5"), item("d.dcm", "s5"), aside]
    loader = FaultTolerantLoader(FaultTolerantDataset(items, read), batch_size=2, num_workers=0)
    writer = PredictionWriter(folder.parent / "out", NAMES, root=folder, loader=loader)
    post = Activationsd(keys="pred", sigmoid=True)
    engine = SupervisedEvaluator(
        device=CPU, val_data_loader=loader, network=net, postprocessing=post, val_handlers=[writer]
    )
    for _ in range(2):
        engine.run()
        assert [row["path"] for row in table(folder.parent / "out" / "predictions.csv")] == ["s1", "s5"]
        files = {row.pop("path"): tuple(row.values()) for row in table(folder.parent / "out" / "files.csv")}
        assert files == {
            "s1": ("used", "", "1.2", "1.3"),
            "s2": ("used", "", "1.2", "1.3"),
            "s3": ("rejected", "no, pixel data", "1.2", "1.3"),
            "s4": ("rejected", "no, pixel data", "1.2", "1.3"),
            "s5": ("predicted", "no, pixel data", "1.2", "1.3"),
            "r": ("set_aside", "a report", "1.4", ""),
        }


def test_files_of_items_with_one_path(folder: Path, net: Net) -> None:
    """Which item failed is told by its position: q is part of the image that was predicted."""
    good, bad, p, q = (str(folder / name) for name in ("a.dcm", "c.png", "p", "q"))
    items = [{"image": bad, "path": p, "files": (p,)}, {"image": good, "path": p, "files": (p, q)}]
    for order in (items, items[::-1]):
        loader = FaultTolerantLoader(FaultTolerantDataset(order, read), batch_size=2, num_workers=0)
        writer = PredictionWriter(folder.parent / "out", NAMES, root=folder, loader=loader)
        post = Activationsd(keys="pred", sigmoid=True)
        SupervisedEvaluator(
            device=CPU, val_data_loader=loader, network=net, postprocessing=post, val_handlers=[writer]
        ).run()
        files = {row["path"]: (row["status"], row["reason"]) for row in table(folder.parent / "out" / "files.csv")}
        assert files == {"p": ("used", "no, pixel data"), "q": ("used", "")}


def test_all_rejected(folder: Path, net: Net) -> None:
    for item in items_of(folder):
        Path(item["image"]).write_text("bad")
    evaluator, _ = predicting(folder, net)
    for _ in range(2):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            evaluator.run()
        out = folder.parent / "out"
        assert (out / "predictions.csv").read_text() == ",".join(["path", *UIDS, *NAMES]) + "\n"
        assert len(table(out / "rejected.csv")) == 7
        (out / "rejected.csv").unlink()


def test_a_single_file_and_no_rejection(folder: Path, net: Net) -> None:
    dataset = FaultTolerantDataset([{"image": str(folder / "a.dcm")}], read)
    loader = FaultTolerantLoader(dataset, batch_size=2, num_workers=0)
    writer = PredictionWriter(folder / "out", NAMES, root=folder / "a.dcm", loader=loader)
    post = Activationsd(keys="pred", sigmoid=True)
    SupervisedEvaluator(
        device=CPU, val_data_loader=loader, network=net, postprocessing=post, val_handlers=[writer]
    ).run()
    assert [row["path"] for row in table(folder / "out" / "predictions.csv")] == ["a.dcm"]
    assert (folder / "out" / "rejected.csv").read_text() == "path,reason\n"


def test_an_output_that_is_not_finite_is_rejected(folder: Path, net: Net) -> None:
    (folder / "a.dcm").write_text("nan 0 0 0 0 0 0")
    evaluator, _ = predicting(folder, net)
    evaluator.run()
    out = folder.parent / "out"
    assert len(table(out / "predictions.csv")) == 4
    rejected = {row["path"]: row["reason"] for row in table(out / "rejected.csv")}
    assert rejected["a.dcm"] == "the output of the network is not a finite number"
    assert len(rejected) == 3


class Failing(Net):
    """Fails at its second batch."""

    calls = 0

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.calls == 2:
            raise RuntimeError("out of memory")
        return super().forward(image)


def test_a_failed_run_keeps_its_rows_and_no_old_table(folder: Path, net: Net) -> None:
    predicting(folder, net)[0].run()
    out = folder.parent / "out"
    whole = table(out / "predictions.csv")
    evaluator, _ = predicting(folder, Failing())
    with pytest.raises(RuntimeError, match="out of memory"):
        evaluator.run()
    assert sorted(os.listdir(out)) == ["files.partial.csv", "predictions.partial.csv", "rejected.partial.csv"]
    kept = table(out / "predictions.partial.csv")
    assert [row["path"] for row in kept] == [row["path"] for row in whole[:2]]
    predicting(folder, net)[0].run()
    assert sorted(os.listdir(out)) == ["files.csv", "predictions.csv", "rejected.csv"]
    assert table(out / "predictions.csv") == whole


def test_a_run_that_is_ended_early_accounts_for_the_rest(folder: Path, net: Net) -> None:
    evaluator, _ = predicting(folder, net)
    evaluator.add_event_handler(Events.ITERATION_COMPLETED(once=1), lambda engine: engine.terminate())
    evaluator.run()
    out = folder.parent / "out"
    assert len(table(out / "predictions.csv")) == 2
    reasons = [row["reason"] for row in table(out / "rejected.csv")]
    assert len(reasons) == 5
    assert reasons.count("not processed: the run ended before") >= 3


def test_prediction_writer_refuses(folder: Path, net: Net) -> None:
    evaluator, loader = predicting(folder, net, sigmoid=False)
    net.linear.bias.data.fill_(5.0)
    with pytest.raises(ValueError, match=r"pred must be probabilities in \[0, 1\]; got .* add a sigmoid"):
        evaluator.run()
    evaluator, _ = predicting(folder, torch.nn.Linear(7, 2))
    with pytest.raises(ValueError, match=r"pred must have the shape \(3,\), one per class; got \(1, 2\)"):
        evaluator.run()
    with pytest.raises(TypeError, match="argument loader must be an FaultTolerantLoader; got list"):
        PredictionWriter(folder, NAMES, root=folder, loader=[])  # type: ignore[arg-type]
    writer = PredictionWriter(folder.parent / "out", NAMES, root=folder, loader=loader)
    evaluator = SupervisedEvaluator(
        device=CPU, val_data_loader=loader, network=net, val_handlers=[writer], decollate=False
    )
    with pytest.raises(TypeError, match="leave decollate of the engine at true"):
        evaluator.run()


def labelled(count: int) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(count)
    labels = (torch.rand(count, 3, generator=generator) < 0.4).float()
    images = torch.rand(count, 1, 7, generator=generator) + labels.mean(dim=1)[:, None, None]
    return [{"image": images[i], "label": labels[i].numpy(), "patient": f"p{i // 3}"} for i in range(count)]


def test_evaluation_writer(tmp_path: Path, net: Net, caplog: pytest.LogCaptureFixture) -> None:
    data = labelled(41)
    evaluator = SupervisedEvaluator(
        device=CPU,
        val_data_loader=DataLoader(Dataset(data), batch_size=7),
        network=net,
        postprocessing=Activationsd(keys="pred", sigmoid=True),
        val_handlers=[EvaluationWriter(tmp_path, NAMES, num_bootstrap=53, confidence=0.9, seed=3)],
    )
    with torch.no_grad():
        scores = torch.sigmoid(net(torch.stack([item["image"] for item in data]))).numpy()
    labels, patients = np.stack([item["label"] for item in data]), [item["patient"] for item in data]
    expected = evaluate(scores, labels, patients, NAMES, num_bootstrap=53, confidence=0.9, seed=3)
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.INFO, "seqnorm_monai"):
            evaluator.run()
        found = evaluator.state.evaluation
        assert json.loads((tmp_path / "metrics.json").read_text()) == found
        for metric in ("auroc", "average_precision", "brier"):
            assert found["mean"][metric] == pytest.approx(expected["mean"][metric], rel=1e-5)
        assert found["num_images"] == 41
        assert found["num_patients"] == 14
        (text,) = [record.getMessage() for record in caplog.records if record.name.startswith("seqnorm_monai.handlers")]
        assert [line.split()[0] for line in text.splitlines()[1:]] == ["class", *NAMES, "mean"]
        assert f"{found['mean']['auroc']['value']:.3f} [" in text.splitlines()[-1]


def test_nothing_to_evaluate(folder: Path, net: Net, tmp_path: Path) -> None:
    for item in items_of(folder):
        Path(item["image"]).write_text("bad")
    evaluator, _ = predicting(folder, net)
    EvaluationWriter(tmp_path, NAMES, num_bootstrap=5, confidence=0.9, seed=0).attach(evaluator)
    with pytest.raises(ValueError, match="nothing to evaluate: the run gave no image"):
        evaluator.run()


LEARNING_RATE, IMAGES, BATCH = 0.1, 13, 5


def training(
    path: Path, *, max_epochs: int, interval: int = 2, before: bool = True, exec_at_start: bool = False
) -> tuple[SupervisedTrainer, SupervisedEvaluator]:
    """A trainer with a decaying learning rate and a validation at every second epoch, and a history."""
    torch.manual_seed(1)
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=LEARNING_RATE)
    loss = torch.nn.BCEWithLogitsLoss()
    evaluator = SupervisedEvaluator(
        device=CPU,
        val_data_loader=DataLoader(Dataset(labelled(11)), batch_size=11),
        network=net,
        key_val_metric={"val_loss": Loss(loss, output_transform=stacked)},
        metric_cmp_fn=lambda current, best: current < best,
    )
    history = HistoryWriter(path, evaluator=evaluator)
    validation = ValidationHandler(interval, evaluator, exec_at_start=exec_at_start)
    schedule = LrScheduleHandler(torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5), print_lr=False)
    trainer = SupervisedTrainer(
        device=CPU,
        max_epochs=max_epochs,
        train_data_loader=DataLoader(Dataset(labelled(IMAGES)), batch_size=BATCH),
        network=net,
        optimizer=optimizer,
        loss_function=loss,
        train_handlers=[history, schedule, validation] if before else [schedule, validation, history],
    )
    return trainer, evaluator


def stacked(output: list[dict[str, Any]]) -> tuple[torch.Tensor, torch.Tensor]:
    pred, label = from_engine(["pred", "label"])(output)
    return torch.stack(pred), torch.stack(label)


@pytest.fixture
def losses() -> Iterator[list[list[float]]]:
    """Expected losses per epoch, by a loop of its own."""
    torch.manual_seed(1)
    net, data = Net(), labelled(IMAGES)
    result = []
    for epoch in range(5):
        result.append([])
        for start in range(0, IMAGES, BATCH):
            part = data[start : start + BATCH]
            images, labels = (torch.stack([torch.as_tensor(item[key]) for item in part]) for key in ("image", "label"))
            loss = torch.nn.functional.binary_cross_entropy_with_logits(net(images), labels)
            net.zero_grad()
            loss.backward()
            with torch.no_grad():
                for parameter in net.parameters():
                    parameter -= LEARNING_RATE * 0.5**epoch * parameter.grad
            result[-1] += [loss.item()] * len(part)
    yield result


@pytest.mark.parametrize("before", [True, False])
def test_history(tmp_path: Path, losses: list[list[float]], before: bool) -> None:
    trainer, evaluator = training(tmp_path / "log" / "history.csv", max_epochs=5, before=before)
    seen: list[float] = []
    evaluator.add_event_handler(Events.COMPLETED, lambda engine: seen.append(engine.state.metrics["val_loss"]))
    trainer.run()
    rows = table(tmp_path / "log" / "history.csv")
    assert list(rows[0]) == [*HistoryWriter.COLUMNS, "val_loss"]
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert [row["iteration"] for row in rows] == ["3", "6", "9", "12", "15"]
    np.testing.assert_allclose([float(row["train_loss"]) for row in rows], np.mean(losses, axis=1), rtol=1e-5)
    rates = [LEARNING_RATE * 0.5**epoch for epoch in range(5)]
    np.testing.assert_allclose([float(row["learning_rate"]) for row in rows], rates, rtol=1e-12)
    assert all(0 <= float(row["seconds"]) < 5 for row in rows)
    assert [row["val_loss"] for row in rows] == ["", str(seen[0]), "", str(seen[1]), ""]
    assert os.listdir(tmp_path / "log") == ["history.csv"]


def test_history_is_there_after_each_epoch(tmp_path: Path) -> None:
    trainer, _ = training(tmp_path / "history.csv", max_epochs=3)
    sizes = []
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda _: sizes.append(len(table(tmp_path / "history.csv"))))
    trainer.run()
    assert sizes == [1, 2, 3]


@pytest.mark.parametrize("before", [True, False])
def test_history_goes_on_after_a_resume(tmp_path: Path, losses: list[list[float]], before: bool) -> None:
    """Ended after epoch 5, resumed from the checkpoint of epoch 2: rows 1 and 2 stay, what came later is forgotten."""
    path = tmp_path / "history.csv"
    trainer, _ = training(path, max_epochs=5, before=before)
    CheckpointSaver(
        str(tmp_path),
        {"network": trainer.network, "optimizer": trainer.optimizer, "trainer": trainer},
        save_interval=2,
        epoch_level=True,
    ).attach(trainer)
    trainer.run()
    old = path.read_text().splitlines()

    trainer, _ = training(path, max_epochs=4, before=before)
    CheckpointLoader(
        str(tmp_path / "checkpoint_epoch=2.pt"),
        {"network": trainer.network, "optimizer": trainer.optimizer, "trainer": trainer},
    ).attach(trainer)
    lengths = []
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda _: lengths.append(len(table(path))))
    trainer.run()
    assert lengths == [3, 4]
    assert path.read_text().splitlines()[:3] == old[:3]
    rows = table(path)
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert [row["iteration"] for row in rows] == ["3", "6", "9", "12"]
    np.testing.assert_allclose([float(row["train_loss"]) for row in rows[:3]], np.mean(losses[:3], axis=1), rtol=1e-5)
    assert [row["val_loss"] != "" for row in rows] == [False, True, False, True]


def test_a_new_training_starts_a_new_history(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    training(path, max_epochs=3)[0].run()
    training(path, max_epochs=1)[0].run()
    assert [row["epoch"] for row in table(path)] == ["1"]


def test_a_validation_before_the_first_epoch(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    trainer, evaluator = training(path, max_epochs=2, exec_at_start=True)
    trainer.run()
    rows = table(path)
    assert [(row["epoch"], row["iteration"], row["train_loss"] == "") for row in rows] == [
        ("0", "0", True),
        ("1", "3", False),
        ("2", "6", False),
    ]
    assert float(rows[0]["val_loss"]) > float(rows[2]["val_loss"]) > 0
    text = path.read_text()
    evaluator.run(1)  # an evaluation of its own is no part of the history
    assert path.read_text() == text


def test_history_refuses(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    path.write_text("a,b\n1,2\n")
    trainer, _ = training(path, max_epochs=3)
    trainer.add_event_handler(
        Events.STARTED, lambda engine: engine.load_state_dict({"epoch_length": 3, "max_epochs": 3, "iteration": 3})
    )
    with pytest.raises(ValueError, match=r"history\.csv: is no history to continue"):
        trainer.run()
    assert path.read_text() == "a,b\n1,2\n"

    trainer, evaluator = training(path, max_epochs=2)
    evaluator.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: engine.state.metrics.update(seconds=1.0))
    with pytest.raises(ValueError, match="metric seconds is named like a column"):
        trainer.run()
