"""Prompts over time in TensorBoard."""

import re

import pyarrow.parquet as pq
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lit_prompt.results.text import as_json

CONFIG = """
model:
  class_path: HardPrompt
  init_args:
    length: 3
    steps: {steps}
    patience: {patience}
    fluency: {fluency}
    searcher: {{class_path: SharedSearch, init_args: {{width: 4, top_k: 16}}}}
    start: {{random_sequences: 2, sampled_texts: 0, drawn_sequences: 1}}
data:
  chunk_size: {chunk}
  families:
    - class_path: EntropyMatched
      init_args: {{entropies: 3, per_entropy: {count}}}
"""  # three entropies


@pytest.fixture
def tables(cli, workdir, tiny_lm):
    """Tables of a run, by tag and step."""

    def run(steps=6, patience="null", fluency=0.0, chunk=4, count=2):
        settings = {"steps": steps, "patience": patience, "fluency": fluency, "chunk": chunk, "count": count}
        (workdir / "hard.yaml").write_text(CONFIG.format(**settings))
        cli("fit", "--config", "hard.yaml", "--lm", tiny_lm)
        events = EventAccumulator("logs/hard/version_0", size_guidance={"tensors": 0}).Reload()
        tags = [tag for tag in events.Tags()["tensors"] if tag.startswith("prompts/")]
        return {
            tag.split("/")[1]: [(e.step, e.tensor_proto.string_val[0].decode()) for e in events.Tensors(tag)]
            for tag in tags
        }

    return run


def kls(table):
    return [float(kl) for kl in re.findall(r"\| (\d+\.\d+) \|", table)]


def test_prompts_are_shown_over_time_with_their_kl(tables, cli):
    found = tables()
    assert list(found) == ["chunk_0", "chunk_1"]
    assert [step for step, _ in found["chunk_0"]] == list(range(1, 7))  # each once
    assert [step for step, _ in found["chunk_1"]] == list(range(7, 13))
    cli("test", "--run", "logs/hard/version_0")
    rows = pq.read_table("logs/hard/version_0/results.parquet").to_pylist()
    shown = []
    for steps in found.values():
        over_time = list(zip(*(kls(table) for _, table in steps), strict=True))
        assert all(list(kl) == sorted(kl, reverse=True) for kl in over_time)
        shown += steps[-1][1].splitlines()[2:]
    assert shown == [
        f"| `{row['target_id']}` | {row['kl']:.4f} | {span} |"
        for row, span in zip(rows, (line.split(" | ")[-1][:-2] for line in shown), strict=True)
    ]
    for row, line in zip(rows, shown, strict=True):
        assert as_json(row["prompt_text"]) in line


def test_a_long_search_is_shown_some_twenty_times(tables):
    steps = [step for step, _ in tables(steps=50)["chunk_0"]]
    assert steps == [*range(1, 50, 2), 50]


def test_a_chunk_that_stops_early_ends_with_what_it_found(tables):
    steps = [step for step, _ in tables(steps=60, patience=2)["chunk_0"]]
    assert len(set(steps)) == len(steps)
    assert steps[-1] < 60


def test_more_targets_than_rows_are_counted(tables):
    last = tables(steps=1, chunk=64, count=10)["chunk_0"][-1][1]
    assert len(kls(last)) == 24
    assert last.endswith("\n\n... and 6 more")


def test_a_score_with_fluency_is_called_so(tables):
    assert "| KL + fluency (nats) |" in tables(steps=1, fluency=0.5)["chunk_0"][0][1]
