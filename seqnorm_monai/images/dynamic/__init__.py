"""Dynamic contrast studies: their phases in the order of time, before and after the contrast agent."""

from seqnorm_monai.images.dynamic.find import FoundStudies, find_studies
from seqnorm_monai.images.dynamic.study import DynamicPhase, DynamicStudy, DynamicStudyError

__all__ = ["DynamicPhase", "DynamicStudy", "DynamicStudyError", "FoundStudies", "find_studies"]
