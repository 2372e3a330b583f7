"""Runs are read, named and put together."""

import math

import pyarrow as pa
import pytest

from lit_prompt.errors import InputError
from lit_prompt.files import newest
from lit_prompt.records.predictions import PREDICTIONS
from lit_prompt.records.results import RESULTS
from lit_prompt.report.runs import read_runs
from lit_prompt.report.study import study_of
from lit_prompt.report.tables import runs_table
from tests.report.conftest import row


def rows(kl=1.0, **columns):
    return [row(f"random/{i}", 1.0 + i, kl) | columns for i in range(6)]


def labels(*folders):
    return [(series.lm, series.label, len(series.rows)) for series in study_of(read_runs(folders)).series]


def test_the_newest_results_are_read(make_run):
    folder = make_run("a/version_0", rows(1.0))
    for k in (2, 10, 9):
        make_run("a/version_0", rows(float(k)), file=f"results-{k}.parquet")
    make_run("a/version_0", rows(99.0), file="results-old.parquet")
    assert newest(folder, "results.parquet") == folder / "results-10.parquet"
    assert read_runs([folder])[0].rows[0]["kl"] == 10.0
    assert read_runs([folder / "results-2.parquet"])[0].rows[0]["kl"] == 2.0


def test_a_run_counts_once(make_run):
    folder = make_run("a/version_0", rows())
    assert len(read_runs([folder, folder / "results.parquet", folder / ".." / "version_0"])) == 1


def test_targets_that_were_not_searched_are_left_out(make_run):
    table = rows()
    table[0]["kl"] = None
    assert labels(make_run("a/version_0", table)) == [("tales-llama", "soft", 5)]


def test_columns_that_are_missing_are_none(make_run):
    folder = make_run("a/version_0", [{k: v for k, v in r.items() if k not in ("kl_floor", "js")} for r in rows()])
    assert read_runs([folder])[0].rows[0]["kl_floor"] is None


def test_different_targets_of_one_method_are_one_series(make_run):
    more = [row(f"outlier/{i}", 2.0, 0.5) for i in range(6)]
    assert labels(make_run("a/version_0", rows()), make_run("b/version_0", more)) == [("tales-llama", "soft", 12)]


def test_equal_ids_of_different_entropy_are_different_targets(make_run):
    other = [row(f"random/{i}", 1.5 + i, 1.0) for i in range(6)]
    assert labels(make_run("a/version_0", rows()), make_run("b/version_0", other)) == [("tales-llama", "soft", 12)]


def test_equal_ids_of_different_distributions_are_different_targets(make_run):
    runs = [[row(f"one_hot/{i}", 0.0, 1.0, target_fingerprint=f"{seed}{i}") for i in range(6)] for seed in (0, 1, 1)]
    a, b, again = (make_run(f"{i}/version_0", table) for i, table in enumerate(runs))
    assert labels(a, b) == [("tales-llama", "soft", 12)]
    assert [label for _, label, _ in labels(b, again)] == ["soft (1/version_0)", "soft (2/version_0)"]


def test_targets_of_results_without_fingerprints_are_known_by_their_entropies(make_run):
    old = make_run("a/version_0", rows())
    new = make_run("b/version_0", [each | {"target_fingerprint": f"f{i}"} for i, each in enumerate(rows())])
    assert [label for _, label, _ in labels(old, new)] == ["soft (a/version_0)", "soft (b/version_0)"]


def test_numbers_that_are_not_finite_are_unknown(make_run):
    run = make_run("a/version_0", rows(kl_floor=math.nan, excess=math.inf))
    assert {(each["kl_floor"], each["excess"]) for each in read_runs([run])[0].rows} == {(None, None)}


def test_lengths_settings_and_folders_tell_series_apart(make_run):
    five = make_run("a/version_0", rows(), {"length": 5, "steps": 500, "lm": "x"})
    one = make_run("a/version_1", rows(prompt_length=1), {"length": 1, "steps": 500, "lm": "x"})
    assert labels(five, one) == [("tales-llama", "soft, 1 token", 6), ("tales-llama", "soft, 5 tokens", 6)]
    slow = {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.03}}
    fast = {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.1}}
    a = make_run("b/version_0", rows(), {"length": 5, "optimizer": slow, "lm": "x"})
    b = make_run("b/version_1", rows(), {"length": 5, "optimizer": fast, "lm": "y"})
    assert [label for _, label, _ in labels(a, b)] == ["soft, optimizer Adam lr 0.03", "soft, optimizer Adam lr 0.1"]
    c, d = make_run("c/version_0", rows()), make_run("c/version_1", rows())
    assert [label for _, label, _ in labels(c, d)] == ["soft (c/version_0)", "soft (c/version_1)"]


