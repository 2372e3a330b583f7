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
from lit_prompt.records.prompts import prompts_digest, read_prompts, write_prompts


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
        names = module.data.targets.task_ids
        self._prompts = {names[i]: module.results.prompts[i, restarts[i]].numpy() for i in self._searched}
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
            ids = [prompt.tolist() for prompt in self._prompts.values()]
            assert isinstance(self._module, DrivenPrompt)
            texts = self._module.prompt_texts(self._searched, ids)
            rows = list(zip(self._prompts, texts, ids, strict=True))
            found["prompts.jsonl"] = partial(write_texts, rows, self.checksum)
        return found
