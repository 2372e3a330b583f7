"""Prompts as LightningModules."""

from lit_prompt.models.base import PromptModule
from lit_prompt.models.hard import HardPrompt
from lit_prompt.models.prompt_init import PromptInit
from lit_prompt.models.soft import SoftPrompt
from lit_prompt.models.text import TextPrompt

__all__ = ["HardPrompt", "PromptInit", "PromptModule", "SoftPrompt", "TextPrompt"]
