"""Token ids of the answers in a user's file."""

from functools import lru_cache

from lit_prompt.data.user_distribution import UserDistribution
from lit_prompt.errors import InputError
from lit_prompt.lm import Vocabulary


class AnswerIds:
    """Token ids of answers: of texts that are one token, of ids, and of strings, which stand for their first token.

    The tokenizer is asked once for a text that many targets share.

    Args:
        vocabulary: of the LM.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._text = lru_cache(vocabulary.size)(vocabulary.text)
        self._token_id = lru_cache(vocabulary.size)(vocabulary.token_id)
        self._first_id = lru_cache(vocabulary.size)(self._first)

    def __call__(self, answer: int | str, strings: bool, where: str) -> int:
        """Id of an answer, a text or an id; ``strings`` says that a text may be longer than a token.

        Raises:
            InputError: if there is no such token.
        """
        if isinstance(answer, int):
            return self._vocabulary.checked_id(answer, where)
        try:
            return self._first_id(answer) if strings else self._token_id(answer)
        except InputError as error:
            hint = "" if strings else '; for texts of several tokens use "strings" (a column "string")'
            raise InputError(f"{where}: {error}{hint}") from error

    def by_id(self, entry: UserDistribution) -> dict[int, int | str]:
        """The answers of a distribution, a token each, by their ids; mistakes are reported."""
        found: dict[int, int | str] = {}
        shared: dict[int, list[int | str]] = {}
        for i, answer in enumerate(entry.answers):
            if answer is None:
                continue  # reported when it was read
            where = entry.where_of(i)
            with entry.mistakes_reported():
                token_id = self(answer, entry.strings, where)
                if token_id not in found:
                    found[token_id] = answer
                elif found[token_id] == answer or not entry.strings:
                    raise InputError(f"{where}: {'string' if entry.strings else 'token'} {answer!r} is listed twice")
                else:
                    shared.setdefault(token_id, [found[token_id]]).append(answer)
        with entry.mistakes_reported():
            if shared:
                raise self._collision(entry, shared)
        return found

    def _first(self, string: str) -> int:
        ids = self._vocabulary.continuation_ids(string)
        if not ids:
            problem = "cannot be spelled by this LM's tokens" if string else "is empty"
            raise InputError(f"the string {string!r} {problem}")
        return ids[0]

    def _collision(self, entry: UserDistribution, shared: dict[int, list[int | str]]) -> InputError:
        """The error of strings that begin with the same token; ``shared`` holds those of each such token."""
        groups = "; ".join(
            f"{', '.join(map(repr, strings))} begin with {self._text(token_id)!r}"
            for token_id, strings in shared.items()
        )
        return InputError(
            f"{entry.where}: strings of {entry.name!r} share their first token, by which alone they could be told "
            f"apart: {groups}"
        )

    def notes(self, entry: UserDistribution, by_id: dict[int, int | str]) -> list[str]:
        """Says which token stands for which string, of those that are longer than a token."""
        if not entry.strings:
            return []
        pairs = [(self._text(token_id), string) for token_id, string in by_id.items()]
        longer = [f"{token!r} for {string!r}" for token, string in pairs if token != string]
        return ["first tokens stand for strings: " + ", ".join(longer)] if longer else []
