"""Sets of targets on disk."""

import json
import math
import weakref
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch

from lit_prompt.data import target_table
from lit_prompt.data.answers import Answers
from lit_prompt.data.target import Rejected, Target
from lit_prompt.data.target_set import TargetSet
from lit_prompt.errors import InputError
from lit_prompt.records.checksum import TableDigest, plain_digest

VOCAB = 31


def make(i, zeros=False):
    logits = torch.randn(VOCAB, generator=torch.Generator().manual_seed(i)) * 3
    if zeros:
        logits[::2] = -math.inf
    return Target.from_logits(
        f"f/{i}", f"family{i % 3}", logits, None if i % 4 == 0 else 2**62 + i, number=i, note="ü\n"
    )


def make_sparse(i, vocab=VOCAB, rest=0.0, **fields):
    rng = np.random.default_rng(i)
    ids = torch.from_numpy(rng.choice(vocab, size=1 + i % 5, replace=False))
    weights = torch.from_numpy(rng.random(len(ids)))
    target = Target.from_weights(f"s/{i}", "sparse", ids, weights, vocab, rest, i, number=i, note="ü\n")
    return replace(target, **fields)


@pytest.fixture
def targets():
    return [make(i, zeros=i % 2 == 1) for i in range(40)]


@pytest.fixture
def mixed():
    """Dense and sparse ones, with and without rest, context, and partner."""
    return [
        make(0),
        make_sparse(1),
        make_sparse(2, rest=0.5, partner_of="f/0"),
        replace(make(3, zeros=True), before="Q: ü\n", partner_of="s/1"),
        make_sparse(4, before="", after="\tA"),
        make_sparse(5, rest=1e-30),
    ]


def over_answers(name, **fields):
    answers = Answers(["a b", "a c", "d"], [[1, 2], [1, 3], [4]], [0, 1, 1], ["x", "y"], [0.25, 0.75], ".")
    return replace(Target.from_answers(name, "a", answers, VOCAB), **fields)


@pytest.fixture
def tasks():
    """Two tasks, one of them with what is held out, and targets outside of both between them."""
    return [
        over_answers("a/0", task="a/t", weight=2.0, before="Q: "),
        make(0),
        make_sparse(1, task="s/u", chat='[{"role": "user", "content": "{prompt}"}]'),
        over_answers("a/1", task="a/t", weight=6.0, after="A: "),
        make_sparse(2, task="a/t", held_out=True, weight=0.5),
        make_sparse(3, task="s/u"),
        over_answers("a/2"),
    ]


@pytest.fixture(params=[None, 100])
def small_blocks(request, monkeypatch):
    """Once as it is, once with record batches of three or four rows."""
    if request.param is not None:
        monkeypatch.setattr(target_table, "_ELEMENTS_PER_BLOCK", request.param)
        monkeypatch.setattr(target_table, "_ROWS_PER_BLOCK", 4)


def write(folder, targets, vocabulary="v"):
    return TargetSet.write(folder, iter(targets), VOCAB, vocabulary)


def fingerprint(tmp_path, targets, vocabulary="v"):
    return write(tmp_path / str(len(list(tmp_path.iterdir()))), targets, vocabulary).fingerprint


def test_what_is_written_is_read(tmp_path, targets):
    for targets_set in (write(tmp_path / "set", targets), TargetSet(tmp_path / "set")):
        assert len(targets_set) == len(targets)
        assert targets_set.vocab_size == VOCAB
        assert targets_set.vocabulary == "v"
        assert targets_set.target_id == [t.target_id for t in targets]
        assert targets_set.family == [t.family for t in targets]
        assert targets_set.entropy.dtype == torch.float64
        assert targets_set.entropy.tolist() == [t.entropy for t in targets]


