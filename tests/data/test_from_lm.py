import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lit_prompt.data import Rejected, Target
from lit_prompt.data.contexts import ContextCut
from lit_prompt.data.families import FromLM
from lit_prompt.data.texts import TextSource
from lit_prompt.errors import InputError
from lit_prompt.lm import LMOptions, Vocabulary
from tests.conftest import EMBEDDED_GPT2, EMBEDDED_LLAMA

TEXTS = [
    "Once upon a time there was a little house by the sea.",
    "The king had three sons and one crow; the crow said no.",
    "Yes, said the fox, the youngest of them was called Hans.",
    "There was a girl who lived there, and she had a house.",
]


@pytest.fixture
def contexts(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("\n\n".join(TEXTS))
    return TextSource(str(path))


def _reference(folder, context, temperature=1.0):
    """float64 probabilities after a context, by transformers alone."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokens = AutoTokenizer.from_pretrained(folder)(context, return_tensors="pt")
    with torch.no_grad():
        logits = model(tokens["input_ids"]).logits[0, -1].double().numpy() / temperature
    p = np.exp(logits - logits.max())
    return p / p.sum()


def _targets(family, folder):
    return list(family.targets(Vocabulary.load(str(folder), LMOptions())))


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_own_lm(temperature, tiny_lm, contexts):
    made = _targets(FromLM(contexts=contexts, count=4, temperature=temperature, partners=False), tiny_lm)
    assert [t.target_id for t in made] == ["lm/0", "lm/1", "lm/2", "lm/3"]
    for target in made:
        assert any(text.startswith(target.metadata["context"]) for text in TEXTS)
        expected = _reference(tiny_lm, target.metadata["context"], temperature)
        np.testing.assert_allclose(target.log_probs.double().exp(), expected, rtol=1e-4, atol=1e-8)
        assert target.entropy == pytest.approx(-(expected * np.log(expected)).sum(), abs=1e-5)
        assert target.metadata["mass_lost"] == target.metadata["mass_moved"] == 0.0
        assert target.metadata["source_lm"] == str(tiny_lm)


def test_another_lm_of_the_same_tokenizer_sees_the_same_contexts(make_lm, tiny_lm, contexts):
    other = make_lm("gpt_neox")
    own = _targets(FromLM(contexts=contexts, count=4, partners=False), tiny_lm)
    made = _targets(FromLM(str(other), contexts=contexts, count=4, partners=False), tiny_lm)
    assert [t.metadata["context"] for t in made] == [t.metadata["context"] for t in own]
    for target in made:
        expected = _reference(other, target.metadata["context"])
        np.testing.assert_allclose(target.log_probs.double().exp(), expected, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("kind", ["shared_tokens", "first_piece"])
def test_another_tokenizer(kind, contexts):
    """Against a dictionary of the tokens' texts, for the tokens that are text in both tokenizers."""
    made = _targets(
        FromLM(str(EMBEDDED_GPT2), contexts=contexts, count=3, vocabulary_map=kind, partners=False), EMBEDDED_LLAMA
    )
    theirs = AutoTokenizer.from_pretrained(EMBEDDED_GPT2).get_vocab()
    ours = AutoTokenizer.from_pretrained(EMBEDDED_LLAMA).get_vocab()
    # a byte-level tokenizer spells other characters with two or more of its own
    ascii_text = {t.replace("▁", "Ġ"): i for t, i in theirs.items() if t.replace("▁", "").isascii() and i > 1}
    shared = {i: ours[t] for t, i in ascii_text.items() if t in ours}
    assert len(shared) > 1000
    for target in made:
        p = _reference(EMBEDDED_GPT2, target.metadata["context"])
        q = target.log_probs.double().exp().numpy()
        assert q.sum() == pytest.approx(1.0, abs=1e-6)
        kept = sum(p[i] for i in shared)
        if kind == "shared_tokens":
            assert target.metadata["mass_lost"] == pytest.approx(1.0 - kept, abs=0.01)  # punctuation and bytes differ
            scale = 1.0 - target.metadata["mass_lost"]
            for i, k in shared.items():
                assert q[k] == pytest.approx(p[i] / scale, rel=1e-3, abs=1e-9)
        else:
            assert target.metadata["mass_lost"] < 1e-3 < target.metadata["mass_moved"]
            scale = 1.0 - target.metadata["mass_lost"]
            assert all(q[k] >= p[i] / scale * 0.999 - 1e-9 for i, k in shared.items())


def test_contexts_sampled_from_the_lm_itself():
    def make(count):
        cut = ContextCut(min_words=2, max_words=6)
        return _targets(FromLM(cut=cut, count=count, partners=False, seed=3), EMBEDDED_LLAMA)

    four = make(4)
    words = [len(t.metadata["context"].split()) for t in four]
    assert len({t.metadata["context"] for t in four}) == 4
    assert all(2 <= n <= 6 for n in words)
    for alone, target in zip(make(2), four, strict=False):
        assert alone.metadata["context"] == target.metadata["context"]
        assert torch.equal(alone.log_probs, target.log_probs)


def test_the_global_random_state_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    _targets(FromLM(cut=ContextCut(min_words=2, max_words=3), count=1, partners=False), EMBEDDED_LLAMA)
    assert torch.equal(torch.rand(3), expected)


def test_every_target_is_followed_by_partners_of_its_entropy(contexts):
    made = _targets(FromLM(contexts=contexts, count=3, name="own"), EMBEDDED_LLAMA)
    entropy = {}
    for item in made:
        if isinstance(item, Rejected):
            continue
        if item.partner_of is None:
            entropy[item.target_id] = item.entropy
        else:
            assert item.entropy == pytest.approx(entropy[item.partner_of], abs=2e-3)
            assert item.target_id == f"{item.family}/{item.partner_of}"
    ids = [item.target_id for item in made]
    assert ids == [f"{kind}own/{i}" for i in range(3) for kind in ("", "random/", "outlier/")]


def test_top_k_is_sparse_and_reports_what_it_cuts(tiny_lm, contexts):
    whole = _targets(FromLM(contexts=contexts, count=2, partners=False), tiny_lm)
    cut = _targets(FromLM(contexts=contexts, count=2, partners=False, top_k=7), tiny_lm)
    for dense, sparse in zip(whole, cut, strict=True):
        assert isinstance(sparse, Target)
        p, ids = dense.log_probs.double().exp().topk(7)
        assert sorted(ids.tolist()) == sparse.token_ids.tolist()
        assert sparse.metadata["mass_cut"] == pytest.approx(1.0 - float(p.sum()), abs=1e-6)
        np.testing.assert_allclose(sparse.log_probs.exp().sort(descending=True)[0], p / p.sum(), rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"count": 0}, "count is 0"),
        ({"temperature": 0.0}, "temperature 0 is not a positive number"),
        ({"top_k": 1000}, "top_k 1000 is not among 1 to 320"),
        ({"lm": "/no/such/lm"}, "/no/such/lm"),
        ({"cut": ContextCut(min_words=200)}, "lower count or cut.min_words"),
    ],
)
def test_mistakes_are_named(settings, message, tiny_lm, contexts):
    with pytest.raises(InputError, match=message):
        _targets(FromLM(**{"contexts": contexts, "count": 2, **settings}), tiny_lm)


def test_a_context_longer_than_the_lm_is_refused(tiny_lm, tmp_path):
    path = tmp_path / "long.txt"
    path.write_text("word " * 200)
    family = FromLM(contexts=TextSource(str(path)), cut=ContextCut(100, 150), count=1)
    with pytest.raises(InputError, match=r"tokens, .* takes 64; lower cut.max_words"):
        _targets(family, tiny_lm)
