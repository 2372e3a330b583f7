"""``pretend``: an accelerator of torch and Lightning that is only simulated; see pretend.cpp.

It is known to the whole process that registers it and cannot be taken back, so tests use it in processes of their own.
It shows wrong devices, missing float64 and waits; not speed, memory, the rounding of a GPU's kernels or operations that
CUDA or MPS lack.
"""

import hashlib
import os
import shutil
import sys
import tempfile
import types
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch.accelerators import Accelerator, AcceleratorRegistry
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.trainer.connectors.accelerator_connector import _AcceleratorConnector

NAME = "pretend"


class Counts(NamedTuple):
    """What the device was asked to do.

    Attributes:
        operations: kernels that a GPU would start.
        waits: how often the program waited for a result: copies to the host, ``item()``, masks as indices, ...
        to_host: copies to the host.
        to_device: copies to the device.
    """

    operations: int
    waits: int
    to_host: int
    to_device: int


def counts() -> Counts:
    """What was counted so far in this process."""
    return Counts(*torch.ops.pretend.counts())


def allow_float64(allowed: bool) -> None:
    """Makes it a device with float64 (CUDA) or without (MPS)."""
    torch.ops.pretend.allow_float64(allowed)


def why_not() -> str | None:
    """Why the device cannot be built here; None where it can."""
    compiler = os.environ.get("CXX", "c++")  # as torch chooses it
    return None if shutil.which(compiler) else f"the simulated device needs a C++ compiler; there is no {compiler}"


def build() -> None:
    """Loads the device into this process; compiles it where that has not been done.

    A build is made in a folder of its own and then put in place: torch's shared folder waits for ever for a build that
    was killed.
    """
    source = Path(__file__).with_suffix(".cpp")
    state = hashlib.sha256(source.read_bytes() + f"{torch.__version__} {sys.version}".encode()).hexdigest()[:16]
    library = source.parents[2] / "build" / f"pretend-{state}.so"
    if library.exists():
        torch.ops.load_library(str(library))
        return
    import ninja
    from torch.utils.cpp_extension import load

    os.environ["PATH"] = os.pathsep.join([ninja.BIN_DIR, os.environ["PATH"]])
    library.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        built = load(source.stem, [str(source)], extra_cflags=["-O1", "-w"], build_directory=folder,
                     is_python_module=False)  # fmt: skip
        os.replace(built, library)


def register() -> None:
    """Makes the device known to torch and Lightning, in this process for good; before its first backward pass."""
    build()
    torch.ops.pretend.start()
    torch.utils.rename_privateuse1_backend(NAME)
    torch._register_device_module(NAME, _device_module())
    torch.utils.generate_methods_for_privateuse1_backend(for_storage=True)
    AcceleratorRegistry.register(NAME, PretendAccelerator, description="simulated on the CPU")
    choose = _AcceleratorConnector._choose_strategy

    def strategy(self: Any) -> Any:  # Lightning puts the tensors of an accelerator that it does not know on the CPU
        if self._accelerator_flag == NAME:
            return SingleDeviceStrategy(device=torch.device(NAME, 0))
        return choose(self)

    _AcceleratorConnector._choose_strategy = strategy


def _device_module() -> types.ModuleType:
    module = types.ModuleType(f"torch.{NAME}")
    for name in ("set_device", "manual_seed", "manual_seed_all", "synchronize", "empty_cache", "_lazy_init",
                 "set_rng_state", "set_rng_state_all"):  # fmt: skip
        setattr(module, name, lambda *args, **kwargs: None)
    module.is_available = module.is_initialized = lambda: True
    module._is_in_bad_fork = lambda: False
    module.device_count = lambda: 1
    module.current_device = lambda: 0
    module.get_amp_supported_dtype = lambda: [torch.bfloat16, torch.float16]
    module.get_rng_state = lambda *args: torch.get_rng_state()
    module.get_rng_state_all = list
    return module


class PretendAccelerator(Accelerator):
    """Lightning's view of the device."""

    def setup_device(self, device):
        pass

    def teardown(self):
        pass

    def get_device_stats(self, device):
        return {}

    @staticmethod
    def parse_devices(devices):
        return 1 if devices in ("auto", -1, "-1") else int(devices)

    @staticmethod
    def get_parallel_devices(devices):
        return [torch.device(NAME, 0)] * int(devices)

    @staticmethod
    def auto_device_count():
        return 1

    @staticmethod
    def is_available():
        return True

    @staticmethod
    def name():
        return NAME
