"""What a prompt has to beat where targets have few answers: asking for them in words."""

from typing import TYPE_CHECKING, Any

from lit_prompt.data import TargetBatch
from lit_prompt.functional import kl_divergence
from lit_prompt.models.outcomes import target_outcomes
from lit_prompt.records.results import Columns
from lit_prompt.scoring.context import NOTHING

if TYPE_CHECKING:
    from lit_prompt.models.base import PromptModule
    from lit_prompt.models.evaluation import Evaluation

#: The wording where the user gives none.
WORDING = "Answer at random, with these probabilities: {odds}."
_MOST_ANSWERS = 12


def asking_columns(evaluator: "Evaluation[Any]", module: "PromptModule", batch: TargetBatch) -> Columns:
    """The text that asks for each target in words, and its KL as a prompt in the target's context.

    None for targets with mass on more than twelve outcomes, or where the LM does not take the text.
    """
    wording = module.evaluation_options.asking or WORDING
    odds = [_odds(module, batch, item) for item in range(len(batch))]
    texts = [None if known is None else wording.replace("{odds}", known) for known in odds]
    around = zip(module.contexts.of_all(batch), texts, strict=True)
    whole = [NOTHING if text is None else module.contexts.pasted(context, text) for context, text in around]
    kl = kl_divergence(target_outcomes(batch), evaluator.after(whole, batch.trees)[0])
    known = [text is not None and not bool(value.isnan()) for text, value in zip(texts, kl, strict=True)]
    return {
        "asking_text": [text if ok else None for text, ok in zip(texts, known, strict=True)],
        "kl_asking": [float(value) if ok else None for value, ok in zip(kl, known, strict=True)],
    }


def _odds(module: "PromptModule", batch: TargetBatch, item: int) -> str | None:
    """A target's answers with their percentages; None where they are too many."""
    if (answers := batch.answers[item]) is not None:
        shares = dict(zip(answers.names, answers.probs, strict=True))
    else:
        p = batch.log_probs[item].exp()
        ids = p.nonzero().flatten().tolist() if int((p > 0).sum()) <= _MOST_ANSWERS else []
        names = batch.first_tokens(item)
        shares = {names.get(i, module.data.vocabulary.text(i)): float(p[i]) for i in ids}
    if not 0 < len(shares) <= _MOST_ANSWERS:
        return None
    return ", ".join(f"{name.strip() or name!r} {100 * share:.3g} %" for name, share in shares.items())
