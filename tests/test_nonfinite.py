"""What is not a number comes out as not a number, whatever reads it: a floor, a choice, a mask or a block must not make it look like a loss."""
import math
from contextlib import nullcontext
from itertools import product
from unittest.mock import patch

import pytest
import torch

from unremix import DebiasedNTXentLoss, HCLLoss, NTXentLoss, UnReMixLoss, WeightedNTXentLoss
from unremix.importance import NORMALIZERS
from unremix.losses import contrastive_loss, debias, statistics, uniform
from unremix.pairs import from_views, unit_norm
from unremix.queues import KeyQueue
from unremix.uncertainty import UNCERTAINTIES

b, d, f = 6, 8, 5
TAU = dict(tau_plus=.1)
READS_HIDDEN = { # only these ask what h is
    **{f'{u}_{n}': lambda u=u, n=n, **k: UnReMixLoss(.5, uncertainty=u, normalize=n, **k) for u, n in product(('norm', 'influence'), NORMALIZERS)},
    'norm_log': lambda **k: UnReMixLoss(.5, pool='log', **k), 'influence_log': lambda **k: UnReMixLoss(.5, uncertainty='influence', pool='log', **k),
    'norm_debiased': lambda **k: UnReMixLoss(.5, **TAU, **k), 'norm_log_debiased': lambda **k: UnReMixLoss(.5, pool='log', **TAU, **k),
    'norm_minmax_debiased': lambda **k: UnReMixLoss(.5, normalize='minmax', **TAU, **k),
    **{f'norm_{s}_{tau}': lambda s=s, tau=tau, **k: UnReMixLoss(.5, tau, select=s, k_keep=3, **k) for s, tau in product(('top', 'sample'), (0., .1))},
    'influence_top': lambda **k: UnReMixLoss(.5, uncertainty='influence', select='top', k_keep=99, **k)}
LOSSES = {
    'ntxent': lambda **k: NTXentLoss(**k), 'debiased': lambda **k: DebiasedNTXentLoss(**k), 'debiased_cold': lambda **k: DebiasedNTXentLoss(.05, **k),
    'hcl': lambda **k: HCLLoss(**k), 'hcl_detached': lambda **k: HCLLoss(detach_weights=True, **k), 'own': lambda **k: WeightedNTXentLoss(uniform, .5, .1, **k),
    **{f'{u}_{n}': lambda u=u, n=n, **k: UnReMixLoss(.5, uncertainty=u, normalize=n, **TAU, **k) for u, n in product(UNCERTAINTIES, NORMALIZERS)},
    **{f'{u}_log': lambda u=u, **k: UnReMixLoss(.5, uncertainty=u, pool='log', **TAU, **k) for u in UNCERTAINTIES},
    **{f'{u}_top': lambda u=u, **k: UnReMixLoss(.5, uncertainty=u, select='top', k_keep=2, **k) for u in UNCERTAINTIES},
    'euclidean': lambda **k: UnReMixLoss(.5, distance='euclidean', **TAU, **k), 'similarity': lambda **k: UnReMixLoss(.5, mix=(0, 1, 0), detach_weights=False, **TAU, **k)} | READS_HIDDEN
BAD = (math.nan, math.inf, -math.inf)


def numbers(*shape, seed=0): return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def spoil(x, bad, row=2):
    x = x.clone()
    x[row, 1] = bad
    return x


def call(loss, spoiled=None, bad=math.nan, negatives=False, row=2):
    z1, z2 = numbers(2, b, d)
    given = dict(z1=z1, z2=z1 + .7*z2, hidden=tuple(numbers(2, b, f, seed=1)))
    if negatives: given['negatives'] = numbers(3, d, seed=2)
    if spoiled == 'hidden': given['hidden'] = (spoil(given['hidden'][0], bad, row), given['hidden'][1])
    elif spoiled: given[spoiled] = spoil(given[spoiled], bad, row)
    given |= {name: given[name].requires_grad_() for name in ('z1', 'z2')}
    return loss(given.pop('z1'), given.pop('z2'), **given), given


def in_parts(chunk_size): return patch('unremix.blocks.CACHE_CELLS', 1) if chunk_size else nullcontext()


@pytest.mark.parametrize('name', LOSSES)
@pytest.mark.parametrize('chunk_size', (None, 4))
def test_a_bad_embedding_makes_the_loss_nan(name, chunk_size):
    loss = LOSSES[name](chunk_size=chunk_size)
    with in_parts(chunk_size):
        assert call(loss)[0].isfinite()
        for spoiled, bad in product(('z1', 'z2'), BAD): assert call(loss, spoiled, bad)[0].isnan(), (spoiled, bad)


@pytest.mark.parametrize('name', ('ntxent', 'debiased', 'hcl', 'own', 'norm_softmax', 'norm_log', 'overlap_minmax', 'norm_top', 'euclidean'))
@pytest.mark.parametrize('chunk_size', (None, 4))
def test_a_bad_negative_makes_the_loss_nan_for_every_anchor(name, chunk_size):
    for reduction, bad in product(('mean', 'sum', 'none'), BAD):
        loss = LOSSES[name](chunk_size=chunk_size, reduction=reduction)
        assert call(loss, negatives=True)[0].isfinite().all()
        assert call(loss, 'negatives', bad, negatives=True)[0].isnan().all(), (reduction, bad)


@pytest.mark.parametrize('name', READS_HIDDEN)
@pytest.mark.parametrize('chunk_size', (None, 4))
def test_a_bad_hidden_input_makes_the_loss_nan(name, chunk_size):
    loss = READS_HIDDEN[name](chunk_size=chunk_size)
    for bad in BAD: assert call(loss, 'hidden', bad)[0].isnan(), bad


