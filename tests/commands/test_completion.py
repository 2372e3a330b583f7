"""The shells complete what can be typed."""

import fcntl
import os
import pty
import select
import shutil
import signal
import struct
import subprocess
import termios

import pytest

_COMPLETE = """
source ./script
complete -p lit_prompt > registered
read -ra words <<< "$1"
COMP_WORDS=("${words[@]}"); COMP_CWORD=$((${#words[@]} - 1)); COMP_LINE="$1"; COMP_POINT=${#1}
$(sed -n 's/.*-F \\([^ ]*\\).*/\\1/p' registered)
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    """A folder with the scripts of both shells."""
    from argparse import Namespace
    from contextlib import redirect_stdout

    from lit_prompt.commands.completion import run

    folder = tmp_path_factory.mktemp("completion")
    for shell in ("bash", "zsh"):
        with (folder / shell).open("w") as file, redirect_stdout(file):
            run(Namespace(shell=shell))
    return folder


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("lit_prompt ta", {"targets"}),
        ("lit_prompt targets s", {"show"}),
        ("lit_prompt fit --model.st", {"--model.steps", "--model.start"}),
        ("lit_prompt test --ru", {"--run"}),
        ("lit_prompt fit --lm_options.dtype bf", {"bfloat16"}),
        ("lit_prompt floor --tol", {"--tolerance"}),
        ("lit_prompt fit --floor", {"--floors", "--floor_seconds"}),
        ("lit_prompt test --data.lm", set()),  # --lm sets it
        ("lit_prompt find --tar", {"--target"}),
        ("lit_prompt find --model.st", {"--model.steps", "--model.start"}),
        ("lit_prompt shortest --checkpoint.", {"--checkpoint.every_n_steps"}),
        ("lit_prompt pretrain --model.arch", {"--model.architecture"}),
        ("lit_prompt fit --model.he", {"--model.help"}),
        ("lit_prompt fit --lm ba", {"bash"}),  # which may be a file
    ],
)  # fmt: skip
def test_bash_completes(scripts, tmp_path, line, expected):
    shutil.copy(scripts / "bash", tmp_path / "script")
    (tmp_path / "bash").touch()
    done = subprocess.run(["bash", "-c", _COMPLETE, "bash", line], cwd=tmp_path, capture_output=True, text=True)
    assert done.stderr == ""
    assert {word.strip() for word in done.stdout.split()} == expected


@pytest.mark.skipif(shutil.which("zsh") is None, reason="there is no zsh")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("lit_prompt ", ["completion  -- Prints", "fit  ", "floor  ", "targets  ", "validate    -- Recomputes"]),
        ("lit_prompt ta", ["targets "]),
        ("lit_prompt targets ", ["build  ", "show  ", "validate  "]),
        ("lit_prompt fit --model.st", ["--model.start  ", "--model.steps  "]),
        ("lit_prompt fit --config a.yaml --floor_", ["--floor_seconds "]),
        ("lit_prompt fit --lm_options.dtype bf", ["bfloat16 "]),
        ("lit_prompt fit --lm mod", ["model.gguf "]),
        ("lit_prompt fit --run ", ["runs/"]),
        ("lit_prompt targets validate tar", ["targets.jsonl "]),
        ("lit_prompt report runs/a runs/", ["a/", "b/"]),
        ("lit_prompt report runs/a ru", ["runs/"]),
    ],
)
def test_zsh_completes(scripts, tmp_path, line, expected):
    """After TAB in a zsh of its own, without a user's settings."""
    (tmp_path / "functions").mkdir()
    shutil.copy(scripts / "zsh", tmp_path / "functions" / "_lit_prompt")
    for folder in ("a", "b"):
        (tmp_path / "runs" / folder).mkdir(parents=True)
    for file in ("model.gguf", "targets.jsonl"):
        (tmp_path / file).touch()
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.execvpe("zsh", ["zsh", "-f", "-i"], {"PATH": os.environ["PATH"], "TERM": "dumb", "HOME": str(tmp_path)})
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
    try:
        os.write(terminal, b"fpath=($PWD/functions $fpath); autoload -U compinit; compinit -D -u; print rea''dy\n")
        _read_until(terminal, ["ready"])
        os.write(terminal, f"{line}\t".encode())
        _read_until(terminal, expected)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)


def _read_until(terminal, expected):
    """Reads what a terminal shows until all that is expected has been there."""
    seen = ""
    while not all(text in seen for text in expected):
        ready, _, _ = select.select([terminal], [], [], 20.0)
        assert ready, f"{expected} in {seen!r}"
        seen += os.read(terminal, 65536).decode(errors="replace")


def test_help_names_both_shells(cli):
    assert "lit_prompt completion bash >" in cli("completion", "--help")
    assert "invalid choice: 'fish'" in cli("completion", "fish", code=2)
