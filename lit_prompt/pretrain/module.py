"""Ordinary training of a causal LM."""

import math
import os
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn import functional as F

from lit_prompt.data.run_folder import run_folder
from lit_prompt.errors import InputError
from lit_prompt.files import as_opened
from lit_prompt.interruption import held
from lit_prompt.pretrain.datamodule import TextDataModule


class CausalLMTraining(L.LightningModule):
    """Trains a causal LM of any ``transformers`` architecture from random weights.

    The learning rate rises linearly for ``warmup_steps`` and falls along a cosine to ``final_lr`` times its peak.

    Args:
        architecture: model type, such as ``llama``, ``gpt2`` or ``gpt_neox``.
        options: its configuration, such as ``{hidden_size: 192}``; vocabulary and special tokens are the tokenizer's.
        optimizer: any torch optimizer; weight decay spares vectors (norms and biases).
        warmup_steps: steps to the peak learning rate.
        final_lr: last learning rate, as a share of the peak.
        out: folder of the finished LM; by default ``lm`` in the run's folder.
        save_dtype: precision of the stored weights.
        seed: seed of the initial weights.
    """

    command = "pretrain"

    def __init__(
        self,
        architecture: str,
        options: dict[str, Any],
        optimizer: OptimizerCallable = lambda p: torch.optim.AdamW(p, lr=3e-3, betas=(0.9, 0.98), weight_decay=0.1),
        warmup_steps: int = 100,
        final_lr: float = 0.05,
        out: Path | None = None,
        save_dtype: Literal["float32", "bfloat16", "float16"] = "float32",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.options = options
        self.optimizer = optimizer
        self.warmup_steps = warmup_steps
        self.final_lr = final_lr
        self.out = None if out is None else Path(os.path.expanduser(out))
        self.save_dtype = save_dtype
        self.seed = seed

    @property
    def data(self) -> TextDataModule:
        """The data module of the running trainer."""
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, TextDataModule):
            raise InputError("the trainer needs a TextDataModule: trainer.fit(model, datamodule=...)")
        return data

    @property
    def folder(self) -> Path | None:
        """Where the finished LM goes; None for a run that keeps nothing."""
        run = run_folder(self.trainer)
        return self.out or (None if run is None else run / "lm")

    def setup(self, stage: str) -> None:
        """Refuses a folder that holds an LM already."""
        if self.folder is not None and (self.folder / "config.json").exists():
            raise InputError(f"model.out: {self.folder} holds an LM already; name another folder")

    def configure_model(self) -> None:
        """Makes the LM, with random weights."""
        if hasattr(self, "lm"):
            return
        from transformers import AutoConfig, AutoModelForCausalLM

        tokenizer = self.data.tokenizer
        special = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": None}
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            try:
                config = AutoConfig.for_model(
                    self.architecture, **{"vocab_size": len(tokenizer), **special, **self.options}
                )
                self.lm = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
            except Exception as error:  # transformers checks an architecture's options in many ways
                reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
                raise InputError(f"model.architecture, model.options: {reason[:300]}") from error
        positions = getattr(config, "max_position_embeddings", None)
        if positions is not None and positions < self.data.context:
            raise InputError(f"data.context is {self.data.context}, but the LM has {positions} positions")

    def _nats(self, windows: Tensor) -> Tensor:
        """Mean negative log-likelihood of all tokens but the first of each window, ``[window, context + 1]``."""
        logits = self.lm(input_ids=windows[:, :-1], use_cache=False).logits
        return F.cross_entropy(logits.flatten(0, 1).float(), windows[:, 1:].flatten())

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        """Mean loss of a batch of windows, in nats per token."""
        loss = self._nats(batch)
        if not torch.isfinite(loss):
            raise InputError(f"the loss is {loss.item()} at step {self.global_step}; lower model.optimizer's lr")
        self.log("train/nats_per_token", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        """Mean loss of held-out windows."""
        self.log("val/nats_per_token", self._nats(batch), prog_bar=True, batch_size=len(batch), sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        """Logs the held-out loss in bits per byte, too, which compares across tokenizers."""
        nats = self.trainer.callback_metrics.get("val/nats_per_token")
        if nats is not None:
            self.log("val/bits_per_byte", nats / math.log(2) / self.data.held_out_bytes_per_token())

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer, and the learning rate's warm-up and cosine."""
        parameters = list(self.lm.parameters())
        groups = [
            {"params": [p for p in parameters if p.dim() > 1]},
            {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
        ]
        optimizer = self.optimizer(groups)
        total = self.trainer.max_steps

        def share(step: int) -> float:
            if step < self.warmup_steps:
                return (step + 1) / self.warmup_steps
            done = (step - self.warmup_steps) / max(total - self.warmup_steps, 1)
            return self.final_lr + (1 - self.final_lr) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_fit_end(self) -> None:
        """Saves LM and tokenizer as a folder that ``--lm`` takes; a resume does so where it has not been done."""
        if self.folder is None or not self.trainer.is_global_zero or self.global_step < self.trainer.max_steps:
            return
        from transformers.utils import logging as transformers_logging

        transformers_logging.disable_progress_bar()
        with held():  # a folder that holds a part would pass for an LM
            self.lm.to(getattr(torch, self.save_dtype)).save_pretrained(self.folder)
            for weights in Path(self.folder).glob("*.safetensors"):
                as_opened(weights)
            self.data.tokenizer.save_pretrained(self.folder)
