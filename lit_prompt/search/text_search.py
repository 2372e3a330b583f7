"""A search on texts: two populations for each target, and moves that a bandit chooses."""

import random
from dataclasses import dataclass

import torch
from torch import Tensor

from lit_prompt.data.texts import REGISTERS, TextSource
from lit_prompt.errors import InputError
from lit_prompt.search.bandit import Bandit
from lit_prompt.search.elites import kept_elites
from lit_prompt.search.searcher import Found, SearchState
from lit_prompt.search.text_moves import GAP, MOVES, Materials
from lit_prompt.search.text_problem import TextProblem
from lit_prompt.search.visited import Visited
from lit_prompt.search.word_source import WordSource

#: Natural beginnings that each group of targets is tried with
BEGINNINGS = 64
# texts of each slot that are remembered
_REMEMBERED = 2**16
# tries at a text that fits, and at as many new ones as a step may have, before it has fewer
_TRIES, _ATTEMPTS = 8, 3
# what the state calls the texts of each population and their scores: the best by KL, and those that may be uneven
_POPULATIONS = (("ids", "scores"), ("uneven_ids", "uneven_scores"))
# what uneven shares of the mass that is on the target's tokens count for in the second
_UNEVEN = 0.1


@dataclass(eq=False)
class TextSearch:
    """Search on texts by their scores alone, without gradients and token ids.

    Every target keeps two populations of texts, natural beginnings at first. A KL is the mass that is missed, -ln q of
    the target's tokens, and how unevenly the rest is shared out among these. One population has the texts of the least
    KL, the other counts a tenth of the second part: shares are soon put right where the mass is there, while a search
    by KL alone comes to rest where some of it is missing. A step makes new texts from both by moves: a word of the
    corpus, a word that a small LM at hand puts after what stands before, a word of the target, a mark, a piece of
    another text, crossover, deletion, exchange, a single character. Moves are drawn by how high their texts have
    entered populations of late. Every text is scored for every target with the same texts around its prompt, and no
    text twice.

    Args:
        width: texts of a step for each target.
        population: texts in each of a target's two populations.
        texts: natural texts for beginnings and words, by default a small collection of several kinds.
        proposer: the small LM, at hand, that proposes words; null for the embedded one.
        ascii_only: whether prompts hold ASCII characters alone.
    """

    width: int = 8
    population: int = 12
    texts: TextSource = REGISTERS
    proposer: str | None = None
    ascii_only: bool = True

    def __post_init__(self) -> None:
        for name in ("width", "population"):
            if getattr(self, name) < 1:
                raise InputError(f"model.searcher {name} is {getattr(self, name)}; it must be at least 1")

    method = "text"
    on_device: tuple[str, ...] = ()

    def settings(self) -> dict[str, object]:
        """Plain values that define the search."""
        return dict(vars(self))

    def words(self, length: int) -> WordSource:
        """Where the words of its texts come from."""
        return WordSource(self.texts, self.proposer, length, self.ascii_only)

    def starts(self, problem: TextProblem) -> tuple[Tensor, Tensor]:
        """Natural beginnings for each slot, the best first: ``[slot, text, length]``, with their scores in nats."""
        ids = torch.zeros(len(problem), self.population, problem.length, dtype=torch.long)
        scores = torch.full((len(problem), self.population), torch.inf)
        for slots in problem.groups:
            texts = problem.words.beginnings(BEGINNINGS, problem.rng(slots[0], "beginnings"))
            makers = [slots[i % len(slots)] for i in range(len(texts))]
            table = problem.scorer.table(texts, makers, slots).kl
            rows = problem.ids(texts)
            for column, slot in enumerate(slots):
                best = table[:, column].argsort(stable=True)[: self.population]
                ids[slot, : len(best)], scores[slot, : len(best)] = rows[best], table[best, column]
        return ids, scores

    def init(self, problem: TextProblem, ids: Tensor, scores: Tensor) -> SearchState:
        """The state that a search begins with, from what :meth:`starts` gives."""
        return {
            **{name: start.clone() for names in _POPULATIONS for name, start in zip(names, (ids, scores), strict=True)},
            "gained": (bandit := Bandit.new(len(problem), len(MOVES))).gained,
            "tried": bandit.tried,
            "visited": torch.zeros(0, dtype=torch.long),
            "counts": torch.zeros(len(problem), dtype=torch.long),
        }

    def step(self, problem: TextProblem, state: SearchState, number: int, running: Tensor) -> Found:
        """Makes a step, numbered from 0, for the running slots; changes the state in place."""
        # of a search that an older version began; what counts less is not above the KL
        for name, known in zip(_POPULATIONS[1], _POPULATIONS[0], strict=True):
            state.setdefault(name, state[known].clone())
        wanted = set(running.tolist())
        most = torch.full((len(problem),), _REMEMBERED)
        visited = Visited(problem.length, state["visited"], state["counts"], most)
        for group in problem.groups:
            slots = [slot for slot in group if slot in wanted]
            if slots:
                self._step(problem, state, number, group[0], slots, visited)
        state["visited"], state["counts"] = visited.hashes, visited.counts
        best = state["scores"].argmin(1)
        rows = torch.arange(len(problem))
        ids, scores = state["ids"][rows, best], state["scores"][rows, best]
        return Found.of(len(problem), running, ids[running], scores[running])

    def _step(
        self, problem: TextProblem, state: SearchState, number: int, group: int, slots: list[int], visited: Visited
    ) -> None:
        made = self._new(problem, state, number, group, slots, visited)
        if not made:
            return
        texts = [text for _, _, text in made]
        rows = problem.ids(texts).expand(len(slots), -1, -1)
        table = problem.scorer.table(texts, [slot for slot, _, _ in made], slots)
        places = []
        uneven = (1.0 - _UNEVEN) * table.missed + _UNEVEN * table.kl
        for (ids, scores), own in zip(_POPULATIONS, (table.kl, uneven), strict=True):
            above = (state[scores][slots] < own.unsqueeze(2)).sum(2)
            places.append(above.masked_fill(own.isinf(), self.population).amin(1))
            state[ids][slots], state[scores][slots] = kept_elites(state[ids][slots], state[scores][slots], rows, own.T)
        owners, moves = (torch.tensor([one[i] for one in made]) for i in (0, 1))
        entered = 1.0 - torch.stack(places).amin(0) / self.population
        Bandit(state["gained"], state["tried"]).learn(owners, moves, entered)

    def _new(
        self, problem: TextProblem, state: SearchState, number: int, group: int, slots: list[int], visited: Visited
    ) -> list[tuple[int, int, str]]:
        """Texts that were not tried before, of each slot as many as it may: its number, that of the move, the text."""
        found: list[tuple[int, int, str]] = []
        for attempt in range(_ATTEMPTS):
            left = {slot: self.width - sum(one[0] == slot for one in found) for slot in slots}
            made = [
                (slot, move, text)
                for slot in slots
                for move, text in self._made(problem, state, slot, left[slot], problem.rng(slot, number, attempt))
            ]
            made = self._filled(problem, made, problem.rng(group, number, attempt, "words"))
            if made:
                owner = torch.full((len(made),), group)
                found += [made[i] for i in visited.new(problem.ids([text for _, _, text in made]), owner).tolist()]
            if len(found) == self.width * len(slots):
                break
        return found

    def _made(
        self, problem: TextProblem, state: SearchState, slot: int, count: int, rng: random.Random
    ) -> list[tuple[int, str]]:
        """New texts of a slot, each with the number of its move; some have a place left for a word."""
        kept = [problem.texts(state[ids][slot][state[scores][slot].isfinite()]) for ids, scores in _POPULATIONS]
        known = list(dict.fromkeys(kept[0] + kept[1]))
        if not known:
            return []
        chance = Bandit(state["gained"], state["tried"]).shares()[slot].tolist()
        own = problem.own_words(slot)
        found: list[tuple[int, str]] = []
        for _ in range(count):
            parents = rng.choice(kept)
            rank = [1.0 / (place + 1) for place in range(len(parents))]
            for _ in range(_TRIES):
                (move,) = rng.choices(range(len(MOVES)), chance)
                (parent,) = rng.choices(parents, rank)
                others = [text for text in known if text != parent]
                text = MOVES[move](parent, Materials(problem.words.words, own, others), rng)
                if text not in known and (GAP in text or problem.takes(text)):
                    found.append((move, text))
                    break
        return found

    def _filled(
        self, problem: TextProblem, made: list[tuple[int, int, str]], rng: random.Random
    ) -> list[tuple[int, int, str]]:
        """The same with words of the small LM where a place was left for one; those that fit."""
        before = [text.partition(GAP)[0] for _, _, text in made if GAP in text]
        words = iter(problem.words.proposed(before, rng))
        whole = [(slot, move, text.replace(GAP, next(words)) if GAP in text else text) for slot, move, text in made]
        return [one for one in whole if problem.takes(one[2])]
