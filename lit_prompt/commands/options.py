"""The options of the commands in this folder. A command's module is imported after its options are read."""

import importlib
import os
from collections.abc import Sequence

from lit_prompt.cli.arguments import read_arguments
from lit_prompt.cli.parser import CommandParser, check_command, user_path

TARGETS_USAGE = """\
usage: lit_prompt targets COMMAND ...

commands:
  build --config FILE --out FOLDER   make the targets of a config once and save them
  show FOLDER                        table and picture of a saved set, or of a run's targets
  validate FILE                      every mistake in a file of your own targets, with its line

help:
  lit_prompt targets COMMAND --help

examples:
  lit_prompt targets build --config configs/demo.yaml --out targets/demo
  lit_prompt targets show targets/demo
  lit_prompt fit --config configs/demo.yaml --data.load targets/demo
  lit_prompt targets validate data/targets/die.jsonl
"""

#: Commands that take the options of ``fit``, too.
TAKING_SETTINGS = ("find", "shortest", "floor", "targets build")

#: Commands that take a run, and the options of ``test``.
TAKING_RUN = ("export", "score")


def run_command(name: str, args: Sequence[str]) -> None:
    """Runs a command: hands its options, and those that are left for ``fit`` as ``settings``, to its module's ``run``.

    Args:
        name: one of the commands in this folder, or ``targets``, whose first argument is a command of its own.
        args: what follows it on the command line.

    Raises:
        InputError: after a mistake of the user.
        SystemExit: after help, or if a file that was validated has mistakes.
    """
    if name == "targets":
        if not args or args[0] in ("-h", "--help", "help"):
            print(TARGETS_USAGE, end="")
            return
        check_command(args[0], ("build", "show", "validate"), "targets: ")
        name, args = f"targets {args[0]}", args[1:]
    parser = parsers()[name]
    if name in TAKING_RUN:
        options, rest = parser.parse_known_args(args)
        options.rest = rest
    elif name in TAKING_SETTINGS:
        options, rest = parser.parse_known_args(args)
        options.settings = read_arguments(name, rest)
    else:
        options = parser.parse_args(args)
    importlib.import_module(f"lit_prompt.commands.{name.replace(' ', '_')}").run(options)


def parsers() -> dict[str, CommandParser]:
    """What reads the options of each command."""
    return {
        "find": _find(),
        "report": _report(),
        "export": _export(),
        "score": _score(),
        "shortest": _shortest(),
        "floor": _floor(),
        "completion": _completion(),
        "targets build": _build(),
        "targets show": _show(),
        "targets validate": _validate(),
    }


def _find() -> CommandParser:
    parser = CommandParser(
        "find",
        "--lm NAME_OR_PATH --target TEXT=P [--target TEXT=P ...] [--hard] [--KEY VALUE ...]",
        description="""\
Finds the prompt after which an LM gives some answers with the probabilities that you want: searches it, evaluates it,
and prints it with what it reaches and a KL that no prompt can go below.""",
        epilog="""\
The space before a word belongs to its answer; an answer may have several tokens. A soft prompt is embeddings, a hard
one (--hard) tokens that can be pasted. The run is one like any other, in logs/find/version_K: lit_prompt test, predict
and report take it. All other options are those of fit; a --config says how to search, its targets are left out.

examples:
  lit_prompt find --lm gpt2 --target ' heads=0.5' --target ' tails=0.5' --before 'I threw the coin, and it was'
  lit_prompt find --lm gpt2 --target ' yes=70%' --target ' no=20%' --target ' I do not know=10%' --hard --length 12
  lit_prompt find --lm gpt2 --target ' Paris=3' --target ' Rome=1' --config configs/hard_hotflip.yaml
""",
    )
    parser.add_argument(
        "--target", metavar="TEXT=P", action="append", required=True,
        help="an answer and its probability, percentage (50%%) or count; the last = divides them; once for each answer",
    )  # fmt: skip
    parser.add_argument("--before", metavar="TEXT", help="fixed text before the prompt")
    parser.add_argument("--after", metavar="TEXT", help="fixed text between the prompt and the answer")
    parser.add_argument(
        "--end", metavar="TEXT", help="what ends every answer, where one begins another; true: the LM's end"
    )
    parser.add_argument("--hard", action="store_true", help="tokens, not embeddings")
    parser.add_argument("--length", metavar="N", type=int, help="tokens or embeddings of the prompt (20; soft 5)")
    parser.add_argument("--steps", metavar="N", type=int, help="most steps of the search (100; soft 300)")
    parser.add_argument(
        "--components", metavar="K", type=int, help="a mixture of at most K prompts: one is drawn, then an answer (1)"
    )
    parser.add_argument("--seed", metavar="N", type=int, help="seed of the search (0)")
    return parser


