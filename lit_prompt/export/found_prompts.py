"""The prompts of a run, with all that is needed to see what they reach."""

import difflib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from lit_prompt.data import TargetBatch
from lit_prompt.data.answers import Answers
from lit_prompt.data.datamodule import TargetDataModule
from lit_prompt.data.target import Texts
from lit_prompt.errors import InputError
from lit_prompt.functional import kl_divergence
from lit_prompt.functional.answer_tree import AnswerTree
from lit_prompt.lm import PLAIN, FrozenLM
from lit_prompt.models.outcomes import reached_outcomes, target_outcomes
from lit_prompt.models.run_prompts import prompts_file
from lit_prompt.records.prompts import WEIGHTS, read_prompts
from lit_prompt.scoring import Context, Contexts, Member, MicroBatch, PromptedLM

#: Log-probabilities of the next token ``[vocab]``, float64, where an answer has begun with some tokens, or none.
NextToken = Callable[[Sequence[int]], Tensor]


@dataclass(frozen=True)
class FoundPrompt:
    """A target and the prompt that was found for it.

    Attributes:
        target_id: of the target.
        context: the texts around the prompt.
        prompt: token ids ``[length]``, or embeddings ``[length, embedding]``, float32.
        text: of token ids, as it stands in its context; None for embeddings.
        whole: that text with those around it; None for embeddings.
        answers: of the target; None for a target over tokens.
        log_p: log-probabilities of the target's outcomes ``[outcome]``, float64.
        weight: in the mixture that it belongs to; 1 where it is alone.
    """

    target_id: str
    context: Context
    prompt: Tensor
    text: str | None
    whole: str | None
    answers: Answers | None
    log_p: Tensor
    weight: float = 1.0

    @cached_property
    def tree(self) -> AnswerTree | None:
        """Of the answers' tokens."""
        return None if self.answers is None else self.answers.tree

    def kl(self, log_q: Tensor) -> float:
        """KL(target || LM) in nats, from log-probabilities of the outcomes ``[outcome]``, float64."""
        return float(kl_divergence(self.log_p.unsqueeze(0), log_q.unsqueeze(0)))


def outcomes(tree: AnswerTree | None, next_token: NextToken) -> Tensor:
    """Log-probabilities of a target's outcomes ``[outcome]``, float64, from those of the next token."""
    if tree is None:
        return next_token(())
    edges = torch.empty(len(tree.token), dtype=torch.float64)
    for node, prefix in enumerate(tree.prefixes):
        leaves = (tree.node == node).nonzero().flatten()
        edges[leaves] = next_token(prefix)[tree.token[leaves]]
    return tree.outcomes(edges)


