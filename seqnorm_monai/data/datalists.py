"""Which images are in which split: MONAI's JSON datalist, checked as a whole before a single image is read.

    {"training": [{"image": "a/1.dcm", "label": ["Mass"], "patient": "17"}, ...], "validation": [...], "test": [...]}

A list `class_names` beside the splits, which `seqnorm prepare` writes, names the classes in their order; without it
they are the labels that occur. An image is a file, the folder of a series or study, a DICOMDIR, a ZIP archive, or a
member or folder of one (`studies.zip/inner/1.dcm`); its path is relative to the folder of the JSON file. An empty
`label` means that no class was found. An item may have a `side`, "left" or "right", for one breast or eye of an image;
then each side of an image is an item. Other keys of the file and of its items are left alone.
"""

import json
import logging
import os
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seqnorm_monai.atomic_files import replacing
from seqnorm_monai.data.image_paths import ImagePaths
from seqnorm_monai.paths import require_path

SPLITS = ("training", "validation", "test")
SIDE, SIDES = "side", ("left", "right")
_LISTED_PROBLEMS = 5
logger = logging.getLogger(__name__)


class DatalistError(ValueError):
    """A datalist or a table of labels is wrong; the message names the file, the thing, and what to do."""


def load_datalist(
    path: str | os.PathLike[str],
    *,
    split: str,
    class_names: Sequence[str],
    ranked: bool = False,
    exclusive: bool = False,
) -> list[dict[str, Any]]:
    """The items of one split: `image` an absolute path, `label` float32 (classes,) of 0 and 1, `patient`, maybe `side`.

    The whole file is checked, whatever the split, so that a leak between splits stops every use of the file. `ranked`
    says that the split will be judged by AUROC, which needs a class with positive and negative images: one that has
    none is refused here, before the first epoch, and classes that have no AUROC are named in the log. `exclusive` says
    that every image has exactly one class.

    Raises `DatalistError`, with the first few problems and their number, for: a file that is missing or no JSON, an
    unknown, missing or empty split, repeated class names, an item without one of the three keys or with a wrong type in
    it, a label outside `class_names`, an image that does not exist, stands twice or is part of another (a file of a
    folder that is named too), a patient in two splits, and with `ranked` a split without any class to rank, with
    `exclusive` an item of no class or of several.
    """
    names = _checked_names(class_names)
    if split not in SPLITS:
        raise DatalistError(f"argument split must be one of {', '.join(SPLITS)}; got {split!r}")
    splits = _read(require_path(path, "datalist"))
    folder = os.path.dirname(os.path.abspath(path))
    problems = _problems(splits, folder, names) + (_not_exclusive(splits) if exclusive else [])
    if problems:
        raise DatalistError(summarise_problems(f"datalist {path}", problems))
    if not splits[split]:
        raise DatalistError(f"datalist {path}: split {split!r} is missing or empty; give it at least one item")
    if ranked:
        _check_ranking(f"datalist {path}: split {split!r}", splits[split], names)
    return [
        {
            "image": _absolute(item, folder),
            "label": np.array([name in item["label"] for name in names], dtype=np.float32),
            "patient": item["patient"],
            **({SIDE: item[SIDE]} if SIDE in item else {}),
        }
        for item in splits[split]
    ]


def load_class_names(path: str | os.PathLike[str]) -> list[str]:
    """The classes of a datalist in their order: its `class_names`, or else all labels in it, in alphabetical order.

    Raises `DatalistError` for a file that is missing or no JSON, for `class_names` that is no list of different names,
    and for a datalist without any label.
    """
    content = _read_json(require_path(path, "datalist"))
    if "class_names" in content:
        return _checked_names(content["class_names"], f"datalist {path}: class_names")
    labels = {
        label
        for split in SPLITS
        for item in content.get(split, [])
        # what else is wrong with an item is said where it is loaded
        if isinstance(item, dict) and isinstance(item.get("label"), list)
        for label in item["label"]
        if isinstance(label, str) and label
    }
    if not labels:
        advice = "label the images, or add the list class_names"
        raise DatalistError(f"datalist {path}: no item has a label, so there is no class; {advice}")
    return sorted(labels)


