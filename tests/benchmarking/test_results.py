"""The tables of the results' page of speed and memory repeat the files they come from, and name how those were made."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from seqnorm_monai.benchmarking import reading
from seqnorm_monai.benchmarking.summary import cells_of, markdown_table
from tests.makers.bundles import ROOT

RESULTS = ROOT / "scripts" / "results"
README = (ROOT / "scripts/results/README.md").read_text()
PEERS = ("seqnorm-literal", "sima", "softmax", "linear", "xcit", "performer")


def read(name: str) -> list[dict[str, str]]:
    with (RESULTS / name).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("memory", [False, True])
def test_table_of_the_network(memory: bool) -> None:
    assert markdown_table(read("scaling_cpu_051319b.csv"), PEERS, memory=memory) in README


def test_table_of_the_plain_network() -> None:
    forms = ("seqnorm-literal-plain", "sima-plain", "softmax-plain")
    assert markdown_table(read("plain_vit_cpu_1172827.csv"), forms, memory=False) in README


def test_table_of_the_small_network() -> None:
    assert markdown_table(read("224px_25rounds_cpu_1172827.csv"), ("softmax",), memory=False) in README


def test_table_of_the_layer() -> None:
    assert markdown_table(read("attention_cpu_53eb56f.csv"), PEERS, memory=False) in README


def test_table_of_reading() -> None:
    rows = read("reading_cpu_2e46ad2.csv")
    assert reading.markdown_table(rows) in README
    others = {(row["case"], row["reader"]) for row in rows if row["equal"] == "False"}
    assert others == {("chest sample, JPEG", "PydicomReader")}
    assert min(float(row["times_ours"]) for row in rows if row["reader"] in reading.READERS) > 0.99
    gain = max(1 / float(row["times_ours"]) for row in rows if row["reader"] == reading.DISK)
    assert f"up to {gain:.0f} times as fast" in README


def test_table_of_streaming() -> None:
    for row in read("streaming_cpu_1172827.csv"):
        line = (
            f"| {row['task']} | {row['tokens_in']} | {int(row['pixels']):,} px, patch {row['patch']} "
            f"| {int(row['tokens']):,} | {float(row['microseconds_per_token']):.0f} us | {row['peak_gib']} GiB |"
        )
        assert line in README, line


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.csv")), ids=lambda path: path.name)
def test_every_file_says_where_it_was_measured(path: Path) -> None:
    for row in read(path.name):
        assert row["hardware"] and row["torch"] and row["threads"]
        assert not row["commit"].endswith(("dirty", "unknown"))
        assert row["commit"][:7] in README, row["commit"]
        assert path.stem.endswith(f"_{row.get('device', 'cpu')}_{row['commit'][:7]}")
        assert row["hardware"] in README and row["torch"] in README


def cell_row(name: str, **values: str) -> dict[str, str]:
    (row,) = (row for row in read(name) if values.items() <= row.items())
    return row


def test_numbers_of_the_text() -> None:
    text = " ".join(README.split())
    large = cell_row("scaling_cpu_051319b.csv", form="seqnorm", mode="inference", image_size="2048")
    small = cell_row("scaling_cpu_051319b.csv", form="seqnorm", mode="training", image_size="224")
    shares = [f"{float(row['share_of_matrix_rate']):.0%}" for row in (large, small)]
    assert f"at {shares[0]} of the machine's own" in text and f"at {shares[1]} in training at 224" in text
    earlier = cell_row("scaling_cpu_508b971.csv", form="seqnorm-literal", mode="training", image_size="1024")
    assert f"reached {float(earlier['share_of_matrix_rate']):.0%} in training at 1024" in text
    assert f"took {float(earlier['times_ours']):.2f} times as long" in text
    names = ("eager_224px_cpu_1172827.csv", "compiled_224px_cpu_1172827.csv")
    for mode in ("training", "inference"):
        eager, compiled = (float(cell_row(name, mode=mode)["seconds_median"]) for name in names)
        assert f"{mode} {eager:.3f} s -> {compiled:.3f} s" in text


def test_cells_keep_every_row() -> None:
    rows = read("scaling_cpu_051319b.csv")
    assert sum(len(cell) for cell in cells_of(rows)) == len(rows)
