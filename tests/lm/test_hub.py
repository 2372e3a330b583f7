"""LMs from a hub, in processes of their own: what was wanted, or one line at once."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from lit_prompt.lm import FrozenLM, LMOptions, load_causal_lm
from tests.conftest import REPOSITORY
from tests.hub import TOKEN, Hub, commit
from tests.lm.test_gguf import write_gguf

SECONDS = 45  # a process is killed after them
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def folders(make_lm, tmp_path_factory):
    """What repositories hold: two LMs, one of them also in parts, in another format, and as a GGUF file."""
    made = tmp_path_factory.mktemp("repositories")
    one, other = make_lm("llama"), make_lm("llama", seed=1)
    for name in ("sharded", "pickled"):
        shutil.copytree(one, made / name, ignore=shutil.ignore_patterns("*.safetensors"))
    load_causal_lm(str(one), LMOptions()).save_pretrained(made / "sharded", max_shard_size="20KB")
    (made / "pickled" / "pytorch_model.bin").write_bytes(b"pickled")
    (made / "gguf").mkdir()
    write_gguf(one, made / "gguf" / "tiny.gguf")
    return {"one": one, "other": other} | {path.name: path for path in made.iterdir()}


@pytest.fixture(scope="module")
def fingerprints(folders):
    return {name: FrozenLM.load(str(folders[name]), LMOptions()).fingerprint for name in ("one", "other")}


@pytest.fixture(scope="module")
def served():
    hub = Hub()
    hub.start()
    yield hub
    hub.stop()


@pytest.fixture(scope="module")
def environment(served, tmp_path_factory):
    """Of processes whose hub is ours and that have nothing at hand."""
    known = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING", "TRANSF"))}
    home = str(tmp_path_factory.mktemp("home"))
    return known | {"HF_ENDPOINT": served.url, "HF_HOME": home, "PYTHONPATH": str(REPOSITORY)}


@pytest.fixture(scope="module")
def forks(environment, folders):
    """A process that loads LMs in forks of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.lm.forks", str(folders["one"])], cwd=REPOSITORY, env=environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    yield process
    process.communicate()


@pytest.fixture
def hub(served, folders, request):
    """The hub, with a repository of the test's own name, of which nothing is at hand."""
    fresh = Hub(name=f"org/{request.node.name.partition('[')[0]}", port=served.port)
    fresh.branches = {"main": folders["one"], "v2": folders["other"]}
    vars(served).update(vars(fresh))
    return served


@pytest.fixture
def load(forks, tmp_path):
    """Loads an LM in a new process; gives its fingerprint, or the one line of a mistake."""

    def load(lm, revision=None, code=0, **environment):
        said = tmp_path / "said.txt"
        said.unlink(missing_ok=True)
        asked = {"lm": lm, "revision": revision, "environment": {"HF_HUB_OFFLINE": "0"} | environment}
        forks.stdin.write(json.dumps(asked | {"said": str(said), "seconds": SECONDS}) + "\n")
        forks.stdin.flush()
        status, text = int(forks.stdout.readline()), said.read_text()
        assert status == code, text
        return mistake(text) if code else text.strip().splitlines()[-1]

    return load


def mistake(said):
    """The one line of a command that failed."""
    lines = said.strip().splitlines()
    assert "Traceback" not in said
    assert [line for line in lines if line.startswith("lit_prompt: error: ")] == lines[-1:]
    assert len(lines[-1]) < 400
    return lines[-1].removeprefix("lit_prompt: error: ")


def test_an_lm_is_downloaded_once_and_then_at_hand(hub, load, fingerprints):
    assert load(hub.name) == fingerprints["one"]
    assert {"config.json", "tokenizer.json", WEIGHTS} <= set(hub.downloads)
    assert len(hub.downloads) == len(set(hub.downloads))
    hub.downloads.clear()
    assert load(hub.name) == fingerprints["one"]
    assert load(hub.name, HF_HUB_OFFLINE="1") == fingerprints["one"]
    hub.status = 503
    assert load(hub.name) == fingerprints["one"]
    assert hub.downloads == []
    hub.status = None
    hub.stop()
    try:
        assert load(hub.name) == fingerprints["one"]
    finally:
        hub.start()


def test_a_branch_and_a_commit(hub, load, fingerprints):
    for revision in ("v2", commit("v2")):
        assert load(hub.name, revision) == fingerprints["other"]
    assert hub.downloads.count(WEIGHTS) == 1
    assert load(hub.name) == fingerprints["one"]
    for revision, name in (("v2", "other"), ("main", "one")):
        assert load(hub.name, revision, HF_HUB_OFFLINE="1") == fingerprints[name]
    said = load(hub.name, "v3", code=2)
    assert said == f"lm_options.revision: {hub.name} has no revision v3 at {hub.url}"


def test_weights_in_parts(hub, folders, load, fingerprints):
    hub.branches["main"] = folders["sharded"]
    assert load(hub.name) == fingerprints["one"]
    parts = [name for name in hub.downloads if name.endswith(".safetensors")]
    assert len(parts) == len(set(parts)) > 2
    assert load(hub.name, HF_HUB_OFFLINE="1") == fingerprints["one"]


