"""A short Python file that shows what an exported prompt reaches, with transformers alone."""

from pathlib import Path
from textwrap import indent

from lit_prompt.lm import LMOptions
from lit_prompt.lm.gguf import gguf_parts

#: Name of the file.
NAME = "reach.py"

_HEAD = '''\
"""What an exported prompt reaches, with transformers alone: python reach.py [TARGET_ID]"""
import json
import sys
from pathlib import Path

import torch
{loads}from transformers import AutoModelForCausalLM, AutoTokenizer

here, source = Path(__file__).parent, {source}
rows = {{row["target_id"]: row for row in {rows}}}
row = rows[sys.argv[1]] if len(sys.argv) > 1 else next(iter(rows.values()))
tokenizer = AutoTokenizer.from_pretrained(**source)
model = AutoModelForCausalLM.from_pretrained(**source, dtype={dtype!r}).eval()
'''
_TAIL = """\
print(row["target_id"], "KL when it was exported:", row["kl"])
for p, i in zip(*logits.to(torch.float64).softmax(-1).topk(20)):
    print(f"{p:.6f} {i} {tokenizer.decode(i)!r}")
"""
_MIXTURE_HEAD = '''\
"""What an exported mixture of prompts reaches, with transformers alone: python reach.py [TARGET_ID]"""
import json
import random
import sys
from pathlib import Path

import torch
{loads}from transformers import AutoModelForCausalLM, AutoTokenizer

here, source = Path(__file__).parent, {source}
mixtures = {{}}
for row in {rows}:
    mixtures.setdefault(row["target_id"], []).append(row)
mixture = mixtures[sys.argv[1]] if len(sys.argv) > 1 else next(iter(mixtures.values()))
tokenizer = AutoTokenizer.from_pretrained(**source)
model = AutoModelForCausalLM.from_pretrained(**source, dtype={dtype!r}).eval()


def after(row):
    """Probabilities of the next token after one prompt."""
'''
_MIXTURE_TAIL = """\
    return logits.to(torch.float64).softmax(-1)


weights = [row["weight"] for row in mixture]
# this is how to draw: a prompt by its weight, then a token after it
token = after(random.choices(mixture, weights)[0]).multinomial(1)
print(mixture[0]["target_id"], "drawn:", repr(tokenizer.decode(token)))
for p, i in zip(*sum(weight * after(row) for weight, row in zip(weights, mixture)).topk(20)):
    print(f"{p:.6f} {i} {tokenizer.decode(i)!r}")
"""
_JSON_LINES = 'map(json.loads, open(here / "prompts.jsonl", encoding="utf-8"))'
_INDEX = 'json.load(open(here / "export.json", encoding="utf-8"))'
_BODIES = {
    "text": """\
with torch.no_grad():
    logits = model(input_ids=torch.tensor([row["whole_ids"]])).logits[0, -1]
""",
    "embeds": """\
embeds = load_file(here / row["file"])["prompt_embeds"]
with torch.no_grad():
    logits = model(inputs_embeds=embeds[None]).logits[0, -1]
""",
    "peft": """\
prompt = load_file(here / row["file"] / "adapter_model.safetensors")["prompt_embeddings"]
after = model.get_input_embeddings()(torch.tensor(row["after_ids"], dtype=torch.long))
with torch.no_grad():
    logits = model(inputs_embeds=torch.cat([prompt, after])[None]).logits[0, -1]
""",
}


def script(form: str, lm: str, options: LMOptions, dtype: str, are_mixtures: bool) -> str:
    """The file's text.

    Args:
        form: ``text``, ``embeds`` or ``peft``.
        lm: hub id, folder or GGUF file of the LM.
        options: how it is loaded.
        dtype: that its weights get.
        are_mixtures: whether targets have several prompts, with weights: the file draws with them, too.
    """
    source: dict[str, object] = {"pretrained_model_name_or_path": absolute(lm)}
    if (parts := gguf_parts(lm)) is not None:
        place, file = (parts[0], parts[1]) if parts[0] else (str(Path(absolute(lm)).parent), Path(lm).name)
        source = {"pretrained_model_name_or_path": place, "gguf_file": file}
    if options.revision:
        source["revision"] = options.revision
    loads = "" if form == "text" else "from safetensors.torch import load_file\n"
    rows = _JSON_LINES if form == "text" else _INDEX
    if are_mixtures:
        head = _MIXTURE_HEAD.format(source=source, rows=rows, dtype=dtype, loads=loads)
        return head + indent(_BODIES[form], "    ") + _MIXTURE_TAIL
    head = _HEAD.format(source=source, rows=rows, dtype=dtype, loads=loads)
    return head + _BODIES[form] + _TAIL


def absolute(lm: str) -> str:
    """An LM's name that means the same in every folder."""
    return str(Path(lm).absolute()) if Path(lm).exists() else lm
