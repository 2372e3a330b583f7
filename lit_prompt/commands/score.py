"""``lit_prompt score``: what a prompt reaches where it is used: behind a server, or on an LM at hand."""

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lit_prompt.commands.stated_probs import stated_probs
from lit_prompt.data import TargetBatch, TargetSet
from lit_prompt.data.families import Given
from lit_prompt.embedded import embedded
from lit_prompt.errors import InputError
from lit_prompt.export.adapters import next_token_of_embeddings
from lit_prompt.export.found_prompts import outcomes
from lit_prompt.export.pasted_texts import next_token_after_ids
from lit_prompt.files import newest
from lit_prompt.functional import kl_divergence
from lit_prompt.functional.precision import double
from lit_prompt.lm import FrozenLM, LMOptions, Vocabulary
from lit_prompt.lm.prompt_adapter import read_adapter
from lit_prompt.progress import phase
from lit_prompt.records.results import read_results
from lit_prompt.results.console import print_table, say
from lit_prompt.results.rows import Row
from lit_prompt.results.table import Table
from lit_prompt.results.text import nats
from lit_prompt.served.questions import Question, ServedKL, chat_question, run_question, served_kl, text_question
from lit_prompt.served.servers import Server, connect


def run(options: Namespace) -> None:
    """Scores what was named."""
    if options.run is not None:
        if options.server is None:
            raise InputError("--run: name the server that is asked with --server; lit_prompt test evaluates a run here")
        _score_run(connect(options.server, options.kind, model=options.model), options)
        return
    if not options.target:
        raise InputError("score needs --run RUN, or what is wanted: --target ' heads=0.5' --target ' tails=0.5'")
    probs = stated_probs(options.target)
    if (options.text is None) == (options.adapter is None):
        raise InputError("score needs one prompt: --text TEXT, or --adapter FOLDER")
    if options.server is None:
        _show(list(probs), _score_here(options, probs), list(probs.values()))
        return
    if options.text is None:
        raise InputError("--adapter: a server takes texts; name an LM at hand with --lm")
    server = connect(options.server, options.kind, model=options.model)
    say(f"server    {server.name} ({server.kind})")
    found = served_kl(server, text_question(server, options.text, probs))
    _show(list(probs), found, list(probs.values()))


def _score_here(options: Namespace, probs: dict[str, float]) -> ServedKL:
    """What an LM at hand gives after a text, or after an adapter's embeddings."""
    if options.lm is None:
        raise InputError("score needs an LM: --lm NAME_OR_PATH, or --server URL")
    lm_options = LMOptions(
        dtype=options.dtype, revision=options.revision, trust_remote_code=options.trust_remote_code == "true"
    )
    options.lm = embedded(options.lm)
    vocabulary = Vocabulary.load(options.lm, lm_options)
    (target,) = Given(probs).targets(vocabulary)
    if target.answers is None:
        tree, log_p = None, target.dense(vocabulary.size)
    else:
        tree, log_p = target.answers.tree, target.answers.tree.log_probs
    lm = FrozenLM.load(options.lm, lm_options)
    if options.adapter is not None:
        embeddings = read_adapter(options.adapter, "--adapter")
        if embeddings.shape[1] != lm.embedding_dim:
            raise InputError(
                f"--adapter: the embeddings in {options.adapter} have {embeddings.shape[1]} dimensions, those of "
                f"{options.lm} {lm.embedding_dim}; it is another LM's"
            )
        ids = vocabulary.encode_after(options.after or "")
        read = next_token_of_embeddings(lm.model, embeddings, ids)
    else:
        (whole,) = vocabulary.encode_starts([options.text + (options.after or "")])
        read = next_token_after_ids(lm.model, whole or vocabulary.empty_text_ids)
    with torch.no_grad():
        log_q = outcomes(tree, read)
    if tree is not None:
        log_p = torch.cat([log_p, log_p.new_full((1,), -torch.inf)])
        named = log_q[: len(probs)]
    else:
        named = log_q[[vocabulary.token_id(text) for text in probs]]
    kl = float(kl_divergence(double(log_p).unsqueeze(0), log_q.unsqueeze(0)))
    return ServedKL(kl, True, named, torch.ones(len(named), dtype=torch.bool))


