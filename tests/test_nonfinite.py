"""What is not a number comes out as not a number, whatever reads it.

A floor, a choice, a mask or a block must not make it look like a loss.
"""

import math
from contextlib import nullcontext
from dataclasses import replace
from itertools import product
from unittest.mock import patch

import pytest
import torch
from torch import nn

from unremix import ContrastiveLoss, DebiasedNTXentLoss, HCLLoss, NTXentLoss
from unremix import UnReMixLoss
from unremix.arguments import short
from unremix.cacr import CACR, Decoupled
from unremix.contrast import compare
from unremix.embeddings import from_views, unit_norm
from unremix.hard_negatives import HCL, uniform
from unremix.info_nce import InfoNCE, debias, decoupled
from unremix.jensen_shannon import JensenShannon
from unremix.normalizers import NORMALIZERS
from unremix.queue import KeyQueue
from unremix.rules import supervised, views
from unremix.statistics import means, statistics
from unremix.uncertainty import UNCERTAINTIES

b, d, f = 6, 8, 5


def unremix(tau_plus=0.0, **knobs):
    "How to make such a loss, given what else it is to do."

    def make(**more):
        return UnReMixLoss(0.5, tau_plus, **knobs, **more)

    return make


# only these ask what h is
READS_HIDDEN = dict(
    norm_log=unremix(pool='log'),
    influence_log=unremix(uncertainty='influence', pool='log'),
    norm_debiased=unremix(0.1),
    norm_log_debiased=unremix(0.1, pool='log'),
    norm_minmax_debiased=unremix(0.1, normalize='minmax'),
    influence_top=unremix(uncertainty='influence', select='top', k_keep=99),
)
for u, n in product(('norm', 'influence'), NORMALIZERS):
    READS_HIDDEN[f'{u}_{n}'] = unremix(uncertainty=u, normalize=n)
for s, tau in product(('top', 'sample'), (0.0, 0.1)):
    READS_HIDDEN[f'norm_{s}_{tau}'] = unremix(tau, select=s, k_keep=3)

HARD = dict(temperature=0.5)
LOSSES = dict(
    ntxent=NTXentLoss,
    debiased=DebiasedNTXentLoss,
    debiased_cold=lambda **k: DebiasedNTXentLoss(0.05, **k),
    hcl=HCLLoss,
    hcl_detached=lambda **k: HCLLoss(detach_weights=True, **k),
    own=lambda **k: ContrastiveLoss(uniform, loss=InfoNCE(0.1), **HARD, **k),
    decoupled=lambda **k: ContrastiveLoss(HCL(), loss=decoupled, **HARD, **k),
    euclidean=unremix(0.1, distance='euclidean'),
    similarity=unremix(0.1, mix=(0, 1, 0), detach_weights=False),
)
for u, n in product(UNCERTAINTIES, NORMALIZERS):
    LOSSES[f'{u}_{n}'] = unremix(0.1, uncertainty=u, normalize=n)
for u in UNCERTAINTIES:
    LOSSES[f'{u}_log'] = unremix(0.1, uncertainty=u, pool='log')
    LOSSES[f'{u}_top'] = unremix(uncertainty=u, select='top', k_keep=2)
LOSSES |= READS_HIDDEN
BAD = (math.nan, math.inf, -math.inf)
whole_and_blocks = pytest.mark.parametrize('chunk_size', (None, 4))


def some(*names):
    return pytest.mark.parametrize('name', names)


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def spoil(x, bad, row=2):
    x = x.clone()
    x[row, 1] = bad
    return x


def call(loss, spoiled=None, bad=math.nan, negatives=False, row=2, **given):
    z1, z2 = numbers(2, b, d)
    given = (
        dict(z1=z1, z2=z1 + 0.7 * z2, hidden=tuple(numbers(2, b, f, seed=1))) | given
    )
    if negatives:
        given |= dict(negatives=numbers(3, d, seed=2), hidden=None)
    if spoiled == 'hidden':
        first, *others = given['hidden']
        given['hidden'] = (spoil(first, bad, row), *others)
    elif spoiled:
        given[spoiled] = spoil(given[spoiled], bad, row)
    given |= {name: given[name].requires_grad_() for name in ('z1', 'z2')}
    z = [given.pop('z1'), given.pop('z2')]
    if 'z3' in given:
        z.append(given.pop('z3'))
    return loss(*z, **given)


