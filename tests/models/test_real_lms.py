"""Searches on LMs that have what real ones have; every number is recomputed by transformers from what is pasted."""

import pytest
import torch
import transformers

from lit_prompt.data.families import EntropyMatched, OneHot
from lit_prompt.lm import FrozenLM, LMOptions, Vocabulary
from lit_prompt.models.prompt_init import PromptInit, PromptInitializer
from lit_prompt.search import TokenStart
from tests.conftest import ARCHITECTURES, VOCABULARY
from tests.models.pasted import Pasted

#: name: architecture, and what is changed in its configuration
KINDS = {
    "tied head": ("llama", {"tie_word_embeddings": True}),
    "untied head": ("gemma3", {"tie_word_embeddings": False}),
    "padded vocabulary": ("llama", {"vocab_size": VOCABULARY + 80}),
    "padded vocabulary, tied head": ("qwen2", {"vocab_size": VOCABULARY + 80, "tie_word_embeddings": True}),
    "scaled embeddings": ("gemma3", {"sliding_window": 64}),
    "scaled inside the model": ("gemma", {}),
    "short window": ("mistral", {"sliding_window": 4}),
    "short window in one layer": (
        "gemma3",
        {"sliding_window": 5, "layer_types": ["sliding_attention", "full_attention"]},
    ),
}
BEFORE, AFTER = "Once upon a time there was a little girl", " said"
TARGETS = [EntropyMatched([1.0, 4.0], 1), OneHot(count=2)]
BANK = TokenStart(random_sequences=4, sampled_texts=4, drawn_sequences=2)
every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def folder_of(tokenizer, tmp_path_factory):
    """Makes (once) the folder of an LM of a kind; its padding rows are as likely as tokens."""
    made = {}

    def make(kind):
        if kind not in made:
            architecture, changes = KINDS[kind]
            config = ARCHITECTURES[architecture]()
            for name, value in {"initializer_range": 0.3, **changes}.items():
                setattr(config, name, value)
            torch.manual_seed(0)
            model = transformers.AutoModelForCausalLM.from_config(config)
            made[kind] = tmp_path_factory.mktemp("lms") / "lm"
            model.save_pretrained(made[kind])
            tokenizer.save_pretrained(made[kind])
        return made[kind]

    return make


def evaluated(module):
    batch = module.data.targets.batch(range(len(module.data.targets)))
    return batch, module.evaluator.columns(batch, module.results)[0]


@every_kind
def test_a_hard_prompt_has_the_kl_of_its_tokens_and_of_its_text(search_hard, folder_of, kind):
    folder = folder_of(kind)
    pasted = Pasted(folder)
    module = search_hard(folder, TARGETS, 3, length=4, steps=4, start=BANK, before=BEFORE, after=AFTER)
    batch, columns = evaluated(module)
    for i, log_p in enumerate(batch.log_probs):
        ids = module.results.prompts[i, 0].tolist()
        assert 0 < min(ids) <= max(ids) < VOCABULARY
        whole = pasted.ids(BEFORE + columns["prompt_text"][i] + AFTER)
        assert whole == [*pasted.ids(BEFORE), *ids, *pasted.ids(AFTER)]
        kl = pasted.kl(log_p, whole)
        assert kl > 0.05
        assert float(module.results.kl[i, 0]) == pytest.approx(kl, abs=1e-4)
        assert columns["kl"][i] == pytest.approx(kl, abs=1e-5)


@every_kind
def test_a_soft_prompt_has_the_kl_of_its_embeddings(search, folder_of, kind):
    folder = folder_of(kind)
    pasted = Pasted(folder)
    module = search(folder, TARGETS, 3, length=4, steps=20, before=BEFORE, after=AFTER)
    batch, columns = evaluated(module)
    for i, log_p in enumerate(batch.log_probs):
        around = (pasted.embed(pasted.ids(text)) for text in (BEFORE, AFTER))
        before, after = around
        kl = pasted.kl(log_p, embeddings=torch.cat([before, module.results.prompts[i, 0], after]))
        assert float(module.results.kl[i, 0]) == pytest.approx(kl, abs=1e-4)
        assert columns["kl"][i] == pytest.approx(kl, abs=1e-5)


@every_kind
def test_random_starts_have_the_scale_of_the_tokens_that_the_layers_see(folder_of, kind):
    folder = folder_of(kind)
    lm, vocabulary = FrozenLM.load(str(folder), LMOptions()), Vocabulary.load(str(folder), LMOptions())
    drawn = PromptInitializer(PromptInit("normal", scale=None), 400, lm, vocabulary).draw(0)
    ids = torch.tensor([vocabulary.ordinary_ids])
    assert ids.shape == (1, VOCABULARY - 1)
    with torch.no_grad():
        seen, started = (
            lm.model(**inputs, output_hidden_states=True).hidden_states[0].std()
            for inputs in ({"input_ids": ids}, {"inputs_embeds": drawn.unsqueeze(0)})
        )
    assert float(started / seen) == pytest.approx(1, rel=0.05)


CHAT = (
    "{{ bos_token }}{% for turn in messages %}<|im_start|>{{ turn['role'] }}\n{{ turn['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="module")
def chat_lm(make_lm_with_front, tmp_path_factory):
    """An LM with a chat template, whose tokenizer adds BOS by itself and reads the marks of turns as special tokens."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(make_lm_with_front("bos"))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = CHAT
    config = ARCHITECTURES["llama"]()
    config.vocab_size, config.initializer_range = len(tokenizer), 0.3
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("lms") / "chat"
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_prompt_within_a_chat_has_the_kl_of_the_chat_that_is_templated_anew(search_hard, chat_lm):
    pasted = Pasted(chat_lm)

    def chat(text, **options):
        turns = [{"role": "user", "content": text}]
        return pasted.tokenizer.apply_chat_template(turns, add_generation_prompt=True, **options)

    before, after = chat("PROMPT", tokenize=False).split("PROMPT")
    options = LMOptions(bos="never")  # the template has it
    module = search_hard(
        chat_lm, TARGETS, 3, length=4, steps=4, start=BANK, before=before, after=after, lm_options=options
    )
    batch, columns = evaluated(module)
    special = set(pasted.tokenizer.all_special_ids)
    assert len(special) == 4
    for i, log_p in enumerate(batch.log_probs):
        assert special.isdisjoint(module.results.prompts[i, 0].tolist())
        whole = chat(columns["prompt_text"][i], return_dict=True)["input_ids"]
        assert whole.count(pasted.tokenizer.bos_token_id) == 1
        assert columns["kl"][i] == pytest.approx(pasted.kl(log_p, whole), abs=1e-5)
