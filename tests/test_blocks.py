"Rows in blocks give the whole matrix's value, gradient and statistics, for every loss."
from contextlib import nullcontext
from unittest.mock import patch

import pytest
import torch
from torch.testing import assert_close

from test_weightings import LOSSES, views
from unremix import NTXentLoss, UnReMixLoss, WeightedNTXentLoss
from unremix.queues import KeyQueue

BLOCKS = dict(LOSSES, minmax_attached=lambda t: UnReMixLoss(t, normalize='minmax', detach_weights=False), sum=lambda t: UnReMixLoss(t, reduction='sum'), none=lambda t: UnReMixLoss(t, reduction='none', tau_plus=.1), none_attached=lambda t: UnReMixLoss(t, reduction='none', detach_weights=False))
GIVEN = dict(nothing={}, labels=dict(labels=torch.arange(150) % 9), ids=dict(sample_ids=torch.arange(150) % 80), negatives=dict(negatives=torch.randn(7, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)))


def value_and_gradient(name, dtype, chunk_size, given):
    "300 anchors; in blocks, 16 at once, so that every block is taken in parts."
    (z1, z2), hidden = views(b=150, dtype=dtype)
    leaves = [x.clone().requires_grad_() for x in (z1, z2)]
    given = {k: x.to(dtype) if x.is_floating_point() else x for k, x in given.items()}
    loss = BLOCKS[name](.5)
    if 'labels' in given: loss.tau_plus = 0.
    loss.chunk_size = chunk_size
    with patch('unremix.blocks.CACHE_CELLS', 1) if chunk_size else nullcontext():
        value, stats = loss(*leaves, hidden=hidden, true_labels=torch.arange(150) % 5, return_stats=True, **given)
        weights = torch.linspace(-1, 1, 300, dtype=dtype) if value.ndim else 1.
        return value.detach(), torch.cat(torch.autograd.grad((value*weights).sum(), leaves)), stats


@pytest.mark.parametrize('dtype, bound', ((torch.float64, 1e-10), (torch.float32, 1e-6)))
@pytest.mark.parametrize('name', BLOCKS)
def test_blocks_give_the_whole(name, dtype, bound):
    value, gradient, stats = value_and_gradient(name, dtype, None, {})
    assert gradient.abs().max() > 0
    for chunk_size in (64, 299):
        v, g, s = value_and_gradient(name, dtype, chunk_size, {})
        assert (v - value).abs().max() <= bound*value.abs().max() and (g - gradient).abs().max() <= bound*gradient.abs().max()
        for k in stats: assert_close(s[k], stats[k], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('given', list(GIVEN)[1:])
@pytest.mark.parametrize('name', ('hcl', 'unremix_euclidean', 'norm_softmax', 'influence_log', 'overlap_log', 'image_similarity_log', 'norm_minmax', 'none'))
def test_blocks_with_companions(name, given):
    value, gradient, _ = value_and_gradient(name, torch.float64, None, GIVEN[given])
    v, g, _ = value_and_gradient(name, torch.float64, 7, GIVEN[given])
    assert (v - value).abs().max() <= 1e-10*value.abs().max() and (g - gradient).abs().max() <= 1e-10*gradient.abs().max()


def test_a_learned_weighting_gets_its_gradient():
    class Learned(torch.nn.Module):
        def __init__(self): super().__init__(); self.beta = torch.nn.Parameter(torch.tensor(.7, dtype=torch.float64))
        def forward(self, c): return (self.beta*c.logits).masked_fill(~c.negative, -torch.inf).log_softmax(1) + c.k.log()[:,None]
    (z1, z2), _ = views()
    found = []
    for chunk_size in (None, 5):
        weighting = Learned()
        loss = WeightedNTXentLoss(weighting, chunk_size=chunk_size)
        loss(z1.clone().requires_grad_(), z2).backward()
        found.append(weighting.beta.grad)
    assert_close(found[1], found[0]); assert found[0].abs() > 1e-3


def test_without_gradient_and_half_precision():
    (z1, z2), hidden = views(dtype=torch.bfloat16)
    with torch.no_grad(): assert_close(UnReMixLoss(chunk_size=5)(z1, z2, hidden=hidden), UnReMixLoss()(z1, z2, hidden=hidden), rtol=1e-6, atol=1e-6)
    with torch.autocast('cpu', torch.bfloat16):
        for chunk_size in (None, 5):
            z = z1.clone().requires_grad_()
            UnReMixLoss(chunk_size=chunk_size)(z, z2, hidden=hidden).backward()
            assert z.grad.dtype == torch.bfloat16
            if chunk_size: assert (z.grad - whole).abs().max() <= 2**-7*whole.abs().max() # rounded to bfloat16 once, in either case
            whole = z.grad


def test_a_queue_wraps_and_comes_back_from_a_checkpoint():
    (z1, z2), hidden = views(dtype=torch.float32)
    queue, copy = KeyQueue(10, 8, stores_hidden=True), KeyQueue(10, 8, stores_hidden=True)
    for step in range(4):
        queue.push(z2.roll(step, 0)[:4], hidden[1][:4], sample_ids=torch.arange(4) + step)
        copy.load_state_dict({k: v.clone() for k, v in queue.state_dict().items()})
        loss, k = [UnReMixLoss()(z1, z2, hidden=hidden, sample_ids=torch.arange(6), queue=q, return_stats=True) for q in (queue, copy)], NTXentLoss().contrast(z1, z2, queue=queue).k
        assert_close(loss[0], loss[1]); assert loss[0][0].isfinite() and (k == min(10, 4*step + 4)).all()
