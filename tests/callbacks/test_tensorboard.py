"""What TensorBoard shows beside the curves."""

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lit_prompt.callbacks import tensorboard
from lit_prompt.models import floors
from lit_prompt.models.baselines import Baselines
from tests.test_cli import CONFIG

HARD = """
model: {class_path: HardPrompt, init_args: {length: 2, steps: 1, start: {kind: random}}}
data: {families: [{class_path: OneHot, init_args: {count: 2}}]}
"""


@pytest.mark.parametrize("most", [4, 100])
def test_of_very_many_targets_a_fit_evaluates_a_part(cli, workdir, tiny_lm, monkeypatch, most):
    monkeypatch.setattr(tensorboard, "_MOST_EVALUATED", most)
    (workdir / "some.yaml").write_text(CONFIG)
    cli("fit", "--config", "some.yaml", "--lm", tiny_lm)
    run = workdir / "logs" / "some" / "version_0"
    events = EventAccumulator(str(run), size_guidance={"tensors": 0}).Reload()
    told = "evaluated/text_summary" in events.Tags()["tensors"]
    assert told == (most == 4)
    if told:
        (text,) = events.Tensors("evaluated/text_summary")
        assert text.tensor_proto.string_val[0].startswith(b"3 of 9 targets")
    assert events.Histograms("final/kl")[-1].histogram_value.num == (3 if told else 9)


@pytest.mark.parametrize("config", [CONFIG, HARD], ids=["soft", "hard"])
def test_a_fit_leaves_floors_and_baselines_to_the_test(cli, workdir, tiny_lm, monkeypatch, config):
    asked = []

    def told(owner, name):
        original = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *args, **kwargs: asked.append(name) or original(*args, **kwargs))

    told(floors, "output_geometry")
    told(floors, "kl_floor")
    told(floors, "kl_on_sphere")
    told(Baselines, "columns")
    (workdir / "some.yaml").write_text(config)
    cli("fit", "--config", "some.yaml", "--lm", tiny_lm)
    assert not asked
    cli("test", "--run", "logs/some/version_0")
    assert set(asked) == {"output_geometry", "kl_floor", "kl_on_sphere", "columns"}
