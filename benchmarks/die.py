"""Draws docs/die.png: a die before and after a soft and a hard prompt that ``lit_prompt find`` has found.

Both runs need the predictions of ``lit_prompt predict --run RUN``.
"""

import argparse
from pathlib import Path

import torch

from lit_prompt.lm import LMOptions, load_causal_lm, load_tokenizer
from lit_prompt.records.predictions import PREDICTIONS
from lit_prompt.records.results import read_results
from lit_prompt.results.rows import Row
from lit_prompt.results.style import COLORS, FAINT, INK, figure_style, new_figure

REST = "all else"
HIGHEST = 0.32  # taller bars are cut, and tell their value


def reached(run: Path) -> dict[str, float]:
    """Probability of each answer after the run's prompt, and of all else."""
    rows: list[Row] = PREDICTIONS.read(run / "predictions.parquet").to_pylist()
    found = {row["token"]: row["reached_probability"] for row in rows if row["target_probability"] > 0.0}
    return found | {REST: 1.0 - sum(found.values())}


def unprompted(lm: str, text: str, answers: list[str]) -> dict[str, float]:
    """Probability of each answer after a text alone, by transformers, and of all else."""
    tokenizer = load_tokenizer(lm, LMOptions())
    ids = torch.tensor([tokenizer(text)["input_ids"]])
    with torch.inference_mode():
        q = load_causal_lm(lm, LMOptions())(ids).logits[0, -1].double().softmax(0)
    found = {answer: float(q[tokenizer(answer, add_special_tokens=False)["input_ids"][0]]) for answer in answers}
    return found | {REST: 1.0 - sum(found.values())}


@figure_style()
def draw(soft_run: Path, hard_run: Path, out: Path) -> None:
    """Bars of the answers' probabilities: wanted, without a prompt, after each prompt."""
    soft, hard = (read_results(run / "results.parquet", run).to_pylist()[0] for run in (soft_run, hard_run))
    sides = sorted(set(reached(soft_run)) - {REST}, key=[" one", " two", " three", " four", " five", " six"].index)
    names = [*sides, REST]
    series = {
        f"{Path(soft['lm']).name.split('-Instruct')[0]} without a prompt": (
            unprompted(soft["lm"], soft["unprompted_text"], sides),
            FAINT,
        ),
        f"after a text that can be pasted, KL {hard['kl']:.2f} nats": (reached(hard_run), COLORS[4]),
        f"after a soft prompt, KL {soft['kl']:.4f} nats": (reached(soft_run), COLORS[0]),
    }
    figure = new_figure(8.0, 3.6)
    axes = figure.subplots()
    for number, (label, (probs, color)) in enumerate(series.items()):
        places = [i + 0.27 * (number - 1) for i in range(len(names))]
        axes.bar(places, [probs[name] for name in names], 0.25, color=color, label=label)
        for place, name in zip(places, names, strict=True):
            if probs[name] > HIGHEST:
                axes.text(place - 0.17, 0.8 * HIGHEST, f"{probs[name]:.2f}", ha="right")
    for i in range(len(sides)):
        wanted = "wanted: a fair die" if i == 0 else None
        axes.plot([i - 0.45, i + 0.45], [1 / len(sides)] * 2, color=INK, linewidth=1.6, label=wanted)
    axes.set_xticks(range(len(names)), [name.strip() for name in names])
    axes.set_ylabel("probability of the next word")
    axes.set_ylim(0.0, HIGHEST)
    axes.set_title(f"The next word after “{soft['context_after'].strip()}”")
    axes.grid(False, axis="x")
    axes.legend(loc="upper left", ncols=2)
    figure.savefig(out)
    print(f"picture   {out}")
    print(f"the text  {hard['prompt_text']!r}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("soft", type=Path, help="run of a soft prompt")
    parser.add_argument("hard", type=Path, help="run of a hard prompt for the same die")
    parser.add_argument("--out", type=Path, default=Path("docs/die.png"))
    arguments = parser.parse_args()
    draw(arguments.soft, arguments.hard, arguments.out)
