"""Searches of every kind on a tiny LM, on any device."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch

from lit_prompt.data import Target, TargetSet
from lit_prompt.data.contexts import ContextCut
from lit_prompt.data.datamodule import TargetDataModule
from lit_prompt.data.families import FromLM
from lit_prompt.lm import LMOptions, Vocabulary
from lit_prompt.models import HardPrompt, PromptInit, PromptModule, SoftPrompt
from lit_prompt.search import (
    ARCA,
    GBDA,
    GCG,
    PEZ,
    SEARCHERS,
    CoordinateDescent,
    HotFlip,
    RandomSearch,
    SharedSearch,
    TokenStart,
)

#: Saved targets and a tested run of soft prompts, in the folder of all tests.
TARGETS, SOFT_RUN = "targets", "cpu/logs/soft/version_0"
SMALL = {
    SharedSearch: {"width": 4, "top_k": 32},
    GCG: {"width": 8, "top_k": 32, "momentum": 0.5, "buffer": 2},
    HotFlip: {"num_candidates": 8, "beam_size": 2, "order": "random"},
    ARCA: {"averaged": 3, "num_candidates": 8},
    GBDA: {"relaxed": 2, "sample_every": 1, "samples": 4},
    RandomSearch: {"width": 8},
}
# the device's process has no fixtures, and would read more natural texts than the tests' own
_BANK = TokenStart(random_sequences=2, sampled_texts=2, drawn_sequences=1, natural_texts=24)
_TEXT = TokenStart(kind="text", text=" house")


def _soft(**settings: Any) -> Callable[..., PromptModule]:
    return lambda root: SoftPrompt(**{"length": 3, "steps": 3, **settings})


def _lift() -> Callable[..., PromptModule]:
    return _soft(length=2, steps=2, init=PromptInit("lift"), lift_tolerance=1e-3)


def _hard(searcher: Any, **settings: Any) -> Callable[..., PromptModule]:
    return lambda root: HardPrompt(
        **{"length": 3, "steps": 2, "screening": "never", "searcher": searcher, "start": _BANK, **settings}
    )


def _from_soft(root: Path) -> PromptModule:
    return _hard(PEZ(), start=TokenStart(kind="soft", soft_run=str(root / SOFT_RUN)))(root)


#: name: makes the module, from the folder of all tests; the LM is of bfloat16 where the name says so
SEARCHES: dict[str, Callable[..., PromptModule]] = {
    "soft": _soft(restarts=2, before="The king", max_norm=2.0),
    # a single step, whose prompts do not depend on the rounding
    "soft_bfloat16": _soft(steps=1),
    # such small steps that it does not matter how bfloat16 rounds on a device
    "half_steps": _soft(steps=4, half_steps=3, optimizer=partial(torch.optim.Adam, lr=1e-6)),
    "lift": _lift(),
    "lift_bfloat16": _lift(),
    "from_lm": _soft(),
    **{each.method: _hard(each(**SMALL.get(each, {})), before="The king") for each in SEARCHERS},
    "hard_bfloat16": _hard(CoordinateDescent(), steps=1, start=_TEXT),
    "unshared": _hard(SharedSearch(width=4, top_k=32, share=False)),
    # so few candidates that all are scored again: which ones rank best in bfloat16 differs between devices
    "screened": _hard(RandomSearch(width=3), screening="always", start=_TEXT),
    "fluent": _hard(GCG(width=8, top_k=32), fluency=0.1, readable=False, max_forward_passes=20),
    "from_text": _hard(HotFlip(num_candidates=8), start=_TEXT, after=" said"),
    "from_random": _hard(RandomSearch(width=8, contiguous=False), start=TokenStart(kind="random")),
    "from_soft": _from_soft,
    "soft_mixture": _soft(steps=6, components=2, restarts=2),
    "mixture": _hard(SharedSearch(width=4, top_k=32), steps=4, components=2),
    "screened_mixture": _hard(RandomSearch(width=3), steps=4, components=2, screening="always", start=_TEXT),
}


def search(name: str, root: Path, lm: str, device: str, steps: str = "", restarts: str = "") -> dict[str, list[Any]]:
    """Searches and evaluates on Lightning's device of a name; the columns of the result record."""
    model = SEARCHES[name](root)
    model.steps, model.restarts = int(steps or model.steps), int(restarts or model.restarts)
    made = [FromLM(count=2, cut=ContextCut(min_words=1, max_words=3))] if name == "from_lm" else None
    options = LMOptions(dtype="bfloat16" if name.endswith("bfloat16") else "float32")
    data = TargetDataModule(made, chunk_size=3, load=None if made else root / TARGETS, lm=lm, lm_options=options)
    trainer = L.Trainer(accelerator=device, devices=1, max_epochs=-1, logger=False, enable_checkpointing=False,
                        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0)  # fmt: skip
    trainer.fit(model, datamodule=data)
    return model.evaluator.columns(data.targets.batch(range(len(data.targets))), model.results)[0]


def write_targets(root: Path, lm: str) -> None:
    """Saves three targets: two alike but for their numbers, and one with texts of its own around the prompt."""
    vocabulary = Vocabulary.load(lm, LMOptions())
    texts = [(None, None), (None, None), ("one, two,", " six")]
    targets = []
    for i, (before, after) in enumerate(texts):
        logits = 2.0 * torch.randn(vocabulary.size, generator=torch.Generator().manual_seed(i))
        targets.append(replace(Target.from_logits(f"t{i}", "random", logits), before=before, after=after))
    TargetSet.write(root / TARGETS, targets, vocabulary.size, vocabulary.fingerprint)
