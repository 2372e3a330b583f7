"""What stands in front of a text, through searches and evaluation: every number is that of the text that is pasted."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
import yaml

from lit_prompt.data import Target, TargetSet
from lit_prompt.data.contexts import ContextCut
from lit_prompt.data.families import FromLM, OneHot
from lit_prompt.data.texts import TextSource
from lit_prompt.functional import seed_for
from lit_prompt.lm import LMCache, LMOptions, Vocabulary, sample_prompts
from lit_prompt.records.prompts import read_prompts
from lit_prompt.records.results import RESULTS
from lit_prompt.search import TokenStart
from tests.conftest import FRONTS
from tests.models.pasted import Pasted
from tests.saved import parts

every_front = pytest.mark.parametrize("front", FRONTS)
#: before and after of four targets: none, both, the module's, each alone
TEXTS = [("", ""), ("Yes, said the fox", " and no,"), (None, None), ("The king", ""), ("", " had")]
BANK = TokenStart(random_sequences=4, sampled_texts=4, drawn_sequences=2)


@pytest.fixture
def write_set(tmp_path):
    """Saves a set of random targets, one for each pair of texts before and after the prompt."""

    def write(lm, texts=tuple(TEXTS)):
        vocabulary = Vocabulary.load(str(lm), LMOptions())
        targets = []
        for i, (before, after) in enumerate(texts):
            logits = 2 * torch.randn(vocabulary.size, generator=torch.Generator().manual_seed(i))
            targets.append(replace(Target.from_logits(f"t{i}", "random", logits), before=before, after=after))
        return TargetSet.write(tmp_path / "set", targets, vocabulary.size, vocabulary.fingerprint).folder

    return write


def evaluated(module):
    batch = module.data.targets.batch(range(len(module.data.targets)))
    return batch, module.evaluator.columns(batch, module.results)[0]


def around(texts):
    return ("Once upon" if texts[0] is None else texts[0], " said" if texts[1] is None else texts[1])


MODULE = {"before": "Once upon", "after": " said"}


@every_front
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_hard_prompts_numbers_are_those_of_the_pasted_text(
    search_hard, write_set, make_lm_with_front, front, architecture
):
    folder = make_lm_with_front(front, architecture)
    pasted = Pasted(folder)
    module = search_hard(folder, write_set(folder), 3, length=3, steps=4, start=BANK, **MODULE)
    batch, columns = evaluated(module)
    for i, texts in enumerate(TEXTS):
        before, after = around(texts)
        log_p, text = batch.log_probs[i], columns["prompt_text"][i]
        whole = pasted.ids(before + text + after)
        after_ids = pasted.tokenizer(after, add_special_tokens=False)["input_ids"]
        assert whole == pasted.ids(before) + module.results.prompts[i, 0].tolist() + after_ids
        kl = pasted.kl(log_p, whole)
        assert float(module.results.kl[i, 0]) == pytest.approx(kl, abs=1e-5)
        assert columns["kl"][i] == pytest.approx(kl, abs=1e-5)
        assert columns["kl_text"][i] == pytest.approx(kl, abs=1e-5)
        nothing = pasted.ids(before + after) or [pasted.tokenizer.bos_token_id]
        assert columns["kl_unprompted"][i] == pytest.approx(pasted.kl(log_p, nothing), abs=1e-5)
        assert columns["unprompted_text"][i] == pasted.tokenizer.decode(nothing)
        about = 128, 3, seed_for("baselines", "natural"), LMCache(module.lm)
        natural = sample_prompts(module.lm, module.data.vocabulary, *about).tolist()
        kls = [pasted.kl(log_p, pasted.ids(before) + own + after_ids) for own in natural]
        assert columns["kl_best_natural"][i] == pytest.approx(min(kls), abs=1e-5)
    assert columns["in_front"] == ["" if front == "none" else "<s>"] * len(TEXTS)


@every_front
@pytest.mark.parametrize("bos", ["auto", "always", "never"])
def test_a_soft_prompt_follows_what_stands_in_front(search, write_set, make_lm_with_front, front, bos):
    folder = make_lm_with_front(front)
    pasted = Pasted(folder)
    module = search(folder, write_set(folder), 3, length=2, steps=8, lm_options=LMOptions(bos=bos), **MODULE)
    batch, columns = evaluated(module)
    has_bos = bos == "always" or (bos == "auto" and front != "none")
    for i, texts in enumerate(TEXTS):
        before, after = (pasted.tokenizer(x, add_special_tokens=False)["input_ids"] for x in around(texts))
        start = [*([pasted.tokenizer.bos_token_id] if has_bos else []), *before]
        whole = torch.cat([pasted.embed(start), module.results.prompts[i, 0], pasted.embed(after)])
        kl = pasted.kl(batch.log_probs[i], embeddings=whole)
        assert float(module.results.kl[i, 0]) == pytest.approx(kl, abs=1e-4)
        assert columns["kl"][i] == pytest.approx(kl, abs=1e-5)


@every_front
def test_the_context_of_a_target_that_the_lm_has_made_is_a_prompt_for_it(
    search_hard, make_lm_with_front, tmp_path, front
):
    folder = make_lm_with_front(front)
    (tmp_path / "texts.txt").write_text("The king had three sons, and the youngest of them")
    source = FromLM(contexts=TextSource(str(tmp_path / "texts.txt")), cut=ContextCut(4, 9), count=1, partners=False)
    (made,) = source.targets(Vocabulary.load(str(folder), LMOptions()))
    context = made.metadata["context"]
    pasted = Pasted(folder)
    assert pasted.kl(made.log_probs, pasted.ids(context)) == pytest.approx(0, abs=1e-9)
    length = len(pasted.tokenizer(context, add_special_tokens=False)["input_ids"])
    start = TokenStart("text", text=context)
    module = search_hard(folder, [source], length=length, steps=1, start=start, readable=False)
    assert evaluated(module)[1]["kl"] == pytest.approx([0.0], abs=1e-5)


def test_a_text_that_spells_bos_is_warned_of_once(search, write_set, make_lm_with_front, caplog):
    folder = make_lm_with_front("bos")
    texts = [(None, None), ("<s>The king", None), ("<s>Yes", None)]
    search(folder, write_set(folder, texts), steps=1, before="<s>Once upon")
    warned = [record.message for record in caplog.records if "'<s>'" in record.message]
    named = [message.split(" begins with")[0] for message in warned]
    assert named == ["model.before", "t1: the text before its prompt"]
    assert all(message.endswith("set lm_options.bos to never") for message in warned)
    caplog.clear()
    settings = {"steps": 1, "before": "<s>Once upon", "lm_options": LMOptions(bos="never")}
    search(folder, [OneHot(count=1)], **settings)
    assert "'<s>'" not in caplog.text


CONFIG = """\
model: {class_path: HardPrompt, init_args: {length: 2, steps: 3, start: {random_sequences: 2, sampled_texts: 0}}}
data: {families: [{class_path: OneHot, init_args: {count: 2}}]}
trainer: {accelerator: cpu}
"""


def test_a_run_says_what_stands_in_front_and_keeps_to_it(cli, workdir, make_lm_with_front):
    (workdir / "small.yaml").write_text(CONFIG)
    cli("fit", "--config", "small.yaml", "--lm", make_lm_with_front("bos_eos"))
    run = workdir / "logs" / "small" / "version_0"
    assert yaml.safe_load((run / "config.yaml").read_text())["lm_options"]["bos"] == "auto"
    said = cli("test", "--run", run)
    assert "In front of every text stands '<s>'." in said
    assert RESULTS.read(run / "results.parquet")["in_front"].to_pylist() == ["<s>"] * 2
    assert read_prompts(run / "prompts.safetensors")[1]["in_front"] == "<s>"
    for command in ("fit", "test"):
        said = cli(command, "--run", run, "--lm_options.bos", "never", code=2)
        assert "was made with '<s>' in front of every text, this run has nothing; set lm_options.bos to auto" in said


def test_a_run_of_before_had_nothing_in_front(cli, workdir, make_lm_with_front):
    """Its settings and its checkpoint say nothing about it."""
    (workdir / "small.yaml").write_text(CONFIG)
    cli("fit", "--config", "small.yaml", "--lm", make_lm_with_front("bos"), "--lm_options.bos", "never")
    run = workdir / "logs" / "small" / "version_0"
    (part,) = parts(run).values()
    shutil.rmtree(run / "chunks")
    (run / "checkpoints").mkdir()
    about = {name: part["about"][name] for name in ("lm", "lm_fingerprint", "targets", "settings")}
    former = {"format": 2, "results": part["results"], **about}
    lightning = {"pytorch-lightning_version": "2.6.0", "epoch": 1, "global_step": 4, "state_dict": {}}
    torch.save({**lightning, "lit_prompt": former}, run / "checkpoints" / "last.ckpt")
    settings = yaml.safe_load((run / "config.yaml").read_text())
    del settings["lm_options"]["bos"]
    (run / "config.yaml").write_text(json.dumps(settings))
    said = cli("test", "--run", run)
    assert "Nothing stands in front of a text." in said
    assert "the LM unprompted is the LM after '<s>'" in said
    assert "a former lit_prompt wrote this checkpoint; it can be tested" in cli("fit", "--run", run, code=2)
    assert "set lm_options.bos to never" in cli("test", "--run", run, "--lm_options.bos", "auto", code=2)


def test_a_first_token_may_be_likely_after_bos(search_hard, make_lm_with_front):
    """Fluency counts the first token of a prompt, too, where something stands in front of it."""
    folder = make_lm_with_front("bos")
    pasted = Pasted(folder)
    module = search_hard(folder, [OneHot(count=1)], length=2, steps=1, start=BANK, fluency=1.0)
    (ids,) = module.results.prompts[0].tolist()
    with torch.no_grad():
        log_q = pasted.model(torch.tensor([[1, *ids]])).logits[0].double().log_softmax(-1)
    own = -float(log_q[0, ids[0]] + log_q[1, ids[1]]) / 2
    kl = pasted.kl(module.data.targets.batch([0]).log_probs[0], [1, *ids])
    assert float(module.results.kl[0, 0]) == pytest.approx(kl + own, abs=1e-4)
