"""A folder of exported prompts: written whole, read back, and given out if the KLs agree."""

import json
import math
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from lit_prompt.errors import InputError
from lit_prompt.export.adapters import next_token_of_adapter, why_not_read
from lit_prompt.export.found_prompts import FoundPrompt, FoundPrompts, NextToken, embedded, outcomes
from lit_prompt.export.half_precision import scaled_lift
from lit_prompt.export.pasted_texts import next_token_after_ids, text_row, write_rows
from lit_prompt.export.prompt_embeds import next_token_after_embeds, write_embeds
from lit_prompt.export.script import absolute, write_script
from lit_prompt.files import full_disk_named
from lit_prompt.lm import FrozenLM
from lit_prompt.lm.prompt_adapter import write_adapter
from lit_prompt.progress import phase
from lit_prompt.under_way import under_way

Form = Literal["peft", "embeds", "text"]
FORMS: tuple[Form, ...] = ("peft", "embeds", "text")
#: Nats by which a KL may move, as weights and prompt are rounded to a dtype.
TOLERANCES = {torch.float64: 1e-4, torch.float32: 1e-4, torch.float16: 0.02, torch.bfloat16: 0.1}
_MOST_LETTERS = 120


class Exporter:
    """Exports prompts of a run.

    Args:
        found: the run's prompts.
        form: ``peft``, an adapter of prompt tuning for each target; ``embeds``, all that the LM is given as
            embeddings; ``text``, hard prompts as lines of JSON. A mixture has one of them for each prompt, and its
            weights are in ``mixtures.json``.
        dtype: of embeddings, and of the LM that they are for; that of the run's LM by default.

    Raises:
        InputError: if the run's prompts are embeddings, and texts are wanted, or the LM is in none of the dtypes.
    """

    def __init__(self, found: FoundPrompts, form: Form, dtype: torch.dtype | None = None) -> None:
        if form == "text" and not found.are_tokens:
            raise InputError("--format text: these are soft prompts, which are no texts; export them as peft or embeds")
        if form == "text" and dtype is not None:
            raise InputError("--dtype is of embeddings; --format text has none")
        self._found, self._form = found, form
        self.dtype = dtype or found.lm.dtype
        self._lm = found.lm if self.dtype == found.lm.dtype else self._loaded(self.dtype)
        self._lifted = self._lm is not found.lm and found.is_lifted

    @property
    def why_not_read(self) -> str | None:
        """Why what is exported cannot be read back by the program that it is for; None where it can."""
        return why_not_read() if self._form == "peft" else None

    def _loaded(self, dtype: torch.dtype) -> FrozenLM:
        data = self._found.data
        name: Any = str(dtype).removeprefix("torch.")
        return FrozenLM.load(data.lm, replace(data.lm_options, dtype=name))

    @torch.no_grad()
    def export(self, numbers: Sequence[int], out: Path, with_script: bool) -> list[dict[str, Any]]:
        """Exports the prompts of some targets.

        Args:
            numbers: of the targets.
            out: folder to make.
            with_script: whether a program goes with them that shows what they reach.

        Returns:
            For each target ``target_id``, ``kl`` (nats, recomputed here), ``kl_read_back`` (by the foreign library;
            None where that is not installed) and where it is.

        Raises:
            InputError: if the folder is there already, or a KL is another when it is read back; nothing is left then.
        """
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise InputError(f"--out: {out} exists; exports are never overwritten, name another folder")
        out.parent.mkdir(parents=True, exist_ok=True)
        with under_way(out.parent) as staging, full_disk_named(out, staging):
            folder = staging / "export"
            folder.mkdir()
            rows: list[dict[str, Any]] = []
            exported: list[dict[str, Any]] = []
            with phase("exporting", "target", len(numbers)) as tick:
                every = [self._found.of(number) for number in numbers]
                names = iter(file_names(_titles(every, self._found.are_mixtures)))
                for prompts in every:
                    parts = [self._export(prompt, folder, next(names)) for prompt in prompts]
                    rows += [part.row for part in parts]
                    exported.append(_together(prompts, parts) if self._found.are_mixtures else parts[0].row)
                    self._refuse_other(exported[-1])
                    tick(1)
            if self._form == "text":
                write_rows(folder / "prompts.jsonl", rows)
            else:
                _write(folder / "export.json", rows)
            if self._found.are_mixtures:
                _write(folder / "mixtures.json", exported)
            if with_script:
                data, name = self._found.data, str(self.dtype).removeprefix("torch.")
                targets, mixed = [prompts[0] for prompts in every], self._found.are_mixtures
                write_script(folder, self._form, data.lm, data.lm_options, name, targets, mixed)
            if out.exists():
                out.rmdir()
            os.replace(folder, out)
        return exported

    def _export(self, prompt: FoundPrompt, folder: Path, name: str) -> "_Part":
        data = self._found.data
        lm = absolute(data.lm)
        reached = self._found.reached_on(self._found.lm, prompt)
        kl = prompt.kl(reached)
        if self._lifted:
            prompt = scaled_lift(self._found, prompt, self._lm)
        read: NextToken | None
        if self._form == "text":
            row = text_row(prompt, kl, lm)
            read = next_token_after_ids(self._lm.model, row["whole_ids"])
        else:
            row = {"target_id": prompt.target_id, "file": name, "kl": kl, "dtype": str(self.dtype)[6:], "lm": lm}
            if self._form == "peft":
                write_adapter(
                    folder / name, embedded(self._lm, prompt, False), self._lm.model.config, lm,
                    data.lm_options.revision,
                )  # fmt: skip
                row |= {"after": prompt.context.after, "after_ids": list(prompt.context.after_ids)}
                read = None
                if self.why_not_read is None:
                    read = next_token_of_adapter(self._lm.model, folder / name, prompt.context.after_ids)
            else:
                row["file"], row["request"] = f"{name}.safetensors", f"{name}.json"
                whole = embedded(self._lm, prompt, True)
                write_embeds(folder / row["file"], folder / row["request"], whole, data.lm)
                read = next_token_after_embeds(self._lm.model, folder / row["request"])
        again = None if read is None else outcomes(prompt.tree, read)
        row["kl_read_back"] = None if again is None else prompt.kl(again)
        if self._found.are_mixtures:
            row["weight"] = prompt.weight
        return _Part(row, reached, again)

    def _refuse_other(self, row: dict[str, Any]) -> None:
        found, most = row["kl_read_back"], TOLERANCES[self.dtype]
        if found is None or abs(found - row["kl"]) <= most or (math.isinf(found) and found == row["kl"]):
            return
        kind = str(self.dtype).removeprefix("torch.")
        raise InputError(
            f"{row['target_id']}: exported to {kind}, the prompt reaches a KL of {found:.4f} nats, and {row['kl']:.4f} "
            f"in its run: more than rounding to {kind} explains ({most} nats); nothing was exported. Try another "
            "--dtype, or leave this target out with --targets"
        )


