"""Lightning callbacks."""

from lit_prompt.callbacks.checkpoint import CHECKPOINT, Interrupted, SearchCheckpoint
from lit_prompt.callbacks.curves import KLCurves
from lit_prompt.callbacks.progress import ChunkProgressBar
from lit_prompt.callbacks.results import ResultWriter
from lit_prompt.callbacks.tensorboard import TensorBoardReport

__all__ = [
    "CHECKPOINT",
    "ChunkProgressBar",
    "Interrupted",
    "KLCurves",
    "ResultWriter",
    "SearchCheckpoint",
    "TensorBoardReport",
]
