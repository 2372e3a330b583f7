"""Training of small causal LMs from text, tokenizer included."""

from lit_prompt.pretrain.datamodule import TextDataModule
from lit_prompt.pretrain.module import CausalLMTraining
from lit_prompt.pretrain.tokenizer import TokenizerTraining, train_tokenizer

__all__ = ["CausalLMTraining", "TextDataModule", "TokenizerTraining", "train_tokenizer"]
