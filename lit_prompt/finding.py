"""One call that finds prompts, for Python and notebooks."""

import json
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

import lightning as L

from lit_prompt.callbacks.checkpoint import SearchCheckpoint
from lit_prompt.callbacks.progress import ChunkProgressBar
from lit_prompt.cli.run import quiet
from lit_prompt.data.datamodule import TargetDataModule
from lit_prompt.data.families import FromFile, TargetFamily
from lit_prompt.data.run_folder import RunFolder
from lit_prompt.errors import InputError
from lit_prompt.found import Found, FoundTarget
from lit_prompt.interruption import Interrupted
from lit_prompt.lift_settings import lift_settings
from lit_prompt.lm import LMOptions
from lit_prompt.loaded import LoadedLMTargets
from lit_prompt.models import HardPrompt, PromptInit, PromptModule, SoftPrompt, TextPrompt
from lit_prompt.records.results import result_table
from lit_prompt.search.mixture_results import MixtureResults
from lit_prompt.served.served import Served

Method = Literal["soft", "lift", "hard", "text"]
_LOGGERS = ("lightning.pytorch", "lightning.fabric", "lit_prompt")


def find(
    lm: Any,
    targets: Sequence[Mapping[str, Any] | TargetFamily] | Mapping[str, Any],
    method: Method = "soft",
    *,
    tokenizer: Any = None,
    lm_options: LMOptions | None = None,
    chunk_size: int = 64,
    accelerator: str = "auto",
    progress: bool = True,
    **settings: Any,
) -> Found:
    """Finds, for every target, the prompt whose next-token distribution is closest to it in KL(target || LM).

    With ``components``, the mixture of at most so many prompts.

    Nothing is written, and nothing of the process is changed. Ctrl-C ends the search, and what was found so far is
    returned.

    Args:
        lm: name of an LM as of ``--lm``, the address of a server included; a ``Served``; or a causal LM of
            ``transformers`` that is loaded already.
        targets: each as a line of a targets file, ``{"probs": {" heads": 0.5, " tails": 0.5}}`` or ``{"strings": ...,
            "context": {"before": ...}}``, or a family of targets such as ``EntropyMatched()``; or answers of a single
            target with their probabilities, ``{" heads": 0.5, " tails": 0.5}``.
        method: ``soft`` embeddings; ``lift``, which needs no gradient step where the LM allows; ``hard`` tokens;
            ``text``, found by scores alone, as LMs need it that are only served.
        tokenizer: of an LM that is loaded already.
        lm_options: how an LM is loaded that is named.
        chunk_size: targets that are searched at the same time.
        accelerator: Lightning's name of the device; an LM that is loaded already stays where it is.
        progress: whether a bar is shown.
        **settings: of :class:`SoftPrompt`, :class:`HardPrompt` or :class:`TextPrompt`.

    Returns:
        Prompts, KLs and certified floors, all recomputed from the prompts. A server that does not list all answers of a
        target tells a bound below in the place of its KL.

    Raises:
        InputError: if a target, the LM or a setting is wrong.
    """
    with tempfile.TemporaryDirectory() as folder, _quiet():
        file = Path(folder) / "targets"
        families = _families(targets, file)
        try:
            module = _module(method, settings)
            data = _data(lm, tokenizer, families, chunk_size, lm_options)
            if data.served is not None and not module.takes_served:
                what = f"{method} prompts need an LM at hand, and {data.lm} is only served"
                raise InputError(f"find: {what}; its answers suffice for the method 'text'")
            return _found(module, data, Path(folder), accelerator, progress)
        except InputError as error:
            raise InputError(str(error).replace(str(file.with_suffix(".jsonl")), "targets")) from error


