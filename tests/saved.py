"""What a run's folder has kept of its search, read without the modules that wrote it."""

import contextlib
import io
import zipfile
from pathlib import Path

import torch


def parts(run: Path) -> dict[str, dict]:
    """What was found for each chunk, by the name of its file."""
    found = {}
    for path in sorted((run / "chunks").glob("*.zip")):
        with contextlib.suppress(FileNotFoundError), zipfile.ZipFile(path) as archive:  # it may end at this moment
            found[path.name] = torch.load(io.BytesIO(archive.read("found")), weights_only=True)
    return found


def saved(run: Path) -> dict[str, torch.Tensor]:
    """The results of the tasks that were begun, in their order, none before; not the time that they took."""
    every = list(parts(run).values())
    if not every:
        return {}
    order = torch.tensor([task for part in every for task in part["tasks"]]).argsort()
    names = [name for name in every[0]["results"] if name != "seconds"]
    return {name: torch.cat([part["results"][name] for part in every])[order] for name in names}


def curves(run: Path) -> torch.Tensor:
    """The curves of the tasks that were begun, in their order."""
    every = list(parts(run).values())
    order = torch.tensor([task for part in every for task in part["tasks"]]).argsort()
    return torch.cat([part["curve"]["points"] for part in every])[order]


def steps_made(run: Path) -> int:
    """The steps of all chunks; one that has just ended may still have the file of when it was under way."""
    made: dict[str, int] = {}
    for name, part in parts(run).items():
        chunk = name.split(".")[0]
        made[chunk] = max(made.get(chunk, 0), part["made"])
    return sum(made.values())