def _report() -> CommandParser:
    parser = CommandParser(
        "report",
        "RUN [RUN ...] --out FOLDER",
        description="Writes one self-contained page on runs, FOLDER/report.html, and its figures as PNG and PDF.",
        epilog="""\
A RUN is a run's folder (logs/CONFIG/version_K) that lit_prompt test has evaluated. Its newest results are read, and
what lit_prompt predict found where it has run. Name a results-K.parquet instead to report on older ones.

examples:
  lit_prompt report logs/entropy/version_0 logs/outliers/version_0 logs/lm_made/version_0 --out report
  lit_prompt report logs/*/version_* --out report
""",
    )
    parser.add_argument(
        "runs", metavar="RUN", type=user_path, nargs="+", help="a run's folder, or a file of its results"
    )
    parser.add_argument("--out", metavar="FOLDER", type=user_path, required=True, help="where the report goes")
    return parser


def _export() -> CommandParser:
    parser = CommandParser(
        "export",
        "--run RUN --format peft|embeds|text --out FOLDER [--targets ID ...] [--dtype TYPE] [--script]",
        description="""\
Writes a run's prompts as files of other programs, reads them back there, and compares the KLs: more than rounding
explains is an error, and nothing is exported.""",
        epilog="""\
formats:
  peft     a folder a target that PeftModel.from_pretrained and lm-evaluation-harness read (prompt tuning). BOS and the
           text before the prompt are in it, as PEFT puts it before all text; what stands after it is typed, without BOS
  embeds   all that the LM is given as embeddings: safetensors, and the body of a request to vLLM's /v1/completions
  text     prompts.jsonl: hard prompts with their whole text, token ids and KL

With --lm PATH the LM is taken from another place than in the run; other options are those of lit_prompt test.

examples:
  lit_prompt export --run logs/hard/version_0 --format text --out exported --script
  lit_prompt export --run logs/demo/version_0 --format peft --out adapters --targets random/H0.100/0
  lit_prompt export --run logs/demo/version_0 --format embeds --dtype bfloat16 --out embeds
""",
    )
    parser.add_argument("--run", metavar="RUN", type=user_path, required=True, help="the run's folder")
    parser.add_argument("--format", choices=("peft", "embeds", "text"), required=True, help="what is written")
    parser.add_argument("--out", metavar="FOLDER", type=user_path, required=True, help="folder to make")
    parser.add_argument("--targets", metavar="ID", nargs="+", help="whose prompts (all)")
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        help="of the embeddings, and the LM (the run's)",
    )
    parser.add_argument(
        "--script", action="store_true", help="with reach.py, which shows what they reach with transformers alone"
    )
    return parser