@pytest.mark.usefixtures("small_blocks")
def test_a_batch_is_exact(tmp_path, targets):
    batch = write(tmp_path / "set", targets).batch(range(len(targets)))
    assert len(batch) == len(targets)
    assert batch.log_probs.dtype == torch.float32
    assert torch.equal(batch.log_probs, torch.stack([t.log_probs for t in targets]))
    assert batch.entropy.tolist() == [t.entropy for t in targets]
    assert batch.metadata == [{"number": i, "note": "ü\n"} for i in range(len(targets))]
    assert (batch.log_probs == -math.inf).any()


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("index", [[3], [7, 2], [39, 0, 17, 16, 15], [5, 5], range(10, 20)])
def test_the_order_of_the_index_is_kept(index, tmp_path, targets):
    batch = write(tmp_path / "set", targets).batch(index)
    wanted = [targets[i] for i in index]
    assert batch.index == list(index)
    assert batch.target_id == [t.target_id for t in wanted]
    assert batch.family == [t.family for t in wanted]
    assert torch.equal(batch.log_probs, torch.stack([t.log_probs for t in wanted]))
    assert batch.entropy.tolist() == [t.entropy for t in wanted]
    assert [m["number"] for m in batch.metadata] == list(index)


def test_a_batch_may_be_written_to(tmp_path, targets):
    targets_set = write(tmp_path / "set", targets)
    targets_set.batch([1]).log_probs.zero_()
    assert torch.equal(targets_set.batch([1]).log_probs[0], targets[1].log_probs)


def test_datasets_reads_the_folder(tmp_path, targets):
    write(tmp_path / "set", targets)
    rows = datasets.load_from_disk(str(tmp_path / "set"))
    assert rows.num_rows == len(targets)
    facts = ["target_id", "family", "entropy", "seed", "partner_of", "before", "after", "metadata"]
    facts += ["chat", "task", "weight", "held_out", "answers", "exchangeable"]
    assert set(rows.column_names) == {*facts, "token_ids", "log_probs", "rest_log_prob", "sha256"}
    assert rows["seed"][:] == [t.seed for t in targets]
    assert [json.loads(m)["number"] for m in rows["metadata"]] == list(range(len(targets)))
    np.testing.assert_array_equal(np.array(rows[3]["log_probs"], dtype=np.float32), targets[3].log_probs.numpy())


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("index", [range(6), [4], [5, 0, 5], [2, 3], [1, 4, 2]])
def test_sparse_targets_are_read_dense(index, tmp_path, mixed):
    batch = write(tmp_path / "set", mixed).batch(index)
    wanted = [mixed[i] for i in index]
    for row, target in zip(batch.log_probs, wanted, strict=True):
        expected = np.full(VOCAB, target.rest_log_prob, np.float32)
        expected[slice(None) if target.token_ids is None else target.token_ids] = target.log_probs
        np.testing.assert_array_equal(row.numpy(), expected)
    assert batch.log_probs.dtype == torch.float32
    assert batch.entropy.tolist() == [t.entropy for t in wanted]
    assert batch.partner_of == [t.partner_of for t in wanted]
    assert batch.texts == [(t.before, t.after, t.chat) for t in wanted]
    assert batch.metadata == [t.metadata for t in wanted]


def test_facts_are_in_memory(tmp_path, mixed):
    targets_set = write(tmp_path / "set", mixed)
    assert targets_set.partner_of == [None, None, "f/0", "s/1", None, None]
    assert targets_set.entropy.tolist() == [t.entropy for t in mixed]


@pytest.mark.parametrize("lm", [None, "data/lms/x"])
def test_the_lm_is_kept(lm, tmp_path, targets):
    TargetSet.write(tmp_path / "set", targets[:1], VOCAB, "v", lm)
    assert TargetSet(tmp_path / "set").lm == lm


def test_sparse_targets_are_sparse_on_disk(tmp_path):
    vocab, count = 128_000, 5000
    written = TargetSet.write(tmp_path / "set", (make_sparse(i, vocab) for i in range(count)), vocab, "v")
    size = sum(file.stat().st_size for file in written.folder.iterdir())
    assert size < 200 * count  # a dense row alone has 512,000 bytes
    rows = datasets.load_from_disk(str(written.folder))
    assert len(rows.data.column("log_probs").chunks) < 5
    assert len(rows.data.column("log_probs").combine_chunks().flatten()) == 3 * count
    assert written.batch([count - 1]).log_probs.shape == (1, vocab)


