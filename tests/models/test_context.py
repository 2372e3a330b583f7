"""Targets with contexts of their own: against transformers itself, and alike in any company."""

import shutil
from dataclasses import replace

import lightning as L
import pyarrow.parquet as pq
import pytest
import scipy.stats
import torch
import transformers
from lightning.pytorch.loggers import CSVLogger

from lit_prompt.callbacks.results import ResultWriter
from lit_prompt.data import Target, TargetSet
from lit_prompt.data.datamodule import TargetDataModule
from lit_prompt.errors import InputError
from lit_prompt.lm import AllowedTokens, FrozenLM, LMOptions, Vocabulary
from lit_prompt.models.prompt_init import PromptInit
from lit_prompt.scoring import prompted_lm
from lit_prompt.search import TokenStart
from tests.conftest import EMBEDDED_GPT2, EMBEDDED_LLAMA

TALE = "Once upon a time there was a little girl who lived"
#: before and after of nine targets: the module's, each alone, both, none at all, and several lengths
TEXTS = [
    (None, None),
    ("Yes, said the fox", None),
    (None, " and no, said the crow"),
    ("one, two,", " three"),
    ("", ""),
    (TALE, None),
    (f"{TALE} {TALE[:24]}", " the king"),
    (None, None),
    ("", f" {TALE}"),
]
MODULE = {"before": "The king", "after": " had"}


@pytest.fixture
def write_set(tmp_path):
    """Saves a set of random targets, one for each pair of texts before and after the prompt."""

    def write(lm, texts=tuple(TEXTS), order=None, name="set"):
        vocabulary = Vocabulary.load(str(lm), LMOptions())
        targets = []
        for i, (before, after) in enumerate(texts):
            logits = 2 * torch.randn(vocabulary.size, generator=torch.Generator().manual_seed(i))
            target = Target.from_logits(f"t{i}", "random", logits, seed=i)
            targets.append(replace(target, before=before, after=after, partner_of=f"t{i - 1}" if i % 2 else None))
        chosen = [targets[i] for i in (order or range(len(targets)))]
        return TargetSet.write(tmp_path / name, chosen, vocabulary.size, vocabulary.fingerprint).folder

    return write


def effective(texts):
    return tuple(own if own is not None else MODULE[key] for own, key in zip(texts, MODULE, strict=True))


@pytest.mark.parametrize("lm", ["llama", "gemma2", "opt", EMBEDDED_LLAMA, EMBEDDED_GPT2])
def test_a_result_depends_on_its_own_context_alone(search, write_set, make_lm, lm):
    folder = make_lm(lm) if isinstance(lm, str) else lm
    saved = write_set(folder)
    settings = {"steps": 20 if isinstance(lm, str) else 8, "restarts": 2, "length": 3, **MODULE}
    together = search(folder, saved, 64, **settings).results
    assert together.kl.isfinite().all()
    for chunk_size in (1, 3):
        other = search(folder, saved, chunk_size, **settings).results
        assert torch.equal(other.kl, together.kl), chunk_size
        assert torch.equal(other.prompts, together.prompts), chunk_size
    order = [5, 0, 8, 3, 1, 7, 2, 6, 4]
    shuffled = search(folder, write_set(folder, order=order, name="shuffled"), 4, **settings).results
    assert torch.equal(shuffled.kl, together.kl[order])
    assert torch.equal(shuffled.prompts, together.prompts[order])


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma2", "gemma3", "opt"])
def test_every_number_is_that_of_transformers_in_the_targets_own_context(search, write_set, make_lm, architecture):
    folder = make_lm(architecture)
    module = search(folder, write_set(folder), 4, steps=20, length=3, **MODULE)
    batch = module.data.targets.batch(range(len(TEXTS)))
    columns, log_q = module.evaluator.columns(batch, module.results)
    plain = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    embed = plain.get_input_embeddings()

    def embedded(text):
        return embed(torch.tensor(tokenizer.encode(text, add_special_tokens=False), dtype=torch.long))

    def reached(embeddings):
        with torch.no_grad():
            return plain(inputs_embeds=embeddings.unsqueeze(0)).logits[0, -1].double().softmax(-1).numpy()

    for i, texts in enumerate(TEXTS):
        before, after = effective(texts)
        p = batch.log_probs[i].double().exp().numpy()
        q = reached(torch.cat([embedded(before), module.results.prompts[i, 0], embedded(after)]))
        kl = scipy.stats.entropy(p, q)
        assert columns["kl"][i] == pytest.approx(kl, abs=1e-5)
        assert float(module.results.kl[i, 0]) == pytest.approx(kl, abs=1e-4)
        assert scipy.stats.entropy(log_q[i].exp().numpy(), q) == pytest.approx(0, abs=1e-8)
        nothing = torch.cat([embedded(before), embedded(after)])
        if len(nothing) == 0:
            nothing = embed(torch.tensor([tokenizer.bos_token_id]))
        assert columns["kl_unprompted"][i] == pytest.approx(scipy.stats.entropy(p, reached(nothing)), abs=1e-5)
    assert list(zip(columns["context_before"], columns["context_after"], strict=True)) == list(map(effective, TEXTS))


