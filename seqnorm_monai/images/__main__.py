"""What is in any folder, archive or medium: ``seqnorm list FOLDER``, or ``python -m seqnorm_monai.images FOLDER``.

Exit code 0 when FOLDER could be read, whatever was rejected in it; 2 when it, the rules, or an output cannot be.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from seqnorm_monai.images.errors import ImageReadError
from seqnorm_monai.images.export import write_nifti
from seqnorm_monai.images.inventory import check_pixels, take_inventory
from seqnorm_monai.images.rules import SelectionRuleError, read_rules
from seqnorm_monai.images.sources import open_sources
from seqnorm_monai.images.terminal_table import printable, table, write_json

_DESCRIPTION = """\
List the images of a folder tree, a DICOMDIR, a ZIP archive or a single file, DICOM and NIfTI, and account for every
file in it: studies, series, phases, geometry, problems. No name, identifier or date of the patient is read, but the
series' description and the protocol's name are shown, in which people write what they like: --no-text leaves them out.
The JSON never has them."""
_EPILOG = """\
Series 2.3 is the third stack of series 2: slices of one size, spacing and orientation. Number is SeriesNumber, spacing
is along x, y and z, and the three letters of an orientation are the directions in which these grow: Left or Right,
Anterior or Posterior, Superior or Inferior. The JSON has the same rows and a record of every file."""


def main(arguments: Sequence[str] | None = None, *, program: str = "python -m seqnorm_monai.images") -> int:
    """Print the table, write what was asked for; the exit code. `program` is the name that the help shows."""
    options = _parser(program).parse_args(arguments)
    try:
        _run(options)
    except (ImageReadError, SelectionRuleError) as error:
        return _fail(str(error))
    except BrokenPipeError:
        # the reader of the table (head, less) has seen enough; nothing may be flushed to it at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        return _fail(f"{error.filename or 'an output'}: cannot be written ({error.strerror})")
    return 0


def _run(options: argparse.Namespace) -> None:
    rules = None if options.select is None else read_rules(options.select)
    with open_sources(options.folder) as sources:
        inventory = take_inventory(sources, rules, all_matched=options.all_matched)
        if options.nifti is not None:
            written = write_nifti(inventory, options.nifti)
        elif options.check:
            check_pixels(inventory)
    if options.json is not None:
        try:
            write_json(inventory, options.json)
        except OSError as error:
            # not the name of the temporary file that takes its place
            raise OSError(error.errno, error.strerror, str(options.json)) from None
    _show(table(inventory, texts=not options.no_text))
    if options.nifti is not None:
        _show(f"\n{len(written)} NIfTI file{'' if len(written) == 1 else 's'} in {printable(str(options.nifti))}")


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=program, description=_DESCRIPTION, epilog=_EPILOG)
    parser.add_argument("folder", type=Path, help="a folder, a file, a DICOMDIR or a ZIP archive")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows and the account of files here")
    parser.add_argument("--nifti", type=Path, metavar="DIR", help="write each series and phase as .nii.gz here")
    parser.add_argument("--check", action="store_true", help="decode all pixels (--nifti does, too), to find damage")
    parser.add_argument("--select", type=Path, metavar="RULES.json", help="series selection rules of MONAI Deploy")
    parser.add_argument("--no-text", action="store_true", help="leave out what people wrote: description and protocol")
    parser.add_argument("--all-matched", action="store_true", help="all series that match a rule, not the first")
    return parser


def _show(text: str) -> None:
    """Print file names that the terminal's encoding may not have."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)


def _fail(message: str) -> int:
    print(printable(message), file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
