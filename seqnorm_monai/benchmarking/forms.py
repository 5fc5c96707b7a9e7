"""The forms of attention as modules, alone and inside a network."""

from __future__ import annotations

from torch import nn

from seqnorm_monai.attention.modules import create_attention
from seqnorm_monai.benchmarking.complexity import FORMS
from seqnorm_monai.benchmarking.peers import PEERS
from seqnorm_monai.networks.vit import SeqNormViT


def create_form(form: str, hidden: int, heads: int) -> nn.Module:
    """The attention module of a form (:data:`seqnorm_monai.benchmarking.complexity.FORMS`).

    Raises:
        ValueError: for another form.
    """
    if form not in FORMS:
        raise ValueError(f"form must be one of {', '.join(FORMS)}, got {form!r}")
    if form in PEERS:
        return PEERS[form](hidden, heads)
    kind, _, path = form.partition("-")
    return create_attention(kind, hidden, heads, path=path or "auto")


def replace_attention(network: SeqNormViT, form: str) -> SeqNormViT:
    """Put attention of another form into every block of a network, with the weights that both have. In place."""
    for block in network.blocks:
        before = block.attention
        block.attention = create_form(form, before.hidden_size, before.num_heads)
        state = before.state_dict()
        shared = {name: state[name] for name in block.attention.state_dict() if name in state}
        block.attention.load_state_dict(shared, strict=False)
    return network


def run_as_written(network: SeqNormViT) -> SeqNormViT:
    """Have a network computed as a plain ViT is written: each MLP in one piece, all tokens through the last layer.

    Its blocks do so if there is a forward hook in them; this puts one there that does nothing.
    """
    for block in network.blocks:
        block.mlp.fn.register_forward_hook(lambda module, inputs, output: None)
    return network
