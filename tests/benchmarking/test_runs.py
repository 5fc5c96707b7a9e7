"""The benchmarks: order and arithmetic of the clock, rows for what is skipped, memory of a process, the scripts."""

from __future__ import annotations

import csv
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest
import torch

from seqnorm_monai.benchmarking import memory, runs, timing
from seqnorm_monai.benchmarking.cases import MODES, Case, LayerCase, NetworkCase, case_from_json
from seqnorm_monai.benchmarking.complexity import FORMS
from seqnorm_monai.benchmarking.environment import describe_environment
from seqnorm_monai.benchmarking.figure import curve, draw_scaling, read_rows
from seqnorm_monai.benchmarking.forms import create_form, replace_attention
from seqnorm_monai.benchmarking.peers import PEERS
from seqnorm_monai.benchmarking.runs import COLUMNS, RunSettings
from seqnorm_monai.benchmarking.summary import format_table
from seqnorm_monai.networks.mlp import MLP
from seqnorm_monai.networks.vit import SeqNormViT
from tests.makers.bundles import ROOT

QUICK = RunSettings(repeats=3, warm_up=1, max_seconds=30.0, memory=False)


@pytest.fixture(autouse=True)
def small_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "MATRIX_ROWS", {"cpu": 257, "cuda": 257})
    monkeypatch.setattr(timing, "MIN_SECONDS", 0.0)


def layer(form: str = "seqnorm", mode: str = "inference", **sizes: int) -> LayerCase:
    return LayerCase(form=form, mode=mode, **{"batch": 1, "tokens": 19, "hidden": 20, "heads": 2, **sizes})


def script(name: str) -> Callable[[list[str]], int]:
    """The main function of a script."""
    return runpy.run_path(str(ROOT / "scripts" / f"{name}.py"))["main"]


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_rounds_run_every_step_in_turn() -> None:
    order: list[str] = []
    readings = {"a": iter([1.0, 2.0, 6.0]), "b": iter([3.0, 5.0, 7.0])}

    def clock(name: str) -> float:
        order.append(name)
        return next(readings[name])

    seconds = timing.interleave({"a": lambda: clock("a"), "b": lambda: clock("b")}, repeats=3)
    assert order == ["a", "b", "a", "b", "a", "b"]
    assert seconds == {"a": [1.0, 2.0, 6.0], "b": [3.0, 5.0, 7.0]}
    with pytest.raises(ValueError, match="repeats"):
        timing.interleave({}, repeats=0)


def test_summary_is_the_median_and_the_ratio_is_paired() -> None:
    assert timing.summarise([5.0, 1.0, 2.0]) == timing.Timing(median=2.0, minimum=1.0, maximum=5.0, repeats=3)
    # the ratio of the medians would be 2.5
    assert timing.paired_ratio([3.0, 5.0, 7.0], [1.0, 2.0, 6.0]) == 2.5
    assert timing.paired_ratio([2.0, 8.0, 30.0], [1.0, 2.0, 10.0]) == 3.0
    with pytest.raises(ValueError):
        timing.paired_ratio([1.0], [1.0, 2.0])


def test_short_steps_are_called_several_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "MIN_SECONDS", 0.05)
    assert [timing.calls_for(seconds) for seconds in (0.0, 0.001, 0.03, 0.05, 7.0)] == [100, 50, 2, 1, 1]
    calls: list[int] = []
    clock = iter([1.0, 7.0])
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    assert timing.seconds_of(lambda: calls.append(1), "cpu", calls=3) == 2.0
    assert len(calls) == 3


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_makes_a_step(form: str, mode: str) -> None:
    for case in (layer(form, mode), NetworkCase(form=form, mode=mode, batch=2, variant="tiny", image_size=32)):
        case.small().build()()
        assert case_from_json(case.to_json()) == case
        assert case.multiply_adds() > 0 and case.needed_bytes() > 0
    assert layer(form, mode).parameters() == sum(p.numel() for p in create_form(form, 20, 2).parameters())


@pytest.mark.parametrize("mode", MODES)
def test_plain_network_sends_every_token_through_the_last_mlp_in_one_piece(mode: str) -> None:
    case = NetworkCase(form="seqnorm-plain", mode=mode, batch=1, variant="tiny", image_size=64)
    ours = NetworkCase(form="seqnorm", mode=mode, batch=1, variant="tiny", image_size=64)
    assert case.multiply_adds() > ours.multiply_adds()
    seen: list[tuple[int, int]] = []
    for made in (case, ours):
        network = made.network().train(mode == "training")
        with (
            torch.set_grad_enabled(mode == "training"),
            mock.patch.object(
                MLP, "_forward_in_chunks", autospec=True, side_effect=MLP._forward_in_chunks
            ) as in_chunks,
            mock.patch.object(
                type(network), "forward_features", autospec=True, side_effect=type(network).forward_features
            ) as features,
        ):
            network(torch.randn(1, 1, 64, 64))
        seen.append((in_chunks.call_count, features.call_count))
    assert seen == [(0, 1), (0 if mode == "training" else 12, 0)]
    assert not case.has_closed_memory
    case.small().build()()
    with pytest.raises(ValueError, match="form must be"):
        NetworkCase(form="plain", mode=mode, batch=1, variant="tiny", image_size=64)


