"""What the network costs, in closed form, from what its attention costs (:mod:`seqnorm_monai.benchmarking.complexity`).

In the formulas: tokens N (the class token is one), hidden C, MLP width M, numbers in a patch P.
"""

from __future__ import annotations

from dataclasses import dataclass

from seqnorm_monai.benchmarking.complexity import (
    attention_backward_multiply_adds,
    attention_kept_bytes,
    attention_multiply_adds,
    attention_parameters,
    attention_peak_bytes,
    resolve_form,
)
from seqnorm_monai.networks.mlp import chunk_rows


@dataclass(frozen=True)
class NetworkSize:
    """A :class:`seqnorm_monai.networks.vit.SeqNormViT` and its input, in numbers.

    patches: patches of an image. patch_numbers: numbers in one patch, channels included. mlp: M.
    """

    patches: int
    patch_numbers: int
    hidden: int
    mlp: int
    layers: int
    heads: int
    classes: int

    @property
    def tokens(self) -> int:
        """N: the patches and the class token."""
        return self.patches + 1


def network_multiply_adds(form: str, size: NetworkSize) -> int:
    """Multiply-adds of the network for one image, forward, where gradients are wanted.

    ::

        (N - 1) P C + layers attention + (N (layers - 1) + 1) 2 C M + C classes        P: numbers in a patch

    In the last layer only the class token goes through the MLP; without gradients on a CPU, only it goes through the
    map of the covariance path too, which saves (N - 1) C^2 more.
    """
    attention = attention_multiply_adds(form, tokens=size.tokens, hidden=size.hidden, heads=size.heads)
    mlp = 2 * (size.tokens * (size.layers - 1) + 1) * size.hidden * size.mlp
    ends = size.patches * size.patch_numbers * size.hidden + size.hidden * size.classes
    return ends + size.layers * attention + mlp


def network_backward_multiply_adds(form: str, size: NetworkSize) -> int:
    """Multiply-adds of the network's backward pass for one image; the image itself needs no gradient.

    ::

        (N - 1) P C + layers attention backward + (N (layers - 1) + 1) 4 C M + 2 C classes
    """
    attention = attention_backward_multiply_adds(form, tokens=size.tokens, hidden=size.hidden, heads=size.heads)
    mlp = 4 * (size.tokens * (size.layers - 1) + 1) * size.hidden * size.mlp
    ends = size.patches * size.patch_numbers * size.hidden + 2 * size.hidden * size.classes
    return ends + size.layers * attention + mlp


def network_kept_bytes(form: str, size: NetworkSize, *, batch: int = 1, recompute_gelu: bool = False) -> int:
    """Bytes that the network keeps for its backward pass: the input image among them, parameters not.

    For each image, numbers of 4 bytes::

        (N - 1) P + layers (attention + N (C + 2)) + (N (layers - 1) + 1) (2 C + 2 M + 2) + 2 C + 2

    which is the image; in each block the input, means and deviations of a layer norm; of the tokens that go through the
    MLP those of another and three arrays; and the last layer norm with its output, for the class token. With
    ``recompute_gelu`` M stands for 2 M.
    """
    tokens, hidden = size.tokens, size.hidden
    attention = attention_kept_bytes(form, tokens=tokens, hidden=hidden, heads=size.heads, batch=batch)
    wide = size.mlp * (1 if recompute_gelu else 2)
    rest = size.patches * size.patch_numbers + size.layers * tokens * (hidden + 2) + 2 * hidden + 2
    rest += (tokens * (size.layers - 1) + 1) * (2 * hidden + wide + 2)
    return size.layers * attention + 4 * batch * rest


def network_peak_bytes(form: str, size: NetworkSize, *, batch: int = 1, in_chunks: bool = True) -> int:
    """Bytes that the network holds at most without gradients, beside the image and its parameters.

    ::

        4 max(3 N C + 2 T M,  2 N C + attention)         T: min(N, chunk) tokens of the MLP, N on a GPU
        4 max(2 N C + T (2 C + 2 M),  3 N C)             covariance on a CPU: the whole block goes in chunks, one
                                                         image after the other; 3 N C: the class token is put in front

    At inference, and where softmax has a fused kernel, a cheaper attention saves time and not memory.
    """
    hidden, mlp, tokens = size.hidden, size.mlp, size.tokens
    if in_chunks and resolve_form(form, tokens=tokens, hidden=hidden, heads=size.heads) == "seqnorm-covariance":
        chunk = min(tokens, chunk_rows(mlp))
        return 4 * max(2 * batch * tokens * hidden + chunk * (2 * hidden + 2 * mlp), 3 * batch * tokens * hidden)
    chunk = min(tokens, chunk_rows(mlp) // batch) if in_chunks else tokens
    attention = attention_peak_bytes(
        form, tokens=tokens, hidden=hidden, heads=size.heads, batch=batch, in_chunks=in_chunks
    )
    return max(4 * batch * (3 * tokens * hidden + 2 * chunk * mlp), 4 * batch * 2 * tokens * hidden + attention)


def network_parameters(form: str, size: NetworkSize) -> int:
    """Learnt numbers of the network with sine-cosine positions.

    ::

        (P + 2) C + layers (attention + 2 C M + 5 C + M) + 2 C + (C + 1) classes
    """
    hidden, mlp = size.hidden, size.mlp
    block = attention_parameters(form, hidden=hidden, heads=size.heads) + 2 * hidden * mlp + 5 * hidden + mlp
    return (size.patch_numbers + 2) * hidden + size.layers * block + 2 * hidden + (hidden + 1) * size.classes
