"Each part of the seam for itself: places, sums, blocks, knobs, statistics, synthesis."

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from test_seam_methods import T, numbers, unit
from unremix import ContrastiveLoss, LearnedTemperature, NTXentLoss, UnReMix
from unremix import UnReMixLoss, synthesis, tiles
from unremix import contrast, embeddings, rules
from unremix.hard_negatives import HCL, uniform
from unremix.info_nce import InfoNCE, decoupled
from unremix.losses import Knob
from unremix.statistics import means, statistics

# ---------------------------------------------------------------- ids and places
BATCH = embeddings.from_views(list(unit(3, 4, 4)))
OTHER = embeddings.from_views(list(unit(2, 4, 4, seed=1)))
KNOWN = embeddings.embed(unit(2, 4, seed=2), sample=torch.tensor([0, 3]))
STRANGE = embeddings.embed(unit(2, 4, seed=2), sample=torch.tensor([50, 51]))
NAMELESS = embeddings.embed(unit(2, 4, seed=3))
SOME = torch.tensor([5, 2, 9])
PLACES = {
    'the batch': (BATCH, BATCH),
    'further candidates': (BATCH, embeddings.stack(BATCH, NAMELESS)),
    'further views of its images': (BATCH, embeddings.stack(BATCH, KNOWN)),
    'both': (BATCH, embeddings.stack(BATCH, NAMELESS, KNOWN)),
    'two batches': (BATCH, embeddings.stack(BATCH, OTHER)),
    'some anchors': (BATCH[SOME], BATCH),
    'some candidates': (BATCH, BATCH[SOME]),
    'some of both': (BATCH[:6], BATCH[6:]),
    'anchors that are no views': (embeddings.stack(BATCH, STRANGE), BATCH),
}


@pytest.mark.parametrize('case', PLACES)
def test_places_say_what_ids_say(case):
    anchors, candidates = PLACES[case]
    same = anchors.sample[:, None] == candidates.sample
    other_view = anchors.view[:, None] != candidates.view
    found = rules.views(anchors, candidates)
    assert found.positive.equal(same & other_view)
    assert found.negative.equal(~same)
    if found.others_at is not None:
        nobody = torch.zeros_like(same)
        assert nobody.scatter(1, found.others_at, True).equal(~found.negative)
        assert nobody.scatter(1, found.positive_at, True).equal(found.positive)


def test_an_empty_slot_is_no_positive():
    view = torch.tensor([embeddings.MEMORY, embeddings.EMPTY])
    slots = embeddings.embed(unit(2, 4), view=view)

    def keys_attract(anchors, candidates):
        is_slot = candidates.view[None] <= embeddings.MEMORY
        positive = is_slot.expand(len(anchors), -1)
        return positive, ~positive

    rule = rules.Filled(keys_attract)
    found = rule(BATCH[:1], embeddings.stack(BATCH, slots)).positive
    assert found[0, 12:].tolist() == [True, False]


def test_columns_stay_while_roles_do():
    c = contrast.compare(BATCH, BATCH)
    for same in (contrast.with_prepared(c, 1), contrast.detached(c)):
        assert same.positive_at is c.positive_at and same.others_at is c.others_at
    some = contrast.part(c, slice(2, 7))
    assert some.positive_at.equal(c.positive_at[2:7])
    assert some.others_at.equal(c.others_at[2:7])
    for x in (c, rules.views(BATCH, BATCH)):
        assert replace(x).positive_at is None and replace(x).others_at is None


def test_what_is_computed_for_each_candidate_is_constant():
    z = numbers(6, 4).requires_grad_()
    e = embeddings.embed(z)
    found = e.each(lambda rows: e.z[rows], 4)
    assert found.equal(e.z) and not found.requires_grad


def test_a_detached_contrast_holds_no_graph():
    t = torch.tensor(0.5, requires_grad=True)
    c = contrast.compare(BATCH, BATCH, temperature=t)
    assert not contrast.detached(c).cosine.requires_grad


@pytest.mark.parametrize('n', (8, 12, 8 * 255, 8 * 256, 8 * 600))
def test_cells_are_counted(n):
    "A byte holds 255; and columns need not lie side by side."
    some = numbers(n, 3) > 0
    for mask in (torch.ones(3, n, dtype=torch.bool), some.T, some.T.contiguous()):
        assert tiles.count(mask).tolist() == mask.sum(1).tolist()


