"""``seqnorm check --bundle B``: what stands in the way of a training, before it starts."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from ast import literal_eval
from collections.abc import Sequence
from pathlib import Path

from seqnorm_monai.atomic_files import replacing
from seqnorm_monai.refusals import refusal

_DESCRIPTION = """\
Check a datalist and its images for the training of a bundle: labels and leaks, classes without cases, images that
cannot be read or stand twice, sizes and spacings, what the machine has, what the training will need of it, and how long
an epoch takes here, from three real steps. Nothing is trained, and nothing written but the report."""
_EPILOG = """\
Any other option is one of the bundle's configuration, as for its training: --image_size 1024 --batch_size 2. The exit
code is 0 where nothing stands in the way, 1 for problems, 2 where the check itself could not be made."""


def main(arguments: Sequence[str]) -> int:
    """Print the report; the exit code."""
    parser = _parser()
    known, others = parser.parse_known_args(arguments)
    # not before: the help needs neither torch nor MONAI
    from seqnorm_monai.preflight import check_bundle

    options = {**_options(parser, others), "bundle_root": str(known.bundle)}
    for name in ("datalist", "dataset_dir"):
        if (value := getattr(known, name)) is not None:
            options[name] = str(value)
    # MONAI warns that a configuration is code: that is said on the page of a bundle
    logging.captureWarnings(True)
    logging.getLogger("py.warnings").setLevel(logging.ERROR)
    try:
        report = check_bundle(known.bundle, options, num_images=known.images)
        if known.json is not None:
            with replacing(known.json) as stream:
                stream.write(json.dumps(report.as_json(), indent=1) + "\n")
    # MONAI raises an error of its own from each within a configuration
    except Exception as error:
        if not (message := refusal(error)):
            raise
        print(message, file=sys.stderr)
        return 2
    print(report)
    return 0 if report.is_good else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="seqnorm check", description=_DESCRIPTION, epilog=_EPILOG, allow_abbrev=False)
    parser.add_argument("--bundle", required=True, type=Path, metavar="FOLDER", help="the bundle that will be trained")
    parser.add_argument("--datalist", type=Path, metavar="JSON", help="default: that of the bundle's sample")
    parser.add_argument("--dataset_dir", type=Path, metavar="FOLDER", help="folder of the datalist")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report as data, too")
    parser.add_argument("--images", type=int, metavar="N", help="look at N images only, drawn at random")
    return parser


def _options(parser: argparse.ArgumentParser, others: Sequence[str]) -> dict[str, object]:
    """Options of the configuration: --name value, --name=value."""
    words = [part for word in others for part in (word.split("=", 1) if word.startswith("--") else [word])]
    if len(words) % 2 or not all(word.startswith("--") for word in words[::2]):
        parser.error(f"options of the configuration are --name value; got {' '.join(others)}")
    return {name.removeprefix("--"): _value(text) for name, text in zip(words[::2], words[1::2], strict=True)}


def _value(text: str) -> object:
    """A number, list or None as Python writes it, anything else as text."""
    try:
        return literal_eval(text)
    except (ValueError, SyntaxError):
        return text
