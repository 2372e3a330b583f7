"""Tasks from the results of their targets."""

import pytest

from lit_prompt.records.results import SCHEMA
from lit_prompt.records.tasks import SHARED, has_tasks, task_rows


def result(name, weight, split="train", task="user/t", **columns):
    shared = dict.fromkeys(SHARED, "the same")
    known = {"target_id": f"user/{name}", "family": "user", "task": task, "weight": weight, "split": split}
    return dict.fromkeys(SCHEMA.names) | shared | known | columns


def test_columns_are_summed_by_weight_held_out_targets_apart():
    rows = [
        result("a", 0.75, kl=1.0, kl_asking=4.0, kl_floor=0.5),
        result("b", 0.25, kl=2.0, kl_asking=8.0),
        result("c", 1.0, "test", kl=3.0, kl_asking=6.0),
    ]
    (task,) = task_rows(rows)
    assert (task["task"], task["targets"], task["held_out"]) == ("user/t", 2, 1)
    assert (task["kl"], task["kl_asking"]) == pytest.approx((1.25, 5.0))
    assert (task["held_out_kl"], task["held_out_kl_asking"]) == (3.0, 6.0)
    assert task["kl_floor"] is None  # one has none
    assert has_tasks(rows)


def test_a_target_without_a_task_is_one_by_itself():
    rows = [result("a", 1.0, task=None, kl=1.0), result("b", 1.0, task=None, kl=2.0)]
    assert [(task["task"], task["kl"]) for task in task_rows(rows)] == [("user/a", 1.0), ("user/b", 2.0)]
    assert not has_tasks(rows)
