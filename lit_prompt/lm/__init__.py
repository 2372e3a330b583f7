"""Language models: loading, freezing, vocabulary, fingerprint."""

from lit_prompt.lm.allowed_tokens import AllowedTokens
from lit_prompt.lm.cache import LMCache
from lit_prompt.lm.chat import ChatTexts, chat_json
from lit_prompt.lm.frozen import FrozenLM
from lit_prompt.lm.geometry import output_geometry
from lit_prompt.lm.half import WORTH_HALF, computes_in_half, half_copy, speed_in_half
from lit_prompt.lm.load import load_causal_lm, load_tokenizer
from lit_prompt.lm.options import DEFAULT_LM, LMOptions
from lit_prompt.lm.packed import Packed
from lit_prompt.lm.prefix_cache import PrefixCache
from lit_prompt.lm.round_trip import RoundTrip
from lit_prompt.lm.sample import sample_prompts
from lit_prompt.lm.sampling import PLAIN, Sampling
from lit_prompt.lm.vocabulary import Vocabulary
from lit_prompt.lm.vocabulary_map import VocabularyMap

__all__ = [
    "DEFAULT_LM",
    "PLAIN",
    "WORTH_HALF",
    "AllowedTokens",
    "ChatTexts",
    "FrozenLM",
    "LMCache",
    "LMOptions",
    "Packed",
    "PrefixCache",
    "RoundTrip",
    "Sampling",
    "Vocabulary",
    "VocabularyMap",
    "chat_json",
    "computes_in_half",
    "half_copy",
    "load_causal_lm",
    "load_tokenizer",
    "output_geometry",
    "sample_prompts",
    "speed_in_half",
]