def test_dense_targets_are_written_some_at_a_time(tmp_path):
    """A source's targets may be gone as soon as a few megabytes of others have come."""
    vocab, made, alive = 2**16, [], []

    def source():
        for i in range(100):
            target = Target.from_logits(f"d/{i}", "dense", torch.zeros(vocab))
            made.append(weakref.ref(target))
            yield target
            del target
            alive.append(sum(ref() is not None for ref in made))

    TargetSet.write(tmp_path / "set", source(), vocab, "v")
    assert max(alive) * vocab <= 2 * 2**20


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_the_disk_holds_a_set_once(kind, tmp_path, monkeypatch):
    """At no time is there a second copy of the rows beside those that become the set's."""
    sizes = []
    rename = Path.rename

    def measured(self, to):
        sizes.append(sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file()))
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", measured)
    many = [make(i) if kind == "dense" else make_sparse(i) for i in range(2000)]
    final = write(tmp_path / "set", many).folder
    assert max(sizes) <= sum(file.stat().st_size for file in final.iterdir()) + 20_000


def test_rejected_ones_are_listed_not_stored(tmp_path, mixed):
    rejected = [Rejected("r/0", "r", 'mass 0.1 of "0.3"'), Rejected("r/1", "r", "ü")]
    items = [rejected[0], *mixed[:3], rejected[1], *mixed[3:]]
    for targets_set in (write(tmp_path / "set", items), TargetSet(tmp_path / "set")):
        assert targets_set.target_id == [t.target_id for t in mixed]
        assert targets_set.rejected == rejected
    assert fingerprint(tmp_path, mixed) == targets_set.fingerprint


def test_without_rejected_ones_none_is_listed(tmp_path, targets):
    assert write(tmp_path / "set", targets).rejected == []


def test_only_rejected_ones_are_refused_with_the_first_reason(tmp_path):
    items = [Rejected("r/0", "r", "mass 0.1 is too small"), Rejected("r/1", "r", "other")]
    with pytest.raises(
        InputError, match=r"none of the 2 targets could be made; the first, r/0: mass 0\.1 is too small"
    ):
        write(tmp_path / "set", items)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [
    lambda t: replace(t, log_probs=t.log_probs[:1]),
    lambda t: replace(t, token_ids=torch.arange(VOCAB - 1)),
])  # fmt: skip
def test_a_row_of_the_wrong_length_is_an_error(wrong, tmp_path):
    with pytest.raises(ValueError, match="f/0"):
        write(tmp_path / "set", [wrong(make(0))])
    assert list(tmp_path.iterdir()) == []


def test_a_set_may_be_moved(tmp_path, targets):
    first = write(tmp_path / "a" / "set", targets)
    (tmp_path / "a" / "set").rename(tmp_path / "b")
    second = TargetSet(tmp_path / "b")
    assert second.fingerprint == first.fingerprint
    assert torch.equal(second.batch([4]).log_probs[0], targets[4].log_probs)


def test_equal_sets_have_equal_fingerprints(tmp_path, targets):
    first = fingerprint(tmp_path, targets)
    assert len(first) == 16
    assert fingerprint(tmp_path, [make(i, zeros=i % 2 == 1) for i in range(40)]) == first


def nudged(target):
    log_probs = target.log_probs.clone()
    log_probs[7] = torch.nextafter(log_probs[7], torch.tensor(0.0))
    return replace(target, log_probs=log_probs)


