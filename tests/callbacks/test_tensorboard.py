"""What TensorBoard shows beside the curves."""

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lit_prompt.callbacks import tensorboard
from tests.test_cli import CONFIG


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
