"""``lit_prompt floor``: certified floors of a config's targets, without any search."""

import tempfile
from argparse import Namespace
from functools import partial
from typing import Any

from lit_prompt.cli.parser import writing
from lit_prompt.cli.prompt import PromptCLI
from lit_prompt.errors import InputError
from lit_prompt.files import add_file
from lit_prompt.lm import FrozenLM
from lit_prompt.models.floors import FOLDER, FloorOptions, Floors
from lit_prompt.records.floors import FLOORS
from lit_prompt.results.console import say
from lit_prompt.results.results_shown import print_floors

_ADVICE = "; name another file"


def run(options: Namespace) -> None:
    """Solves the floors of a config's targets; prints and writes them."""
    wanted = FloorOptions(seconds=options.floor_seconds, tolerance=options.tolerance)
    cli = PromptCLI(None, options.settings)
    out = options.out or cli.logs / options.settings.name / "floors.parquet"
    with writing(out, _ADVICE):  # found out before anything is solved
        if options.out is not None and out.exists():
            raise InputError(f"--out: {out} exists; floors are never overwritten, name another file")
        place = next(folder for folder in out.absolute().parents if folder.exists())
        tempfile.TemporaryFile(dir=place).close()
    data = cli.datamodule
    data.setup("floor")
    lm = FrozenLM.load(data.lm, data.lm_options)
    floors = Floors(lm, cli.logs / FOLDER, wanted)
    if floors.why_not is not None:
        raise InputError(f"--lm {data.lm}: {floors.why_not}")
    rows: list[dict[str, Any]] = []
    for chunk in data.evaluation_dataloader():
        about = zip(chunk.target_id, chunk.family, chunk.entropy.tolist(), floors.of(chunk), strict=True)
        for target_id, family, entropy, floor in about:
            if floor is None:
                say(f"{target_id}: no floor, as the problem is not convex over cells of several answers")
                continue
            row = {"target_id": target_id, "family": family, "entropy": entropy, "lm": data.lm}
            rows.append(row | {"lm_fingerprint": lm.fingerprint} | vars(floor))
    table = FLOORS.table(rows)
    print_floors(table)
    with writing(out, _ADVICE):
        out.parent.mkdir(parents=True, exist_ok=True)
        written = add_file(out.parent, out.name, partial(FLOORS.write, table))
    say(f"floors   {written}")
