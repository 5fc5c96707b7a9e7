"""What stands in the way of a training, found before it starts: labels, images, disk, memory, time."""

from seqnorm_monai.preflight.check import Report, check_bundle
from seqnorm_monai.preflight.start import check_start

__all__ = ["Report", "check_bundle", "check_start"]