def _score() -> CommandParser:
    parser = CommandParser(
        "score",
        "--server URL --run RUN | --text TEXT --target TEXT=P ... [--server URL | --lm NAME_OR_PATH]",
        description="""\
Scores prompts where they are used. A server is asked for what comes next after the whole text of each hard prompt of a
run, or after a text of yours, and the KL is shown beside the run's. With --lm a text, or an adapter of PEFT, is scored
on an LM at hand.""",
        epilog="""\
servers: llama.cpp's own, and those like OpenAI's /v1/completions with logprobs (vLLM, SGLang, hosted ones); which it is
is found out by asking. Where a server lists its likeliest tokens alone, a KL is exact if those of the target are among
them; else it scores given tokens one by one, if it can; else the KL is a bound below, and is called so.
A key is read from the environment variable LIT_PROMPT_SERVER_KEY and written nowhere.

examples:
  lit_prompt score --server http://127.0.0.1:8080 --run logs/hard_die/version_0
  lit_prompt score --server http://127.0.0.1:8000 --text 'The coin shows' --target ' heads=1' --target ' tails=1'
  lit_prompt score --lm gpt2 --text 'The coin shows' --target ' heads=1' --target ' tails=1'
  lit_prompt score --lm gpt2 --adapter adapters/given-0 --target ' heads=1' --target ' tails=1'
""",
    )
    parser.add_argument("--server", metavar="URL", help="its address, http://HOST:PORT")
    parser.add_argument("--kind", choices=("llama.cpp", "openai", "chat"), help="of the server (found out by asking)")
    parser.add_argument("--model", metavar="NAME", help="of the server's LM, where it has several")
    parser.add_argument("--run", metavar="RUN", type=user_path, help="a run of hard prompts that test has evaluated")
    parser.add_argument("--targets", metavar="ID", nargs="+", help="of the run (all)")
    parser.add_argument("--text", metavar="TEXT", help="all that the LM is given")
    parser.add_argument(
        "--adapter", metavar="FOLDER", type=user_path, help="of PEFT's prompt tuning, in place of a text"
    )
    parser.add_argument("--after", metavar="TEXT", help="text between the prompt and the answer")
    parser.add_argument("--target", metavar="TEXT=P", action="append", help="an answer and its probability, as of find")
    parser.add_argument(
        "--lm_options.dtype", metavar="TYPE", dest="dtype", default="float32",
        choices=("float32", "bfloat16", "float16", "float64", "auto"), help="of the LM at hand (float32)",
    )  # fmt: skip
    return _with_tokenizer(parser, "LM at hand that is asked")


def _shortest() -> CommandParser:
    parser = CommandParser(
        "shortest",
        "--config FILE --kl NATS --lengths N [N ...] [--KEY VALUE ...]",
        description="Finds, for each target, the shortest prompt whose KL(target || LM) is at most a given number of "
        "nats.",
        epilog="""\
Lengths are tried in rising order, each from the prompts of the one before; a target that has reached the KL is left out
of longer ones. Each length is a run of its own, which test has evaluated; shortest.parquet, in the last one's folder,
has what each target needed. All other options are those of fit.

example:
  lit_prompt shortest --config configs/hard.yaml --kl 2.5 --lengths 1 2 4 8 16
""",
    )
    parser.add_argument("--kl", metavar="NATS", type=float, required=True, help="what a prompt must reach")
    parser.add_argument("--lengths", metavar="N", type=int, nargs="+", required=True, help="lengths to try")
    return parser


def _floor() -> CommandParser:
    parser = CommandParser(
        "floor",
        "--config FILE [--lm NAME_OR_PATH] [--tolerance NATS] [--floor_seconds S] [--out FILE] [--data.KEY VALUE ...]",
        description="""\
Computes, for every target of a config, a KL that no prompt of the LM can go below, soft or hard, of any length, and
the KL that a soft prompt can reach (on the sphere to which the final norm scales every state). Nothing is searched.
What a run or this command has solved before, for the same LM, is taken from logs/floors.
Config and overrides are those of fit; --data.load FOLDER takes targets that were built before.""",
        epilog="""\
examples:
  lit_prompt floor --config configs/demo.yaml
  lit_prompt floor --config configs/demo.yaml --lm gpt2 --tolerance 1e-5
""",
    )
    parser.add_argument(
        "--tolerance", metavar="NATS", type=float, default=1e-3,
        help="largest gap between a floor and the best one that can be certified (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--floor_seconds",
        metavar="S",
        type=float,
        help="after so many seconds what is certified so far is reported: floors that hold, but are lower (no limit)",
    )
    parser.add_argument(
        "--out", metavar="FILE", type=user_path,
        help="the floors, a row a target (logs/CONFIG/floors.parquet; never overwritten)",
    )  # fmt: skip
    return parser


