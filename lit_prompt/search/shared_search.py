"""Our own search: cheap positions are drawn more often, and every candidate is tried for every target."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lit_prompt.functional.precision import double
from lit_prompt.search.bandit import Bandit
from lit_prompt.search.elites import kept_elites, no_elites
from lit_prompt.search.merges import merged
from lit_prompt.search.moves import MOVES, WEIGHTS, Draws, Moves, Proposals
from lit_prompt.search.searcher import Found, Searcher, SearchState
from lit_prompt.search.token_problem import TokenProblem
from lit_prompt.search.variation_pool import VariationPool
from lit_prompt.search.visited import Visited

# a target that has not improved for this many steps gets half the candidates of one that just has
_PATIENCE = 20
# prompts that are remembered for each slot, in half a megabyte: more than a search of a thousand steps tries
_REMEMBERED = 2**16
# merges of a prompt's helpful variations that a step tries
_MERGES = 5
# how often candidates are drawn in the place of those that were known
_ATTEMPTS = 3
# a slot may be stuck where one in so many of its candidates is wanting then
_MANY = 4
# a share of the candidates that is a whole number but for its rounding is one
_ROUNDING = 1e-9
# nats by which a candidate must be better to have brought something, more than rounding may make of equal prompts
_NOTICED = 1e-5
# a stuck search goes on from its best prompt with one token in this many replaced by a random one
_KICKED_SHARE = 5
# what is known of each slot's moves, in the state: what they brought, how often they were tried, and their costs
_OF_MOVES = ("gained", "moved", "spent")


@dataclass(eq=False)
class SharedSearch(Searcher):
    """Coordinate search in which targets share their candidates, and cheap positions get more of them.

    A step scores variations of each target's best prompt. They are made by several kinds of moves (see
    :class:`lit_prompt.search.moves.Moves`), among which a bandit chooses by what each has brought for this target; then
    those that help are merged. Three things set it apart from GCG (Zou et al., 2023, arXiv 2307.15043):

    - One pass through the LM gives a prompt's score for every target with the same texts around its prompt, so that
      each takes the best prompt that was tried for any of them.
    - The tokens before a changed position are computed once, so that a swap of the last token costs one position and a
      swap of the first one all of them. A position is drawn as often as it is cheap.
    - No prompt is scored twice, as far as the last 65,536 of each target tell, and targets that do not improve any more
      leave their candidates to the others. Where all of a prompt's swaps were tried, the search goes on from the best
      prompt with some random tokens in it.

    Args:
        width: candidates of a step for each target, counted in whole prompts; swaps of late tokens cost less, so that
            more of them are tried.
        top_k: replacements of each position by the gradient that are drawn from.
        elites: best prompts of a target that crossovers draw from.
        share: score every candidate for every target; without it a target's result does not depend on the others.
    """

    method = "shared"

    width: int = 12
    top_k: int = 256
    elites: int = 8
    share: bool = True

    def __post_init__(self) -> None:
        self.require_at_least(width=1, top_k=1, elites=1)

    @property
    def shares(self) -> bool:  # type: ignore[override]
        """Whether candidates are scored for every target."""
        return self.share

    def init(self, problem: TokenProblem, ids: Tensor, scores: Tensor) -> SearchState:
        """The start of each slot; nothing has been visited."""
        return self._moves_state(ids, scores) | {
            "ids": ids.clone(),
            "scores": scores.clone(),
            "best_ids": ids.clone(),
            "best_scores": scores.clone(),
            "stale": torch.zeros_like(scores, dtype=torch.long),  # steps without a better prompt
            "visited": torch.zeros(0, dtype=torch.long),
            "tried": torch.zeros(len(problem), dtype=torch.long),  # visited prompts of each owner
        }

    def _moves_state(self, ids: Tensor, scores: Tensor) -> SearchState:
        """What moves are made from, where nothing has been tried but a start of each slot."""
        bandit = Bandit.new(len(ids), len(MOVES))
        elites, elite_scores = no_elites(ids, scores, self.elites)
        known = dict(zip(_OF_MOVES, (bandit.gained, bandit.tried, bandit.spent), strict=True))
        return {"elites": elites, "elite_scores": elite_scores, **known}

    def offer(self, state: SearchState, ids: Tensor, scores: Tensor) -> None:
        """Takes the starts among the elites."""
        state["elites"], state["elite_scores"] = kept_elites(state["elites"], state["elite_scores"], ids, scores)

    def step(self, problem: TokenProblem, state: SearchState, number: int, running: Tensor) -> Found:
        """Tries new variations for each slot."""
        self._bring_up_to_date(state)
        current, below = state["ids"][running], state["scores"][running]
        proposals = self._proposals(problem, state, running)
        owners = self._owners(problem)
        owner = owners[running]
        # a slot is stuck once all swaps of its prompt are known: what is remembered has room for them and other moves
        each = max(_REMEMBERED, len(MOVES) * proposals.swaps[0].numel())
        most = (torch.bincount(owners, minlength=len(problem)) * each).clamp_min(1)
        visited = Visited(problem.length, state["visited"], state["tried"], most)
        bandit = Bandit(state["gained"], state["moved"], state["spent"], owners, WEIGHTS)
        elites, elite_scores = state["elites"][running], state["elite_scores"][running]
        makes = Moves(problem, running, current, proposals, elites, elite_scores.isfinite().sum(1).clamp_min(1))
        prices = torch.stack([self._price(problem, slot) for slot in running.tolist()])
        counts = self._counts(problem, running, state["stale"][running], prices)
        candidates, base, moves = self._new(problem, makes, bandit, visited, running, owner, counts, prices, number)
        wanting = counts - torch.bincount(base, minlength=len(running))
        stuck = self._stuck(visited, current, proposals.swaps, owner, _MANY * wanting > counts)
        tried = VariationPool(problem, running, current, below, self.share)
        own = tried.add(candidates, base)
        gains = double(own < tried.standing[base] - _NOTICED)
        costs = self._costs(prices, current, candidates, base)
        bandit.learn(running[base], moves, gains.masked_fill(below[base].isinf(), 0.0), costs)
        merges, of = merged(current, tried.standing - _NOTICED, candidates, base, own, _MERGES)
        new = visited.new(merges, owner[of])
        if len(new):
            tried.add(merges[new], of[new])
        state["visited"], state["tried"] = visited.hashes, visited.counts
        scores, pool = tried.scores(), tried.ids.expand(len(running), -1, -1)
        state["elites"][running], state["elite_scores"][running] = kept_elites(elites, elite_scores, pool, scores)
        best, score = problem.readable.best(pool, scores, running, below=below)
        moved = score.isfinite()
        state["ids"][running[moved]] = tried.ids[best[moved]]
        state["scores"][running[moved]] = score[moved]
        better = moved & (score < state["best_scores"][running])
        state["best_ids"][running[better]] = tried.ids[best[better]]
        state["best_scores"][running[better]] = score[better]
        state["stale"][running] = torch.where(better, 0, state["stale"][running] + 1)
        self._kick(problem, state, running[stuck & ~moved], number)
        # infinite where it is more than a number may hold
        everything = torch.tensor(len(problem.allowed), dtype=torch.float64) ** problem.length
        found = torch.where(better, score, torch.inf)
        return Found.of(len(problem), running, state["best_ids"][running], found, state["tried"][owner] >= everything)

    def _bring_up_to_date(self, state: SearchState) -> None:
        """Adds what a search that an older version began does not know: any moves, or some of them."""
        if "elites" not in state:
            state |= self._moves_state(state["best_ids"], state["best_scores"])
        state.setdefault("spent", state["moved"].clone())
        if more := len(MOVES) - state["gained"].shape[1]:
            state |= {name: nn.functional.pad(state[name], (0, more)) for name in _OF_MOVES}

    def _proposals(self, problem: TokenProblem, state: SearchState, running: Tensor) -> Proposals:
        """Tokens for each position of the running slots' prompts; those of a prompt that has not changed are kept."""
        names = ("swaps", "likely", "shares")
        current = state["ids"][running]
        known = names[-1] in state  # not at first, and not in a search that an older version has begun
        changed = (
            (state["proposed_for"][running] != current).any(1) if known else torch.ones_like(running, dtype=torch.bool)
        )
        if changed.any():
            slots = running[changed]
            made = Proposals.of(problem, current[changed], slots, self.top_k)
            found = {"swaps": made.swaps.int(), "likely": made.likely.int(), "shares": made.shares}
            if not known:
                state |= {name: own.new_zeros(len(problem), *own.shape[1:]) for name, own in found.items()}
                state["proposed_for"] = torch.full_like(state["ids"], -1)
            for name, own in found.items():
                state[name][slots] = own
            state["proposed_for"][slots] = current[changed]
        swaps, likely, shares = (state[name][running] for name in names)
        return Proposals(swaps.long(), likely.long(), shares)

    def _new(
        self,
        problem: TokenProblem,
        makes: Moves,
        bandit: Bandit,
        visited: Visited,
        running: Tensor,
        owner: Tensor,
        counts: Tensor,
        prices: Tensor,
        number: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As many new candidates of each slot, or fewer: ids, whose prompt each is made from, and by which move."""
        parts = []
        for attempt in range(_ATTEMPTS):
            if not counts.any():
                break
            draws = self._draws(problem, bandit, running, counts, prices, (number, attempt))
            made = makes.candidates(draws)
            new = visited.new(made, owner[draws.base])
            parts.append((made[new], draws.base[new], draws.move[new]))
            counts = counts - torch.bincount(draws.base[new], minlength=len(running))
        candidates, base, moves = (torch.cat(part) for part in zip(*parts, strict=True))
        return candidates, base, moves

    def _owners(self, problem: TokenProblem) -> Tensor:
        """The owner of the prompts tried for each slot, ``[slot]``: its whole group where slots share, else itself."""
        return problem.slots.group if self.share else torch.arange(len(problem))

    def _draws(
        self,
        problem: TokenProblem,
        bandit: Bandit,
        running: Tensor,
        counts: Tensor,
        prices: Tensor,
        number: tuple[int, int],
    ) -> Draws:
        """What decides about so many candidates of each slot: moves by the bandit, cheap positions more often."""
        base = torch.arange(len(running)).repeat_interleave(counts)
        u, places = [], []
        for slot, own, price in zip(running.tolist(), counts.tolist(), prices, strict=True):
            u.append(torch.rand(4, own, generator=problem.generator(slot, *number), dtype=torch.float64))
            often = (1 / price).cumsum(0)
            places.append(torch.searchsorted(often, u[-1][0] * often[-1]).clamp_max(problem.length - 1))
        _, move, token, other = torch.cat(u, 1)
        return Draws(base, bandit.choose(running[base], move), torch.cat(places), token, other)

    @staticmethod
    def _costs(prices: Tensor, prompts: Tensor, candidates: Tensor, base: Tensor) -> Tensor:
        """Positions that candidates take, each a variation of a running slot's prompt, ``[candidate]``, float64.

        In those that a swap takes on average, so that a move is worth what it brings for the time.
        """
        mean = prices.shape[1] / (1 / prices).sum(1)
        first = (candidates != prompts[base]).int().argmax(1)
        return prices[base, first] / mean[base]

    @staticmethod
    def _price(problem: TokenProblem, slot: int) -> Tensor:
        """Positions that must be computed for a swap at each place of a slot's prompt, ``[length]``, float64.

        Of a task with several contexts, their mean.
        """
        after = [len(context.after_ids) for context in problem.slots.contexts_of(slot)]
        return torch.arange(problem.length, 0, -1, dtype=torch.float64) + sum(after) / len(after)

    def _counts(self, problem: TokenProblem, running: Tensor, stale: Tensor, prices: Tensor) -> Tensor:
        """Candidates of each running slot: those that have not improved for some steps leave theirs to their group."""
        per_swap = [float(price[0]) / problem.length * float((1 / price).sum()) for price in prices]
        counts = [max(1, int(self.width * swaps + _ROUNDING)) for swaps in per_swap]
        if not self.share:
            return torch.tensor(counts)
        weight = double(_PATIENCE / (_PATIENCE + stale))
        group = problem.slots.group[running]
        mates = group.unsqueeze(1) == group
        share = weight / (mates * weight).sum(1) * mates.sum(1)
        return torch.tensor([max(1, round(count * own)) for count, own in zip(counts, share.tolist(), strict=True)])

    def _stuck(self, visited: Visited, current: Tensor, choices: Tensor, owner: Tensor, asked: Tensor) -> Tensor:
        """Which of the slots that are ``asked`` for have no untried swap left, ``[running]`` both."""
        length, k = choices.shape[1:]
        places = torch.arange(length).repeat_interleave(k)
        stuck = asked.clone()
        for row in stuck.nonzero().flatten().tolist():
            swaps = current[row].repeat(length * k, 1)
            swaps[torch.arange(length * k), places] = choices[row].flatten()
            stuck[row] = visited.known(swaps, owner[row].expand(len(swaps))).all()
        return stuck

    def _kick(self, problem: TokenProblem, state: SearchState, slots: Tensor, number: int) -> None:
        """Lets slots continue from their best prompt with some random tokens in it (iterated local search)."""
        swaps = max(2, problem.length // _KICKED_SHARE)
        for slot in slots.tolist():
            generator = problem.generator(slot, "kick", number)
            ids = state["best_ids"][slot].clone()
            places = torch.randperm(problem.length, generator=generator)[:swaps]
            ids[places] = problem.random_ids(len(places), generator)
            state["ids"][slot] = ids
            state["scores"][slot] = torch.inf
