"""Debiasing under any weighting.

g is the weighted mean, K what the weights add up to. The oracle is written in loops.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from unremix import ContrastiveLoss, DebiasedNTXentLoss, HCLLoss, NTXentLoss
from unremix import UnReMix, UnReMixLoss
from unremix.composition import averages_one
from unremix.contrast import compare
from unremix.embeddings import from_views
from unremix.hard_negatives import HCL, uniform
from unremix.info_nce import InfoNCE
from unremix.rules import OutsideBatch, across, supervised, views
from unremix.statistics import means, statistics

b, d = 5, 6
CLASSES = [0, 1, 0, 2, 2]


def inputs(count=2):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, b, d, dtype=torch.float64, generator=generator).unbind()


def contrast_of(*z, temperature=0.5, rule=views):
    e = from_views(list(z), labels=torch.tensor(CLASSES))
    return compare(e, e, rule, temperature)


def other_view(c):
    "CLIP's: only the other modality, and all of it alike."
    mine = c.anchors.view[:, None] == c.candidates.view
    return uniform(c).masked_fill(mine, -math.inf)


def nearest(c, keep=2):
    "A selecting weighting in the library's own scale: what is kept weighs K/K′."
    last = c.logits.masked_fill(~c.negative, -math.inf).topk(keep).values[:, -1:]
    kept = c.negative & (c.logits >= last)
    return torch.where(kept, (c.k / keep).log()[:, None], -math.inf)


def nearest_unscaled(c):
    return torch.where(nearest(c) > -math.inf, 0.0, -math.inf).to(c.logits)


WEIGHTINGS = dict(
    uniform=uniform,
    hcl=HCL(),
    other_view=other_view,
    other_view_mean_one=lambda c: other_view(c) + math.log(2),
    nearest=nearest,
    nearest_unscaled=nearest_unscaled,
    hcl_of_other_view=lambda c: HCL()(c) + other_view(c),
    heavy=lambda c: HCL()(c) + math.log(7),
    light=lambda c: HCL()(c) - math.log(70),
)
every_weighting = pytest.mark.parametrize('name', WEIGHTINGS)


def other_views(i, n):
    "Where the positives of anchor i are, of n views view by view."
    return [j for j in range(n) if j != i and j % b == i % b]


def same_class(i, n):
    classes = CLASSES * (n // b)
    return [j for j in range(n) if j != i and classes[j] == classes[i]]


def by_loops(z, log_w, t, tau, positives=other_views):
    "(a) losses and floors, as @eq-debiased-mean and @eq-info-nce read."
    z, losses, floors = F.normalize(torch.cat(z), dim=1), [], []
    n = len(z)
    for i in range(n):
        e = [math.exp(z[i] @ z[j] / t) for j in range(n)]
        w = [math.exp(log_w[i, j]) for j in range(n)]
        own = [e[p] for p in positives(i, n)]
        k = sum(w)
        g = sum(w[j] * e[j] for j in range(n)) / k
        rest = (g - tau * sum(own) / len(own)) / (1 - tau)
        total = sum(own) + k * max(rest, math.exp(-1 / t))
        losses.append(sum(math.log(total / x) for x in own) / len(own))
        floors.append(rest <= math.exp(-1 / t))
    return torch.tensor(losses, dtype=torch.float64), torch.tensor(floors)


SETTINGS = ((0.5, 0.1), (0.2, 0.1), (0.2, 0.3))  # temperature, tau_plus


@every_weighting
@pytest.mark.parametrize('chunk_size', (None, 3))
def test_the_weighted_mean_is_debiased(name, chunk_size):
    z, weights = inputs(), WEIGHTINGS[name]
    seen = set()
    for t, tau in SETTINGS:
        parts = dict(loss=InfoNCE(tau), temperature=t)
        loss = ContrastiveLoss(
            weights, **parts, reduction='none', chunk_size=chunk_size
        )
        expected, floors = by_loops(z, weights(contrast_of(*z, temperature=t)), t, tau)
        single, stats = loss(*z, return_stats=True)
        assert_close(single, expected)
        assert_close(stats['clamped_fraction'], floors.float().mean())
        seen |= set(floors.tolist())
    assert seen == {True, False}


POSITIVES = dict(three_views=(3, views), supervised=(2, supervised))
POSITIVES['three_and_supervised'] = (3, supervised)


@pytest.mark.parametrize('given', POSITIVES)
@every_weighting
def test_several_positives_are_taken_out_by_their_mean(name, given):
    count, rule = POSITIVES[given]
    z, weights = inputs(count), WEIGHTINGS[name]
    positives = other_views if rule is views else same_class
    for t, tau in SETTINGS:
        c = contrast_of(*z, temperature=t, rule=rule)
        log_w = weights(c)
        expected, floors = by_loops(z, log_w, t, tau, positives)
        assert_close(InfoNCE(tau)(c, log_w), expected)
        at_floor = InfoNCE(tau).at_floor(c, log_w)
        assert torch.equal(at_floor, floors.to(at_floor.dtype))
    loss = ContrastiveLoss(weights, pairs=rule, loss=InfoNCE(tau), temperature=t)
    if rule is views:
        assert_close(loss(*z), expected.mean())
    else:  # labels and debiasing exclude each other
        with pytest.raises(ValueError, match='tau_plus must be 0 with labels'):
            loss(*z, labels=torch.tensor(CLASSES))


@every_weighting
def test_directly_and_by_finite_differences(name):
    z = [x.requires_grad_() for x in inputs()]
    weights = WEIGHTINGS[name]

    def f(*z):
        c = contrast_of(*z)
        return InfoNCE(0.05)(c, weights(c))

    loss = ContrastiveLoss(weights, loss=InfoNCE(0.05), reduction='none')
    assert_close(f(*z), loss(*z))
    assert torch.autograd.gradcheck(f, z)
    assert torch.autograd.gradgradcheck(f, z)


def test_masking_is_the_same_as_not_having_them():
    "CLIP's weights debias like a batch that has the other modality only."
    z1, z2 = inputs()
    given = dict(loss=InfoNCE(0.1), reduction='none')
    masked = ContrastiveLoss(other_view, **given)(z1, z2)
    assert_close(masked, ContrastiveLoss(pairs=across, **given)(z1, z2))
    # explicit negatives, its own left out
    outside = DebiasedNTXentLoss(0.5, 0.1, pairs=OutsideBatch(views), reduction='none')
    ids = torch.arange(b).repeat(2)
    fewer = outside(z1, z2, negatives=z2, sample_ids=ids)
    assert_close(masked[:b], fewer[:b])


def test_a_scale_of_the_weights_is_a_factor_of_the_sum_only():
    "Weights twice as heavy: K twice as large, g as before."
    c = contrast_of(*inputs())
    once, twice = (InfoNCE(0.1)(c, uniform(c) + math.log(s)) for s in (1.0, 2.0))
    assert_close(twice.expm1(), 2 * once.expm1())


@pytest.mark.parametrize('tau', (0.0, 0.1))
def test_what_is_chosen_debiases_by_the_mean_of_the_chosen(tau):
    z = inputs()
    knobs = dict(select='top', k_keep=2, mix=(0, 1, 0), reduction='none')
    expected, _ = by_loops(z, nearest(contrast_of(*z)), 0.5, tau)
    assert_close(UnReMixLoss(0.5, tau, **knobs)(*z), expected)


class OfOtherView(HCL):
    "Masks what its parent promises to average."

    def __call__(self, c):
        return super().__call__(c) + other_view(c)


class Renamed(HCL):
    "Leaves the weights as they are."


@dataclass(frozen=True)
class Promising(HCL):
    "Has weights of its own and promises anew."

    averages_one: ClassVar[bool] = True

    def __call__(self, c):
        return super().__call__(c)


def test_a_promise_holds_for_whom_it_was_given():
    "A subclass with other weights is added up again; an untouched one is not."
    z = inputs()
    c = contrast_of(*z)
    given = dict(loss=InfoNCE(0.1), reduction='none')
    expected, _ = by_loops(z, WEIGHTINGS['hcl_of_other_view'](c), 0.5, 0.1)
    assert_close(ContrastiveLoss(OfOtherView(), **given)(*z), expected)
    simple = DebiasedNTXentLoss(reduction='none')
    simple.weights = other_view
    assert_close(simple(*z), by_loops(z, other_view(c), 0.5, 0.1)[0])
    promised = uniform, HCL(), Renamed(), Promising(), UnReMix()
    promised += (UnReMix(select='top', k_keep=2),)
    assert all(averages_one(weights) for weights in promised)
    added_up = OfOtherView(), other_view, partial(nearest, keep=3), lambda c: HCL()(c)
    assert not any(averages_one(weights) for weights in added_up)


PROMISES = dict(
    ntxent=NTXentLoss,
    hcl=HCLLoss,
    unremix=UnReMixLoss,
    sum=lambda: UnReMixLoss(normalize='sum'),
    minmax=lambda: UnReMixLoss(normalize='minmax'),
    top=lambda: UnReMixLoss(select='top', k_keep=3),
    sample=lambda: UnReMixLoss(select='sample', k_keep=3),
    log=lambda: UnReMixLoss(pool='log'),
)


@pytest.mark.parametrize('name', PROMISES)
def test_the_promise_is_kept(name):
    z1, z2, z3 = inputs(3)
    loss = PROMISES[name]()
    companions = (
        ((), {}),
        ((), dict(sample_ids=torch.tensor([0, 1, 0, 2, 2]))),
        ((), dict(negatives=z1.flip(1))),
        ((z3,), dict(labels=torch.tensor(CLASSES))),
    )
    for more, given in companions:
        c = loss.contrast(z1, z2, *more, **given)
        assert averages_one(loss.weights)
        total = loss.log_weights(c).exp().sum(1)
        assert_close(total, c.k, rtol=2e-6, atol=0)


def test_statistics_take_the_same_floor():
    z = inputs()
    c = contrast_of(*z, temperature=0.2)
    for name, weighting in WEIGHTINGS.items():
        expected = by_loops(z, weighting(c), 0.2, 0.3)[1].float().mean()
        found = means([statistics(c, weighting(c), InfoNCE(0.3))])
        assert_close(found['clamped_fraction'], expected, msg=name)
