"""The parser of the settings that the commands which run a trainer have in common."""

import argparse
import re
from typing import Any

from jsonargparse import Namespace
from jsonargparse._actions import _ActionConfigLoad
from jsonargparse._typehints import ActionTypeHint
from lightning.pytorch.cli import LightningArgumentParser

from lit_prompt.cli.text_options import TextHint


class SettingsParser(LightningArgumentParser):
    """A parser that takes texts as they are, and whose help shows no reST marks.

    Attributes:
        hidden: beginnings of the options that the help leaves out, such as the trainer's forty.
    """

    hidden: tuple[str, ...] = ()

    def add_argument(self, *args: Any, **kwargs: Any) -> Any:
        """Adds an option; jsonargparse gives its groups this method, too."""
        action = super().add_argument(*args, **kwargs)
        if type(action) is ActionTypeHint:
            action.__class__ = TextHint
        return action

    def _check_value_key(self, action: argparse.Action, value: Any, key: str, *args: Any, **kwargs: Any) -> Any:
        """Refuses ``null`` where there must be something, which jsonargparse takes for what is not given.

        A group of settings that is empty is at its defaults.
        """
        if value is None and isinstance(action, _ActionConfigLoad):
            value = Namespace()
        if value is None and isinstance(action, TextHint) and action.refuses_none:
            raise TypeError(f'Parser key "{key}":\nExpected a {action.wanted}. Got value: null')
        return super()._check_value_key(action, value, key, *args, **kwargs)

    def format_help(self, *args: Any, **kwargs: Any) -> str:
        """What ``--help`` prints, which is all that the parser is good for then."""
        for action in self._actions:
            if action.dest.startswith(self.hidden):
                action.help = argparse.SUPPRESS
        return re.sub(r"(?::\w+:)?`+([^`]+)`+", r"\1", super().format_help(*args, **kwargs))
