"""Write the configurations of the bundles from what all have in common and what each has of its own.

    python scripts/write_bundle_configs.py            # write bundles/*/configs/{train,inference,evaluate}.json
    python scripts/write_bundle_configs.py --check    # write nothing, name the files that differ

MONAI's configurations know no include, and hosts read one file, so the files in the bundles are complete. Here each
thing stands once: ``bundle_configs/base`` holds the files of every bundle with gaps, spelt ``<name>``, and
``bundle_configs/MODALITY.json`` holds the folder of one bundle and a value for each gap. Settings that an evaluation
and an inference take from the trained model are written as such here (`derived`).
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "scripts" / "bundle_configs"
KINDS = ("train", "inference", "evaluate")
GAP = re.compile(r"<(\w+)>")


def fill(template: Any, values: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """A copy of ``template`` with ``values`` in its gaps.

    A text that is nothing but a gap becomes the value itself; a gap within a longer text, or within a key, becomes
    the value's text.
    """
    if isinstance(template, dict):
        return {fill(key, values): fill(value, values) for key, value in template.items()}
    if isinstance(template, list):
        return [fill(value, values) for value in template]
    if not isinstance(template, str):
        return template
    whole = GAP.fullmatch(template)
    return values[whole[1]] if whole else GAP.sub(lambda gap: str(values[gap[1]]), template)


def read_base(sources: Path = SOURCES) -> dict[str, Any]:
    """The files of every bundle, by kind, with their gaps."""
    return {kind: json.loads((sources / "base" / f"{kind}.json").read_text(encoding="utf-8")) for kind in KINDS}


def derived(values: Mapping[str, Any]) -> dict[str, Any]:
    """Gaps that follow from others: what a model file says of its network, and the settings that come from there."""
    network, preprocessing = values["network_def"], values["preprocessing_settings"]
    return {
        "network_settings": {name.strip("_"): f"@network_def#{name}" for name in network},
        "trained_network_def": _from_model(network, "network"),
        "trained_preprocessing_settings": _from_model(preprocessing, "preprocessing"),
    }


def _from_model(settings: Mapping[str, Any], group: str) -> dict[str, Any]:
    """Each setting as the trained model has it, with its value here as default; a reference stays as it is."""
    return {
        name: value
        if name == "_target_" or (isinstance(value, str) and value[:1] in "@$")
        else f"$@trained.get('{group}.{name}', {value!r})"
        for name, value in settings.items()
    }


def gaps(base: Mapping[str, Any]) -> set[str]:
    """The names of all gaps."""
    return set(GAP.findall(json.dumps(base)))


def compose(modality: Path) -> dict[str, str]:
    """The texts of one bundle's configurations, by their paths below ``bundles``.

    Raises:
        ValueError: if the modality's file leaves a gap open, or has a key that is no gap.
    """
    values = json.loads(modality.read_text(encoding="utf-8"))
    base = read_base(modality.parent)
    bundle, own = values.pop("bundle"), set(values)
    allowed = gaps(base)
    if {"network_def", "preprocessing_settings"} <= own:
        values |= derived(values)
    for problem, names in (("has no", allowed - set(values)), ("no base file has a gap for", own - allowed)):
        if names:
            raise ValueError(f"{modality}: {problem} {', '.join(sorted(names))}")
    return {f"{bundle}/configs/{kind}.json": json.dumps(fill(base[kind], values), indent=4) + "\n" for kind in KINDS}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sources", type=Path, default=SOURCES, metavar="FOLDER")
    parser.add_argument("--bundles", type=Path, default=ROOT / "bundles", metavar="FOLDER")
    parser.add_argument("--check", action="store_true", help="exit code 1 if a file is not what it would be")
    arguments = parser.parse_args(argv)
    differ = []
    for modality in sorted(arguments.sources.glob("*.json")):
        for name, text in compose(modality).items():
            path = arguments.bundles / name
            if path.is_file() and path.read_text(encoding="utf-8") == text:
                continue
            differ.append(path)
            if not arguments.check:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
    for path in differ:
        print(f"{path} {'differs from its sources' if arguments.check else 'is written'}")
    if arguments.check and differ:
        print("run scripts/write_bundle_configs.py", file=sys.stderr)
    return int(arguments.check and bool(differ))


if __name__ == "__main__":
    raise SystemExit(main())
