"""``scripts/quickstart.sh``, but for the installation, which brought the tests here."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.makers.bundles import CHEST, ROOT, copy_bundle, run_command


@pytest.mark.slow
def test_short_log_with_the_result_and_the_next_commands_last(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    (tmp_path / "scripts" / "common.sh").write_text("prepare() { :; }\n")
    (tmp_path / "bundles").mkdir()
    bundle = copy_bundle(CHEST, tmp_path / "bundles")
    lines = run_command("bash scripts/quickstart.sh", tmp_path).splitlines()
    assert len(lines) <= 60
    assert sum("epoch" in line and "val_mean_auroc" in line for line in lines) == 12
    prepare, check, train = lines[-3:]
    assert prepare.startswith("  seqnorm prepare csv ")
    assert check.startswith("  seqnorm check ")
    assert train.startswith("  python -m monai.bundle run training ")
    assert lines[-6].split()[0] == "mean"
    for name in ("models/model.pt", "output/evaluation/metrics.json", "output/inference/predictions.csv"):
        assert (bundle / name).is_file()
