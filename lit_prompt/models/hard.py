"""Hard prompts: tokens, found by a searcher that a callback drives."""

import time
from typing import Any

import lightning as L
import torch
from torch import Tensor

from lit_prompt.data import TargetBatch
from lit_prompt.errors import InputError
from lit_prompt.functional import seed_for
from lit_prompt.lm import AllowedTokens
from lit_prompt.models.soft_run import SoftRun
from lit_prompt.models.token_prompts import TokenPrompts
from lit_prompt.search import (
    BestSoFar,
    ChunkSearch,
    Part,
    PromptBank,
    ResultBank,
    Searcher,
    SharedSearch,
    TokenProblem,
    TokenStart,
    random_starts,
    text_starts,
)


class HardPrompt(TokenPrompts):
    """Searches, for every target, the tokens whose next-token distribution is closest to it in KL(target || LM).

    The module has no parameters: a callback, :class:`lit_prompt.callbacks.TokenSearch`, drives the searcher, a step a
    batch. A chunk of targets is searched at a time; targets with the same texts around the prompt share their passes
    through the LM.

    Args:
        length: tokens of a prompt.
        steps: most steps for a target.
        searcher: the algorithm, :class:`lit_prompt.search.SharedSearch` by default.
        start: where prompts start.
        tokens: which tokens a prompt may hold.
        readable: only prompts whose text gives their tokens again, between the texts around them, count as found.
        fluency: weight of the prompt's mean negative log-likelihood per token, in nats, that is added to the KL.
        restarts: searches for each target from different seeds; the best is kept, their spread is reported.
        kl_tolerance: a target is done when its KL is at most this many nats.
        patience: a target is done after this many steps without a better KL; null for never.
        max_forward_passes: a target is done when its search has put so many prompts through the LM; null for no limit.
        max_seconds: a target is done when its share of the time is as long; null for no limit. What is found then
            depends on the machine.
        before: fixed text before the prompt; special tokens may be spelled (``<|endoftext|>``). A target's own text
            takes its place.
        after: fixed text between the prompt and the predicted token. A target's own text takes its place.
        seed: base of the searches' seeds.
    """

    def __init__(
        self,
        length: int = 20,
        steps: int = 100,
        searcher: Searcher | None = None,
        start: TokenStart = TokenStart(),
        tokens: AllowedTokens = AllowedTokens(),
        readable: bool = True,
        fluency: float = 0.0,
        restarts: int = 1,
        kl_tolerance: float = 1e-4,
        patience: int | None = None,
        max_forward_passes: int | None = None,
        max_seconds: float | None = None,
        before: str = "",
        after: str = "",
        seed: int = 0,
    ) -> None:
        super().__init__(before, after, seed)
        self.automatic_optimization = False  # there is nothing to optimise
        self.length = length
        self.steps = steps
        self.searcher = searcher or SharedSearch()
        self.start = start
        self.tokens = tokens
        self.readable = readable
        self.fluency = fluency
        self.restarts = restarts
        self.kl_tolerance = kl_tolerance
        self.patience = patience
        self.max_forward_passes = max_forward_passes
        self.max_seconds = max_seconds
        self.took_step = False

    @property
    def method(self) -> str:  # type: ignore[override]
        """Name of the algorithm."""
        return self.searcher.method

    @property
    def prompt_length(self) -> int:
        """Number of tokens of a prompt."""
        return self.length

    def settings(self) -> dict[str, Any]:
        """What defines the search: plain values, shown in TensorBoard and compared on resume."""
        names = ["length", "steps", "readable", "fluency", "restarts", "kl_tolerance", "patience"]
        names += ["max_forward_passes", "max_seconds", "before", "after", "seed"]
        settings = {name: getattr(self, name) for name in names} | {"searcher": self.searcher.method}
        for group, values in (
            ("searcher", self.searcher.settings()),
            ("start", vars(self.start)),
            ("tokens", vars(self.tokens)),
        ):
            settings |= {f"{group}.{name}": v if _is_plain(v) else str(v) for name, v in values.items()}
        return settings

    # ---- set-up ----

    def setup(self, stage: str) -> None:
        """Checks the settings before anything is loaded."""
        super().setup(stage)
        self.check_search(stage, "length", "steps", "restarts", "patience", "max_forward_passes")
        if self.max_seconds is not None and not self.max_seconds > 0:
            raise InputError(f"model.max_seconds is {self.max_seconds}; it must be positive, or null for no limit")
        if not 0 <= self.fluency < float("inf"):
            raise InputError(f"model.fluency is {self.fluency}; it must be 0 or more")

    def configure_model(self) -> None:
        """Loads the LM and makes room for all results."""
        if "lm" in self._modules:
            return
        super().configure_model()
        self.bank = ResultBank(len(self.targets), self.restarts, (self.length,), torch.long)
        self.allowed = torch.tensor(self.tokens.ids(self.vocabulary))
        self.soft_run = None
        if self.start.kind == "soft":
            self.soft_run = SoftRun(self.start.soft_run, self.length, self.lm, self.targets.target_id)

    def configure_callbacks(self) -> list[L.Callback]:
        """What drives the search, and shows its prompts."""
        from lit_prompt.callbacks.prompt_table import PromptTable
        from lit_prompt.callbacks.token_search import TokenSearch

        return [TokenSearch(), PromptTable()]

    def configure_optimizers(self) -> None:
        """None: there is nothing to optimise."""

    def on_fit_start(self) -> None:
        """An epoch is a chunk: as many epochs as there are chunks."""
        self.limit_epochs_to_chunks()

    # ---- search ----

    def chunk_search(self, batch: TargetBatch, restored: dict[str, Any] | None) -> ChunkSearch:
        """The search of a chunk: a new one, or one that goes on.

        Args:
            batch: the chunk's targets.
            restored: state of the search that is gone on with.
        """
        self.check_chunk(batch)
        started = time.perf_counter()
        slots = torch.zeros(len(batch) * self.restarts, self.length, dtype=torch.long, device=self.lm.device)
        best = BestSoFar(slots, self.kl_tolerance, self.patience, self.max_forward_passes, self.max_seconds)
        parts = self._parts(batch)
        search = ChunkSearch(self.searcher, parts, best)
        if restored is None:
            starts = [self._starts(part.problem) for part in parts]
            search.begin(starts, time.perf_counter() - started)
        else:
            best.load_state_dict(self._restored_best)
            search.load_state_dict(restored)
        self.best, self._index, self._chunk = best, batch.index, self.current_epoch
        return search

    def _parts(self, batch: TargetBatch) -> list[Part]:
        """One problem for each context and restart."""
        contexts = self.contexts.of_batch(batch)
        parts = []
        for context in dict.fromkeys(contexts):
            rows = torch.tensor([i for i, own in enumerate(contexts) if own == context])
            for restart in range(self.restarts):
                problem = TokenProblem(
                    self.lm,
                    context.before_ids,
                    context.after_ids,
                    [batch.target_id[i] for i in rows.tolist()],
                    batch.log_probs[rows],
                    batch.entropy[rows],
                    self.length,
                    self.allowed,
                    self._micro_batch,
                    seed_for(self.seed, restart),
                    self.fluency,
                    self.round_trip(context) if self.readable else None,
                )
                parts.append(Part(problem, (rows * self.restarts + restart).to(self.lm.device)))
        return parts

    def _starts(self, problem: TokenProblem) -> tuple[Tensor, Tensor]:
        if self.start.kind == "bank":
            return PromptBank(self.start, self.vocabulary, self.searcher.shares).starts(problem)
        if self.start.kind == "text":
            return text_starts(problem, self.vocabulary.encode(self.start.text))
        if self.soft_run is not None:
            return self.soft_run.starts(problem)
        return random_starts(problem)

    def on_train_batch_start(self, batch: TargetBatch, batch_idx: int) -> int | None:
        """Ends a chunk (-1) when no search in it goes on."""
        return None if self.took_step else -1

    def training_step(self, batch: TargetBatch, batch_idx: int) -> None:
        """Counts the step that the callback has made."""
        self.optimizers().step()  # type: ignore[union-attr]
        self.log("kl", self.progress()[1].median(), prog_bar=True, logger=False)

    def on_train_end(self) -> None:
        """Refuses to end a fit that found nothing."""
        self.check_found_any("try --lm_options.dtype float32, or --model.readable false if no prompt survives as text")

    # ---- state ----

    def search_state(self) -> dict[str, Any]:
        """The bests of the chunk under way; what its search carries on is the callback's."""
        if self._chunk is None:
            return {}
        self._store()
        return {
            "chunk_size": self.data.chunk_size,
            "index": self._index,
            "micro_batch": self._micro_batch.size,
            "best": self.best.state_dict(),
        }

    def load_search_state(self, state: dict[str, Any]) -> None:
        """Goes on with the chunk of :meth:`search_state`."""
        if not state:
            return
        self.check_chunk_size(state["chunk_size"])
        self._index = state["index"]
        self._micro_batch.size = state["micro_batch"]
        self._restored_best = state["best"]


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, (int, float, str, bool))
