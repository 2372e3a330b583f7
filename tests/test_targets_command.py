"""``lit_prompt targets``: build, show and validate, and a fit on what was built."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from matplotlib.image import imread

from lit_prompt.data import Rejected, Target, TargetSet
from lit_prompt.data.families import OneHot
from lit_prompt.lm import LMOptions, Vocabulary
from lit_prompt.records.checksum import CHECKSUM, plain_digest
from tests.conftest import EMBEDDED_GPT2, EMBEDDED_LLAMA, REPOSITORY
from tests.saved import saved, steps_made

CONFIG = """
model:
  class_path: SoftPrompt
  init_args: {length: 3, steps: 6}
data:
  chunk_size: 4
  families:
    - class_path: EntropyMatched
      init_args: {entropies: 3, per_entropy: 2}
    - class_path: OneHot
      init_args: {count: 3}
"""


@pytest.fixture
def config(workdir):
    (workdir / "small.yaml").write_text(CONFIG)
    return "small.yaml"


@pytest.fixture
def built(cli, config, tiny_lm):
    """A set that was built from the config; relative to the current folder."""
    cli("targets", "build", "--config", config, "--lm", tiny_lm, "--out", "sets/small")
    return Path("sets/small")


@pytest.fixture
def fails(cli):
    """Runs a command that must fail with one line, and returns it."""

    def run(*args):
        *others, error = cli(*args, code=2).splitlines()
        assert error.startswith("lit_prompt: error: ")
        assert not [line for line in others if line.startswith(("lit_prompt: error", "Traceback"))]
        return error

    return run


@pytest.fixture
def questionable(monkeypatch):
    """Makes OneHot reject every second of its targets and put a note on the others."""
    targets = OneHot.targets

    def some(self, vocabulary):
        for i, target in enumerate(targets(self, vocabulary)):
            target.metadata["note"] = f"numbered {i}"
            yield Rejected(target.target_id, self.name, f"its number {i} is odd") if i % 2 else target

    monkeypatch.setattr(OneHot, "targets", some)


# ---- build ----


def test_build_saves_what_a_fit_would_search(cli, config, built, tiny_lm):
    cli("fit", "--config", config, "--lm", tiny_lm)
    searched, saved = TargetSet(Path("logs/small/version_0/targets")), TargetSet(built)
    assert saved.fingerprint == searched.fingerprint
    assert saved.lm == str(tiny_lm)
    assert len(saved) == 9


def test_build_says_what_the_set_holds_and_how_to_use_it(cli, config, tiny_lm):
    said = cli("targets", "build", "--config", config, "--lm", tiny_lm, "--out", "made")
    assert f"9 targets over the 320 tokens of {tiny_lm}" in said
    assert re.search(r"random +6 +0.100 to 5.668", said)
    assert re.search(r"one_hot +3 +0.000 to 0.000", said)
    assert "lit_prompt targets show made" in said
    assert "lit_prompt fit --config small.yaml --data.load made" in said
    assert "rejected" not in said


def test_build_takes_the_overrides_of_fit(cli, config, tiny_lm):
    override = ["--data.families.init_args.count=5", "--model.steps", 3, "--trainer.max_epochs=7"]
    cli("targets", "build", "--config", config, "--out=made", "--lm", tiny_lm, *override)
    assert TargetSet(Path("made")).family.count("one_hot") == 5


def test_build_needs_no_weights(cli, config, tiny_lm, workdir):
    folder = workdir / "tokenizer-only"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((tiny_lm / name).read_bytes())
    assert "9 targets" in cli("targets", "build", "--config", config, "--lm", folder, "--out", "made")


def test_build_lists_every_rejected_target(cli, config, tiny_lm, questionable):
    said = cli(
        "targets", "build", "--config", config, "--lm", tiny_lm, "--out", "made", "--data.families.init_args.count=50"
    )
    rejected = re.findall(r"^rejected (one_hot/\d+/.*): its number (\d+) is odd$", said, re.M)
    assert [int(i) for _, i in rejected] == list(range(1, 50, 2))
    notes = re.findall(r"^note on one_hot/.*: numbered (\d+)$", said, re.M)
    assert [int(i) for i in notes] == list(range(0, 40, 2))
    assert "... and 5 more notes" in said
    assert re.search(r"one_hot +25 +0.000 to 0.000 +25", said)
    assert [rejected.reason for rejected in TargetSet(Path("made")).rejected][:2] == [
        "its number 1 is odd",
        "its number 3 is odd",
    ]


def test_build_overwrites_nothing(fails, config, built, tiny_lm):
    before = {path: path.read_bytes() for path in built.rglob("*")}
    said = fails("targets", "build", "--config", config, "--lm", tiny_lm, "--out", built)
    assert "sets/small exists" in said
    assert {path: path.read_bytes() for path in built.rglob("*")} == before


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--config", "small.yaml"], "the following arguments are required: --out"),
        (["--config", "nope.yaml", "--out", "made"], "no file nope.yaml"),
        (["--config", "small.yaml", "--out", "small.yaml/made"], "small.yaml/made cannot be written"),
        (["--config", "small.yaml", "--out", "made", "--data.chunk_sizes=3"], "did you mean 'data.chunk_size'?"),
        (
            ["--config", "small.yaml", "--out", "made", "--data.load", "x"],
            "data.load is x: these targets are built",
        ),
        (
            ["--config", "small.yaml", "--out", "made", "--data.families.init_args.count", "x"],
            "'x' is not of the type",
        ),
        (["--out", "made"], "no targets: give data.families"),
        (["--run", "logs/small/version_0", "--out", "made"], "unknown option --run"),
    ],
)
def test_bad_builds(fails, config, tiny_lm, args, expected):
    assert expected in fails("targets", "build", "--lm", tiny_lm, *args)
    assert not Path("made").exists()


# ---- fit with a set that was built ----


def test_fit_uses_a_saved_set(cli, config, built, tiny_lm):
    cli("fit", "--config", config, "--lm", tiny_lm)
    cli("fit", "--config", config, "--lm", tiny_lm, "--data.load", built)
    own, loaded = Path("logs/small/version_0"), Path("logs/small/version_1")
    assert not (loaded / "targets").exists()
    for run in (own, loaded):
        cli("test", "--run", run)
    kl = [pq.read_table(run / "results.parquet").select(["target_id", "kl"]) for run in (own, loaded)]
    assert kl[0] == kl[1]
    assert "lit_prompt test --run logs/small/version_1" in cli("fit", "--run", loaded)  # resumed


def test_a_stopped_fit_on_a_saved_set_is_gone_on_with(cli, config, built, tiny_lm):
    fit = ["fit", "--config", config, "--lm", tiny_lm, "--data.load", built]
    cli(*fit)
    cli(*fit, "--trainer.max_epochs", 1)  # the first of three chunks
    whole, stopped = (Path(f"logs/small/version_{k}") for k in (0, 1))
    assert steps_made(stopped) == 6
    cli("fit", "--run", stopped, "--trainer.max_epochs", -1)
    first, second = map(saved, (whole, stopped))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_fit_refuses_a_set_over_another_vocabulary(fails, config, built):
    said = fails("fit", "--config", config, "--lm", EMBEDDED_GPT2, "--data.load", built)
    assert "sets/small: these targets are over another vocabulary (320 tokens" in said
    assert "than the LM's (6144 tokens)" in said


def test_fit_tells_of_rejected_targets_and_notes_once(cli, config, tiny_lm, questionable, caplog):
    cli("fit", "--config", config, "--lm", tiny_lm, "--data.families.init_args.count=30")
    lines = [record.getMessage() for record in caplog.records if record.name == "lit_prompt.data.datamodule"]
    assert [line[:9] for line in lines[:15]] == ["rejected "] * 15
    assert [line[:8] for line in lines[15:20]] == ["note on "] * 5
    assert lines[20:] == ["... and 10 more such remarks on targets"]
    caplog.clear()
    cli("fit", "--run", "logs/small/version_0")
    assert not [record for record in caplog.records if record.name == "lit_prompt.data.datamodule"]


# ---- show ----


def test_show_prints_a_table_and_draws(cli, built):
    said = cli("targets", "show", built)
    assert "9 targets over the 320 tokens" in said
    lines = {line.split()[0]: line for line in said.splitlines() if "/" in line and " 0." in line}
    targets = TargetSet(built)
    batch = targets.batch(range(9))
    for i, target_id in enumerate(targets.target_id):
        line = lines[target_id.split()[0]]
        assert f" {float(targets.entropy[i]):.3f} " in line
        assert f" {float(batch.log_probs[i].exp().max()):.2g}" in line
    assert "picture   sets/small/targets.png" in said
    assert imread(built / "targets.png").std() > 0.01
    assert TargetSet(built).fingerprint == targets.fingerprint  # the picture does not harm the set


def test_show_spells_tokens_and_contexts(cli, workdir):
    (workdir / "survey.yaml").write_text((REPOSITORY / "configs" / "survey.yaml").read_text())
    (workdir / "data").symlink_to(REPOSITORY / "data")
    cli("targets", "build", "--config", "survey.yaml", "--out", "made")
    said = cli("targets", "show", "made")
    assert "10 targets in 1 task over the 4096 tokens" in said
    assert "survey/guests: one prompt for 10 targets" in said
    assert "├── survey/bed: weight 0.100, entropy 1.295" in said
    assert "after ' Question: How did you like your bed? Answer:'" in said
    assert "├── ' very' ' well' ' satisf' 'ied' 0.41" in said
    assert re.search(r"├── ' on' 0.62\n│   │   ├── ' foot' 0.38\n│   │   └── ' horse' 'b' 'ack' 0.24\n", said)
    assert "partner of" not in said  # nothing to say


def test_show_prints_what_is_held_out_and_no_more_than_is_asked_for(cli, workdir):
    (workdir / "data").symlink_to(REPOSITORY / "data")
    cli("targets", "build", "--config", REPOSITORY / "configs" / "wordings.yaml", "--out", "made")
    said = cli("targets", "show", "made")
    assert "wordings/return: one prompt for 6 targets, 2 held out" in said
    assert "├── wordings/told: weight 0.167, entropy 1.081" in said
    assert "wordings/held_out: held out, entropy 1.081" in said
    few = cli("targets", "show", "made", "--rows", 2)
    assert "wordings/turned" in few
    assert "wordings/middle" not in few
    assert "└── ... and 6 more" in few


def test_show_prints_cells_and_chats(cli, workdir, chat_lm):
    (workdir / "data").symlink_to(REPOSITORY / "data")
    config = REPOSITORY / "configs" / "survey_chat.yaml"
    cli("targets", "build", "--config", config, "--lm", chat_lm, "--out", "made")
    said = cli("targets", "show", "made")
    assert "│   system '{prompt}'" in said
    assert re.search(r"│   user 'How did you like your bed\?.*….*miserable\.'", said)
    assert re.search(r"├── cell 'not altogether happy' 0.2\n│   │   ├── 'not' .* ' happy'\n", said)


def test_show_prints_targets_of_every_kind(cli, workdir, tiny_lm):
    records = [
        {"name": "alone", "probs": {"a": 1.0}},
        {"name": "tokens", "probs": {"a": 0.75, "no": 0.25}, "task": "t", "weight": 3},
        {"name": "answers", "strings": {" the king": 0.5, " the fox": 0.5}, "task": "t"},
        {"name": "many", "strings": {f"{c} and": 0.1 for c in "abcdefghij"}},
        {"name": "escape", "cells": {"\x1b[31m[bold]": [" king", " fox"]}, "probs": {"\x1b[31m[bold]": 1.0}},
    ]
    (workdir / "x.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (workdir / "x.yaml").write_text("data: {families: [{class_path: FromFile, init_args: {path: x.jsonl}}]}\n")
    cli("targets", "build", "--config", "x.yaml", "--lm", tiny_lm, "--out", "made")
    said = cli("targets", "show", "made")
    assert re.search(r"^ *user/alone .* 'a' 1", said, re.M)
    assert "├── user/tokens: weight 0.750, entropy 0.562\n│   ├── 'a' 0.75\n│   └── 'no' 0.25" in said
    assert "└── user/answers: weight 0.250, entropy 0.693\n    └── ' the' 1\n" in said
    assert "└── ... and 2 more answers 0.2" in said
    assert r"cell '\x1b[31m[bold]' 1" in said


def test_validate_knows_tasks(cli, workdir, tiny_lm):
    one = {"name": "a", "probs": {"a": 1.0}, "task": "t", "split": "test"}
    write_lines(one, one | {"name": "b", "task": "u", "split": None})
    said = cli("targets", "validate", "t.jsonl", "--lm", tiny_lm, code=2)
    assert "t.jsonl: user/t: all of it is held out (split: test)" in said
    assert "2 targets in order, entropy 0.000 to 0.000 nats; 1 mistake, 0 warnings" in said


def test_show_tells_outlier_mass_and_partners(cli, workdir, tiny_lm):
    target = Target.from_logits("o/1", "o", torch.arange(320.0), outlier_mass=0.8125)
    partner = Target.from_logits("r/o/1", "r", torch.arange(320.0) / 2)
    partner.partner_of = "o/1"
    fingerprint = Vocabulary.load(str(tiny_lm), LMOptions()).fingerprint
    made = [target, partner, Rejected("o/2", "o", "too heavy")]
    TargetSet.write(workdir / "made", made, 320, fingerprint, str(tiny_lm))
    said = cli("targets", "show", "made")
    assert re.search(r"o/1 .*0\.812", said)
    assert re.search(r"r/o/1 .* o/1 ", said)
    assert "rejected o/2: too heavy" in said


def test_show_tells_what_the_way_from_another_vocabulary_cost(cli, workdir, tiny_lm):
    facts = {"a": {"mass_lost": 0.25, "mass_moved": 0.0625}, "b": {"mass_lost": 0.0, "mass_cut": 0.5}}
    made = [Target.from_logits(name, "f", torch.arange(320.0), **costs) for name, costs in facts.items()]
    fingerprint = Vocabulary.load(str(tiny_lm), LMOptions()).fingerprint
    TargetSet.write(workdir / "made", made, 320, fingerprint, str(tiny_lm))
    said = cli("targets", "show", "made")
    assert re.search(r"^ *id .* lost +moved +cut ", said, re.M)
    assert re.search(r"^ *a .* 0\.250 +0\.062 ", said, re.M)
    assert re.search(r"^ *b .* 0\.500 ", said, re.M)
    assert "lost: mass without a token in this vocabulary" in said


def test_show_prints_some_targets_of_each_family(cli, built):
    said = cli("targets", "show", built, "--rows", 4)
    assert "... and 5 more; --rows 0 shows all" in said
    assert len(re.findall(r"^ *random/", said, re.M)) == len(re.findall(r"^ *one_hot/", said, re.M)) == 2
    assert "more" not in cli("targets", "show", built, "--rows", 0)


def test_show_takes_a_run(cli, config, built, tiny_lm):
    cli("fit", "--config", config, "--lm", tiny_lm)
    assert "picture   logs/small/version_0/targets/targets.png" in cli("targets", "show", "logs/small/version_0")
    cli("fit", "--config", config, "--lm", tiny_lm, "--data.load", built)
    assert "picture   sets/small/targets.png" in cli("targets", "show", "logs/small/version_1")
    cli("test", "--run", "logs/small/version_0")


def test_show_writes_the_picture_elsewhere(cli, built):
    assert "picture   here.png" in cli("targets", "show", built, "--out", "here.png")
    assert Path("here.png").stat().st_size > 10_000
    assert not (built / "targets.png").exists()


def test_show_goes_on_where_the_set_cannot_be_written(cli, built):
    (built / "targets.png").mkdir()
    said = cli("targets", "show", built)
    assert "random/H0.100/0" in said
    assert "no picture: sets/small/targets.png cannot be written (Is a directory); name another place" in said


def test_show_of_an_lm_that_has_moved(cli, fails, built, tiny_lm, monkeypatch):
    def says(lm):
        info = json.loads((built / "lit_prompt.json").read_text()) | {"lm": lm}
        info.pop(CHECKSUM)
        (built / "lit_prompt.json").write_text(json.dumps(info | {CHECKSUM: plain_digest(info)}))

    says("/no/such/lm")
    assert "sets/small was built for it; where it is elsewhere now, name it with --lm" in fails(
        "targets", "show", built
    )
    assert "9 targets" in cli("targets", "show", built, "--lm", tiny_lm)
    says(None)
    assert "does not say which LM it was built for; name it with --lm" in fails("targets", "show", built)


def test_show_loads_no_weights(cli, built, monkeypatch):
    import transformers

    def loaded(*args, **kwargs):
        raise AssertionError("the weights were loaded")

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", loaded)
    assert "9 targets" in cli("targets", "show", built)


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["nowhere"], "nowhere: no saved set of targets"),
        (["sets"], "sets: no saved set of targets"),
        (["sets/small", "--rows", "-1"], "--rows is -1"),
        (["sets/small", "--rows", "few"], "invalid int value: 'few'"),
        (["sets/small", "--out", "x.jpg"], "x.jpg must end in .png"),
        (["sets/small", "--out", "no/such/folder/x.png"], "--out: no folder no/such/folder"),
        (["sets/small", "--out", "taken.png"], "--out: taken.png cannot be written (Is a directory)"),
        (["sets/small", "--lm", EMBEDDED_LLAMA], "these targets are over another vocabulary (320 tokens"),
        (["sets/small", "--column", "3"], "unrecognized arguments: --column 3"),
        ([], "the following arguments are required: FOLDER"),
    ],
)
def test_bad_shows(fails, built, args, expected):
    Path("taken.png").mkdir()
    assert expected in fails("targets", "show", *args)


# ---- validate ----

GOOD = {"name": "coin", "probs": {"a": 0.5, "no": 0.5}}


def write_lines(*records):
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    Path("t.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return "t.jsonl"


def test_validate_a_good_file(cli, workdir, tiny_lm):
    path = write_lines(GOOD, {"strings": {" fox": 0.25, " three": 0.75}})
    assert cli("targets", "validate", path, "--lm", tiny_lm, "--strings", "first_tokens").splitlines() == [
        "note on user/t-2: first tokens stand for strings: ' f' for ' fox'",
        "t.jsonl: 2 targets in order, entropy 0.562 to 0.693 nats; 0 mistakes, 0 warnings, 1 note",
    ]
    assert cli("targets", "validate", path, "--lm", tiny_lm).splitlines() == [
        "t.jsonl: 2 targets in order, entropy 0.562 to 0.693 nats; 0 mistakes, 0 warnings, 0 notes",
    ]


def test_validate_lists_every_mistake_with_its_line(cli, workdir, tiny_lm):
    path = write_lines(
        {"probs": {"a": 0.5, "zebra": 0.6}},
        GOOD,
        "",
        "{broken",
        {"strings": {" hair": 0.5, " hairs": 0.5}, "contxt": "x"},
        GOOD,
        {"probs": {"a": 1.0}, "context": {"befor": "x"}},
    )
    lines = cli("targets", "validate", path, "--lm", tiny_lm, code=2).splitlines()
    expected = [
        (1, "'zebra' is not exactly one token", "splits into ['z', 'e', 'b', 'r', 'a']", 'use "strings"'),
        (1, "probabilities of 't-1' sum to 1.1"),
        (4, "not JSON"),
        (5, "'contxt' is not read; did you mean 'context'? (warning)"),
        (5, "the answer ' hair' begins another one, ' hairs'", '"end"'),
        (6, "the name 'coin' was used before, at t.jsonl:2"),
        (7, "\"context\" has no key 'befor'"),
    ]
    assert len(lines) == len(expected) + 1
    for line, (number, *words) in zip(lines, expected, strict=False):
        assert line.startswith(f"t.jsonl:{number}: ")
        assert all(word in line for word in words), line
    assert lines[-1] == ("t.jsonl: 1 target in order, entropy 0.693 to 0.693 nats; 6 mistakes, 1 warning, 0 notes")


def test_validate_agrees_with_fit(fails, config, tiny_lm):
    # the first mistake of validate is the one that a fit stops at
    path = write_lines(GOOD, {"probs": {"a": 0.5}})
    family = "[{class_path: FromFile, init_args: {path: t.jsonl}}]"
    said = fails("fit", "--config", config, "--lm", tiny_lm, "--data.families", family)
    assert f"{path}:2: probabilities of 't-2' sum to 0.5" in said


def test_validate_a_warning_alone_is_no_failure(cli, workdir, tiny_lm):
    path = write_lines(GOOD | {"contxt": "x"})
    said = cli("targets", "validate", path, "--lm", tiny_lm)
    assert "t.jsonl:1: 'contxt' is not read; did you mean 'context'? (warning)" in said
    assert "0 mistakes, 1 warning" in said


def test_validate_spread(cli, workdir, tiny_lm):
    path = write_lines({"probs": {"a": 0.5}})
    assert "sum to 0.5" in cli("targets", "validate", path, "--lm", tiny_lm, code=2)
    said = cli("targets", "validate", path, "--lm", tiny_lm, "--rest", "spread")
    p = np.append(0.5, np.full(319, 0.5 / 319))
    h = float(-(p * np.log(p)).sum())
    assert f"1 target in order, entropy {h:.3f} to {h:.3f} nats" in said


def test_validate_rows(cli, workdir, tiny_lm):
    Path("t.csv").write_text("name,token,prob\na,a,0.5\na,zebra,x\nb,no,1\n")
    lines = cli("targets", "validate", "t.csv", "--lm", tiny_lm, code=2).splitlines()
    assert [line[: line.index(" ")] for line in lines] == ["t.csv:3:", "t.csv:3:", "t.csv:"]
    assert "1 target in order" in lines[-1]


def test_validate_reads_the_shipped_targets(cli, workdir, chat_lm):
    for path in sorted((REPOSITORY / "data" / "targets").glob("*.jsonl")):
        for lm in [chat_lm] if path.name == "survey_chat.jsonl" else [EMBEDDED_LLAMA, EMBEDDED_GPT2]:
            assert "0 mistakes, 0 warnings" in cli("targets", "validate", path, "--lm", lm)


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["nope.jsonl"], "nope.jsonl: no such file"),
        (["small.yaml", "--rest", "most"], "invalid choice: 'most'"),
        (["small.yaml", "--lm", "/no/such/lm"], "no folder /no/such/lm"),
        ([], "the following arguments are required: FILE"),
    ],
)
def test_bad_validations(fails, config, tiny_lm, args, expected):
    lm = [] if "--lm" in args else ["--lm", tiny_lm]
    assert expected in fails("targets", "validate", *args, *lm)


# ---- the command itself ----


def test_help(cli, workdir):
    for args in (["targets"], ["targets", "--help"]):
        said = cli(*args)
        assert all(word in said for word in ("build", "show", "validate", "examples:"))
        assert len(said.splitlines()) < 25
    assert "--out FOLDER" in cli("targets", "build", "--help")
    assert "--rows N" in cli("targets", "show", "--help")
    assert "--rest {zero,spread}" in cli("targets", "validate", "-h")
    assert "lit_prompt targets" in cli("--help")


@pytest.mark.parametrize(
    ("command", "expected"),
    [("valdate", "no command 'valdate'; did you mean 'validate'?"), ("x", "its commands are build, show, validate")],
)
def test_unknown_command(fails, workdir, command, expected):
    assert expected in fails("targets", command)
