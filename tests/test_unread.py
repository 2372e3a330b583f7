"""A command whose output nobody reads any more ends without a word."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], ["fit", "--config", "configs/demo.yaml", "--print_config"]]
)
@pytest.mark.parametrize("both", [False, True], ids=["output", "output_and_errors"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_closed_pipe_ends_a_command_quietly(words, both, unbuffered):
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "lit_prompt", *words], check=False, stdout=write,
            stderr=write if both else subprocess.PIPE, env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
        )  # fmt: skip
    finally:
        os.close(write)
    assert done.returncode == 141
    assert not done.stderr


def test_another_broken_pipe_is_an_error():
    code = "from lit_prompt.unread import unread_output\nwith unread_output():\n    raise BrokenPipeError"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "BrokenPipeError" in done.stderr
