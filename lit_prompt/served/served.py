"""What a config says of an LM that is only served."""

from collections.abc import Mapping
from typing import Any

from jsonargparse import Namespace

from lit_prompt.errors import InputError
from lit_prompt.served.servers import Kind

_SCHEMES = ("http://", "https://")


class Served:
    """An LM behind one server or several, which are asked for what comes next after texts.

    The key comes from the environment variable ``LIT_PROMPT_SERVER_KEY``, and is never written. Budgets are of a run,
    what its processes have asked before included; a search that has used one up ends with what it has found.

    Args:
        url: address of the server, ``http://HOST:PORT``; of several, which must serve the same LM, whoever is free is
            asked next.
        kind: its protocol: ``llama.cpp``, ``openai`` (completions) or ``chat``; null to find out by asking, and by
            whether the targets are chats.
        model: name of the LM; null where the server has no other.
        parallel: questions that are put to each address at a time.
        listed: how many of the likeliest tokens a search asks for; of fewer, where the server lists no more.
        max_texts: texts that are asked for at most.
        max_tokens: tokens that the server reads at most.
        max_seconds: seconds that are spent asking.
        max_cost: what the tokens cost at most, where ``price`` tells it.
        price: of a million tokens that are read.
    """

    def __init__(
        self,
        url: str | list[str],
        kind: Kind | None = None,
        model: str | None = None,
        parallel: int = 4,
        listed: int = 200,
        max_texts: int | None = None,
        max_tokens: int | None = None,
        max_seconds: float | None = None,
        max_cost: float | None = None,
        price: float | None = None,
    ) -> None:
        self.urls = [url] if isinstance(url, str) else list(url)
        self.kind, self.model, self.parallel, self.listed, self.price = kind, model, parallel, listed, price
        self.max_texts, self.max_tokens, self.max_seconds, self.max_cost = max_texts, max_tokens, max_seconds, max_cost
        self.offline = False  #: whether only what is stored is used; told by the command line
        if not self.urls:
            raise InputError("lm: url names no address; give http://HOST:PORT")
        for name in ("parallel", "listed", "max_texts", "max_tokens", "max_seconds", "max_cost", "price"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"lm: {name} is {value}; it must be positive")
        if max_cost is not None and price is None:
            raise InputError("lm: max_cost needs the price of a million tokens; set price, too")

    def __str__(self) -> str:
        return ", ".join(self.urls)


def as_served(lm: Any) -> Served | None:
    """What a setting of ``lm`` names, where that is an LM that is only served: an address, or a ``Served``."""
    if isinstance(lm, Served):
        return lm
    if isinstance(lm, str):
        return Served(lm) if lm.startswith(_SCHEMES) else None
    if isinstance(lm, Namespace):
        lm = lm.as_dict()
    if isinstance(lm, Mapping) and str(lm.get("class_path", "")).rpartition(".")[2] == "Served":
        return Served(**lm.get("init_args", {}))
    return None


def lm_name(lm: Any) -> str:
    """A setting of ``lm`` as it is shown: a path, a name, or an address."""
    return str(as_served(lm) or lm)
