"""What a search's results and states belong to, and whether a run may use them."""

from typing import TYPE_CHECKING, Any

from lit_prompt.errors import InputError

if TYPE_CHECKING:
    from lit_prompt.models.base import PromptModule


#: What held for runs that were made before there was a setting, and tells on what they have found.
_FORMER = {"components": 1}


def belonging(module: "PromptModule") -> dict[str, Any]:
    """What a module's results belong to: LM and targets, by their fingerprints, and all that defines the search."""
    return {
        "lm": module.lm_path,
        "lm_fingerprint": module.lm.fingerprint,
        "targets": module.data.targets.fingerprint,
        "in_front": module.data.vocabulary.front_ids,
        "settings": module.settings(),
    }


def refuse_foreign(about: dict[str, Any], module: "PromptModule", what: str) -> None:
    """Refuses results of another LM, other targets or other settings; the number of steps may be another one.

    Args:
        about: what :func:`belonging` gave.
        module: wants to use them.
        what: they stand in.

    Raises:
        InputError: if they are.
    """
    if about["lm_fingerprint"] != module.lm.fingerprint:
        raise InputError(
            f"{what} belongs to another LM: it was made with {about['lm']} ({about['lm_fingerprint']}), "
            f"this is {module.lm_path} ({module.lm.fingerprint}); give the same --lm and --lm_options.dtype"
        )
    if about["targets"] != module.data.targets.fingerprint:
        raise InputError(
            f"{what} belongs to other targets ({about['targets']}, not {module.data.targets.fingerprint}); "
            "use the run's own config, or --run with the run's folder"
        )
    vocabulary = module.data.vocabulary
    if about["in_front"] != vocabulary.front_ids:
        then, now = (
            repr(vocabulary.decode(ids)) if ids else "nothing" for ids in (about["in_front"], vocabulary.front_ids)
        )
        raise InputError(
            f"{what} was made with {then} in front of every text, this run has {now}; "
            f"set lm_options.bos to {'auto or always' if about['in_front'] else 'never'}"
        )
    for name, value in module.settings().items():
        # a setting that has come since was at its default
        known = about["settings"].get(name, _FORMER.get(name, value))
        if known != value and name != "steps":
            raise refused_setting(what, name, known, value)


def refused_setting(what: str, name: str, then: object, now: object) -> InputError:
    """What is said of a setting that is not as it was."""
    return InputError(
        f"{what} was made with {name} = {then!r}, this run has {now!r}; "
        "a search is resumed with its own settings (--run takes them from the run's folder)"
    )
