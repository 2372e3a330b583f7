"""Prompts as texts, found by their scores alone: on LMs at hand, and on those that are only served."""

from collections.abc import Callable, Sequence
from typing import Any

import lightning as L
import torch
from torch import Tensor

from lit_prompt.data import TargetBatch
from lit_prompt.errors import InputError
from lit_prompt.models.at_hand import AtHandScorer, TextEvaluator
from lit_prompt.models.chunk import chunk_slots
from lit_prompt.models.driven import DrivenPrompt
from lit_prompt.models.evaluation import Evaluation
from lit_prompt.models.served_evaluator import ServedEvaluator
from lit_prompt.objectives import ForwardKL
from lit_prompt.progress import phase
from lit_prompt.results.console import say
from lit_prompt.scoring.text_scorer import TextScorer
from lit_prompt.search import BestSoFar, StopReason
from lit_prompt.search.text_chunk_search import TextChunkSearch
from lit_prompt.search.text_ids import ids_text
from lit_prompt.search.text_problem import TextProblem
from lit_prompt.search.text_search import TextSearch
from lit_prompt.served.contexts import ServedContexts
from lit_prompt.served.lm import ServedLM
from lit_prompt.served.text_scorer import ServedTextScorer, TextQuestions


class TextPrompt(DrivenPrompt):
    """Searches, for every target, the text after which the LM's next token is closest to it in KL(target || LM).

    It needs no weights, gradients or token ids, so that it works for LMs that are only served. A prompt is a text of
    any number of tokens, and is kept as the bytes of UTF-8.

    Args:
        length: bytes of a prompt at most.
        steps: most steps for a target.
        searcher: the algorithm.
        restarts: searches for each target from different seeds; the text that does best in them is kept.
        kl_tolerance: a target is done when its KL is at most this many nats.
        patience: a target is done after this many steps without a better KL; null for never.
        max_forward_passes: a target is done when the LM was asked so often for texts made for it; null for no limit.
        max_seconds: a target is done when its share of the time is as long; null for no limit. What is found then
            depends on the machine.
        before: fixed text before the prompt. A target's own text takes its place.
        after: fixed text between the prompt and the predicted token. A target's own text takes its place.
        seed: base of the searches' seeds.
    """

    takes_served = True

    def __init__(
        self,
        length: int = 80,
        steps: int = 500,
        searcher: TextSearch | None = None,
        restarts: int = 1,
        kl_tolerance: float = 1e-4,
        patience: int | None = None,
        max_forward_passes: int | None = None,
        max_seconds: float | None = None,
        before: str = "",
        after: str = "",
        seed: int = 0,
    ) -> None:
        super().__init__(before, after, seed, ForwardKL(), temperature=1.0)
        self.length = length
        self.steps = steps
        self.searcher = searcher or TextSearch()
        self.restarts = restarts
        self.kl_tolerance = kl_tolerance
        self.patience = patience
        self.max_forward_passes = max_forward_passes
        self.max_seconds = max_seconds
        self._words: Any = None
        self._scorer: TextScorer | None = None

    def settings(self) -> dict[str, Any]:
        """What defines the search: plain values, shown in TensorBoard and compared on resume."""
        names = ["length", "steps", "restarts", "kl_tolerance", "patience", "max_forward_passes", "max_seconds"]
        names += ["before", "after", "seed"]
        settings = {name: getattr(self, name) for name in names} | self.objective.settings
        own = self.searcher.settings().items()
        plain = {name: v if v is None or isinstance(v, int | float | str) else str(v) for name, v in own}
        return settings | {"searcher": self.method} | {f"searcher.{name}": value for name, value in plain.items()}

    # ---- set-up ----

    def check(self, trainer: L.Trainer, stage: str) -> None:
        """As of :meth:`PromptModule.check`."""
        super().check(trainer, stage)
        if self.max_seconds is not None and not self.max_seconds > 0:
            raise InputError(f"model.max_seconds is {self.max_seconds}; it must be positive, or null for no limit")

    def prepare(self) -> None:
        """Names where words come from; they are read when they are first asked for."""
        self._words = self.searcher.words(self.length)

    def read_contexts(self) -> None:
        """As of :meth:`PromptModule.read_contexts`."""
        if not isinstance(self.lm, ServedLM):
            return super().read_contexts()
        self._refuse_what_needs_weights()
        contexts = ServedContexts(self.before, self.after, self.lm.server)
        contexts.of_all(self.data.targets)
        self.contexts, self._questions = contexts, TextQuestions(self.lm, contexts)
        return None

    def _refuse_what_needs_weights(self) -> None:
        options = self.evaluation_options
        for name, asked in (("sampling", not options.sampling.is_plain), ("draws", options.draws > 0),
                            ("asking", options.asking is not None)):  # fmt: skip
            if asked:
                raise InputError(f"--{name} needs an LM at hand, and {self.lm_path} is only served; leave it away")

    def new_evaluator(self) -> Evaluation[Any]:
        """As of :meth:`PromptModule.new_evaluator`."""
        served = isinstance(self.lm, ServedLM)
        return ServedEvaluator(self, self._questions) if served else TextEvaluator(self)

    # ---- search ----

    def new_search(self, batch: TargetBatch) -> tuple[TextChunkSearch, Callable[[], tuple[Tensor, Tensor]]]:
        """The search of a chunk, not yet begun, and what finds its starts."""
        problem = self.problem(batch)
        nothing = torch.zeros(len(problem), self.length, dtype=torch.long)
        best = BestSoFar(nothing, self.kl_tolerance, self.patience, self.max_forward_passes, self.max_seconds)
        return TextChunkSearch(self.searcher, problem, best), lambda: self._starts(problem)

    def problem(self, batch: TargetBatch) -> TextProblem:
        """What the searcher may ask for a chunk of targets."""
        slots = chunk_slots(self, batch)
        if isinstance(self.lm, ServedLM):
            answers = [one for one in batch.answers if one is not None]
            self._scorer = ServedTextScorer(slots, self.lm, self._questions, answers, batch.target_id)
        else:
            self._scorer = AtHandScorer(slots, self, batch)
        names = [[name for i in items for name in self._names(batch, i)] for items in batch.tasks.values()]
        return TextProblem(self._scorer, names, self._words, self.length, self.searcher.ascii_only, self.seed)

    def _starts(self, problem: TextProblem) -> tuple[Tensor, Tensor]:
        with phase("natural beginnings"):
            return self.searcher.starts(problem)

    def _names(self, batch: TargetBatch, item: int) -> list[str]:
        """The answers of a target, or the texts of its likeliest tokens."""
        if (answers := batch.answers[item]) is not None:
            return answers.texts
        log_p = batch.log_probs[item]
        likeliest = log_p.topk(min(20, len(log_p)))
        known = self.data.vocabulary.whole_texts
        pairs = zip(likeliest.indices.tolist(), likeliest.values.tolist(), strict=True)
        return [known[i] for i, value in pairs if i in known and value > float("-inf")]

    def training_step(self, batch: TargetBatch, batch_idx: int) -> None:
        """As of :meth:`DrivenPrompt.training_step`; a budget that is used up ends all searches."""
        super().training_step(batch, batch_idx)
        if self._scorer is not None and self._scorer.spent:
            current = self.under_search()
            assert current is not None
            current[1].end(current[1].running, StopReason.BUDGET)

    @property
    def nothing_found(self) -> str:
        """As of :attr:`PromptModule.nothing_found`; it may be that a budget was used up at once."""
        if self._scorer is not None and self._scorer.spent:
            return f"a budget of {self.lm_path} does not suffice for the first texts of a search; raise it"
        return super().nothing_found

    def on_train_end(self) -> None:
        """Says that a budget is used up."""
        if self._scorer is not None and self._scorer.spent:
            say("", f"A budget of {self.lm_path} is used up; what was found until then counts.")

    def prompt_texts(self, tasks: Sequence[int], prompts: Sequence[Sequence[int]]) -> list[str]:
        """As of :meth:`DrivenPrompt.prompt_texts`."""
        return [ids_text(prompt) for prompt in prompts]

    def teardown(self, stage: str) -> None:
        """As of :meth:`PromptModule.teardown`."""
        super().teardown(stage)
        if isinstance(self._modules.get("lm"), ServedLM):
            self.lm.close()
