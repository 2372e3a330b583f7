"""KL against the number of prompts that a target is given."""

import numpy as np

from lit_prompt.report.mixture_figures import kl_by_components
from lit_prompt.report.runs import read_runs
from lit_prompt.report.study import study_of
from tests.report.conftest import row


def rows(components, factor):
    """A few random targets, each at a KL that follows from the number of prompts; its floor is that of one."""
    mixed = {} if components == 1 else {"components": components, "kl_single": 2.5 * factor}
    return [
        row(f"random/{h}/{i}", h, (factor + 0.01 * i) / components, kl_floor=0.8 * factor, **mixed)
        for h in (1.0, 4.0, 7.5)
        for i in range(3)
    ]


def test_a_line_for_each_range_of_entropies_over_the_most_components(make_run):
    runs = read_runs([make_run(f"m/version_{k}", rows(k, 2.0), {"components": k}) for k in (4, 1, 2)])
    assert [run.method for run in runs] == ["soft, mixtures of 4", "soft", "soft, mixtures of 2"]
    figure = kl_by_components(study_of(runs))
    (panel,) = figure.axes
    lines = [line for line in panel.lines if len(line.get_xdata()) == 3]
    assert len(lines) == 3  # and a floor of one for each
    for line in lines:
        assert list(line.get_xdata()) == [1, 2, 4]
        assert np.allclose(line.get_ydata(), [2.01, 2.01 / 2, 2.01 / 4])


def test_other_settings_have_panels_of_their_own(make_run):
    runs = [make_run(f"m/version_{k}", rows(k, 2.0), {"components": k, "steps": 8}) for k in (1, 2)]
    runs += [make_run(f"n/version_{k}", rows(k, 1.0), {"components": k, "steps": 99}) for k in (1, 2)]
    panels = kl_by_components(study_of(read_runs(runs))).axes
    first = [next(line.get_ydata() for line in panel.lines if len(line.get_xdata()) == 2) for panel in panels]
    assert np.allclose(first, [[2.01, 1.005], [1.01, 0.505]])


def test_runs_of_one_number_of_prompts_make_no_figure(make_run):
    assert kl_by_components(study_of(read_runs([make_run("m/version_0", rows(2, 2.0), {"components": 2})]))) is None
