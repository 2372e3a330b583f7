"""Runs nanoGCG for one-hot targets, in an environment of its own: ``benchmarks/hard.py`` starts it.

Reads lines of JSON from standard input, ``{"target": TEXT, "steps": N, "width": N, "topk": N, "length": N, "seed": N}``
each, and answers with ``{"seconds": S, "losses": [...], "text": TEXT}``. A loss is the cross-entropy of the target
token, which for a one-hot target is KL(target || LM).
"""

import json
import sys
import time

import nanogcg
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def main() -> None:
    """Answers requests until the input ends."""
    folder, threads, clock = sys.argv[1], int(sys.argv[2]), getattr(time, sys.argv[3])
    torch.set_num_threads(threads)
    model = AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for line in sys.stdin:
        wish = json.loads(line)
        config = nanogcg.GCGConfig(
            num_steps=wish["steps"],
            search_width=wish["width"],
            topk=wish["topk"],
            optim_str_init=" x" * wish["length"],
            seed=wish["seed"],
            use_prefix_cache=False,  # nothing stands before the prompt
            verbosity="ERROR",
        )
        started = clock()
        result = nanogcg.run(model, tokenizer, "", wish["target"], config)
        answer = {"seconds": clock() - started, "losses": result.losses, "text": result.best_string}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
