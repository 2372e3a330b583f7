"""Loading LMs: what comes back, and one helpful line for everything that can be wrong with a folder."""

import importlib.util
import json
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lit_prompt.errors import InputError
from lit_prompt.lm import FrozenLM, LMOptions, load_causal_lm, load_tokenizer
from tests.conftest import EMBEDDED_GPT2, EMBEDDED_LLAMA, REPOSITORY

MakeLM = Callable[..., Path]


@pytest.fixture
def folder(tiny_lm: Path, tmp_path: Path) -> Path:
    """A copy of a tiny Llama that a test may damage."""
    return Path(shutil.copytree(tiny_lm, tmp_path / "lm"))


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def refusal(load: Callable[[str, LMOptions], Any], lm: Path | str, **options: Any) -> str:
    """The error's text, which must be one line."""
    with pytest.raises(InputError) as caught:
        load(str(lm), LMOptions(**options))
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    return message


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
@pytest.mark.parametrize("stored", [torch.float32, torch.float16])
def test_weights_have_the_wanted_dtype_and_are_frozen(dtype: str, stored: torch.dtype, make_lm: MakeLM) -> None:
    model = load_causal_lm(str(make_lm("llama", dtype=stored)), LMOptions(dtype=dtype))
    assert {parameter.dtype for parameter in model.parameters()} == {getattr(torch, dtype)}
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not model.training


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
def test_dtype_auto_is_what_the_files_hold(stored: torch.dtype, make_lm: MakeLM) -> None:
    model = load_causal_lm(str(make_lm("llama", dtype=stored)), LMOptions(dtype="auto"))
    assert {parameter.dtype for parameter in model.parameters()} == {stored}


def test_default_dtype_is_float32_whatever_the_files_hold(make_lm: MakeLM) -> None:
    model = load_causal_lm(str(make_lm("llama", dtype=torch.float16)), LMOptions())
    assert model.dtype == torch.float32


