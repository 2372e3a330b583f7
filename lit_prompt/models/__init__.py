"""Prompts as LightningModules."""

from lit_prompt.models.base import PromptModule, refuse_many_devices
from lit_prompt.models.prompt_init import PromptInit
from lit_prompt.models.soft import SoftPrompt

__all__ = ["PromptInit", "PromptModule", "SoftPrompt", "refuse_many_devices"]