# ---------------------------------------------------------------- sums
RULES = {
    'views': rules.views,
    'supervised': rules.supervised,
    'without': rules.Without(rules.views, 'label'),
}
every_rule = pytest.mark.parametrize('rule', RULES.values(), ids=RULES)


@every_rule
@pytest.mark.parametrize('loss', (InfoNCE(), InfoNCE(0.1), decoupled))
def test_weights_off_the_negatives_are_not_read(rule, loss):
    e = embeddings.from_views(list(unit(2, 6, 4)), labels=torch.arange(6) % 4)
    found = []
    for kept in (True, False):
        z = e.z.clone().requires_grad_()
        moved = replace(e, z=z)
        c = contrast.compare(moved, moved, rule, T)
        log_w = numbers(12, 12, seed=1).requires_grad_()
        given = log_w if kept else log_w.masked_fill(~c.negative, -math.inf)
        losses = loss(c, given)
        grads = torch.autograd.grad(losses.sum(), (z, log_w), create_graph=True)
        total = sum(g.square().sum() for g in grads)
        second = torch.autograd.grad(total, (z, log_w))
        found.append([losses.detach(), *grads, *second])
    assert_close(*found)
    assert (found[0][2][~c.negative] == 0).all()


@every_rule
@pytest.mark.parametrize('weights', (uniform, HCL()), ids=repr)
def test_forward_over_reverse(rule, weights):
    z1, z2 = unit(2, 6, 4)
    loss = ContrastiveLoss(weights, pairs=rule)

    def f(z):
        return loss(z, z2, labels=torch.arange(6) % 4)

    wanted = torch.autograd.functional.hessian(f, z1)
    assert_close(torch.func.jacfwd(torch.func.grad(f))(z1), wanted)


@every_rule
def test_sums_of_some_anchors_at_a_time(rule, monkeypatch):
    "Sixteen of forty."

    def found():
        z = numbers(2, 20, 4).requires_grad_()
        e = embeddings.from_views(list(z), labels=torch.arange(20) % 5)
        c = contrast.compare(e, e, rule, T)
        losses = InfoNCE()(c, numbers(40, 40, seed=1))
        return losses.detach(), torch.autograd.grad(losses.square().sum(), z)[0]

    whole = found()
    monkeypatch.setattr('unremix.tiles.CACHE_CELLS', 1)
    assert_close(found(), whole)


# ---------------------------------------------------------------- blocks
def reads_embeddings(c, log_w):
    return (c.anchors.z * c.candidates.z.square().mean(0)).sum(1)


def constant(c, log_w):
    return torch.ones_like(c.k)


@pytest.mark.parametrize('loss', (reads_embeddings, constant))
def test_blocks_of_losses_that_read_no_logits(loss):
    found = []
    for chunk_size in (None, 5):
        z = numbers(2, 6, 4).requires_grad_()
        both = ContrastiveLoss(loss=loss, chunk_size=chunk_size)
        value = both(*z) + 0 * z.sum()
        found.append((value.detach(), torch.autograd.grad(value, z)[0]))
    assert_close(*found)


def test_blocks_refuse_many_gradients_at_once():
    z1, z2 = numbers(2, 6, 4)
    loss = NTXentLoss(chunk_size=5, reduction='none', pairs_once=False)
    z1.requires_grad_()
    losses = loss(z1, z2)

    def along(direction):
        return torch.autograd.grad(losses, z1, direction, retain_graph=True)[0]

    with pytest.raises(NotImplementedError, match='chunk_size keeps a gradient'):
        torch.func.vmap(along)(torch.eye(12).double())


def test_blocks_refuse_a_vectorised_jacobian():
    z1, z2 = numbers(2, 6, 4)
    loss = NTXentLoss(chunk_size=5, reduction='none', pairs_once=False)
    with pytest.raises(NotImplementedError, match='chunk_size keeps a gradient'):
        torch.autograd.functional.jacobian(lambda z: loss(z, z2), z1, vectorize=True)


