"""Pure torch functions: no Lightning, no transformers."""

from lit_prompt.functional.divergence import (
    entropy,
    js_divergence,
    kl_divergence,
    largest_errors,
    missed_mass,
    normalize_log_probs,
    reverse_kl_divergence,
    token_kl,
    top_k_overlap,
    total_variation,
)
from lit_prompt.functional.draws import draws_to_tell
from lit_prompt.functional.entropy_match import EntropyMatchError, match_entropy, temperature_for_entropy
from lit_prompt.functional.floor import kl_floor
from lit_prompt.functional.goodness import draw_outcomes, goodness_of_fit
from lit_prompt.functional.mixture_floor import log_mixture_count, mixture_floor_tokens
from lit_prompt.functional.objective import kl_from_moments, kl_table_from_moments
from lit_prompt.functional.outlier import descend_to_outliers, max_outlier_mass
from lit_prompt.functional.output_head import OutputHead
from lit_prompt.functional.rows import one_thread
from lit_prompt.functional.sampling import sampled_log_probs
from lit_prompt.functional.seeds import seed_for
from lit_prompt.functional.sphere import kl_on_sphere
from lit_prompt.functional.tail_floor import Tails, kl_floor_tails
from lit_prompt.functional.token_floor import kl_floor_tokens, log_prompt_count, prompt_information

__all__ = [
    "EntropyMatchError",
    "OutputHead",
    "Tails",
    "descend_to_outliers",
    "draw_outcomes",
    "draws_to_tell",
    "entropy",
    "goodness_of_fit",
    "js_divergence",
    "kl_divergence",
    "kl_floor",
    "kl_floor_tails",
    "kl_floor_tokens",
    "kl_from_moments",
    "kl_on_sphere",
    "kl_table_from_moments",
    "largest_errors",
    "log_mixture_count",
    "log_prompt_count",
    "match_entropy",
    "max_outlier_mass",
    "missed_mass",
    "mixture_floor_tokens",
    "normalize_log_probs",
    "one_thread",
    "prompt_information",
    "reverse_kl_divergence",
    "sampled_log_probs",
    "seed_for",
    "temperature_for_entropy",
    "token_kl",
    "top_k_overlap",
    "total_variation",
]
