"""Text as batches of token windows."""

import os
from itertools import islice
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lit_prompt.data.run_folder import run_folder
from lit_prompt.data.texts import TextSource
from lit_prompt.errors import InputError
from lit_prompt.files import replaced_whole
from lit_prompt.functional import seed_for
from lit_prompt.lm import LMOptions, load_tokenizer
from lit_prompt.pretrain.tokenizer import TokenizerTraining, train_tokenizer
from lit_prompt.under_way import temporary_folder

_TEXTS_PER_BLOCK = 1000


class TextDataModule(L.LightningDataModule):
    """Text as one long stream of tokens, of which a step sees random windows and an evaluation the end.

    A text is followed by the end-of-text token. The stream lies on disk. The windows of a step follow from the seed
    and the step's number alone, so that a resumed training sees what it would have seen.

    Args:
        texts: where the text comes from.
        tokenizer: an LM's folder or hub id, whose tokenizer is taken, or a tokenizer to be trained on the text.
        context: tokens that a window predicts.
        batch_size: windows in a batch.
        held_out: share of the stream, at its end, that is kept for evaluation.
        seed: base of the seeds of the windows.
    """

    stream: np.ndarray

    def __init__(
        self,
        texts: TextSource,
        tokenizer: str | TokenizerTraining = TokenizerTraining(),
        context: int = 128,
        batch_size: int = 16,
        held_out: float = 0.005,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not 0.0 < held_out < 1.0:
            raise InputError(f"data.held_out is {held_out:g}; it must lie between 0 and 1")
        for name, value in (("context", context), ("batch_size", batch_size)):
            if value < 1:
                raise InputError(f"data.{name} is {value}; it must be at least 1")
        self.texts = texts
        self.tokenizer_source = tokenizer
        self.context = context
        self.batch_size = batch_size
        self.held_out = held_out
        self.seed = seed
        self._done = 0

    def setup(self, stage: str) -> None:
        """Trains or loads the tokenizer and writes the stream of tokens; a resumed run finds both in its folder."""
        if hasattr(self, "stream"):
            return
        folder = run_folder(self.trainer) if self.trainer is not None else None
        if folder is None:
            folder = temporary_folder(self)
        tokens, saved = folder / "tokens.bin", folder / "tokenizer"
        if tokens.exists():
            from transformers import AutoTokenizer

            self.tokenizer = AutoTokenizer.from_pretrained(saved)
        else:
            self.tokenizer = self._tokenizer()
            self.tokenizer.save_pretrained(saved)
            self._write_stream(tokens)
        self.stream = np.memmap(tokens, dtype=self._dtype(), mode="r")
        self._split = len(self.stream) - max(int(self.held_out * len(self.stream)), self.context + 1)
        if self._split <= self.context:
            raise InputError(
                f"{self.texts.path}: {len(self.stream)} tokens are too few for windows of data.context {self.context}"
            )

    def _tokenizer(self) -> Any:
        if isinstance(self.tokenizer_source, TokenizerTraining):
            return train_tokenizer(self.texts.texts(), self.tokenizer_source)
        tokenizer = load_tokenizer(os.path.expanduser(self.tokenizer_source), LMOptions())
        if tokenizer.eos_token_id is None:
            raise InputError(f"data.tokenizer: {self.tokenizer_source} has no end-of-text token")
        return tokenizer

    def _dtype(self) -> Any:
        return np.uint16 if len(self.tokenizer) <= 2**16 else np.uint32

    def _write_stream(self, path: Path) -> None:
        dtype = self._dtype()
        end = self.tokenizer.eos_token_id
        texts = self.texts.texts()
        with replaced_whole(path) as staging, staging.open("wb") as sink:
            while block := list(islice(texts, _TEXTS_PER_BLOCK)):
                encoded = self.tokenizer(block, add_special_tokens=False, return_attention_mask=False)["input_ids"]
                np.array([token for ids in encoded for token in (*ids, end)], dtype=dtype).tofile(sink)

    def window_batch(self, step: int) -> Tensor:
        """The windows of a step, ``[batch_size, context + 1]``, int64."""
        rank = self.trainer.global_rank if self.trainer is not None else 0
        generator = np.random.default_rng(seed_for(self.seed, rank, step))
        return self._windows(generator.integers(0, self._split - self.context, self.batch_size))

    def _windows(self, starts: Any) -> Tensor:
        windows = np.lib.stride_tricks.sliding_window_view(self.stream, self.context + 1)
        return torch.from_numpy(windows[starts].astype(np.int64))

    def train_dataloader(self) -> DataLoader[Tensor]:
        """A batch of random windows per step."""
        assert self.trainer is not None
        if self.trainer.max_steps < 1:
            raise InputError("trainer.max_steps is not set: give the number of training steps")
        # as long as the whole training, a resumed one too: Lightning compares the length with the batch's number
        total = self.trainer.max_steps * self.trainer.accumulate_grad_batches
        steps: Any = range(self._done, self._done + total)
        compute: Any = self.window_batch
        return DataLoader(steps, batch_size=None, collate_fn=compute)

    def val_dataloader(self) -> DataLoader[Tensor]:
        """The held-out end of the stream, every token predicted once."""
        starts = range(self._split, len(self.stream) - self.context, self.context)
        batches: Any = [starts[i : i + self.batch_size] for i in range(0, len(starts), self.batch_size)]
        return DataLoader(batches, batch_size=None, collate_fn=self._windows)

    def held_out_bytes_per_token(self) -> float:
        """Bytes of text that a held-out token stands for."""
        ids = np.asarray(self.stream[self._split :]).tolist()
        return len(self.tokenizer.decode(ids, skip_special_tokens=True).encode()) / len(ids)

    def state_dict(self) -> dict[str, Any]:
        """How many batches the training has taken."""
        assert self.trainer is not None
        return {"batches": self.trainer.fit_loop.epoch_loop.batch_progress.current.ready}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resumes after the batches of :meth:`state_dict`."""
        self._done = state_dict["batches"]