def test_blocks_of_constant_embeddings_teach_a_temperature():
    found = []
    for chunk_size in (None, 5):
        t = LearnedTemperature(0.2).double()
        value, stats = NTXentLoss(t, chunk_size=chunk_size)(
            *numbers(2, 6, 4), return_stats=True
        )
        value.backward()
        assert_close(stats['temperature'], torch.tensor(0.2))
        found.append(t.x.grad)
    assert_close(*found)
    assert found[0] != 0


# ---------------------------------------------------------------- the class
def test_a_learnt_temperature_begins_where_told_and_stays_within_bounds():
    t = LearnedTemperature(0.2, lowest=0.05, highest=0.6)
    assert_close(t(), torch.tensor(0.2))
    for x, bound in ((-99.0, 0.05), (99.0, 0.6)):
        t.x.data.fill_(x)
        assert_close(t(), torch.tensor(bound))


@pytest.mark.parametrize(
    'given',
    ((0.2, 0.0), (0.2, 0.2), (0.2, 0.1, 0.2), (math.nan,), (0.2, -1.0)),
    ids=str,
)
def test_a_temperature_outside_its_bounds(given):
    with pytest.raises(ValueError, match='must be'):
        LearnedTemperature(*given)


VALUES = dict(
    tau_plus=0.2,
    mix=(0.2, 0.3, 0.5),
    beta=2.0,
    kappa=(0.5, 2.0),
    uncertainty='influence',
    uncertainty_temperature=0.3,
    distance='euclidean',
    normalize='softmax',
    pool='linear',
    select=None,
    k_keep=None,
    detach_weights=False,
    pseudo_label='positive',
)


def test_a_knob_is_a_field_of_its_part():
    loss, made = UnReMixLoss(), UnReMixLoss(**VALUES)
    assert VALUES.keys() == {k for k, x in vars(UnReMixLoss).items() if type(x) is Knob}
    for name, value in VALUES.items():
        setattr(loss, name, value)
        assert getattr(loss, name) == getattr(made, name) == value
    assert (loss.weights, loss.loss) == (made.weights, made.loss)
    plain = UnReMixLoss()
    plain.normalize = 'sum'
    assert plain.weights == UnReMixLoss(normalize='sum').weights
    with pytest.raises(ValueError, match='beta must be'):
        loss.beta = -1.0
    assert loss.beta == 2.0


def test_knobs_that_need_each_other_are_set_on_and_off():
    "Neither can be assigned alone, and the sentence says how both are."
    loss = UnReMixLoss()
    told = r'select must be set with k_keep: loss.weights = replace\(loss.weights, select='
    with pytest.raises(ValueError, match=told):
        loss.select = 'top'
    with pytest.raises(ValueError, match='k_keep must be None without select, got 3'):
        loss.k_keep = 3
    loss.weights = replace(loss.weights, select='top', k_keep=3)
    loss.k_keep, loss.select = 2, 'sample'
    assert loss.weights == UnReMixLoss(select='sample', k_keep=2).weights
    loss.select = None
    assert loss.weights == UnReMixLoss().weights
    loss.select = loss.k_keep = None


class Unlike:
    "A rule: who has another norm is no negative."

    reads = ('norm',)

    def __call__(self, anchors, candidates):
        alike = anchors.extra['norm'][:, None] == candidates.extra['norm']
        roles = rules.views(anchors, candidates)
        return roles.positive, roles.negative & alike


def test_a_rule_says_what_it_reads():
    z1, z2 = unit(2, 6, 4)
    z1[0] *= 2
    found = NTXentLoss(pairs=Unlike()).contrast(z1, z2)
    assert found.k[0] == 0


def test_gradient_through_ranges():
    loss = UnReMixLoss(mix=(0, 1, 0), normalize='minmax', detach_weights=False)
    z = [x.requires_grad_() for x in numbers(2, 4, 3)]
    assert torch.autograd.gradcheck(loss, z)


# ---------------------------------------------------------------- statistics
def one_way(anchors, candidates):
    "The first view has no positives and the second no negatives."
    mine, theirs = anchors.view[:, None], candidates.view
    return mine > theirs, mine < theirs