def _completion() -> CommandParser:
    parser = CommandParser(
        "completion",
        "bash|zsh",
        description="Prints a script with which the shell completes commands, options and files.",
        epilog="""\
examples:
  lit_prompt completion bash > ~/.local/share/bash-completion/completions/lit_prompt
  lit_prompt completion zsh > ~/.zfunc/_lit_prompt    # a folder of $fpath, before compinit
""",
    )
    parser.add_argument("shell", choices=("bash", "zsh"), help="whose script is printed")
    return parser


def _build() -> CommandParser:
    parser = CommandParser(
        "targets build",
        "--config FILE --out FOLDER [--lm NAME_OR_PATH] [--data.KEY VALUE ...]",
        description="""\
Makes the targets of data.families and saves them in a folder, which fit takes as --data.load FOLDER.
Config and overrides are those of fit; what concerns model and trainer is left aside.
The keys: lit_prompt fit --help; those of a family: lit_prompt fit --data.families.help OneHot.""",
        epilog="""\
example:
  lit_prompt targets build --config configs/demo.yaml --data.families.init_args.per_entropy 2 --out targets/small""",
    )
    parser.add_argument("--out", metavar="FOLDER", type=user_path, required=True, help="folder to make")
    return parser


def _show() -> CommandParser:
    parser = CommandParser(
        "targets show",
        "FOLDER [--rows N] [--out PNG] [--lm NAME_OR_PATH]",
        description="Prints a table of targets and draws their sorted probabilities.",
    )
    parser.add_argument(
        "folder", metavar="FOLDER", type=user_path, help="a saved set, or a run (logs/CONFIG/version_K)"
    )
    parser.add_argument(
        "--rows", metavar="N", type=int, default=40, help="targets in the table; 0 for all (%(default)s)"
    )
    parser.add_argument("--out", metavar="PNG", type=user_path, help="the picture (targets.png in the set's folder)")
    return _with_tokenizer(parser, "LM whose tokenizer spells the tokens (the one that the set was built for)")


def _validate() -> CommandParser:
    parser = CommandParser(
        "targets validate",
        "FILE [--lm NAME_OR_PATH] [--rest zero|spread] [--tolerance X] [--strings whole|first_tokens]",
        description="Lists every mistake in a file of targets (.jsonl, .csv, .tsv, .parquet, or a folder of "
        "datasets) with its line; exit code 2 if there is one.",
    )
    parser.add_argument("file", metavar="FILE", type=user_path, help="as the path of a FromFile family")
    parser.add_argument(
        "--rest", choices=("zero", "spread"), default="zero", help="as the rest of a FromFile family (%(default)s)"
    )
    parser.add_argument("--tolerance", metavar="X", type=float, help="as the tolerance of a FromFile family (0.001)")
    parser.add_argument(
        "--strings", choices=("whole", "first_tokens"), default="whole",
        help="as the strings of a FromFile family (%(default)s)",
    )  # fmt: skip
    return _with_tokenizer(parser, "LM whose tokens the targets name (the embedded Llama)")


def _with_tokenizer(parser: CommandParser, lm: str) -> CommandParser:
    parser.add_argument("--lm", metavar="NAME_OR_PATH", type=os.path.expanduser, help=lm)
    parser.add_argument("--lm_options.revision", metavar="R", dest="revision", help="branch, tag or commit on the hub")
    parser.add_argument(
        "--lm_options.trust_remote_code", metavar="BOOL", dest="trust_remote_code", default="false",
        choices=("true", "false"), help="run the tokenizer code that comes with the LM (false)",
    )  # fmt: skip
    return parser
