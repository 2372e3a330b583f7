"""LMs with weights in 8 and 4 bits: the distributions of plain transformers, gradients, floors, errors in a line."""

from pathlib import Path

import pytest
import torch

from lit_prompt.errors import InputError
from lit_prompt.lm import FrozenLM, LMOptions, load_causal_lm
from lit_prompt.lm.half import half_copy
from lit_prompt.lm.quantization import quantizing
from tests.faults.commands import run

LM = str(Path(__file__).parents[2] / "data/lms/tales-llama")  # bitsandbytes wants widths of 64 and more
KINDS = ("8bit", "4bit")


def load(lm: Path | str, kind: str) -> FrozenLM:
    return FrozenLM.load(str(lm), LMOptions(quantization=kind), torch.device("cpu"))


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_lm_that_transformers_quantizes(kind: str) -> None:
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    lm = load(LM, kind)
    assert {weight.dtype for weight in lm.model.parameters()} == {
        torch.float32,
        torch.int8 if kind == "8bit" else torch.uint8,
    }
    if kind == "8bit":
        settings = BitsAndBytesConfig(load_in_8bit=True)
    else:
        settings = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32
        )
    plain = AutoModelForCausalLM.from_pretrained(
        LM, quantization_config=settings, dtype=torch.float32, device_map={"": "cpu"}
    )
    ids = torch.arange(3, 19).view(2, 8)
    embeddings = lm.embed(ids).requires_grad_(True)  # without, it takes a bfloat16 kernel on some CPUs
    wanted = plain(inputs_embeds=embeddings).logits[:, -1].log_softmax(-1)
    with torch.no_grad():
        found = lm.next_token_logits(embeddings).log_softmax(-1)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    assert lm.is_linear  # its head is a float32 one: floors hold for it
    assert load(LM, kind).fingerprint == lm.fingerprint
    assert lm.fingerprint != FrozenLM.load(LM, LMOptions()).fingerprint
    assert half_copy(lm, 512) is None


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_the_prompt(kind: str) -> None:
    directions = []
    for lm in (load(LM, kind), FrozenLM.load(LM, LMOptions(), torch.device("cpu"))):
        prompt = lm.embed(torch.arange(3, 11).unsqueeze(0)).clone().requires_grad_(True)
        lm.next_token_logits(prompt).log_softmax(-1)[0, 7].backward()
        directions.append(prompt.grad.flatten())
    assert torch.nn.functional.cosine_similarity(*directions, dim=0) > 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_a_search_on_it_and_its_evaluation(kind: str, workdir: Path) -> None:
    families = "[{class_path: EntropyMatched, init_args: {entropies: [2], per_entropy: 1}}]"
    words = ("--lm_options.quantization", kind, "--model", "SoftPrompt", "--model.length", 2, "--model.steps", 30)
    outcome = run("fit", "--lm", LM, *words, "--data.families", families)
    assert outcome.code == 0, outcome.said
    assert outcome.said.count("float16") == 0  # a line a product, as bitsandbytes has it
    (folder,) = Path("logs").glob("*/version_0")
    outcome = run("test", "--run", folder)
    assert outcome.code == 0, outcome.said
    assert "Traceback" not in outcome.said


def test_a_gguf_file_is_not_quantized_again(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").touch()
    with pytest.raises(InputError, match="is a GGUF file"):
        quantizing(str(tmp_path / "model.gguf"), LMOptions(quantization="8bit"), None)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.quantizers.quantizer_bnb_8bit.is_bitsandbytes_available", lambda: False)
    with pytest.raises(InputError, match="need bitsandbytes: pip install 'lit_prompt\\[quantization\\]'"):
        load_causal_lm(LM, LMOptions(quantization="8bit"))
