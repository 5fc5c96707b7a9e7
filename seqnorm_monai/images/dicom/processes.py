"""Apply a function to many files in worker processes, of which a file may end one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

Item, Result = TypeVar("Item"), TypeVar("Result")

# files that a process takes at a time
CHUNK = 32


def map_in_processes(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    num_workers: int,
    ended: Callable[[Item], Result],
) -> list[Result]:
    """`function` of each item, in their order; `ended(item)` for an item whose process did not survive it.

    When a process ends, killed by the system or by a fault in a decoder, nobody says on which file. Those that were not
    done go to fresh processes in ever smaller parts until the file is known; the rest goes on as before.

    Raises what `function` raises, and BrokenProcessPool where no process lives at all.
    """
    chunks = [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]
    results: dict[int, list[Result]] = {}
    waiting = list(range(len(chunks)))
    while waiting:
        waiting = _run(function, chunks, waiting, num_workers, results)
        # only these were begun when the process ended: a pool hands out one more than it has workers
        suspects, waiting = waiting[: 2 * num_workers + 1], waiting[2 * num_workers + 1 :]
        for index in suspects:
            results[index] = _isolated(function, chunks[index], ended)
    return [result for index in range(len(chunks)) for result in results[index]]


def _run(
    function: Callable[[Item], Result],
    chunks: Sequence[Sequence[Item]],
    waiting: Sequence[int],
    num_workers: int,
    results: dict[int, list[Result]],
) -> list[int]:
    """Put the results of the `waiting` chunks into `results`; return those that were lost with a process."""
    lost = []
    pool = ProcessPoolExecutor(num_workers)
    try:
        try:
            futures = [(index, pool.submit(_each, function, chunks[index])) for index in waiting]
        # a process ended while the last of them were handed over
        except BrokenProcessPool:
            return list(waiting)
        for index, future in futures:
            try:
                results[index] = future.result()
            except BrokenProcessPool:
                lost.append(index)
    finally:
        pool.shutdown(cancel_futures=True)
    return lost


def _isolated(
    function: Callable[[Item], Result], items: Sequence[Item], ended: Callable[[Item], Result]
) -> list[Result]:
    """The results of a few items, halved until an item that ends its process stands alone."""
    found: dict[int, list[Result]] = {}
    if not _run(function, [items], [0], 1, found):
        return found[0]
    if len(items) == 1:
        _check_machine()
        return [ended(items[0])]
    middle = len(items) // 2
    return [*_isolated(function, items[:middle], ended), *_isolated(function, items[middle:], ended)]


def _check_machine() -> None:
    """Raise BrokenProcessPool if a process that has nothing to do does not live either: then no file is to blame."""
    with ProcessPoolExecutor(1) as pool:
        pool.submit(_nothing).result()


def _nothing() -> None:
    pass


def _each(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    return [function(item) for item in items]
