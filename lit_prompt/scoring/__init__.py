"""How close prompts come to targets: one scorer for every search, for baselines and for evaluation."""

from lit_prompt.scoring.context import Context, Contexts
from lit_prompt.scoring.lm_scorer import LMScorer
from lit_prompt.scoring.micro_batch import MicroBatch, is_out_of_memory
from lit_prompt.scoring.prompted_lm import Bases, PromptedLM
from lit_prompt.scoring.scorer import Scorer
from lit_prompt.scoring.slots import Member, Slots

__all__ = [
    "Bases",
    "Context",
    "Contexts",
    "LMScorer",
    "Member",
    "MicroBatch",
    "PromptedLM",
    "Scorer",
    "Slots",
    "is_out_of_memory",
]
