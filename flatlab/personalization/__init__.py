"""How well a run's model personalizes: fine-tuning curves, headless accuracy, one table over methods."""

from .averages import Averages
from .comparison import Comparison, compare
from .finetune import Personalization, Tuning, fine_tuned, personalize
from .templates import Headless, headless

__all__ = [
    "Averages",
    "Comparison",
    "Headless",
    "Personalization",
    "Tuning",
    "compare",
    "fine_tuned",
    "headless",
    "personalize",
]
