"""The claims that a report puts to the test."""

from collections.abc import Iterable
from itertools import combinations
from operator import attrgetter

import numpy as np

from lit_prompt.report.findings import Finding
from lit_prompt.report.study import OUTLIER, RANDOM, Series, Study, on_common_targets
from lit_prompt.results.bootstrap import FEWEST
from lit_prompt.results.comparisons import Comparison, by_entropy, compare, in_pairs, with_partners
from lit_prompt.results.rows import column, grouped

#: families of configs/findings and configs/paper in words; others go by their names
FAMILIES = {
    "own_lm": "the LM itself makes",
    "other_lm": "another LM with its tokenizer makes",
    "other_tokenizer": "an LM with another tokenizer makes",
}
OWN = "own_lm"


def entropy_findings(study: Study) -> list[Finding]:
    """Targets of low and of high entropy against those of moderate entropy."""
    found = []
    for series in study.main:
        for effect in by_entropy(series.of_family(RANDOM) or series.rows):
            family, part = effect.first.split(": ")
            found.append((series, f"{spelled(family)} of {part} are easier than those of moderate entropy", effect))
    return _findings(found)


def partner_findings(study: Study) -> dict[tuple[str, str], list[Finding]]:
    """Targets against their partners of the same entropy, by the two families."""
    effects: dict[tuple[str, str], list[tuple[Series, str, Comparison]]] = {}
    for series in study.main:
        for effect in in_pairs(series.rows):
            other = {RANDOM: "random ones", OUTLIER: "outlier targets"}.get(effect.other, f"{effect.other} targets")
            claim = f"{spelled(effect.first)} are easier than {other} of the same entropy"
            effects.setdefault((effect.first, effect.other), []).append((series, claim, effect))
    return {families: _findings(found) for families, found in effects.items()}


def maker_findings(study: Study) -> list[Finding]:
    """The LM's own targets against those of other LMs after the same contexts, each as a share of its random partner's.

    Targets of one context differ in entropy, so that their KLs alone do not compare.
    """
    found = []
    for series in study.main:
        shares = _shares_of_random(series)
        own = shares.pop(OWN, {})
        for family, theirs in shares.items():
            common = [context for context in own if context in theirs]
            if len(common) >= FEWEST:
                pairs = np.array([(own[context], theirs[context]) for context in common])
                effect = compare(OWN, family, pairs[:, 0], pairs[:, 1], paired=True)
                found.append((series, f"{spelled(OWN)} are easier than those that {FAMILIES[family]}", effect))
    return _findings(found, unit="KL as a share of the random partner's")


def _shares_of_random(series: Series) -> dict[str, dict[tuple[str, str], float]]:
    """KL over the random partner's, by family of LM-made targets and by run and number of the context."""
    shares: dict[str, dict[tuple[str, str], float]] = {}
    for row, partner in with_partners(series.rows):
        if row["family"] in FAMILIES and partner["family"] == RANDOM and partner["kl"] > 0:
            context = row["run"], row["target_id"].removeprefix(row["family"])
            shares.setdefault(row["family"], {})[context] = row["kl"] / partner["kl"]
    return shares


def length_findings(study: Study) -> list[Finding]:
    """The longest prompts against the shortest, on the targets of both."""
    groups = [group for mine in study.by_lm().values() for group in grouped(mine, attrgetter("name")).values()]
    pairs = [tuple(f(group, key=attrgetter("length")) for f in (max, min)) for group in groups]
    found = []
    for long, short, effect in _on_common_targets((long, short) for long, short in pairs if long is not short):
        longer, shorter = (each.label.removeprefix(f"{each.name}, ") for each in (long, short))
        found.append((long, f"{long.name}: prompts of {longer} come closer than those of {shorter}", effect))
    return _findings(found, by_method=False)


def method_findings(study: Study) -> list[Finding]:
    """Every two methods on the targets of both; the claim is the direction that more LMs show."""
    found = []
    by_name = [{series.name: series for series in mine} for mine in study.by_lm(study.main).values()]
    for a, b in combinations(dict.fromkeys(series.name for series in study.main), 2):
        compared = _on_common_targets((mine[b], mine[a]) for mine in by_name if a in mine and b in mine)
        if 2 * sum(effect.kl > effect.other_kl for _, _, effect in compared) > len(compared):
            compared = _on_common_targets((other, first) for first, other, _ in compared)
        found += [(first, f"{first.name} comes closer than {other.name}", effect) for first, other, effect in compared]
    return _findings(found, by_method=False)


def spelled(family: str) -> str:
    """A family as the subject of a sentence."""
    return f"Targets that {FAMILIES[family]}" if family in FAMILIES else f"{family.capitalize()} targets"


def _on_common_targets(pairs: Iterable[tuple[Series, Series]]) -> list[tuple[Series, Series, Comparison]]:
    """The pairs that have enough targets in common, with their comparison on these."""
    found = []
    for first, other in pairs:
        if common := on_common_targets([first, other]):
            kl, other_kl = (column(rows, "kl") for rows in common)
            found.append((first, other, compare(first.label, other.label, kl, other_kl, paired=True)))
    return found


def _findings(
    effects: Iterable[tuple[Series, str, Comparison]], by_method: bool = True, unit: str = "KL"
) -> list[Finding]:
    """One finding, over all LMs, for each claim and method, or for each claim that names its methods."""
    groups = grouped(effects, lambda found: (found[1], found[0].label if by_method else ""))
    return [Finding(*key, {series.lm: effect for series, _, effect in found}, unit) for key, found in groups.items()]
