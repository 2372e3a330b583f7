"""What a search on an LM that is only served would cost."""

import time
from typing import TYPE_CHECKING

from lit_prompt.data.datamodule import TargetDataModule
from lit_prompt.search.text_search import BEGINNINGS
from lit_prompt.served.lm import ServedLM

if TYPE_CHECKING:
    from lit_prompt.models.text import TextPrompt

# texts that are asked for to find out
_ASKED = 8


def expected_cost(module: "TextPrompt", data: TargetDataModule) -> list[str]:
    """Texts, tokens, time and money that all steps of a search take at most, as lines; few texts are asked for.

    Raises:
        InputError: if the server is not reached, or the settings are wrong.
    """
    data.setup("fit")
    lm: ServedLM = data.load_lm(None)
    try:
        module.data, module.lm, module.lm_path = data, lm, data.lm
        module.read_contexts()
        module.prepare()
        texts, questions, read, seconds = 0, 0.0, 0.0, 1.0
        for number, chunk in enumerate(data.chunks):
            problem = module.problem(data.targets.batch([i for task in chunk for i in data.targets.members(task)]))
            texts += BEGINNINGS * len(problem.groups) + module.steps * module.searcher.width * len(problem)
            if number == 0:
                before = lm.store.texts, lm.store.read
                slots = problem.groups[0]
                tried = problem.words.beginnings(_ASKED, problem.rng(slots[0], "cost"))
                started = time.perf_counter()
                problem.scorer.table(tried, [slots[0]] * len(tried), slots)
                seconds = (time.perf_counter() - started) / len(tried)
                questions = (lm.store.texts - before[0]) / len(tried)
                read = (lm.store.read - before[1]) / len(tried)
        lines = [
            f"texts     {texts:,} at most ({module.steps} steps), {questions:g} questions each",
            f"tokens    about {texts * read:,.0f} that the server reads ({read:.3g} a text)",
            f"time      about {texts * seconds / 60:,.0f} minutes ({1 / seconds:.3g} texts a second, by {len(tried)})",
        ]
        if lm.served.price is not None:
            lines.append(f"money     about {texts * read * lm.served.price / 1e6:,.2f}")
        return lines
    finally:
        lm.close()
