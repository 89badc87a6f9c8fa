"""Debiasing under any weighting: g is the weighted mean, K what the weights add up to. The oracle is written in loops."""
import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from unremix import DebiasedNTXentLoss, HCLLoss, NTXentLoss, UnReMixLoss, WeightedNTXentLoss
from unremix.losses import contrastive_loss, statistics, uniform
from unremix.pairs import from_views
from unremix.weights import hcl

b, d = 5, 6


def views(): return torch.randn(2, b, d, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).unbind()


def other_view(contrast):
    "CLIP's: only the other modality, and all of it alike."
    n, half = contrast.logits.shape[1], contrast.n_views//2
    mine = (contrast.anchor_idx < half)[:,None] == (torch.arange(n) < half)
    return uniform(contrast).masked_fill(mine, -math.inf)


def nearest(contrast, keep=2):
    "A selecting weighting in the library's own scale: what is kept weighs K/K′."
    last = contrast.logits.masked_fill(~contrast.negative, -math.inf).topk(keep).values[:,-1:]
    kept = contrast.negative & (contrast.logits >= last)
    return torch.where(kept, (contrast.k/keep).log()[:,None], -math.inf)


WEIGHTINGS = dict(uniform=uniform, hcl=hcl, other_view=other_view, other_view_mean_one=lambda c: other_view(c) + math.log(2), nearest=nearest,
    nearest_unscaled=lambda c: torch.where(nearest(c) > -math.inf, 0., -math.inf).to(c.logits), hcl_of_other_view=lambda c: hcl(c) + other_view(c),
    heavy=lambda c: hcl(c) + math.log(7), light=lambda c: hcl(c) - math.log(70))
every_weighting = pytest.mark.parametrize('name', WEIGHTINGS)


def by_loops(z1, z2, log_w, t, tau):
    "(2b) losses and floors, as @eq-debias reads."
    z, losses, floors = F.normalize(torch.cat([z1, z2]), dim=1), [], []
    for i in range(len(z)):
        e = [math.exp(z[i] @ z[j] / t) for j in range(len(z))]
        w = [math.exp(log_w[i, j]) for j in range(len(z))]
        k = sum(w)
        g = sum(w[j]*e[j] for j in range(len(z)))/k
        positive = e[(i + b) % (2*b)]
        rest = (g - tau*positive)/(1 - tau)
        losses.append(math.log(1 + k*max(rest, math.exp(-1/t))/positive))
        floors.append(rest <= math.exp(-1/t))
    return torch.tensor(losses, dtype=torch.float64), torch.tensor(floors)


@every_weighting
@pytest.mark.parametrize('chunk_size', (None, 3))
def test_the_weighted_mean_is_debiased(name, chunk_size):
    z1, z2 = views()
    seen = set()
    for t, tau in ((.5, .1), (.2, .1), (.2, .3)):
        loss = WeightedNTXentLoss(WEIGHTINGS[name], t, tau, reduction='none', chunk_size=chunk_size)
        expected, floors = by_loops(z1, z2, WEIGHTINGS[name](from_views(z1, z2, t)), t, tau)
        single, stats = loss(z1, z2, return_stats=True)
        assert_close(single, expected)
        assert_close(stats['clamped_fraction'], floors.float().mean())
        seen |= set(floors.tolist())
    assert seen == {True, False}


@every_weighting
def test_directly_and_by_finite_differences(name):
    z1, z2 = (z.requires_grad_() for z in views())
    def f(a, c): contrast = from_views(a, c); return contrastive_loss(contrast, WEIGHTINGS[name](contrast), .05)
    assert_close(f(z1, z2), WeightedNTXentLoss(WEIGHTINGS[name], .5, .05, reduction='none')(z1, z2))
    assert torch.autograd.gradcheck(f, (z1, z2))
    assert torch.autograd.gradgradcheck(f, (z1, z2))


def test_masking_is_the_same_as_not_having_them():
    "CLIP's weights debias like a batch that has the other modality only: explicit negatives, its own left out."
    z1, z2 = views()
    masked = WeightedNTXentLoss(other_view, .5, .1, reduction='none')(z1, z2)[:b]
    fewer = DebiasedNTXentLoss(.5, .1, in_batch=False, reduction='none')(z1, z2, negatives=z2, sample_ids=torch.arange(b).repeat(2))[:b]
    assert_close(masked, fewer)


def test_a_scale_of_the_weights_is_a_factor_of_the_sum_only():
    "Weights twice as heavy: K twice as large, g as before."
    z1, z2 = views()
    c = from_views(z1, z2)
    once, twice = (contrastive_loss(c, uniform(c) + math.log(s), .1) for s in (1., 2.))
    assert_close(twice.expm1(), 2*once.expm1())


@pytest.mark.parametrize('tau', (0., .1))
def test_what_is_chosen_debiases_by_the_mean_of_the_chosen(tau):
    z1, z2 = views()
    loss = UnReMixLoss(.5, tau, select='top', k_keep=2, mix=(0, 1, 0), reduction='none')
    assert_close(loss(z1, z2), by_loops(z1, z2, nearest(from_views(z1, z2)), .5, tau)[0])


def test_a_promise_holds_for_whom_it_was_given():
    "A subclass that masks what its parent promised to average is added up again; an untouched one is not."
    class OtherView(HCLLoss):
        def log_weights(self, contrast): return super().log_weights(contrast) + other_view(contrast)
    class Same(HCLLoss): pass
    z1, z2 = views()
    expected = by_loops(z1, z2, WEIGHTINGS['hcl_of_other_view'](from_views(z1, z2)), .5, .1)[0]
    assert_close(OtherView(reduction='none')(z1, z2), expected)
    simple = NTXentLoss(reduction='none')
    simple.weighting, simple.tau_plus = other_view, .1
    assert_close(simple(z1, z2), by_loops(z1, z2, other_view(from_views(z1, z2)), .5, .1)[0])
    promised = (NTXentLoss(), DebiasedNTXentLoss(), HCLLoss(), Same(), UnReMixLoss(), UnReMixLoss(select='top', k_keep=2), WeightedNTXentLoss(hcl))
    assert all(loss.averages_one() for loss in promised)
    assert not any(loss.averages_one() for loss in (OtherView(), simple, WeightedNTXentLoss(other_view), WeightedNTXentLoss(partial(hcl, beta=2.))))


@pytest.mark.parametrize('make', (NTXentLoss, HCLLoss, UnReMixLoss, lambda: UnReMixLoss(normalize='sum'), lambda: UnReMixLoss(select='top', k_keep=3),
                                  lambda: UnReMixLoss(select='sample', k_keep=3), lambda: UnReMixLoss(pool='log')))
def test_the_promise_is_kept(make):
    z1, z2 = views()
    loss = make()
    for given in ({}, dict(sample_ids=torch.tensor([0, 1, 0, 2, 2])), dict(negatives=z1.flip(1))):
        contrast = loss.contrast(z1, z2, **given)
        assert loss.averages_one()
        assert_close(loss.log_weights(contrast).exp().sum(1), contrast.k, rtol=2e-6, atol=0)


def test_statistics_take_the_same_floor():
    z1, z2 = views()
    c = from_views(z1, z2, .2)
    for name, weighting in WEIGHTINGS.items():
        expected = by_loops(z1, z2, weighting(c), .2, .3)[1].float().mean()
        assert_close(statistics(c, weighting(c), .3)['clamped_fraction'], expected, msg=name)