def test_training_step_leaves_no_gradients_and_moves_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[torch.nn.Module] = []
    case = NetworkCase(form="linear", mode="training", batch=1, variant="tiny", image_size=32)
    network = NetworkCase.network
    monkeypatch.setattr(NetworkCase, "network", lambda self: built.append(network(self)) or built[-1])
    step = case.build()
    before = built[0].head.weight.clone()
    step()
    assert not torch.equal(built[0].head.weight, before)
    assert all(parameter.grad is None for parameter in built[0].parameters())


def test_bfloat16_is_autocast() -> None:
    case = LayerCase(form="xcit", mode="training", batch=1, tokens=19, hidden=20, heads=2, dtype="bfloat16")
    case.build()()
    with case.precision():
        assert torch.mm(torch.ones(2, 2), torch.ones(2, 2)).dtype == torch.bfloat16
    assert not case.has_closed_memory
    assert runs.case_columns(case).get("kept_bytes_formula") is None


@pytest.mark.parametrize("form", PEERS)
def test_peers_take_the_place_of_attention_and_its_weights(form: str) -> None:
    network = SeqNormViT(1, 8, 4, 3, hidden_size=20, mlp_dim=23, num_layers=2, num_heads=5, attention="softmax")
    before = [block.attention.qkv.weight.clone() for block in network.blocks]
    assert replace_attention(network, form) is network
    for block, weight in zip(network.blocks, before, strict=True):
        assert type(block.attention) is PEERS[form]
        assert torch.equal(block.attention.qkv.weight, weight)
    assert network(torch.randn(2, 1, 8, 8)).shape == (2, 3)


