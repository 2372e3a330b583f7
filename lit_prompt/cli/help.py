"""The help of the settings: every key of ours, as plain text."""

import argparse
import re
from typing import Any

from lightning.pytorch.cli import LightningArgumentParser


class SettingsParser(LightningArgumentParser):
    """A parser whose help leaves the trainer's forty arguments to Lightning's own page, and shows no reST marks."""

    def format_help(self, *args: Any, **kwargs: Any) -> str:
        """What ``--help`` prints, which is all that the parser is good for then."""
        for action in self._actions:
            if action.dest.startswith("trainer."):
                action.help = argparse.SUPPRESS
        return re.sub(r"(?::\w+:)?`+([^`]+)`+", r"\1", super().format_help(*args, **kwargs))
