"""llama.cpp's server with an LM of a GGUF file, for comparisons: runs in a Python that has the package xllamacpp."""

import json
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_SERVE = """
import sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.n_parallel, params.warmup = sys.argv[1], 1024, 1, False
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
"""


class LlamaCpp:
    """Asks a server for tokens and for what comes next."""

    def __init__(self, address: str, vocab_size: int) -> None:
        self.address, self._size = address, vocab_size

    @classmethod
    @contextmanager
    def serving(cls, python: str, file: Path, vocab_size: int) -> Iterator["LlamaCpp"]:
        """Starts a server for the file."""
        command = [python, "-c", _SERVE, str(file)]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(command, text=True, **pipes) as server:
            assert server.stdout is not None
            yield cls(server.stdout.readline().strip(), vocab_size)
            server.communicate()

    def _ask(self, path: str, **question: Any) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.address}/{path}", json.dumps(question).encode(), headers)
        with urllib.request.urlopen(request) as answer:
            return dict(json.load(answer))

    def tokens(self, text: str) -> list[int]:
        """Token ids of a text, with what llama.cpp puts in front."""
        return list(self._ask("tokenize", content=text, add_special=True)["tokens"])

    def log_probs(self, ids: list[int]) -> Tensor:
        """Log-probabilities of the next token after some, ``[vocab]``, float64."""
        (found,) = self._next(ids, n_probs=self._size)
        log_q = torch.full((self._size,), -torch.inf, dtype=torch.float64)
        for token in found["top_logprobs"]:
            log_q[token["id"]] = token["logprob"]
        return log_q

    def nats(self, ids: list[int]) -> list[float]:
        """Negative log-probability of every token but the first, given those before it."""
        found = []
        for i in range(1, len(ids)):  # the bias has the token chosen, and no part in its log-probability
            (chosen,) = self._next(ids[:i], n_probs=1, logit_bias=[[ids[i], 1e6]])
            assert chosen["id"] == ids[i]
            found.append(-float(chosen["logprob"]))
        return found

    def _next(self, ids: list[int], **options: Any) -> list[dict[str, Any]]:
        question = {"prompt": ids, "n_predict": 1, "temperature": 0.0, "cache_prompt": True, **options}
        return list(self._ask("completion", **question)["completion_probabilities"])