@pytest.mark.parametrize("lm", [EMBEDDED_LLAMA, EMBEDDED_GPT2], ids=lambda lm: lm.name)
class TestEmbeddedLM:
    def test_is_stored_in_half_and_used_in_float32(self, lm: Path) -> None:
        assert load_causal_lm(str(lm), LMOptions(dtype="auto")).dtype == torch.float16
        assert load_causal_lm(str(lm), LMOptions()).dtype == torch.float32

    def test_has_the_loss_that_its_readme_states(
        self, lm: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        text = str(lm.parent / "heldout.txt")
        monkeypatch.setattr("sys.argv", ["lm_loss.py", str(lm), "--text", text, "--context", "128"])
        monkeypatch.setenv("COLUMNS", "200")
        runpy.run_path(str(REPOSITORY / "benchmarks" / "lm_loss.py"), run_name="__main__")
        printed = [cell.strip() for cell in capsys.readouterr().out.split("│")]
        measured = printed[printed.index("float16") + 1 :][:3]
        rows = (lm.parent / "README.md").read_text(encoding="utf-8").splitlines()
        (stated,) = [row.strip("| ").split(" | ")[2:] for row in rows if row.startswith(f"| data/lms/{lm.name} |")]
        assert [float(value) for value in measured] == pytest.approx([float(value) for value in stated], abs=2e-4)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_attention_implementation_is_the_wanted_one(attention: str, tiny_lm: Path) -> None:
    model = load_causal_lm(str(tiny_lm), LMOptions(attention=attention))
    assert model.config._attn_implementation == attention


def test_sharded_weights_load_like_one_file(tiny_lm: Path, tmp_path: Path) -> None:
    whole = load_causal_lm(str(tiny_lm), LMOptions())
    whole.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    parts = load_causal_lm(str(tmp_path), LMOptions()).state_dict()
    assert all(torch.equal(tensor, parts[name]) for name, tensor in whole.state_dict().items())


def test_tokenizer_is_that_of_the_folder(tiny_lm: Path, tokenizer: Any) -> None:
    assert load_tokenizer(str(tiny_lm), LMOptions()).get_vocab() == tokenizer.get_vocab()


@pytest.mark.parametrize("load", [load_causal_lm, load_tokenizer])
class TestBothRefuse:
    @pytest.mark.parametrize("lm", ["/nowhere/lm", "./nowhere", "data/lms/nowhere", "../nowhere"])
    def test_path_that_is_missing(self, load: Any, lm: str, workdir: Path) -> None:
        message = refusal(load, lm)
        assert f"no folder {lm}" in message
        assert "hub id" in message

    def test_folder_without_config(self, load: Any, folder: Path) -> None:
        (folder / "config.json").unlink()
        assert f"{folder} holds no config.json" in refusal(load, folder)

    @pytest.mark.parametrize("lm", ["nobody/no-such-lm", "no-such-lm"])
    def test_hub_id_without_network(self, load: Any, lm: str, workdir: Path) -> None:
        message = refusal(load, lm)
        assert f"{lm} is no local folder" in message
        assert "HF_HUB_OFFLINE is set" in message
        assert "network" in message

    @pytest.mark.parametrize("text", ["{ not json", "[1, 2]", "\0", ""])
    def test_malformed_config(self, load: Any, text: str, folder: Path) -> None:
        (folder / "config.json").write_text(text)
        message = refusal(load, folder)
        assert f"{folder} could not be loaded" in message

    def test_config_value_of_the_wrong_type(self, load: Any, folder: Path) -> None:
        edit_config(folder, num_attention_heads="four")
        message = refusal(load, folder)
        assert "num_attention_heads" in message
        assert "four" in message


def test_malformed_config_is_named(folder: Path) -> None:
    (folder / "config.json").write_text("{ not json")
    assert f"{folder / 'config.json'}' is not a valid JSON file" in refusal(load_causal_lm, folder)


@pytest.mark.parametrize("name", ["lm", "safetensors", "accelerate"])
def test_pickled_weights_are_refused_whatever_the_folder_is_called(name: str, folder: Path) -> None:
    folder = folder.rename(folder.with_name(name))
    torch.save(load_causal_lm(str(folder), LMOptions()).state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    message = refusal(load_causal_lm, folder)
    assert f"{folder} holds no model.safetensors" in message
    assert "convert" in message


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def replace_by_git_lfs_pointer(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 42\n")


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [truncate, replace_by_git_lfs_pointer, empty])
def test_damaged_weights(damage: Callable[[Path], None], folder: Path) -> None:
    damage(folder / "model.safetensors")
    message = refusal(load_causal_lm, folder)
    assert f"{folder} is cut off or damaged" in message
    assert "again" in message


def test_missing_shard_is_named(folder: Path) -> None:
    load_causal_lm(str(folder), LMOptions()).save_pretrained(folder, max_shard_size="20KB")
    (folder / "model.safetensors").unlink()
    shard = next(folder.glob("model-00002-of-*.safetensors"))
    shard.unlink()
    assert shard.name in refusal(load_causal_lm, folder)


def test_weights_that_the_files_lack_are_not_made_up(folder: Path) -> None:
    edit_config(folder, num_hidden_layers=3)
    message = refusal(load_causal_lm, folder)
    assert "lack 9 weights" in message
    assert "model.layers.2." in message


def test_weights_that_nothing_calls_for(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    edit_config(folder, num_hidden_layers=1)
    message = refusal(load_causal_lm, folder)
    assert "hold 9 weights that its configuration has no place for, such as model.layers.1." in message
    assert capfd.readouterr().err == ""


def test_weights_of_another_shape(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    edit_config(folder, intermediate_size=80)
    message = refusal(load_causal_lm, folder)
    expected = "hold model.layers.0.mlp.down_proj.weight of shape 32 x 64 (and 5 more), where its configuration calls "
    assert f"{folder} {expected}for 32 x 80; its config.json" in message
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("architecture", "buffers"),
    [
        ("gpt2", ["h.0.attn.bias", "h.1.attn.masked_bias"]),
        ("gpt_neox", ["gpt_neox.layers.0.attention.masked_bias"]),
        ("llama", ["model.layers.0.self_attn.rotary_emb.inv_freq"]),
        ("opt", ["model.decoder.version"]),
    ],
)
def test_what_an_architecture_once_kept_beside_its_weights(
    architecture: str, buffers: list[str], make_lm: MakeLM, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(make_lm(architecture), tmp_path / "lm"))
    weights = load_file(folder / "model.safetensors")
    save_file(weights | {name: torch.ones(1) for name in buffers}, folder / "model.safetensors", {"format": "pt"})
    load_causal_lm(str(folder), LMOptions())


def shard(folder: Path, name: str, configured: bool = False) -> None:
    """Leaves a folder with its weights in a pickle, and an index that names them."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    if (folder / name).suffix == ".safetensors":
        save_file(weights, folder / name, {"format": "pt"})
    else:
        torch.save(weights, folder / name)
    index = {"metadata": {}, "weight_map": dict.fromkeys(weights, name)}
    file = "weights.safetensors.index.json" if configured else "model.safetensors.index.json"
    (folder / file).write_text(json.dumps(index))
    if configured:
        edit_config(folder, transformers_weights=file)


@pytest.mark.parametrize("configured", [True, False])
@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "../x.safetensors", "{root}/x.safetensors"])
def test_an_index_of_other_files_is_refused_before_they_are_read(
    name: str, configured: bool, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = name.format(root=tmp_path)
    shard(folder, name, configured)
    monkeypatch.setattr(torch, "load", None)
    message = refusal(load_causal_lm, folder)
    assert f".safetensors.index.json of {folder} names {name}, which is no safetensors file of its folder" in message


def test_an_index_of_files_of_the_folder_is_none_to_refuse(folder: Path) -> None:
    (folder / "parts").mkdir()
    shard(folder, "parts/x.safetensors")
    load_causal_lm(str(folder), LMOptions())


def test_a_configuration_that_names_a_pickle(folder: Path) -> None:
    shard(folder, "adapter_model.bin")
    edit_config(folder, transformers_weights="adapter_model.bin")
    assert f"config.json of {folder} names adapter_model.bin" in refusal(load_causal_lm, folder)


@pytest.mark.parametrize("text", ["[]", "{}", '{"weight_map": 3}'])
def test_a_malformed_index_is_named(text: str, folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(text)
    assert f"model.safetensors.index.json of {folder} is damaged" in refusal(load_causal_lm, folder)


def test_unknown_model_type_is_named(folder: Path) -> None:
    edit_config(folder, model_type="zebra")
    message = refusal(load_causal_lm, folder)
    assert "`zebra`" in message
    assert "Transformers" in message


def test_model_that_is_no_causal_lm(folder: Path) -> None:
    edit_config(folder, model_type="t5")
    assert "AutoModelForCausalLM" in refusal(load_causal_lm, folder)


# some tokenizer classes fail without their files, others come up empty
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "qwen2", "gpt_neox", "gemma"])
def test_folder_without_tokenizer(architecture: str, make_lm: MakeLM, tmp_path: Path) -> None:
    folder = tmp_path / "lm"
    shutil.copytree(make_lm(architecture), folder, ignore=shutil.ignore_patterns("tokenizer*", "special_tokens*"))
    message = refusal(load_tokenizer, folder)
    assert f"{folder} has no tokenizer" in message
    assert "tokenizer.json" in message


@pytest.mark.parametrize("text", ["{ not json", "{}", '{"version": "1.0", "added_tokens": [], "model": {"type": "?"}}'])
def test_malformed_tokenizer(text: str, folder: Path) -> None:
    (folder / "tokenizer.json").write_text(text)
    assert f"the tokenizer of {folder} could not be loaded" in refusal(load_tokenizer, folder)


@pytest.mark.skipif(importlib.util.find_spec("accelerate") is not None, reason="accelerate is installed")
def test_device_map_without_accelerate(tiny_lm: Path) -> None:
    message = refusal(load_causal_lm, tiny_lm, device_map="auto")
    assert "lm_options.device_map needs accelerate" in message
    assert "pip install accelerate" in message


def test_attention_implementation_that_does_not_exist(tiny_lm: Path) -> None:
    assert 'attn_implementation="flash"' in refusal(load_causal_lm, tiny_lm, attention="flash")


class TestRemoteCode:
    @pytest.fixture
    def marker(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """Turns the folder into a model with code of its own; the file appears when that code runs."""
        marker = folder.parent / "ran"
        edit_config(
            folder,
            model_type="mine",
            auto_map={"AutoConfig": "mine.MineConfig", "AutoModelForCausalLM": "mine.MineForCausalLM"},
        )
        (folder / "mine.py").write_text(
            "from pathlib import Path\n"
            "from transformers import LlamaConfig, LlamaForCausalLM\n"
            f"Path({str(marker)!r}).touch()\n"
            "class MineConfig(LlamaConfig):\n"
            "    model_type = 'mine'\n"
            "class MineForCausalLM(LlamaForCausalLM):\n"
            "    config_class = MineConfig\n"
        )
        # where transformers copies such code to
        monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(folder.parent / "modules"))
        monkeypatch.setattr("sys.path", list(sys.path))
        return marker

    def test_is_not_run_by_default(self, folder: Path, marker: Path) -> None:
        message = refusal(load_causal_lm, folder)
        assert "--lm_options.trust_remote_code true" in message
        assert not marker.exists()

    def test_is_run_when_trusted(self, folder: Path, marker: Path) -> None:
        lm = FrozenLM(load_causal_lm(str(folder), LMOptions(trust_remote_code=True)))
        assert type(lm.model).__name__ == "MineForCausalLM"
        assert lm.is_linear
        assert marker.exists()


# ---- adapters ----


@pytest.mark.parametrize("load", [load_tokenizer, load_causal_lm])
@pytest.mark.parametrize(("alone", "holds"), [(True, "alone"), (False, "beside its model")])
def test_an_adapter_is_never_left_out_silently(load, folder, alone, holds):
    (folder / "adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": "some/base", "peft_type": "LORA"})
    )
    if alone:
        (folder / "config.json").unlink()
    message = refusal(load, folder)
    assert f"{folder} holds a PEFT adapter {holds} (for some/base); adapters are not loaded: merge it" in message


def test_an_adapter_without_its_config_is_one_too(folder):
    (folder / "adapter_model.safetensors").write_bytes(b"")
    assert "holds a PEFT adapter beside its model; adapters are not loaded" in refusal(load_causal_lm, folder)


def test_an_adapter_of_the_hub_is_named(monkeypatch, tmp_path):
    config = tmp_path / "adapter_config.json"
    config.write_text(json.dumps({"base_model_name_or_path": "some/base"}))
    monkeypatch.setattr("transformers.utils.peft_utils.find_adapter_config_file", lambda *_, **__: str(config))
    assert "--lm: some/adapter holds a PEFT adapter (for some/base)" in refusal(load_tokenizer, "some/adapter")


def test_the_hub_is_asked_once_for_an_adapter(monkeypatch):
    asked = []
    monkeypatch.setattr("transformers.utils.peft_utils.find_adapter_config_file", lambda lm, **_: asked.append(lm))
    for load in (load_tokenizer, load_causal_lm):
        assert "some/model is no local folder" in refusal(load, "some/model")
    assert asked == ["some/model"]
