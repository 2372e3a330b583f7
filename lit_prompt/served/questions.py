"""Targets put to a server, and the KLs that its answers tell."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lit_prompt.data.answer_tokens import first_beginning
from lit_prompt.errors import InputError
from lit_prompt.functional.answer_tree import AnswerTree
from lit_prompt.functional.listed_kl import largest_unlisted
from lit_prompt.lm import Vocabulary
from lit_prompt.lm.chat import PROMPT
from lit_prompt.served.listed import Listed
from lit_prompt.served.servers import Prompt, Server

# tokens whose probabilities are asked for one by one, where a server does not list them
_MOST_ASKED = 64
# listed tokens whose texts are compared with those that are known here
_COMPARED = 50


@dataclass(frozen=True)
class Question:
    """What comes after a prompt, and what is wanted there.

    Attributes:
        prompt: all that the LM is given: a text, or token ids.
        tree: of the answers; None where any token is an outcome.
        log_p: of the outcomes ``[outcome]``, float64.
        text: of a token.
        ids: whether tokens are the server's; else each is a whole answer, whose tokens are not known.
        start: token ids of a prompt that is a text, where they are known.
    """

    prompt: Prompt
    tree: AnswerTree | None
    log_p: Tensor
    text: Callable[[int], str]
    ids: bool = True
    start: Sequence[int] | None = None

    def after(self, prefix: Sequence[int]) -> Prompt:
        """The prompt with the beginning of an answer."""
        if not prefix:
            return self.prompt
        if self.start is not None:
            return [*self.start, *prefix]
        if isinstance(self.prompt, str):
            return self.prompt + "".join(map(self.text, prefix))
        return [*self.prompt, *prefix]


@dataclass(frozen=True)
class ServedKL:
    """A KL as far as a server's answers tell it.

    Attributes:
        kl: KL(target || LM), nats; where it is not exact, a bound below.
        exact: whether the probabilities of all outcomes that the target has were told.
        log_q: log-probabilities of the outcomes ``[outcome]``, float64; of what was not told the largest they can be.
        told: whether each was told ``[outcome]``, bool.
    """

    kl: float
    exact: bool
    log_q: Tensor
    told: Tensor


def served_kl(server: Server, question: Question) -> ServedKL:
    """Asks a server for all that a target needs.

    Raises:
        InputError: if the server's answers cannot be used.
    """
    tree = question.tree
    if tree is None:
        p = question.log_p.exp()
        wanted = (p > 0).nonzero().flatten()
        log_q, told = torch.full_like(p, -math.inf), torch.zeros(len(p), dtype=torch.bool)
        log_q[wanted], told[wanted] = _node(server, question, (), wanted.tolist(), p[wanted])
        kl = float((p[wanted] * (p[wanted].log() - log_q[wanted])).sum())
        return ServedKL(kl, bool(told[wanted].all()), log_q, told)
    edges, told = torch.empty(len(tree.token), dtype=torch.float64), torch.zeros(len(tree.token), dtype=torch.bool)
    for node, prefix in enumerate(tree.prefixes):
        mine = (tree.node == node).nonzero().flatten()
        through = tree.edge_probs[mine] if tree.is_additive else None
        edges[mine], told[mine] = _node(server, question, prefix, tree.token[mine].tolist(), through)
    cells = tree.log_cells(edges)
    # an answer is told where all of its tokens are: with those that are not at zero it has not become nothing
    known = tree.log_cells(edges.masked_fill(~told, -math.inf)) == cells
    needed = tree.log_probs.isfinite()
    return ServedKL(float(tree.kl(edges)), bool(known[needed].all()), cells, known)


def _node(
    server: Server, question: Question, prefix: Sequence[int], tokens: list[int], p: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Log-probabilities of some tokens after a prompt and the beginning of an answer, and which of them were told.

    Of the others the largest that they can be; given their probabilities in the target, where the KL is least.
    """
    whole = question.after(prefix)
    listed = server.after(whole)
    found = told_log_probs(question, listed, tokens)
    missing = [place for place, value in enumerate(found) if value is None]
    given = whole if question.start is None else [*question.start, *prefix]
    for place in missing if len(missing) <= _MOST_ASKED else ():
        token = question.text(tokens[place]) if isinstance(given, str) else tokens[place]
        found[place] = server.log_prob(given, token)
    told = torch.tensor([value is not None for value in found], dtype=torch.bool)
    log_q = torch.tensor([math.nan if value is None else value for value in found], dtype=torch.float64)
    for place in (~told).nonzero().flatten().tolist():
        log_q[place] = math.log(max(min(listed.least, listed.rest), math.ulp(0.0)))
        if not question.ids:  # it may be several tokens, the first of which is a beginning of its text
            log_q[place] = _most_of_text(listed, question.text(tokens[place]))
    if question.ids and p is not None and bool((wanted := ~told & (p > 0)).any()):
        log_q[wanted] = largest_unlisted(p[wanted], listed.least, listed.rest)
    return log_q, told


def told_log_probs(question: Question, listed: Listed, tokens: Sequence[int]) -> list[float | None]:
    """Log-probabilities of some tokens of a question, as far as they are listed."""
    known = listed.by_token() if question.ids else listed.by_text()
    return [known.get(token, known.get(question.text(token))) for token in tokens]


