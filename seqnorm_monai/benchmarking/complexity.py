"""What attention costs, in closed form: multiply-adds, memory kept for training, memory at inference.

A *form* is one way of attention that runs: ``seqnorm-literal``, ``seqnorm-projected``, ``seqnorm-covariance``
(:mod:`seqnorm_monai.attention.paths`), ``seqnorm`` (the cheaper of the last two, which ``auto`` takes), ``sima``,
``softmax`` and the peers ``linear``, ``xcit``, ``performer`` (:mod:`seqnorm_monai.benchmarking.peers`).

In the formulas: tokens N (the class token is one), hidden C, heads h, head_dim d = C / h, Performer's features m.
Multiply-adds are those of matrix products; what is done to each number by itself is not counted. Memory is that of
eager mode without dropout, mask and autocast, numbers of 4 bytes if not said otherwise.
The tests hold every formula against what torch counts.
"""

from __future__ import annotations

from seqnorm_monai.attention.autograd import CHUNK_NUMBERS, TRIANGLE_BLOCKS
from seqnorm_monai.attention.paths import prefers_covariance
from seqnorm_monai.benchmarking.peers import performer_features

FORMS = (
    "seqnorm",
    "seqnorm-literal",
    "seqnorm-projected",
    "seqnorm-covariance",
    "sima",
    "softmax",
    "linear",
    "xcit",
    "performer",
)


