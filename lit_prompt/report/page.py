"""Writes a report: one page that needs no other file, and its figures."""

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined

from lit_prompt import __version__
from lit_prompt.files import replaced_whole
from lit_prompt.report.findings import change, interval, p_value, verdict
from lit_prompt.report.sections import sections
from lit_prompt.report.study import Study
from lit_prompt.report.style import report_style
from lit_prompt.report.tables import examples, overview, runs_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE = "report.html"
#: an SVG of more bytes than this is shown as PNG
_LARGEST_SVG = 2_000_000
_DPI = 200


def write_report(study: Study, folder: Path) -> Path:
    """Writes ``report.html`` and ``figures/NAME.png`` and ``.pdf``; files of an earlier report are replaced.

    Args:
        study: what to report on.
        folder: made if it is not there.

    Returns:
        The page.
    """
    figures = folder / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    parts = sections(study)
    images: dict[str, str] = {}
    for section in parts:
        with report_style():
            figure = section.figure(study)
            if figure is None:
                for suffix in ("png", "pdf"):  # of an earlier report, whose data are not here
                    (figures / f"{section.slug}.{suffix}").unlink(missing_ok=True)
            else:
                images[section.slug] = _saved(figure, figures, section.slug)
    environment = Environment(
        loader=PackageLoader("lit_prompt.report", "."), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"change": change, "interval": interval, "p_value": p_value, "verdict": verdict}
    page = environment.get_template("page.html.j2").render(
        study=study,
        sections=parts,
        images=images,
        findings=[finding for section in parts for finding in section.findings],
        overview=overview(study),
        examples=examples(study),
        runs=runs_table(study.runs),
        targets=len({(series.lm, key) for series in study.series for key in series.by_target()}),
        version=__version__,
    )
    path = folder / PAGE
    with replaced_whole(path) as staging:
        staging.write_text(page, encoding="utf-8")
    return path


def _saved(figure: "Figure", folder: Path, name: str) -> str:
    """Saves a figure as PNG and PDF; returns it as a data URI."""
    for suffix in ("png", "pdf"):
        with replaced_whole(folder / f"{name}.{suffix}") as staging:
            metadata = {"CreationDate": None} if suffix == "pdf" else None
            figure.savefig(staging, format=suffix, dpi=_DPI, metadata=metadata)
    svg = io.BytesIO()
    figure.savefig(svg, format="svg", dpi=_DPI, metadata={"Date": None})
    kind, image = "svg+xml", svg.getvalue()
    if len(image) > _LARGEST_SVG:
        kind, image = "png", (folder / f"{name}.png").read_bytes()
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"