def split_sizes(path: str | os.PathLike[str]) -> dict[str, int]:
    """The number of items of each split. Raises `DatalistError` for a file that is missing or no JSON."""
    return {split: len(items) for split, items in _read(require_path(path, "datalist")).items()}


def _check_ranking(where: str, items: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    """Refuse a split in which no class has positive and negative images; name single classes without."""
    positives = {name: sum(name in item["label"] for item in items) for name in names}
    one_sided = {name: count for name, count in positives.items() if count in (0, len(items))}
    if not one_sided:
        return
    counts = ", ".join(f"{name} ({count} of {len(items)})" for name, count in one_sided.items())
    if len(one_sided) == len(names):
        raise DatalistError(
            f"{where} has no class with positive and negative images, so there is no AUROC; positive are: {counts}. "
            "Move patients of both kinds into it"
        )
    logger.warning("%s: no AUROC of classes without positive or negative images; positive are: %s", where, counts)


def write_datalist(
    datalist: Mapping[str, Sequence[Mapping[str, Any]]],
    path: str | os.PathLike[str],
    class_names: Sequence[str] | None = None,
) -> None:
    """Write the splits to the JSON file `path`, each image as a path relative to that file's folder.

    `class_names` gives the classes in the order in which a training takes them; None leaves that to their alphabet.
    Images in `datalist` are absolute paths, or relative to the working directory. The file is replaced as a whole.
    """
    folder = os.path.dirname(os.path.abspath(path))
    relative = {
        split: [{**item, "image": Path(os.path.relpath(item["image"], folder)).as_posix()} for item in datalist[split]]
        for split in SPLITS
    }
    classes = {} if class_names is None else {"class_names": _checked_names(class_names)}
    text = json.dumps({**classes, **relative}, indent=1)
    with replacing(path) as stream:
        stream.write(text + "\n")


def summarise_problems(where: str, problems: Sequence[str]) -> str:
    """One message for many problems: the first few, and how many there are."""
    if len(problems) == 1:
        return f"{where}: {problems[0]}"
    listed = "".join(f"\n  {problem}" for problem in problems[:_LISTED_PROBLEMS])
    return f"{where}: {len(problems)} problems, the first {min(len(problems), _LISTED_PROBLEMS)} are{listed}"


def patient_key(patient: str) -> str:
    """What all spellings of one patient share: capitals, blanks, and a number's ``.0`` or exponent say nothing.

    Tables that went through different programs spell a patient in two ways. Zeros in front count: 007 may be another
    patient than 7.
    """
    text = " ".join(unicodedata.normalize("NFKC", patient).casefold().split())
    number = re.fullmatch(r"(0|[1-9]\d*)[.,]0+", text)
    if number is None and re.fullmatch(r"\d+([.]\d+)?e[+]?\d{1,2}", text) and float(text).is_integer():
        return str(int(float(text)))
    return text if number is None else number[1]


def is_nobody(patient: str) -> bool:
    """Whether this is what programs write for an empty cell: taken for a name, it would make many patients one."""
    return patient.strip().casefold() in ("", "nan", "na", "n/a", "<na>", "none", "null")


def patients_in_two_splits(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """One problem for each patient who is in more than one split, whatever the spelling; `pairs` are patient, split."""
    spellings: dict[str, dict[str, None]] = {}
    splits: dict[str, dict[str, None]] = {}
    for patient, split in pairs:
        spellings.setdefault(patient_key(patient), {})[patient] = None
        splits.setdefault(patient_key(patient), {})[split] = None
    return [
        f"patient {' = '.join(map(repr, spellings[key]))} stands in the splits {' and '.join(found)}; keep all images "
        "of a patient in one split"
        for key, found in splits.items()
        if len(found) > 1
    ]


def _checked_names(class_names: object, what: str = "argument class_names") -> list[str]:
    names = list(class_names) if isinstance(class_names, (list, tuple)) else []
    repeated = sorted({str(name) for name in names if names.count(name) > 1})
    if repeated:
        raise DatalistError(f"{what} holds {', '.join(repeated)} twice; name each class once")
    if not names or not all(isinstance(name, str) and name for name in names):
        raise DatalistError(f"{what} must be a non-empty list of names; got {class_names!r}")
    return names


def _read(path: str | os.PathLike[str]) -> dict[str, list[Any]]:
    """The three lists of the file; a split that is not there is empty."""
    content = _read_json(path)
    return {split: content.get(split, []) for split in SPLITS}


def _read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What stands in the file: an object in which each split that is there is a list."""
    try:
        with open(path, encoding="utf-8") as stream:
            content = json.load(stream)
    except OSError as error:
        raise DatalistError(f"datalist {path}: cannot be opened ({error.strerror}); check the path") from error
    except ValueError as error:
        raise DatalistError(f"datalist {path}: is not valid JSON ({error}); correct it or write it anew") from error
    if not isinstance(content, dict):
        raise DatalistError(f"datalist {path}: must be an object with the lists {', '.join(SPLITS)}")
    for split in SPLITS:
        if not isinstance(content.get(split, []), list):
            raise DatalistError(f"datalist {path}: {split!r} must be a list of items")
    return content


def _problems(splits: Mapping[str, list[Any]], folder: str, names: Sequence[str]) -> list[str]:
    """Everything wrong with the items, in the order of the file, leaks between splits first."""
    wrong: list[str] = []
    images = ImagePaths()
    standing: list[tuple[str, str]] = []
    for split, items in splits.items():
        for position, item in enumerate(items):
            where = f"{split}[{position}]"
            found = _item_problem(item, names)
            if found is None:
                found = _image_problem(where, _absolute(item, folder), images, item.get(SIDE, ""))
                standing.append((item["patient"], split))
            if found is not None:
                wrong.append(f"{where}: {found}")
    return patients_in_two_splits(standing) + wrong + images.overlaps()


def _not_exclusive(splits: Mapping[str, list[Any]]) -> list[str]:
    return [
        f"{split}[{position}]: has {len(item['label'])} labels; exclusive classes need exactly one, also for no finding"
        for split, items in splits.items()
        for position, item in enumerate(items)
        if isinstance(item, dict) and isinstance(item.get("label"), list) and len(item["label"]) != 1
    ]


def _item_problem(item: object, names: Sequence[str]) -> str | None:
    """What is wrong with the keys and values of one item, apart from the file it names."""
    if not isinstance(item, dict):
        return f"must be an object with the keys image, label and patient; got {item!r}"
    missing = [key for key in ("image", "label", "patient") if key not in item]
    if missing:
        return f"the key {', '.join(missing)} is missing; add it"
    for key in ("image", "patient"):
        if not isinstance(item[key], str) or not item[key].strip():
            return f"{key} must be a non-empty string; got {item[key]!r}"
    if is_nobody(item["patient"]):
        return f"patient {item['patient']!r} is what programs write for nobody; give each patient a pseudonym"
    if SIDE in item and item[SIDE] not in SIDES:
        return f"side must be left or right; got {item[SIDE]!r}"
    labels = item["label"]
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        return f"label must be a list of class names, empty for no finding; got {labels!r}"
    unknown = [label for label in labels if label not in names]
    if unknown:
        return f"unknown label {', '.join(map(repr, unknown))}; allowed are {', '.join(names)}"
    if len(set(labels)) < len(labels):
        return f"a label stands twice in {labels}; name it once"
    return None


def _image_problem(where: str, image: str, images: ImagePaths, side: str) -> str | None:
    found = images.problem(where, image, side)
    if found is not None and found.endswith("does not exist"):
        found += "; paths are relative to the folder of the datalist"
    return None if found is None else f"image {found}"


def _absolute(item: Mapping[str, Any], folder: str) -> str:
    return os.path.normpath(os.path.join(folder, item["image"]))