@pytest.mark.parametrize(
    ("change", "message"), [({"form": "nystrom"}, "form"), ({"mode": "forward"}, "mode"), ({"batch": 0}, "batch")]
)
def test_refuses_what_it_does_not_know(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LayerCase(**{"form": "sima", "mode": "training", "batch": 1, "tokens": 3, "hidden": 4, "heads": 2, **change})


def test_skips_by_the_closed_form_before_anything_is_built() -> None:
    case = layer("softmax", tokens=1_000_003, hidden=64, heads=1)
    rate = 1e11
    reason = runs.reason_to_skip(case, rate=rate, max_seconds=10.0, free=None)
    assert "1280 s" in reason and "10 s" in reason
    assert "GiB" in runs.reason_to_skip(case, rate=rate, max_seconds=1e9, free=2**30)
    assert runs.reason_to_skip(case, rate=rate, max_seconds=1e9, free=2**33) == ""
    assert runs.reason_to_skip(layer(), rate=rate, max_seconds=1.0, free=2**30) == ""


def test_cell_has_a_row_for_each_form_and_one_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [layer("sima"), layer("seqnorm"), layer("softmax")]
    monkeypatch.setattr(
        runs, "reason_to_skip", lambda case, **limits: "one step takes too long" if case.form == "softmax" else ""
    )
    rows = runs.run_cell(cases, QUICK, describe_environment("cpu"))
    assert [row["form"] for row in rows] == ["sima", "seqnorm", "softmax"]
    assert all(tuple(row) == COLUMNS for row in rows)
    sima, ours, softmax = rows
    assert softmax["skipped"] == "one step takes too long" and softmax["seconds_median"] == ""
    assert float(ours["times_ours"]) == 1.0 and ours["repeats"] == "3" and ours["skipped"] == ""
    assert float(sima["seconds_min"]) <= float(sima["seconds_median"]) <= float(sima["seconds_max"])
    rate = 2 * int(ours["multiply_adds"]) / float(ours["seconds_median"]) / 1e9
    assert float(ours["share_of_matrix_rate"]) == pytest.approx(rate / float(ours["matrix_gflops"]), rel=0.01)
    assert all(row["hardware"] and row["commit"] and row["torch"] == torch.__version__ for row in rows)
    table = format_table(rows)
    assert "one step takes too long" in table and "N = 19" in table


@pytest.mark.parametrize(
    "error", [RuntimeError("DefaultCPUAllocator: can't allocate memory"), torch.OutOfMemoryError()]
)
def test_full_memory_is_a_row_and_another_error_is_not_swallowed(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def failing(error: Exception) -> Callable[[Case], Callable[[], None]]:
        def step() -> None:
            raise error

        return lambda case: step

    monkeypatch.setattr(LayerCase, "build", failing(error))
    _, skipped = runs.time_cell([layer()], QUICK)
    assert skipped == {"seqnorm": "out of memory"}
    monkeypatch.setattr(LayerCase, "build", failing(RuntimeError("shapes do not match")))
    with pytest.raises(RuntimeError, match="shapes"):
        runs.time_cell([layer()], QUICK)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="resident pages are read from /proc")
def test_peak_memory_of_a_process_is_near_the_closed_form() -> None:
    """Pages, libraries' scratch and arrays under 128 KiB are in the measurement: 25 % and 4 MB cover them."""
    case = layer("seqnorm-literal", tokens=20_011, hidden=64, heads=2)
    assert case.peak_bytes() == 8 * 20_011 * 64 * 4
    added, reason = memory.measure_added_bytes(case, threads=1, timeout=300.0)
    assert reason == ""
    assert 0.95 * case.peak_bytes() < added < 1.25 * case.peak_bytes() + 4e6


def test_process_that_fails_or_does_not_end_gives_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    case = layer()
    assert memory.measure_added_bytes(case, threads=1, timeout=0.01) == (None, "memory: no result after 0 s")
    monkeypatch.setattr(memory.sys, "executable", "false")
    count, reason = memory.measure_added_bytes(case, threads=1, timeout=60.0)
    assert count is None and "ended with 1" in reason


def test_attention_script_writes_its_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "attention.csv"
    options = ["--tokens", "7", "101", "--hidden", "12", "--head-dim", "6", "--batch", "1", "3", "--repeats", "2"]
    kinds = ("seqnorm", "sima", "performer")
    options += ["--kinds", *kinds]
    assert script("benchmark_attention")([*options, "--no-memory", "--output", str(output)]) == 0
    rows = read(output)
    assert [row["form"] for row in rows] == list(kinds) * 8
    assert {(row["tokens"], row["batch"], row["mode"]) for row in rows} == {
        (tokens, batch, mode) for tokens in ("7", "101") for batch in ("1", "3") for mode in MODES
    }
    assert all(row["seconds_median"] and row["heads"] == "2" for row in rows)
    assert "x ours" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        script("benchmark_attention")([*options, "--hidden", "13", "--output", str(output)])


def test_scaling_script_and_its_figure(tmp_path: Path) -> None:
    output, png = tmp_path / "scaling.csv", tmp_path / "scaling.png"
    options = ["--variants", "tiny", "--training", "32", "--inference", "32", "48x2", "--repeats", "2"]
    options += ["--kinds", "seqnorm", "softmax", "linear", "--no-memory", "--output", str(output)]
    assert script("benchmark_scaling")(options) == 0
    rows = read(output)
    assert [(row["mode"], row["image_size"], row["batch"], row["form"]) for row in rows[::3]] == [
        ("training", "32", "1", "seqnorm"),
        ("inference", "32", "1", "seqnorm"),
        ("inference", "48", "2", "seqnorm"),
    ]
    assert rows[0]["tokens"] == "5" and rows[0]["kept_bytes_formula"] and rows[3]["inference_peak_bytes_formula"]
    assert script("plot_scaling")(["--csv", str(output), "--variant", "tiny", "--output", str(png)]) == 0
    assert png.read_bytes().startswith(b"\x89PNG") and png.stat().st_size > 10_000
    assert script("plot_scaling")(["--csv", str(output), "--variant", "base", "--output", str(png)]) == 1
    with pytest.raises(SystemExit):
        script("benchmark_scaling")([*options, "--training", "33"])


def test_figure_draws_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = []
    for mode in MODES:
        for form, seconds in (("seqnorm", "0.5"), ("softmax", "")):
            row = dict.fromkeys(COLUMNS, "") | {"mode": mode, "form": form, "image_size": "512", "device": "cpu"}
            rows.append(row | {"seconds_per_image": seconds, "added_bytes": str(2**30), "variant": "tiny"})
    assert curve(rows, mode="training", form="seqnorm", column="seconds_per_image") == [(512, 0.5)]
    assert curve(rows, mode="training", form="softmax", column="seconds_per_image") == []
    time, _, space, _ = draw_scaling(rows).axes
    assert [line.get_ydata().tolist() for line in time.lines] == [[0.5]]
    assert [line.get_ydata().tolist() for line in space.lines] == [[1.0], [1.0]]
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match="pip install"):
        draw_scaling(rows)


def test_figure_takes_one_network_at_batch_1(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, restval="")
        writer.writeheader()
        for variant, batch in (("small", "1"), ("small", "4"), ("tiny", "1")):
            writer.writerow({"subject": "network", "variant": variant, "batch": batch, "form": "sima"})
    assert [(row["variant"], row["batch"]) for row in read_rows(path, variant="small")] == [("small", "1")]
    with pytest.raises(ValueError, match="base"):
        read_rows(path, variant="base")
