"""Time and memory of a whole ViT against the resolution, every kind of attention in turn in one process.

    python scripts/benchmark_scaling.py --output scaling.csv
    python scripts/benchmark_scaling.py --device cuda --dtype bfloat16 --training 1024 2048 4096 --output scaling.csv

"-plain" puts a form into a ViT as it is commonly written, all others into ours: without gradients the MLP goes in
chunks, and the last layer's takes only the class token. As in figure 2 of Khader et al. (arXiv 2406.01314), a step
of training (forward, loss, backward, AdamW) and an inference are measured, for square grey images of the sizes named;
224x4 is 224 pixels at a batch of 4. scripts/plot_scaling.py draws the CSV. The tables read as those of
benchmark_attention.py.
"added MB" of a training step is the larger of two peaks: all activations, at the end of the forward pass, and the
gradients with AdamW's two moments, 12 bytes for each parameter, at the end of the step.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence

from seqnorm_monai.benchmarking.cases import NetworkCase
from seqnorm_monai.benchmarking.options import case_options, create_parser, run_benchmark
from seqnorm_monai.networks.vit import VARIANTS

KINDS = (
    *("seqnorm", "seqnorm-literal", "sima", "softmax", "linear", "xcit", "performer"),
    *("seqnorm-literal-plain", "sima-plain", "softmax-plain"),
)
SIZES = ((224, 4), (224, 1), (512, 1), (1024, 1), (2048, 1))


def size_and_batch(text: str) -> tuple[int, int]:
    """ "1024" or "224x4": pixels along a side, and the batch."""
    found = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    if not found:
        raise argparse.ArgumentTypeError(f"must be PIXELS or PIXELSxBATCH, such as 1024 or 224x4, got {text!r}")
    return int(found[1]), int(found[2] or 1)


def main(argv: Sequence[str] | None = None) -> int:
    parser = create_parser(__doc__, kinds=KINDS)
    parser.add_argument("--variants", nargs="+", choices=tuple(VARIANTS), default=["small"])
    parser.add_argument("--patch-size", type=int, default=16)
    for mode in ("training", "inference"):
        parser.add_argument(f"--{mode}", nargs="*", type=size_and_batch, default=list(SIZES), metavar="PIXELS[xBATCH]")
    arguments = parser.parse_args(argv)
    sizes = [(mode, *size) for mode in ("training", "inference") for size in getattr(arguments, mode)]
    for _, pixels, _ in sizes:
        if pixels % arguments.patch_size:
            parser.error(f"{pixels} pixels are not a multiple of --patch-size {arguments.patch_size}")
    cells = (
        [
            NetworkCase(
                form=form,
                mode=mode,
                batch=batch,
                **case_options(arguments),
                variant=variant,
                image_size=pixels,
                patch_size=arguments.patch_size,
            )
            for form in arguments.kinds
        ]
        for variant in arguments.variants
        for mode, pixels, batch in sizes
    )
    return run_benchmark(cells, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