@contextmanager
def _quiet() -> Iterator[None]:
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    try:
        with warnings.catch_warnings():
            quiet()
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _families(targets: Any, file: Path) -> list[TargetFamily]:
    """Families of the targets; those that are stated go to a file, which says what is wrong with them."""
    if isinstance(targets, Mapping):
        stated = all(isinstance(value, (int, float)) for value in targets.values())
        targets = [{"strings": dict(targets)} if stated else targets]
    stated_ones = [target for target in targets if not isinstance(target, TargetFamily)]
    lines = [{"name": str(number)} | dict(target) for number, target in enumerate(stated_ones)]
    path = file.with_suffix(".jsonl")
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    own: list[TargetFamily] = [FromFile(path, name="given")] if lines else []
    return own + [target for target in targets if isinstance(target, TargetFamily)]


def _data(
    lm: Any, tokenizer: Any, families: list[TargetFamily], chunk_size: int, options: LMOptions | None
) -> TargetDataModule:
    if isinstance(lm, (str, Path, Served)):
        return TargetDataModule(families, chunk_size, lm=lm if isinstance(lm, Served) else str(lm), lm_options=options)
    if tokenizer is None:
        raise InputError("find: an LM that is loaded already needs its tokenizer: find(model, targets, tokenizer=...)")
    return LoadedLMTargets(lm, tokenizer, families, chunk_size)


def _module(method: Method, settings: dict[str, Any]) -> PromptModule:
    try:
        if method == "hard":
            return HardPrompt(**settings)
        if method == "soft":
            return SoftPrompt(**settings)
        if method == "lift":
            own = lift_settings(settings.get("components", 1))
            return SoftPrompt(**(own | {"init": PromptInit(**own["init"])} | settings))
        if method == "text":
            return TextPrompt(**settings)
    except TypeError as error:
        raise InputError(f"find: {error}; the settings are those of SoftPrompt, HardPrompt and TextPrompt") from error
    raise InputError(f"find: method is {method!r}; choose soft, lift, hard or text")


def _found(module: PromptModule, data: TargetDataModule, folder: Path, accelerator: str, progress: bool) -> Found:
    run = folder / "logs" / "find" / "version_0"
    run.mkdir(parents=True)
    with ExitStack() as stack:
        if isinstance(data, LoadedLMTargets):
            accelerator = data.device_type
            stack.enter_context(data.left_as_it_was())
        interrupted = _searched(module, data, run, accelerator, progress)
        if interrupted and not bool(module.results.searched.any()):
            return Found([], [], was_interrupted=True)
        _trainer(run, accelerator, False).test(module, data, verbose=False)
        every = result_table(module.evaluated).to_pylist()
        rows = [row for row in every if row["kl"] is not None or row["kl_at_least"] is not None]
        return Found([_target(module, data, row) for row in rows], rows, interrupted)


def _searched(module: PromptModule, data: TargetDataModule, run: Path, accelerator: str, progress: bool) -> bool:
    """Searches; whether that was interrupted."""
    try:
        _trainer(run, accelerator, progress).fit(module, data)
    except Interrupted:
        module.read_results()
        return True
    return False


def _trainer(run: Path, accelerator: str, progress: bool) -> L.Trainer:
    bar = [ChunkProgressBar()] if progress else []
    return L.Trainer(
        accelerator=accelerator, devices=1, max_epochs=-1, logger=False, enable_model_summary=False,
        enable_progress_bar=progress, num_sanity_val_steps=0, log_every_n_steps=1,
        callbacks=[RunFolder(run), SearchCheckpoint(), *bar],
    )  # fmt: skip


def _target(module: PromptModule, data: TargetDataModule, row: dict[str, Any]) -> FoundTarget:
    number = data.targets.target_id.index(row["target_id"])
    task = data.targets.task[number]
    results, restart = module.results, module.evaluator.chosen[task]
    is_mixture = isinstance(results, MixtureResults)
    prompt = results.drawn(task, restart)[0] if is_mixture else results.prompts[task, restart]
    records = module.evaluator.token_records(data.targets.batch([number]), module.results)
    answers = {r["answer"] or r["token"]: (r["target_probability"], r["reached_probability"]) for r in records}
    texts = row["prompt_text"], row["whole_text"]
    kl = row["kl"], row["kl_floor"], row["kl_at_least"]
    mixed = row["weights"], row["component_texts"]
    return FoundTarget(row["target_id"], *kl, prompt.numpy(), *texts, answers, *mixed)