class FoundPrompts:
    """The prompts that a run has found, with its LM and targets.

    Args:
        run: the run's folder.
        data: its targets, on its LM.

    Raises:
        InputError: if the run has not ended, or its prompts belong to another LM or other targets.
    """

    def __init__(self, run: Path, data: TargetDataModule) -> None:
        self.path = prompts_file(str(run), "--run")
        found, about = read_prompts(self.path)
        data.setup("export")
        self.data, self.about = data, about
        if about.get("targets") != data.targets.fingerprint:
            raise InputError(
                f"{self.path}: these prompts were searched for other targets than those in {data.targets.folder}; "
                "bring the run's own back"
            )
        self._prompts = {name: torch.from_numpy(prompt) for name, prompt in found.items()}
        self._weights: dict[str, list[float]] = json.loads(about.get(WEIGHTS, "{}"))

    @cached_property
    def lm(self) -> FrozenLM:
        """The LM that was searched.

        Raises:
            InputError: if the one that is named is another.
        """
        lm = FrozenLM.load(self.data.lm, self.data.lm_options)
        if lm.fingerprint != self.about.get("lm_fingerprint"):
            raise InputError(
                f"{self.path}: these prompts belong to another LM than {self.data.lm}, with these options; give the "
                "one that was searched"
            )
        return lm

    @cached_property
    def contexts(self) -> Contexts:
        """The texts around the prompts."""
        texts = self.about.get("before", ""), self.about.get("after", "")
        return Contexts(*texts, self.lm, self.data.vocabulary)

    @property
    def are_tokens(self) -> bool:
        """Whether they are hard prompts."""
        return not next(iter(self._prompts.values())).is_floating_point()

    @property
    def is_lifted(self) -> bool:
        """Whether the search began at the lift, whose last embedding counts by its direction alone."""
        return json.loads(self.about.get("settings", "{}")).get("init.kind") == "lift"

    def numbers(self, target_ids: Sequence[str] | None) -> list[int]:
        """The numbers of some targets, of all that have a prompt by default.

        Raises:
            InputError: if there is no such target, or nothing was found for it.
        """
        targets = self.data.targets
        if target_ids is None:
            return [i for i in range(len(targets)) if targets.task_ids[targets.task[i]] in self._prompts]
        known = {name: number for number, name in enumerate(targets.target_id)}
        for name in target_ids:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise InputError(f"--targets: the run has no target {name!r}{hint}")
            if targets.task_ids[targets.task[known[name]]] not in self._prompts:
                raise InputError(f"--targets: nothing was searched for {name}; go on with the run first")
        return [known[name] for name in dict.fromkeys(target_ids)]

    @property
    def are_mixtures(self) -> bool:
        """Whether a target has several prompts, with weights."""
        return bool(self._weights)

    def of(self, number: int) -> list[FoundPrompt]:
        """The prompts of a target: one, or those of its mixture that have a weight, the largest first."""
        batch = self.data.targets.batch([number])
        prompts, weights = self._prompts[batch.task_id[0]], self._weights.get(batch.task_id[0])
        if weights is None:
            return [self._found(batch, prompts, 1.0)]
        order = sorted((k for k, weight in enumerate(weights) if weight > 0), key=lambda k: -weights[k])
        return [self._found(batch, prompts[k], weights[k]) for k in order]

    def _found(self, batch: TargetBatch, prompt: Tensor, weight: float) -> FoundPrompt:
        context = self.contexts.of(batch.texts[0])
        text = None if prompt.is_floating_point() else self._text(batch.task[0], prompt)
        whole = None if text is None else self.contexts.whole(context, text)
        log_p = target_outcomes(batch)[0]
        return FoundPrompt(batch.target_id[0], context, prompt, text, whole, batch.answers[0], log_p, weight)

    def _text(self, task: int, prompt: Tensor) -> str:
        own: list[Texts] = [self.data.targets.texts[i] for i in self.data.targets.members(task)]
        return self.contexts.round_trip([self.contexts.of(texts) for texts in own]).text(prompt.tolist())

    @torch.no_grad()
    def reached_on(self, lm: FrozenLM, found: FoundPrompt) -> Tensor:
        """Log-probabilities of the outcomes after a prompt, on the LM or a copy of it, ``[outcome]``, float64."""
        member = Member(0, found.context, tree=found.tree)
        contexts = list(dict.fromkeys(member.contexts))
        prompts = found.prompt.unsqueeze(0)
        prompted = PromptedLM(lm, contexts, prompts.shape[1], MicroBatch())
        return reached_outcomes(prompted, prompts, [member], contexts, _no_floor, (PLAIN,)).log_q[0][0]


def embedded(lm: FrozenLM, found: FoundPrompt, after: bool) -> Tensor:
    """What stands in front, the text before, the prompt and, with ``after``, the text after it, as embeddings.

    ``[position, embedding]``, in the LM's dtype, on the CPU.
    """
    context, prompt = found.context, found.prompt
    if not prompt.is_floating_point():
        prompt = _embed(lm, prompt.tolist())
    parts = [_embed(lm, context.before_ids), prompt.to(lm.dtype).cpu()]
    return torch.cat(parts + [_embed(lm, context.after_ids)] * after)


def _embed(lm: FrozenLM, ids: Sequence[int]) -> Tensor:
    return lm.embed(torch.tensor(list(ids), dtype=torch.long)).cpu()


def _no_floor(features: Tensor) -> Tensor:
    return torch.zeros(len(features), dtype=torch.bool)
