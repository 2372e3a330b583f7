"""Findings: what the numbers say about a claim, in sentences."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from lit_prompt.results.comparisons import Comparison

Verdict = Literal["lower", "higher", "same", "unclear"]

_SIGNIFICANT = 0.05
#: means whose ratio is certainly in this range are the same for all that matters
_SAME = (0.95, 1.05)
_TWICE = 2.0


@dataclass(frozen=True)
class Finding:
    """A claim that the KL of some targets, or of some method, is lower than that of others, and what came out.

    Attributes:
        claim: the claim, as a sentence without its full stop.
        method: the method's label; empty where the claim names its methods.
        lms: names of the LMs.
        effects: the comparison on each of them.
    """

    claim: str
    method: str
    lms: list[str]
    effects: list[Comparison]

    @property
    def verdicts(self) -> list[Verdict]:
        """What came out on each LM."""
        return [verdict(effect) for effect in self.effects]

    @property
    def headline(self) -> str:
        """What came out, in a few words."""
        count = len(self.verdicts)
        held = self.verdicts.count("lower")
        if len(set(self.verdicts)) == 1:
            where = "" if count == 1 else " on both LMs" if count == 2 else f" on all {count} LMs"
            return {
                "lower": f"holds{where}",
                "higher": f"does not hold: the opposite is so{where}",
                "same": f"does not hold: no difference of 5 %{where}",
                "unclear": f"cannot be told from these results{where}",
            }[self.verdicts[0]]
        return f"holds on {held} of {count} LMs" if held else f"holds on none of {count} LMs"

    @property
    def sentence(self) -> str:
        """The finding with its effects, intervals and tests."""
        with_method = f" ({self.method})" if self.method else ""
        effects = "; ".join(f"on {lm} {_clause(e)}" for lm, e in zip(self.lms, self.effects, strict=True))
        return f"{self.claim}{with_method}: {self.headline}. The mean KL is {effects}."


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
    """The findings with p-values for all their tests together (Benjamini and Hochberg 1995)."""
    from scipy.stats import false_discovery_control

    raw = [effect.p for finding in findings for effect in finding.effects]
    values = iter(false_discovery_control(raw).tolist() if raw else [])
    return [
        replace(finding, effects=[replace(effect, p=next(values)) for effect in finding.effects])
        for finding in findings
    ]


def change(ratio: float) -> str:
    """A ratio of KLs in words: 0.58 is "42 % lower"."""
    if math.isnan(ratio):
        return "not comparable"
    if ratio >= _TWICE:
        return f"{ratio:.2g} times as high" if ratio < 100 else "over 100 times as high"
    percent = 100 * abs(ratio - 1)
    shown = f"{percent:.0f}" if 1 <= percent < 99 else f"{percent:.1f}"
    return f"{shown} % {'lower' if ratio < 1 else 'higher'}"


def interval(effect: Comparison) -> str:
    """The confidence interval in words, from the better to the worse end."""
    low, high = change(effect.low), change(effect.high)
    unit = low[low.index(" ") :] if " " in low else ""
    if unit and high.endswith(unit):
        low = low.removesuffix(unit)
    return f"{low} to {high}"


def p_value(p: float) -> str:
    """A p-value as it is printed."""
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}"


def _clause(effect: Comparison) -> str:
    numbers = f"{effect.kl:.3f} against {effect.other_kl:.3f} nats, 95 % interval {interval(effect)}"
    of = f"lower in {effect.won} of {effect.count} pairs, " if effect.won is not None else ""
    return f"{change(effect.ratio)} ({numbers}; {of}{p_value(effect.p)})"
