"""The sections of a report: a question, its figure, what was found, and what a figure would need."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

from lit_prompt.report import claims, method_figures, mixture_figures, target_figures, task_figures, token_figures
from lit_prompt.report.excess import excess_sentences, parts_sentences, token_sentences
from lit_prompt.report.findings import Finding, adjusted
from lit_prompt.report.study import OUTLIER, RANDOM, Study
from lit_prompt.report.tables import tasks
from lit_prompt.results.rows import has_mixtures
from lit_prompt.results.table import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NO_EXCESS_OF_MIXTURES = "Needs single prompts: the certified floor is of those, and mixtures may be below it."


@dataclass
class Section:
    """A part of the report.

    Attributes:
        slug: name of its anchor and of its figure's files.
        figure: drawn from the study; None where its data are absent.
        needs: what runs would give the figure.
        remarks: sentences that are no test of a claim.
        tables: below the figure, with what a run is called.
    """

    slug: str
    title: str
    figure: Callable[[Study], "Figure | None"]
    caption: str
    needs: str
    findings: list[Finding] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    tables: list[tuple[str, list[Table]]] = field(default_factory=list)


def sections(study: Study) -> list[Section]:
    """All sections; p-values are adjusted for all the tests of the report together."""
    partners = claims.partner_findings(study)
    against_random = partners.pop((OUTLIER, RANDOM), [])
    made = [*chain.from_iterable(partners.values()), *claims.maker_findings(study)]
    mixed = all(has_mixtures(series.rows) for series in study.series)
    found = [
        Section(
            "kl_by_entropy", "KL and entropy", target_figures.kl_by_entropy,
            "KL of random targets (of all targets where none are random). A point is a target; line and band are the "
            "median and the 10 and 90 % quantiles at about the same entropy.",
            "Needs targets of several entropies: lit_prompt fit --config configs/findings/entropy.yaml",
            claims.entropy_findings(study),
        ),
        Section(
            "outlier_against_random", "Outlier tokens", target_figures.outlier_against_random,
            "In pairs: every outlier target (few tokens hold nearly all the mass that so many tokens can hold) has a "
            "random target of its entropy.",
            "Needs outlier targets with partners: lit_prompt fit --config configs/findings/outliers.yaml",
            against_random,
        ),
        Section(
            "by_maker", "Targets that LMs make", target_figures.by_maker,
            "Next-token distributions of LMs after natural contexts, and outlier and random targets of the same "
            "entropies. Above: KL, a point a target. Below: mean KL over that of the random partners, with its "
            "bootstrap interval; dotted, the 42 % that a summary of the paper reports for LMs of one architecture.",
            "Needs five or more targets that an LM makes, with partners: lit_prompt fit --config "
            "configs/findings/lm_made.yaml",
            made,
        ),
        Section(
            "kl_by_length", "Prompt length", method_figures.kl_by_length,
            "The same targets with prompts of several lengths.",
            "Needs runs of the same targets with several lengths: lit_prompt fit --config configs/demo.yaml "
            "--model.length 1, then 2, 5, 10",
            claims.length_findings(study),
        ),
        Section(
            "kl_by_components", "Mixtures of prompts", mixture_figures.kl_by_components,
            "The same targets with a prompt each, and with mixtures of several: one is drawn by its weight, then a "
            "token after it. The certified floors are of single prompts, and mixtures may be below them.",
            "Needs runs of the same targets with several numbers of components: lit_prompt fit --config "
            "configs/mixture.yaml --model.components 1, then 2, 4, 8",
        ),
        Section(
            "token_floor", "What a prompt of n tokens cannot say", token_figures.token_floor_by_length,
            "Lines: the median token floor of random targets, which no prompt of at most so many tokens is below, "
            "whatever the LM and the search, but with a probability of one in a million for all of a run's. Points: "
            "the median KL of hard prompts on the same targets. Mixtures of prompts stand in panels of their own.",
            "Needs hard prompts for random targets: lit_prompt fit --config configs/hard.yaml",
            remarks=token_sentences(study),
        ),
        Section(
            "excess", "What is left above the floor", method_figures.excess_by_entropy,
            "KL minus the certified floor, below which no prompt of this LM can come. Smaller values are drawn at "
            "0.0001 nats.",
            _NO_EXCESS_OF_MIXTURES if mixed else "Needs results with a certified floor; these hold none.",
            remarks=excess_sentences(study),
        ),
        Section(
            "parts", "Where the KL comes from", method_figures.parts_by_entropy,
            "The mean KL in three parts: what the output head costs every prompt, what the final norm costs, and what "
            "the found prompt leaves.",
            _NO_EXCESS_OF_MIXTURES
            if mixed
            else "Needs results whose excess is divided into norm and prompt; these are not.",
            remarks=parts_sentences(study),
        ),
        Section(
            "method_against_method", "Method against method", method_figures.method_against_method,
            "A point is a target; below the line the method of the vertical axis came closer. Smaller KLs are drawn at "
            "0.0001 nats.",
            "Needs runs of two methods on the same targets and LM: the same data.load, or the same families and seeds.",
            claims.method_findings(study),
        ),
        Section(
            "kl_by_seconds", "KL and time", method_figures.kl_by_seconds,
            "Median and quartiles of the KL at the mean time of a target (its share of a search that is batched with "
            "others), on the targets that an LM's methods have in common. Times compare where the runs had the same "
            "machine to themselves.",
            "Needs runs of several methods or lengths on the same targets and LM.",
        ),
        Section(
            "tasks", "Tasks", task_figures.kl_by_target,
            "One prompt for several targets, each in a context of its own: what a target adds to the KL of its task, "
            "which is the sum of the full points. Hollow: targets that were held out, never searched for, below the "
            "line; they add up to the KL on them.",
            "Needs a run with tasks of several targets: lit_prompt fit --config configs/survey.yaml",
            tables=tasks(study.runs),
        ),
    ]  # fmt: skip
    every = iter(adjusted([finding for section in found for finding in section.findings]))
    for section in found:
        section.findings = [next(every) for _ in section.findings]
    return found
