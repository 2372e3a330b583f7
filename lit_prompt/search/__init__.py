"""Search machinery that soft and hard prompts share."""

from lit_prompt.search.bank import ResultBank
from lit_prompt.search.best_so_far import BestSoFar, StopReason
from lit_prompt.search.micro_batch import MicroBatch, is_out_of_memory

__all__ = ["BestSoFar", "MicroBatch", "ResultBank", "StopReason", "is_out_of_memory"]