def test_an_lm_without_bos_and_eos_gives_nothing_unprompted_but_after_a_text(search, write_set, tiny_lm):
    module = search(tiny_lm, write_set(tiny_lm), steps=1)
    module.data.vocabulary.tokenizer.bos_token = module.data.vocabulary.tokenizer.eos_token = None
    columns, _ = module.evaluator.columns(module.data.targets.batch(range(len(TEXTS))), module.results)
    assert [kl is None for kl in columns["kl_unprompted"]] == [not any(texts) for texts in TEXTS]


def test_each_context_is_computed_once_without_a_prompt(search, write_set, tiny_lm, monkeypatch):
    module = search(tiny_lm, write_set(tiny_lm, [("one,", None), (None, " two")] * 5), steps=1)
    rows = []
    frames = prompted_lm.frames

    def noted(lm, contexts, length):
        if length == 0:
            rows.extend(contexts)
        return frames(lm, contexts, length)

    monkeypatch.setattr(prompted_lm, "frames", noted)
    module.evaluator.columns(module.data.targets.batch(range(10)), module.results)
    assert [(c.before, c.after) for c in rows] == [("one,", ""), ("", " two")]


def test_memory_that_runs_out_changes_nothing(search, write_set, tiny_lm, monkeypatch):
    saved = write_set(tiny_lm)
    normal = search(tiny_lm, saved, steps=10, restarts=2, **MODULE).results
    features = FrozenLM.features

    def small_device(self, inputs_embeds, *args):
        if inputs_embeds.shape[0] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return features(self, inputs_embeds, *args)

    monkeypatch.setattr(FrozenLM, "features", small_device)
    module = search(tiny_lm, saved, steps=10, restarts=2, **MODULE)
    assert torch.equal(module.results.kl, normal.kl)
    assert torch.equal(module.results.prompts, normal.prompts)
    assert module.evaluator.columns(module.data.targets.batch(range(9)), module.results)[0]["kl"] == pytest.approx(
        normal.kl.amin(1).tolist(), abs=1e-4
    )


def test_test_writes_contexts_partners_and_the_same_kl(search, write_set, tiny_lm, tmp_path):
    saved = write_set(tiny_lm)
    module = search(tiny_lm, saved, 4, steps=10, **MODULE)
    kl = module.results.kl[:, 0].tolist()
    data = TargetDataModule(load=saved, chunk_size=2, lm=str(tiny_lm))
    trainer = L.Trainer(
        accelerator="cpu", devices=1, logger=CSVLogger(tmp_path, "run"), callbacks=[ResultWriter()],
        enable_checkpointing=False, enable_progress_bar=False,
    )  # fmt: skip
    trainer.test(module, datamodule=data, verbose=False)
    rows = pq.read_table(tmp_path / "run" / "version_0" / "results.parquet").to_pylist()
    assert [row["kl"] for row in rows] == pytest.approx(kl, abs=1e-4)
    assert [row["partner_of"] for row in rows] == [f"t{i - 1}" if i % 2 else None for i in range(9)]
    assert [(row["context_before"], row["context_after"]) for row in rows] == list(map(effective, TEXTS))


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ((TALE * 3, None), r"t1: in this target's own context .* make \d+, .* takes 64; .* texts before and after it"),
        ((None, TALE * 3), r"t1: in this target's own context "),
    ],
)
def test_a_context_that_is_too_long_names_its_target(search, write_set, tiny_lm, texts, said):
    with pytest.raises(InputError, match=said):
        search(tiny_lm, write_set(tiny_lm, [(None, None), texts]), steps=1)