CHANGES = {
    "a last bit": lambda t: [*t[:5], nudged(t[5]), *t[6:]],
    "an id": lambda t: [*t[:5], replace(t[5], target_id="other"), *t[6:]],
    "a family": lambda t: [*t[:5], replace(t[5], family="other"), *t[6:]],
    "a seed": lambda t: [*t[:5], replace(t[5], seed=1), *t[6:]],
    "metadata": lambda t: [*t[:5], replace(t[5], metadata={"number": 5, "note": "other"}), *t[6:]],
    "the order": lambda t: [t[1], t[0], *t[2:]],
    "ids swapped": lambda t: [
        replace(t[0], target_id=t[1].target_id), replace(t[1], target_id=t[0].target_id), *t[2:]
    ],
    "one less": lambda t: t[:-1],
    "one more": lambda t: [*t, make(40)],
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_any_change_changes_the_fingerprint(change, tmp_path, targets):
    assert fingerprint(tmp_path, CHANGES[change](targets)) != fingerprint(tmp_path, targets)


def other_last_bit(values, i=0):
    values = values.clone()
    values[i] = torch.nextafter(values[i], torch.tensor(0.0))
    return values


MIXED_CHANGES = {
    "another token": lambda t: [t[0], replace(t[1], token_ids=(t[1].token_ids + 1) % VOCAB), *t[2:]],
    "a last bit": lambda t: [t[0], replace(t[1], log_probs=other_last_bit(t[1].log_probs)), *t[2:]],
    "the rest": lambda t: [*t[:2], replace(t[2], rest_log_prob=t[2].rest_log_prob - 1e-7), *t[3:]],
    "no rest": lambda t: [*t[:2], replace(t[2], rest_log_prob=-math.inf), *t[3:]],
    "a partner": lambda t: [*t[:2], replace(t[2], partner_of="s/1"), *t[3:]],
    "no partner": lambda t: [*t[:2], replace(t[2], partner_of=None), *t[3:]],
    "text before": lambda t: [*t[:3], replace(t[3], before="Q: ü"), *t[4:]],
    "no text": lambda t: [*t[:4], replace(t[4], before=None), *t[5:]],
    "text after": lambda t: [*t[:4], replace(t[4], after="A"), *t[5:]],
    "before for after": lambda t: [*t[:4], replace(t[4], before="\tA", after=""), *t[5:]],
}


@pytest.mark.parametrize("change", MIXED_CHANGES)
def test_any_change_of_sparse_targets_changes_the_fingerprint(change, tmp_path, mixed):
    changed = MIXED_CHANGES[change](mixed)
    assert fingerprint(tmp_path, changed) != fingerprint(tmp_path, mixed)


def test_another_vocabulary_changes_the_fingerprint(tmp_path, targets):
    assert fingerprint(tmp_path, targets, "w") != fingerprint(tmp_path, targets, "v")


@pytest.mark.parametrize("at", [1, 20, 39])
def test_a_duplicate_id_is_refused_and_leaves_nothing(at, tmp_path, targets):
    targets[at] = replace(targets[at], target_id="f/0")
    with pytest.raises(InputError, match="two targets are called 'f/0'"):
        write(tmp_path / "set", targets)
    assert list(tmp_path.iterdir()) == []


def test_no_target_is_refused_and_leaves_nothing(tmp_path):
    with pytest.raises(InputError, match="no target"):
        write(tmp_path / "set", [])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("after", [0, 3, 35])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failing_source_leaves_nothing(after, error, tmp_path, targets):
    def source():
        yield from targets[:after]
        raise error("source")

    with pytest.raises(error, match="source"):
        write(tmp_path / "set", source())
    assert list(tmp_path.iterdir()) == []


def test_a_set_is_not_written_over(tmp_path, targets):
    first = write(tmp_path / "set", targets)
    with pytest.raises(OSError, match="not empty"):
        write(tmp_path / "set", targets[:3])
    assert TargetSet(tmp_path / "set").fingerprint == first.fingerprint
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_missing_parents_are_made(tmp_path, targets):
    assert len(write(tmp_path / "a" / "b" / "set", targets[:2])) == 2


@pytest.mark.parametrize("content", [None, "", "text", "{}", "[]", '{"format": 2}'])
def test_a_folder_without_a_set(content, tmp_path):
    if content is not None:
        (tmp_path / "lit_prompt.json").write_text(content)
    with pytest.raises(InputError, match="no saved set of targets") as error:
        TargetSet(tmp_path)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("version", [None, 1, 5, "4"])
def test_a_folder_of_another_version(version, tmp_path, targets):
    folder = write(tmp_path / "set", targets[:2]).folder
    info = json.loads((folder / "lit_prompt.json").read_text())
    del info["format"], info["sha256"]
    if version is not None:
        info["format"] = version
    (folder / "lit_prompt.json").write_text(json.dumps(info))
    with pytest.raises(InputError, match="saved by another version of lit_prompt; build them again") as error:
        TargetSet(folder)
    assert str(folder) in str(error.value)


def test_a_folder_without_rows(tmp_path, targets):
    folder = write(tmp_path / "set", targets[:2]).folder
    for file in folder.glob("*.arrow"):
        file.unlink()
    with pytest.raises(InputError, match="these targets cannot be read"):
        TargetSet(folder)


def test_progress_bars_stay_as_they_were(tmp_path, targets):
    before = datasets.is_progress_bar_enabled()
    try:
        for switch, state in ((datasets.enable_progress_bars, True), (datasets.disable_progress_bars, False)):
            switch()
            write(tmp_path / str(state), targets[:1])
            assert datasets.is_progress_bar_enabled() == state
    finally:
        (datasets.enable_progress_bars if before else datasets.disable_progress_bars)()


# ---- some of a set ----


@pytest.mark.parametrize("index", [[0], [1, 2, 3], [5, 0, 3], [4, 2], list(range(6))])
def test_selected_targets_are_the_same(index, tmp_path, mixed):
    whole = write(tmp_path / "set", mixed)
    some = whole.select(index, tmp_path / "some")
    expected, found = whole.batch(index), some.batch(range(len(index)))
    assert torch.equal(found.log_probs, expected.log_probs)
    assert torch.equal(found.entropy, expected.entropy)
    for name in ("target_id", "family", "metadata", "partner_of", "texts", "answers", "task_id", "held_out"):
        assert getattr(found, name) == getattr(expected, name)
    assert (some.vocab_size, some.vocabulary, some.lm) == (whole.vocab_size, whole.vocabulary, whole.lm)
    rows = datasets.load_from_disk(str(some.folder))
    assert rows.features == datasets.load_from_disk(str(whole.folder)).features
    assert [ids is None for ids in rows["token_ids"]] == [mixed[i].token_ids is None for i in index]


def test_every_selection_has_a_fingerprint_of_its_own(tmp_path, mixed):
    whole = write(tmp_path / "set", mixed)
    chosen = [[0], [1], [0, 1], [1, 0], list(range(6))]
    found = {whole.select(index, tmp_path / str(k)).fingerprint for k, index in enumerate(chosen)}
    assert len(found | {whole.fingerprint}) == len(chosen) + 1
    assert whole.select([0, 1], tmp_path / "again").fingerprint in found
    other = write(tmp_path / "other", [*mixed[:5], make_sparse(5, rest=1e-29)])
    assert other.select([0], tmp_path / "of_other").fingerprint not in found


def test_a_selection_holds_no_more_than_it_needs(tmp_path, targets):
    whole = write(tmp_path / "set", targets)
    some = whole.select([3, 30], tmp_path / "some").select([1], tmp_path / "one")
    assert some.target_id == [targets[30].target_id]
    assert len(datasets.load_from_disk(str(some.folder))) == 1
    sizes = [sum(file.stat().st_size for file in t.folder.glob("*.arrow")) for t in (some, whole)]
    assert sizes[0] < sizes[1] / 3


def test_what_is_exchangeable_is_kept_and_of_how_many_a_selection_is(tmp_path, targets):
    made = [
        replace(target, exchangeable=kind)
        for target, kind in zip(targets[:3], ("defined", None, "ordinary"), strict=True)
    ]
    whole = write(tmp_path / "set", made)
    assert whole.batch(range(3)).exchangeable == ["defined", None, "ordinary"]
    assert [target.exchangeable for target in whole.stored()] == ["defined", None, "ordinary"]
    assert whole.fingerprint == fingerprint(tmp_path, targets[:3])  # a search does not depend on it
    some = whole.select([0, 2], tmp_path / "some").select([1], tmp_path / "one")
    assert (whole.drawn, some.drawn, TargetSet(some.folder).drawn) == (3, 3, 3)
    assert some.batch([0]).exchangeable == ["ordinary"]


def test_rejected_ones_are_not_those_of_a_selection(tmp_path, mixed):
    whole = write(tmp_path / "set", [*mixed, Rejected("r/0", "random", "no")])
    assert whole.select([0], tmp_path / "some").rejected == []


# ---- damaged and exchanged files ----


def _everything(folder, index):
    targets = TargetSet(folder)
    batch = targets.batch(index)
    facts = [targets.target_id, targets.family, targets.entropy.tolist(), targets.partner_of, targets.fingerprint]
    facts += [targets.task, targets.weight.tolist(), batch.texts, batch.answers]
    return facts, batch.log_probs.tolist(), batch.metadata


def _flipped(path, step):
    """Puts every ``step``-th byte wrong, one after another, a bit each; in a new file, as the old one is mapped."""
    content = path.read_bytes()
    for place in range(0, len(content), step):
        path.unlink()
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << place // step % 8]) + content[place + 1 :])
        yield place
    path.unlink()
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "step", "least"),
    [("data-00000-of-00001.arrow", 29, 0.5), ("lit_prompt.json", 5, 1.0), ("state.json", 5, 0.5),
     ("dataset_info.json", 23, 0.5)],
)  # fmt: skip
def test_a_flipped_bit_is_found(name, step, least, tmp_path, mixed):
    folder = write(tmp_path / "set", mixed).folder
    expected = str(_everything(folder, range(6)))
    refused, tried = 0, 0
    for place in _flipped(folder / name, step):
        tried += 1
        try:
            found = str(_everything(folder, range(6)))
        except InputError as error:
            refused += str(folder) in str(error) and "\n" not in str(error)
        else:
            assert found == expected, place
    assert refused >= least * tried
    assert str(_everything(folder, range(6))) == expected


