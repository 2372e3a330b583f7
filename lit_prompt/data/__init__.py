"""Targets: what they are, how they are made, stored and fed to Lightning."""

from lit_prompt.data.datamodule import TargetDataModule, run_folder
from lit_prompt.data.sampler import ChunkSampler
from lit_prompt.data.target import Target, seed_for
from lit_prompt.data.target_set import TargetBatch, TargetSet

__all__ = ["ChunkSampler", "Target", "TargetBatch", "TargetDataModule", "TargetSet", "run_folder", "seed_for"]
