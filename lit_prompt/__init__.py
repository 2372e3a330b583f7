"""lit_prompt: search the prompt that makes a language model produce a given next-token distribution."""

__version__ = "0.1.0"