def test_a_flipped_bit_of_a_distribution_is_found_when_its_target_is_read(tmp_path, targets):
    whole = write(tmp_path / "set", targets)
    (data,) = whole.folder.glob("*.arrow")
    content, number = data.read_bytes(), targets[3].log_probs[1:4].numpy().tobytes()
    place = content.index(number) + 3
    del whole
    data.unlink()
    data.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
    damaged = TargetSet(tmp_path / "set")
    damaged.batch([0, 1, 2])  # what is read is what was written
    said = r"set: target f/3: its contents are not what was written \(checksum\); build them again with lit_prompt"
    for read in (
        lambda: damaged.batch([2, 3]),
        lambda: list(damaged.stored()),
        lambda: damaged.select([3], tmp_path / "x"),
    ):
        with pytest.raises(InputError, match=said):
            read()


def test_the_data_of_another_set_are_refused(tmp_path, targets):
    one, other = (write(tmp_path / str(i), [replace(t, seed=i) for t in targets[:3]]) for i in (1, 2))
    for each, theirs in zip(one.folder.glob("*.arrow"), other.folder.glob("*.arrow"), strict=True):
        theirs.replace(each)
    with pytest.raises(InputError, match="its contents are not what was written"):
        TargetSet(one.folder)


def test_how_a_runs_own_targets_are_built_again_is_said(tmp_path, targets):
    folder = write(tmp_path / "targets", targets[:2]).folder
    (tmp_path / "config.yaml").write_text("")
    (folder / "state.json").write_text("{}")
    with pytest.raises(InputError, match=r"move this folder away, and any command with --run \S+ builds the run's"):
        TargetSet(folder)


