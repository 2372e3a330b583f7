"""The evaluation of prompts: every number recomputed from them, with nothing carried over from the search."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import lightning as L
import torch
from torch import Tensor
from torchmetrics import MetricCollection

from lit_prompt.data import TargetBatch
from lit_prompt.errors import InputError
from lit_prompt.functional import largest_errors, normalize_log_probs, token_kl, total_variation
from lit_prompt.functional.precision import double
from lit_prompt.lm import FrozenLM, Vocabulary
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
from lit_prompt.models.context import Context, Contexts, PromptRows, run_in_parts
from lit_prompt.models.floors import Floors, excess_columns
from lit_prompt.results.record import TOP_K, Columns, divergence_columns, top_tokens
from lit_prompt.search import MicroBatch, ResultBank


class PromptEvaluation(L.LightningModule):
    """Evaluates the prompts of a bank: the steps and hooks of validate, test and predict."""

    method: str
    lm: FrozenLM
    lm_path: str
    seed: int
    bank: ResultBank
    contexts: Contexts
    floors: Floors
    baselines: Baselines

    def __init__(self) -> None:
        super().__init__()
        metrics = GroupedMetrics(
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
        # in a tuple, so that Lightning does not move it: evaluation is float64, on the CPU
        self._metrics = (metrics,)
        self._micro_batch = MicroBatch()

    @property
    @abstractmethod
    def vocabulary(self) -> Vocabulary:
        """The LM's vocabulary."""

    @property
    @abstractmethod
    def prompt_length(self) -> int:
        """Number of positions that a prompt takes."""

    @abstractmethod
    def prompt_embeddings(self, index: Sequence[int]) -> Tensor:
        """Input embeddings of the best prompts, ``[target, restart, length, embedding]``."""

    def saved_prompts(self, index: Sequence[int]) -> Tensor:
        """What is saved of the best prompts, ``[target, restart, length, ...]``: their embeddings."""
        return self.prompt_embeddings(index)

    def text_columns(self, batch: TargetBatch, best_restart: Sequence[int]) -> Columns:
        """Columns of the result record that prompts have which are text: none."""
        return {}

    @property
    def metrics(self) -> GroupedMetrics:
        """Divergences and entropy of the evaluation, overall, by family and by entropy."""
        return self._metrics[0]

    def reached_log_probs(self, prompts: Tensor, contexts: Sequence[Context]) -> Tensor:
        """Next-token log-probabilities after prompts in their contexts.

        Args:
            prompts: ``[item, length, embedding]``.
            contexts: of each prompt.

        Returns:
            ``[item, vocab]``, float64, on CPU.
        """
        return self._reached(prompts, contexts)[0]

    def _reached(self, prompts: Tensor, contexts: Sequence[Context]) -> tuple[Tensor, Tensor]:
        """Log-probabilities as of :meth:`reached_log_probs`, and whether floors hold for them, ``[item]``, bool."""
        reached = torch.empty(len(prompts), self.lm.vocab_size, dtype=torch.float64)
        bounded = torch.zeros(len(prompts), dtype=torch.bool)

        def fill(part: PromptRows) -> None:
            rows = part.rows.cpu()
            embeddings = part.input_embeddings(self.lm, prompts[rows].to(self.lm.device))
            features = self.lm.features(embeddings, part.mask)
            bounded[rows] = self.floors.hold_for(features)
            reached[rows] = normalize_log_probs(double(self.lm.logits(features)))

        run_in_parts(self._micro_batch, self.contexts.arrange(contexts, prompts.shape[1]), fill)
        return reached, bounded

    def unprompted_log_probs(self, contexts: Sequence[Context]) -> Tensor:
        """What the LM gives without a prompt: after a context's texts, or after BOS where both are empty.

        Args:
            contexts: any number; equal ones are computed once.

        Returns:
            ``[context, vocab]``, float64, on CPU; NaN where there is neither text nor BOS.
        """
        bos = self.vocabulary.tokenizer.bos_token_id
        alone = () if bos is None else (int(bos),)
        shown = [context if context.ids else replace(context, before_ids=alone) for context in contexts]
        distinct = list(dict.fromkeys(context for context in shown if context.ids))
        no_prompt = self.lm.embed(torch.zeros(len(distinct), 0, dtype=torch.long))
        known = dict(zip(distinct, self.reached_log_probs(no_prompt, distinct), strict=True))
        nothing = torch.full((self.lm.vocab_size,), torch.nan, dtype=torch.float64)
        return torch.stack([known.get(context, nothing) for context in shown])

    @torch.no_grad()
    def evaluate(self, batch: TargetBatch) -> tuple[Columns, Tensor]:
        """Recomputes every number of some targets from their prompts, in float64.

        Args:
            batch: the targets.

        Returns:
            The columns of the result record, and the reached log-probabilities ``[target, vocab]`` of the best
            restart (NaN for a target that was not searched).
        """
        prompts = self.prompt_embeddings(batch.index)
        contexts = self.contexts.of_batch(batch)
        restarts = prompts.shape[1]
        in_context = [context for context in contexts for _ in range(restarts)]
        reached, bounded = (x.unflatten(0, prompts.shape[:2]) for x in self._reached(prompts.flatten(0, 1), in_context))
        columns, log_q = divergence_columns(batch, reached, self.bank, self.unprompted_log_probs(contexts))
        columns |= self.baselines.columns(batch)
        rows, best_restart = torch.arange(len(batch)), torch.tensor(columns["best_restart"])
        columns |= excess_columns(columns["kl"], self.floors.of(batch), bounded[rows, best_restart].tolist())
        best = prompts[rows, best_restart]
        columns["prompt_norm"] = best.norm(dim=-1).mean(-1).tolist()
        columns |= self.text_columns(batch, columns["best_restart"])
        columns["context_before"] = [context.before for context in contexts]
        columns["context_after"] = [context.after for context in contexts]
        constant = {
            "method": self.method,
            "prompt_length": self.prompt_length,
            "seed": self.seed,
            "lm": self.lm_path,
            "lm_fingerprint": self.lm.fingerprint,
        }
        return columns | {name: [value] * len(batch) for name, value in constant.items()}, log_q

    def _evaluation_step(self, batch: TargetBatch) -> Columns:
        columns, log_q = self.evaluate(batch)
        known = self.bank.searched[torch.tensor(batch.index)]
        labels = [[f, entropy_bin(h)] for f, h in zip(batch.family, batch.entropy.tolist(), strict=True)]
        if known.any():
            self.metrics.update(
                double(batch.log_probs[known]), log_q[known], [x for x, k in zip(labels, known, strict=True) if k]
            )
        return columns

    def validation_step(self, batch: TargetBatch, batch_idx: int) -> Columns:
        """Evaluates some targets; returns the columns of their result records."""
        return self._evaluation_step(batch)

    def test_step(self, batch: TargetBatch, batch_idx: int) -> Columns:
        """Evaluates some targets; returns the columns of their result records."""
        return self._evaluation_step(batch)

    def predict_step(self, batch: TargetBatch, batch_idx: int) -> list[dict[str, Any]]:
        """The reached distributions of some targets; see :meth:`token_records`."""
        return self.token_records(batch)

    def token_records(self, batch: TargetBatch) -> list[dict[str, Any]]:
        """Target and reached probability of the top tokens of some targets.

        Returns:
            For each token that is among a target's ten most likely ones, in the target or as reached, or among those
            with most missing or excess mass: target_id, family, kl (nats), wrong_mass (all that is missing, which is
            all that is too much), token_id, token, target_probability, reached_probability and token_kl (the token's
            share of the KL, nats). Targets that were not searched are left out.
        """
        columns, log_q = self.evaluate(batch)
        log_p = double(batch.log_probs)
        p, q = log_p.exp(), log_q.exp()
        shares, wrong_mass = token_kl(log_p, log_q), total_variation(log_p, log_q)
        return [
            {
                "target_id": target_id,
                "family": batch.family[i],
                "kl": columns["kl"][i],
                "wrong_mass": float(wrong_mass[i]),
                "token_id": token_id,
                "token": self.vocabulary.text(token_id),
                "target_probability": float(p[i, token_id]),
                "reached_probability": float(q[i, token_id]),
                "token_kl": float(shares[i, token_id]),
            }
            for i, target_id in enumerate(batch.target_id)
            if columns["kl"][i] is not None
            for token_id in dict.fromkeys([*top_tokens(p[i], q[i]), *largest_errors(p[i], q[i])])
        ]

    def _require_results(self) -> None:
        if not hasattr(self, "bank") or not bool(self.bank.searched.any()):
            raise InputError("no prompt has been searched yet; name a run with --run or a checkpoint with --ckpt_path")
        self.metrics.reset()

    def on_validation_start(self) -> None:
        """Refuses to evaluate nothing."""
        self._require_results()

    def on_test_start(self) -> None:
        """Refuses to evaluate nothing."""
        self._require_results()

    def on_predict_start(self) -> None:
        """Refuses to evaluate nothing."""
        self._require_results()

    def _log_metrics(self, stage: Literal["val", "test"]) -> None:
        self.log_dict({f"{stage}/{name}": value.float() for name, value in self.metrics.compute().items()})

    def on_validation_epoch_end(self) -> None:
        """Logs the means over targets."""
        self._log_metrics("val")

    def on_test_epoch_end(self) -> None:
        """Logs the means over targets."""
        self._log_metrics("test")
