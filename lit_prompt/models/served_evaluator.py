"""The evaluation of texts on an LM that is only served: what its answers say for certain, and what they bound."""

import math
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lit_prompt.data import TargetBatch
from lit_prompt.data.answers import Answers
from lit_prompt.functional import kl_divergence
from lit_prompt.models.outcomes import target_outcomes
from lit_prompt.models.record_columns import reached_columns, target_columns
from lit_prompt.models.text_evaluation import TextEvaluation
from lit_prompt.records.results import Columns
from lit_prompt.scoring import Context
from lit_prompt.search import SearchResults
from lit_prompt.served.kept_server import KeptServer
from lit_prompt.served.lm import ServedLM
from lit_prompt.served.questions import Question, ServedKL, served_kl, told_log_probs
from lit_prompt.served.text_scorer import TextQuestions

if TYPE_CHECKING:
    from lit_prompt.models.text import TextPrompt


class ServedEvaluator(TextEvaluation):
    """Asks the server for what was found.

    A test and a validation ask it once more for every prompt, and tell by how much its answers have changed. A KL is
    told where the probabilities of all of a target's answers are; else a bound below alone.

    Args:
        module: has found the texts.
        questions: what targets ask.
    """

    def __init__(self, module: "TextPrompt", questions: TextQuestions) -> None:
        super().__init__(module)
        self._questions = questions

    @cached_property
    def _served(self) -> ServedLM:
        lm = self._module.lm
        assert isinstance(lm, ServedLM)
        return lm

    def columns(self, batch: TargetBatch, prompts: SearchResults, compared: bool = True) -> tuple[Columns, Tensor]:
        """As of :meth:`Evaluation.columns`; the KLs of those that have bounds alone are null."""
        module, count = self._module, len(batch)
        contexts = module.contexts.of_all(batch)
        texts = self._texts(batch, prompts)
        own = [texts.get(task_id) for task_id in batch.task_id]
        server = self._served.asked_again if compared else self._served.server
        log_q = torch.full(target_outcomes(batch).shape, math.nan, dtype=torch.float64)
        unprompted = log_q.clone()
        bounds: list[float | None] = [None] * count
        changes: list[float | None] = [None] * count
        for i, (context, answers, text) in enumerate(zip(contexts, batch.answers, own, strict=True)):
            assert answers is not None
            if text is not None:
                question = self._questions.question(context, text, answers, batch.target_id[i], split=True)
                found = served_kl(server, question)
                if found.exact:
                    _fill(log_q[i], found)
                else:
                    bounds[i] = found.kl
                if server is not self._served.server:  # it was asked once more
                    changes[i] = self._change(question, server)
            bare = self._unprompted(context, answers, batch.target_id[i])
            if bare is not None and bare.exact:
                _fill(unprompted[i], bare)
        known = ~log_q[:, 0].isnan()
        kl = kl_divergence(target_outcomes(batch), log_q)
        columns = target_columns(batch) | reached_columns(batch, log_q, kl, unprompted, known)
        columns |= {
            "kl_uniform": [_kl_uniform(answers) for answers in batch.answers if answers is not None],
            "kl_at_least": bounds,
            "answer_change": changes,
            "objective_value": columns["kl"],
            "prompt_text": own,
            "kl_text": columns["kl"],
            "whole_text": [
                None if text is None else module.contexts.whole(context, text)
                for context, text in zip(contexts, own, strict=True)
            ],
            "context_before": [context.before for context in contexts],
            "context_after": [context.after for context in contexts],
        }
        return columns | self._search_columns(batch, prompts) | self.constant_columns(count), log_q

    def _unprompted(self, context: Context, answers: Answers, where: str) -> ServedKL | None:
        """What the LM gives without a prompt; None where there is no text then."""
        if self._module.contexts.whole(context, "") == "":
            return None
        return served_kl(self._served.server, self._questions.question(context, "", answers, where))

    def _change(self, question: Question, server: KeptServer) -> float | None:
        """The largest difference between answers as they were kept in the search and as they are told now, nats."""
        assert question.tree is not None
        largest = None
        for node, prefix in enumerate(question.tree.prefixes):
            prompt, tokens = question.after(prefix), question.tree.token[question.tree.node == node].tolist()
            if (then := self._served.server.known(prompt)) is not None:
                pairs = zip(told_log_probs(question, then[0], tokens),
                            told_log_probs(question, server.after(prompt), tokens), strict=True)  # fmt: skip
                far = [abs(a - b) for a, b in pairs if a is not None and b is not None]
                largest = max([*far, largest or 0.0]) if far else largest
        return largest

    def means(self, stage: str) -> dict[str, Tensor]:
        """As of :meth:`Evaluation.means`; none where no KL is known."""
        known = any(value is not None for part in self._module.evaluated for value in part["kl"])
        return super().means(stage) if known else {}


def _fill(row: Tensor, found: ServedKL) -> None:
    """Writes the log-probabilities of answers, and of everything else, into a row of outcomes ``[outcome]``."""
    row.fill_(-math.inf)
    row[: len(found.log_q)] = found.log_q
    row[len(found.log_q)] = (1.0 - found.log_q.exp().sum()).clamp_min(0.0).log()


def _kl_uniform(answers: Answers) -> float:
    """KL(target || uniform over the answers that it names), nats: how many tokens there are is not known."""
    sizes = [answers.cells.count(cell) for cell in range(len(answers.names))]
    every = len(answers.texts)
    return math.fsum(p * math.log(p * every / size) for p, size in zip(answers.probs, sizes, strict=True) if p > 0.0)
