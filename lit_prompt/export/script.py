"""A short Python file that shows what exported prompts reach, with transformers alone."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from safetensors.torch import save_file

from lit_prompt.export.found_prompts import FoundPrompt
from lit_prompt.files import as_opened
from lit_prompt.lm import LMOptions
from lit_prompt.lm.gguf import gguf_parts

#: Name of the file.
NAME = "reach.py"
#: Names of what it reads of the targets: probabilities over tokens, answers with the probabilities of their cells.
_TOKENS, _ANSWERS = "targets.safetensors", "answers.json"

_SCRIPT = '''\
"""What exported prompts reach, with transformers alone: python reach.py [TARGET_ID]"""
import functools
import json
import math
import random
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

here, source = Path(__file__).parent, {source}
every = {rows}
name = sys.argv[1] if len(sys.argv) > 1 else every[0]["target_id"]
rows = [row for row in every if row["target_id"] == name]  # several are a mixture
if not rows:
    sys.exit(f"no target {{name!r}}; there are " + ", ".join(sorted({{row["target_id"] for row in every}})))
weights = [row.get("weight", 1.0) for row in rows]
exported = {{row["target_id"]: row["kl"] for row in {exported}}}
tokenizer = AutoTokenizer.from_pretrained(**source)
model = AutoModelForCausalLM.from_pretrained(**source, dtype={dtype!r}).eval()


@functools.cache
@torch.no_grad()
def after(k, begun=()):
    """Probabilities of the next token after prompt k and what an answer begins with."""
{body}
    return logits.to(torch.float64).softmax(-1)


answers = json.loads((here / {answers!r}).read_text("utf-8")).get(name)
if answers is None:  # a target over the LM's tokens
    p, ids = load_file(here / {tokens!r})[name].to(torch.float64), []
    q = sum(weight * after(k) for k, weight in enumerate(weights))
else:  # over answers of any length, or cells of several
    p, ids = torch.tensor(answers["probs"], dtype=torch.float64), [tuple(each) for each in answers["ids"]]
    q = torch.zeros_like(p)
    for cell, answer in zip(answers["cells"], ids):
        for k, weight in enumerate(weights):
            q[cell] += weight * math.prod(after(k, answer[:n])[token].item() for n, token in enumerate(answer))
kl = (p / q).log()[p > 0] @ p[p > 0]
print(f"{{name}}: KL(target || LM) is {{kl:.6f}} nats, {{exported[name]:.6f}} when it was exported")
for i in q.topk(min(20, len(q))).indices.tolist():
    text = answers["names"][i] if answers else tokenizer.decode(i)
    print(f"{{q[i]:.6f}} for {{p[i]:.6f}} {{i}} {{text!r}}")
k, drawn = random.choices(range(len(rows)), weights)[0], ()  # how to draw: a prompt, then tokens after it
while not drawn or any(drawn == answer[: len(drawn)] != answer for answer in ids):
    drawn += (after(k, drawn).multinomial(1).item(),)
print("drawn:", repr(tokenizer.decode(drawn)))
'''
_JSON_LINES = '[json.loads(line) for line in open(here / "prompts.jsonl", encoding="utf-8")]'
_INDEX = 'json.loads((here / "export.json").read_text("utf-8"))'
_MIXTURES = 'json.loads((here / "mixtures.json").read_text("utf-8"))'
_BODIES = {
    "text": """\
    logits = model(input_ids=torch.tensor([[*rows[k]["whole_ids"], *begun]])).logits[0, -1]""",
    "embeds": """\
    prompt = load_file(here / rows[k]["file"])["prompt_embeds"]
    more = model.get_input_embeddings()(torch.tensor(begun, dtype=torch.long))
    logits = model(inputs_embeds=torch.cat([prompt, more])[None]).logits[0, -1]""",
    "peft": """\
    prompt = load_file(here / rows[k]["file"] / "adapter_model.safetensors")["prompt_embeddings"]
    more = model.get_input_embeddings()(torch.tensor([*rows[k]["after_ids"], *begun], dtype=torch.long))
    logits = model(inputs_embeds=torch.cat([prompt, more])[None]).logits[0, -1]""",
}


def write_script(
    folder: Path, form: str, lm: str, options: LMOptions, dtype: str, targets: Sequence[FoundPrompt], mixed: bool
) -> None:
    """Writes the file, and the targets that it compares with.

    Args:
        folder: of the export.
        form: ``text``, ``embeds`` or ``peft``.
        lm: hub id, folder or GGUF file of the LM.
        options: how it is loaded.
        dtype: that its weights get.
        targets: a prompt of each target.
        mixed: whether targets have several prompts, with weights.
    """
    source: dict[str, object] = {"pretrained_model_name_or_path": absolute(lm)}
    if (parts := gguf_parts(lm)) is not None:
        place, file = (parts[0], parts[1]) if parts[0] else (str(Path(absolute(lm)).parent), Path(lm).name)
        source = {"pretrained_model_name_or_path": place, "gguf_file": file}
    if options.revision:
        source["revision"] = options.revision
    rows = _JSON_LINES if form == "text" else _INDEX
    text = _SCRIPT.format(
        source=source, rows=rows, exported=_MIXTURES if mixed else "every", dtype=dtype, body=_BODIES[form],
        answers=_ANSWERS, tokens=_TOKENS,
    )  # fmt: skip
    (folder / NAME).write_text(text, "utf-8")
    answers = {own.target_id: asdict(own.answers) for own in targets if own.answers is not None}
    (folder / _ANSWERS).write_text(json.dumps(answers, ensure_ascii=False) + "\n", "utf-8")
    save_file({own.target_id: own.log_p.exp().float() for own in targets if own.answers is None}, folder / _TOKENS)
    as_opened(folder / _TOKENS)


def absolute(lm: str) -> str:
    """An LM's name that means the same in every folder."""
    return str(Path(lm).absolute()) if Path(lm).exists() else lm
