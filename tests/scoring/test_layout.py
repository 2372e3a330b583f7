"""Prompts laid out in their contexts: widths, padding, places and gradients."""

from dataclasses import replace

import pytest
import torch
import transformers

from lit_prompt.data.target import Texts
from lit_prompt.lm import FrozenLM, LMOptions, Vocabulary
from lit_prompt.scoring import Contexts
from lit_prompt.scoring.layout import frames
from tests.models.test_context import TEXTS


def contexts_of(lm, before="", after=""):
    return Contexts(before, after, lm, Vocabulary.load(str(lm.folder), LMOptions()))


@pytest.fixture
def tiny(make_lm):
    """A tiny LM, frozen, that knows its folder."""

    def load(architecture="llama"):
        folder = make_lm(architecture)
        lm = FrozenLM(transformers.AutoModelForCausalLM.from_pretrained(folder))
        lm.folder = folder
        return lm

    return load


def test_rows_of_the_modules_context_are_not_padded(tiny):
    lm = tiny()
    contexts = contexts_of(lm, "The king", " had")
    (frame,) = frames(lm, [contexts.of(Texts(None, None, None)), contexts.of(Texts("The king", " had", None))] * 3, 5)
    assert frame.mask is None
    assert frame.contexts.tolist() == list(range(6))
    assert frame.width == len(contexts.default.ids) + 5


def test_a_rows_width_follows_from_its_own_length(tiny):
    lm = tiny()
    contexts = contexts_of(lm, "The king", " had")
    around = [contexts.of(Texts(*texts, None)) for texts in TEXTS]
    around += [replace(around[1], before_ids=tuple(range(1, n)), after_ids=(n,)) for n in range(1, 50)]
    found = frames(lm, around, 5)
    assert sorted(slot for frame in found for slot in frame.contexts.tolist()) == list(range(len(around)))
    for frame in found:
        for row, slot in enumerate(frame.contexts.tolist()):
            context = around[slot]
            total = len(context.ids) + 5
            wanted = -(-total // 16) * 16 if context.own else total
            assert frame.width == wanted
            assert (total if frame.mask is None else int(frame.mask[row].sum())) == total
            assert (frame.mask is None) == (frame.width == total)
            start, padding = int(frame.start[row]), frame.width - total
            ids = frame.ids[row].tolist()
            assert tuple(ids[padding:start] + ids[start + 5 :]) == context.ids
            assert start - padding == len(context.before_ids)


def test_no_row_is_wider_than_the_lm_takes(tiny):
    lm = tiny("gpt2")
    lm.model.config.n_positions = 40
    contexts = contexts_of(lm)
    for count in (30, 34, 35):
        context = replace(contexts.of(Texts("x", None, None)), before_ids=(7,) * count)
        (frame,) = frames(lm, [context], 5)
        assert frame.width == min(-(-(count + 5) // 16) * 16, 40)
        assert (frame.mask is None) == (count == 35)


def test_an_lm_that_sees_padding_gets_none(tiny):
    lm = tiny()
    lm.takes_padding = False  # in the place of what was measured
    around = [contexts_of(lm).of(Texts(*texts, None)) for texts in TEXTS]
    found = frames(lm, around, 5)
    assert all(frame.mask is None for frame in found)
    assert sorted({frame.width for frame in found}) == sorted({len(context.ids) + 5 for context in around})


def test_prompts_stand_between_their_texts_and_get_their_gradient(tiny):
    lm = tiny()
    around = [contexts_of(lm).of(Texts(*texts, None)) for texts in TEXTS]
    ids = torch.randint(1, lm.vocab_size, (len(TEXTS), 2), generator=torch.Generator().manual_seed(0))
    prompts = torch.randn(len(TEXTS), 2, lm.embedding_dim, requires_grad=True)
    for frame in frames(lm, around, 2):
        slots = frame.contexts.flip(0)
        places = frame.places(slots)
        embeddings, tokens = frame.embeddings(lm, prompts[slots], places), frame.tokens(ids[slots], places)
        mask = frame.masked(places)
        for row, slot in enumerate(slots.tolist()):
            real = torch.ones(frame.width, dtype=torch.bool) if mask is None else mask[row]
            before, after = around[slot].before_ids, around[slot].after_ids
            assert tuple(tokens[row, real].tolist()) == (*before, *ids[slot].tolist(), *after)
            texts = [lm.embed(torch.tensor(text, dtype=torch.long)) for text in (before, after)]
            assert torch.equal(embeddings[row, real], torch.cat([texts[0], prompts[slot], texts[1]]))
        (gradient,) = torch.autograd.grad(embeddings.sum(), prompts)
        assert gradient.sum() == len(slots) * 2 * lm.embedding_dim