def in_parts(chunk_size):
    "So few rows at a time that a block of four is taken in parts."
    if chunk_size is None:
        return nullcontext()
    return patch.multiple('unremix.tiles', CACHE_CELLS=1, FEWEST=3)


@pytest.mark.parametrize('name', LOSSES)
@whole_and_blocks
def test_a_bad_embedding_makes_the_loss_nan(name, chunk_size):
    loss = LOSSES[name](chunk_size=chunk_size)
    with in_parts(chunk_size):
        assert call(loss).isfinite()
        for spoiled, bad in product(('z1', 'z2'), BAD):
            assert call(loss, spoiled, bad).isnan(), (spoiled, bad)


def third(bad=None):
    "One view more, with its hidden inputs."
    z3, hidden = numbers(b, d, seed=4), tuple(numbers(3, b, f, seed=1))
    return dict(z3=z3 if bad is None else spoil(z3, bad), hidden=hidden)


@pytest.mark.parametrize('name', LOSSES)
def test_a_bad_third_view_makes_the_loss_nan(name):
    loss = LOSSES[name]()
    assert call(loss, **third()).isfinite()
    for bad in BAD:
        assert call(loss, **third(bad)).isnan(), bad


CLASSES = torch.tensor([0, 1, 2, 0, 1, 2])


@some('ntxent', 'decoupled', 'similarity', 'norm_softmax', 'overlap_log', 'euclidean')
@whole_and_blocks
def test_a_bad_positive_makes_the_loss_nan(name, chunk_size):
    "Of several positives, one is enough; its class has no other view of it."
    loss = LOSSES[name](chunk_size=chunk_size, pairs=supervised, reduction='none')
    if name in ('similarity', 'overlap_log', 'euclidean'):
        loss.tau_plus = 0.0
    assert call(loss, labels=CLASSES).isfinite().all()
    for bad in BAD:
        assert call(loss, 'z1', bad, labels=CLASSES).isnan().all()


def other_half(anchors, candidates):
    "An own rule: samples 0 to 2 never meet samples 3 to 5."
    roles = views(anchors, candidates)
    together = (anchors.sample[:, None] < 3) == (candidates.sample < 3)
    return roles.positive, roles.negative & together


@some('ntxent', 'debiased', 'hcl', 'decoupled')
@whole_and_blocks
def test_a_bad_embedding_that_is_left_out_is_not_seen(name, chunk_size):
    loss = LOSSES[name](chunk_size=chunk_size, pairs=other_half, reduction='none')
    expected, sees = call(loss), torch.arange(2 * b) % b < 3
    for bad in BAD:
        single = call(loss, 'z1', bad)
        assert single[sees].isnan().all()
        assert torch.equal(single[~sees], expected[~sees])


@some(
    'ntxent',
    'debiased',
    'hcl',
    'own',
    'decoupled',
    'norm_softmax',
    'norm_log',
    'overlap_minmax',
    'norm_top',
    'euclidean',
)
@whole_and_blocks
def test_a_bad_negative_makes_the_loss_nan_for_every_anchor(name, chunk_size):
    for reduction, bad in product(('mean', 'sum', 'none'), BAD):
        loss = LOSSES[name](chunk_size=chunk_size, reduction=reduction)
        assert call(loss, negatives=True).isfinite().all()
        spoilt = call(loss, 'negatives', bad, negatives=True)
        assert spoilt.isnan().all(), (reduction, bad)


@pytest.mark.parametrize('name', READS_HIDDEN)
@whole_and_blocks
def test_a_bad_hidden_input_makes_the_loss_nan(name, chunk_size):
    loss = READS_HIDDEN[name](chunk_size=chunk_size)
    for bad in BAD:
        assert call(loss, 'hidden', bad).isnan(), bad


@some(
    'debiased',
    'hcl',
    'norm_log_debiased',
    'norm_softmax',
    'norm_top_0.1',
    'influence_top',
)
@whole_and_blocks
@pytest.mark.parametrize('count', (2, 3))
def test_each_anchor_that_sees_it_is_nan(name, chunk_size, count):
    "All other images have the bad view as a negative."
    loss = LOSSES[name](chunk_size=chunk_size, reduction='none')
    more = third() if count == 3 else {}
    for spoiled in ('z1', 'z2') + (('hidden',) if name in READS_HIDDEN else ()):
        single = call(loss, spoiled, **more)
        others = torch.arange(count * b) % b != 2
        assert single[others].isnan().all()


