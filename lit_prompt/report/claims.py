"""The claims that a report puts to the test."""

from collections.abc import Iterable
from itertools import combinations

import numpy as np

from lit_prompt.report.findings import Finding
from lit_prompt.report.study import Series, Study
from lit_prompt.results.comparisons import FEWEST, Comparison, by_entropy, compare, in_pairs

#: families of configs/findings and configs/paper in words; others go by their names
FAMILIES = {
    "own_lm": "the LM itself makes",
    "other_lm": "another LM with its tokenizer makes",
    "other_tokenizer": "an LM with another tokenizer makes",
}
RANDOM, OUTLIER = "random", "outlier"


def entropy_findings(study: Study) -> list[Finding]:
    """Targets of low and of high entropy against those of moderate entropy."""

    def claim(effect: Comparison) -> str:
        family, part = effect.first.split(": ")
        return f"{spelled(family)} of {part} are easier than those of moderate entropy"

    return _findings((series, claim(e), e) for series in study.main for e in by_entropy(series.rows))


def partner_findings(study: Study) -> dict[tuple[str, str], list[Finding]]:
    """Targets against their partners of the same entropy, by the two families."""
    effects: dict[tuple[str, str], list[tuple[Series, str, Comparison]]] = {}
    for series in study.main:
        for effect in in_pairs(series.rows):
            other = {RANDOM: "random ones", OUTLIER: "outlier targets"}.get(effect.other, f"{effect.other} targets")
            claim = f"{spelled(effect.first)} are easier than {other} of the same entropy"
            effects.setdefault((effect.first, effect.other), []).append((series, claim, effect))
    return {families: _findings(found) for families, found in effects.items()}


def length_findings(study: Study) -> list[Finding]:
    """The longest prompts against the shortest, on the targets of both."""
    found = []
    for lm in study.lms:
        by_name: dict[str, list[Series]] = {}
        for series in study.on(lm):
            by_name.setdefault(series.name, []).append(series)
        for group in by_name.values():
            short, long = (f(group, key=lambda series: series.length) for f in (min, max))
            if short is not long and (effect := _on_common_targets(long, short)) is not None:
                longer, shorter = (each.label.removeprefix(f"{each.name}, ") for each in (long, short))
                found.append((long, f"{long.name} prompts of {longer} come closer than those of {shorter}", effect))
    return _without_method(_findings(found))


def method_findings(study: Study) -> list[Finding]:
    """Each method against each other one, on the targets of both."""
    found = []
    order = list(dict.fromkeys(series.label for series in study.main))
    for a, b in combinations(order, 2):
        for lm in study.lms:
            mine = {series.label: series for series in study.on(lm, study.main)}
            if a in mine and b in mine and (effect := _on_common_targets(mine[b], mine[a])) is not None:
                found.append((mine[b], f"{b} prompts come closer than {a} prompts", effect))
    return _without_method(_findings(found))


def spelled(family: str) -> str:
    """A family as the subject of a sentence."""
    return f"Targets that {FAMILIES[family]}" if family in FAMILIES else f"{family.capitalize()} targets"


def _on_common_targets(first: Series, other: Series) -> Comparison | None:
    mine, theirs = first.by_target(), other.by_target()
    common = [key for key in mine if key in theirs]
    if len(common) < FEWEST:
        return None
    kl, other_kl = (np.array([rows[key]["kl"] for key in common]) for rows in (mine, theirs))
    return compare(first.label, other.label, kl, other_kl, paired=True)


def _findings(effects: Iterable[tuple[Series, str, Comparison]]) -> list[Finding]:
    """One finding a claim and method, over LMs."""
    grouped: dict[tuple[str, str], Finding] = {}
    for series, claim, effect in effects:
        finding = grouped.setdefault((claim, series.label), Finding(claim, series.label, [], []))
        finding.lms.append(series.lm)
        finding.effects.append(effect)
    return list(grouped.values())


def _without_method(findings: list[Finding]) -> list[Finding]:
    return [Finding(finding.claim, "", finding.lms, finding.effects) for finding in findings]
