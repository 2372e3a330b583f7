"""A small server of an LM, with the protocols that servers have and their faults."""

import json
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch

from lit_prompt.lm import FrozenLM, Vocabulary

_DRAWN = 50


@dataclass
class Served:
    """What a server serves, and how it behaves.

    Attributes:
        kind: ``llama.cpp``, ``vllm`` (token ids, echo), ``sglang`` (echo, splits texts, tells no ids of what it lists),
            ``hosted`` (texts of the likeliest tokens alone) or ``chat``. Those like OpenAI's list the token that they
            have drawn, too; chats, as vLLM's, in the place of the last.
        top: how many tokens ``vllm`` and ``hosted`` list at most.
        key: that it asks for.
        faults: answers of this status come first; a status of 0 cuts the connection, 1 an answer.
        shift: added to all ids, as by another tokenizer.
        asked: the paths that were asked for.
        prompts: what was asked to be gone on from.
        name: of the LM.
        others: names of more LMs, which are none.
        seconds: that an answer takes.
        retry_after: what a busy one says.
        page: status of the page that is shown for other paths; None for an error in JSON.
        fault: the chance of a fault of some kind at any question.
    """

    lm: FrozenLM
    vocabulary: Vocabulary
    kind: str = "llama.cpp"
    top: int = 5
    key: str | None = None
    faults: list[int] = field(default_factory=list)
    shift: int = 0
    asked: list[str] = field(default_factory=list)
    url: str = ""
    prompts: list[Any] = field(default_factory=list)
    name: str = "stories"
    others: list[str] = field(default_factory=list)
    seconds: float = 0.0
    retry_after: str = "0"
    page: int | None = None
    fault: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)

    def ids(self, prompt: Any, start: bool = True) -> list[int]:
        """Tokens of a prompt as a server takes it."""
        if isinstance(prompt, list):
            return prompt
        return self.vocabulary.encode_start(prompt) if start else self.vocabulary.encode(prompt)

    @torch.no_grad()
    def log_probs(self, ids: list[int]) -> torch.Tensor:
        """Log-probabilities after token ids."""
        return self.lm.next_token_logits(self.lm.embed(torch.tensor([ids])))[0].double().log_softmax(-1)

    def answer(self, path: str, body: Any) -> tuple[int, Any]:
        """Status and answer."""
        if path == "/props" and self.kind == "llama.cpp":
            return 200, {"model_path": f"{self.name}.gguf"}
        if path == "/v1/models":
            return 200, {"data": [{"id": name} for name in [*self.others, self.name]]}
        if path == "/tokenize" and self.kind == "llama.cpp":
            ids = self.ids(body["content"], body["add_special"])
            return 200, {"tokens": [i + self.shift for i in ids]}
        if path == "/tokenize" and self.kind in ("vllm", "sglang"):
            return 200, {"tokens": self.ids(body["prompt"], body["add_special_tokens"])}
        if path == "/completion" and self.kind == "llama.cpp":
            self.prompts.append(body["prompt"])
            log_q = self.log_probs([i - self.shift for i in self.ids(body["prompt"])])
            order = log_q.argsort(descending=True)[: body["n_probs"]].tolist()
            listed = [
                {"id": i + self.shift, "token": self.vocabulary.text(i), "logprob": float(log_q[i])} for i in order
            ]
            read = len(self.ids(body["prompt"]))
            return 200, {"completion_probabilities": [{"top_logprobs": listed}], "tokens_evaluated": read}
        if path == "/apply-template" and self.kind == "llama.cpp" and self.vocabulary.tokenizer.chat_template:
            text = self._written(body["messages"])
            return 200, {"prompt": text.removeprefix(self.vocabulary.front)}
        if path == "/v1/chat/completions" and self.kind == "chat":
            if body["top_logprobs"] > self.top:
                return 400, {"error": {"message": "too many"}}
            self.prompts.append(body["messages"])
            log_q = self.log_probs(ids := self.vocabulary.encode(self._written(body["messages"])))
            order = log_q.argsort(descending=True).tolist()
            drawn, table = drawn_after(order, ids), self.vocabulary.token_bytes
            listed = [
                {"token": str(i), "bytes": list(table[i] or b"?"), "logprob": float(log_q[i])}
                for i in list(dict.fromkeys([drawn, *order]))[: body["top_logprobs"]]
            ]
            return 200, {"choices": [{"logprobs": {"content": [{"token": str(drawn), "top_logprobs": listed}]}}]}
        if path == "/v1/completions" and self.kind not in ("llama.cpp", "chat"):
            return self._complete(body)
        return (404, {"error": "no such path"}) if self.page is None else (self.page, "<html>Welcome</html>")

    def _written(self, messages: Any) -> str:
        template = self.vocabulary.tokenizer.apply_chat_template
        return str(template(messages, tokenize=False, add_generation_prompt=True))

    def _complete(self, body: Any) -> tuple[int, Any]:
        if body["logprobs"] > self.top:
            return 400, {"error": {"message": f"logprobs must be at most {self.top}"}}
        prompts = body["prompt"]
        if isinstance(prompts, list) and len({isinstance(prompt, str) for prompt in prompts}) > 1:
            return 400, {"error": {"message": "texts and token ids in one request"}}
        if isinstance(prompts, list) and prompts and not isinstance(prompts[0], int):
            found = [self._complete(body | {"prompt": prompt}) for prompt in prompts]
            if bad := [one for one in found if one[0] != 200]:
                return bad[0]
            choices = [one["choices"][0] | {"index": place} for place, (_, one) in enumerate(found)]
            used = sum(one["usage"]["prompt_tokens"] for _, one in found)
            return 200, {"choices": choices[::-1], "usage": {"prompt_tokens": used}}
        if self.kind == "hosted" and (not isinstance(body["prompt"], str) or "return_tokens_as_token_ids" in body):
            return 400, {"error": {"message": "unknown parameter"}}
        self.prompts.append(body["prompt"])
        ids = self.ids(body["prompt"])
        log_q = self.log_probs(ids)
        order = log_q.argsort(descending=True).tolist()
        drawn = drawn_after(order, ids)
        by_id = body.get("return_tokens_as_token_ids") and self.kind == "vllm"
        name = (lambda i: f"token_id:{i}") if by_id else self.vocabulary.text
        listed = {name(i): float(log_q[i]) for i in [drawn, *order[: body["logprobs"]]]}
        found = {"tokens": [name(drawn)], "token_logprobs": [float(log_q[drawn])], "top_logprobs": [listed]}
        if body.get("echo"):
            if self.kind == "hosted":
                return 400, {"error": {"message": "echo is not supported"}}
            told = [None, *(float(self.log_probs(ids[:k])[ids[k]]) for k in range(1, len(ids)))]
            found = {"tokens": [*map(name, ids), name(drawn)], "token_logprobs": [*told, float(log_q[drawn])]}
        return 200, {"choices": [{"logprobs": found}], "usage": {"prompt_tokens": len(ids)}}


