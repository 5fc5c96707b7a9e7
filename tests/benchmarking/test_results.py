"""The pages' figures of speed and memory repeat the files they come from, and name how those were made."""

from __future__ import annotations

import runpy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from seqnorm_monai.benchmarking import reading, results
from seqnorm_monai.benchmarking.cases import LayerCase, NetworkCase
from seqnorm_monai.benchmarking.commands import attention_command, reading_command, streaming_command
from seqnorm_monai.benchmarking.summary import cells_of
from tests.makers.bundles import ROOT

RESULTS = ROOT / "scripts" / "results"
PAGE = (RESULTS / "README.md").read_text(encoding="utf-8")
FILES = sorted(path.name for path in RESULTS.glob("*.csv"))
ATTENTION = [name for name in FILES if not name.startswith(("reading", "streaming"))]
NETWORK, PLAIN, EARLIER = "scaling_cpu_051319b.csv", "plain_vit_cpu_1172827.csv", "scaling_cpu_508b971.csv"
READING, STREAMING = "reading_cpu_2e46ad2.csv", "streaming_cpu_1172827.csv"
WRITE = runpy.run_path(str(ROOT / "scripts" / "write_results.py"))["main"]


def read(name: str) -> list[results.Row]:
    return results.read_rows(RESULTS / name)


def cell(name: str, **values: str) -> results.Row:
    (row,) = (row for row in read(name) if values.items() <= row.items())
    return row


def words(path: Path) -> str:
    return " ".join(path.read_text(encoding="utf-8").split())


def copy_of_results(folder: Path) -> Path:
    for path in RESULTS.glob("*.[cm][sd]*"):
        (folder / path.name).write_bytes(path.read_bytes())
    return folder / "README.md"


def test_every_table_is_what_its_file_says() -> None:
    assert WRITE(["--check"]) == 0
    for kind in results.KINDS:
        assert f"<!-- table: {kind} " in PAGE
    tables = PAGE.count("\n|---")
    assert (
        tables == PAGE.count("<!-- table: ") == PAGE.count("<!-- end of table -->") == len(results.TABLE.findall(PAGE))
    )


