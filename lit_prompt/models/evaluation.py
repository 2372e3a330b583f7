"""The evaluation of prompts: every number recomputed from them, with nothing carried over from the search."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from lit_prompt.data import TargetBatch
from lit_prompt.functional import token_kl, total_variation
from lit_prompt.functional.answer_tree import AnswerTree
from lit_prompt.lm import PLAIN, Sampling
from lit_prompt.metrics import (
    Entropy,
    GroupedMetrics,
    JSDivergence,
    KLDivergence,
    ReverseKLDivergence,
    TopKOverlap,
    TotalVariation,
    entropy_bin,
)
from lit_prompt.models.floors import excess_columns
from lit_prompt.models.outcomes import OTHER, Reached, reached_outcomes, target_outcomes, width
from lit_prompt.models.record_columns import TOP_K, told_outcomes
from lit_prompt.records.floors import refuse_impossible_floors
from lit_prompt.records.results import Columns
from lit_prompt.results.rows import MOST_NAMED
from lit_prompt.scoring import Context, Member, MicroBatch, PromptedLM

if TYPE_CHECKING:
    from lit_prompt.models.base import PromptModule

Prompts = TypeVar("Prompts")


class Evaluation(ABC, Generic[Prompts]):
    """Evaluates prompts, of whatever kind, in float64 on the CPU.

    Args:
        module: gives the LM, the contexts of targets, the floors and what else a record tells.

    Attributes:
        metrics: divergences and entropy over the targets evaluated, overall, by family and by entropy.
        held_out: the same over targets that were not searched for.
        chosen: by the number of a task that was evaluated the restart whose prompt is the best.
    """

    def __init__(self, module: "PromptModule") -> None:
        self._module = module
        self._lm = module.lm
        self._micro_batch = MicroBatch()
        self.chosen: dict[int, int] = {}
        self._has_floors = True  # whether there can be floors of what is evaluated
        self.metrics, self.held_out = _metrics(), _metrics()

    # ---- distributions ----

    @torch.no_grad()
    def reached(
        self,
        prompts: Tensor,
        contexts: Sequence[Context],
        trees: Sequence[AnswerTree | None],
        samplings: Sequence[Sampling] = (PLAIN,),
    ) -> Reached:
        """What the LM gives after prompts.

        Args:
            prompts: token ids ``[item, length]``, or embeddings ``[item, length, embedding]``.
            contexts: of each.
            trees: of those whose outcomes are answers; None for tokens.
            samplings: the ways in which tokens are drawn.
        """
        rows = [Member(0, context, tree=tree) for context, tree in zip(contexts, trees, strict=True)]
        distinct = list(dict.fromkeys(context for row in rows for context in row.contexts))
        prompted = PromptedLM(self._lm, distinct, prompts.shape[1], self._micro_batch)
        holds = self._module.known.floors.hold_for if self._has_floors else _unknown
        return reached_outcomes(prompted, prompts, rows, distinct, holds, samplings)

    def unprompted(self, contexts: Sequence[Context], trees: Sequence[AnswerTree | None]) -> Tensor:
        """What the LM gives without a prompt: after a context's texts, or where there is no token after BOS, else EOS.

        Args:
            contexts: any number; equal ones are computed once.
            trees: as of :meth:`reached`.

        Returns:
            Log-probabilities of outcomes ``[context, outcome]``, float64; NaN where there is neither.
        """
        return self.after([self._without_prompt(context) for context in contexts], trees)[0]

    def _without_prompt(self, context: Context) -> Context:
        alone = tuple(self._module.data.vocabulary.empty_text_ids)
        return context if context.ids else replace(context, before_ids=alone)

    def after(self, contexts: Sequence[Context], trees: Sequence[AnswerTree | None]) -> tuple[Tensor, Tensor]:
        """What the LM gives after texts.

        Args:
            contexts: without a place for a prompt; equal ones are computed once.
            trees: as of :meth:`reached`.

        Returns:
            As of :meth:`reached`, with no sampling; NaN and False after texts that the LM does not take.
        """
        pairs = list(zip(contexts, trees, strict=True))
        distinct = list(dict.fromkeys(pair for pair in pairs if self.takes(pair[0])))
        nothing = torch.zeros(len(distinct), 0, dtype=torch.long)
        reached = self.reached(nothing, [context for context, _ in distinct], [tree for _, tree in distinct])
        (found,), holds = reached
        log_q = torch.full((len(pairs), width(trees, self._lm.vocab_size)), torch.nan, dtype=torch.float64)
        bounded = torch.zeros(len(pairs), dtype=torch.bool)
        numbers = {pair: number for number, pair in enumerate(distinct)}
        for row, pair in enumerate(pairs):
            if pair in numbers:
                log_q[row] = -torch.inf
                log_q[row, : found.shape[1]], bounded[row] = found[numbers[pair]], holds[numbers[pair]]
        return log_q, bounded

    def takes(self, context: Context) -> bool:
        """Whether the LM takes the texts of a context: at least a token, none unknown, and no more than it can."""
        most, ids = self._lm.max_length, context.ids
        return len(ids) > 0 and (most is None or len(ids) <= most) and max(ids) < self._module.data.vocabulary.size

    # ---- records ----

    @abstractmethod
    def columns(self, batch: TargetBatch, prompts: Prompts, compared: bool = True) -> tuple[Columns, Tensor]:
        """Recomputes every number of some targets from their prompts.

        Args:
            batch: the targets.
            prompts: theirs, among others.
            compared: whether to solve floors and search baselines, which takes longer than all else; floors that are
                known are there in any case.

        Returns:
            The columns of the result record, and the reached log-probabilities ``[target, outcome]`` of the best
            prompt (NaN for a target that has none).
        """

    def start(self, prompts: Prompts) -> None:
        """Begins an evaluation.

        Raises:
            InputError: if there is nothing to evaluate.
        """
        self.forget()

    def forget(self) -> None:
        """Forgets all targets that were evaluated."""
        self.metrics.reset()
        self.held_out.reset()
        self.chosen.clear()

    def state(self) -> dict[str, Any]:
        """What is known of the targets evaluated beside their columns: plain values."""
        return {"metrics": self.metrics.sums(), "held_out": self.held_out.sums(), "chosen": dict(self.chosen)}

    def add(self, state: dict[str, Any]) -> None:
        """Adds the targets that another process has evaluated, given its :meth:`state`."""
        self.metrics.add(state["metrics"])
        self.held_out.add(state["held_out"])
        self.chosen |= state["chosen"]

    def floor_columns(
        self, batch: TargetBatch, kl: list[float | None], bounded: Tensor, compared: bool
    ) -> dict[str, list[float | None]]:
        """The floors and the parts of the excess above them; arguments as of :meth:`columns` and :meth:`reached`.

        Raises:
            InputError: if a KL is below its floor.
        """
        floors = self._module.known.floors
        columns = excess_columns(kl, floors.of(batch) if compared else floors.known(batch), bounded.tolist())
        found = zip(batch.target_id, kl, columns["kl_floor"], strict=True)
        rows = (dict(zip(("target_id", "kl", "kl_floor"), row, strict=True)) for row in found)
        refuse_impossible_floors(rows, floors.source, "move that file away: floors are solved again without it")
        return columns

    def context_columns(self, contexts: list[Context]) -> Columns:
        """What stands around the prompts, and what the LM is given without them."""
        vocabulary = self._module.data.vocabulary
        return {
            "in_front": [vocabulary.front if context.chat is None else "" for context in contexts],
            "context_before": [context.before for context in contexts],
            "context_after": [context.after for context in contexts],
            "unprompted_text": [vocabulary.decode(list(self._without_prompt(context).ids)) for context in contexts],
        }

    def constant_columns(self, count: int) -> Columns:
        """What ``count`` records of one search on one LM have in common."""
        module = self._module
        constant = {
            "method": module.method,
            "objective": module.objective.name,
            "seed": module.seed,
            "lm": module.lm_path,
            "lm_fingerprint": self._lm.fingerprint,
        }
        return {name: [value] * count for name, value in constant.items()}

    def update(self, batch: TargetBatch, prompts: Prompts) -> Columns:
        """Evaluates some targets and adds them to the metrics.

        Returns:
            :meth:`columns` and, where the set has few targets, their token records as ``tokens``.
        """
        with self._shown(batch):
            columns, log_q = self.columns(batch, prompts)
        if len(self._module.data.targets) <= MOST_NAMED:
            columns["tokens"] = self._token_records(batch, columns, log_q)
        known = [value is not None for value in columns["kl"]]
        labels = [[f, entropy_bin(h)] for f, h in zip(batch.family, batch.entropy.tolist(), strict=True)]
        log_p = target_outcomes(batch)
        for metrics, side in ((self.metrics, False), (self.held_out, True)):
            if rows := [i for i in range(len(batch)) if known[i] and batch.held_out[i] is side]:
                metrics.update(log_p[rows], log_q[rows], [labels[i] for i in rows])
        return columns

    def _shown(self, batch: TargetBatch) -> AbstractContextManager[None]:
        first, last = batch.index[0] + 1, batch.index[-1] + 1
        return self._micro_batch.shown(f"evaluating targets {first}-{last} of {len(self._module.data.targets)}")

    def means(self, stage: str) -> dict[str, Tensor]:
        """The means over the targets evaluated, under names for TensorBoard."""
        found = {f"{stage}/{name}": value.float() for name, value in self.metrics.compute().items()}
        if any(self._module.data.targets.held_out):
            means = self.held_out.overall.compute().items()
            found |= {f"{stage}/held_out/{name}": value.float() for name, value in means}
        return found

    def token_records(self, batch: TargetBatch, prompts: Prompts) -> list[dict[str, Any]]:
        """Target and reached probability of the top tokens of some targets.

        Returns:
            For each token, or answer, that is among a target's ten most likely ones, in the target or as reached, or
            among those with most missing or excess mass: target_id, family, kl (nats; of hard prompts also
            kl_floor_tokens and excess_tokens, where they are known), wrong_mass (all that is missing,
            which is all that is too much), token_id, token, target_probability, reached_probability and token_kl (its
            share of the KL, nats). ``sampled_probability`` is what is reached as tokens are sampled, where they are
            sampled in another way; ``answer`` is the text of several tokens that the token stands for, if any;
            ``prompt_text`` that of a hard prompt; ``weights`` and ``component_texts`` are of mixtures. Targets that
            were not searched are left out.
        """
        with self._shown(batch):
            found = self._token_records(batch, *self.columns(batch, prompts, compared=False))
        return [record for records in found for record in records]

    def _token_records(self, batch: TargetBatch, columns: Columns, log_q: Tensor) -> list[list[dict[str, Any]]]:
        """The token records of each target; none of one that was not searched."""
        log_p = target_outcomes(batch)
        p, q = log_p.exp(), log_q.exp()
        shares, wrong_mass = token_kl(log_p, log_q), total_variation(log_p, log_q)
        texts, drawn, sampled = (columns.get(name) for name in ("prompt_text", "drawn", "sampled"))
        mixed = [name for name in ("weights", "component_texts") if name in columns]
        return [
            [
                {
                    "target_id": target_id,
                    "family": batch.family[i],
                    "kl": columns["kl"][i],
                    **{name: columns[name][i] for name in ("kl_floor_tokens", "excess_tokens") if name in columns},
                    "wrong_mass": float(wrong_mass[i]),
                    **self._outcome(batch, i, outcome),
                    **({} if drawn is None else {"drawn": int(drawn[i][outcome]), "draws": columns["draws"][i]}),
                    "target_probability": float(p[i, outcome]),
                    "reached_probability": float(q[i, outcome]),
                    "sampled_probability": None if sampled is None else sampled[i][outcome],
                    "token_kl": float(shares[i, outcome]),
                    "prompt_text": None if texts is None else texts[i],
                    "whole_text": None if texts is None else columns["whole_text"][i],
                    **{name: columns[name][i] for name in mixed},
                }
                for outcome in told_outcomes(p[i], q[i])
                if columns["kl"][i] is not None
            ]
            for i, target_id in enumerate(batch.target_id)
        ]

    def _outcome(self, batch: TargetBatch, item: int, outcome: int) -> dict[str, Any]:
        """What an outcome of a target is: a token, and the answer that it stands for, or an answer."""
        if (answers := batch.answers[item]) is None:
            text, answer = self._module.data.vocabulary.text(outcome), batch.first_tokens(item).get(outcome)
            return {"token_id": outcome, "token": text, "answer": answer}
        name = answers.names[outcome] if outcome < len(answers.names) else OTHER
        return {"token_id": None, "token": name, "answer": None}


def _unknown(features: Tensor) -> Tensor:
    return torch.zeros(len(features), dtype=torch.bool)


def _metrics() -> GroupedMetrics:
    measures: dict[str, Metric | MetricCollection] = {
        "kl": KLDivergence(),
        "reverse_kl": ReverseKLDivergence(),
        "js": JSDivergence(),
        "tv": TotalVariation(),
        "entropy": Entropy(),
        f"top{TOP_K}_overlap": TopKOverlap(TOP_K),
    }
    return GroupedMetrics(MetricCollection(measures, compute_groups=False))
