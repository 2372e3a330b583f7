"""Token ids of the whole answers in a user's file."""

from collections.abc import Sequence

from lit_prompt.data.answer_tokens import AnswerTokens, first_beginning
from lit_prompt.data.user_distribution import UserDistribution
from lit_prompt.errors import InputError
from lit_prompt.lm import Vocabulary


class WholeAnswers:
    """Token ids of answers of any length, each checked against the others.

    Args:
        vocabulary: of the LM.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._tokens = AnswerTokens(vocabulary)

    def __call__(self, entry: UserDistribution) -> list[list[list[int]]]:
        """Of each answer or cell of a distribution, the ids of its answers; mistakes are reported."""
        groups: Sequence[Sequence[int | str | None]] = entry.cells or [[answer] for answer in entry.answers]
        found: list[list[list[int]]] = []
        spelled: dict[str, list[int]] = {}
        with entry.mistakes_reported():
            try:
                after = self._tokens.after(entry.texts)
            except InputError as error:
                raise InputError(f"{entry.where}: {error}") from error
            for i, group in enumerate(groups):
                found.append([])
                for answer in group:
                    if answer is None:
                        continue  # reported when it was read
                    with entry.mistakes_reported():
                        found[-1].append(self._spell(str(answer), after, entry, entry.where_of(i), spelled))
            self._check(spelled, entry)
        return found

    def _spell(
        self, answer: str, after: str, entry: UserDistribution, where: str, spelled: dict[str, list[int]]
    ) -> list[int]:
        if answer in spelled:
            raise InputError(f"{where}: string {answer!r} is listed twice")
        spelled[answer] = []
        try:
            spelled[answer] = self._tokens(answer, after, entry.facts.end)
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
        return spelled[answer]

    def _check(self, spelled: dict[str, list[int]], entry: UserDistribution) -> None:
        """Refuses an answer that begins another one: which of them was meant could not be told."""
        answers = [answer for answer, ids in spelled.items() if ids]
        if (pair := first_beginning([spelled[answer] for answer in answers])) is None:
            return
        short, long = (answers[i] for i in pair)
        if spelled[short] == spelled[long]:
            raise InputError(f"{entry.where}: the answers {short!r} and {long!r} are the same tokens; keep one of them")
        hint = 'another "end"' if entry.facts.end else '"end": true for the LM\'s end token, or "end": ".", say'
        raise InputError(
            f"{entry.where}: the answer {short!r} begins another one, {long!r}, so that the LM must say where it ends; "
            f"give {hint}"
        )
