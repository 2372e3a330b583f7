"""Findings: what the numbers say about a claim, in sentences."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from lit_prompt.results.comparisons import Comparison
from lit_prompt.results.text import nats

Verdict = Literal["lower", "higher", "same", "unclear"]

_SIGNIFICANT = 0.05
#: means are the same in practice if the interval of their ratio lies in this range
_SAME = (0.95, 1.05)
#: greater ratios are told as multiples, up to the second
_TWICE, _OVER = 2.0, 100


@dataclass(frozen=True)
class Finding:
    """A claim that the KL of some targets, or of some method, is lower than that of others, and what came out."""

    claim: str  #: a sentence without its full stop
    method: str  #: the method's label; empty where the claim names its methods
    effects: dict[str, Comparison]  #: the comparison on each LM, by its name
    unit: str = "KL"  #: what is compared

    @property
    def verdict(self) -> Verdict | Literal["mixed"]:
        """The verdict of all LMs, or "mixed"."""
        first, *others = {verdict(effect) for effect in self.effects.values()}
        return "mixed" if others else first

    @property
    def headline(self) -> str:
        """What came out, in a few words."""
        count = len(self.effects)
        if self.verdict == "mixed":
            held = sum(verdict(effect) == "lower" for effect in self.effects.values())
            return f"holds on {held or 'none'} of {count} LMs"
        everywhere = {1: "", 2: " on both LMs"}.get(count, f" on all {count} LMs")
        anywhere = {1: "", 2: " on either LM"}.get(count, f" on any of {count} LMs")
        return {
            "lower": f"holds{everywhere}",
            "higher": f"does not hold: it is the other way round{everywhere}",
            "same": f"does not hold: the difference is below 5 %{everywhere}",
            "unclear": f"cannot be told from these results{anywhere}",
        }[self.verdict]

    @property
    def sentence(self) -> str:
        """What came out, with its effects, intervals and tests; to be read after the claim."""
        clauses = (
            f"{'; on' if number else 'On'} {lm}, {'it' if number else f'the mean {self.unit}'} is {_clause(effect)}"
            for number, (lm, effect) in enumerate(self.effects.items())
        )
        return f"{self.headline[0].upper()}{self.headline[1:]}. {''.join(clauses)}."

    @property
    def range(self) -> str:
        """The least and the greatest effect over LMs."""
        ratios = [effect.ratio for effect in self.effects.values()]
        return change(ratios[0]) if len(ratios) == 1 else between(min(ratios), max(ratios))


def verdict(effect: Comparison) -> Verdict:
    """What a comparison says; interval and test must agree on a difference."""
    if effect.p < _SIGNIFICANT and effect.high < 1:
        return "lower"
    if effect.p < _SIGNIFICANT and effect.low > 1:
        return "higher"
    if _SAME[0] <= effect.low and effect.high <= _SAME[1]:
        return "same"
    return "unclear"


def adjusted(findings: Sequence[Finding]) -> list[Finding]:
    """The findings with p-values adjusted for all their tests (Benjamini and Hochberg, 1995)."""
    from scipy.stats import false_discovery_control

    raw = [effect.p for finding in findings for effect in finding.effects.values()]
    values = iter(false_discovery_control(raw).tolist() if raw else [])
    return [
        replace(finding, effects={lm: replace(effect, p=next(values)) for lm, effect in finding.effects.items()})
        for finding in findings
    ]


def change(ratio: float) -> str:
    """A ratio in words: 0.58 is "42 % lower"."""
    if math.isnan(ratio):
        return "not comparable"
    if ratio < _TWICE:
        return f"{_percent(ratio, _digits(ratio))} % {'lower' if ratio < 1 else 'higher'}"
    return f"{ratio:.2g} times as high" if ratio < _OVER else f"over {_OVER} times as high"


def between(low: float, high: float) -> str:
    """Two ratios in words, the smaller change first."""
    if high < 1 or 1 < low <= high < _TWICE:
        near, far = (high, low) if high < 1 else (low, high)
        digits = max(_digits(near), _digits(far))
        # until the ends differ, but not beyond what a bootstrap tells
        digits += next((more for more in range(3) if _percent(near, digits + more) != _percent(far, digits + more)), 0)
        return f"{_percent(near, digits)} to {_percent(far, digits)} % {'lower' if high < 1 else 'higher'}"
    return f"{change(low)} to {change(high)}"


def _digits(ratio: float) -> int:
    """Decimals of a change in percent; where nearly nothing is left, as many as tell it from 100 %."""
    if 0 < ratio <= 0.01:
        return min(-math.floor(math.log10(100 * ratio)), 4)
    return 0 if abs(ratio - 1) > 0.01 else 1


def _percent(ratio: float, digits: int) -> str:
    return f"{100 * abs(ratio - 1):.{digits}f}"


def _nats(value: float) -> str:
    """Four decimals; two significant digits where these would round to almost nothing."""
    return nats(value, 4) if value >= 1e-3 or value <= 0 else f"{value:.2g}"


def _clause(effect: Comparison) -> str:
    numbers = f"{_nats(effect.kl)} against {_nats(effect.other_kl)}, 95 % interval {between(effect.low, effect.high)}"
    p = "p < 0.0001" if effect.p < 1e-4 else f"p = {effect.p:.2g}"
    of = f"lower in {effect.won} of {effect.count} pairs, " if effect.won is not None else ""
    return f"{change(effect.ratio)} ({numbers}; {of}{p})"
