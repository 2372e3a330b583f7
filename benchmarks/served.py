"""What a search behind a server costs beside the server's work: its time, and a bare loop that asks for the same texts.

The search asks one server for texts, many at a time, and keeps the answers; after each step the loop asks another,
begun alike, for the very same ones, in the same number of threads, and throws the answers away. The two take turns, so
that a machine that becomes slower is slower for both. What the search's time is above the loop's is its own, as is what
it spends beside asking. (A server that has seen the texts keeps what it computed, and would answer sooner.)

    python benchmarks/served.py http://127.0.0.1:8080 http://127.0.0.1:8081 [--texts 1000] [--parallel 4]
"""

import argparse
import logging
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import lightning as L

from lit_prompt.data.datamodule import TargetDataModule
from lit_prompt.data.families import FromFile
from lit_prompt.data.run_folder import RunFolder
from lit_prompt.models import TextPrompt
from lit_prompt.served.connection import Connection
from lit_prompt.served.lm import ServedLM
from lit_prompt.served.served import Served
from lit_prompt.served.servers import Prompt, connect

_BEFORE = "The old man threw the die and it showed the number"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="the server of the search")
    parser.add_argument("other", help="that of the bare loop: the same LM, settings and machine, begun anew")
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--parallel", type=int, default=4)
    parser.add_argument("--listed", type=int, default=20)
    options = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    server = connect(Connection(options.other, parallel=options.parallel), most=options.listed)
    steps: list[tuple[int, float, float]] = []
    listed = ServedLM.listed

    def then_bare(lm: ServedLM, prompts: list[Prompt]):  # type: ignore[no-untyped-def]
        started = time.perf_counter()
        found = listed(lm, prompts)
        asked = time.perf_counter()
        list(pool.map(server.after, prompts))
        steps.append((len(prompts), asked - started, time.perf_counter() - asked))
        return found

    ServedLM.listed = then_bare  # type: ignore[method-assign, assignment]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.parallel) as pool:
        served = Served(options.url, parallel=options.parallel, listed=options.listed)
        data = TargetDataModule([FromFile(Path("data/targets/die.jsonl"), name="die")], lm=served)
        module = TextPrompt(steps=max(1, options.texts // 24), before=_BEFORE, kl_tolerance=0.0)
        trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False,
                            enable_model_summary=False, max_epochs=-1, callbacks=[RunFolder(Path(folder))])  # fmt: skip
        trainer.fit(module, data)
    texts, asking, bare = (sum(column) for column in zip(*steps, strict=True))
    search = float(module.results.seconds.sum()) - bare
    print(
        f"texts: {texts}; search {search:.1f} s, {asking:.1f} s of it asking ({1 - asking / search:.1%} beside), "
        f"bare loop {bare:.1f} s"
    )


if __name__ == "__main__":
    main()