@pytest.mark.parametrize("digit", ["10.69", "| 268 MB", "8.31 |", "3.63 GiB", "commit 051319b, med", "--repeats 25"])
def test_a_changed_figure_is_found_and_written_anew(
    digit: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = copy_of_results(tmp_path)
    assert digit in PAGE
    page.write_text(PAGE.replace(digit, digit.translate(str.maketrans("12345678", "23456781"))), encoding="utf-8")
    assert WRITE(["--page", str(page), "--check"]) == 1
    assert "write_results.py" in capsys.readouterr().err
    assert WRITE(["--page", str(page)]) == 0
    assert page.read_text(encoding="utf-8") == PAGE


@pytest.mark.parametrize("comment", ["speed scaling_cpu_051319b.csv", "time other.csv", "time", "time ../results"])
def test_a_table_without_a_kind_or_a_file_is_refused(comment: str) -> None:
    with pytest.raises(ValueError, match=rf"'table: {comment}' must name"):
        results.write_tables(f"<!-- table: {comment} -->\n<!-- end of table -->\n", RESULTS)


def test_a_caption_does_not_hold_for_two_commits() -> None:
    with pytest.raises(ValueError, match="commit has several values"):
        results.caption([*read(NETWORK), *read(EARLIER)], "both", "")


@pytest.mark.parametrize("name", FILES)
def test_every_file_says_where_it_was_measured(name: str) -> None:
    for row in read(name):
        assert row["hardware"] and row["torch"] and row["threads"]
        assert not row["commit"].endswith(("dirty", "unknown"))
        assert row["commit"][:7] in PAGE, row["commit"]
        assert Path(name).stem.endswith(f"_{row.get('device', 'cpu')}_{row['commit'][:7]}")


def arguments_of(command: str) -> list[str]:
    return command.split()[2:]


def run_script(name: str, replaced: Mapping[str, Any], arguments: Sequence[str]) -> None:
    main = runpy.run_path(str(ROOT / "scripts" / f"{name}.py"))["main"]
    main.__globals__.update(replaced)
    main([*arguments, "--output", "unused.csv"])


@pytest.mark.parametrize("name", ATTENTION)
def test_the_command_of_a_file_measures_its_cells(name: str) -> None:
    rows, seen = read(name), []
    command = attention_command(rows)
    script = Path(command.split()[1]).stem
    settings = []
    run_script(
        script,
        {"run_benchmark": lambda cells, arguments: (seen.extend(cells), settings.append(arguments))},
        arguments_of(command),
    )
    (options,) = settings

    def key(case: LayerCase | NetworkCase) -> tuple[object, ...]:
        size = case.image_size if isinstance(case, NetworkCase) else case.tokens
        return (size, case.batch, case.mode, case.form, case.device, case.dtype, case.compiled)

    found = {key(case) for cases in seen for case in cases}
    size = "image_size" if rows[0]["subject"] == "network" else "tokens"
    names = ("mode", "form", "device", "dtype")
    asked = {
        (int(row[size]), int(row["batch"]), *(row[name] for name in names), row["compiled"] == "True") for row in rows
    }
    assert found == asked
    assert {str(options.repeats)} == {row["repeats"] for row in rows}
    assert options.no_memory == (not any(row["added_bytes"] for row in rows))


def test_the_commands_of_streaming_measure_its_cells() -> None:
    asked: list[tuple[str, ...]] = []

    def measure(case: Any) -> results.Row:  # noqa: ANN401
        asked.append(tuple(str(getattr(case, name)) for name in names))
        return {}

    names = ("task", "tokens_in", "pixels", "patch", "network", "chunk_tokens")
    for command in streaming_command(read(STREAMING)).split(" && "):
        run_script(
            "benchmark_streaming",
            {"measure": measure, "append_row": lambda path, row: None},
            arguments_of(command),
        )
    assert sorted(asked) == sorted(tuple(row[name] for name in names) for row in read(STREAMING))


def test_the_command_of_reading_names_a_series_and_the_rounds() -> None:
    assert arguments_of(reading_command(read(READING))) == ["--series", "FOLDER", "--repeats", "5"]
    generated = [row for row in read(READING) if not row["case"].startswith("series")]
    assert "--series" not in reading_command(generated)


def test_numbers_of_the_first_page() -> None:
    text = words(ROOT / "README.md")
    training = cell(NETWORK, form="softmax", mode="training", image_size="1024")["times_ours"]
    inference = cell(NETWORK, form="softmax", mode="inference", image_size="2048")["times_ours"]
    assert f"takes {float(training):.2f} times as long with softmax as with ours" in text
    assert f"at 2048 pixels an inference {float(inference):.2f} times" in text


def test_shares_of_the_matrix_rate() -> None:
    text = words(RESULTS / "README.md")
    large = cell(NETWORK, form="seqnorm", mode="inference", image_size="2048")
    small = cell(NETWORK, form="seqnorm", mode="training", image_size="224")
    shares = [f"{float(row['share_of_matrix_rate']):.0%}" for row in (large, small)]
    assert f"at {shares[0]} of the machine's own" in text and f"at {shares[1]} in training at 224" in text
    earlier = cell(EARLIER, form="seqnorm-literal", mode="training", image_size="1024")
    assert f"reached {float(earlier['share_of_matrix_rate']):.0%} in training at 1024" in text
    assert f"took {float(earlier['times_ours']):.2f} times as long" in text


def test_ratios_of_multiply_adds() -> None:
    text = words(RESULTS / "README.md")

    def ratio(form: str, mode: str, size: int) -> float:
        both = (
            NetworkCase(form=name, mode=mode, batch=1, variant="small", image_size=size) for name in (form, "seqnorm")
        )
        other, ours = (case.multiply_adds() for case in both)
        return other / ours

    ratios = {
        (mode, size): ratio(form, mode, size)
        for form in ("seqnorm-literal", "sima")
        for mode in ("training", "inference")
        for size in (224, 512, 1024, 2048, 16384, 65536)
    }
    assert f"cost {ratios['training', 1024]:.2f} times as much in training at 1024 pixels" in text
    assert f"at most {max(ratios.values()):.2f} times at any size" in text


def test_gain_of_the_compiler() -> None:
    text = words(RESULTS / "README.md")
    names = ("eager_224px_cpu_1172827.csv", "compiled_224px_cpu_1172827.csv")
    for mode in ("training", "inference"):
        eager, compiled = (float(cell(name, mode=mode)["seconds_median"]) for name in names)
        assert f"{mode} {eager:.3f} s -> {compiled:.3f} s" in text


def test_what_is_said_of_reading() -> None:
    rows = read(READING)
    others = {(row["case"], row["reader"]) for row in rows if row["equal"] == "False"}
    assert others == {("chest sample, JPEG", "PydicomReader")}
    gain = max(1 / float(row["times_ours"]) for row in rows if row["reader"] == reading.DISK)
    assert f"up to {gain:.0f} times as fast" in words(RESULTS / "README.md")


def test_cells_keep_every_row() -> None:
    rows = read(NETWORK)
    assert sum(len(found) for found in cells_of(rows)) == len(rows)


def test_what_did_not_help() -> None:
    text = words(RESULTS / "README.md").partition("## What did not help")[2]

    def times(name: str, form: str, mode: str, size: int) -> str:
        return f"{float(cell(name, form=form, mode=mode, image_size=str(size))['times_ours']):.2f}"

    def seconds(name: str, form: str) -> str:
        return f"{float(cell(name, form=form, mode='training', image_size='1024')['seconds_median']):.2f} s"

    def share(name: str, form: str) -> str:
        return f"{float(cell(name, form=form, mode='training', image_size='1024')['share_of_matrix_rate']):.0%}"

    def reader(case: str, name: str) -> str:
        return f"{float(cell(READING, case=case, reader=name)['times_ours']):.3g}"

    linear, xcit = (times(NETWORK, form, "inference", 224) for form in ("linear", "xcit"))
    assert f"`linear` ({linear}) and `xcit` ({xcit})" in text
    softmax, sima = (times(EARLIER, form, "training", 224) for form in ("softmax", "sima"))
    assert f"softmax took {softmax} times and one with SimA {sima} times" in text
    before, now = (times(name, "seqnorm-literal", "training", 1024) for name in (EARLIER, NETWORK))
    assert f"was {before} in training at 1024 pixels (commit 508b971) and is {now} in the table" in text
    for form, started in (("seqnorm-literal", "The literal form went"), ("seqnorm", "ours")):
        rates = " to ".join(share(name, form) for name in (EARLIER, NETWORK))
        assert f"{started} from {rates}" in text
        assert f"({seconds(EARLIER, form)} to {seconds(NETWORK, form)})" in text
    memory, disk = (
        cell(STREAMING, task="training", tokens_in=place, pixels="32768")["peak_gib"] for place in ("memory", "disk")
    )
    assert f"held {memory} GiB instead of {disk} GiB" in text
    native = "radiograph 2048 px, native"
    assert f"took {reader('chest sample, JPEG', reading.WORKERS)} times as long as reading the chest sample" in text
    assert f"and {reader(native, reading.WORKERS)} times for native" in text
    assert f"second epoch takes {reader(native, reading.DISK)} times as long" in text
    assert f"its first {reader(native, reading.FIRST)} times" in text
    assert f"PydicomReader takes {reader('series, 22 files', 'PydicomReader')} times as long" in text


def test_other_forms_need_less_memory_at_512_pixels() -> None:
    rows = {row["form"]: row for row in read(NETWORK) if (row["mode"], row["image_size"]) == ("inference", "512")}
    ours = float(rows.pop("seqnorm")["added_bytes"])
    rows.pop("performer")
    assert {f"{float(row['added_bytes']) / ours:.2f}" for row in rows.values()} == {"0.96"}