def _as_formerly(folder):
    """Makes a set one of the format without checksums."""
    rows = datasets.load_from_disk(str(folder)).remove_columns("sha256")
    info = json.loads((folder / "lit_prompt.json").read_text())
    kept = {name: value for name, value in info.items() if name not in ("sha256", "rows")} | {"format": 2}
    rows.save_to_disk(str(folder.parent / "former"))
    (folder.parent / "former" / "lit_prompt.json").write_text(json.dumps(kept))
    return folder.parent / "former"


def test_a_set_of_before_checksums_is_read_and_its_selections_have_them(tmp_path, mixed):
    whole = write(tmp_path / "set", mixed)
    former = TargetSet(_as_formerly(whole.folder))
    assert torch.equal(former.batch(range(6)).log_probs, whole.batch(range(6)).log_probs)
    some, same = former.select([4, 1], tmp_path / "some"), whole.select([4, 1], tmp_path / "same")
    for name in ("rows", "format"):
        assert len({json.loads((each.folder / "lit_prompt.json").read_text())[name] for each in (some, same)}) == 1
    assert torch.equal(some.batch([0]).log_probs, whole.batch([4]).log_probs)


def made_before_tasks():
    halves = Target.from_weights("s/0", "s", torch.tensor([3, 5]), torch.tensor([0.5, 0.5]), 8, note="ü")
    rest = Target.from_weights("s/1", "s", torch.tensor([1]), torch.tensor([0.5]), 9, 0.5, seed=7)
    dense = Target("d/0", "d", torch.tensor([0.5] * 2 + [0.0] * 7).log(), math.log(2), 2**62, {"a": [1]})
    return [halves, replace(rest, before="Q: ü", after="", partner_of="s/0"), dense]


