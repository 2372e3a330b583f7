"""What evaluations of texts have in common, on LMs at hand and on those that are only served."""

from typing import TYPE_CHECKING

from lit_prompt.data import TargetBatch
from lit_prompt.errors import InputError
from lit_prompt.models.evaluation import Evaluation
from lit_prompt.models.record_columns import search_columns
from lit_prompt.records.results import Columns
from lit_prompt.search import SearchResults

if TYPE_CHECKING:
    from lit_prompt.models.text import TextPrompt


class TextEvaluation(Evaluation[SearchResults]):
    """Evaluates, of each task's texts, the one that did best in the search."""

    _module: "TextPrompt"

    def _texts(self, batch: TargetBatch, prompts: SearchResults) -> dict[str, str]:
        """The texts that were found for some targets' tasks, by the tasks' ids; notes which restarts they are of."""
        self.chosen |= {task: int(prompts.best_restart[task]) for task in batch.tasks}
        found = [task for task in batch.tasks if bool(prompts.searched[task])]
        texts = self._module.prompt_texts(found, prompts.prompts[found, prompts.best_restart[found]].tolist())
        return {self._module.data.targets.task_ids[task]: text for task, text in zip(found, texts, strict=True)}

    def _search_columns(self, batch: TargetBatch, prompts: SearchResults) -> Columns:
        """The columns that tell of the search."""
        return search_columns(batch, prompts, prompts.best_restart[batch.task]) | {
            "restarts": [self._module.restarts] * len(batch),
            "prompt_length": [self._module.length] * len(batch),
        }

    def start(self, prompts: SearchResults) -> None:
        """As of :meth:`Evaluation.start`."""
        if not bool(prompts.searched.any()):
            raise InputError("no prompt has been searched yet; name a run with --run or a checkpoint with --ckpt_path")
        super().start(prompts)