def test_the_modules_context_may_be_too_long_where_no_target_has_it(search, write_set, tiny_lm):
    own = write_set(tiny_lm, [("one,", None), ("two,", None)], name="own")
    assert search(tiny_lm, own, steps=1, before=TALE * 3).results.kl.isfinite().all()
    with pytest.raises(InputError, match=r"^the prompt is longer than .* model\.before"):
        search(tiny_lm, write_set(tiny_lm, [("one,", None), (None, None)]), steps=1, before=TALE * 3)


def test_a_context_may_fill_the_lm(search, write_set, make_lm):
    for architecture in ("gpt2", "opt", "llama"):
        folder = make_lm(architecture)
        ids = Vocabulary.load(str(folder), LMOptions()).encode(" the" * 60)[:59]
        text = transformers.AutoTokenizer.from_pretrained(folder).decode(ids)
        texts = [(text, None), (text[:-4], None), (None, None)]
        bank = search(folder, write_set(folder, texts, name=architecture), steps=5).results
        assert bank.kl.isfinite().all()


@pytest.fixture
def short_lm(tiny_lm, tmp_path):
    """An LM with embeddings for 300 of its tokenizer's 320 tokens, and a text of one of the others."""
    folder = tmp_path / "short"
    shutil.copytree(tiny_lm, folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny_lm)
    model.resize_token_embeddings(300)
    model.save_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    return folder, next(text for i in range(300, 320) if tokenizer.encode(text := tokenizer.decode([i])) == [i])


def test_texts_that_the_lm_has_no_embedding_for_are_refused(search, search_hard, write_set, short_lm):
    lm, text = short_lm
    said = "holds tokens that the LM does not know"
    for where in ("before", "after"):
        with pytest.raises(InputError, match=rf"^model\.before or model\.after: .* {said}"):
            search(lm, write_set(lm, [(None, None)], name=where), steps=1, **{where: text})
    with pytest.raises(InputError, match=rf"^t1: .* {said}"):
        search(lm, write_set(lm, [(None, None), (text, None)], name="own"), steps=1)
    with pytest.raises(InputError, match=said):
        search(lm, write_set(lm, [(None, None)], name="init"), steps=1, init=PromptInit("text", text=text))
    with pytest.raises(InputError, match=said):
        search_hard(lm, write_set(lm, [(None, None)], name="start"), length=2, start=TokenStart("text", text=text))


def test_a_prompt_whose_text_the_lm_does_not_know_has_no_kl_as_text(search_hard, write_set, short_lm):
    lm, text = short_lm
    tokenizer = transformers.AutoTokenizer.from_pretrained(lm)
    (token,) = tokenizer.tokenize(text)
    letters = tokenizer.convert_tokens_to_ids(list(token))
    module = search_hard(
        lm, write_set(lm, [(None, None)]), length=len(letters), steps=1, readable=False,
        tokens=AllowedTokens(allow=letters), start=TokenStart("random"),
    )  # fmt: skip
    module.results.prompts[0, 0] = torch.tensor(letters)
    columns, _ = module.evaluator.columns(module.data.targets.batch([0]), module.results)
    assert columns["prompt_text"] == [text]
    assert columns["kl"][0] is not None
    assert columns["kl_text"] == [None]
