"""An LM that is only served, in the place of one at hand."""

import hashlib
import time
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import nn

from lit_prompt.data.named_answers import MOST_ANSWERS
from lit_prompt.errors import InputError
from lit_prompt.served.connection import Connection
from lit_prompt.served.desk import Desk
from lit_prompt.served.kept_server import KeptServer, estimated_tokens
from lit_prompt.served.listed import Listed
from lit_prompt.served.served import Served
from lit_prompt.served.servers import Kind, Prompt, Server, connect
from lit_prompt.served.store import AnswerStore

# a search asks for hours: a server that is begun anew in between is waited for, for about two minutes
_TRIES = 8
_PROBE = "Once upon a time, there was a"
# what an answer may differ by on another day, nats: batching and other kernels change the last digits
_ALIKE = 0.2
_COMPARED = 5


class ServedLM(nn.Module):
    """Answers for texts, those that are kept and those that a server gives; it has no weights here.

    Args:
        served: what is known of the server.
        store: of the run.
        chats: whether targets are chats.

    Attributes:
        name: of the LM, as the server tells it.
        kind: the server's protocol.
        fingerprint: of name and protocol; that the LM behind them is still the same is told by its answer to a probe.
        server: asks for single things, and keeps what it says.
        spent: whether a budget does not suffice for what was asked for last.

    Raises:
        InputError: if no server is reached, or the LM is another one than that whose answers are kept.
    """

    vocab_size = MOST_ANSWERS
    max_length = None
    device = torch.device("cpu")
    kind: Kind

    def __init__(self, served: Served, store: AnswerStore, chats: bool = False) -> None:
        super().__init__()
        self.served, self.store, self.spent = served, store, False
        self._servers: list[Server] = []
        known = store.fact("lm")
        if served.offline:
            if known is None:
                raise InputError("--offline: no answers are kept in the run's folder; leave the option out")
            self.name, self.kind = known["name"], known["kind"]
        else:
            for url in served.urls:
                connection = Connection(url, "--lm", _TRIES, served.parallel)
                server = connect(connection, served.kind, served.listed, served.model, chats)
                server.tokens(_PROBE, start=True)  # by which some servers are found to tell token ids
                probe = _probe(server)
                if known is None:
                    known = {"name": server.name, "kind": server.kind, "probe": probe}
                    store.keep_fact("lm", known)
                _refuse_another(connection.url, server, probe, known)
                self._servers.append(server)
            self.name, self.kind = self._servers[0].name, self._servers[0].kind
        self.fingerprint = hashlib.sha256(f"served {self.kind} {self.name}".encode()).hexdigest()[:16]
        self.server = self._kept(again=False)

    @cached_property
    def asked_again(self) -> KeptServer:
        """Asks the server once more for what is kept, unless it is offline."""
        return self._kept(again=True) if self._servers else self.server

    def _kept(self, again: bool) -> KeptServer:
        server = self._servers[0] if self._servers else None
        return KeptServer(server, self.kind, self.name, self.store, self.served.listed, again)

    @cached_property
    def _desk(self) -> Desk:
        if not self._servers:
            raise InputError("--offline: a search asks the server; leave the option out")
        return Desk(self._servers, self.served.parallel)

    def listed(self, prompts: Sequence[Prompt]) -> list[Listed | None]:
        """The next tokens after prompts, many of which are asked for at a time; each answer is kept as it comes.

        Returns:
            In the order of the prompts; None where a budget does not suffice for those that are not kept.
        """
        known = [self.server.known(prompt) for prompt in prompts]
        found = [None if one is None else one[0] for one in known]
        missing = [place for place, one in enumerate(found) if one is None]
        # what a killed process has asked for in this very step counts as it did then
        tokens = sum(map(estimated_tokens, prompts)) - sum(one[1] for one in known if one is not None)
        self.spent = bool(missing) and self._exceeds(len(missing), tokens)
        if self.spent or not missing:
            return found
        started = time.perf_counter()
        try:
            for number, listed in self._desk.ask([prompts[place] for place in missing]):
                self.server.keep(prompts[missing[number]], listed)
                found[missing[number]] = listed
        finally:
            self.store.spend(time.perf_counter() - started)
        return found

    def _exceeds(self, texts: int, tokens: int) -> bool:
        served = self.served
        read = self.store.read + tokens if served.max_tokens is not None or served.max_cost is not None else 0
        return (
            (served.max_texts is not None and self.store.texts + texts > served.max_texts)
            or (served.max_tokens is not None and read > served.max_tokens)
            or (served.max_seconds is not None and self.store.seconds >= served.max_seconds)
            or (served.max_cost is not None and read * (served.price or 0.0) / 1e6 > served.max_cost)
        )

    def close(self) -> None:
        """Asks nothing more, and lets another process add to the store."""
        if (desk := self.__dict__.pop("_desk", None)) is not None:
            desk.close()
        self.store.close()


def _probe(server: Server) -> dict[str, float]:
    """The likeliest tokens after a text of no importance, with their log-probabilities."""
    listed = server.after([{"role": "user", "content": _PROBE}] if server.kind == "chat" else _PROBE)
    return {str(e.text or e.token_id): e.log_prob for e in reversed(listed.entries[:_COMPARED])}


def _refuse_another(url: str, server: Server, probe: dict[str, float], known: dict[str, object]) -> None:
    then = known["probe"]
    assert isinstance(then, dict)
    shared = probe.keys() & then.keys()
    far = max((abs(probe[name] - then[name]) for name in shared), default=float("inf"))
    if server.name == known["name"] and server.kind == known["kind"] and 2 * len(shared) >= len(then) and far <= _ALIKE:
        return
    if server.name != known["name"] or server.kind != known["kind"]:
        what = f"serves {server.name} ({server.kind}) now, and the answers in the run are of {known['name']}"
        what += f" ({known['kind']})"
    else:
        what = f"serves another LM by the name of {server.name} now: its answer to a probe is another one"
    raise InputError(f"--lm: {url} {what}; serve that LM again, or begin a new run")
