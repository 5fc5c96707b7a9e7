"""Generated studies whose truth is known: anatomy, lesions and kinetics out of formulas and a seed, no patient."""

from seqnorm_monai.phantoms.breasts import BreastStudy, StudyPlan, draw_plan, generate
from seqnorm_monai.phantoms.lesions import LESIONS, Lesion
from seqnorm_monai.phantoms.shapes import Grid

__all__ = ["LESIONS", "BreastStudy", "Grid", "Lesion", "StudyPlan", "draw_plan", "generate"]
