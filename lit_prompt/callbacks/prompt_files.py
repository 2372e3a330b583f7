"""A run's best prompts as files."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from lit_prompt.errors import InputError
from lit_prompt.files import newest
from lit_prompt.models import PromptModule
from lit_prompt.models.driven import DrivenPrompt
from lit_prompt.records.checksum import CHECKSUM
from lit_prompt.records.prompt_texts import read_texts, write_texts
from lit_prompt.records.prompts import WEIGHTS, prompts_digest, read_prompts, write_prompts
from lit_prompt.search.mixture_results import MixtureResults


class PromptFiles:
    """A prompt of each task that was searched, with what it belongs to: as numbers and, of tokens, as texts.

    Args:
        module: has searched them.
        restarts: whose prompt is meant, by the number of a task.

    Attributes:
        checksum: of the prompts and of what they belong to.
    """

    def __init__(self, module: PromptModule, restarts: Sequence[int] | Mapping[int, int]) -> None:
        self._module = module
        self._searched = module.results.searched.nonzero().flatten().tolist()
        names, results = module.data.targets.task_ids, module.results
        self._about = {
            "method": module.method,
            "lm": module.lm_path,
            "lm_fingerprint": module.lm.fingerprint,
            "targets": module.data.targets.fingerprint,
            "in_front": module.data.vocabulary.front,
            "before": module.before,
            "after": module.after,
            "settings": json.dumps(module.settings()),
        }
        if isinstance(results, MixtureResults):
            mixtures = {names[i]: results.mixture(i, restarts[i]) for i in self._searched}
            self._prompts = {name: prompts.numpy() for name, (prompts, _) in mixtures.items()}
            self._weights = {name: weights.tolist() for name, (_, weights) in mixtures.items()}
            self._about |= {WEIGHTS: json.dumps(self._weights)}
        else:
            self._prompts = {names[i]: results.prompts[i, restarts[i]].numpy() for i in self._searched}
            self._weights = {}
        self.checksum = prompts_digest(self._prompts, self._about)
        self._are_tokens = not module.results.prompts.is_floating_point()

    def known(self, folder: Path) -> list[Path]:
        """The newest files in a run's folder where they hold these very prompts; none where they do not."""
        files = [newest(folder, name) for name in ("prompts.safetensors", *(["prompts.jsonl"] * self._are_tokens))]
        paths = [path for path in files if path is not None]
        if len(paths) < len(files):
            return []
        try:
            same = read_prompts(paths[0])[1].get(CHECKSUM) == self.checksum
            if same and self._are_tokens:
                read_texts(paths[1], self._prompts, self.checksum)
        except InputError:
            return []
        return paths if same else []

    def writers(self) -> dict[str, Callable[[Path], object]]:
        """What writes each file, by its name."""
        found: dict[str, Callable[[Path], object]] = {
            "prompts.safetensors": partial(write_prompts, self._prompts, self._about)
        }
        if self._are_tokens:
            each = [
                (task, name, *own)
                for task, name in zip(self._searched, self._prompts, strict=True)
                for own in self._components(name)
            ]
            ids = [prompt for _, _, prompt, _ in each]
            assert isinstance(self._module, DrivenPrompt)
            texts = self._module.prompt_texts([task for task, *_ in each], ids)
            rows = [(name, text, prompt, weight) for (_, name, prompt, weight), text in zip(each, texts, strict=True)]
            found["prompts.jsonl"] = partial(write_texts, rows, self.checksum)
        return found

    def _components(self, name: str) -> list[tuple[list[int], float | None]]:
        """Ids of a task's prompts, and the weight of each that belongs to a mixture."""
        prompts = self._prompts[name].tolist()
        return list(zip(prompts, self._weights[name], strict=True)) if self._weights else [(prompts, None)]
