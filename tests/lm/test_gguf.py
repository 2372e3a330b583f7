"""LMs out of GGUF files, written here from a folder: the same LM, and one line for what cannot be read."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from lit_prompt.errors import InputError
from lit_prompt.lm import FrozenLM, LMOptions, Vocabulary, load_causal_lm
from lit_prompt.lm import gguf as ours

gguf = pytest.importorskip("gguf")
pytest.importorskip("accelerate")

#: name in a folder: name in GGUF
_TENSORS = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "model.layers.{}.self_attn.q_proj": "blk.{}.attn_q", "model.layers.{}.self_attn.k_proj": "blk.{}.attn_k",
    "model.layers.{}.self_attn.v_proj": "blk.{}.attn_v", "model.layers.{}.self_attn.o_proj": "blk.{}.attn_output",
    "model.layers.{}.mlp.gate_proj": "blk.{}.ffn_gate", "model.layers.{}.mlp.up_proj": "blk.{}.ffn_up",
    "model.layers.{}.mlp.down_proj": "blk.{}.ffn_down", "model.layers.{}.input_layernorm": "blk.{}.attn_norm",
    "model.layers.{}.post_attention_layernorm": "blk.{}.ffn_norm",
}  # fmt: skip


def write_gguf(folder: Path, path: Path, quantise: bool = False, architecture: str = "llama") -> Path:
    """Writes a Llama of a folder as llama.cpp's converter does: halves of the heads of q and k interleaved."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    config, tokenizer = model.config, json.loads((folder / "tokenizer.json").read_text())
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    by_id = {i: token for token, i in tokenizer["model"]["vocab"].items()}
    special = {token["id"]: token["content"] for token in tokenizer["added_tokens"]}
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([(by_id | special)[i] for i in range(config.vocab_size)])
    kinds = gguf.TokenType
    writer.add_token_types([kinds.CONTROL if i in special else kinds.NORMAL for i in range(config.vocab_size)])
    merges = tokenizer["model"]["merges"]
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    state = model.state_dict()
    for layer in range(config.num_hidden_layers):
        for name, other in _TENSORS.items():
            if layer and "{}" not in name:
                continue
            weight = state[f"{name.format(layer)}.weight"].numpy()
            heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(name[-6:])
            if heads is not None:
                weight = weight.reshape(heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)
            if quantise and weight.ndim == 2:
                kind = gguf.GGMLQuantizationType.Q8_0
                writer.add_tensor(f"{other.format(layer)}.weight", gguf.quantize(weight, kind), raw_dtype=kind)
            else:
                writer.add_tensor(f"{other.format(layer)}.weight", np.ascontiguousarray(weight))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the unpacked LMs of a test go."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "hub"))
    ours.unpacked.cache_clear()
    return tmp_path / "hub" / "lit_prompt"


@pytest.fixture(scope="module")
def file(tiny_lm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tiny_lm, tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def test_it_is_the_lm_of_the_folder(file: Path, tiny_lm: Path) -> None:
    mine, its = (FrozenLM.load(str(lm), LMOptions()) for lm in (file, tiny_lm))
    ids = torch.randint(320, (4, 7), generator=torch.Generator().manual_seed(0))
    assert torch.equal(mine.next_token_logits(mine.embed(ids)), its.next_token_logits(its.embed(ids)))
    mine_words, its_words = (Vocabulary.load(str(lm), LMOptions()) for lm in (file, tiny_lm))
    text = " The king had three sons, é\n"
    assert mine_words.encode(text) == its_words.encode(text)
    assert mine_words.fingerprint == its_words.fingerprint


def test_a_file_is_unpacked_once(file: Path, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = FrozenLM.load(str(file), LMOptions())
    ours.unpacked.cache_clear()
    monkeypatch.setattr(ours, "_unpack", lambda path, folder: pytest.fail("unpacked twice"))
    assert FrozenLM.load(str(file), LMOptions()).fingerprint == first.fingerprint
    assert [folder.name[:5] for folder in kept.iterdir()] == ["tiny-"]
    (folder,) = kept.iterdir()
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1  # whoever may read one may read all


def test_a_file_of_the_hub(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(*args: str, **options: Any) -> str:
        asked.append((*args, options["revision"]))
        return str(file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    options = LMOptions(revision="v2")
    assert len(Vocabulary.load("org/tiny:tiny.Q8.gguf", options).tokenizer) == 320
    assert asked == [("org/tiny", "tiny.Q8.gguf", "v2")]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_quantised_weights_come_in_the_wanted_dtype(dtype: str, tiny_lm: Path, tmp_path: Path) -> None:
    path = write_gguf(tiny_lm, tmp_path / "q8.gguf", quantise=True)
    model = load_causal_lm(str(path), LMOptions(dtype=dtype))
    assert {parameter.dtype for parameter in model.parameters()} == {getattr(torch, dtype)}
    folder = AutoModelForCausalLM.from_pretrained(tiny_lm, dtype=torch.float32)
    exact = gguf.dequantize(*_quantised(folder.lm_head.weight.detach().numpy()))
    expected = torch.from_numpy(exact).to(getattr(torch, dtype))
    assert torch.equal(model.get_output_embeddings().weight.data, expected)


def _quantised(weight: np.ndarray) -> tuple[np.ndarray, Any]:
    kind = gguf.GGMLQuantizationType.Q8_0
    return gguf.quantize(weight, kind), kind


def test_a_run_on_a_file_is_searched_and_tested(file: Path, cli: Callable[..., str]) -> None:
    Path("two.yaml").write_text("data: {families: [{class_path: OneHot, init_args: {count: 2}}]}\nmodel: {steps: 3}\n")
    cli("fit", "--config", "two.yaml", "--lm", file)
    said = cli("test", "--run", "logs/two/version_0")
    assert "prompts.safetensors" in said


def test_what_cannot_be_read_is_one_line(
    file: Path, tiny_lm: Path, tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusal(lm: Path | str) -> str:
        with pytest.raises(InputError) as caught:
            load_causal_lm(str(lm), LMOptions())
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert refusal(tmp_path / "none.gguf").startswith(f"--lm: no file {tmp_path / 'none.gguf'}")
    assert not kept.exists()
    assert refusal(file.parent).endswith(f"name the file: --lm {file}")
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(file.read_bytes()[:-1000])
    assert refusal(cut).startswith(f"--lm: the model of {cut} could not be loaded")
    other = write_gguf(tiny_lm, tmp_path / "other.gguf", architecture="rwkv6")
    assert "reads no GGUF file of the architecture rwkv6" in refusal(other)
    monkeypatch.setattr(ours, "find_spec", lambda name: None)
    assert "pip install 'lit_prompt[gguf]'" in refusal(file)
