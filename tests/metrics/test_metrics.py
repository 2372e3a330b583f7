"""Metrics against plain means of the functions."""

import copy

import numpy as np
import pytest
import torch
from torchmetrics import MetricCollection

from lit_prompt import functional
from lit_prompt.metrics import (
    Entropy,
    GroupedMetrics,
    JSDivergence,
    KLDivergence,
    ReverseKLDivergence,
    TopKOverlap,
    TotalVariation,
    entropy_bin,
)

METRICS = {
    "kl": (KLDivergence, functional.kl_divergence),
    "reverse_kl": (ReverseKLDivergence, functional.reverse_kl_divergence),
    "js": (JSDivergence, functional.js_divergence),
    "tv": (TotalVariation, functional.total_variation),
    "entropy": (Entropy, lambda p, q: functional.entropy(q)),
    "top10": (TopKOverlap, functional.top_k_overlap),
    "top3": (lambda: TopKOverlap(k=3), lambda p, q: functional.top_k_overlap(p, q, 3)),
}


def pair(seed, items=5, vocab=23, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return tuple((torch.randn(items, vocab, generator=generator) * 2).to(dtype) for _ in range(2))


def collection():
    return MetricCollection({"kl": KLDivergence(), "tv": TotalVariation()}, compute_groups=False)


@pytest.mark.parametrize("name", METRICS)
def test_equals_the_mean_over_items_of_all_updates(name):
    make, function = METRICS[name]
    metric, values = make(), []
    for seed, items in enumerate((5, 1, 12)):
        log_p, log_q = pair(seed, items)
        metric.update(log_p, log_q)
        values += function(log_p, log_q).double().tolist()
    result = metric.compute()
    assert result.dtype == torch.float64
    assert result.item() == pytest.approx(np.mean(values), rel=1e-14)


@pytest.mark.parametrize("name", METRICS)
def test_reset_forgets(name):
    make, function = METRICS[name]
    metric = make()
    metric.update(*pair(0))
    metric.reset()
    metric.update(*pair(1))
    assert metric.compute().item() == pytest.approx(function(*pair(1)).double().mean().item(), rel=1e-14)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_takes_every_dtype(dtype):
    metric = KLDivergence()
    metric.update(*pair(0, dtype=dtype))
    expected = functional.kl_divergence(*(x.double() for x in pair(0, dtype=dtype))).mean().item()
    assert metric.compute().item() == pytest.approx(expected, rel=1e-6)


def test_of_nothing_is_nan():
    with pytest.warns(UserWarning, match="before the ``update``"):
        assert KLDivergence().compute().isnan()


def test_entropy_does_not_look_at_the_targets():
    metric, (log_p, log_q) = Entropy(), pair(0)
    metric.update(torch.full_like(log_p, torch.nan), log_q)
    assert metric.compute().item() == pytest.approx(functional.entropy(log_q).double().mean().item())


def test_many_small_values_are_summed_in_float64():
    log_p, log_q = torch.zeros(4, 2), torch.zeros(4, 2)
    metric = Entropy()
    metric.update(log_p, log_q)
    metric.total += 2.0**30  # float32 would lose the digits of what follows
    metric.update(log_p, log_q)
    one = functional.entropy(log_q).double().sum().item()
    assert metric.total.item() == 2.0**30 + 2 * one


TO_HALF = {
    "half": lambda m: m.half(),
    "bfloat16": lambda m: m.bfloat16(),
    "to": lambda m: m.to(torch.float16),
    "to_device_and_dtype": lambda m: m.to("cpu", torch.bfloat16),
    "type": lambda m: m.type(torch.float16),
}


@pytest.mark.parametrize("how", TO_HALF)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_module_in_half_precision_keeps_sums_in_float64(how, when):
    metric = KLDivergence()
    module = torch.nn.ModuleDict({"layer": torch.nn.Linear(2, 2), "metric": metric})
    if when == "before":
        TO_HALF[how](module)
    for seed in range(3):
        metric.update(*pair(seed))
    if when == "after":
        TO_HALF[how](module)
    assert module["layer"].weight.dtype in (torch.float16, torch.bfloat16)
    expected = np.mean([functional.kl_divergence(*pair(seed)).double().mean().item() for seed in range(3)])
    assert metric.total.dtype == torch.float64
    assert metric.compute().item() == pytest.approx(expected, rel=1e-14)
    metric.reset()
    assert metric.total.dtype == torch.float64


def test_set_dtype_keeps_sums_in_float64():
    metric = KLDivergence().set_dtype(torch.float16)
    metric.update(*pair(0))
    assert metric.total.dtype == torch.float64


# ---- grouped ----

LABELS = [["random", "H00-01"], ["random", "H01-02"], ["uniform", "H00-01"], ["random", "H01-02"], []]


def plain(batches):
    """Means by a plain loop over items."""
    found = {}
    for (log_p, log_q), labels in batches:
        for p, q, own in zip(log_p, log_q, labels, strict=True):
            for name, function in (("kl", functional.kl_divergence), ("tv", functional.total_variation)):
                for key in [name, *(f"{label}/{name}" for label in own)]:
                    found.setdefault(key, []).append(function(p, q).item())
    return {key: np.mean(values) for key, values in found.items()}


def assert_equals_plain(metrics, batches):
    result, expected = metrics.compute(), plain(batches)
    assert result.keys() == expected.keys()
    for key, value in expected.items():
        assert result[key].item() == pytest.approx(value, rel=1e-6), key


@pytest.mark.parametrize("call", ["update", "forward"])
def test_grouped_overall_and_by_label(call):
    metrics = GroupedMetrics(collection())
    batches = [(pair(0), LABELS), (pair(1), LABELS[::-1]), (pair(2, 2), [["late"], ["random"]])]
    for inputs, labels in batches:
        metrics.update(*inputs, labels) if call == "update" else metrics(*inputs, labels)
    assert_equals_plain(metrics, batches)


@pytest.mark.parametrize(
    "labels",
    [
        [["a.b"], ["a_b"], ["a.b"], ["a"], ["b"]],  # a module's name may hold no dot
        [["keys"], ["values"], ["training"], ["forward"], ["type"]],  # nor be an attribute of a module
        [[""], ["a/b"], ["a b"], ["é"], ["0"]],
    ],
    ids=["dots", "attributes", "odd"],
)
def test_grouped_takes_any_label(labels):
    metrics = GroupedMetrics(collection())
    metrics.update(*pair(0), labels)
    assert_equals_plain(metrics, [(pair(0), labels)])


def test_grouped_counts_a_label_named_twice_once():
    metrics = GroupedMetrics(collection())
    metrics.update(*pair(0, 2), [["a", "a"], ["b"]])
    assert_equals_plain(metrics, [(pair(0, 2), [["a"], ["b"]])])


def test_grouped_reset_forgets_labels_and_values():
    metrics = GroupedMetrics(collection())
    metrics.update(*pair(0), LABELS)
    metrics.reset()
    batch = (pair(1, 2), [["uniform"], ["new"]])
    metrics.update(*batch[0], batch[1])
    assert_equals_plain(metrics, [batch])


def test_grouped_computes_again_after_more_items():
    metrics = GroupedMetrics(collection())
    metrics.update(*pair(0), LABELS)
    metrics.compute()
    metrics.update(*pair(1), LABELS)
    assert_equals_plain(metrics, [(pair(0), LABELS), (pair(1), LABELS)])


def test_grouped_keeps_apart_metrics_that_agree_at_first():
    metrics = GroupedMetrics(collection())
    same = pair(0)[0]
    metrics.update(same, same, LABELS)  # all divergences are 0
    metrics.update(*pair(1), LABELS)
    result = metrics.compute()
    assert result["kl"] != result["tv"]
    assert result["random/kl"] != result["random/tv"]


def test_grouped_survives_a_copy():
    metrics = GroupedMetrics(collection())
    metrics.update(*pair(0), LABELS)
    other = copy.deepcopy(metrics)
    other.update(*pair(1), LABELS)
    assert_equals_plain(metrics, [(pair(0), LABELS)])
    assert_equals_plain(other, [(pair(0), LABELS), (pair(1), LABELS)])


@pytest.mark.parametrize(
    ("entropy", "name"),
    [
        (0.0, "H00-01"),
        (-1e-8, "H00-01"),
        (0.999, "H00-01"),
        (1.0, "H01-02"),
        (1.0 - 1e-12, "H01-02"),  # rounding of an entropy of 1
        (9.99, "H09-10"),
        (10.0, "H10-11"),
        (11.76, "H11-12"),
    ],
)
def test_entropy_bin(entropy, name):
    assert entropy_bin(entropy) == name


def test_sums_of_processes_are_those_of_one():
    whole, parts = GroupedMetrics(collection()), [GroupedMetrics(collection()) for _ in range(3)]
    labels = [["a"], ["b", "c"], ["a", "c"], [], ["d"]]
    for seed, part in enumerate(parts):
        log_p, log_q = pair(seed)
        names = [[label for label in item if seed or label != "d"] for item in labels]  # the first has no d
        whole.update(log_p, log_q, names)
        part.update(log_p, log_q, names)
    added = GroupedMetrics(collection())
    for part in parts:
        added.add(part.sums())
    expected, found = whole.compute(), added.compute()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value.item(), rel=1e-14), name
    assert added.sums()["d"]["kl"][1] == 2
    assert added.sums()[""]["kl"][1] == 15