@pytest.mark.parametrize('name', ('debiased', 'hcl', 'norm_log_debiased', 'norm_softmax', 'norm_top_0.1', 'influence_top'))
@pytest.mark.parametrize('chunk_size', (None, 4))
def test_each_anchor_that_sees_it_is_nan(name, chunk_size):
    "The bad view is nobody's but its own image's: all others have it as a negative."
    loss = LOSSES[name](chunk_size=chunk_size, reduction='none')
    for spoiled in ('z1', 'z2') + (('hidden',) if name in READS_HIDDEN else ()):
        single = call(loss, spoiled)[0]
        others = torch.arange(2*b) % b != 2
        assert single[others].isnan().all()


@pytest.mark.parametrize('name', ('ntxent', 'debiased', 'hcl', 'norm_softmax', 'norm_log_debiased', 'norm_top_0.1', 'influence_minmax'))
@pytest.mark.parametrize('chunk_size', (None, 4))
def test_a_bad_key_in_the_queue(name, chunk_size):
    parts = ('keys', 'hidden') if name.startswith('norm') else ('keys',) # influence takes no h from a queue, which keeps its length only
    for bad, part in product(BAD, parts):
        loss, queue = LOSSES[name](chunk_size=chunk_size), KeyQueue(4, d, stores_hidden=True)
        z1, z2 = numbers(2, b, d)
        hidden = tuple(numbers(2, b, f, seed=1))
        for x, h, finite in ((z1[:2], hidden[0][:2], True), ((spoil(z2, bad), hidden[1]) if part == 'keys' else (z2, spoil(hidden[1], bad))) + (False,)):
            queue.push(x, h)
            loss_now = loss(z1, z2, hidden=hidden, queue=queue)
            assert loss_now.isfinite() if finite else loss_now.isnan(), (bad, part)


@pytest.mark.parametrize('make', (NTXentLoss, DebiasedNTXentLoss, HCLLoss, UnReMixLoss, lambda **k: UnReMixLoss(select='top', k_keep=2, **k)))
def test_one_image_has_no_negatives_and_may_still_be_bad(make):
    good, bad = torch.ones(1, 4), torch.tensor([[1., math.nan, 1., 1.]])
    assert make()(good, good) == 0
    for pair in ((good, bad), (bad, good)): assert make()(*pair).isnan()


def test_labels_hide_nothing_from_those_who_see():
    z1, z2 = numbers(2, 4, d)
    single = NTXentLoss(reduction='none')(spoil(z1, math.nan, 3), z2, labels=torch.zeros(4, dtype=torch.long))
    assert single[[3, 7]].isnan().all() and (single[[0, 1, 2, 4, 5, 6]] == 0).all() # nobody has a negative: only its own image sees it


@pytest.mark.parametrize('dtype', (torch.float16, torch.bfloat16, torch.float32, torch.float64), ids=str)
def test_all_precisions(dtype):
    z1, z2 = numbers(2, b, d).to(dtype)
    for make, bad in product((NTXentLoss, DebiasedNTXentLoss, HCLLoss, UnReMixLoss), BAD): assert make()(spoil(z1, bad), z2).isnan()


def test_a_length_that_cannot_be_measured_is_no_zero_vector():
    long = numbers(b, d)*1e25
    assert unit_norm(long)[0].isnan().all() and NTXentLoss()(long, long).isnan()
    assert NTXentLoss()(long.double(), long.double()).isfinite()
    z1, z2 = numbers(2, b, d)
    hidden = tuple(numbers(2, b, f, seed=1))
    for select in (None, 'top'): # ‖h‖² beyond the largest float
        assert UnReMixLoss(select=select, k_keep=select and 2)(z1, z2, hidden=(hidden[0]*1e25, hidden[1])).isnan()


def test_statistics_say_so_too():
    z1, z2 = numbers(2, b, d)
    c = from_views(spoil(z1, math.nan), z2)
    assert all(statistics(c, uniform(c), .1)[name].isnan() for name in ('clamped_fraction', 'positive_similarity', 'negative_similarity', 'hardest_similarity'))
    for chunk_size in (None, 4):
        loss, stats = HCLLoss(chunk_size=chunk_size)(spoil(z1, math.nan), z2, return_stats=True)
        assert loss.isnan() and stats['clamped_fraction'].isnan()


def test_the_floor_is_for_numbers_only():
    k, t = torch.full((4,), 10.), .2
    log_sum = torch.tensor([math.nan, 3., 3., 3.])
    positive = torch.tensor([1., math.nan, 100., -1.])
    debiased, clamped = debias(log_sum, positive, k, t, .1)
    assert debiased[:2].isnan().all() and clamped.tolist() == [False, False, True, False]
    torch.testing.assert_close(debiased[2], k[0].log() - 1/t)


def test_no_weight_is_not_no_number():
    "A weighting that masks all of an anchor's negatives leaves it nothing to decide; one that returns NaN does."
    z1, z2 = numbers(2, b, d)
    for value, tau in product((-math.inf, math.nan), (0., .1)):
        def weighting(contrast):
            log_w = uniform(contrast)
            return torch.cat([torch.where(contrast.negative[:1], value, -math.inf), log_w[1:]])
        single = WeightedNTXentLoss(weighting, .5, tau, reduction='none')(z1, z2)
        assert single[1:].isfinite().all() and (single[0] == 0 if value == -math.inf else single[0].isnan())


def test_the_gradient_is_nan_only_where_the_loss_is():
    "With 'none', anchors whose loss is a number still have a gradient that is one."
    z1, z2 = (x.requires_grad_() for x in numbers(2, 4, d).unbind())
    for tau in (0., .1):
        c = from_views(z1, z2)
        losses = contrastive_loss(c, uniform(c), tau)
        assert torch.autograd.grad(losses[:2].sum(), z1)[0].isfinite().all()
