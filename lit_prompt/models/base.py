"""What soft and hard prompts have in common: the frozen LM, the evaluation, the checkpoint's identity."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

import lightning as L
import torch
from torch import Tensor
from torchmetrics import MetricCollection

from lit_prompt.data import TargetBatch, TargetDataModule, TargetSet
from lit_prompt.errors import InputError
from lit_prompt.functional import normalize_log_probs
from lit_prompt.lm import FrozenLM, LMOptions, Vocabulary, load_causal_lm
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
from lit_prompt.results.record import TOP_K, Columns, divergence_columns, top_tokens
from lit_prompt.search import MicroBatch, ResultBank

_CHECKPOINT_KEY = "lit_prompt"


class PromptModule(L.LightningModule):
    """A frozen LM and the prompts that are searched for a data module's targets.

    Args:
        lm: hub id or local folder of the LM; set by ``--lm``.
        lm_options: how it is loaded; set by ``--lm_options``.
        before: fixed text before the prompt; special tokens may be spelled (``<|endoftext|>``).
        after: fixed text between the prompt and the predicted token.
        seed: base of the searches' seeds.
    """

    method: str
    lm: FrozenLM
    bank: ResultBank

    def __init__(self, lm: str, lm_options: LMOptions | None, before: str, after: str, seed: int) -> None:
        super().__init__()
        self.lm_path = lm
        self.lm_options = lm_options or LMOptions()
        self.before = before
        self.after = after
        self.seed = seed
        self.strict_loading = False  # a checkpoint holds no weight: see on_save_checkpoint
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

    # ---- to be given by soft and hard prompts ----

    @property
    @abstractmethod
    def prompt_length(self) -> int:
        """Number of positions that a prompt takes."""

    @abstractmethod
    def prompt_embeddings(self, index: Sequence[int]) -> Tensor:
        """Input embeddings of the best prompts, ``[target, restart, length, embedding]``."""

    @abstractmethod
    def progress(self) -> tuple[list[int], Tensor]:
        """Positions of the targets under search and their best KL so far in nats, ``[target]``, on CPU."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """What defines the search: plain values, shown in TensorBoard and compared on resume."""

    # ---- set-up ----

    @property
    def data(self) -> TargetDataModule:
        """The data module of the running trainer."""
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, TargetDataModule):
            raise InputError("the trainer needs a TargetDataModule: trainer.fit(model, datamodule=...)")
        return data

    @property
    def metrics(self) -> GroupedMetrics:
        """Divergences and entropy of the evaluation, overall, by family and by entropy."""
        return self._metrics[0]

    @property
    def targets(self) -> TargetSet:
        """The targets of the running trainer."""
        return self.data.targets

    @property
    def vocabulary(self) -> Vocabulary:
        """The LM's vocabulary."""
        return self.data.vocabulary

    def setup(self, stage: str) -> None:
        """Refuses what would change results silently."""
        refuse_many_devices(self.trainer)
        if str(self.trainer.precision) != "32-true":
            raise InputError(
                "trainer.precision must stay 32-true: prompts and losses are float32; set lm_options.dtype"
            )

    def configure_model(self) -> None:
        """Loads the LM, once."""
        if "lm" in self._modules:
            return
        self.lm = FrozenLM(load_causal_lm(self.lm_path, self.lm_options))
        if self.lm.vocab_size != self.targets.vocab_size:
            raise InputError(
                f"{self.lm_path} has {self.lm.vocab_size} logits, the targets are over {self.targets.vocab_size} tokens"
            )
        encode = self.vocabulary.encode
        self._before_ids, self._after_ids = encode(self.before), encode(self.after)
        total = len(self._before_ids) + self.prompt_length + len(self._after_ids)
        if self.lm.max_length is not None and total > self.lm.max_length:
            raise InputError(
                f"the prompt is longer than the LM's context: {len(self._before_ids)} tokens before, "
                f"{self.prompt_length} of prompt and {len(self._after_ids)} after make {total}, {self.lm_path} takes "
                f"{self.lm.max_length}; lower model.length or shorten model.before / model.after"
            )

    def in_context(self, prompts: Tensor) -> Tensor:
        """Puts prompts between the fixed texts.

        Args:
            prompts: ``[item, length, embedding]``.

        Returns:
            Input embeddings ``[item, position, embedding]``, float32.
        """
        parts = [prompts]
        if self._before_ids:
            parts.insert(0, self._fixed(self._before_ids, prompts))
        if self._after_ids:
            parts.append(self._fixed(self._after_ids, prompts))
        return torch.cat(parts, dim=1) if len(parts) > 1 else prompts

    def _fixed(self, ids: list[int], like: Tensor) -> Tensor:
        return self.lm.embed(torch.tensor(ids)).to(like).expand(len(like), -1, -1)

    # ---- evaluation ----

    def reached_log_probs(self, prompts: Tensor) -> Tensor:
        """Next-token log-probabilities: ``[item, length, embedding]`` to ``[item, vocab]``, float64, on CPU."""
        parts: list[Tensor] = []

        def add(rows: Tensor) -> None:
            logits = self.lm.next_token_logits(self.in_context(prompts[rows].to(self.lm.device)))
            parts.append(normalize_log_probs(logits.cpu().double()))

        self._micro_batch.run(add, torch.arange(len(prompts)), parts.clear)
        return torch.cat(parts)

    def _unprompted_log_probs(self) -> Tensor | None:
        """What the LM gives without a prompt: after the fixed texts, else after BOS; None where there is neither."""
        ids = self._before_ids + self._after_ids
        if not ids:
            bos = self.vocabulary.tokenizer.bos_token_id
            if bos is None:
                return None
            ids = [bos]
        logits = self.lm.next_token_logits(self.lm.embed(torch.tensor([ids])))
        return normalize_log_probs(logits.cpu().double())

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
        reached = self.reached_log_probs(prompts.flatten(0, 1)).unflatten(0, prompts.shape[:2])
        columns, log_q = divergence_columns(batch, reached, self.bank, self._unprompted_log_probs())
        best = prompts[torch.arange(len(batch)), torch.tensor(columns["best_restart"])]
        columns["prompt_norm"] = best.norm(dim=-1).mean(-1).tolist()
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
                batch.log_probs[known].double(), log_q[known], [x for x, k in zip(labels, known, strict=True) if k]
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
            For each token that is among a target's ten most likely ones, in the target or as reached: target_id,
            family, kl (nats), token_id, token, target_probability and reached_probability. Targets that were not
            searched are left out.
        """
        columns, log_q = self.evaluate(batch)
        p, q = batch.log_probs.double().exp(), log_q.exp()
        return [
            {
                "target_id": target_id,
                "family": batch.family[i],
                "kl": columns["kl"][i],
                "token_id": token_id,
                "token": self.vocabulary.text(token_id),
                "target_probability": float(p[i, token_id]),
                "reached_probability": float(q[i, token_id]),
            }
            for i, target_id in enumerate(batch.target_id)
            if columns["kl"][i] is not None
            for token_id in top_tokens(p[i], q[i])
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

    # ---- checkpoint ----

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Empty: what a checkpoint holds is written by :meth:`on_save_checkpoint`."""
        return {}

    def search_state(self) -> dict[str, Any]:
        """State of a search that is under way."""
        return {}

    def load_search_state(self, state: dict[str, Any]) -> None:
        """Goes on from :meth:`search_state`."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Stores results, search state and what they belong to; the LM is named and fingerprinted, not stored."""
        checkpoint[_CHECKPOINT_KEY] = {
            "lm": self.lm_path,
            "lm_fingerprint": self.lm.fingerprint,
            "targets": self.targets.fingerprint,
            "settings": self.settings(),
            "bank": self.bank.state_dict(),
            "search": self.search_state(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores results and search state.

        Raises:
            InputError: if they belong to another LM, other targets or, on resume, other settings.
        """
        saved = checkpoint.get(_CHECKPOINT_KEY)
        if saved is None:
            raise InputError("--ckpt_path: this checkpoint was not written by lit_prompt")
        if saved["lm_fingerprint"] != self.lm.fingerprint:
            raise InputError(
                f"the checkpoint belongs to another LM: it was made with {saved['lm']} ({saved['lm_fingerprint']}), "
                f"this is {self.lm_path} ({self.lm.fingerprint}); give the same --lm and --lm_options.dtype"
            )
        if saved["targets"] != self.targets.fingerprint:
            raise InputError(
                f"the checkpoint belongs to other targets ({saved['targets']}, these are {self.targets.fingerprint}); "
                "use the run's own config, or --run with the run's folder"
            )
        for name, value in self.settings().items():
            if saved["settings"].get(name) != value:
                raise InputError(
                    f"the checkpoint was made with {name} = {saved['settings'].get(name)!r}, this run has {value!r}; "
                    "a search goes on with its own settings (--run takes them from the run's folder)"
                )
        self.bank = ResultBank.from_state_dict(saved["bank"])
        if self.trainer.state.fn == "fit":
            self.load_search_state(saved["search"])


def refuse_many_devices(trainer: L.Trainer) -> None:
    """Refuses a trainer with several processes: they would average gradients of prompts that have nothing in common."""
    if trainer.world_size > 1:
        raise InputError("a run uses one device; set trainer.devices to 1 and start one run for each device")
