"""Sets of targets on disk."""

import json
import math
from dataclasses import replace

import datasets
import numpy as np
import pytest
import torch

from lit_prompt.data.target import Target
from lit_prompt.data.target_set import TargetSet
from lit_prompt.errors import InputError

VOCAB = 31


def make(i, zeros=False):
    logits = torch.randn(VOCAB, generator=torch.Generator().manual_seed(i)) * 3
    if zeros:
        logits[::2] = -math.inf
    return Target.from_logits(
        f"f/{i}", f"family{i % 3}", logits, None if i % 4 == 0 else 2**62 + i, number=i, note="ü\n"
    )


@pytest.fixture
def targets():
    return [make(i, zeros=i % 2 == 1) for i in range(40)]  # more than two record batches


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


def test_a_batch_is_exact(tmp_path, targets):
    batch = write(tmp_path / "set", targets).batch(range(len(targets)))
    assert len(batch) == len(targets)
    assert batch.log_probs.dtype == torch.float32
    assert torch.equal(batch.log_probs, torch.stack([t.log_probs for t in targets]))
    assert batch.entropy.tolist() == [t.entropy for t in targets]
    assert batch.metadata == [{"number": i, "note": "ü\n"} for i in range(len(targets))]
    assert (batch.log_probs == -math.inf).any()


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
    assert rows.column_names == ["target_id", "family", "log_probs", "entropy", "seed", "metadata"]
    assert rows["seed"][:] == [t.seed for t in targets]
    assert [json.loads(m)["number"] for m in rows["metadata"]] == list(range(len(targets)))
    np.testing.assert_array_equal(np.array(rows[3]["log_probs"], dtype=np.float32), targets[3].log_probs.numpy())


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


@pytest.mark.parametrize("content", [None, "", "text", "{}"])
def test_a_folder_without_a_set(content, tmp_path):
    if content is not None:
        (tmp_path / "lit_prompt.json").write_text(content)
    with pytest.raises(InputError, match="no saved set of targets") as error:
        TargetSet(tmp_path)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_progress_bars_stay_as_they_were(tmp_path, targets):
    before = datasets.is_progress_bar_enabled()
    try:
        for switch, state in ((datasets.enable_progress_bars, True), (datasets.disable_progress_bars, False)):
            switch()
            write(tmp_path / str(state), targets[:1])
            assert datasets.is_progress_bar_enabled() == state
    finally:
        (datasets.enable_progress_bars if before else datasets.disable_progress_bars)()
