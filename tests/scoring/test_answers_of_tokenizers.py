"""Whole answers on every kind of tokenizer: scores against the probabilities of strings from the LM itself."""

import json
import math

import numpy as np
import pytest
import torch
import transformers
from scipy.special import rel_entr

from lit_prompt.data.families import FromFile
from lit_prompt.data.target import Texts
from lit_prompt.lm import FrozenLM
from lit_prompt.objectives import ForwardKL
from lit_prompt.scoring import Contexts, LMScorer, Member, MicroBatch, Slots
from tests.lm.conftest import vocabularies as vocabularies

KINDS = ["tiny", "byte_level", "unigram", "llama2", "mistral", "gemma"]
ANSWERS = {" said the crow": 0.4, " said the king": 0.3, " no": 0.2, " yes, yes": 0.1}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("after", ["", " the king"])
def test_the_score_is_the_kl_over_strings(tmp_path, vocabularies, kind, after):
    vocabulary = vocabularies[kind]
    record = {"name": "t", "context": {"before": "Yes,", "after": after}, "strings": ANSWERS}
    (tmp_path / "t.jsonl").write_text(json.dumps(record) + "\n")
    (target,) = FromFile(tmp_path / "t.jsonl").targets(vocabulary)
    answers = target.answers
    config = transformers.LlamaConfig(
        vocab_size=vocabulary.size, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=64, initializer_range=0.3,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config)
    raw = transformers.AutoModelForCausalLM.from_config(config).double().eval()
    raw.load_state_dict(model.state_dict())
    lm = FrozenLM(model)
    context = Contexts("", "", lm, vocabulary).of(Texts("Yes,", after, None))
    scorer = LMScorer(
        lm, Slots(["t"], [[Member(0, context, 1.0, answers.tree)]]), target.dense(vocabulary.size).unsqueeze(0), 3,
        ForwardKL(), MicroBatch(),
    )  # fmt: skip
    ids = torch.randint(vocabulary.size, (4, 3), generator=torch.Generator().manual_seed(1))
    for prompt, found in zip(ids.tolist(), scorer.scores(ids, torch.zeros(4, dtype=torch.long)).tolist(), strict=True):
        q = []
        for text, own in zip(answers.texts, answers.ids, strict=True):
            assert vocabulary.decode([*vocabulary.encode("x"), *own]).endswith(text)  # the tokens spell the answer
            whole = [*context.before_ids, *prompt, *context.after_ids]
            with torch.no_grad():
                log_q = raw(torch.tensor([whole + own])).logits[0].log_softmax(-1)
            q.append(math.exp(sum(float(log_q[len(whole) - 1 + k, token]) for k, token in enumerate(own))))
        assert found == pytest.approx(rel_entr(answers.probs, np.array(q)).sum(), abs=1e-5)
