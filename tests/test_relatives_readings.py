"""The readings of UnReMix that nothing published excludes, held against plain loops.

A pseudo-label, a mean of scores, the gradient of a candidate, the other view only.
"""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from unremix import ContrastiveLoss, UnReMixLoss
from unremix.config import TrainConfig, criterion_of
from unremix.contrast import compare, with_prepared
from unremix.embeddings import embed, from_views, stack
from unremix.gather import Shared
from unremix.gradient_norm import candidate_gradient, gradient_directions
from unremix.gradient_norm import gradient_norm, influence, sphere_gradient
from unremix.hard_negatives import HCL, uniform
from unremix.knobs import Knobs
from unremix.queue import KeyQueue
from unremix.readings import UnReMixAcross, UnReMixDrawing
from unremix.registry import known
from unremix.representativeness import representativeness
from unremix.rules import Without, across, supervised, views
from unremix.uncertainty import UNCERTAINTIES, prepare_uncertainty, uncertainty
from unremix.unremix import UnReMix

EXACTLY = {'rtol': 1e-8, 'atol': 1e-8}
NEARLY = {'rtol': 1e-10, 'atol': 1e-10}


def numbers(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def batch(count=3, b=5, further=2, d=7, f=4, labels=None):
    "Raw embeddings, hidden inputs and the candidates of both."
    z = numbers(count * b + further, d)
    few = len(z[b : 2 * b])
    z[b : 2 * b] += z[:few]  # two views of an image resemble each other
    hidden = numbers(count * b + further, f, seed=1)
    n = count * b
    given = dict(hidden=list(hidden[:n].split(b)), labels=labels)
    e = from_views(list(z[:n].split(b)), **given)
    if further:
        e = stack(e, embed(z[n:], hidden=hidden[n:]))
    return z, hidden, e


def answers(z, j, v, t):
    "Log shares of the v views in the answer of candidate j, without its own."
    mine = z[j].clone().requires_grad_()
    logits = F.normalize(z[:v]) @ F.normalize(mine, dim=0) / t
    own = torch.arange(v) == j
    return mine, logits.masked_fill(own, -math.inf).log_softmax(0)


def gradient_of_last_layer(z, hidden, j, b, v, t):
    "Autograd of the pseudo-task with the true partner, in the last layer's weights."
    mine, log_p = answers(z, j, v, t)
    right = [k for k in range(v) if k % b == j % b and k != j]
    if j >= v or not right:
        right = [log_p.argmax().item()]
    loss = torch.stack([-log_p[k] for k in right]).mean()
    d = torch.autograd.grad(loss, mine)[0]
    return torch.outer(d, torch.cat([hidden[j], torch.ones(1).double()])).flatten()


@pytest.mark.parametrize('t', (0.5, 0.07))
@pytest.mark.parametrize('count,further', ((1, 2), (2, 0), (2, 3), (3, 2)))
def test_the_true_partner_against_autograd(count, further, t):
    z, hidden, e = batch(count, further=further)
    b, v = 5, count * 5
    each = [gradient_of_last_layer(z, hidden, j, b, v, t) for j in range(len(z))]
    g = torch.stack(each)
    assert_close(gradient_norm(e, t, 'positive'), g.norm(dim=1), **NEARLY)
    if count == 1:  # a sure guess has a gradient too short for a direction
        return
    directions = gradient_directions(e, t, 'positive')
    c = compare(e[:v], e, views, t)
    g = F.normalize(g)
    assert_close(influence(c, directions), g[:v] @ g.T, **EXACTLY)


def test_pseudo_labels_agree_where_the_partner_is_the_best_guess():
    z = numbers(6, 8)
    close = from_views([z, z + 1e-3 * numbers(6, 8, seed=1)])
    both = [sphere_gradient(close, 0.2, label) for label in ('argmax', 'positive')]
    assert_close(*both)
    lost = from_views([z, z.roll(1, 0)])  # every partner is another's neighbour
    guess, truth = (gradient_norm(lost, 0.05, name) for name in ('argmax', 'positive'))
    assert (guess < 0.1).all() and (truth > 1).all()


@pytest.mark.parametrize('kind', UNCERTAINTIES)
def test_a_pseudo_label_is_read_or_refused(kind):
    given = dict(uncertainty=kind, pseudo_label='positive')
    if kind not in ('norm', 'influence'):
        with pytest.raises(ValueError, match='pseudo_label must be left at argmax'):
            UnReMix(**given)
        return
    z1, z2 = numbers(2, 6, 8)
    found = UnReMixLoss(**given)(z1, z2)
    assert abs(found - UnReMixLoss(uncertainty=kind)(z1, z2)) > 1e-4


def naive_candidate(c):
    "Loops over pairs, with the exponentials written out."
    total = torch.zeros_like(c.candidates.z)
    for i, logits in enumerate(c.logits):
        if not c.positive[i].any():
            continue
        compared = c.positive[i] | c.negative[i]
        denominator = logits[compared].exp().sum()
        for j in c.negative[i].nonzero().flatten():
            total[j] += logits[j].exp() / denominator * c.anchors.z[i]
    return total.norm(dim=1)


def farther(anchors, candidates):
    "An own rule, with an anchor that has no positive and one without negatives."
    roles = views(anchors, candidates)
    first = (anchors.sample == 0)[:, None]
    last = (anchors.sample == 4)[:, None]
    return roles.positive & ~first, roles.negative & ~last


RULES = dict(views=views, across=across, supervised=supervised, own=farther)
RULES['labels'] = Without(views, 'label')


@pytest.mark.parametrize('t', (0.5, 0.05))
@pytest.mark.parametrize('rule', RULES)
def test_the_gradient_of_a_candidate_against_loops(rule, t, monkeypatch):
    labels = torch.tensor([0, 1, 0, 2, 2])
    _, _, e = batch(labels=labels)
    anchors, rule = e[:15], RULES[rule]
    c = compare(anchors, e, rule, t)
    expected = naive_candidate(c)
    assert_close(candidate_gradient(e, t, anchors, rule), expected, **EXACTLY)
    assert_close(uncertainty(c, 'candidate_gradient').value[0], expected, **EXACTLY)
    monkeypatch.setattr('unremix.tiles.CACHE_CELLS', 1)
    monkeypatch.setattr('unremix.tiles.FEWEST', 4)
    assert_close(candidate_gradient(e, t, anchors, rule), expected, **EXACTLY)


@pytest.mark.parametrize('rule', (views, across, supervised))
def test_the_gradient_of_a_candidate_against_autograd(rule):
    "Of the library's own loss, in a copy of the embeddings that are only negatives."
    t, labels = 0.3, torch.tensor([0, 1, 0, 2, 2])
    _, _, e = batch(labels=labels)
    leaf = e.z.clone().requires_grad_()
    c = compare(e[:15], replace(e, z=leaf), rule, t)
    c = with_prepared(
        replace(c, logits=torch.where(c.negative, c.logits, c.logits.detach())), None
    )
    loss = ContrastiveLoss().loss(c, uniform(c)).sum()
    gradient = torch.autograd.grad(loss, leaf)[0]
    found = candidate_gradient(e, t, e[:15], rule) / t
    assert_close(found, gradient.norm(dim=1), **NEARLY)


def test_the_candidate_asks_the_rule_and_all_anchors():
    z1, z2 = numbers(2, 9, 5)
    for rule in (views, across):
        whole = UnReMixLoss(uncertainty='candidate_gradient', pairs=rule)
        blocks = UnReMixLoss(uncertainty='candidate_gradient', pairs=rule, chunk_size=4)
        assert_close(whole(z1, z2), blocks(z1, z2), **NEARLY)
    alone = UnReMix((1, 0, 0), uncertainty='candidate_gradient')
    e = from_views([z1, z2])
    c = compare(e, e, across)
    u = naive_candidate(c)
    for i, negative in enumerate(c.negative):
        expected = 8 * standard(u[negative]).softmax(0)
        assert_close(alone(c)[i, negative].exp(), expected, **EXACTLY)
    t = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    prepared = prepare_uncertainty(e, 'candidate_gradient', t)
    assert not prepared.of_candidates.requires_grad
    assert_close(prepared.of_candidates, candidate_gradient(e, 0.3))


def standard(x):
    return ((x - x.mean()) / x.std(unbiased=False)).clamp(-3, 3)


def naive_scores(c, u, r, mix, beta):
    w = torch.zeros_like(c.logits)
    for i, negative in enumerate(c.negative):
        opinions = u[i, negative], c.cosine[i, negative], r[i, negative]
        h = sum(x * standard(y) for x, y in zip(mix, opinions, strict=True))
        w[i, negative] = negative.sum() * (beta * h).softmax(0)
    return w


@pytest.mark.parametrize('detach', (True, False))
@pytest.mark.parametrize('rule', (views, across, supervised))
@pytest.mark.parametrize('kind', ('norm', 'overlap', 'candidate_gradient'))
def test_a_mean_of_scores_against_loops(kind, rule, detach):
    _, _, e = batch(labels=torch.tensor([0, 1, 0, 2, 2]))
    mix, beta = (0.5, 0.3, 0.2), 1.7
    c = compare(e[:15], e, rule, 0.3)
    weights = UnReMix(mix, beta, uncertainty=kind, pool='score', detach=detach)
    u = uncertainty(c, kind).value.expand(c.logits.shape)
    expected = naive_scores(c, u, representativeness(c).value, mix, beta)
    assert_close(weights(c).exp(), expected, **EXACTLY)


def test_gradient_through_a_mean_of_scores():
    "Of the weights by finite differences, with u and r held fixed."
    z1, z2 = numbers(2, 6, 8)
    weights = UnReMix((0.2, 0.6, 0.2), 2.0, pool='score', detach=False)
    e = from_views([z1, z2])
    c = compare(e, e)
    u = uncertainty(c, 'norm').value.expand(12, 12)
    r = representativeness(c).value
    to = numbers(12, 12, seed=4)

    def naive(z1):
        e = from_views([z1, z2])
        w = naive_scores(compare(e, e), u, r, (0.2, 0.6, 0.2), 2.0)
        return (w * to).sum()

    leaf = z1.clone().requires_grad_()
    e = from_views([leaf, z2])
    found = torch.autograd.grad((weights(compare(e, e)).exp() * to).sum(), leaf)[0]
    plain = z1.clone().requires_grad_()
    assert_close(found, torch.autograd.grad(naive(plain), plain)[0], **EXACTLY)
    assert not UnReMix(pool='score')(compare(e, e)).requires_grad


def test_what_a_mean_of_scores_reduces_to():
    z1, z2 = numbers(2, 7, 6)
    e = from_views([z1, z2])
    c = compare(e, e, views, 0.4)
    flat = UnReMix(pool='score', beta=0.0)(c)
    assert_close(flat, uniform(c), **NEARLY)
    similar = UnReMix((0, 1, 0), 1.3, pool='score')(c)
    for i, negative in enumerate(c.negative):
        spread = c.cosine[i, negative].std(unbiased=False).item()
        own = HCL(1.3 * 0.4 / spread)(c)[i]
        assert_close(similar[i], own, **NEARLY)
    one = UnReMix((1, 0, 0), 1.3, pool='score')(c)
    assert_close(one, UnReMix((1, 0, 0), kappa=(1.3, 1.0))(c), **NEARLY)
    product = UnReMix(pool='log', beta=1.3)(c)
    assert not torch.allclose(UnReMix(pool='score', beta=1.3)(c), product)


CHOICES = {
    'positive': dict(pseudo_label='positive'),
    'positive alone': dict(pseudo_label='positive', mix=(1, 0, 0)),
    'positive log': dict(pseudo_label='positive', pool='log', detach_weights=False),
    'positive influence': dict(pseudo_label='positive', uncertainty='influence'),
    'candidate': dict(uncertainty='candidate_gradient'),
    'candidate log': dict(uncertainty='candidate_gradient', pool='log', tau_plus=0.05),
    'candidate cold': dict(
        uncertainty='candidate_gradient', uncertainty_temperature=0.1
    ),
    'score': dict(pool='score'),
    'score attached': dict(pool='score', detach_weights=False, beta=2.0),
    'score without u': dict(pool='score', mix=(0, 0.5, 0.5)),
    'score of similarity': dict(pool='score', mix=(0, 1, 0)),
    'across': dict(pairs=across),
    'across positive': dict(pairs=across, pseudo_label='positive'),
    'across candidate': dict(pairs=across, uncertainty='candidate_gradient'),
    'drawing': dict(pairs=across, pool='score', mix=(0.54, 0.25, 0.21)),
}
FAST = {'positive', 'positive alone', 'positive log'}
FAST |= {'candidate', 'candidate log', 'candidate cold'}
every_choice = pytest.mark.parametrize('name', CHOICES)


def value_and_gradient(loss, *z, **given):
    z = [x.clone().requires_grad_() for x in z]
    value = loss(*z, **given)
    return value.detach(), *torch.autograd.grad(value, z)


@every_choice
@pytest.mark.parametrize('count', (2, 3))
@pytest.mark.parametrize('chunk_size', (None, 5))
def test_pairs_once_or_not_gives_the_same(name, count, chunk_size):
    z = numbers(count, 8, 6)
    given = dict(hidden=tuple(numbers(count, 8, 4, seed=2)))
    once = UnReMixLoss(temperature=0.3, chunk_size=chunk_size, **CHOICES[name])
    whole = UnReMixLoss(temperature=0.3, pairs_once=False, **CHOICES[name])
    way = once.way(once.comparison(*z, **given))
    other = 'whole matrix' if chunk_size is None else 'blocks'
    assert way == ('pairs once' if name in FAST else other)
    found = value_and_gradient(once, *z, **given)
    assert_close(found, value_and_gradient(whole, *z, **given), **NEARLY)


def test_the_other_view_only():
    loss = criterion_of(TrainConfig.of({'strategy': 'unremix-across(beta=2)'}))
    assert loss.pairs is across and loss.weights == UnReMixAcross(beta=2.0)
    z1, z2, z3 = numbers(3, 6, 8)
    c = loss.contrast(z1, z2)
    negative = c.negative.view(2, 6, 2, 6)  # view, image, view, image
    expected = torch.zeros(2, 6, 2, 6, dtype=torch.bool)
    for i in range(6):
        for j in range(6):
            expected[0, i, 1, j] = expected[1, i, 0, j] = i != j
    assert torch.equal(negative, expected)
    assert (loss.contrast(z1, z2, z3).k == 10).all()
    log_w = loss.log_weights(c)
    assert_close(log_w.exp().sum(1), torch.full((12,), 5.0).double())
    by_hand = UnReMixLoss(beta=2.0, pairs=across)
    assert_close(loss(z1, z2), by_hand(z1, z2), **NEARLY)
    queue = KeyQueue(4, 8).double()
    queue.push(numbers(4, 8, seed=3))
    queued = loss.contrast(z1, z2, queue=queue)
    assert (queued.k == 5 + 4).all()


def test_the_drawing():
    loss = criterion_of(TrainConfig.of({'strategy': 'unremix-drawing'}))
    assert loss.pairs is across and loss.weights == UnReMixDrawing()
    knobs = known()['unremix-drawing'].kind()
    assert knobs.mix == (0.54, 0.25, 0.21) and knobs.pool == 'score' and knobs.beta == 1
    z1, z2 = numbers(2, 6, 8)
    e = from_views([z1, z2])
    c = compare(e, e, across)
    u = uncertainty(c, 'norm').value.expand(12, 12)
    expected = naive_scores(c, u, representativeness(c).value, (0.54, 0.25, 0.21), 1.0)
    assert_close(loss.weights(c).exp(), expected, **EXACTLY)
    given = dict(pool='score', mix=(0.54, 0.25, 0.21), pairs=across)
    assert_close(loss(z1, z2), UnReMixLoss(**given)(z1, z2), **NEARLY)


@pytest.mark.parametrize('name', ('unremix-across', 'unremix-drawing'))
def test_named_readings_in_blocks(name):
    whole = criterion_of(TrainConfig.of({'strategy': name}))
    blocks = criterion_of(TrainConfig.of({'strategy': name, 'chunk_size': 4}))
    z = numbers(2, 9, 6)
    found, expected = (value_and_gradient(x, *z) for x in (blocks, whole))
    assert_close(found, expected, **NEARLY)


def test_unread_numbers_are_refused():
    for given in (
        dict(pool='score', kappa=(2, 1)),
        dict(pool='score', normalize='sum'),
        dict(uncertainty='candidate_gradient', pseudo_label='positive'),
        dict(pseudo_label='labels'),
    ):
        with pytest.raises(ValueError):
            Knobs(**given)


def test_every_process_has_all_anchors(monkeypatch):
    "What two processes prepare: shared candidates, of which each has some anchors."
    z = numbers(2, 6, 8)
    e = from_views(list(z))
    fields = vars(e).copy()
    shared = Shared(**fields)
    rows = torch.tensor([0, 1, 2, 6, 7, 8])
    asked = []

    def everybody(self, anchors):
        asked.append(len(anchors))
        return e

    monkeypatch.setattr(Shared, 'everybody', everybody)
    found = candidate_gradient(shared, 0.3, e[rows], views)
    assert asked == [6]
    assert_close(found, candidate_gradient(e, 0.3), **NEARLY)
