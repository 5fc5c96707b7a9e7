"""The writer of tables, and what the benchmarks put into them, to the letter."""

from __future__ import annotations

from seqnorm_monai.benchmarking.runs import COLUMNS
from seqnorm_monai.benchmarking.summary import format_table, markdown_table
from seqnorm_monai.benchmarking.tables import aligned, markdown


def rows() -> list[dict[str, str]]:
    """Ours, a slower form, one that was skipped, and one whose memory could not be measured."""
    cell = dict.fromkeys(COLUMNS, "") | {"subject": "layer", "tokens": "1025", "hidden": "384", "mode": "training"}
    cell |= {"batch": "3", "device": "cpu", "dtype": "float32", "share_of_matrix_rate": "0.756"}
    ours = {"form": "seqnorm", "seconds_median": "0.0123456", "seconds_min": "0.01", "seconds_max": "1234.5"}
    ours |= {"times_ours": "1", "added_bytes": "2000000000", "kept_bytes_formula": "1500000"}
    sima = ours | {"form": "sima", "times_ours": "2.345", "added_bytes": "3000000000", "kept_bytes_formula": ""}
    skipped = {"form": "softmax", "skipped": "needs 3.0 GiB, 2.0 GiB are free"}
    unweighed = ours | {"form": "xcit", "added_bytes": "", "skipped": "memory: ended"}
    return [cell | row for row in (ours, sima, skipped, unweighed)]


def test_markdown() -> None:
    assert (
        markdown(("", "a", "b"), [("x", "1", ""), ("y", "2", "3")])
        == "| | a | b |\n|---|---|---|\n| x | 1 | |\n| y | 2 | 3 |"
    )


def test_aligned() -> None:
    text = aligned({"name": "<6", "s": ">4"}, [("a", "1"), ("b", "22", "late"), ("c",)])
    assert text == "name     s\na        1\nb       22  late\nc"


def test_a_cell_in_the_terminal() -> None:
    assert format_table(rows()).splitlines() == [
        "layer training C = 384 N = 1025 batch 3 cpu float32",
        "form                    median s       min       max  x ours   rate  added MB  formula MB",
        "seqnorm                  0.01235      0.01      1234    1.00    76%     2,000           2",
        "sima                     0.01235      0.01      1234    2.35    76%     3,000",
        "softmax                 needs 3.0 GiB, 2.0 GiB are free",
        "xcit                     0.01235      0.01      1234    1.00    76%                     2  memory: ended",
    ]


def test_cells_on_a_page() -> None:
    forms = ("sima", "softmax", "xcit", "linear")
    assert markdown_table(rows(), forms, memory=False).splitlines() == [
        "| | ours | sima | softmax | xcit | linear |",
        "|---|---|---|---|---|---|",
        "| training 1025 tokens, batch 3 | 0.0123 s | 2.35 | left out | 1.00 | left out |",
    ]
    assert markdown_table(rows(), forms, memory=True).splitlines()[2:] == [
        "| training 1025 tokens, batch 3 | 2,000 MB | 1.50 | left out | left out | left out |",
    ]
    unknown = [row | {"seconds_median": "", "added_bytes": ""} for row in rows()]
    assert markdown_table(unknown, ("sima",), memory=True).endswith("batch 3 | left out | left out |")
    assert markdown_table(unknown, ("sima",), memory=False).endswith("batch 3 | left out | 2.35 |")
