"""Targets: what they are, how they are made, stored and fed to Lightning."""

from lit_prompt.data.datamodule import TargetDataModule, check_vocabulary, run_folder
from lit_prompt.data.sampler import ChunkSampler
from lit_prompt.data.target import Rejected, Target
from lit_prompt.data.target_set import TargetBatch, TargetSet

__all__ = [
    "ChunkSampler",
    "Rejected",
    "Target",
    "TargetBatch",
    "TargetDataModule",
    "TargetSet",
    "check_vocabulary",
    "run_folder",
]