def test_a_process_adds_to_what_it_has():
    one, other = GroupedMetrics(collection()), GroupedMetrics(collection())
    one.update(*pair(0), [["a"]] * 5)
    one.compute()  # is kept, until there are more items
    other.update(*pair(1, items=2), [["b"], ["a"]])
    totals = [metrics.sums() for metrics in (one, other)]
    one.add(other.sums())
    for label, names in one.sums().items():
        for name, (total, count) in names.items():
            parts = [sums[label][name] for sums in totals if label in sums]
            assert (total, count) == (pytest.approx(sum(p[0] for p in parts), rel=1e-14), sum(p[1] for p in parts))
    assert one.compute()["kl"].item() == pytest.approx(
        sum(sums[""]["kl"][0] for sums in totals) / sum(sums[""]["kl"][1] for sums in totals), rel=1e-14
    )


def test_nothing_is_added_where_nothing_was_evaluated():
    metrics = GroupedMetrics(collection())
    metrics.update(*pair(0), [["a"]] * 5)
    before = metrics.sums()
    metrics.add(GroupedMetrics(collection()).sums())
    assert metrics.sums() == before
    metrics.reset()
    assert metrics.sums()[""]["kl"] == (0.0, 0)


def test_a_mean_of_added_sums_warns_of_nothing(recwarn):
    one, other = GroupedMetrics(collection()), GroupedMetrics(collection())
    other.update(*pair(1), [["a"]] * 5)
    one.add(other.sums())
    one.compute()
    assert not [str(warning.message) for warning in recwarn]