def test_a_gguf_file(hub, folders, load):
    hub.branches["main"] = folders["gguf"]
    expected = load(str(folders["gguf"] / "tiny.gguf"))
    assert load(f"{hub.name}:tiny.gguf") == expected
    assert hub.downloads == ["tiny.gguf"]
    said = load(f"{hub.name}:other.gguf", code=2)
    assert said == f"--lm: {hub.name}:other.gguf is not at {hub.url}/{hub.name}, which has no such file"
    for environment in ({}, {"HF_HUB_OFFLINE": "1"}):
        assert load(f"{hub.name}:tiny.gguf", **environment) == expected
    assert hub.downloads == ["tiny.gguf"]


def test_a_name_that_the_hub_does_not_know(hub, load):
    said = load("org/nobody", code=2)
    assert said.startswith(f"--lm: org/nobody is no local folder, and {hub.url} has no LM of that name that ")
    assert said.endswith("log in with: hf auth login")


@pytest.mark.parametrize("name", ["no lm", "a--b"])
def test_a_name_that_no_hub_could_know(hub, load, name):
    said = load(name, code=2)
    assert said.startswith(f"--lm: {name} is no local folder, and no hub has an LM of this name: ")
    assert said.endswith(f"'{name}'.")


def test_an_lm_that_was_never_fetched_without_the_hub(hub, load):
    lms = (hub.name, f"{hub.name}:tiny.gguf")
    for lm in lms:
        said = load(lm, code=2, HF_HUB_OFFLINE="1")
        start = f"--lm: {lm} is no local folder, was not fetched in full before, and "
        end = "; check the name and the network, or give a local folder"
        assert said == f"{start}as HF_HUB_OFFLINE is set, no hub is asked{end}"
    silent = f"{start}{hub.url} does not answer{end}"
    hub.status = 503
    assert load(lm, code=2) == silent
    hub.stop()
    try:
        assert load(lm, code=2) == silent
    finally:
        hub.start()


def test_an_lm_that_was_fetched_in_part(hub, load):
    hub.breaks[WEIGHTS] = 1000
    load(hub.name, code=2)
    assert "was not fetched in full before" in load(hub.name, code=2, HF_HUB_OFFLINE="1")


def test_a_gated_lm(hub, folders, load, fingerprints):
    hub.gated = True
    for lm in (hub.name, f"{hub.name}:tiny.gguf"):
        advice = f"accept its terms at {hub.url}/{hub.name} and log in with: hf auth login"
        assert load(lm, code=2) == f"--lm: {lm} is gated; {advice}"
    assert load(hub.name, HF_TOKEN=TOKEN) == fingerprints["one"]


@pytest.mark.parametrize("file", [WEIGHTS, "tokenizer.json"])
def test_a_connection_that_breaks_for_a_moment(hub, load, fingerprints, file):
    hub.name += f"-{file}"
    hub.breaks[file] = 1
    assert load(hub.name) == fingerprints["one"]
    assert hub.downloads.count(file) == 2


@pytest.mark.parametrize("file", [WEIGHTS, "tokenizer.json"])
def test_a_connection_that_breaks_for_good(hub, load, file):
    hub.name += f"-{file}"
    hub.breaks[file] = 1000
    said = load(hub.name, code=2)
    assert said.startswith(f"--lm: {hub.name} could not be fetched from {hub.url} (peer closed connection ")
    assert said.endswith("; check the network and try again")
    hub.breaks.clear()
    load(hub.name)


def test_weights_in_pickles_alone(hub, folders, load):
    hub.branches["main"] = folders["pickled"]
    said = load(hub.name, code=2)
    assert said == f"--lm: {hub.name} has no safetensors weights on the hub; choose a revision that has"


def test_an_index_of_pickles(hub, folders, load, tmp_path):
    mixed = shutil.copytree(folders["pickled"], tmp_path / "mixed")
    index = {"metadata": {}, "weight_map": {"lm_head.weight": "pytorch_model.bin"}}
    (mixed / "model.safetensors.index.json").write_text(json.dumps(index))
    hub.branches["main"] = mixed
    expected = f"--lm: model.safetensors.index.json of {hub.name} names pytorch_model.bin, which is no safetensors file"
    for environment in ({}, {"HF_HUB_OFFLINE": "1"}):
        assert load(hub.name, code=2, **environment).startswith(expected)
    assert "pytorch_model.bin" not in hub.downloads


def test_a_config_that_is_damaged_on_the_hub(hub, folders, load, tmp_path):
    damaged = shutil.copytree(folders["one"], tmp_path / "damaged")
    (damaged / "config.json").write_text("{ not json")
    hub.branches["main"] = damaged
    said = load(hub.name, code=2)
    assert said.startswith(f"--lm: the tokenizer of {hub.name} could not be loaded: ")
    assert said.endswith("config.json' is not a valid JSON file.")


def test_a_run_of_the_command(hub, environment, workdir):
    (workdir / "one.yaml").write_text(
        "model: {class_path: SoftPrompt, init_args: {steps: 1}}\n"
        "data: {families: [{class_path: OneHot, init_args: {count: 1}}]}\ntrainer: {accelerator: cpu}\n"
    )

    def fit(lm):
        command = [sys.executable, "-m", "lit_prompt", "fit", "--config", "one.yaml", "--lm", lm]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)

    done = fit(hub.name)
    assert done.returncode == 0, done.stderr
    assert (workdir / "logs/one/version_0/prompts.safetensors").is_file()
    refused = fit("org/nobody")
    assert refused.returncode == 2
    assert mistake(refused.stderr).startswith("--lm: org/nobody is no local folder, and ")
    assert not (workdir / "logs/one/version_1").exists()
