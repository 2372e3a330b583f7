"""What the processes of one command agree on when they start: the run's folder, and a name for what they do."""

import json
import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import lightning as L

from lit_prompt.launch.strategy import TOLD, IndependentStrategy

_WAIT = timedelta(minutes=5)
_kept: list[Any] = []  # what others may still read


def agreed(trainer: L.Trainer, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What the first process of a command makes, in all of them.

    A process that this one has started is given it; those that torchrun, SLURM or another launcher has started read it
    from the store of torch.distributed, once, or are sent it by the process group that a launcher has made (Ray).

    Args:
        trainer: of this process.
        make: gives plain values.
    """
    strategy = trainer.strategy
    if not isinstance(strategy, IndependentStrategy) or strategy.world_size == 1:
        return make()
    environment = strategy.cluster_environment
    assert environment is not None
    told: dict[str, Any]
    if TOLD in os.environ and environment.local_rank():
        told = json.loads(os.environ[TOLD])
    elif strategy.num_nodes == 1 and not environment.creates_processes_externally:
        told = make()
    else:
        told = _exchanged(environment, strategy.global_rank, make)
    strategy.told = told
    return told


def _exchanged(environment: Any, rank: int, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    from torch import distributed
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    if distributed.is_initialized():
        box = [make() if rank == 0 else {}]
        distributed.broadcast_object_list(box)
        distributed.destroy_process_group()  # with one Lightning would let all wait for all at each step
        return box[0]
    has_store = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"  # torchrun's own
    store = TCPStore(
        environment.main_address, environment.main_port, is_master=rank == 0 and not has_store, timeout=_WAIT,
        wait_for_workers=False,
    )  # fmt: skip
    key = f"lit_prompt/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}/{len(_kept)}"
    _kept.append(store)
    if rank == 0:
        store.set(key, json.dumps(make()))
    told: dict[str, Any] = json.loads(store.get(key))
    return told
