"""What the certified floor says about results."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from lit_prompt.report.study import Study
from lit_prompt.results.bootstrap import FEWEST, interval
from lit_prompt.results.rows import column

#: nats; a KL this close to the floor has reached it for all that matters
_REACHED = 0.01


def excess_sentences(study: Study) -> list[str]:
    """For each method the mean excess with its confidence interval, and the share of targets at the floor, by LM."""

    def clause(excess: NDArray[np.float64]) -> str:
        low, high = interval(np.mean, excess)
        reached = int((excess <= _REACHED).sum())
        share = f"{reached} of {excess.size} targets, {100 * reached / excess.size:.0f} %"
        return (
            f"the mean KL is {excess.mean():.4f} nats above the certified floor (95 % interval {low:.4f} to "
            f"{high:.4f}; {share}, are within {_REACHED} nats of their floor)"
        )

    return _sentences(study, ("excess",), clause)


def parts_sentences(study: Study) -> list[str]:
    """For each method the shares of the mean KL due to output head, final norm and prompt, by LM."""

    def clause(*parts: NDArray[np.float64]) -> str:
        means = np.array([part.mean() for part in parts])
        head, norm, prompt = 100 * means / means.sum()
        kl, left = np.sum(parts, axis=0), parts[2]
        low, high = interval(lambda kl, left, axis=-1: 100 * left.mean(axis) / kl.mean(axis), kl, left)
        return (
            f"{head:.0f} % of the mean KL is due to the output head, {norm:.0f} % to the final norm and {prompt:.1f} % "
            f"to the prompt (95 % interval {low:.1f} to {high:.1f} %; {len(parts[0])} targets)"
        )

    return _sentences(study, ("kl_floor", "excess_norm", "excess_prompt"), clause)


def token_sentences(study: Study) -> list[str]:
    """For each method what of the mean KL of random targets is due to the number of tokens and the head, by LM."""

    def clause(kl: NDArray[np.float64], excess: NDArray[np.float64], floor: NDArray[np.float64]) -> str:
        larger = kl - excess
        low, high = interval(np.mean, excess)
        tokens = int(((floor >= larger) & (floor > 0)).sum())
        below = int((kl < floor).sum())
        said = f"; {below} KLs are below it, which by chance happens once in a million times" if below else ""
        return (
            f"of the mean KL of {kl.mean():.4f} nats {larger.mean():.4f} are the larger of token floor and, of single "
            f"prompts, certified floor, and {excess.mean():.4f} (95 % interval {low:.4f} to {high:.4f}) above it; for "
            f"{tokens} of {kl.size} targets that is the token floor{said}"
        )

    return _sentences(study, ("kl", "excess_tokens", "kl_floor_tokens"), clause)


def _sentences(study: Study, names: Sequence[str], clause: Callable[..., str]) -> list[str]:
    """A sentence for each method with a clause for each LM, on the results that have these columns."""
    clauses: dict[str, list[str]] = {}
    for series in study.main:
        known = np.array([column(series.rows, name) for name in names])
        known = known[:, ~np.isnan(known).any(0)]
        if known.shape[1] >= FEWEST:
            clauses.setdefault(series.label, []).append(f"on {series.lm}, {clause(*known)}")
    return [f"{label}: {'; '.join(found)}." for label, found in clauses.items()]
