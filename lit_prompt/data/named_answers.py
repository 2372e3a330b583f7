"""What stands for a vocabulary where an LM is only served: the answers that each target names."""

from dataclasses import replace
from functools import cached_property

from lit_prompt.data.answers import Answers
from lit_prompt.data.target import Target
from lit_prompt.data.user_distribution import UserDistribution
from lit_prompt.errors import InputError

#: Answers that a target may name.
MOST_ANSWERS = 1024


class NamedAnswers:
    """Answers by their names alone: no token ids, no tokenizer, nothing in front that is known of.

    Each target counts its own answers from 0; how a server's tokens spell them is found out when it is asked.

    Args:
        lm: name of the LM.
    """

    size = MOST_ANSWERS
    fingerprint = "named-answers"
    front = ""

    def __init__(self, lm: str) -> None:
        self.lm = lm

    @cached_property
    def front_ids(self) -> list[int]:
        """None that are known: the server puts them there."""
        return []

    def decode(self, ids: list[int]) -> str:
        """The text of what stands in front: none that is known."""
        return ""

    def target(self, target_id: str, family: str, entry: UserDistribution, weights: list[float]) -> Target:
        """A target over the answers or cells of a distribution, whose weights these are.

        Raises:
            InputError: if one of them has no name, or there are too many.
        """
        for i, answer in enumerate(entry.answers):
            if isinstance(answer, int):
                raise InputError(
                    f"{entry.where_of(i)}: token id {answer} has no meaning for a served LM; name its text"
                )
        if entry.facts.end is True:
            raise InputError(f'{entry.where}: "end": true is a token of the LM, which is only served; give a text')
        names = [str(answer) for answer in entry.answers]
        groups = [[str(text) for text in cell] for cell in entry.cells] if entry.cells else [[name] for name in names]
        texts = [text for group in groups for text in group]
        for text in texts:
            if not text or texts.count(text) > 1:
                raise InputError(f"{entry.where}: answer {text!r} is {'listed twice' if text else 'empty'}")
        if len(texts) > MOST_ANSWERS:
            raise InputError(
                f"{entry.where}: {entry.name!r} names {len(texts)} answers; a served LM is asked for {MOST_ANSWERS} at "
                "most"
            )
        answers = Answers.of_cells(names, groups, [[[0]] * len(group) for group in groups], weights, entry.facts.end)
        numbered = replace(answers, ids=[[number] for number in range(len(answers.texts))])
        return Target.from_answers(target_id, family, numbered, self.size)
