"""The README's tables of speed and memory repeat the files they come from, and name how those were made."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from seqnorm_monai.benchmarking.summary import cells_of, markdown_table
from tests.bundle_tools import ROOT

RESULTS = ROOT / "scripts" / "results"
README = (ROOT / "README.md").read_text()
PEERS = ("seqnorm-literal", "sima", "softmax", "linear", "xcit", "performer")


def read(name: str) -> list[dict[str, str]]:
    with (RESULTS / name).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("memory", [False, True])
def test_table_of_the_network(memory: bool) -> None:
    assert markdown_table(read("scaling.csv"), PEERS, memory=memory) in README


def test_table_of_the_plain_network() -> None:
    forms = ("seqnorm-literal-plain", "sima-plain", "softmax-plain")
    assert markdown_table(read("plain.csv"), forms, memory=False) in README


def test_table_of_the_small_network() -> None:
    assert markdown_table(read("small.csv"), ("softmax",), memory=False) in README


def test_table_of_the_layer() -> None:
    assert markdown_table(read("attention.csv"), PEERS, memory=False) in README


def test_table_of_streaming() -> None:
    for row in read("streaming.csv"):
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
        assert row["hardware"] in README and row["torch"] in README


def test_cells_keep_every_row() -> None:
    rows = read("scaling.csv")
    assert sum(len(cell) for cell in cells_of(rows)) == len(rows)
