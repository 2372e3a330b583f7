"""What an evaluation tells beside the KL of a prompt."""

from dataclasses import dataclass, field

from lit_prompt.errors import InputError
from lit_prompt.lm import Sampling


@dataclass(frozen=True)
class EvaluationOptions:
    """What an evaluation tells beside the KL of a prompt.

    Attributes:
        sampling: how tokens are drawn from the LM; the KL and what is drawn are told for that, too.
        draws: outcomes that are drawn for each target, counted and tested; 0 for none.
        asking: a prompt that asks for the target in words, to compare with; ``{odds}`` stands for its answers with
            their percentages. null for a wording of our own.
    """

    sampling: Sampling = field(default_factory=Sampling)
    draws: int = 0
    asking: str | None = None

    def __post_init__(self) -> None:
        if self.draws < 0:
            raise InputError(f"--draws is {self.draws}; give a number of draws, or 0 for none")
        if self.asking is not None and "{odds}" not in self.asking:
            raise InputError("--asking: the text must hold {odds}, where the answers with their percentages go")
