"""Train a bundle with several seeds, evaluate each training, and write the result to the bundle's two places for it.

    python scripts/remake_results.py bundles/chest_radiograph_classification --seeds 5
    python scripts/remake_results.py BUNDLE --seeds 2 -- --max_epochs 3       # options of both runs after --

The seeds are 0 to n - 1. Each training has a temporary folder of its own, so the bundle's models and output stay as
they are. ``eval_metrics`` of ``configs/metadata.json`` becomes the mean, the least and the greatest AUROC over the
seeds, with command, hardware, versions and commit; ``docs/README.md`` shows the same between its two marks. Both are
written when all trainings have ended well.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import monai
import torch

from seqnorm_monai.atomic_files import replacing

ROOT = Path(__file__).resolve().parents[1]
BEGIN = "<!-- results: scripts/remake_results.py writes what is between these marks -->\n"
END = "<!-- end of results -->"


def train_and_evaluate(bundle: Path, seed: int, folder: Path, options: Sequence[str]) -> dict[str, Any]:
    """The ``metrics.json`` of one training's best model."""
    configs = {name: str(bundle / "configs" / f"{name}.json") for name in ("train", "evaluate")}
    runs = {"training": configs["train"], "evaluate": str(list(configs.values()))}
    for action, files in runs.items():
        command = [sys.executable, "-m", "monai.bundle", "run", action, "--bundle_root", str(bundle)]
        command += ["--config_file", files, "--seed", str(seed), "--ckpt_dir", str(folder / "models")]
        subprocess.run([*command, "--output_dir", str(folder / action), *options], check=True)
    return json.loads((folder / "evaluate" / "metrics.json").read_text(encoding="utf-8"))


def over_seeds(values: Sequence[float]) -> dict[str, float]:
    numbers = {"value": sum(values) / len(values), "lower": min(values), "upper": max(values)}
    return {name: round(number, 3) for name, number in numbers.items()}


def summarise(metrics: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """AUROC over the seeds: of the mean over classes, and of each class.

    Raises:
        ValueError: if a class has no AUROC, because its labels in the evaluated list are all the same.
    """
    without = [name for name, values in metrics[0]["classes"].items() if values["auroc"]["value"] is None]
    if without:
        raise ValueError(f"no AUROC for {', '.join(without)}: the evaluated list needs images with and without it")
    count = len(metrics)
    return {
        "what": f"AUROC on the sample's test list: value is the mean over {count} trainings (seeds 0 to {count - 1}), "
        "lower and upper the least and the greatest of them; sample data, no medical skill",
        "num_images": metrics[0]["num_images"],
        "num_patients": metrics[0]["num_patients"],
        "mean_auroc": over_seeds([m["mean"]["auroc"]["value"] for m in metrics]),
        "auroc": {
            name: over_seeds([m["classes"][name]["auroc"]["value"] for m in metrics]) for name in metrics[0]["classes"]
        },
    }


def hardware() -> str:
    """The GPU if there is one, else the cores that this process may use and their model."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name(0)
    cpuinfo = Path("/proc/cpuinfo")
    model = re.search(r"^model name\s*: (.*)$", cpuinfo.read_text(), re.M) if cpuinfo.is_file() else None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cores} cores of {model[1] if model else platform.processor() or platform.machine()}"


def versions() -> str:
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU"
    python, of_torch = platform.python_version(), torch.__version__.partition("+")[0]
    return f"Python {python}, torch {of_torch} ({build}), monai {monai.__version__}"


def commit() -> str:
    """Of this script's checkout, and whether files of it were changed."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    changed = " with changes" if git("status", "--porcelain", "--untracked-files=no") else ""
    return (git("rev-parse", "--short", "HEAD") or "unknown") + changed


def page_section(results: dict[str, Any]) -> str:
    """What the bundle's page shows: rounded to two places from the numbers of the metadata."""
    count = re.search(r"over (\d+) trainings", results["what"])[1]
    rows = {**results["auroc"], "mean": results["mean_auroc"]}
    table = [f"| {name} | {v['value']:.2f} ({v['lower']:.2f} to {v['upper']:.2f}) |" for name, v in rows.items()]
    return "\n".join(
        [
            f"AUROC on the sample's test list ({results['num_images']} images of {results['num_patients']} patients): "
            f"the mean of {count} trainings with the seeds 0 to {int(count) - 1}, and the least",
            "and the greatest of them:",
            "",
            "| class | AUROC |",
            "|---|---|",
            *table,
            "",
            f"Command: {results['command']}; on {results['hardware']}; {results['versions']}; "
            f"commit {results['commit']}.",
            "",
        ]
    )


def around_marks(page: Path) -> tuple[str, str]:
    """The page's text before the first mark and after the second.

    Raises:
        ValueError: if the page has not each mark once, in this order.
    """
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in before + after:
        raise ValueError(f"{page}: needs these two lines once, in this order:\n{BEGIN}{END}")
    return before, after


def write(bundle: Path, results: dict[str, Any]) -> None:
    """Replace ``eval_metrics`` of the metadata, and what is between the page's marks."""
    metadata_path, page = bundle / "configs" / "metadata.json", bundle / "docs" / "README.md"
    before, after = around_marks(page)
    metadata = json.loads(metadata_path.read_text(encoding="utf-8"))
    metadata["eval_metrics"] = results
    with replacing(metadata_path) as stream:
        stream.write(json.dumps(metadata, indent=4, ensure_ascii=False) + "\n")
    with replacing(page) as stream:
        stream.write(before + BEGIN + page_section(results) + END + after)


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    split = words.index("--") if "--" in words else len(words)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, help="folder of the bundle")
    parser.add_argument("--seeds", type=int, required=True, metavar="N")
    arguments, options = parser.parse_args(words[:split]), words[split + 1 :]
    if arguments.seeds < 1:
        parser.error(f"argument --seeds must be at least 1; got {arguments.seeds}")
    if not (arguments.bundle / "configs" / "metadata.json").is_file():
        parser.error(f"{arguments.bundle}: is no folder of a bundle, it has no configs/metadata.json")
    # before the trainings, which may take hours
    around_marks(arguments.bundle / "docs" / "README.md")
    # also before them: what is measured is the code that they start with
    measured = {"hardware": hardware(), "versions": versions(), "commit": commit()}
    bundle, metrics = arguments.bundle.resolve(), []
    for seed in range(arguments.seeds):
        with tempfile.TemporaryDirectory() as folder:
            metrics.append(train_and_evaluate(bundle, seed, Path(folder), options))
        print(f"seed {seed}: mean AUROC {metrics[-1]['mean']['auroc']['value']:.3f}")
    place = str(bundle.relative_to(ROOT)) if bundle.is_relative_to(ROOT) else bundle.name
    shown = ["python", "scripts/remake_results.py", place, "--seeds", str(arguments.seeds)]
    results = {**summarise(metrics), "command": shlex.join(shown + ["--", *options] * bool(options)), **measured}
    write(bundle, results)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