@some(
    'ntxent',
    'debiased',
    'hcl',
    'norm_softmax',
    'norm_log_debiased',
    'norm_top_0.1',
    'influence_minmax',
)
@whole_and_blocks
def test_a_bad_key_in_the_queue(name, chunk_size):
    # influence takes no h from a queue, which keeps its length only
    parts = ('keys', 'hidden') if name.startswith('norm') else ('keys',)
    for bad, part in product(BAD, parts):
        loss = LOSSES[name](chunk_size=chunk_size)
        queue = KeyQueue(4, d, stores_hidden=True)
        z1, z2 = numbers(2, b, d)
        hidden = tuple(numbers(2, b, f, seed=1))
        queue.push(z1[:2], hidden[0][:2])
        assert loss(z1, z2, hidden=hidden, queue=queue).isfinite(), (bad, part)
        keys = spoil(z2, bad) if part == 'keys' else z2
        queue.push(keys, hidden[1] if part == 'keys' else spoil(hidden[1], bad))
        assert loss(z1, z2, hidden=hidden, queue=queue).isnan(), (bad, part)


class Given(nn.Module):
    "A temperature as it might be after a step of an optimiser."

    def __init__(self, t):
        super().__init__()
        self.t = torch.tensor(t)

    def forward(self):
        return self.t


@some('ntxent', 'debiased', 'hcl', 'own', 'decoupled', 'norm_softmax', 'overlap_log')
@whole_and_blocks
def test_a_temperature_that_is_no_number(name, chunk_size):
    for reduction in ('mean', 'none'):
        loss = LOSSES[name](chunk_size=chunk_size, reduction=reduction)
        loss.temperature = Given(0.5)
        assert call(loss).isfinite().all()
        loss.temperature = Given(math.nan)
        assert call(loss).isnan().all()


def top(**more):
    return UnReMixLoss(select='top', k_keep=2, **more)


@pytest.mark.parametrize(
    'make', (NTXentLoss, DebiasedNTXentLoss, HCLLoss, UnReMixLoss, top)
)
def test_one_image_has_no_negatives_and_may_still_be_bad(make):
    good, bad = torch.ones(1, 4), torch.tensor([[1.0, math.nan, 1.0, 1.0]])
    assert make()(good, good) == 0
    for pair in ((good, bad), (bad, good)):
        assert make()(*pair).isnan()


def test_labels_hide_nothing_from_those_who_see():
    z1, z2 = numbers(2, 4, d)
    loss, labels = NTXentLoss(reduction='none'), torch.zeros(4, dtype=torch.long)
    single = loss(spoil(z1, math.nan, 3), z2, labels=labels)
    # nobody has a negative: only its own image sees it
    assert single[[3, 7]].isnan().all()
    assert (single[[0, 1, 2, 4, 5, 6]] == 0).all()


@pytest.mark.parametrize(
    'dtype', (torch.float16, torch.bfloat16, torch.float32, torch.float64), ids=str
)
def test_all_precisions(dtype):
    z1, z2 = numbers(2, b, d).to(dtype)
    kinds = NTXentLoss, DebiasedNTXentLoss, HCLLoss, UnReMixLoss
    for make, bad in product(kinds, BAD):
        assert make()(spoil(z1, bad), z2).isnan()


def test_a_length_that_cannot_be_measured_is_no_zero_vector():
    long = numbers(b, d) * 1e25
    assert unit_norm(long)[0].isnan().all() and NTXentLoss()(long, long).isnan()
    assert NTXentLoss()(long.double(), long.double()).isfinite()
    z1, z2 = numbers(2, b, d)
    h1, h2 = numbers(2, b, f, seed=1)
    for select in (None, 'top'):  # ‖h‖² beyond the largest float
        loss = UnReMixLoss(select=select, k_keep=select and 2)
        assert loss(z1, z2, hidden=(h1 * 1e25, h2)).isnan()


def contrast_of(*z):
    e = from_views(list(z))
    return compare(e, e)


def test_statistics_say_so_too():
    z1, z2 = numbers(2, b, d)
    c = contrast_of(spoil(z1, math.nan), z2)
    found = means([statistics(c, uniform(c), InfoNCE(0.1))])
    of_cosines = 'positive_similarity', 'negative_similarity', 'hardest_similarity'
    assert all(found[name].isnan() for name in ('clamped_fraction', *of_cosines))
    for chunk_size in (None, 4):
        loss = HCLLoss(chunk_size=chunk_size)
        value, stats = loss(spoil(z1, math.nan), z2, return_stats=True)
        assert value.isnan() and stats['clamped_fraction'].isnan()


