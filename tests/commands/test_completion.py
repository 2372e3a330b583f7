"""The shells take the script, and bash completes what can be typed."""

import shutil
import subprocess

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
        ("lit_prompt shortest --checkpoint.", {"--checkpoint.every_n_steps"}),
        ("lit_prompt pretrain --model.arch", {"--model.architecture"}),
    ],
)  # fmt: skip
def test_bash_completes(scripts, tmp_path, line, expected):
    shutil.copy(scripts / "bash", tmp_path / "script")
    done = subprocess.run(["bash", "-c", _COMPLETE, "bash", line], cwd=tmp_path, capture_output=True, text=True)
    assert done.stderr == ""
    assert {word.strip() for word in done.stdout.split()} == expected


@pytest.mark.skipif(shutil.which("zsh") is None, reason="there is no zsh")
def test_zsh_takes_the_script(scripts):
    assert subprocess.run(["zsh", "-n", scripts / "zsh"], capture_output=True).stderr == b""


def test_help_names_both_shells(cli):
    assert "lit_prompt completion bash >" in cli("completion", "--help")
    assert "invalid choice: 'fish'" in cli("completion", "fish", code=2)