# what the version before tasks wrote for these targets
FINGERPRINT_BEFORE_TASKS = "9461ca227a94189e"
ROWS_BEFORE_TASKS = "d6ab2e90e7c40e0504b9fba0fd93a0577e1ad57a1d684c01c56536887809af63"
COLUMNS_BEFORE_TASKS = (
    "target_id", "family", "token_ids", "log_probs", "rest_log_prob", "entropy", "seed", "partner_of", "before",
    "after", "metadata",
)  # fmt: skip


def _as_before_tasks(folder):
    """Makes a set one of the format without tasks, as it was written then."""
    rows = datasets.load_from_disk(str(folder)).select_columns(list(COLUMNS_BEFORE_TASKS))
    rows = rows.add_column("sha256", target_table._checksums(rows.with_format("arrow")[:]))
    light = rows.select_columns(["target_id", "family", "entropy", "partner_of", "before", "after", "sha256"])
    digest = TableDigest()
    digest.update(light.with_format("arrow")[:])
    info = json.loads((folder / "lit_prompt.json").read_text()) | {"format": 3, "rows": digest.hexdigest()}
    del info["sha256"]
    info["sha256"] = plain_digest(info)
    former = folder.parent / "former"
    rows.save_to_disk(str(former))
    (former / "lit_prompt.json").write_text(json.dumps(info))
    return former


def test_a_set_of_before_tasks_is_read_and_is_the_same_set(tmp_path):
    now = TargetSet.write(tmp_path / "now", made_before_tasks(), 9, "v", "lm")
    former = TargetSet(_as_before_tasks(now.folder))
    assert json.loads((former.folder / "lit_prompt.json").read_text())["rows"] == ROWS_BEFORE_TASKS
    assert now.fingerprint == former.fingerprint == FINGERPRINT_BEFORE_TASKS
    for name in ("target_id", "texts", "task_ids", "held_out", "partner_of"):
        assert getattr(former, name) == getattr(now, name)
    assert former.task_ids == ["s/0", "s/1", "d/0"]
    assert former.weight.tolist() == [1.0, 1.0, 1.0]
    for one, other, made in zip(former.stored(), now.stored(), made_before_tasks(), strict=True):
        assert str(one) == str(other) == str(made)
    some = former.select([2, 1], tmp_path / "some")
    assert json.loads((some.folder / "lit_prompt.json").read_text())["format"] == 4
    assert some.target_id == ["d/0", "s/1"]


# ---- tasks ----


def test_targets_of_a_task_share_it(tmp_path, tasks):
    written = write(tmp_path / "set", tasks)
    for targets in (written, TargetSet(tmp_path / "set")):
        assert targets.task_ids == ["a/t", "f/0", "s/u", "a/2"]
        assert targets.task == [0, 1, 2, 0, 0, 2, 3]
        assert targets.weight.tolist() == [0.25, 1.0, 0.5, 0.75, 1.0, 0.5, 1.0]
        assert [targets.members(task) for task in range(4)] == [[0, 3], [1], [2, 5], [6]]
        assert [targets.members(task, held_out=True) for task in range(4)] == [[4], [], [], []]
        assert targets.has_tasks
    batch = targets.batch([4, 3, 0, 1])
    assert batch.task_id == ["a/t", "a/t", "a/t", "f/0"]
    assert batch.tasks == {0: [0, 1, 2], 1: [3]}
    assert batch.held_out == [True, False, False, False]
    assert batch.weight.tolist() == [1.0, 0.75, 0.25, 1.0]
    assert batch.texts == [tasks[i].texts for i in (4, 3, 0, 1)]


