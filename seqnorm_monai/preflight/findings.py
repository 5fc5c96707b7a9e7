"""One thing that a check found, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """`is_problem`: the training would stop, or its result be wrong; otherwise it is advice."""

    is_problem: bool
    text: str
    cure: str

    def __str__(self) -> str:
        return f"{'PROBLEM' if self.is_problem else 'advice'}: {self.text}; {self.cure}"


def named(names: list[str], most: int = 5) -> str:
    """The first names of a list, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
