"""A Lightning strategy for processes that have nothing to tell one another."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.strategies import ParallelStrategy, StrategyRegistry
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

#: Its name in Lightning's registry.
STRATEGY = "independent"
#: The environment variable in which a process is told what the one that has started it knows.
TOLD = "LIT_PROMPT_TOLD"
_GRACE = 20.0  # seconds that processes have to keep what they have found


class IndependentStrategy(ParallelStrategy):
    """A process for each device, none of which waits for another.

    Every prompt is searched by one process: there are no gradients to average and no weights to send, so that no
    process group is made, no barrier stands anywhere, and a process that is slow or killed holds up none. What there is
    to share is in the run's folder. (DDP would average the gradients of prompts that have nothing in common, would end
    all processes with one of them, and cannot wrap a module without parameters.)
    """

    strategy_name = STRATEGY

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._num_nodes = 1
        self.told: dict[str, Any] = {}  # to the processes that are started here

    @property
    def root_device(self) -> torch.device:
        """The device of this process."""
        assert self.parallel_devices is not None
        return self.parallel_devices[self.local_rank]

    @property
    def num_nodes(self) -> int:
        """Machines that take part."""
        return self._num_nodes

    @num_nodes.setter
    def num_nodes(self, num_nodes: int) -> None:
        self._num_nodes = num_nodes

    @property
    def num_processes(self) -> int:
        """Processes on a machine."""
        return len(self.parallel_devices or [])

    def _configure_launcher(self) -> None:
        assert self.cluster_environment is not None
        self._launcher = _Launcher(self)

    def set_world_ranks(self) -> None:
        """Finds out which of how many processes this one is."""
        assert self.cluster_environment is not None
        self.cluster_environment.set_global_rank(self.node_rank * self.num_processes + self.local_rank)
        self.cluster_environment.set_world_size(self.num_nodes * self.num_processes)
        setattr(rank_zero_only, "rank", self.global_rank)  # noqa: B010  # as Lightning does, which hides it from mypy

    def setup_environment(self) -> None:
        """Sets up the device; there is no process group."""
        self.set_world_ranks()
        super().setup_environment()

    def model_to_device(self) -> None:
        """Moves the module to the device of this process."""
        assert self.model is not None
        self.model.to(self.root_device)

    def barrier(self, name: str | None = None) -> None:
        """Waits for nobody."""

    def broadcast(self, obj: Any, src: int = 0) -> Any:
        """What this process has."""
        return obj

    def reduce(self, tensor: Any, *args: Any, **kwargs: Any) -> Any:
        """What this process has."""
        return tensor

    def all_gather(self, tensor: Any, group: Any = None, sync_grads: bool = False) -> Any:
        """What this process has."""
        return tensor

    def reduce_boolean_decision(self, decision: bool, all: bool = True) -> bool:
        """What this process has decided."""
        return decision


class _Launcher(_SubprocessScriptLauncher):
    """Starts the command once for each further device; the end of one process is not that of the others.

    Lightning's own ends all where one has died, and divides the threads between them, by which results would depend on
    how many there are.
    """

    def __init__(self, strategy: IndependentStrategy) -> None:
        assert strategy.cluster_environment is not None
        super().__init__(strategy.cluster_environment, strategy.num_processes, strategy.num_nodes)
        self._strategy = strategy

    def launch(self, function: Callable[..., Any], *args: Any, trainer: Any = None, **kwargs: Any) -> Any:
        """Runs ``function`` in all processes; waits for those that were started here."""
        self.cluster_environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        if not self.cluster_environment.creates_processes_externally:
            self._call_children_scripts()
        try:
            found = function(*args, **kwargs)
        except BaseException:
            self._end()
            raise
        self._wait()
        return found

    def _wait(self) -> None:
        for rank, process in enumerate(self.procs, start=1):
            if code := process.wait():
                print(
                    f"lit_prompt: process {rank} ended with code {code}; the others have done its part", file=sys.stderr
                )
        self.procs = []

    def _end(self) -> None:
        """Ends the processes that were started here, as this one ends."""
        for process in self.procs:
            process.terminate()
        for process in self.procs:
            try:
                process.wait(_GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
        self.procs = []

    def _call_children_scripts(self) -> None:
        os.environ[TOLD] = json.dumps(self._strategy.told)
        super()._call_children_scripts()
        for name in (TOLD, "LOCAL_RANK"):  # another trainer of this process starts processes of its own
            os.environ.pop(name, None)


if STRATEGY not in StrategyRegistry:
    StrategyRegistry.register(STRATEGY, IndependentStrategy, "a process for each device, which have nothing to share")
