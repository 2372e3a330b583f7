"""Files of prompts, of this version, of earlier and of later ones."""

import os
import stat

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from lit_prompt.errors import InputError
from lit_prompt.records.prompts import prompts_digest, read_prompts, write_prompts

PROMPTS = {"a/0": np.arange(6, dtype=np.float32).reshape(2, 3), "a/1": np.array([3, 1], dtype=np.int64)}


def test_prompts_are_read_as_they_were_written(tmp_path):
    path = write_prompts(PROMPTS, {"lm": "here"}, tmp_path / "prompts.safetensors")
    prompts, about = read_prompts(path)
    assert about == {"lm": "here", "format": "2", "sha256": prompts_digest(PROMPTS, {"lm": "here"})}
    assert prompts.keys() == PROMPTS.keys()
    for name, prompt in prompts.items():
        np.testing.assert_array_equal(prompt, PROMPTS[name], strict=True)
    assert [p.name for p in tmp_path.iterdir()] == ["prompts.safetensors"]


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
def test_whoever_may_read_what_python_writes_may_read_them(tmp_path):
    before = os.umask(0o027)
    try:
        path = write_prompts(PROMPTS, {}, tmp_path / "prompts.safetensors")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert len([*tmp_path.iterdir()]) == 1


def test_torch_reads_them(tmp_path):
    path = write_prompts(PROMPTS, {}, tmp_path / "prompts.safetensors")
    with safe_open(path, "pt") as file:
        np.testing.assert_array_equal(file.get_tensor("a/0").numpy(), PROMPTS["a/0"])


@pytest.mark.parametrize("metadata", [None, {"lm": "here"}, {"format": "pt"}])
def test_a_file_of_before_formats_had_versions_is_read(tmp_path, metadata):
    save_file(PROMPTS, tmp_path / "prompts.safetensors", metadata)
    prompts, about = read_prompts(tmp_path / "prompts.safetensors")
    np.testing.assert_array_equal(prompts["a/1"], PROMPTS["a/1"])
    assert about == (metadata or {})


def test_a_file_of_a_newer_format_is_refused(tmp_path):
    save_file(PROMPTS, tmp_path / "prompts.safetensors", {"format": "10"})
    with pytest.raises(InputError, match=r"^\S+prompts.safetensors was written by a newer lit_prompt \(format 10;"):
        read_prompts(tmp_path / "prompts.safetensors")


def test_a_broken_file_is_named(tmp_path):
    (tmp_path / "prompts.safetensors").write_bytes(b"no")
    with pytest.raises(InputError, match=r"prompts.safetensors: cannot be read"):
        read_prompts(tmp_path / "prompts.safetensors")
