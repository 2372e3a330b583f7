"""Targets: what they are, how they are made, stored and fed to Lightning (the last in ``data.datamodule`` alone)."""

from lit_prompt.data.target import Rejected, Target
from lit_prompt.data.target_set import TargetBatch, TargetSet

__all__ = ["Rejected", "Target", "TargetBatch", "TargetSet"]
