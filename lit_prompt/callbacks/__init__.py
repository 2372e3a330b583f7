"""Lightning callbacks."""

from lit_prompt.callbacks.checkpoint import CHECKPOINT, SearchCheckpoint
from lit_prompt.callbacks.curves import KLCurves
from lit_prompt.callbacks.progress import ChunkProgressBar
from lit_prompt.callbacks.results import ResultWriter
from lit_prompt.callbacks.tensorboard import TensorBoardReport

__all__ = [
    "CHECKPOINT",
    "ChunkProgressBar",
    "KLCurves",
    "ResultWriter",
    "SearchCheckpoint",
    "TensorBoardReport",
]