def _show(names: list[str], found: ServedKL, wanted: list[float]) -> None:
    cells = [
        [repr(name), nats(p, 4), ("" if told else "at most ") + nats(float(q), 4)]
        for name, p, q, told in zip(names, wanted, found.log_q.exp(), found.told, strict=False)
    ]
    print_table(Table(["answer", "wanted", "reached"], cells, ["answer"], caption=""))
    say(f"KL        {_kl(found)} nats")


def _kl(found: ServedKL) -> str:
    return f"{'' if found.exact else 'at least '}{nats(found.kl, 4)}"


def _score_run(server: Server, options: Namespace) -> None:
    """Asks a server for the targets of a run, after the texts of its hard prompts."""
    say(f"server    {server.name} ({server.kind})")
    rows = _rows(options.run, options.targets)
    targets, vocabulary = _targets(options)
    places = {name: place for place, name in enumerate(targets.target_id)}
    found: list[ServedKL] = []
    with phase("asking the server", "target", len(rows)) as tick:
        for row in rows:
            batch = targets.batch([places[row["target_id"]]])
            found.append(served_kl(server, _question(server, vocabulary, row, batch)))
            tick(1)
    cells = [
        [
            row["target_id"],
            nats(row["kl_text"], 4),
            _kl(one),
            nats(abs(one.kl - row["kl_text"]), 4) if one.exact else "-",
        ]
        for row, one in zip(rows, found, strict=True)
    ]
    print_table(Table(["target", "KL here", "KL there", "difference"], cells, ["target"], caption=""))
    if bounds := sum(not one.exact for one in found):
        say(f"{bounds} of {len(found)} KLs are bounds below: the server does not list all that their targets hold")


def _question(server: Server, vocabulary: Vocabulary, row: Row, batch: TargetBatch) -> Question:
    """What a target of a run asks a server."""
    chat, tree = batch.texts[0].chat, batch.trees[0]
    log_p: Tensor = double(batch.log_probs[0]) if tree is None else tree.log_probs
    if server.kind != "chat":
        return run_question(server, vocabulary, row["whole_text"], chat is not None, tree, log_p)
    if chat is None:
        raise InputError(f"--kind chat: {row['target_id']} is no chat; ask a server that goes on from texts")
    messages = json.loads(chat)
    if messages[-1]["role"] == "assistant":
        raise InputError(
            f"--kind chat: the reply of {row['target_id']} is begun, which a chat's server does not go on from"
        )
    answers = batch.answers[0]
    if answers is not None and tree is not None and not tree.is_additive:
        raise InputError(f"--kind chat: {row['target_id']} has cells of several answers, which a chat does not tell")
    if answers is not None:
        probs = dict(zip(answers.names, answers.probs, strict=True))
    else:
        probs = {vocabulary.text(i): float(log_p[i].exp()) for i in log_p.isfinite().nonzero().flatten().tolist()}
    return chat_question(messages, row["prompt_text"], probs)


def _rows(run: Path, wanted: list[str] | None) -> list[Row]:
    """The results of a run's hard prompts."""
    path = newest(run, "results.parquet")
    if path is None:
        raise InputError(f"--run: {run} holds no results; evaluate it first: lit_prompt test --run {run}")
    rows: list[Row] = [row for row in read_results(path, run).to_pylist() if row["kl"] is not None]
    if any(row["components"] is not None for row in rows):
        raise InputError(
            f"--run: {run} has found mixtures of prompts, and a server is asked for single ones; lit_prompt export "
            "--format text writes their texts, and --text scores each"
        )
    if rows and all(row["whole_text"] is None for row in rows):
        raise InputError(
            f"--run: {run} has found soft prompts, which are no texts; lit_prompt export --format embeds writes them "
            "for a server that takes embeddings"
        )
    if wanted is None:
        return rows
    by_id: dict[str, Any] = {row["target_id"]: row for row in rows}
    for name in wanted:
        if name not in by_id:
            raise InputError(f"--targets: the run has no result for {name!r}")
    return [by_id[name] for name in wanted]


def _targets(options: Namespace) -> tuple[TargetSet, Vocabulary]:
    from lit_prompt.commands.export import run_data  # a run's settings

    options.rest += [f"--lm={options.lm}"] if options.lm else []
    data = run_data(options, "score")
    data.setup("score")
    return data.targets, data.vocabulary
