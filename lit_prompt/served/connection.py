"""Questions to a server, and what can be wrong with its answers, in one line."""

import os
import time
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from lit_prompt.errors import InputError

#: Environment variable that holds the key of a server; it is sent to the server and never written anywhere.
KEY = "LIT_PROMPT_SERVER_KEY"
#: Seconds to connect, and until a byte of the answer.
_TIMEOUT = (5.0, 120.0)
#: Times that a question is asked again, and seconds before the first of them, doubled before each further one.
_TRIES, _PAUSE = 3, 0.5


class Connection:
    """Asks a server for JSON.

    Busy servers and broken connections are asked again, with growing pauses or when they say.

    Threads may share it.

    Args:
        url: of the server, without a path of its own or with ``/v1``.
        option: that names it, for errors.
        tries: times that a question is asked again.
        parallel: questions at a time.

    Raises:
        InputError: if it is no address of a server.
    """

    def __init__(self, url: str, option: str = "--server", tries: int = _TRIES, parallel: int = 1) -> None:
        parts = urlsplit(url if "//" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(f"{option}: {url} is no address; give http://HOST:PORT")
        if parts.username or parts.password:
            raise InputError(f"{option}: leave the key out of the address and set {KEY}")
        self.url = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/').removesuffix('/v1')}"
        self.where = f"{option}: {self.url}"
        self._session, self._tries = requests.Session(), tries
        again = Retry(
            tries, status_forcelist=(429, 500, 502, 503, 504), allowed_methods=None, backoff_factor=_PAUSE,
            raise_on_status=False, respect_retry_after_header=True,
        )  # fmt: skip
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_maxsize=parallel, max_retries=again))
        if key := os.environ.get(KEY):
            self._session.headers["Authorization"] = f"Bearer {key}"

    def get(self, path: str) -> Any:
        """What the server says of itself under a path; None where it has no such path."""
        return self._ask("GET", path, None)

    def post(self, path: str, question: dict[str, Any]) -> Any:
        """The server's answer; None where it has no such path.

        Raises:
            InputError: says what is wrong, and what to do.
        """
        return self._ask("POST", path, question)

    def _ask(self, method: str, path: str, question: dict[str, Any] | None) -> Any:
        where = self.where
        answer = self._whole(method, path, question)
        if answer.status_code in (401, 403):
            known = "does not accept the key in" if os.environ.get(KEY) else "asks for a key: set"
            raise InputError(f"{where} {known} {KEY}")
        if answer.status_code in (404, 405, 501):
            return None
        if not answer.ok or answer.is_redirect:
            raise Refused(f"{where} refuses /{path} ({answer.status_code}: {_said(answer)})", answer.status_code)
        try:
            return answer.json()
        except ValueError as error:
            raise NoJSON(f"{where} answers /{path} with no JSON; it is no server of an LM") from error

    def _whole(self, method: str, path: str, question: dict[str, Any] | None) -> requests.Response:
        """An answer that was not cut on its way; the adapter has asked again for whole ones that tell of a fault."""
        for last in [*[False] * self._tries, True]:
            try:
                answer = self._session.request(
                    method, f"{self.url}/{path}", json=question, timeout=_TIMEOUT, allow_redirects=False
                )
                if last or not answer.ok or _is_json(answer):
                    return answer
            except requests.Timeout as error:
                raise Unanswered(
                    f"{self.where} did not answer /{path} in {_TIMEOUT[1]:.0f} s; it may be overloaded"
                ) from error
            except requests.exceptions.ChunkedEncodingError as error:  # cut
                if last:
                    raise Unanswered(f"{self.where} breaks off its answers; look at its log") from error
            except requests.RequestException as error:
                raise Unanswered(
                    f"{self.where} does not answer ({_reason(error)}); start it, or mend the address"
                ) from error
            time.sleep(_PAUSE)
        raise AssertionError


class NoJSON(InputError):
    """A server answers with something else, as a page for people."""


class Unanswered(InputError):
    """A server cannot be reached, or breaks off."""


class Refused(InputError):
    """A server has refused a question.

    Attributes:
        status: of its answer.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def _is_json(answer: requests.Response) -> bool:
    try:
        answer.json()
    except ValueError:
        return False
    return True


def _said(answer: requests.Response) -> str:
    try:
        told = answer.json()
        told = told.get("error", told) if isinstance(told, dict) else told
        told = told.get("message", told) if isinstance(told, dict) else told
    except ValueError:
        told = answer.text
    return " ".join(str(told).split())[:200] or answer.reason


def _reason(error: BaseException) -> str:
    text = str(error)
    for known in ("Connection refused", "Name or service not known", "Max retries", "certificate", "reset by peer"):
        if known.lower() in text.lower():
            return known.lower()
    return " ".join(text.split())[:120]
