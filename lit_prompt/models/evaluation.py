"""The evaluation of prompts: every number recomputed from them, with nothing carried over from the search."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torchmetrics import MetricCollection

from lit_prompt.data import TargetBatch
from lit_prompt.errors import InputError
from lit_prompt.functional import largest_errors, token_kl, total_variation
from lit_prompt.functional.precision import double
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
from lit_prompt.models.baselines import Baselines
from lit_prompt.models.floors import excess_columns
from lit_prompt.models.prompt_texts import text_columns
from lit_prompt.models.record_columns import TOP_K, divergence_columns, top_tokens
from lit_prompt.records.results import Columns
from lit_prompt.results.rows import MOST_NAMED
from lit_prompt.scoring import Context, MicroBatch, PromptedLM
from lit_prompt.scoring.prompted_lm import Part
from lit_prompt.search import SearchResults

if TYPE_CHECKING:
    from lit_prompt.models.base import PromptModule


class Evaluator:
    """Evaluates prompts of a module, in float64 on the CPU.

    Args:
        module: gives the LM, the contexts of targets, the floors and what else a record tells.

    Attributes:
        metrics: divergences and entropy over the targets evaluated, overall, by family and by entropy.
    """

    def __init__(self, module: "PromptModule") -> None:
        self._module = module
        self._lm = module.lm
        self._micro_batch = MicroBatch()
        self._baselines = Baselines(
            module.lm, module.data.vocabulary, module.contexts, module.length, self._micro_batch
        )
        self.metrics = GroupedMetrics(
            MetricCollection(
                {
                    "kl": KLDivergence(),
                    "reverse_kl": ReverseKLDivergence(),
                    "js": JSDivergence(),
                    "tv": TotalVariation(),
                    "entropy": Entropy(),
                    f"top{TOP_K}_overlap": TopKOverlap(TOP_K),
                },
                compute_groups=False,
            )
        )

    # ---- distributions ----

    def reached(self, prompts: Tensor, contexts: list[Context]) -> tuple[Tensor, Tensor]:
        """What the LM gives after prompts.

        Args:
            prompts: token ids ``[item, length]``, or embeddings ``[item, length, embedding]``.
            contexts: of each.

        Returns:
            Next-token log-probabilities ``[item, vocab]``, float64, and whether floors hold for them ``[item]``, bool.
        """
        prompted = PromptedLM(self._lm, contexts, prompts.shape[1], self._micro_batch)
        bounded = torch.zeros(len(prompts), dtype=torch.bool)

        def note(part: Part) -> None:
            bounded[part.rows] = self._module.floors.hold_for(part.features)

        return prompted.log_probs(prompts, torch.arange(len(prompts)), note), bounded

    def unprompted(self, contexts: list[Context]) -> Tensor:
        """What the LM gives without a prompt: after a context's texts, or where there is no token after BOS, else EOS.

        Args:
            contexts: any number; equal ones are computed once.

        Returns:
            Log-probabilities ``[context, vocab]``, float64; NaN where there is neither.
        """
        return self.after([self._without_prompt(context) for context in contexts])

    def _without_prompt(self, context: Context) -> Context:
        alone = tuple(self._module.data.vocabulary.empty_text_ids)
        return context if context.ids else replace(context, before_ids=alone)

    def after(self, contexts: list[Context]) -> Tensor:
        """What the LM gives after texts.

        Args:
            contexts: without a place for a prompt; equal ones are computed once.

        Returns:
            Log-probabilities ``[context, vocab]``, float64; NaN after nothing, and after more than the LM takes or
            tokens that it does not know.
        """
        distinct = list(dict.fromkeys(context for context in contexts if self._takes(context.ids)))
        reached, _ = self.reached(torch.zeros(len(distinct), 0, dtype=torch.long), distinct)
        known = dict(zip(distinct, reached, strict=True))
        nothing = torch.full((self._lm.vocab_size,), torch.nan, dtype=torch.float64)
        return torch.stack([known.get(context, nothing) for context in contexts])

    def _takes(self, ids: tuple[int, ...]) -> bool:
        most = self._lm.max_length
        return len(ids) > 0 and (most is None or len(ids) <= most) and max(ids) < self._module.data.vocabulary.size

    # ---- records ----

    @torch.no_grad()
    def columns(self, batch: TargetBatch, results: SearchResults, compared: bool = True) -> tuple[Columns, Tensor]:
        """Recomputes every number of some targets from their prompts.

        Args:
            batch: the targets.
            results: holds their prompts.
            compared: whether to solve floors and search baselines, which takes longer than all else; floors that are
                known are there in any case.

        Returns:
            The columns of the result record, and the reached log-probabilities ``[target, vocab]`` of the best
            restart (NaN for a target that was not searched).
        """
        module = self._module
        prompts = results.prompts[torch.tensor(batch.index)]
        contexts = module.contexts.of_all(batch)
        in_context = [context for context in contexts for _ in range(prompts.shape[1])]
        reached, bounded = (x.unflatten(0, prompts.shape[:2]) for x in self.reached(prompts.flatten(0, 1), in_context))
        columns, log_q = divergence_columns(batch, reached, results, self.unprompted(contexts), module.objective)
        rows, best_restart = torch.arange(len(batch)), torch.tensor(columns["best_restart"])
        if compared:
            columns |= self._baselines.columns(batch)
        floors = module.floors.of(batch) if compared else module.floors.known(batch)
        columns |= excess_columns(columns["kl"], floors, bounded[rows, best_restart].tolist())
        best = prompts[rows, best_restart]
        is_text = not best.is_floating_point()
        columns["prompt_norm"] = (self._lm.embed(best).float() if is_text else best).norm(dim=-1).mean(-1).tolist()
        if is_text:
            known = results.searched[torch.tensor(batch.index)].tolist()
            columns |= text_columns(self, module.contexts, batch, best, known)
        if module.soft_run is not None and compared:
            columns |= module.soft_run.projection_columns(module, batch)
        vocabulary = module.data.vocabulary
        unprompted = [vocabulary.decode(list(self._without_prompt(context).ids)) for context in contexts]
        columns["unprompted_text"] = unprompted
        columns["context_before"] = [context.before for context in contexts]
        columns["context_after"] = [context.after for context in contexts]
        constant = {
            "method": module.method,
            "objective": module.objective.name,
            "prompt_length": module.length,
            "in_front": vocabulary.front,
            "seed": module.seed,
            "lm": module.lm_path,
            "lm_fingerprint": self._lm.fingerprint,
        }
        return columns | {name: [value] * len(batch) for name, value in constant.items()}, log_q

    def start(self, results: SearchResults) -> None:
        """Begins an evaluation.

        Raises:
            InputError: if there is nothing to evaluate.
        """
        if not bool(results.searched.any()):
            raise InputError("no prompt has been searched yet; name a run with --run or a checkpoint with --ckpt_path")
        self.metrics.reset()

    def update(self, batch: TargetBatch, results: SearchResults) -> Columns:
        """Evaluates some targets and adds them to the metrics.

        Returns:
            :meth:`columns` and, where the set has few targets, their token records as ``tokens``.
        """
        columns, log_q = self.columns(batch, results)
        if len(self._module.data.targets) <= MOST_NAMED:
            columns["tokens"] = self._token_records(batch, columns, log_q)
        known = results.searched[torch.tensor(batch.index)]
        labels = [[f, entropy_bin(h)] for f, h in zip(batch.family, batch.entropy.tolist(), strict=True)]
        if known.any():
            log_p = double(batch.log_probs[known])
            self.metrics.update(log_p, log_q[known], [x for x, k in zip(labels, known, strict=True) if k])
        return columns

    def means(self, stage: str) -> dict[str, Tensor]:
        """The means over the targets evaluated, under names for TensorBoard."""
        return {f"{stage}/{name}": value.float() for name, value in self.metrics.compute().items()}

    def token_records(self, batch: TargetBatch, results: SearchResults) -> list[dict[str, Any]]:
        """Target and reached probability of the top tokens of some targets.

        Returns:
            For each token that is among a target's ten most likely ones, in the target or as reached, or among those
            with most missing or excess mass: target_id, family, kl (nats), wrong_mass (all that is missing, which is
            all that is too much), token_id, token, target_probability, reached_probability and token_kl (the token's
            share of the KL, nats). ``answer`` is the text of several tokens that the token stands for, if any;
            ``prompt_text`` that of a hard prompt. Targets that were not searched are left out.
        """
        found = self._token_records(batch, *self.columns(batch, results, compared=False))
        return [record for records in found for record in records]

    def _token_records(self, batch: TargetBatch, columns: Columns, log_q: Tensor) -> list[list[dict[str, Any]]]:
        """The token records of each target; none of one that was not searched."""
        log_p = double(batch.log_probs)
        p, q = log_p.exp(), log_q.exp()
        shares, wrong_mass = token_kl(log_p, log_q), total_variation(log_p, log_q)
        texts, answers = columns.get("prompt_text"), [batch.answers(i) for i in range(len(batch))]
        return [
            [
                {
                    "target_id": target_id,
                    "family": batch.family[i],
                    "kl": columns["kl"][i],
                    "wrong_mass": float(wrong_mass[i]),
                    "token_id": token_id,
                    "token": self._module.data.vocabulary.text(token_id),
                    "answer": answers[i].get(token_id),
                    "target_probability": float(p[i, token_id]),
                    "reached_probability": float(q[i, token_id]),
                    "token_kl": float(shares[i, token_id]),
                    "prompt_text": None if texts is None else texts[i],
                }
                for token_id in dict.fromkeys([*top_tokens(p[i], q[i]), *largest_errors(p[i], q[i])])
                if columns["kl"][i] is not None
            ]
            for i, target_id in enumerate(batch.target_id)
        ]