def test_lms_are_known_by_their_fingerprint(make_run):
    a = make_run("a/version_0", rows())
    moved = make_run("b/version_0", [row("outlier/0", 1.0, 1.0, lm="/elsewhere/llama")])
    assert labels(a, moved) == [("tales-llama", "soft", 7)]
    other = make_run("c/version_0", rows(lm="other/tales-llama", lm_fingerprint="another-12345678"))
    assert [lm for lm, _, _ in labels(a, other)] == ["tales-llama (gerprint)", "tales-llama (12345678)"]


def test_the_length_with_most_results_stands_for_a_method(make_run):
    study = study_of(
        read_runs(
            [
                make_run("a/version_0", rows()[:3]),
                make_run("b/version_0", rows(prompt_length=1)),
                make_run("c/version_0", rows(method="gcg")),
            ]
        )
    )
    assert [series.label for series in study.main] == ["soft, 1 token", "hard (gcg)"]


def test_an_lm_without_that_length_shows_the_one_that_it_has(make_run):
    runs = [make_run(f"a/version_{n}", rows(prompt_length=n)) for n in (1, 5)]
    runs.append(make_run("b/version_0", rows(prompt_length=1, lm_fingerprint="b", lm="gpt2")))
    runs.append(make_run("c/version_0", rows(prompt_length=5, lm_fingerprint="c", lm="neox")[:2]))
    main = study_of(read_runs(runs)).main
    assert [(series.lm, series.label) for series in main] == [
        ("tales-llama", "soft, 1 token"), ("gpt2", "soft, 1 token"), ("neox", "soft, 5 tokens"),
    ]  # fmt: skip


def test_a_kl_that_is_not_finite_is_left_out_and_counted(make_run):
    table = rows()
    table[0]["kl"], table[1]["kl"] = math.nan, math.inf
    (run,) = read_runs([make_run("a/version_0", table)])
    assert (len(run.rows), run.not_finite) == (4, 2)
    assert "2 whose KL is not finite" in runs_table([run]).rows[0][3]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda f: None, "no run"),
        (lambda f: f.mkdir(), "is no run's folder"),
        (lambda f: (f.mkdir(), (f / "config.yaml").write_text("a: 1")), "has no results.parquet; run lit_prompt test"),
        (lambda f: (f.mkdir(), (f / "results.parquet").write_text("no")), "results.parquet cannot be read"),
        (
            lambda f: (f.mkdir(), RESULTS.write(pa.table({"kl": [1.0]}), f / "results.parquet")),
            "was not written by lit_prompt (it has no column target_id)",
        ),
        (
            lambda f: (f.mkdir(), RESULTS.write(pa.Table.from_pylist(rows("low")), f / "results.parquet")),
            "column kl is string, not double",
        ),
        (
            lambda f: (f.mkdir(), RESULTS.write(pa.Table.from_pylist(rows(lm=None)), f / "results.parquet")),
            "column lm is empty or not finite in 6 rows",
        ),
        (
            lambda f: (f.mkdir(), RESULTS.write(pa.Table.from_pylist(rows(entropy=math.inf)), f / "results.parquet")),
            "column entropy is empty or not finite in 6 rows",
        ),
        (
            lambda f: (f.mkdir(), RESULTS.write(pa.Table.from_pylist(rows(math.nan)), f / "results.parquet")),
            "holds no KL that is finite",
        ),
        (
            lambda f: (
                f.mkdir(),
                RESULTS.write(pa.Table.from_pylist(rows()), f / "results.parquet"),
                PREDICTIONS.write(pa.table({"target_id": ["a"], "token": ["b"]}), f / "predictions.parquet"),
            ),
            "predictions.parquet was not written by lit_prompt (it has no column target_probability)",
        ),
        (
            lambda f: (f.mkdir(), RESULTS.write(pa.Table.from_pylist(rows(None)), f / "results.parquet")),
            "holds no target that was searched",
        ),
        (
            lambda f: (
                f.mkdir(),
                RESULTS.write(pa.Table.from_pylist(rows()), f / "results.parquet"),
                (f / "config.yaml").write_text("[1, 2"),
            ),
            "config.yaml is not the config of a run",
        ),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, make, said):
    make(tmp_path / "run")
    with pytest.raises(InputError, match=r"run") as error:
        read_runs([tmp_path / "run"])
    assert said in str(error.value)
    assert "\n" not in str(error.value)
