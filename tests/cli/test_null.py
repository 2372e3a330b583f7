"""``null`` in a config: refused where there must be something; an empty group of settings is at its defaults."""

import pytest
import yaml

CONFIG = """
model: {class_path: HardPrompt, init_args: {length: 2, steps: 1, searcher: {class_path: GCG, init_args: {width: 4}}}}
data: {families: [{class_path: OneHot, init_args: {count: 2}}]}
"""


@pytest.mark.parametrize(
    "key",
    [
        "model.init_args.length",
        "model.init_args.after",
        "model.init_args.restarts",
        "model.init_args.searcher.init_args.width",
        "model.init_args.tokens.block",
        "data.chunk_size",
        "checkpoint.every_n_steps",
        "lm_options.dtype",
    ],
)
def test_null_in_the_place_of_something_is_one_line(cli, workdir, tiny_lm, key):
    settings = group = yaml.safe_load(CONFIG)
    *groups, name = key.split(".")
    for each in groups:
        group = group.setdefault(each, {})
    group[name] = None
    (workdir / "small.yaml").write_text(yaml.safe_dump(settings))
    said = cli("fit", "--config", "small.yaml", "--lm", tiny_lm, code=2).splitlines()[-1]
    assert said.startswith(f"lit_prompt: error: small.yaml: {key.replace('.init_args', '')}: ")
    assert "null" in said


def test_an_empty_group_is_at_its_defaults(cli, workdir, tiny_lm):
    settings = yaml.safe_load(CONFIG) | {"checkpoint": None, "lm_options": None}
    settings["model"]["init_args"] |= {"tokens": None, "start": None}
    (workdir / "small.yaml").write_text(yaml.safe_dump(settings))
    cli("fit", "--config", "small.yaml", "--lm", tiny_lm)
    saved = yaml.safe_load((workdir / "logs" / "small" / "version_0" / "config.yaml").read_text())
    assert saved["checkpoint"] == {"every_n_steps": 100}
    assert saved["lm_options"]["dtype"] == "float32"
    assert saved["model"]["init_args"]["tokens"]["characters"] == "printable"
    assert saved["model"]["init_args"]["start"]["kind"] == "bank"
