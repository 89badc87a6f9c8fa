"Who is nobody: empty slots of a queue, anchors and batches without negatives, seeds after a move."

import pytest
import torch
from torch.testing import assert_close

from unremix import KeyQueue, UnReMixLoss
from unremix.contrast import compare
from unremix.embeddings import from_views
from unremix.hard_negatives import HCL
from unremix.rules import views
from unremix.selection import hardness_and_mass, knowledge


@pytest.mark.parametrize('kind', ('norm', 'overlap', 'entropy'))
def test_empty_slots_are_nobody(kind):
    "The same keys in a larger queue are the same negatives."
    eye = torch.eye(8)
    keys = (eye[:4] + eye[4:]) * (1 + 0.001 * torch.arange(4.0))[:, None]
    loss = UnReMixLoss(mix=(1.0, 0.0, 0.0), uncertainty=kind, reduction='none')
    found = []
    for size in (4, 16, 256):
        queue = KeyQueue(size, 8)
        queue.push(keys)
        found.append(loss(eye[:4], eye[:4], queue=queue))
    assert_close(found[1], found[0])
    assert_close(found[2], found[0])


def contrast(n, seed=0):
    z1, z2 = torch.randn(2, n, 5, generator=torch.Generator().manual_seed(seed))
    e = from_views((z1, z2))
    return compare(e, e, views, 0.5)


@pytest.mark.parametrize('measure', ('push', 'weight'))
def test_a_batch_of_one_image_is_no_batch(measure):
    whole, alone = contrast(6), contrast(1)
    classes = torch.arange(12) % 3
    own = (classes[:, None] == classes) & whole.negative
    nobody = torch.zeros(2, 2, dtype=torch.bool)
    for judged in (hardness_and_mass, knowledge):
        expected = judged([whole], [own], HCL(), measure)
        assert judged([whole, alone], [own, nobody], HCL(), measure) == expected
