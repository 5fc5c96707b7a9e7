"""Images larger than memory, and over processes."""

from seqnorm_monai.streaming.forward import stream_forward
from seqnorm_monai.streaming.parallel import SequenceParallel, average_gradients, forward_parallel
from seqnorm_monai.streaming.training import stream_backward

__all__ = ["SequenceParallel", "average_gradients", "forward_parallel", "stream_backward", "stream_forward"]
