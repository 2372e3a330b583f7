"""The chunk of tasks under search: its scorer, and how far it is."""

from typing import TYPE_CHECKING

from torch import Tensor

from lit_prompt.data import TargetBatch
from lit_prompt.lm import FrozenLM
from lit_prompt.scoring import LMScorer, Member, Slots

if TYPE_CHECKING:
    from lit_prompt.models.base import PromptModule


def chunk_slots(module: "PromptModule", batch: TargetBatch) -> Slots:
    """A slot for each task of a chunk and restart."""
    members = zip(range(len(batch)), module.contexts.of_all(batch), batch.weight.tolist(), batch.trees, strict=True)
    every = [Member(*member) for member in members]
    tasks = batch.tasks.values()
    return Slots([batch.task_id[of[0]] for of in tasks], [[every[i] for i in of] for of in tasks], module.restarts)


def chunk_scorer(module: "PromptModule", batch: TargetBatch, lm: FrozenLM | None = None) -> LMScorer:
    """Scores prompts for a chunk of tasks, a slot for each restart; with the module's LM or another form of it."""
    return LMScorer(
        lm or module.lm, chunk_slots(module, batch), batch.log_probs, module.length, module.objective,
        module.micro_batch, module.fluency, module.temperature,
    )  # fmt: skip


def chunks_to_search(module: "PromptModule") -> int:
    """All chunks, or the first ones where ``trainer.max_epochs`` says so."""
    every, limit = module.data.num_chunks, module.trainer.max_epochs
    return every if limit is None or limit < 0 else min(limit, every)


def score_label(module: "PromptModule") -> str:
    """What a search minimises, as it is shown."""
    return module.objective.label + (" + fluency" if module.fluency else "")


def step_made(module: "PromptModule") -> None:
    """Counts a step of the chunk's searches; shows the median over tasks in the progress bar."""
    score = progress(module)[1]
    module.chunks.curve.record(module.chunks.made, score)
    module.chunks.made += 1
    module.log(median_label(module), score.median(), prog_bar=True, logger=False)


def median_label(module: "PromptModule") -> str:
    """What the progress bar calls the median over tasks."""
    return f"median {score_label(module)}"


def progress(module: "PromptModule") -> tuple[list[int], Tensor]:
    """Numbers of the chunk's tasks and the best score so far of each in nats, ``[task]``, on CPU."""
    current = module.under_search()
    assert current is not None
    index, best = current
    return index, best.kl[: len(index) * module.restarts].cpu().unflatten(0, (len(index), module.restarts)).amin(1)