class _Part(NamedTuple):
    """A prompt that was exported."""

    row: dict[str, Any]  #: what is told of it
    reached: Tensor  #: log-probabilities of the outcomes after it, ``[outcome]``
    again: Tensor | None  #: those when it was read back; None where it was not


def _together(prompts: Sequence[FoundPrompt], parts: Sequence[_Part]) -> dict[str, Any]:
    """What is told of a mixture: its KLs, in its run and read back, and the weights of its prompts."""

    def kl(log_q: Sequence[Tensor]) -> float:
        weighted = [own + math.log(prompt.weight) for own, prompt in zip(log_q, prompts, strict=True)]
        return prompts[0].kl(torch.stack(weighted).logsumexp(0))

    again = [part.again for part in parts if part.again is not None]
    where = [{name: part.row[name] for name in ("file", "prompt", "weight") if name in part.row} for part in parts]
    return {
        "target_id": prompts[0].target_id,
        "kl": kl([part.reached for part in parts]),
        "kl_read_back": kl(again) if again else None,
        "prompts": where,
    }


def _titles(every: Sequence[Sequence[FoundPrompt]], are_mixtures: bool) -> list[str]:
    """What the files of prompts are named after."""
    if not are_mixtures:
        return [prompts[0].target_id for prompts in every]
    return [f"{prompt.target_id}.{k}" for prompts in every for k, prompt in enumerate(prompts, 1)]


def _write(path: Path, rows: object) -> None:
    path.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", "utf-8")


def file_names(target_ids: Sequence[str]) -> list[str]:
    """Names for the files of some targets that every file system takes, and that differ on all of them."""
    found: list[str] = []
    taken: set[str] = set()
    for target_id in target_ids:
        plain = re.sub(r"[^\w.+=,()-]+", "-", target_id)[:_MOST_LETTERS].strip(".-") or "target"
        name = next(n for k in count(1) if (n := plain if k == 1 else f"{plain}-{k}").casefold() not in taken)
        taken.add(name.casefold())
        found.append(name)
    return found
