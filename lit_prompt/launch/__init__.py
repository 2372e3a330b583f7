"""Several processes of one command."""

from lit_prompt.launch.agreement import agreed
from lit_prompt.launch.strategy import STRATEGY, IndependentStrategy

__all__ = ["STRATEGY", "IndependentStrategy", "agreed"]
