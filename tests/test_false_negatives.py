"Thresholds of images that have a batch to themselves."

import pytest
import torch

from unremix.false_negatives import GloFND, GloFNDLoss


def views_of(n=9):
    g = torch.Generator().manual_seed(0)
    z1, z2 = torch.randn(2, n, 16, generator=g)
    return z1, z1 + 0.3 * z2, torch.arange(n)


@pytest.mark.parametrize('chunk_size', [None, 4])
def test_a_step_without_negatives_says_nothing(chunk_size):
    "Neither the first step of an image nor a later one."
    z1, z2, idx = views_of()
    loss, other = (GloFNDLoss(images=9, chunk_size=chunk_size) for _ in range(2))
    for step in range(4):
        before = loss.threshold.clone(), loss.visits.clone()
        loss(z1[8:], z2[8:], sample_ids=idx[8:])
        assert torch.equal(loss.threshold, before[0]), step
        assert torch.equal(loss.visits, before[1]), step
        for one in (loss, other):
            one(z1, z2, sample_ids=idx)
        assert torch.equal(loss.threshold, other.threshold)
        assert loss.visits.tolist() == [step + 1] * 9


def test_an_image_that_is_twice_in_a_batch_is_no_negative_of_its_own():
    "A batch of one image, drawn several times, has no negative either."
    z1, z2, idx = views_of()
    loss = GloFNDLoss(images=9, pairs=GloFND(alpha=0.2, rate=0.1))
    loss(z1[:3], z2[:3], sample_ids=torch.zeros(3, dtype=torch.long))
    assert torch.equal(loss.threshold, torch.ones(9)) and not loss.visits.any()
    loss(z1, z2, sample_ids=idx)
    assert (loss.threshold < 1).all() and (loss.visits == 1).all()
