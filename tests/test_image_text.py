"Image and caption are two views: the loss of CLIP, its hard negatives, equal captions."

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from unremix.contrastive_loss import ContrastiveLoss
from unremix.hard_negatives import HCL
from unremix.rules import across

EXACT = dict(atol=1e-10, rtol=0)


def clip_in_loops(u, v, scale):
    "Mean over both directions of -log of the share of the own partner, by definition."
    losses = []
    for a, c in ((u, v), (v, u)):
        for i in range(len(a)):
            exps = [(scale * (a[i] @ c[j])).exp() for j in range(len(c))]
            losses.append(-(exps[i] / sum(exps)).log())
    return sum(losses) / len(losses)


def clip_of_open_clip(u, v, scale):
    clip = pytest.importorskip('open_clip.loss', reason='needs open_clip_torch')
    return clip.ClipLoss()(u, v, scale)


@pytest.mark.parametrize('published', (clip_in_loops, clip_of_open_clip))
@pytest.mark.parametrize('t', (0.01, 0.07, 0.5))
@pytest.mark.parametrize('b, d', ((2, 3), (7, 5), (16, 16)))
@pytest.mark.parametrize('chunk_size', (None, 3))
def test_the_loss_of_clip(b, d, t, chunk_size, published):
    "In value and gradient, whole and in blocks."
    generator = torch.Generator().manual_seed(b)
    draw = lambda: torch.randn(b, d, dtype=torch.float64, generator=generator)
    both = draw().requires_grad_(), draw().requires_grad_()
    theirs = published(*map(F.normalize, both), 1 / t)
    how = dict(pairs=across, temperature=t, chunk_size=chunk_size)
    for weights in ({}, {'weights': HCL(beta=0.0)}):
        ours = ContrastiveLoss(**weights, **how)(*both)
        assert_close(ours, theirs, **EXACT)
        grads = [
            torch.autograd.grad(x, both, retain_graph=True) for x in (ours, theirs)
        ]
        assert_close(*grads, atol=1e-10, rtol=1e-10)


def test_hard_negatives_across():
    "HCL across modalities, in loops: both directions, nobody of the own modality."
    torch.manual_seed(0)
    u, v = torch.randn(2, 5, 4, dtype=torch.float64).unbind()
    a, c = F.normalize(u), F.normalize(v)
    losses = []
    for x, y in ((a, c), (c, a)):
        for i in range(5):
            s = [(x[i] @ y[j] / 0.1) for j in range(5)]
            others = [s[j] for j in range(5) if j != i]
            total = sum((2 * o).exp() for o in others)
            hard = sum(4 * (2 * o).exp() / total * o.exp() for o in others)
            losses.append((1 + hard / s[i].exp()).log())
    loss = ContrastiveLoss(HCL(beta=2.0), pairs=across, temperature=0.1)
    assert_close(loss(u, v), torch.stack(losses).mean(), **EXACT)


def test_same_caption_is_no_negative():
    "With `sample_ids` the loss is that without the pairs of one caption."
    torch.manual_seed(0)
    u, v = torch.randn(2, 6, 4, dtype=torch.float64).unbind()
    ids = torch.tensor([0, 1, 0, 2, 3, 1])
    s = F.normalize(u) @ F.normalize(v).T / 0.1
    other = (ids[:, None] != ids) | torch.eye(6, dtype=torch.bool)
    kept = s.masked_fill(~other, float('-inf'))
    target = torch.arange(6)
    expected = (F.cross_entropy(kept, target) + F.cross_entropy(kept.T, target)) / 2
    loss = ContrastiveLoss(pairs=across, temperature=0.1)
    assert_close(loss(u, v, sample_ids=ids), expected, **EXACT)