def _most_of_text(listed: Listed, text: str) -> float:
    """The largest log-probability that a text can have, of however many tokens it is."""
    begun = math.fsum(math.exp(e.log_prob) for e in listed.entries if _may_begin(text, e.text))
    # a beginning is of one byte or more; that of one may have two tokens, as some vocabularies have one of each byte
    most = listed.least * (len(text.encode()) + 1)
    return math.log(min(1.0, begun + min(listed.rest, most) + math.ulp(0.0)))


def _may_begin(text: str, token: str) -> bool:
    """Whether a text may begin with a token, of which parts of characters are not told."""
    known, _, _ = token.partition("\ufffd")
    return token != "" and text.startswith(known)


def run_question(
    server: Server, vocabulary: Vocabulary, whole: str, is_chat: bool, tree: AnswerTree | None, log_p: Tensor
) -> Question:
    """A run's target after the whole text of its prompt.

    Raises:
        InputError: if the server splits the text into other tokens than the run's LM.
    """
    (ids,) = vocabulary.encode_starts([whole], not is_chat)
    theirs = server.tokens(whole, start=not is_chat)
    if theirs is not None and theirs != ids and server.tokens(whole, start=is_chat) != ids:
        raise InputError(
            f"--server: {server.name} splits the text into other tokens than the run's LM ({_ends(theirs)}, not "
            f"{_ends(ids)}); it serves another LM, or with another tokenizer"
        )
    _refuse_other_texts(server, vocabulary, whole if theirs is None else ids)
    return Question(whole if theirs is None else ids, tree, log_p, vocabulary.text)


def _refuse_other_texts(server: Server, vocabulary: Vocabulary, prompt: Prompt) -> None:
    told = [e for e in server.after(prompt).entries[:_COMPARED] if e.token_id is not None and e.text]
    for entry in told:
        assert entry.token_id is not None
        if entry.token_id >= vocabulary.size or _differs(vocabulary.text(entry.token_id), entry.text):
            ours = vocabulary.text(entry.token_id) if entry.token_id < vocabulary.size else "nothing"
            raise InputError(
                f"--server: token {entry.token_id} of {server.name} is {entry.text!r}, and {ours!r} in the run's LM; "
                "it serves another LM"
            )


def _differs(ours: str, theirs: str) -> bool:
    nameless = ours.startswith("<id ") or "\ufffd" in theirs or theirs.startswith(("<", "token_id:"))
    return not nameless and ours.strip() != theirs.strip()


def _ends(ids: Sequence[int]) -> str:
    return f"{len(ids)} ending in {list(ids[-3:])}"


def chat_question(messages: list[dict[str, str]], prompt: str, probs: dict[str, float]) -> Question:
    """Answers with their probabilities as the beginning of the reply to a chat, whose ``{prompt}`` is the prompt."""
    return named_question(filled(messages, prompt), list(probs), range(len(probs)), list(probs.values()))


def filled(messages: Sequence[dict[str, str]], prompt: str) -> list[dict[str, str]]:
    """A chat with its prompt."""
    return [message | {"content": message["content"].replace(PROMPT, prompt)} for message in messages]


def text_question(server: Server, text: str, probs: dict[str, float]) -> Question:
    """Answers with their probabilities after a text, as the server's own tokenizer splits them.

    Where the server does not tell how it splits texts, an answer that is not listed as one token has a bound alone.

    Raises:
        InputError: if an answer begins another one.
    """
    tokens = answer_tokens(server, text, list(probs), "--target")
    return named_question(text, list(probs), range(len(probs)), list(probs.values()), tokens)


@dataclass(frozen=True)
class SplitAnswers:
    """How a server splits answers into tokens, after a text.

    Attributes:
        start: tokens of the text.
        answers: of each answer.
    """

    start: list[int]
    answers: list[list[int]]


def answer_tokens(server: Server, text: str, names: Sequence[str], where: str) -> SplitAnswers | None:
    """How a server splits answers after a text; None where it does not tell.

    Raises:
        InputError: if an answer begins another one, token by token; it names ``where`` they are given.
    """
    start = server.tokens(text, start=True)
    if start is None:
        return None
    answers = []
    for name in names:
        whole = server.tokens(text + name, start=True) or []
        kept = whole[: len(start)] == start and len(whole) > len(start)
        answers.append(whole[len(start) :] if kept else server.tokens(name, start=False) or [])
    if (pair := first_beginning(answers)) is not None:
        short, long = (names[i] for i in pair)
        raise InputError(f"{where}: the answer {short!r} begins another one, {long!r}; let both end in a mark, say '.'")
    return SplitAnswers(start, answers)


def named_question(
    prompt: Prompt, names: Sequence[str], cells: Sequence[int], probs: Sequence[float],
    tokens: SplitAnswers | None = None,
) -> Question:  # fmt: skip
    """Answers by their names, in cells of these probabilities, after a prompt; ``tokens`` where they are known."""
    if tokens is None:
        tree = AnswerTree([[i] for i in range(len(names))], cells, probs)
        return Question(prompt, tree, tree.log_probs, list(names).__getitem__, ids=False)
    tree = AnswerTree(tokens.answers, cells, probs)
    return Question(prompt, tree, tree.log_probs, lambda token: f"token_id:{token}", start=tokens.start)
