"""Sequence-norm attention: the mathematics, three exact paths (literal, projected, covariance), the modules."""

from seqnorm_monai.attention.functional import AttentionWeights, TokenStatistics
from seqnorm_monai.attention.modules import (
    ATTENTION_KINDS,
    ATTENTION_PATHS,
    SequenceNormAttention,
    SimAAttention,
    SoftmaxAttention,
    create_attention,
)
from seqnorm_monai.attention.paths import (
    automatic_attention,
    covariance_attention,
    literal_attention,
    projected_attention,
)

__all__ = [
    "ATTENTION_KINDS",
    "ATTENTION_PATHS",
    "AttentionWeights",
    "SequenceNormAttention",
    "SimAAttention",
    "SoftmaxAttention",
    "TokenStatistics",
    "automatic_attention",
    "covariance_attention",
    "create_attention",
    "literal_attention",
    "projected_attention",
]
