"""``seqnorm list FOLDER``: what is in any folder, archive or medium, without predicting."""

from __future__ import annotations

from collections.abc import Sequence

from seqnorm_monai.images import __main__ as images


def main(arguments: Sequence[str]) -> int:
    """List the images; the exit code."""
    return images.main(arguments, program="seqnorm list")
