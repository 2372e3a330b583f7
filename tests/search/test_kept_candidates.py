"""The best different prompts of each slot, against a sort of everything."""

import torch

from lit_prompt.search.kept_candidates import KeptCandidates


def test_the_best_different_prompts_are_kept():
    generator = torch.Generator().manual_seed(0)
    kept, every = KeptCandidates(3, 4, 2), [{}, {}, {}]
    score = torch.randn(5, 5, 3, generator=generator)  # of each prompt of two tokens, for each slot
    for _ in range(6):
        ids = torch.randint(5, (2, 7, 2), generator=generator)
        slots = torch.randperm(3, generator=generator)[:2]
        scores = score[ids[..., 0], ids[..., 1], slots.unsqueeze(1)]
        scores[0, 0] = torch.inf
        kept.take(ids, scores, slots)
        for row, slot in enumerate(slots.tolist()):
            for prompt, value in zip(ids[row].tolist(), scores[row].tolist(), strict=True):
                if value < float("inf"):
                    every[slot][tuple(prompt)] = value
        for slot, own in enumerate(every):
            best = sorted(own.items(), key=lambda pair: pair[1])[:4]
            assert kept.scores[slot].tolist() == [value for _, value in best] + [float("inf")] * (4 - len(best))
            assert [tuple(prompt) for prompt in kept.ids[slot].tolist()][: len(best)] == [key for key, _ in best]


def test_few_prompts_leave_places_free_and_zeros_are_a_prompt():
    kept = KeptCandidates(1, 3, 2)
    kept.take(torch.zeros(1, 2, 2, dtype=torch.long), torch.tensor([[1.0, 1.0]]), torch.tensor([0]))
    assert kept.scores.tolist() == [[1.0, float("inf"), float("inf")]]
    again = KeptCandidates(1, 3, 2)
    again.load_state_dict(kept.state_dict())
    assert torch.equal(again.ids, kept.ids)
