"""Prompts that are tokens: their embeddings, their texts, and what becomes of them when they are read again."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lit_prompt.data import TargetBatch
from lit_prompt.functional import kl_divergence
from lit_prompt.functional.precision import double
from lit_prompt.lm.round_trip import RoundTrip
from lit_prompt.models.base import PromptModule
from lit_prompt.models.context import Context
from lit_prompt.models.soft_run import SoftRun
from lit_prompt.results.record import Columns


class TokenPrompts(PromptModule):
    """A module whose bank holds token ids.

    Attributes:
        allowed: ids that a prompt may hold, rising, ``[allowed]``, int64.
        soft_run: the soft run whose prompts the search starts from; None for another start.
    """

    allowed: Tensor
    soft_run: SoftRun | None

    def prompt_embeddings(self, index: Sequence[int]) -> Tensor:
        """Input embeddings of the best prompts, ``[target, restart, length, embedding]``, float32."""
        return self.lm.embed(self.bank.prompts[torch.tensor(index)]).float().cpu()

    def saved_prompts(self, index: Sequence[int]) -> Tensor:
        """Token ids of the best prompts, ``[target, restart, length]``, int64."""
        return self.bank.prompts[torch.tensor(index)]

    def text_columns(self, batch: TargetBatch, best_restart: Sequence[int]) -> Columns:
        """The prompts' texts, and the KL of what the LM makes of them when they are decoded and encoded again."""
        contexts = self.contexts.of_batch(batch)
        ids = self.bank.prompts[torch.tensor(batch.index), torch.tensor(best_restart)].tolist()
        trips = [self.round_trip(context) for context in contexts]
        again = [trip.read_again([own])[0] for trip, own in zip(trips, ids, strict=True)]
        log_q = self._log_probs_after(again)
        kl = kl_divergence(double(batch.log_probs), log_q).tolist()
        known = self.bank.searched[torch.tensor(batch.index)].tolist()
        columns = {} if self.soft_run is None else self._projection_columns(batch, contexts, self.soft_run)
        return columns | {
            "prompt_text": [trip.text(own) if ok else None for trip, own, ok in zip(trips, ids, known, strict=True)],
            "kl_text": [value if ok and not math.isnan(value) else None for value, ok in zip(kl, known, strict=True)],
        }

    def _projection_columns(self, batch: TargetBatch, contexts: list[Context], soft_run: SoftRun) -> Columns:
        """What is lost when soft prompts become the tokens nearest to them: the better of two projections."""
        soft = torch.stack([soft_run.embeddings(target_id) for target_id in batch.target_id])
        allowed = self.allowed.to(self.lm.device)
        projected = [torch.stack(soft_run.projected(target_id, self.lm, allowed)) for target_id in batch.target_id]
        hard = self.lm.embed(torch.stack(projected, 1)).float().cpu()  # [metric, target, length, embedding]
        kl = [
            kl_divergence(double(batch.log_probs), self.reached_log_probs(prompts, contexts))
            for prompts in (soft, *hard)
        ]
        return {"kl_soft": kl[0].tolist(), "kl_projected": torch.minimum(kl[1], kl[2]).tolist()}

    def _log_probs_after(self, prompts: list[list[int]]) -> Tensor:
        """Next-token log-probabilities after whole token sequences, ``[prompt, vocab]``, float64, on CPU.

        NaN after those that are empty, or longer than the LM takes (text of what is no text can be).
        """
        reached = torch.full((len(prompts), self.lm.vocab_size), torch.nan, dtype=torch.float64)
        nothing = Context("", "", (), (), own=False)
        for length in sorted({len(ids) for ids in prompts} - {0}):
            if self.lm.max_length is not None and length > self.lm.max_length:
                continue
            rows = [i for i, ids in enumerate(prompts) if len(ids) == length]
            embeddings = self.lm.embed(torch.tensor([prompts[i] for i in rows]))
            reached[rows] = self.reached_log_probs(embeddings, [nothing] * len(rows))
        return reached

    def best_texts(self) -> tuple[list[float], list[str]]:
        """Score in nats and text of each of the chunk's targets' best prompt so far; empty where there is none yet."""
        kl = self.best.kl.unflatten(0, (len(self._index), self.restarts))
        score, restart = kl.min(1)
        rows = torch.arange(len(self._index), device=kl.device) * self.restarts + restart
        ids = self.best.prompts[rows].tolist()
        batch = self.targets.batch(self._index)
        trips = [self.round_trip(context) for context in self.contexts.of_batch(batch)]
        texts = [trip.text(own) if s < float("inf") else "" for trip, own, s in zip(trips, ids, score, strict=True)]
        return score.tolist(), texts

    def round_trip(self, context: Context) -> RoundTrip:
        """Asks whether prompts survive as text in a context."""
        return RoundTrip(self.vocabulary, context.before, context.after)
