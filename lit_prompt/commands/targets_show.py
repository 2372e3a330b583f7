"""``lit_prompt targets show``: a set of targets as a table and a picture."""

from argparse import Namespace
from pathlib import Path

import numpy as np

from lit_prompt.cli.parser import user_path
from lit_prompt.data import TargetBatch, TargetSet
from lit_prompt.data.datamodule import check_vocabulary
from lit_prompt.errors import InputError
from lit_prompt.lm import LMOptions, Vocabulary
from lit_prompt.results.console import say
from lit_prompt.results.figures import sorted_probabilities
from lit_prompt.results.picture import save_picture
from lit_prompt.results.targets_shown import print_remarks, print_summary, print_targets

_DRAWN_PER_FAMILY = 200
_RANKS = 256


def run(options: Namespace) -> None:
    """Prints and draws a set of targets, or those of a run."""
    out: Path | None = options.out
    if options.rows < 0:
        raise InputError(f"--rows is {options.rows}; give a number of targets, or 0 for all")
    if out is not None and out.suffix != ".png":
        raise InputError(f"--out: {out} must end in .png")
    if out is not None and not out.parent.is_dir():
        raise InputError(f"--out: no folder {out.parent}")
    targets = TargetSet(_set_folder(options.folder))
    name = options.lm or targets.lm
    if name is None:
        raise InputError(f"{targets.folder}: does not say which LM it was built for; name it with --lm")
    lm_options = LMOptions(revision=options.revision, trust_remote_code=options.trust_remote_code == "true")
    try:
        vocabulary = Vocabulary.load(name, lm_options)
    except InputError as error:
        hint = (
            "" if options.lm else f" ({targets.folder} was built for it; where it is elsewhere now, name it with --lm)"
        )
        raise InputError(f"{error}{hint}") from error
    check_vocabulary(targets, vocabulary)
    print_summary(targets)
    print_targets(targets, vocabulary, options.rows)
    print_remarks(targets.rejected, [])
    picture = out or targets.folder / "targets.png"
    try:
        save_picture(sorted_probabilities(*_curves(targets), title=str(options.folder)), picture)
    except OSError as error:
        message = f"{picture} cannot be written ({error.strerror})"
        if out is not None:
            raise InputError(f"--out: {message}") from error
        say(f"no picture: {message}; name another place with --out")
    else:
        say(f"picture   {picture}")


def _set_folder(folder: Path) -> Path:
    """The set of a run: its own, or the one that it was started with as data.load."""
    if (folder / "targets").is_dir():
        return folder / "targets"
    if (folder / "config.yaml").is_file():
        import yaml

        settings = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
        if load := settings.get("data", {}).get("load"):
            return user_path(load)
    return folder


def _sorted_probs(batch: TargetBatch) -> np.ndarray:
    """Probabilities of a target's tokens, or of its answers or cells and zeros, ``[vocab]``."""
    answers = batch.answers[0]
    if answers is None:
        return batch.log_probs[0].sort(descending=True).values.exp().numpy()
    found = np.zeros(max(batch.log_probs.shape[1], len(answers.probs)))
    found[: len(answers.probs)] = sorted(answers.probs, reverse=True)
    return found


def _curves(targets: TargetSet) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray]:
    """Sorted probabilities ``[target, rank]`` and entropies of some targets of each family, and the ranks."""
    ranks = np.unique(np.geomspace(1, targets.vocab_size, _RANKS).round().astype(int))
    family = np.array(targets.family)
    curves, entropy = {}, targets.entropy.numpy()
    drawn_entropy = {}
    for name in dict.fromkeys(targets.family):
        mine = np.flatnonzero(family == name)
        # of a large family targets of every entropy, evenly spaced
        mine = mine[np.argsort(entropy[mine], kind="stable")]
        drawn = mine[np.linspace(0, len(mine) - 1, min(len(mine), _DRAWN_PER_FAMILY)).round().astype(int)]
        # read one by one: a row is as long as the vocabulary
        curves[name] = np.stack([_sorted_probs(targets.batch([i]))[ranks - 1] for i in drawn.tolist()])
        drawn_entropy[name] = entropy[drawn]
    return curves, drawn_entropy, ranks
