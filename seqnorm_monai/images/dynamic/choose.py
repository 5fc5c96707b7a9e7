"""Which volumes of a study are its dynamic series, and which of its phases is before the contrast agent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from seqnorm_monai.images.dynamic.candidates import Candidate
from seqnorm_monai.images.dynamic.grids import Grid
from seqnorm_monai.images.dynamic.study import T2, DynamicPhase
from seqnorm_monai.images.dynamic.times import in_time
from seqnorm_monai.images.inventory import ImageEntry
from seqnorm_monai.images.rules import Selection

# names of selections: which series are the dynamic ones, and which of them is before the contrast; T2 is a third
DYNAMIC, PRE = "dynamic", "pre"
# What makes an image T2-weighted, in ms: our reading; spin echoes of the breast take 60 to 120 and 3000 and more
_T2_ECHO, _T2_REPETITION = 50.0, 1500.0
T2_ASIDE = "T2-weighted, no phase: read where the channel t2 is asked for"
_BY_ORDER = "the first in time"


class UnclearStudyError(ValueError):
    """Why no dynamic series was understood; the text lists the candidates by their numbers."""


@dataclass(frozen=True)
class Choice:
    """The phases, pre first; `clock` and `decided` as a `DynamicStudy` has them; `aside`: other volumes and why."""

    phases: tuple[DynamicPhase, ...]
    clock: str
    decided: str
    aside: Mapping[int, str]
    t2: tuple[ImageEntry, ...] = ()


def choose_phases(
    candidates: Sequence[Candidate], rules: Sequence[Selection] = (), *, any_grid: bool = False
) -> Choice:
    """The dynamic series among the volumes of a study, and the roles of its phases.

    Volumes on one grid and of one protocol are a series of phases, whatever series they were stored as; volumes that a
    selection named "dynamic" names need no common protocol. If there are several, the one counts in which a contrast
    agent comes up; else the only one of three phases or more. Of its phases, pre is what the selection "pre" names;
    else the last one before the contrast agent comes up; else the first in time. `any_grid`: phases may lie on other
    grids of one frame of reference. T2-weighted is, beside the phases, what the selection "t2" names, or else has an
    echo time of 50 ms and a repetition time of 1500 ms or more.

    Raises UnclearStudyError where that does not decide.
    """
    chosen = _chosen_group(candidates, rules, any_grid)
    ordered = in_time(chosen) or _by_rule(chosen, rules)
    if ordered is None:
        raise UnclearStudyError(f"no time tells its phases apart: {_listed(chosen)}")
    phases, seconds, clock = ordered
    first, decided = _first_after(phases, rules)
    pre = first - 1
    aside = {id(one): "of another protocol or on another grid than the phases" for one in candidates}
    for one in chosen:
        del aside[id(one)]
    aside |= {id(one): "an earlier phase before the contrast agent" for one in phases[:pre]}
    found = []
    for place, one in enumerate(phases[pre:]):
        moment = None if seconds is None else seconds[pre + place] - seconds[pre]
        found.append(DynamicPhase(one.entry, f"post_{place}" if place else "pre", moment))
    t2 = _t2([one for one in candidates if id(one) in aside], phases[pre], rules)
    aside |= {id(one): T2_ASIDE for one in t2}
    return Choice(tuple(found), clock, decided, aside, tuple(one.entry for one in t2))


def _t2(others: Sequence[Candidate], pre: Candidate, rules: Sequence[Selection]) -> list[Candidate]:
    """The T2-weighted volumes that can be brought onto pre."""
    named = [one for one in others if any(rule.name == T2 and _fits(rule, one) for rule in rules)]
    by_protocol = [
        one
        for one in others
        if (one.protocol.echo_time or 0) >= _T2_ECHO and (one.protocol.repetition_time or 0) >= _T2_REPETITION
    ]
    found = named if any(rule.name == T2 for rule in rules) else by_protocol
    return [one for one in found if one.grid.can_be_resampled(pre.grid)]


def _by_rule(phases: Sequence[Candidate], rules: Sequence[Selection]) -> tuple[list[Candidate], None, str] | None:
    """Two phases without times, of which the selection "pre" names one."""
    named = [one for one in phases if any(rule.name == PRE and _fits(rule, one) for rule in rules)]
    others = [one for one in phases if one not in named]
    return ([*named, *others], None, f"the selection {PRE!r}") if len(named) == len(others) == 1 else None


def _chosen_group(candidates: Sequence[Candidate], rules: Sequence[Selection], any_grid: bool) -> list[Candidate]:
    by_rule = [one for one in candidates if any(_fits(rule, one) for rule in rules if rule.name in (DYNAMIC, PRE))]
    is_named = any(rule.name == DYNAMIC for rule in rules)
    if is_named:
        if not by_rule:
            raise UnclearStudyError(f"no volume fits the selection {DYNAMIC!r}: {_listed(candidates)}")
        candidates = by_rule
    groups = _groups(candidates, by_protocol=not is_named, any_grid=any_grid)
    several = [group for group in groups if len(group) > 1]
    if not several:
        raise UnclearStudyError(f"no two volumes are phases of one series: {_listed(candidates)}")
    for is_better in (lambda _: True, _has_onset, lambda group: len(group) > 2):
        better = [group for group in several if is_better(group)]
        if len(better) == 1:
            _check_stray(better[0], candidates)
            return better[0]
    texts = "; or ".join(_listed(group) for group in several)
    raise UnclearStudyError(f"{len(several)} series of phases, and nothing tells which is the dynamic one: {texts}")


def _groups(candidates: Sequence[Candidate], *, by_protocol: bool, any_grid: bool) -> list[list[Candidate]]:
    groups: list[list[Candidate]] = []
    for one in candidates:
        on_grid = (group for group in groups if _may_be_together(one.grid, group[0].grid, any_grid))
        group = next((g for g in on_grid if not by_protocol or one.protocol.is_same(g[0].protocol)), None)
        if group is None:
            groups.append([one])
        else:
            group.append(one)
    return groups


def _may_be_together(one: Grid, other: Grid, any_grid: bool) -> bool:
    return not one.difference(other) or (any_grid and one.can_be_resampled(other))


def _check_stray(group: Sequence[Candidate], candidates: Sequence[Candidate]) -> None:
    """Refuse a study of which a phase lies on another grid: it would be missing without a word."""
    inside = {id(one) for one in group}
    for one in candidates:
        if id(one) in inside or not one.protocol.is_same(group[0].protocol):
            continue
        same_series = one.series in {other.series for other in group}
        if same_series or one.protocol.is_told:
            reason = one.grid.difference(group[0].grid)
            raise UnclearStudyError(f"{one.label} is of the protocol of the phases, but has {reason}: {_listed(group)}")


def _has_onset(group: Sequence[Candidate]) -> bool:
    """Whether the contrast agent is named in some phases, and not in all."""
    return len({bool(one.agent) for one in group}) == 2


def _first_after(phases: Sequence[Candidate], rules: Sequence[Selection]) -> tuple[int, str]:
    """The place of the first phase after the contrast agent, and how it was found."""
    named = [place for place, one in enumerate(phases) if any(r.name == PRE and _fits(r, one) for r in rules)]
    if any(rule.name == PRE for rule in rules):
        if not named or named[-1] + 1 == len(phases) or named != list(range(named[-1] + 1)):
            raise UnclearStudyError(f"the selection {PRE!r} does not fit the first phases in time: {_listed(phases)}")
        return named[-1] + 1, f"the selection {PRE!r}"
    if not _has_onset(phases):
        return 1, _BY_ORDER
    onset = next(place for place, one in enumerate(phases) if one.agent)
    if onset == 0 or not all(one.agent for one in phases[onset:]):
        raise UnclearStudyError(f"the contrast agent is named in earlier and not in later phases: {_listed(phases)}")
    return onset, "ContrastBolusAgent"


def _fits(rule: Selection, one: Candidate) -> bool:
    return bool(rule.conditions) and rule.matches(one.entry.attributes)


def _listed(candidates: Sequence[Candidate]) -> str:
    return ", ".join(one.label for one in candidates) or "no volume at all"
