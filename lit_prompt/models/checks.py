"""What is refused: settings that no search can have, and those that would change results silently."""

import logging
import math
from typing import TYPE_CHECKING

import lightning as L
from lightning.pytorch.callbacks import (
    BatchSizeFinder,
    EarlyStopping,
    LearningRateFinder,
    StochasticWeightAveraging,
    Timer,
)

from lit_prompt.data.datamodule import TargetDataModule
from lit_prompt.errors import InputError
from lit_prompt.launch import STRATEGY, IndependentStrategy
from lit_prompt.objectives import ForwardKL

if TYPE_CHECKING:
    from lit_prompt.models.base import PromptModule

_LIMITED = {"fit": "train", "validate": "val", "test": "test", "predict": "predict"}
_STOPPING = (BatchSizeFinder, EarlyStopping, LearningRateFinder, StochasticWeightAveraging)
_log = logging.getLogger(__name__)
_COUNTS = ("length", "steps", "restarts", "components", "patience", "max_forward_passes")


def check_settings(module: "PromptModule", trainer: L.Trainer, stage: str) -> None:
    """Checks what all modules and trainers have in common, before targets are built and the LM is loaded."""
    refuse_coupled_devices(trainer)
    if str(trainer.precision) != "32-true":
        raise InputError("trainer.precision must stay 32-true: prompts and losses are float32; set lm_options.dtype")
    for name in _COUNTS:
        value = getattr(module, name, None)
        if value is not None and value < 1:
            raise InputError(f"model.{name} is {value}; it must be at least 1")
    tolerance = getattr(module, "kl_tolerance", 0.0)
    if not 0.0 <= tolerance < math.inf:  # NaN is not
        raise InputError(f"model.kl_tolerance is {tolerance}; it must be 0 or more, and finite")
    if not 0.0 < module.temperature < math.inf:
        raise InputError(
            f"model.temperature is {module.temperature:g}; it must be a number above 0 (1 changes nothing)"
        )
    _check_mixture(module)
    if stage == "fit" and module.begun is not None:
        raise InputError("this module has searched before; make a new one for another fit")
    _refuse_cut_short(trainer, stage)


def _check_mixture(module: "PromptModule") -> None:
    """Checks that prompts of a mixture, of which one is drawn, can be searched for."""
    if module.components == 1:
        return
    if module.steps < module.components:
        raise InputError(
            f"model.steps is {module.steps}, which are divided over {module.components} prompts (model.components); "
            "give each at least one"
        )
    if not isinstance(module.objective, ForwardKL):
        raise InputError(
            f"model.components: mixtures are searched by KL(target || LM), not by {module.objective.label}; set "
            "model.objective to ForwardKL, or model.components to 1"
        )


def refuse_more_rounds(module: "PromptModule") -> None:
    """Refuses more steps for mixtures, whose components have had their share of them."""
    if module.components > 1 and module.chunks.former_steps:
        raise InputError(
            f"model.steps: the {module.chunks.former_steps} steps of this run were divided over "
            f"{module.components} components, so that it cannot be given more; start anew, with fit --config"
        )


def checked_data(trainer: L.Trainer) -> TargetDataModule:
    """The data module of a trainer.

    Raises:
        InputError: if it has none, or another's.
    """
    data = getattr(trainer, "datamodule", None)
    if not isinstance(data, TargetDataModule):
        raise InputError("the trainer needs a TargetDataModule: trainer.fit(model, datamodule=...)")
    return data


def refuse_served(module: "PromptModule", data: TargetDataModule) -> None:
    """Refuses an LM that is only served where weights or token ids are needed."""
    if data.served is not None and not module.takes_served:
        name = type(module).__name__
        raise InputError(
            f"{name} needs an LM at hand, and {data.lm} is only served; TextPrompt finds prompts by its answers alone: "
            "--model TextPrompt"
        )


def refuse_coupled_devices(trainer: L.Trainer) -> None:
    """Refuses several processes that would average gradients of prompts that have nothing in common."""
    if trainer.world_size > 1 and not isinstance(trainer.strategy, IndependentStrategy):
        raise InputError(f"trainer.strategy: processes search for themselves; leave it away, or set it to {STRATEGY}")


