"""What a search has found, for Python."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class FoundTarget:
    """A target and the best prompt, or mixture of prompts, that was found for it.

    Attributes:
        target_id: of the target.
        kl: KL(target || LM) after the prompt, nats, recomputed from it; None where a server does not tell it.
        kl_floor: certified: no single prompt of any kind is below it, nats; None where there is no floor.
        kl_at_least: a bound below, nats, where a server does not tell the KL; else None.
        prompt: token ids ``[length]``, int64, or embeddings ``[length, embedding]``, float32; of a mixture those of
            each of its prompts, ``[component, ...]``; of a text the bytes of UTF-8, filled up with zeros, ``[length]``,
            int64.
        text: of a hard prompt, or one that was searched as text; None for a soft one, and for a mixture.
        whole_text: that text with what stands around it.
        answers: wanted and reached probability of the likeliest outcomes, by their texts; none where ``kl`` is.
        weights: of a mixture how often each of its prompts is drawn, the largest first; None for a single prompt.
        texts: those of a mixture's hard prompts; None for others.
    """

    target_id: str
    kl: float | None
    kl_floor: float | None
    kl_at_least: float | None
    prompt: NDArray[Any] = field(repr=False)
    text: str | None
    whole_text: str | None
    answers: dict[str, tuple[float, float]]
    weights: list[float] | None = None
    texts: list[str] | None = None


@dataclass(frozen=True)
class Found(Sequence[FoundTarget]):
    """Prompts that were found, a target each.

    Attributes:
        targets: in the order in which they were given; those that nothing was found for are left out.
        rows: of each all columns of ``results.parquet``.
        was_interrupted: whether the search was stopped before its end.
    """

    targets: list[FoundTarget]
    rows: list[dict[str, Any]]
    was_interrupted: bool = False

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: Any) -> Any:
        return self.targets[index]

    def __iter__(self) -> Iterator[FoundTarget]:
        return iter(self.targets)

    def to_pandas(self) -> "pd.DataFrame":
        """A row a target, with all columns of ``results.parquet`` that hold anything."""
        import pandas as pd

        return pd.DataFrame(self.rows).dropna(axis="columns", how="all")

    def plot(self) -> "Figure":
        """KL against entropy, with certified floors."""
        from lit_prompt.results.figures import kl_against_entropy
        from lit_prompt.results.rows import grouped
        from lit_prompt.results.task_tables import marked

        return kl_against_entropy({"": grouped(marked(self.rows), itemgetter("family"))})

    def _repr_html_(self) -> str:
        columns = ["target_id", "entropy", "kl", "kl_at_least", "kl_floor", "prompt_text", "weights", "component_texts"]
        table = self.to_pandas()
        return str(table[[name for name in columns if name in table]].to_html(index=False))
