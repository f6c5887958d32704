"""How well a run's model personalizes: fine-tuning curves, headless accuracy, one table over methods."""

from .averages import Averages
from .class_iou import PerClass, per_class
from .comparison import Comparison, compare
from .corrected import Corrected, corrected
from .finetune import Personalization, Tuning, fine_tuned, personalize
from .templates import Headless, headless

__all__ = [
    "Averages",
    "Comparison",
    "Corrected",
    "Headless",
    "PerClass",
    "Personalization",
    "Tuning",
    "compare",
    "corrected",
    "fine_tuned",
    "headless",
    "per_class",
    "personalize",
]