def drawn_after(order: list[int], ids: list[int]) -> int:
    """A token that is drawn, by chance, but the same after the same tokens; often none of the likeliest."""
    return order[sum(ids) % _DRAWN]


class _Handler(BaseHTTPRequestHandler):
    served: Served

    def _reply(self, body: Any) -> None:
        served = self.served
        served.asked.append(self.path)
        cut = False
        if served.fault and served.chance.random() < served.fault:
            served.faults.append(served.chance.choice([0, 1, 429, 500, 503]))
        time.sleep(served.seconds)
        if served.faults:
            status = served.faults.pop(0)
            if not status:
                self.connection.close()
                return
            cut, status = status == 1, max(status, 200)
            said: Any = {"error": "a fault"}
        elif served.key is not None and self.headers.get("Authorization") != f"Bearer {served.key}":
            status, said = 401, {"error": "unauthorized"}
        else:
            status, said = served.answer(self.path, body)
        content = said.encode() if isinstance(said, str) else json.dumps(said).encode()
        self.send_response(status)
        if status == 429:
            self.send_header("Retry-After", served.retry_after)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if cut else content)
        if cut:
            self.connection.close()

    def do_GET(self) -> None:
        self._reply(None)

    def do_POST(self) -> None:
        self._reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def serving(served: Served) -> Iterator[Served]:
    """Runs a server; its address is in ``served.url``."""
    handler = type("Handler", (_Handler,), {"served": served})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    served.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