def test_the_floor_is_for_numbers_only():
    k, t = torch.full((4,), 10.0), 0.2
    log_negatives = torch.tensor([math.nan, 3.0, 3.0, 3.0])
    positive = torch.tensor([1.0, math.nan, 100.0, -1.0])
    debiased, clamped = debias(log_negatives, k.log(), positive, t, 0.1)
    assert debiased[:2].isnan().all()
    assert clamped.tolist() == [False, False, True, False]
    torch.testing.assert_close(debiased[2], k[0].log() - 1 / t)


@pytest.mark.parametrize('loss', (InfoNCE(), InfoNCE(0.1), decoupled), ids=short)
def test_no_weight_is_not_no_number(loss):
    "All of an anchor's negatives masked leaves nothing to decide; NaN does not."
    z1, z2 = numbers(2, b, d)
    for value in (-math.inf, math.nan):

        def weighting(c, value=value):
            first = torch.where(c.negative[:1], value, -math.inf)
            return torch.cat([first, uniform(c)[1:]])

        single = ContrastiveLoss(weighting, loss=loss, reduction='none')(z1, z2)
        assert single[1:].isfinite().all()
        assert single[0] == 0 if value == -math.inf else single[0].isnan()


@pytest.mark.parametrize('loss', (InfoNCE(), InfoNCE(0.1), decoupled), ids=short)
def test_no_positive_is_not_no_number(loss):
    "An anchor without positives has nothing to learn, whatever its negatives."
    z1, z2 = numbers(2, b, d).requires_grad_().unbind()
    c = contrast_of(z1, z2)
    alone = torch.arange(2 * b) == 0
    c = replace(c, positive=c.positive & ~alone[:, None])
    losses = loss(c, uniform(c))
    assert losses.isfinite().all() and losses[0] == 0
    (first,) = torch.autograd.grad(losses[0], z1, retain_graph=True)
    assert (first == 0).all()
    assert torch.autograd.grad(losses.sum(), z1)[0].isfinite().all()


EVERY_LOSS = (
    InfoNCE(),
    InfoNCE(0.1),
    decoupled,
    Decoupled(),
    CACR(),
    CACR(tau_neg=0.0, class_prior=0.1),
    JensenShannon(),
    JensenShannon(0.1),
    JensenShannon(0.1, legacy_prior=True),
)


@pytest.mark.parametrize('loss', EVERY_LOSS, ids=short)
@whole_and_blocks
def test_an_anchor_without_negatives_may_still_be_bad(loss, chunk_size):
    "Of one image, and of copies only; the others stay at what they are."
    made = ContrastiveLoss(loss=loss, chunk_size=chunk_size, reduction='none')
    for size in (1, 3):
        z1, z2 = numbers(2, size, 4)
        copies = torch.full((size,), 5)
        own = torch.arange(2 * size) % size == size - 1
        single = made(z1, z2, sample_ids=copies)
        assert single.isfinite().all()
        assert isinstance(loss, InfoNCE) or (single == 0).all()
        found = made(spoil(z1, math.nan, size - 1), z2, sample_ids=copies)
        assert found[own].isnan().all() and found[~own].equal(single[~own])


@pytest.mark.parametrize('loss', EVERY_LOSS, ids=short)
def test_an_anchor_without_positives_may_still_be_bad(loss):
    "Its gradient is not a number, and so is its loss."
    z1, z2 = numbers(2, 4, d)
    for spoiled in (z1, spoil(z1, math.nan, 3)):
        c = contrast_of(spoiled, z2)
        alone = torch.arange(8) == 0
        c = replace(c, positive=c.positive & ~alone[:, None])
        first = loss(c, uniform(c))[0]
        assert first == 0 if spoiled is z1 else first.isnan()


@pytest.mark.parametrize('loss', (InfoNCE(), InfoNCE(0.1), decoupled), ids=short)
def test_the_gradient_is_nan_only_where_the_loss_is(loss):
    "With 'none', anchors whose loss is a number still have a gradient that is one."
    z1, z2 = (x.requires_grad_() for x in numbers(2, 4, d).unbind())
    c = contrast_of(z1, z2)
    losses = loss(c, uniform(c))
    assert torch.autograd.grad(losses[:2].sum(), z1)[0].isfinite().all()
