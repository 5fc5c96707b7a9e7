"""Patients divided into training, validation and test: each on one side, the classes spread evenly."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from seqnorm_monai.data.datalists import SPLITS, DatalistError

# a fold is the unit of the stratified split; more folds than this leave too few patients in each
_MOST_FOLDS = 20


def divide(
    labels: Sequence[Sequence[str]], patients: Sequence[str], fractions: Sequence[float], seed: int
) -> list[str]:
    """The split of each image: `labels` (images,) the class names of each, `patients` (images,).

    Patients are divided by `fractions` (of training, validation and test), stratified by the rarest class of each
    image; the result depends on the arguments only. With few patients, patients are drawn without stratification; each
    split with a fraction above 0 gets at least one.

    Raises `DatalistError` for fractions that do not sum to 1 or ask for more splits than there are patients.
    """
    if len(fractions) != len(SPLITS) or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-9:
        raise DatalistError(f"argument fractions must be three numbers >= 0 that sum to 1; got {tuple(fractions)}")
    groups = np.unique(list(patients), return_inverse=True)[1]
    wanted = sum(fraction > 0 for fraction in fractions)
    if groups.max() + 1 < wanted:
        raise DatalistError(f"argument fractions asks for {wanted} splits, but there are {groups.max() + 1} patients")
    parts = _by_folds(_strata(labels), groups, fractions, seed)
    if parts is None:
        parts = _by_draws(groups, fractions, seed)
    return [SPLITS[part] for part in parts]


def _strata(labels: Sequence[Sequence[str]]) -> list[str]:
    """The rarest class of each image, or the empty name: one label per image is what the stratified split can use."""
    frequency: dict[str, int] = {}
    for names in labels:
        for name in names:
            frequency[name] = frequency.get(name, 0) + 1
    return [min(names, key=lambda name: (frequency[name], name), default="") for names in labels]


def _by_folds(
    strata: list[str], patients: NDArray[np.intp], fractions: Sequence[float], seed: int
) -> NDArray[np.intp] | None:
    """Part 0, 1 or 2 of each row from stratified folds; None where folds do not fit the fractions or the patients."""
    fits = [k for k in range(2, _MOST_FOLDS + 1) if all(abs(f * k - round(f * k)) < 1e-9 for f in fractions)]
    if not fits or patients.max() + 1 < fits[0]:
        return None
    folds = fits[0]
    _, stratum, sizes = np.unique(strata, return_inverse=True, return_counts=True)
    if sizes.max() < folds:
        return None
    # a class with fewer images than folds cannot be spread over them: let it go with the most common one
    stratum = np.where(sizes[stratum] < folds, sizes.argmax(), stratum)
    part_of_fold = np.repeat(np.arange(len(fractions)), [round(f * folds) for f in fractions])
    parts = np.empty(len(patients), dtype=np.intp)
    # imported where it is used: it takes half a second, and a table may have splits of its own
    from sklearn.model_selection import StratifiedGroupKFold

    divider = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    for fold, (_, inside) in enumerate(divider.split(stratum[:, None], stratum, patients)):
        parts[inside] = part_of_fold[fold]
    return parts if set(parts) == set(part_of_fold) else None


def _by_draws(patients: NDArray[np.intp], fractions: Sequence[float], seed: int) -> NDArray[np.intp]:
    """Part 0, 1 or 2 of each row by drawing patients, first those of the test, then those of the validation."""
    from sklearn.model_selection import GroupShuffleSplit

    parts = np.zeros(len(patients), dtype=np.intp)
    for part in (2, 1):
        if fractions[part] == 0:
            continue
        left = np.flatnonzero(parts == 0)
        others = sum(fraction > 0 for fraction in fractions[:part])
        if others == 0:
            parts[left] = part
            break
        num_left = len(np.unique(patients[left]))
        share = fractions[part] / sum(fractions[: part + 1])
        drawn = min(max(round(num_left * share), 1), num_left - others)
        divider = GroupShuffleSplit(n_splits=1, test_size=drawn, random_state=seed)
        parts[left[next(divider.split(left, groups=patients[left]))[1]]] = part
    return parts