def test_whom_statistics_average():
    e = embeddings.from_views(list(unit(2, 6, 4)))
    c = contrast.compare(e, e, one_way)
    found = means([statistics(c, torch.zeros_like(c.logits), InfoNCE())])
    cosine = (e.z @ e.z.T).float()
    assert_close(found['positive_similarity'], cosine[6:, :6].mean())
    assert_close(found['negative_similarity'], cosine[:6, 6:].mean())
    assert_close(found['effective_negatives'], torch.tensor(6.0))


# ---------------------------------------------------------------- synthesis
def hand_made(c, mochi, draws):
    "Kalantidis et al. 2020, eq. 5, one mixture after the other."
    rows = []
    for i in range(len(c.logits)):
        negatives = c.negative[i].nonzero().flatten()
        nearest = negatives[c.logits[i, negatives].argsort(descending=True)]
        few = min(mochi.hardest, len(nearest))
        for j in range(mochi.count):
            own = [x[i, j].item() for x in draws]
            a, b = (nearest[int(x * few)] for x in own[:2])
            mixed = own[2] * c.candidates.z[a] + (1 - own[2]) * c.candidates.z[b]
            rows.append(c.anchors.z[i] @ F.normalize(mixed, dim=0) / c.temperature)
    return torch.stack(rows).view(len(c.logits), mochi.count)


@pytest.mark.parametrize('seed, hardest', ((1, 3), (5, 3), (1, 11), (1, 64)))
def test_mixtures_by_hand(seed, hardest):
    "Of at most as many negatives as there are, which are ten."
    e = embeddings.from_views(list(unit(2, 6, 4)))
    c = contrast.compare(e, e, rules.views, T)
    mochi = synthesis.MoCHi(hardest=hardest, count=7, seed=seed)
    draws = mochi.prepare(e, e, rules.views, T)
    generator = torch.Generator().manual_seed(seed)
    assert_close(torch.stack(draws), torch.rand(3, 12, 7, generator=generator).double())
    more = mochi(c)
    assert_close(more.logits[:, 12:], hand_made(c, mochi, draws))
    assert more.negative[:, 12:].all() and not more.positive[:, 12:].any()
    assert more.synthetic == 7
    fewer = synthesis.without_synthetic(contrast.with_prepared(more, 'prepared'))
    assert fewer.logits.equal(c.logits) and fewer.negative.equal(c.negative)
    assert fewer.prepared == 'prepared' and fewer.synthetic == 0
    moved = synthesis.with_synthetic(
        contrast.with_prepared(c, 'prepared'), e.z[:, None]
    )
    assert moved.prepared == 'prepared'


def test_mixtures_are_constants():
    e = embeddings.from_views(list(unit(2, 6, 4).requires_grad_()))
    c = contrast.compare(e, e.detach(), rules.views, T)
    z = unit(12, 2, 4).requires_grad_()
    more = synthesis.with_synthetic(c, z).logits.sum()
    assert torch.autograd.grad(more, z, allow_unused=True) == (None,)


MAKERS = {'uniform': uniform, 'hcl': HCL(), 'unremix': UnReMix()}


@pytest.mark.parametrize('size', (5, 12))
@pytest.mark.parametrize('name', MAKERS)
def test_mixtures_in_blocks(name, size):
    "Drawn once per step; statistics take them for no false negatives."
    found = []
    for chunk_size in (None, size):
        torch.manual_seed(0)
        z = numbers(2, 6, 4).requires_grad_()
        loss = ContrastiveLoss(
            MAKERS[name],
            synthesis=synthesis.MoCHi(hardest=3, count=4),
            chunk_size=chunk_size,
        )
        known = dict(true_labels=torch.arange(6) // 2, return_stats=True)
        value, stats = loss(*z, **known)
        found.append((value.detach(), torch.autograd.grad(value, z)[0], stats))
    assert_close(*found)
    assert 0 < stats['false_negative_mass'] < 0.3


def test_mixtures_weigh_as_much_as_an_average_negative():
    e = embeddings.from_views(list(unit(2, 6, 4)))
    c = contrast.compare(e, e, rules.views, T)
    more = synthesis.MoCHi(hardest=3, count=4)(c)
    log_w = UnReMix()(more)
    assert_close(log_w[:, :12], UnReMix()(c))
    assert (log_w[:, 12:] == 0).all()
