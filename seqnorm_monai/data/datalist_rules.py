"""What a datalist and the table of labels it is built from have in common: the splits, the error, the leak."""

from collections.abc import Mapping, Sequence

SPLITS = ("training", "validation", "test")
_LISTED_PROBLEMS = 5


class DatalistError(ValueError):
    """A datalist or a table of labels is wrong; the message names the file, the thing, and what to do."""


def summary_of(where: str, problems: Sequence[str]) -> str:
    """One message for many problems: the first few, and how many there are."""
    if len(problems) == 1:
        return f"{where}: {problems[0]}"
    listed = "".join(f"\n  {problem}" for problem in problems[:_LISTED_PROBLEMS])
    return f"{where}: {len(problems)} problems, the first {min(len(problems), _LISTED_PROBLEMS)} are{listed}"


def leaks(splits_of_patient: Mapping[str, Sequence[str]]) -> list[str]:
    """One problem for each patient that stands in more than one split."""
    return [
        f"patient {patient!r} stands in the splits {' and '.join(splits)}; keep all images of a patient in one split"
        for patient, splits in splits_of_patient.items()
        if len(splits) > 1
    ]
