"""Chats: what is a list of messages, and what templates make of it around a prompt."""

import copy
import json

import pytest

from lit_prompt.errors import InputError
from lit_prompt.lm import ChatTexts, LMOptions, Vocabulary, chat_json
from tests.conftest import EMBEDDED_GPT2, EMBEDDED_LLAMA, REPOSITORY

SMOLLM2 = REPOSITORY / "data" / "lms" / "SmolLM2-135M-Instruct.Q4_1.gguf"
PLAIN = (
    "{{ bos_token }}{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
TRIMS = PLAIN.replace("m['content']", "m['content'] | trim")
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role\nnot supported') }}{% endif %}"
LAST_ONLY = "{{ messages[-1]['content'] }}"
TWICE = "{% for m in messages %}{{ m['content'] + m['content'] }}{% endfor %}"
SYSTEM = {"role": "system", "content": "You are {prompt}."}
USER = {"role": "user", "content": "How old are you?"}


@pytest.fixture(scope="module", params=[EMBEDDED_LLAMA, EMBEDDED_GPT2], ids=["llama", "gpt2"])
def plain(request):
    return Vocabulary.load(str(request.param), LMOptions())


@pytest.fixture
def chat(plain):
    """Chat texts of messages in a template."""

    def make(template, *messages):
        tokenizer = copy.copy(plain.tokenizer)
        tokenizer.chat_template = template
        return ChatTexts(Vocabulary(tokenizer, plain.size, plain.lm), chat_json(list(messages), "x:1"))

    return make


def test_a_template_writes_the_texts_around_a_prompt(chat):
    texts = chat(PLAIN, SYSTEM, USER)
    assert texts.before == "<|endoftext|><system>You are "
    assert texts.after == ".\n<user>How old are you?\n<assistant>"
    assert texts.whole(" {prompt} ") == texts.before + " {prompt} " + texts.after


def test_the_assistants_beginning_is_text_after_the_template(chat):
    texts = chat(PLAIN, USER, SYSTEM | {"role": "user"}, {"role": "assistant", "content": " I am"})
    assert texts.before == "<|endoftext|><user>How old are you?\n<user>You are "
    assert texts.after == ".\n<assistant> I am"
    assert texts.whole("he") == texts.before + "he" + texts.after


def test_an_earlier_reply_of_the_assistant_is_a_message(chat):
    texts = chat(PLAIN, USER, {"role": "assistant", "content": "{prompt}"}, USER)
    assert texts.after == "\n<user>How old are you?\n<assistant>"


def test_a_template_may_trim_a_prompt(chat):
    texts = chat(TRIMS, {"role": "user", "content": "{prompt}"})
    assert texts.whole("  a b ") == f"{texts.before}a b{texts.after}"


def test_the_prompts_text_is_no_template(chat):
    text = "{{ 7 * 7 }}{% raw %}"
    assert text in chat(PLAIN, SYSTEM, USER).whole(text)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, 'has no chat template; choose an LM that was tuned for chats, or give texts as "context"'),
        (NO_SYSTEM, r"does not take these messages \(System role.*\); the roles are system, user"),
        ("{% for %}", "does not take these messages"),
        ("{{ messages[0].missing.name }}", "does not take these messages"),
        (LAST_ONLY, "writes the message with the prompt 0 times"),
        (TWICE, "writes the message with the prompt 2 times"),
    ],
)
def test_what_a_template_does_not_do_is_one_line(template, message, chat):
    with pytest.raises(InputError, match=message) as error:
        chat(template, SYSTEM, USER)
    assert "\n" not in str(error.value)
    assert "data/lms/tales-" in str(error.value)


def test_a_template_runs_in_a_sandbox(chat):
    with pytest.raises(InputError, match="does not take these messages"):
        chat("{{ ''.__class__.__mro__[1].__subclasses__() }}{{ messages[0]['content'] }}", SYSTEM)


def test_equal_messages_are_equal_texts():
    turned = {"content": "You are {prompt}.", "role": "system"}
    text = chat_json([SYSTEM, USER], "x:1")
    assert text == chat_json([turned, USER], "x:1")
    assert json.loads(text) == [SYSTEM, USER]


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        (None, 'x:1: "chat" is None; give a list such as'),
        ([], r'"chat" is \[\]; give a list'),
        ({"role": "user", "content": "{prompt}"}, '"chat" is {.*}; give a list'),
        (["{prompt}"], "message 1 in \"chat\" is '{prompt}', not an object"),
        ([SYSTEM, {"role": "user"}], 'message 2 in "chat" is .*, not an object with the texts "role" and "content"'),
        ([{"role": "user", "content": 1}], 'message 1 in "chat" is'),
        ([SYSTEM | {"name": "x"}], "message 1 in \"chat\" has the key 'name'"),
        ([USER], "{prompt} stands 0 times"),
        ([SYSTEM, SYSTEM], "{prompt} stands 2 times"),
        ([{"role": "user", "content": "{prompt}{prompt}"}], "{prompt} stands 2 times"),
        ([USER, {"role": "assistant", "content": "{prompt}"}], "stands in the assistant's last message"),
    ],
)
def test_what_is_no_chat_is_one_line(messages, message):
    with pytest.raises(InputError, match=message) as error:
        chat_json(messages, "x:1")
    assert str(error.value).startswith("x:1: ")
    assert "\n" not in str(error.value)


@pytest.mark.skipif(not SMOLLM2.exists(), reason=f"no {SMOLLM2.name}; run make smollm2")
def test_the_template_of_a_real_lm():
    texts = ChatTexts(Vocabulary.load(str(SMOLLM2), LMOptions()), chat_json([SYSTEM, USER], "x:1"))
    assert texts.before == "<|im_start|>system\nYou are "
    assert texts.after == ".<|im_end|>\n<|im_start|>user\nHow old are you?<|im_end|>\n<|im_start|>assistant\n"
