"""Prompts as LightningModules."""

from lit_prompt.models.base import PromptModule
from lit_prompt.models.hard import HardPrompt
from lit_prompt.models.lift_prompt import LiftPrompt
from lit_prompt.models.prompt_init import PromptInit
from lit_prompt.models.soft import SoftPrompt
from lit_prompt.models.trainer_checks import refuse_many_devices

__all__ = ["HardPrompt", "LiftPrompt", "PromptInit", "PromptModule", "SoftPrompt", "refuse_many_devices"]