def test_answers_are_read_as_they_were(tmp_path, tasks):
    targets = write(tmp_path / "set", tasks)
    batch = targets.batch(range(len(tasks)))
    assert batch.answers == [t.answers for t in tasks]
    assert [tree is None for tree in batch.trees] == [t.answers is None for t in tasks]
    assert float(batch.entropy[0]) == pytest.approx(-0.25 * math.log(0.25) - 0.75 * math.log(0.75))
    np.testing.assert_allclose(batch.log_probs[0].exp()[[1, 4]], [0.625, 0.375])
    for found, target in zip(targets.stored(), tasks, strict=True):
        assert str(found) == str(target)
    assert len(set(batch.fingerprints)) == len(tasks) - 2  # the same distribution has the same


def test_a_set_without_tasks_has_a_task_a_target(tmp_path, mixed):
    targets = write(tmp_path / "set", mixed)
    assert targets.task_ids == targets.target_id
    assert not targets.has_tasks


TASK_CHANGES = {
    "another task": lambda t: replace(t, task="a/u"),
    "no task": lambda t: replace(t, task=None),
    "a weight": lambda t: replace(t, weight=3.0),
    "held out": lambda t: replace(t, held_out=True),
    "a chat": lambda t: replace(t, before=None, chat="[]"),
    "no answers": lambda t: replace(t, answers=None),
    "a cell's share": lambda t: replace(t, answers=replace(t.answers, probs=[0.75, 0.25])),
    "an answer": lambda t: replace(t, answers=replace(t.answers, ids=[[1, 2], [1, 5], [4]])),
    "an end": lambda t: replace(t, answers=replace(t.answers, end=True)),
}


@pytest.mark.parametrize("change", TASK_CHANGES)
def test_any_change_of_a_task_changes_the_fingerprint(change, tmp_path, tasks):
    changed = [TASK_CHANGES[change](tasks[0]), *tasks[1:]]
    assert fingerprint(tmp_path, changed) != fingerprint(tmp_path, tasks)


@pytest.mark.parametrize("weight", [0.0, -1.0, math.nan, math.inf])
def test_a_weight_is_positive(weight, tmp_path, tasks):
    with pytest.raises(InputError, match=f"a/0: weight is {weight:g}; it must be a positive number"):
        write(tmp_path / "set", [replace(tasks[0], weight=weight), *tasks[1:]])
    assert list(tmp_path.iterdir()) == []


def test_a_task_needs_something_to_search_for(tmp_path, tasks):
    cases = {"s/u": [*tasks[:2], replace(tasks[2], held_out=True)], "a/2": [replace(tasks[6], held_out=True)]}
    for name, wrong in cases.items():
        with pytest.raises(InputError, match=rf"{name}: all of it is held out \(split: test\)"):
            write(tmp_path / "set", wrong)
        assert list(tmp_path.iterdir()) == []


def test_a_task_is_not_called_as_a_target_outside_of_it(tmp_path, tasks):
    with pytest.raises(InputError, match="'a/2' is the name of a task and of a target that is in none; rename one"):
        write(tmp_path / "set", [*tasks, make_sparse(5, task="a/2")])
    assert write(tmp_path / "own", [replace(tasks[0], task="a/0"), replace(tasks[3], task="a/0")]).task_ids == ["a/0"]


def test_tasks_of_a_selection(tmp_path, tasks):
    some = write(tmp_path / "set", tasks).select([4, 3, 6], tmp_path / "some")
    assert some.task_ids == ["a/t", "a/2"]
    assert some.weight.tolist() == [1.0, 1.0, 1.0]
    assert some.batch([1]).answers == [tasks[3].answers]


def test_a_flipped_bit_of_a_task_is_found(tmp_path, tasks):
    folder = write(tmp_path / "set", tasks).folder
    expected, index = str(_everything(folder, range(7))), range(7)
    for place in _flipped(folder / "data-00000-of-00001.arrow", 61):
        try:
            found = str(_everything(folder, index))
        except InputError:
            continue
        assert found == expected, place
