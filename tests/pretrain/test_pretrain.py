"""The command, as a user calls it: text in, an LM's folder out."""

import math

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoModelForCausalLM, AutoTokenizer

from lit_prompt.errors import InputError
from lit_prompt.pretrain import CausalLMTraining
from tests.conftest import REPOSITORY

CONFIG = REPOSITORY / "configs" / "pretrain" / "minute.yaml"
TEXT = REPOSITORY / "data" / "lms" / "heldout.txt"
SMALL = [
    "--config", CONFIG, "--data.texts.path", TEXT, "--trainer.max_steps", 12, "--trainer.val_check_interval", 12,
    "--data.context", 32, "--data.batch_size", 4, "--trainer.enable_progress_bar", "false",
]  # fmt: skip


def _scalars(run, tag):
    events = EventAccumulator(str(run))
    events.Reload()
    return [scalar.value for scalar in events.Scalars(tag)]


def test_the_shipped_minute_run_makes_an_lm_that_can_be_searched(cli, workdir):
    cli("pretrain", "--config", CONFIG, "--data.texts.path", TEXT, "--trainer.enable_progress_bar", "false")
    run = workdir / "logs" / "minute" / "version_0"
    losses = _scalars(run, "train/nats_per_token")
    assert losses[0] > 5.0  # ln 512 is 6.2
    assert losses[-1] < 1.0  # it has learnt its four kilobytes by heart
    assert len({path.stat().st_mode for path in (run / "lm").iterdir()}) == 1  # whoever may read one may read all
    target = workdir / "targets.jsonl"
    target.write_text('{"probs": {" the": 0.5, " a": 0.5}}\n')
    families = '[{"class_path": "FromFile", "init_args": {"path": "targets.jsonl"}}]'
    cli("fit", "--lm", run / "lm", "--data.families", families, "--model.init_args.steps", 2)
    assert "1" in cli("test", "--run", "logs/default/version_0")


def test_held_out_loss_against_transformers(cli, workdir):
    printed = cli("pretrain", *SMALL)
    run = workdir / "logs" / "minute" / "version_0"
    lm = AutoModelForCausalLM.from_pretrained(run / "lm", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(run / "lm")
    ids = []
    for paragraph in TEXT.read_text().split("\n\n"):
        ids += [*tokenizer.encode(paragraph.strip()), tokenizer.eos_token_id]
    held_out = torch.tensor(ids[len(ids) - int(0.1 * len(ids)) :])
    nats = []
    for start in range(0, len(held_out) - 32, 32):
        window = held_out[start : start + 33]
        with torch.no_grad():
            log_q = lm(window[None, :-1]).logits[0].double().log_softmax(-1)
        nats.append(-log_q.gather(1, window[1:, None]).mean().item())
    (logged,) = _scalars(run, "val/nats_per_token")
    assert logged == pytest.approx(sum(nats) / len(nats), abs=1e-4)
    size = len(tokenizer.decode(held_out, skip_special_tokens=True).encode()) / len(held_out)
    assert _scalars(run, "val/bits_per_byte")[0] == pytest.approx(logged / math.log(2) / size, rel=1e-4)
    assert f"{logged:.4f}" in printed
    assert "lm" in printed


def test_an_interrupted_training_goes_on_to_the_same_weights(cli, workdir, monkeypatch):
    every = ["--checkpoint.every_n_steps", 4]
    cli("pretrain", *SMALL, *every)
    step = CausalLMTraining.training_step

    def killed(self, batch, batch_idx):
        if batch_idx == 9:
            raise InputError("killed")
        return step(self, batch, batch_idx)

    monkeypatch.setattr(CausalLMTraining, "training_step", killed)
    cli("pretrain", *SMALL, *every, code=2)
    run = workdir / "logs" / "minute" / "version_1"
    assert not (run / "lm").exists()
    monkeypatch.undo()
    monkeypatch.chdir(workdir)
    cli("pretrain", "--run", run.relative_to(workdir))
    whole = load_file(workdir / "logs" / "minute" / "version_0" / "lm" / "model.safetensors")
    resumed = load_file(run / "lm" / "model.safetensors")
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_another_tokenizer_architecture_and_precision(cli, workdir, tiny_lm):
    cli(
        "pretrain", *SMALL, "--data.tokenizer", tiny_lm, "--model.architecture", "gpt_neox", "--model.save_dtype",
        "float16", "--model.out", "made",
    )  # fmt: skip
    made = workdir / "made"
    assert AutoTokenizer.from_pretrained(made).get_vocab() == AutoTokenizer.from_pretrained(tiny_lm).get_vocab()
    assert {tensor.dtype for tensor in load_file(made / "model.safetensors").values()} == {torch.float16}
    assert AutoModelForCausalLM.from_pretrained(made).config.model_type == "gpt_neox"
    assert "holds an LM already" in cli("pretrain", *SMALL, "--model.out", "made", code=2)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--trainer.max_steps", "-1"], "trainer.max_steps is not set"),
        (["--model.architecture", "gpt_nix"], "model.architecture, model.options:"),
        (["--data.texts.path", "none.txt"], "none.txt: no such file"),
        (["--data.context", "100000"], "too few for windows of data.context 100000"),
        (["--data.context", "200"], "data.context is 200, but the LM has 128 positions"),
        (["--data.held_out", "2"], "data.held_out is 2"),
        (["--data.batchsize", "2"], "data.batch_size"),
        (["--model.optimizer.init_args.lr", "1e30"], "the loss is nan"),
    ],
)
def test_mistakes_are_one_line(given, message, cli):
    printed = cli("pretrain", *SMALL, *given, code=2)
    assert message in printed
    assert "Traceback" not in printed
