"""Made-up results of a study whose truth is known."""

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml

from lit_prompt.records.predictions import PREDICTIONS
from lit_prompt.records.results import RESULTS, SCHEMA

LN_V = math.log(4096)
#: KL of a kind of target as a share of that of a random target of its entropy
SHARES = {"own_lm": 0.05, "other_lm": 0.3, "other_tokenizer": 0.5, "outlier": 0.6, "random": 1.0}


def row(target_id, entropy, kl, partner_of=None, **columns):
    known = {
        "target_id": target_id, "family": target_id.split("/")[0], "partner_of": partner_of, "entropy": entropy,
        "weight": 1.0, "kl": kl, "kl_uniform": LN_V - entropy, "kl_unprompted": 9.0, "method": "soft",
        "prompt_length": 5, "seconds": 0.5, "lm": "data/lms/tales-llama", "lm_fingerprint": "llama-fingerprint",
    }  # fmt: skip
    return {name: (known | columns).get(name) for name in dict.fromkeys([*SCHEMA.names, *known, *columns])}


def study_rows(shares=SHARES, factor=1.0, count=8, noise=0.1, seed=0, **columns):
    """A grid of random targets, outlier targets with partners, LM-made targets with both partners."""
    rng = np.random.default_rng(seed)

    def kl(h, kind):
        hump = 0.02 + 2.5 * math.sin(math.pi * h / LN_V) ** 2
        return factor * shares[kind] * hump * math.exp(rng.normal(0, noise))

    rows = [
        row(f"random/{h:.2f}/{i}", h, kl(h, "random"), **columns)
        for h in np.linspace(0.1, LN_V - 0.1, 12)
        for i in range(count)
    ]
    for h in (2.0, 4.0, 6.0):
        for i in range(count):
            rows.append(row(f"outlier/{h}/{i}", h, kl(h, "outlier"), **columns))
            rows.append(row(f"random/outlier/{h}/{i}", h, kl(h, "random"), f"outlier/{h}/{i}", **columns))
    for family in ("own_lm", "other_lm", "other_tokenizer"):
        for i in range(2 * count):
            h = float(rng.uniform(2.5, 6.0))
            rows.append(row(f"{family}/{i}", h, kl(h, family), **columns))
            for kind in ("random", "outlier"):
                rows.append(row(f"{kind}/{family}/{i}", h, kl(h, kind), f"{family}/{i}", **columns))
    return rows


@pytest.fixture
def make_run(tmp_path):
    """Writes a run's folder: ``make_run("a/version_0", rows)``."""

    def make(name, rows, settings=None, tokens=None, file="results.parquet") -> Path:
        folder = tmp_path / "logs" / name
        folder.mkdir(parents=True, exist_ok=True)
        RESULTS.write(pa.Table.from_pylist(rows), folder / file)
        if settings is not None:
            config = {"model": {"class_path": "SoftPrompt", "init_args": settings}}
            (folder / "config.yaml").write_text(yaml.safe_dump(config))
        if tokens is not None:
            PREDICTIONS.write(pa.Table.from_pylist(tokens), folder / "predictions.parquet")
        return folder

    return make
