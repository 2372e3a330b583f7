"""What soft and hard prompts have in common: the frozen LM, the contexts, the checkpoint's identity."""

from abc import abstractmethod
from pathlib import Path
from typing import Any

from torch import Tensor

from lit_prompt.data import TargetBatch, TargetDataModule, TargetSet, run_folder
from lit_prompt.errors import InputError
from lit_prompt.lm import FrozenLM, LMOptions, Vocabulary, load_causal_lm
from lit_prompt.models.baselines import Baselines
from lit_prompt.models.context import Contexts
from lit_prompt.models.evaluation import PromptEvaluation
from lit_prompt.models.floors import FOLDER, Floors
from lit_prompt.models.trainer_checks import refuse_cut_chunks, refuse_low_precision, refuse_many_devices
from lit_prompt.search import BestSoFar, ResultBank

_CHECKPOINT_KEY = "lit_prompt"


class PromptModule(PromptEvaluation):
    """A frozen LM and the prompts that are searched for a data module's targets.

    Args:
        before: fixed text before the prompt, of targets that have none of their own; special tokens may be spelled
            (``<|endoftext|>``).
        after: fixed text between the prompt and the predicted token, of targets that have none of their own.
        seed: base of the searches' seeds.
    """

    lm_options: LMOptions
    restarts: int
    steps: int
    #: The chunk under search: positions of its targets, and the bests of its slots, restarts side by side.
    _index: list[int]
    _chunk: int | None = None  # its number; None before the first
    best: BestSoFar

    def __init__(self, before: str, after: str, seed: int) -> None:
        super().__init__()
        self.before = before
        self.after = after
        self.seed = seed
        self.strict_loading = False  # a checkpoint holds no weight: see on_save_checkpoint

    # ---- to be given by soft and hard prompts ----

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
        refuse_low_precision(self.trainer)

    def configure_model(self) -> None:
        """Loads the data module's LM, once."""
        if "lm" in self._modules:
            return
        self.lm_path, self.lm_options = self.data.lm, self.data.lm_options
        self.lm = FrozenLM(load_causal_lm(self.lm_path, self.lm_options))
        if self.lm.vocab_size != self.targets.vocab_size:
            raise InputError(
                f"{self.lm_path} has {self.lm.vocab_size} logits, the targets are over {self.targets.vocab_size} tokens"
            )
        self.contexts = Contexts(self.before, self.after, self.lm, self.vocabulary)
        self.contexts.check_lengths(self.targets, self.prompt_length, self.lm_path)
        self.baselines = Baselines(self.lm, self.vocabulary, self.contexts, self.prompt_length, self._micro_batch)
        self.floors = Floors(self.lm, self._floors_folder())

    def _floors_folder(self) -> Path | None:
        """Where all runs beside this one keep their floors; None for a run that keeps nothing."""
        logger = self.trainer.logger
        if run_folder(self.trainer) is None or logger is None or logger.save_dir is None:
            return None
        return Path(logger.save_dir) / FOLDER

    def check_search(self, stage: str, *counts: str) -> None:
        """Refuses settings that no search can have.

        Args:
            stage: of the trainer.
            counts: names of settings that must be at least 1, or None.
        """
        for name in counts:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"model.{name} is {value}; it must be at least 1")
        if stage == "fit":
            if self._chunk is not None:
                raise InputError("this module has searched before; make a new one for another fit")
            refuse_cut_chunks(self.trainer)

    def limit_epochs_to_chunks(self) -> None:
        """An epoch is a chunk: as many epochs as there are chunks."""
        wanted, limit = self.data.sampler.num_chunks, self.trainer.max_epochs
        self.trainer.fit_loop.max_epochs = wanted if limit is None or limit < 0 else min(limit, wanted)

    def check_chunk(self, batch: TargetBatch) -> None:
        """Refuses targets that are not those of the epoch's chunk."""
        if batch.index != self.data.sampler.chunk(self.current_epoch):
            raise RuntimeError(f"epoch {self.current_epoch} was given targets {batch.index}, which are not its chunk")

    def check_chunk_size(self, saved: int) -> None:
        """Refuses to go on with chunks of another size."""
        if saved != self.data.chunk_size:
            raise InputError(
                f"the checkpoint was made with data.chunk_size {saved}, this run has {self.data.chunk_size}"
            )

    def check_found_any(self, remedy: str) -> None:
        """Refuses to end a fit that has found nothing.

        Args:
            remedy: what the user may try.
        """
        if not bool(self.bank.searched.any()):
            raise InputError(f"no search gave a finite KL: the LM returns NaN or inf; {remedy}")

    # ---- search ----

    def progress(self) -> tuple[list[int], Tensor]:
        """Positions of the chunk's targets and the best KL so far of each in nats, ``[target]``, on CPU."""
        return self._index, self.best.kl.cpu().unflatten(0, (len(self._index), self.restarts)).amin(1)

    def on_train_epoch_end(self) -> None:
        """Stores the chunk's results."""
        self.best.finish()
        self._store()

    def _store(self) -> None:
        self.bank.put(self._index, self.best)

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
