"""Writes a report: one page that needs no other file, and its figures."""

import base64
import io
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lit_prompt import __version__
from lit_prompt.files import write_whole
from lit_prompt.report.findings import Finding, between, change, verdict
from lit_prompt.report.sections import sections
from lit_prompt.report.study import Study
from lit_prompt.report.tables import bounds, by_family, examples, overview, runs_table, sampled, transfers
from lit_prompt.results.mixtures_shown import drawn_prompts
from lit_prompt.results.picture import save_picture
from lit_prompt.results.rows import grouped
from lit_prompt.results.style import figure_style
from lit_prompt.results.text import as_json, visible
from lit_prompt.results.tokens_shown import named

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: an SVG of more bytes than this is shown as PNG
_LARGEST_SVG = 2_000_000
_DPI = 200


class Glance(NamedTuple):
    """A table of findings, a row a claim, a column an LM or a method."""

    head: list[str]
    claims: dict[str, list[Finding]]
    by_lm: bool


def write_report(study: Study, folder: Path) -> Path:
    """Writes ``report.html``, which it returns, and ``figures/NAME.png`` and ``.pdf``; replaces an earlier report."""
    figures = folder / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    parts = sections(study)
    images: dict[str, tuple[str, int]] = {}
    for section in parts:
        with figure_style():
            figure = section.figure(study) if study.series else None
            if figure is None:
                for suffix in ("png", "pdf"):  # of an earlier report, whose data are not here
                    (figures / f"{section.slug}.{suffix}").unlink(missing_ok=True)
            else:
                images[section.slug] = _saved(figure, figures, section.slug)
    environment = Environment(
        loader=PackageLoader("lit_prompt.report", "."), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, finalize=_shown,
    )  # fmt: skip
    environment.filters |= {"copied": _copied, "drawn": drawn_prompts, "named": named}
    environment.globals |= {"between": between, "change": change, "verdict": verdict}
    page = environment.get_template("page.html.j2").render(
        study=study,
        sections=parts,
        images=images,
        by_claim=_by_claim,
        glances=_glances([finding for section in parts for finding in section.findings], study),
        overview=overview(study),
        by_family=by_family(study),
        bounds=bounds(study),
        examples=examples(study),
        sampled=sampled(study.runs),
        transfers=transfers(study.runs),
        runs=runs_table(study.runs),
        lms=list(dict.fromkeys([*study.lms, *(Path(run.any_row["lm"]).name for run in study.bounds_alone)])),
        methods=list(dict.fromkeys([*study.labels, *(run.method for run in study.bounds_alone)])),
        targets=len({(series.lm, key) for series in study.series for key in series.by_target()}),
        version=__version__,
    )
    path = folder / "report.html"
    write_whole(path, page.encode())
    return path


def _shown(value: object) -> object:
    """What the page shows of a value."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _copied(text: str) -> Markup:
    """A prompt that gives itself back when it is copied: as it is, or as JSON where a browser would change it."""
    if text.isprintable():
        return Markup('<code class="prompt">{}</code>').format(text)
    return Markup('<code class="prompt">{}</code> <span class="faint">(as JSON)</span>').format(as_json(text))


def _by_claim(findings: list[Finding]) -> dict[str, list[Finding]]:
    return grouped(findings, attrgetter("claim"))


def _glances(findings: list[Finding], study: Study) -> list[Glance]:
    """What holds at a glance: by method where there are several, and by LM."""
    methods = list(dict.fromkeys(finding.method for finding in findings if finding.method))
    by_method = [finding for finding in findings if finding.method and len(methods) > 1]
    by_lm = [finding for finding in findings if finding not in by_method]
    glances = [Glance(methods, _by_claim(by_method), by_lm=False), Glance(study.lms, _by_claim(by_lm), by_lm=True)]
    return [glance for glance in glances if glance.claims]


def _saved(figure: "Figure", folder: Path, name: str) -> tuple[str, int]:
    """Saves a figure as PNG and PDF; returns it as a data URI for the page, and its width in pixels."""
    for suffix in ("png", "pdf"):
        metadata = {"CreationDate": None} if suffix == "pdf" else None
        save_picture(figure, folder / f"{name}.{suffix}", dpi=_DPI, metadata=metadata)
    svg = io.BytesIO()
    figure.savefig(svg, format="svg", dpi=_DPI, metadata={"Date": None})
    kind, image = "svg+xml", svg.getvalue()
    if len(image) > _LARGEST_SVG:
        kind, image = "png", (folder / f"{name}.png").read_bytes()
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}", round(100 * figure.get_figwidth())
