"""Loss of language models on a text, in nats a token and bits a byte.

The text's paragraphs (separated by blank lines) are joined with the end-of-text token, as in the training of the
embedded LMs, and cut into windows that do not overlap. Every token is predicted once, from those before it in its
window; the first of all from an end-of-text token. A paragraph break counts as one byte.

    python benchmarks/lm_loss.py data/lms/tales-llama data/lms/tales-gpt2 --text data/lms/heldout.txt
"""

import argparse
import math
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from lit_prompt.lm import LMOptions, load_causal_lm, load_tokenizer


def token_stream(tokenizer: Any, paragraphs: list[str]) -> Tensor:
    """Token ids: end-of-text, then each paragraph with an end-of-text after it."""
    ids = [tokenizer.eos_token_id]
    for paragraph in paragraphs:
        ids += [*tokenizer.encode(paragraph, add_special_tokens=False), tokenizer.eos_token_id]
    return torch.tensor(ids)


@torch.no_grad()
def total_nats(model: Any, ids: Tensor, context: int) -> float:
    """Negative log-likelihood of all tokens but the first."""
    total = 0.0
    for start in range(0, len(ids) - 1, context):
        window = ids[start : start + context + 1]
        log_q = model(input_ids=window[None, :-1]).logits[0].double().log_softmax(-1)
        total -= float(log_q.gather(-1, window[1:, None]).sum())
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lm", nargs="+", help="folder or hub id")
    parser.add_argument("--text", type=Path, required=True, help="UTF-8 text, paragraphs separated by blank lines")
    parser.add_argument("--context", type=int, default=128, help="tokens in a window (default: 128)")
    args = parser.parse_args()
    paragraphs = [paragraph.strip() for paragraph in args.text.read_text(encoding="utf-8").split("\n\n")]
    size = sum(len(paragraph.encode()) + 1 for paragraph in paragraphs)
    table = Table(title=f"{args.text}, {size} bytes, context {args.context}")
    for column in ("LM", "stored in", "tokens", "nats a token", "bits a byte"):
        table.add_column(column, justify="left" if column == "LM" else "right", overflow="fold")
    for lm in args.lm:
        stored = str(load_causal_lm(lm, LMOptions(dtype="auto")).dtype).removeprefix("torch.")
        ids = token_stream(load_tokenizer(lm, LMOptions()), paragraphs)
        nats = total_nats(load_causal_lm(lm, LMOptions()), ids, args.context)
        tokens = len(ids) - 1
        table.add_row(lm, stored, str(tokens), f"{nats / tokens:.4f}", f"{nats / math.log(2) / size:.4f}")
    Console().print(table)


if __name__ == "__main__":
    main()
