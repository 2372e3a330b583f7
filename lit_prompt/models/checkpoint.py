"""What a checkpoint of a search holds beside the tensors that Lightning carries, and whether a run may use it."""

from typing import TYPE_CHECKING, Any

from lit_prompt.errors import InputError
from lit_prompt.records.checkpoint import get_contents, put_contents
from lit_prompt.search import SearchResults, StopReason

if TYPE_CHECKING:
    from lit_prompt.models.base import PromptModule


def write_contents(checkpoint: dict[str, Any], module: "PromptModule") -> None:
    """Stores results, search state and what they belong to; the LM is named and fingerprinted, not stored."""
    if (current := module.under_search()) is not None:
        module.results.put(*current)
    contents = {
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
    put_contents(checkpoint, contents)


def read_contents(checkpoint: dict[str, Any], module: "PromptModule") -> dict[str, Any]:
    """Restores the results, and gives the state of the search that was under way.

    A search that has ended and is to make more steps begins with its first chunk again: each chunk goes on from the
    state that it has ended with.

    Raises:
        InputError: if they belong to another LM, other targets or other settings.
    """
    resumed = module.trainer.state.fn == "fit"
    saved = get_contents(checkpoint, resumed)
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
    _check_front(saved["in_front"], module)
    module.extended_from = saved["extended_from"]
    module.results = SearchResults.from_state_dict(saved["results"])
    steps = saved["settings"]["steps"]
    more = resumed and module.steps > steps
    for name, value in module.settings().items():
        known = saved["settings"].get(name, value)  # a setting that has come since was at its default
        if known != value and not (name == "steps" and more):
            raise InputError(
                f"the checkpoint was made with {name} = {known!r}, this run has {value!r}; "
                "a search is resumed with its own settings (--run takes them from the run's folder)"
            )
    if not resumed:
        checkpoint["state_dict"] = {}  # of the chunk under way; an evaluation needs the results alone
        return {}
    if saved["chunk_size"] != module.data.chunk_size:
        raise InputError(
            f"the checkpoint was made with data.chunk_size {saved['chunk_size']}, this run has {module.data.chunk_size}"
        )
    if more:
        _extend(checkpoint, saved, module, steps)
    search: dict[str, Any] = saved["search"]
    return search


def _extend(checkpoint: dict[str, Any], saved: dict[str, Any], module: "PromptModule", steps: int) -> None:
    """Prepares a checkpoint, and the module, for more steps than the ``steps`` that its search has ended after."""
    if not module.results.ended:
        raise InputError(
            f"only a search that has ended can be taken further: resume it with model.steps {steps}, then extend it"
        )
    module.ended_chunks.require(steps, module.data.num_chunks)
    module.extended_from = steps
    module.results.reason[module.results.reason == StopReason.STEPS] = int(StopReason.RUNNING)
    kept = ("micro_batch", "screening")
    saved["search"] = {name: value for name, value in saved["search"].items() if name in kept}
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
