"""A small server of the embedded Llama."""

import pytest
import torch

from lit_prompt.lm import FrozenLM, LMOptions, Vocabulary
from tests.conftest import EMBEDDED_LLAMA
from tests.served.server import Served, serving


@pytest.fixture(scope="module")
def lm():
    return FrozenLM.load(str(EMBEDDED_LLAMA), LMOptions(), torch.device("cpu"))


@pytest.fixture(scope="module")
def vocabulary():
    return Vocabulary.load(str(EMBEDDED_LLAMA), LMOptions())


@pytest.fixture
def served(lm, vocabulary):
    with serving(Served(lm, vocabulary)) as found:
        yield found
