"""What a hub says of an LM, and what is told of it."""

import logging
from collections.abc import Iterator
from functools import cache

from lit_prompt.errors import InputError

_SECONDS = 10
_log = logging.getLogger(__name__)


@cache
def only_what_is_at_hand(hub_id: str, revision: str) -> bool:
    """Whether an LM is to be taken from what was fetched before, as the hub does not answer.

    The hub is asked once: its client would wait and try again for every file of the LM, for minutes in all.

    Raises:
        InputError: if the hub answers that it has no such LM, or no such revision of it.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.constants import ENDPOINT
    from huggingface_hub.errors import OfflineModeIsEnabled, RepositoryNotFoundError, RevisionNotFoundError

    try:
        HfApi().model_info(hub_id, revision=revision, timeout=_SECONDS)
    except RevisionNotFoundError as error:
        raise InputError(f"lm_options.revision: {hub_id} has no revision {revision} at {ENDPOINT}") from error
    except RepositoryNotFoundError as error:
        raise InputError(
            f"--lm: {hub_id} is no local folder, and {ENDPOINT} has no LM of that name that you may see; check the "
            "name, or log in with: hf auth login"
        ) from error
    except OfflineModeIsEnabled:
        return True
    except Exception as error:  # of a network, hub or proxy that is out of order; of a name that none can have
        _log.debug("%s does not answer: %s", ENDPOINT, error)
        return True
    return False


def explained(hub_id: str, revision: str, error: BaseException) -> str | None:
    """Why an LM could not be had from the hub, for one line on it; None where the hub has no part in an error.

    Args:
        hub_id: of its repository.
        revision: that was wanted.
        error: what transformers or the hub's client raised.
    """
    from huggingface_hub.constants import ENDPOINT, HF_HUB_OFFLINE
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RemoteEntryNotFoundError

    causes = list(_causes(error))
    if invalid := next((cause for cause in causes if isinstance(cause, HFValidationError)), None):
        return f"is no local folder, and no hub has an LM of this name: {first_line(invalid)}"
    if any(isinstance(cause, GatedRepoError) for cause in causes):
        return f"is gated; accept its terms at {ENDPOINT}/{hub_id} and log in with: hf auth login"
    if any(isinstance(cause, RemoteEntryNotFoundError) for cause in causes):
        return f"is not at {ENDPOINT}/{hub_id}, which has no such file"
    no_weights = "cannot be loaded with `safetensors`" in str(error)
    if not no_weights and not any(type(cause).__module__.startswith(("huggingface_hub", "httpx")) for cause in causes):
        return None
    if only_what_is_at_hand(hub_id, revision):
        why = "as HF_HUB_OFFLINE is set, no hub is asked" if HF_HUB_OFFLINE else f"{ENDPOINT} does not answer"
        return (
            f"is no local folder, was not fetched in full before, and {why}; check the name and the network, or give "
            "a local folder"
        )
    if no_weights:
        return "has no safetensors weights on the hub; choose a revision that has"
    return f"could not be fetched from {ENDPOINT} ({first_line(causes[-1])}); check the network and try again"


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or two where the first ends with a colon."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return (" ".join(lines[:2]) if lines[0].endswith(":") else lines[0])[:300]
