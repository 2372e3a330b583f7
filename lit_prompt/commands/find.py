"""``lit_prompt find``: the prompt of one target that the command line states."""

import shlex
from argparse import Namespace
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from lit_prompt.cli.arguments import RunArguments, settings_option
from lit_prompt.commands.stated_probs import stated_probs
from lit_prompt.lift_settings import lift_settings
from lit_prompt.results.console import print_table, say
from lit_prompt.results.mixtures_shown import mixture_lines
from lit_prompt.results.rows import Row
from lit_prompt.results.table import Table
from lit_prompt.results.text import as_json, nats

_NUMBERS = ("length", "steps", "components", "seed")


def run(options: Namespace) -> None:
    """Searches and evaluates the prompt; prints it with what it reaches."""
    target: dict[str, Any] = {"probs": stated_probs(options.target)}
    target |= {name: value for name in ("before", "after", "end") if (value := getattr(options, name)) is not None}
    if options.end == "true":
        target["end"] = True
    arguments = _arguments(options, target)
    from lit_prompt.commands.fit_and_test import fit_and_test  # what is wrong above is said at once

    _, test, folder = fit_and_test(arguments)
    _print(_outcomes(test, target["probs"]), _result(folder), folder)


def _arguments(options: Namespace, target: dict[str, Any]) -> RunArguments:
    """Those of the fit: configs, the target, what else was typed, and last the numbers, which its model must have."""
    given: RunArguments = options.settings
    settings: dict[str, Any] = {"data": {"load": None, "families": [{"class_path": "Given", "init_args": target}]}}
    if _is_served(given):
        if not any("model" in config.settings for config in given.configs):
            settings["model"] = {"class_path": "TextPrompt"}
    elif options.hard:
        settings["model"] = {"class_path": "HardPrompt"}
    elif not given.configs:
        settings["model"] = {"class_path": "SoftPrompt", "init_args": lift_settings(options.components or 1)}
    numbers = [
        f"--model.init_args.{name}={getattr(options, name)}"
        for name in _NUMBERS
        if getattr(options, name) is not None
    ]  # fmt: skip
    count = len(given.configs)
    every = [*given.options[:count], settings_option(settings), *given.options[count:], *numbers]
    return replace(given, options=every, name="find")


def _is_served(given: RunArguments) -> bool:
    """Whether the LM that configs and options name is only served: it is searched by its answers alone."""
    from lit_prompt.served.served import as_served

    named = [config.settings.get("lm") for config in given.configs]
    named += [option.partition("=")[2] for option in given.typed if option.startswith("--lm=")]
    named += [value for option, value in pairwise(given.typed) if option == "--lm"]
    return bool(named) and as_served(named[-1]) is not None


def _outcomes(test: Any, wanted: dict[str, float]) -> dict[str, tuple[float, float | None]]:
    """Wanted and reached probability of each answer, the largest first, and of all else."""
    module, batch = test.model, test.datamodule.targets.batch([0])
    reached = module.evaluator.columns(batch, module.results, compared=False)[1][0].exp()
    answers = batch.answers[0]
    if answers is None:
        found = {text: float(reached[token_id]) for token_id, text in batch.first_tokens(0).items()}
        rest = 1.0 - sum(found.values())
    else:
        found = dict(zip(answers.names, reached.tolist(), strict=False))  # the last of all is all else
        rest = float(reached[len(answers.names)])
    rows: dict[str, tuple[float, float | None]] = {
        repr(text): (wanted[text], found.get(text)) for text in sorted(wanted, key=lambda text: -wanted[text])
    }
    return rows | {"all else": (0.0, max(rest, 0.0))}


def _result(folder: Path) -> Row:
    from lit_prompt.records.results import read_results

    rows: list[Row] = read_results(folder / "results.parquet", folder).to_pylist()
    return rows[0]


def _print(outcomes: dict[str, tuple[float, float | None]], row: Row, folder: Path) -> None:
    floor = row["kl_floor"]
    mixed = row["weights"] is not None
    known = f"{nats(floor, 4)} nats, certified: no {'single ' * mixed}prompt of any kind is below it"
    cells = [[text, nats(wanted, 4), nats(reached, 4)] for text, (wanted, reached) in outcomes.items()]
    print_table(Table(["answer", "wanted", "reached"], cells, ["answer"], caption=""))
    if row["kl"] is None:
        say(f"KL        at least {nats(row['kl_at_least'], 4)} nats: the server does not list all answers")
    else:
        say(f"KL        {nats(row['kl'], 4)} nats")
        if mixed:
            say(f"of one    {nats(row['kl_single'], 4)} nats, after the best of the prompts alone")
        say(f"floor     {'not known' if floor is None else known}")
    if mixed:
        place = "" if row["component_texts"] else f", embeddings in {folder / 'prompts.safetensors'}"
        say(f"prompts   {row['components']}, of which one is drawn by its weight{place}:", *mixture_lines(row))
    elif row["prompt_text"] is None:
        say(f"prompt    {row['prompt_length']} embeddings, in {folder / 'prompts.safetensors'}")
    else:
        say("prompt, as JSON:", as_json(row["prompt_text"]))
    say(f"run       {folder}")
    if row["kl"] is not None:
        say("", "Next:", f"  lit_prompt predict --run {shlex.quote(str(folder))}    # all top tokens")
