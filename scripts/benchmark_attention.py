"""Time and memory of one attention layer, every kind in turn in one process.

    python scripts/benchmark_attention.py --tokens 197 4097 16385 --output attention.csv
    python scripts/benchmark_attention.py --device cuda --dtype bfloat16 --tokens 4097 65537 --output attention.csv

For every number of tokens, width, batch and mode a table is printed and a row for each kind written. "inference" is
the forward pass without gradients, "training" the forward and the backward pass. "x ours" is the median over the
rounds of a kind's time by that of ``seqnorm`` in the same round, "rate" the share of the machine's matrix rate,
measured in the same rounds. "added MB" is measured, "formula MB" is the closed form: in training of what is kept for
the backward pass, at inference of the peak.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from seqnorm_monai.benchmarking.cases import MODES, LayerCase
from seqnorm_monai.benchmarking.complexity import FORMS
from seqnorm_monai.benchmarking.options import case_options, create_parser, run_benchmark


def main(argv: Sequence[str] | None = None) -> int:
    parser = create_parser(__doc__, kinds=FORMS)
    parser.add_argument("--tokens", nargs="+", type=int, default=[197, 1025, 4097, 16385])
    parser.add_argument("--hidden", nargs="+", type=int, default=[384], help="widths; 64 for each head")
    parser.add_argument("--head-dim", type=int, default=64)
    parser.add_argument("--batch", nargs="+", type=int, default=[1])
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    arguments = parser.parse_args(argv)
    for hidden in arguments.hidden:
        if hidden % arguments.head_dim:
            parser.error(f"--hidden {hidden} is not a multiple of --head-dim {arguments.head_dim}")
    cells = (
        [
            LayerCase(
                form=form,
                mode=mode,
                batch=batch,
                **case_options(arguments),
                tokens=tokens,
                hidden=hidden,
                heads=hidden // arguments.head_dim,
            )
            for form in arguments.kinds
        ]
        for hidden, batch, tokens, mode in itertools.product(
            arguments.hidden, arguments.batch, arguments.tokens, arguments.modes
        )
    )
    return run_benchmark(cells, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
