"""How a trainer reads and writes its checkpoints."""

from pathlib import Path
from typing import Any

from lightning.pytorch.plugins.io import TorchCheckpointIO

from lit_prompt.errors import InputError
from lit_prompt.records.tensors import load_tensors, write_tensors

_ADVICE = "take another one (--ckpt_path) or search again (fit --config)"


class WholeCheckpoints(TorchCheckpointIO):
    """Reads checkpoints as they were written, or not at all; all tensors are read to the CPU."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Writes a checkpoint, whole or not at all."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_tensors(checkpoint, Path(path))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Reads a checkpoint; of tensors and plain values alone, whatever is asked for."""
        found: dict[str, Any] = load_tensors(Path(path), _ADVICE)
        if not isinstance(found, dict) or "pytorch-lightning_version" not in found:
            raise InputError(f"{path} is no checkpoint of lit_prompt; {_ADVICE}")
        return found
