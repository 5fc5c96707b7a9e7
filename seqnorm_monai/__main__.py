"""``seqnorm COMMAND``, the same as ``python -m seqnorm_monai COMMAND``."""

from __future__ import annotations

import sys

from seqnorm_monai.commands import main

if __name__ == "__main__":
    sys.exit(main())
