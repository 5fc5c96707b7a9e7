"""The last line of a run that failed says why: a refusal of this package, instead of the traceback around it.

``python -m monai.bundle`` raises an error of its own from each error in a configuration, so that what is wrong stands
in the middle of two or three tracebacks. The environment variable SEQNORM_DEBUG brings them all back.
"""

from __future__ import annotations

import dis
import os
import re
import sys
from collections.abc import Iterator
from types import TracebackType

from seqnorm_monai.monai_options import is_monai_command_line, typed_options

_PACKAGE = __name__.partition(".")[0]
_DEBUG = "SEQNORM_DEBUG"
_RAISE = dis.opmap["RAISE_VARARGS"]
# what MONAI makes of the beginning of a value
_MEANINGS = {"@": "a reference to another entry", "%": "a macro", "$": "an expression in Python"}


def show_refusals_last() -> None:
    """On MONAI's command line, end a failing run with the one line that says what to do.

    Nothing changes in another program that runs a bundle, nor with SEQNORM_DEBUG set.
    """
    if is_monai_command_line() and not os.environ.get(_DEBUG):
        sys.excepthook = _show


def refusal(error: BaseException) -> str:
    """The message of the outermost error in the chain of `error` that this package raised on purpose, "" for none.

    On purpose means by a ``raise`` in one of its modules: a failing operation there is a fault of the package, whose
    traceback is needed. What a worker process of a data loader raised is known by its text alone.
    """
    for link in _chain(error):
        if _is_raised_here(link):
            return str(link)
        if found := re.search(rf"^{_PACKAGE}\.[\w.]+: (.+)", str(link), re.MULTILINE | re.DOTALL):
            return found[1].strip()
    return ""


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    seen: set[int] = set()
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__context__ if link.__cause__ is None else link.__cause__


def _is_raised_here(link: BaseException) -> bool:
    trace = link.__traceback__
    if trace is None:
        return False
    while trace.tb_next is not None:
        trace = trace.tb_next
    module = trace.tb_frame.f_globals.get("__name__", "")
    raised = trace.tb_frame.f_code.co_code[trace.tb_lasti] == _RAISE
    return raised and module.partition(".")[0] == _PACKAGE


def _show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """The hook: our message alone, or the traceback of a foreign error and its innermost cause after it."""
    if message := refusal(error):
        print(f"The run has ended; {_DEBUG}=1 in the environment shows the traceback.", file=sys.stderr)
        print(message, file=sys.stderr)
        return
    sys.__excepthook__(kind, error, trace)
    *_, cause = _chain(error)
    if cause is not error and not isinstance(error, KeyboardInterrupt):
        print(f"The cause: {type(cause).__name__}: {str(cause).strip()}{_hint()}", file=sys.stderr)


def _hint() -> str:
    """Options whose value MONAI takes for something else than a text."""
    return "".join(
        f"\n--{name} {text}: MONAI takes what begins with {text[0]} for {_MEANINGS[text[0]]}; a path is written with "
        f"./ before it: ./{text}"
        for name, text in typed_options().items()
        if text[:1] in _MEANINGS
    )
