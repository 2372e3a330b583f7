"""What an LM gives whatever the targets, kept for all runs."""

import hashlib
import os
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from lit_prompt.lm.frozen import FrozenLM
from lit_prompt.records.arrays import ArrayCache


class LMCache:
    """Tensors that an LM gave, kept under its fingerprint, how its machine rounds, and what else they depend on.

    What is read is what would be computed, bit for bit on one machine whose memory suffices: another device, precision
    or version has entries of its own.
    Size and memory are bounded as :class:`lit_prompt.records.arrays.ArrayCache` says.

    Args:
        lm: the LM.
        folder: where all LMs' are kept; None to keep nothing.
        write: whether something is added.
    """

    def __init__(self, lm: FrozenLM, folder: Path | None = None, write: bool = True) -> None:
        self._arrays = ArrayCache(None if folder is None else folder / lm.fingerprint, write)
        self._about = {"lm": lm.fingerprint, **_arithmetic(lm)}

    def takes(self, size: int) -> bool:
        """Whether tensors of so many bytes are kept."""
        return self._arrays.takes(size)

    def get(self, about: Mapping[str, object]) -> dict[str, Tensor] | None:
        """Tensors that were kept, on the CPU; None where there are none.

        Args:
            about: all that they depend on beside the LM, plain values; of tensors their :func:`digest`.
        """
        found = self._arrays.get({**self._about, **about})
        return None if found is None else {name: torch.from_numpy(array) for name, array in found.items()}

    def put(self, about: Mapping[str, object], tensors: Mapping[str, Tensor]) -> None:
        """Keeps tensors, which are on the CPU."""
        self._arrays.put({**self._about, **about}, {name: x.numpy() for name, x in tensors.items()})

    def kept(self, about: Mapping[str, object], make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Tensors that were kept; else they are made, and kept."""
        found = self.get(about)
        if found is None:
            found = make()
            self.put(about, found)
        return found


def digest(x: Tensor) -> str:
    """A hash of the numbers of a tensor on the CPU."""
    return hashlib.sha256(x.contiguous().numpy().tobytes()).hexdigest()


def _arithmetic(lm: FrozenLM) -> dict[str, object]:
    """What decides how an LM's numbers are rounded."""
    on_gpu = lm.device.type == "cuda"
    return {
        "dtype": str(lm.dtype),
        "devices": sorted({parameter.device.type for parameter in lm.parameters()}),
        "map": str(getattr(lm.model, "hf_device_map", None)),
        "device": torch.cuda.get_device_name(lm.device) if on_gpu else torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "products": [torch.get_float32_matmul_precision(), os.environ.get("MKL_CBWR")],
        "attention": getattr(lm.model.config, "_attn_implementation", None),
        "versions": [torch.__version__, version("transformers")],
    }
