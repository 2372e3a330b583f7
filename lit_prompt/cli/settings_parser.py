"""The parser of the settings that the commands which run a trainer have in common."""

import argparse
import re
from typing import Any

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

    def format_help(self, *args: Any, **kwargs: Any) -> str:
        """What ``--help`` prints, which is all that the parser is good for then."""
        for action in self._actions:
            if action.dest.startswith(self.hidden):
                action.help = argparse.SUPPRESS
        return re.sub(r"(?::\w+:)?`+([^`]+)`+", r"\1", super().format_help(*args, **kwargs))
