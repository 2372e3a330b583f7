"""What a checkpoint of a search holds beside the tensors that Lightning carries, and whether a run may use it."""

from typing import TYPE_CHECKING, Any

from lit_prompt.errors import InputError
from lit_prompt.search import SearchResults, StopReason

if TYPE_CHECKING:
    from lit_prompt.models.base import PromptModule

_KEY = "lit_prompt"
# 1, of lit_prompt 0.1, held the chunk under way in another form; up to 2 nothing stood in front of a text
_FORMAT = 3
_FIRST_RESUMABLE = 2


def write_contents(checkpoint: dict[str, Any], module: "PromptModule") -> None:
    """Stores results, search state and what they belong to; the LM is named and fingerprinted, not stored."""
    if (current := module.under_search()) is not None:
        module.results.put(*current)
    checkpoint[_KEY] = {
        "format": _FORMAT,
        "lm": module.lm_path,
        "lm_fingerprint": module.lm.fingerprint,
        "targets": module.data.targets.fingerprint,
        "in_front": module.data.vocabulary.front_ids,
        "settings": module.settings(),
        "results": module.results.state_dict(),
        "chunk_size": module.data.chunk_size,
        "extended_from": module.extended_from,
        "search": module.search_state(),
    }


def read_contents(checkpoint: dict[str, Any], module: "PromptModule") -> dict[str, Any]:
    """Restores the results, and gives the state of the search that was under way.

    A search that has ended and is to make more steps begins with its first chunk again: each chunk goes on from the
    state that it has ended with.

    Raises:
        InputError: if they belong to another LM, other targets or other settings.
    """
    saved = checkpoint.get(_KEY)
    if saved is None:
        raise InputError("--ckpt_path: this checkpoint was not written by lit_prompt")
    if saved.get("format", 1) > _FORMAT:
        raise InputError("--ckpt_path: a newer lit_prompt wrote this checkpoint; use that version or a later one")
    if saved["lm_fingerprint"] != module.lm.fingerprint:
        raise InputError(
            f"the checkpoint belongs to another LM: it was made with {saved['lm']} ({saved['lm_fingerprint']}), "
            f"this is {module.lm_path} ({module.lm.fingerprint}); give the same --lm and --lm_options.dtype"
        )
    if saved["targets"] != module.data.targets.fingerprint:
        raise InputError(
            f"the checkpoint belongs to other targets ({saved['targets']}, not {module.data.targets.fingerprint}); "
            "use the run's own config, or --run with the run's folder"
        )
    _check_front(saved.get("in_front", []), module)
    module.extended_from = saved.get("extended_from", 0)
    module.results = SearchResults.from_state_dict(saved.get("results", saved.get("bank")))
    steps = saved["settings"]["steps"]
    more = module.trainer.state.fn == "fit" and module.steps > steps
    for name, value in module.settings().items():
        known = saved["settings"].get(name, value)  # a setting that has come since was at its default
        if known != value and not (name == "steps" and more):
            raise InputError(
                f"the checkpoint was made with {name} = {known!r}, this run has {value!r}; "
                "a search is resumed with its own settings (--run takes them from the run's folder)"
            )
    if module.trainer.state.fn != "fit":
        checkpoint["state_dict"] = {}  # of the chunk under way; an evaluation needs the results alone
        return {}
    if saved.get("format", 1) < _FIRST_RESUMABLE:
        raise InputError(
            "--ckpt_path: lit_prompt 0.1 wrote this checkpoint; it can be tested as it is, but to resume its search "
            "use that version, or start anew"
        )
    if saved["chunk_size"] != module.data.chunk_size:
        raise InputError(
            f"the checkpoint was made with data.chunk_size {saved['chunk_size']}, this run has {module.data.chunk_size}"
        )
    if more:
        _extend(checkpoint, module, steps)
    search: dict[str, Any] = saved["search"]
    return search


def _extend(checkpoint: dict[str, Any], module: "PromptModule", steps: int) -> None:
    """Prepares a checkpoint, and the module, for more steps than the ``steps`` that its search has ended after."""
    if not module.results.ended:
        raise InputError(
            f"only a search that has ended can be taken further: resume it with model.steps {steps}, then extend it"
        )
    module.ended_chunks.require(steps, module.data.num_chunks)
    module.extended_from = steps
    module.results.reason[module.results.reason == StopReason.STEPS] = int(StopReason.RUNNING)
    saved = checkpoint[_KEY]
    saved["search"] = {"micro_batch": saved["search"]["micro_batch"]}
    checkpoint["callbacks"].pop("TokenSearch", None)
    loops = checkpoint["loops"]["fit_loop"]
    for name in ("epoch_progress", "epoch_loop.batch_progress"):
        for counts in (loops[name]["total"], loops[name]["current"]):
            counts.update(dict.fromkeys(counts, 0))
        if "is_last_batch" in loops[name]:
            loops[name]["is_last_batch"] = False


def _check_front(saved: list[int], module: "PromptModule") -> None:
    vocabulary = module.data.vocabulary
    if saved != vocabulary.front_ids:
        then, now = (repr(vocabulary.decode(ids)) if ids else "nothing" for ids in (saved, vocabulary.front_ids))
        raise InputError(
            f"the checkpoint was made with {then} in front of every text, this run has {now}; "
            f"set lm_options.bos to {'auto or always' if saved else 'never'}"
        )
