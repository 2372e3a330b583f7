"""Memory where the vocabulary is large: few distributions at once in float64, and the same numbers."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lit_prompt.data import datamodule
from lit_prompt.data.families import EntropyMatched
from lit_prompt.models import PromptModule
from lit_prompt.models.floors import FloorOptions
from lit_prompt.models.known import KnownOptions
from lit_prompt.objectives import forward_kl
from lit_prompt.scoring import prompted_lm
from tests.conftest import VOCABULARY

TARGETS, RESTARTS, AT_ONCE = 5, 2, 2


class LargestDouble(TorchDispatchMode):
    """Notes how many distributions a float64 tensor holds at most."""

    most = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for x in tree_leaves(result):
            if isinstance(x, torch.Tensor) and x.dtype == torch.float64 and x.shape[-1:] == (VOCABULARY,):
                self.most = max(self.most, x.numel() // VOCABULARY)
        return result


def test_few_distributions_are_held_in_float64_whatever_the_number_of_targets(search, tiny_lm, monkeypatch):
    """Building targets and solving floors have bounds of their own."""
    monkeypatch.setattr(PromptModule, "known_options", KnownOptions(FloorOptions(solve=False)))
    settings = {"length": 2, "steps": 3, "restarts": RESTARTS}
    module = search(tiny_lm, [EntropyMatched(TARGETS, 1)], **settings)
    (batch,) = module.data.evaluation_dataloader()
    assert len(batch) == TARGETS
    module.evaluator.start(module.results)
    whole, means = module.evaluator.update(batch, module.results), module.evaluator.means("test")

    monkeypatch.setattr(datamodule, "_PROBABILITIES", (AT_ONCE * RESTARTS + 1) * VOCABULARY)
    monkeypatch.setattr(forward_kl, "_ROWS", AT_ONCE)
    monkeypatch.setattr(prompted_lm, "_BYTES_PER_PART", 8 * AT_ONCE * RESTARTS * VOCABULARY)
    monkeypatch.setattr(prompted_lm, "_FEWEST_ROWS", 1)
    with LargestDouble() as during:
        other = search(tiny_lm, module.data.targets.folder, **settings)
        parts = list(other.data.evaluation_dataloader())
        other.evaluator.start(other.results)
        found = [other.evaluator.update(part, other.results) for part in parts]
        for part in parts:
            other.evaluator.token_records(part, other.results)
    assert [len(part) for part in parts] == [2, 2, 1]
    assert during.most == AT_ONCE * RESTARTS
    for name, values in whole.items():
        if name != "seconds":
            again = [value for part in found for value in part[name]]
            assert again == (pytest.approx(values, rel=1e-6) if isinstance(values[0], float) else values), name
    torch.testing.assert_close(other.evaluator.means("test"), means)
