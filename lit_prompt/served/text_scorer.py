"""Texts scored by what a server says."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lit_prompt.data.answers import Answers
from lit_prompt.functional import missed_mass
from lit_prompt.functional.answer_tree import AnswerTree
from lit_prompt.scoring import Context, Member, Slots
from lit_prompt.scoring.text_scorer import Divergences, TextScorer
from lit_prompt.served.contexts import ServedContexts
from lit_prompt.served.listed import Listed
from lit_prompt.served.lm import ServedLM
from lit_prompt.served.questions import Question, SplitAnswers, answer_tokens, named_question, told_log_probs
from lit_prompt.served.servers import Prompt

# how far below the last listed token one that is not listed is ranked, nats
_BELOW = 1.0


class TextQuestions:
    """What targets over named answers ask a server after texts of prompts.

    Args:
        lm: the LM.
        contexts: what stands around the prompts.
    """

    def __init__(self, lm: ServedLM, contexts: ServedContexts) -> None:
        self._lm, self._contexts = lm, contexts
        self._split: dict[tuple[str, tuple[str, ...]], SplitAnswers | None] = {}

    def question(self, context: Context, text: str, answers: Answers, where: str, split: bool = False) -> Question:
        """What a target asks after a text.

        Args:
            context: what stands around the text.
            text: the prompt.
            answers: the target's.
            where: named in errors.
            split: whether the tokens of the text are needed, as they are where the server scores given tokens.

        Raises:
            InputError: if an answer begins another one.
        """
        names = [name + (answers.end if isinstance(answers.end, str) else "") for name in answers.texts]
        prompt = self._contexts.asked(context, text)
        if not isinstance(prompt, str):
            return named_question(prompt, names, answers.cells, answers.probs)
        # what a tokenizer makes of an answer follows from what stands before it: the same text, or a new word begins
        alike = context.chat is not None or context.after != "" or all(name[:1].isspace() for name in names)
        around = self._contexts.whole(context, "") if alike else prompt
        key = around, tuple(names)
        if key not in self._split:
            self._split[key] = answer_tokens(self._lm.server, around, names, where)
        known = self._split[key]
        if known is not None and around != prompt:
            needed = split or any(len(ids) > 1 for ids in known.answers)
            start = self._lm.server.tokens(prompt, start=True) if needed else None
            known = SplitAnswers(start or [], known.answers)
        return named_question(prompt, names, answers.cells, answers.probs, known)


class ServedTextScorer(TextScorer):
    """Scores texts by the next tokens that a server lists.

    A token that is not listed is ranked as one nat below the last that is: enough to find texts after which all are.

    Args:
        slots: what is searched.
        lm: the LM.
        questions: what targets ask.
        answers: of the targets, by their rows.
        names: of the targets, by their rows.
    """

    def __init__(
        self, slots: Slots, lm: ServedLM, questions: TextQuestions, answers: Sequence[Answers], names: Sequence[str]
    ) -> None:
        super().__init__(slots)
        self._lm, self._questions, self._answers, self._names = lm, questions, answers, names

    def divergences(self, texts: Sequence[str], members: Sequence[Member]) -> Divergences:
        """As of :meth:`TextScorer.divergences`; many texts are asked for at a time."""
        asked = [[self._question(text, member) for member in members] for text in texts]
        places: dict[str, int] = {}
        prompts: list[Prompt] = []
        passes = []
        for row in asked:
            before = len(places)
            for question in row:
                assert question.tree is not None
                for prefix in question.tree.prefixes:
                    prompt = question.after(prefix)
                    if str(prompt) not in places:
                        places[str(prompt)] = len(prompts)
                        prompts.append(prompt)
            passes.append(len(places) - before)
        listed = self._lm.listed(prompts)
        self.spent = self._lm.spent
        kl, missed = torch.full((2, len(texts), len(members)), math.inf, dtype=torch.float64)
        for i, row in enumerate(asked):
            for j, question in enumerate(row):
                assert question.tree is not None
                own = [listed[places[str(question.after(prefix))]] for prefix in question.tree.prefixes]
                told = [one for one in own if one is not None]
                if len(told) == len(own):
                    edges = ranked_edges(question, told)
                    kl[i, j], missed[i, j] = question.tree.kl(edges), _missed(question.tree, edges)
        return Divergences(kl, missed, passes)

    def _question(self, text: str, member: Member) -> Question:
        row = member.target
        return self._questions.question(member.context, text, self._answers[row], self._names[row])


def ranked_edges(question: Question, listed: Sequence[Listed]) -> Tensor:
    """Log-probabilities of the edges of the answers' tree by what is listed in each inner node, ``[edge]``, float64.

    What is not listed is taken to be rare.
    """
    tree = question.tree
    assert tree is not None
    edges = torch.empty(len(tree.token), dtype=torch.float64)
    for node, told in enumerate(listed):
        mine = (tree.node == node).nonzero().flatten()
        found = told_log_probs(question, told, tree.token[mine].tolist())
        rare = told.last - _BELOW
        edges[mine] = torch.tensor([rare if value is None else value for value in found], dtype=torch.float64)
    return edges


def _missed(tree: AnswerTree, edges: Tensor) -> Tensor:
    """What log-probabilities of edges miss of the answers, as of :func:`missed_mass`."""
    none = tree.log_probs.new_full((1,), -math.inf)
    return missed_mass(torch.cat([tree.log_probs, none]), tree.outcomes(edges))