def _refuse_cut_short(trainer: L.Trainer, stage: str) -> None:
    """Refuses trainer settings with which less is searched or evaluated than the results would say."""
    if trainer.fast_dev_run:  # type: ignore[attr-defined]
        return  # a trial, which keeps nothing
    limit = f"limit_{_LIMITED[stage]}_batches"
    batches = getattr(trainer, limit)
    cut = ["overfit_batches"] if trainer.overfit_batches else []  # type: ignore[attr-defined]
    cut += [limit] if batches != 1 or isinstance(batches, int) else []  # 1.0 is all of them, 1 a single one
    if stage != "fit":
        if cut:
            raise InputError(f"trainer.{cut[0]} would leave targets out of the results; leave it away")
        return
    if trainer.max_epochs == 0:
        raise InputError("trainer.max_epochs is 0, so nothing would be searched; leave it away")
    if trainer.val_check_interval != 1.0:
        raise InputError("trainer.val_check_interval: a fit does not validate; run lit_prompt validate on it")
    cut += ["max_steps"] if trainer.max_steps != -1 else []
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, Timer):
            cut.append("max_time")
        elif isinstance(callback, _STOPPING):
            raise InputError(
                f"trainer.callbacks: {type(callback).__name__} would change how long a chunk is searched; set "
                "model.steps, model.patience or model.kl_tolerance"
            )
    if cut:
        raise InputError(
            f"trainer.{cut[0]} would cut a chunk short; set model.steps, or stop with Ctrl-C and resume with --run"
        )


def check_targets(module: "PromptModule") -> None:
    """Checks that the LM takes the targets, and the prompts in their contexts."""
    targets, lm = module.data.targets, module.lm
    if lm.vocab_size != targets.vocab_size:
        raise InputError(
            f"{module.lm_path} has {lm.vocab_size} logits, the targets are over {targets.vocab_size} tokens"
        )
    if any(targets.over_answers) and not isinstance(module.objective, ForwardKL):
        name = targets.target_id[targets.over_answers.index(True)]
        raise InputError(
            f"{name}: a target over whole answers or cells is searched for by KL(target || LM) alone, not by "
            f"{module.objective.label}: set model.objective to ForwardKL, or strings of its family to first_tokens"
        )
    module.contexts.check_lengths(targets, module.length, module.lm_path)
    before = [texts.before for texts in targets.texts]
    _check_answers(module)
    if None in before:
        warn_of_second_front(module, module.before, "model.before")
    own = dict(zip(reversed(before), reversed(targets.target_id), strict=True))
    for text in dict.fromkeys(before):
        if text is not None and warn_of_second_front(module, text, f"{own[text]}: the text before its prompt"):
            break  # others will be of the same kind


def _check_answers(module: "PromptModule") -> None:
    """Refuses answers that are longer, with their contexts and prompts, than what the LM takes."""
    targets, limit = module.data.targets, module.lm.max_length
    for i, over_answers in enumerate(targets.over_answers if limit is not None else ()):
        answers = targets.batch([i]).answers[0] if over_answers else None
        if answers is None or limit is None:
            continue
        longest = max(map(len, answers.ids)) - 1
        total = len(module.contexts.of(targets.texts[i]).ids) + module.length + longest
        if total > limit:
            raise InputError(
                f"{targets.target_id[i]}: its context, the prompt and the beginning of its longest answer make {total} "
                f"tokens, {module.lm_path} takes {limit}; lower model.length or shorten the target's texts"
            )


def warn_of_second_front(module: "PromptModule", text: str, where: str) -> bool:
    """Warns of a text that itself begins with what stands in front of every text, and tells whether it does."""
    vocabulary = module.data.vocabulary
    repeated = vocabulary.repeats_front(text)
    if repeated:
        _log.warning(
            "%s begins with %r, which stands in front of every text already: the LM gets it twice; take it out, or set "
            "lm_options.bos to never",
            where,
            vocabulary.front,
        )
    return repeated


def check_fit(module: "PromptModule") -> None:
    """Refuses targets that exclude tokens, for an objective that is infinite for those."""
    for batch in module.data.evaluation_dataloader() if module.objective.needs_full_support else ():
        for target_id, excluded in zip(batch.target_id, batch.log_probs.isinf().sum(1).tolist(), strict=True):
            if excluded:
                raise InputError(
                    f"{target_id}: this target excludes {excluded} tokens, for which {module.objective.label} is "
                    "infinite; set smoothing of model.objective (0.001, say), or choose another objective"
                )


def check_found_any(module: "PromptModule") -> None:
    """Refuses to end a fit that has found nothing."""
    if not bool(module.results.searched.any()):
        raise InputError(module.nothing_found)
