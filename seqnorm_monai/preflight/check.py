"""The whole check of a bundle and a datalist, as `seqnorm check` shows it."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from monai.utils import set_determinism

from seqnorm_monai.data.datalists import SPLITS, DatalistError, load_datalist, split_sizes
from seqnorm_monai.preflight.findings import Finding
from seqnorm_monai.preflight.images import ImageSurvey, image_findings, most_common, survey
from seqnorm_monai.preflight.labels import count_labels, label_findings
from seqnorm_monai.preflight.machine import this_machine
from seqnorm_monai.preflight.resources import resource_findings, resources
from seqnorm_monai.preflight.steps import NUM_STEPS, time_steps


@dataclass
class Report:
    """What a check found; `lines` are the facts, `findings` what to do about them."""

    lines: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)

    @property
    def is_good(self) -> bool:
        """Whether nothing stands in the way."""
        return not any(finding.is_problem for finding in self.findings)

    def __str__(self) -> str:
        order = sorted(self.findings, key=lambda finding: not finding.is_problem)
        problems = sum(finding.is_problem for finding in order)
        last = f"{problems} problem{'' if problems == 1 else 's'}, {len(order) - problems} pieces of advice"
        return "\n".join([*self.lines, *map(str, order), last])

    def as_json(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {**self.data, "findings": [asdict(finding) for finding in self.findings]}


def check_bundle(bundle: Path, options: Mapping[str, object], *, num_images: int | None = None) -> Report:
    """Check labels, images and machine for the training of a bundle; nothing is written.

    Args:
        bundle: its folder, with ``configs/train.json``.
        options: entries of the configuration to be changed, as on its command line: ``{"image_size": 1024}``.
        num_images: look at so many images only, drawn at random; None for all.

    Raises:
        FileNotFoundError: if there is no such configuration.
        ValueError: for an option that is no entry of it.
        DatalistError: if the datalist cannot be read at all.
    """
    parser, report = _parser(bundle, options), Report()
    items = _check_labels(parser, report)
    if not items:
        return report
    found = _check_images(parser, report, items, num_images)
    machine = this_machine()
    report.lines.append(f"machine: {machine}")
    report.data["machine"] = asdict(machine)
    if found.samples:
        # a configuration of its own, since its data and handlers are replaced
        times = time_steps(_parser(bundle, options), found.samples)
        needs = resources(parser, items, found.seconds / found.looked_at, times)
        report.lines += needs.lines()
        report.findings += resource_findings(needs, machine, times)
        report.data["resources"] = asdict(needs)
    return report


def _parser(bundle: Path, options: Mapping[str, object]) -> ConfigParser:
    path = bundle / "configs" / "train.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file; give the folder of a bundle")
    parser = ConfigParser()
    parser.read_config(str(path))
    parser["bundle_root"] = str(bundle)
    for name, value in options.items():
        if name not in parser:
            raise ValueError(f"{path}: has no entry {name}")
        parser[name] = value
    set_determinism(seed=0)
    return parser


def _check_labels(parser: ConfigParser, report: Report) -> dict[str, list[dict[str, Any]]]:
    """The items of each split; none if the datalist is refused."""
    path, names = parser.get_parsed_content("datalist"), parser.get_parsed_content("class_names")
    sizes = split_sizes(path)
    try:
        items = {split: load_datalist(path, split=split, class_names=names) for split in SPLITS if sizes[split]}
    except DatalistError as error:
        report.findings.append(Finding(True, str(error), "correct the datalist, or write it anew"))
        return {}
    report.findings += [
        Finding(split != SPLITS[2], f"split {split} is empty", "give it patients of its own")
        for split in SPLITS
        if not sizes[split]
    ]
    counted = [count_labels(split, items[split], names) for split in items]
    report.lines += map(str, counted)
    report.findings += label_findings(counted)
    report.data["labels"] = [asdict(one) for one in counted]
    return items


def _check_images(
    parser: ConfigParser, report: Report, items: Mapping[str, list[dict[str, Any]]], num_images: int | None
) -> ImageSurvey:
    chosen = [(item, split) for split in items for item in items[split]]
    if num_images is not None and num_images < len(chosen):
        chosen = random.Random(0).sample(chosen, num_images)
    transforms = parser.get_parsed_content("train#deterministic_transforms")
    kept = NUM_STEPS * int(parser.get_parsed_content("batch_size"))
    found = survey([item for item, _ in chosen], transforms, num_kept=kept)
    size = parser.get_parsed_content("image_size")
    spacing = parser.get_parsed_content("spacing")
    axes = list(size) if isinstance(size, (list, tuple)) else [size]
    report.findings += image_findings(found, {item["image"]: split for item, split in chosen}, axes, spacing)
    report.lines += [
        f"images: {found.looked_at} looked at, {len(found.unreadable)} cannot be read",
        f"sizes: {most_common(found.sizes)}",
        f"spacings in mm: {most_common(found.spacings)}",
    ]
    report.data["images"] = {
        "looked_at": found.looked_at,
        "unreadable": [{"path": one.path, "reason": one.reason} for one in found.unreadable],
        "copies": found.copies,
        "sizes": [list(size) for size in sorted(set(found.sizes))],
        "spacings": [None if one is None else list(one) for one in sorted(set(found.spacings), key=str)],
    }
    return found