def resolve_form(form: str, *, tokens: int, hidden: int, heads: int) -> str:
    """``seqnorm`` as the path that it takes for this many tokens in eager mode; any other form as it is.

    Raises:
        ValueError: for a form that is none of :data:`FORMS`, or a head count that does not divide ``hidden``.
    """
    if form not in FORMS:
        raise ValueError(f"form must be one of {', '.join(FORMS)}, got {form!r}")
    if tokens < 1 or hidden < 1 or heads < 1 or hidden % heads:
        raise ValueError(
            f"tokens, hidden and heads must be positive and heads divide hidden, got {tokens}, {hidden}, {heads}"
        )
    if form == "seqnorm":
        return "seqnorm-covariance" if prefers_covariance(tokens, hidden, hidden // heads) else "seqnorm-projected"
    return form


def upper_triangle_columns(hidden: int, blocks: int = TRIANGLE_BLOCKS) -> int:
    """Entries of a C x C matrix on and above its diagonal when it is computed in rows of ``blocks`` blocks.

    ::

        sum_b w_b (C - b w),  w = ceil(C / blocks)      2/3 C^2 for three blocks that divide C
    """
    width = -(-hidden // blocks)
    return sum(min(width, hidden - start) * (hidden - start) for start in range(0, hidden, width))


def _map_multiply_adds(hidden: int, head_dim: int) -> int:
    """From token statistics to the map (A, c), without the check for cancellation: 4 C^3 + 2 C^2 d + C^2 + C d."""
    return 4 * hidden**3 + 2 * hidden**2 * head_dim + hidden**2 + hidden * head_dim


def attention_multiply_adds(form: str, *, tokens: int, hidden: int, heads: int) -> int:
    """Multiply-adds of the attention layer for one image, forward.

    ::

        literal, projected, sima, xcit   4 N C^2 + 2 N C d
        covariance                       N C^2 + T N + 4 C^3 + 2 C^2 d + 4 C^2 + C d     T: upper_triangle_columns
        softmax                          4 N C^2 + 2 N^2 C
        linear                           4 N C^2 + 2 N C d + N C
        performer                        4 N C^2 + 4 N C m + N h m

    Raises:
        ValueError: as :func:`resolve_form`.
    """
    form = resolve_form(form, tokens=tokens, hidden=hidden, heads=heads)
    head_dim = hidden // heads
    if form == "seqnorm-covariance":
        check = 3 * hidden**2
        return tokens * (hidden**2 + upper_triangle_columns(hidden)) + _map_multiply_adds(hidden, head_dim) + check
    projections = 4 * tokens * hidden**2
    if form == "softmax":
        return projections + 2 * tokens**2 * hidden
    if form == "performer":
        features = performer_features(head_dim)
        return projections + tokens * features * (4 * hidden + heads)
    total = tokens * hidden if form == "linear" else 0
    return projections + 2 * tokens * hidden * head_dim + total


def attention_backward_multiply_adds(form: str, *, tokens: int, hidden: int, heads: int) -> int:
    """Multiply-adds of the attention layer's backward pass for one image, the tokens' gradient included.

    Twice the forward pass, since each product has two factors, except::

        covariance   3 N C^2 + C^2 + 2 (4 C^3 + 2 C^2 d + C^2 + C d)    S costs N C^2, whole; the check nothing
        softmax      8 N C^2 + 5 N^2 C                                  a fused kernel makes Q K^T again
        performer    2 forward - 2 N C m                                the random directions are not learnt

    Raises:
        ValueError: as :func:`resolve_form`.
    """
    form = resolve_form(form, tokens=tokens, hidden=hidden, heads=heads)
    if form == "seqnorm-covariance":
        return 3 * tokens * hidden**2 + hidden**2 + 2 * _map_multiply_adds(hidden, hidden // heads)
    twice = 2 * attention_multiply_adds(form, tokens=tokens, hidden=hidden, heads=heads)
    if form == "softmax":
        return twice + tokens**2 * hidden
    if form == "performer":
        return twice - 2 * tokens * hidden * performer_features(hidden // heads)
    return twice


def attention_kept_bytes(form: str, *, tokens: int, hidden: int, heads: int, batch: int = 1) -> int:
    """Bytes that the attention layer keeps for its backward pass: its input X among them, parameters not.

    For each image, numbers of 4 bytes. With several images torch copies the heads apart where a view does for one;
    then the second figure holds::

        literal      11 N C + C d + 3 C + 2
        projected    5 N C + C d + 3 C + 3
        covariance   N C + 6 C^2 + 4 C d + 11 C + 2 (10 C^2 + 4 C d + 12 C + 2)
        sima         7 N C (8 N C) + C d + 4 C
        softmax      5 N C + N h
        linear       8 N C (10 N C) + 2 N h + C d + C
        xcit         7 N C (8 N C) + 2 C d + 4 C
        performer    8 N C (6 N C) + 3 N h m + 2 N h + C m + h m

    Softmax is the fused kernel's; one that stores its map keeps :func:`attention_map_bytes` more.

    Raises:
        ValueError: as :func:`resolve_form`.
    """
    form = resolve_form(form, tokens=tokens, hidden=hidden, heads=heads)
    square, inner = hidden**2, hidden**2 // heads
    several = batch > 1
    features = performer_features(hidden // heads)
    if form == "performer":
        row = (6 if several else 8) * hidden + (3 * features + 2) * heads
        fixed = features * (hidden + heads)
    else:
        row, fixed = {
            "seqnorm-literal": (11 * hidden, inner + 3 * hidden + 2),
            "seqnorm-projected": (5 * hidden, inner + 3 * hidden + 3),
            "seqnorm-covariance": (
                hidden,
                (10 * square + 12 * hidden if several else 6 * square + 11 * hidden) + 4 * inner + 2,
            ),
            "sima": ((8 if several else 7) * hidden, inner + 4 * hidden),
            "softmax": (5 * hidden + heads, 0),
            "linear": ((10 if several else 8) * hidden + 2 * heads, inner + hidden),
            "xcit": ((8 if several else 7) * hidden, 2 * inner + 4 * hidden),
        }[form]
    return 4 * batch * (tokens * row + fixed)


def attention_parameters(form: str, *, hidden: int, heads: int) -> int:
    """Learnt numbers of the attention layer.

    ::

        4 C^2 + C + 6 C (seqnorm: gamma and beta), 3 C (the others: biases) or 3 C + h (xcit: and temperatures)

    The Performer's random directions are not learnt.
    """
    own = 6 * hidden if form.startswith("seqnorm") else 3 * hidden
    return 4 * hidden**2 + hidden + own + (heads if form == "xcit" else 0)


def attention_map_bytes(*, tokens: int, heads: int) -> int:
    """Bytes of one softmax map of one image, 4 h N^2, where a kernel stores it, as all did before fused ones.

    For ViT-S/16 at 2048 pixels 6.4 GB for each of 12 layers. That the paper's ViT (arXiv 2406.01314, figure 2) did not
    fit 48 GB agrees with a stored map; this is our inference, the paper does not say. With a fused kernel softmax is
    linear in memory too, and quadratic only in time.
    """
    return 4 * heads * tokens**2


def attention_peak_bytes(
    form: str, *, tokens: int, hidden: int, heads: int, batch: int = 1, in_chunks: bool = True
) -> int:
    """Bytes that the attention layer holds at most without gradients, beside its input and parameters.

    ::

        literal 8 N C, projected 6 N C, sima and xcit 7 N C, softmax 5 N C, linear 8 N C + N h
        performer 4 N C + 4 N h m
        covariance N C + 2 min(N, chunk) C

    Terms that do not grow with N are left out; they matter for N of the order of C or fewer. ``in_chunks``: the
    covariance path takes the tokens in chunks, as it does on a CPU; on a GPU the chunk is everything.

    Raises:
        ValueError: as :func:`resolve_form`.
    """
    form = resolve_form(form, tokens=tokens, hidden=hidden, heads=heads)
    if form == "seqnorm-covariance":
        chunk = max(256, CHUNK_NUMBERS // (batch * hidden)) if in_chunks else tokens
        return 4 * batch * hidden * (tokens + 2 * min(tokens, chunk))
    row = {
        "seqnorm-literal": 8 * hidden,
        "seqnorm-projected": 6 * hidden,
        "sima": 7 * hidden,
        "softmax": 5 * hidden,
        "linear": 8 * hidden + heads,
        "xcit": 7 * hidden,
        "performer": 4 * (hidden + heads * performer_features(hidden // heads)),
    }[form]
    return 4 * batch * tokens * row
