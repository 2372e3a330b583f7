"""Types of options: a text is what it is given as, and a class one of the kind that is wanted."""

import contextlib
import types
import typing
from typing import Any

import yaml
from jsonargparse._typehints import ActionTypeHint

from lit_prompt.cli.classes import refuse_others
from lit_prompt.cli.yaml_text import read_yaml

#: What an error says is expected of an item of a list of texts and ids.
TEXT_OR_ID = "text or an id"
_UNIONS = (typing.Union, types.UnionType)


class _Given(str):
    """What stands on the command line, unread: jsonargparse reads a plain ``str`` as YAML wherever it meets one."""


class TextHint(ActionTypeHint):
    """A type of the settings' parser that never reads a text as anything else, and takes no class of another kind.

    Where a text is wanted, it is taken as it is; ``null`` on the command line is none where there may be none. In a
    list of texts and ids (of tokens, say) a text is no id, and what YAML makes of ``yes`` is refused.
    """

    def __call__(self, parser: Any, cfg: Any, value: Any, option: Any = None) -> None:
        """Takes what stands on the command line; an option of an option hands it down unread."""
        super().__call__(parser, cfg, _Given(value) if isinstance(value, str) else value, option)

    def _check_type_(self, value: Any, **kwargs: Any) -> Any:
        given = isinstance(value, _Given)
        value = str(value) if given else value
        if given and value == "null" and type(None) in _members(self._typehint):
            return None
        if given and self._lists_texts():
            with contextlib.suppress(yaml.YAMLError):
                value = read_yaml(value)
        if self._is_exact(value) and not kwargs.get("append"):
            return value
        found = super()._check_type_(value, **kwargs)
        try:
            refuse_others(found, value, self._typehint)
        except TypeError as error:
            raise TypeError(f'Parser key "{self.dest}":\n{error}') from None
        return found

    @property
    def refuses_none(self) -> bool:
        """Whether there must be a value, and is one by default."""
        return self.default is not None and not _members(self._typehint) & {type(None), Any}

    @property
    def wanted(self) -> str:
        """The type as an error names it."""
        return getattr(self._typehint, "__name__", str(self._typehint))

    def serialize(self, value: Any, dump_kwargs: Any = None) -> Any:
        """What is saved of a value."""
        return value if self._is_exact(value) else super().serialize(value, dump_kwargs=dump_kwargs)

    def instantiate_classes(self, value: Any) -> Any:
        """What the class gets."""
        return value if self._is_exact(value) else super().instantiate_classes(value)

    def _is_exact(self, value: Any) -> bool:
        """Whether a value is a text where texts are wanted, or a list of texts and ids where such are."""
        if isinstance(value, list) and self._lists_texts():
            for item in value:
                if type(item) not in (str, int):
                    raise TypeError(f'Parser key "{self.dest}":\nExpected a {TEXT_OR_ID}. Got value: {item}')
            return True
        return isinstance(value, str) and _members(self._typehint) <= {str, type(None)}

    def _lists_texts(self) -> bool:
        lists = [hint for hint in _members(self._typehint) if typing.get_origin(hint) is list]
        return any(_members(*typing.get_args(hint)) == {str, int} for hint in lists)


def _members(hint: Any) -> set[Any]:
    """The types of a union, or the type itself."""
    return set(typing.get_args(hint)) if typing.get_origin(hint) in _UNIONS else {hint}
