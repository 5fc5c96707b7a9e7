"""The ViT for images and volumes, its blocks, positions and sizes."""

from seqnorm_monai.networks.vit import VARIANTS, SeqNormViT, Variant, create_network

__all__ = ["VARIANTS", "SeqNormViT", "Variant", "create_network"]
