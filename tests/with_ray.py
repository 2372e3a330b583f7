"""A fit by two workers of a local Ray, as a script of Ray Train calls it.

python -m tests.with_ray CONFIG
"""

import os
import sys
from pathlib import Path
from typing import Any


def work(told: dict[str, Any]) -> None:
    """What each worker does."""
    from lit_prompt.main import main

    os.chdir(told["folder"])  # Ray gives a worker a folder of its own
    environment = "ray.train.lightning.RayLightningEnvironment"
    main(["fit", "--config", told["config"], "--trainer.devices", "2", "--trainer.plugins", environment])


if __name__ == "__main__":
    import ray
    from ray.train import ScalingConfig
    from ray.train.torch import TorchTrainer

    root = str(Path(__file__).parents[1])
    variables = {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    ray.init(num_cpus=2, include_dashboard=False, runtime_env={"env_vars": variables})
    told = {"folder": os.getcwd(), "config": sys.argv[1]}
    TorchTrainer(work, train_loop_config=told, scaling_config=ScalingConfig(num_workers=2)).fit()
