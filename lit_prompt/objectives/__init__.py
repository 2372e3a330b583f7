"""What a search minimises: divergences between a target and what the LM gives, one per file."""

from lit_prompt.objectives.base import Objective
from lit_prompt.objectives.forward_kl import ForwardKL
from lit_prompt.objectives.jensen_shannon import JensenShannon
from lit_prompt.objectives.mixture_kl import MixtureKL
from lit_prompt.objectives.reverse_kl import ReverseKL
from lit_prompt.objectives.weighted_sum import WeightedSum

__all__ = ["ForwardKL", "JensenShannon", "MixtureKL", "Objective", "ReverseKL", "WeightedSum"]
