"Pairs, losses and who shares a batch: each method against its formula in loops."

import math

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from configs import run_of
from unremix import ContrastiveLoss
from unremix.cacr import CACR, Decoupled
from unremix.config import criterion_of
from unremix.contrast import compare
from unremix.controls import LabelledLoss
from unremix.embeddings import from_views
from unremix.false_negatives import FNC
from unremix.rules import across, views
from unremix.with_labels import HSCL, SupCon

EXACT = dict(rtol=1e-8, atol=1e-8)
LABELS = [
    [0, 0, 1, 1, 2],
    [0, 0, 0, 0, 0],
    [0, 1, 2, 3, 4],
    [-1, -1, 0, 0, -1],
    [-1] * 5,
]
every_labels = pytest.mark.parametrize('labels', LABELS, ids=str)


def numbers(count, b=5, d=6, seed=0):
    "Views of some images that resemble each other."
    g = torch.Generator().manual_seed(seed)
    image = torch.randn(b, d, generator=g, dtype=torch.float64)
    noise = torch.randn(count, b, d, generator=g, dtype=torch.float64)
    return [image + 0.6 * x for x in noise]


def table(several):
    "Unit rows of all views, and the image of each."
    z = F.normalize(torch.cat(several), dim=1)
    b = len(several[0])
    return z, [i % b for i in range(len(z))]


def roles_of(image, labels, i):
    "Positives and negatives of an anchor that sees labels."
    others = [j for j in range(len(image)) if j != i]
    mine = labels[image[i]]
    same = [j for j in others if image[j] == image[i] or 0 <= mine == labels[image[j]]]
    return same, [j for j in others if j not in same]


def with_labels(several, labels, t, beta, factor_of):
    "Several positives in one denominator, tilted negatives times a factor."
    z, image = table(several)
    found = []
    for i in range(len(z)):
        s = [(z[i] @ x).item() / t for x in z]
        same, negatives = roles_of(image, labels, i)
        total = sum(math.exp(s[p]) for p in same)
        if negatives:
            tilt = [math.exp(beta * s[j]) for j in negatives]
            mean = sum(w * math.exp(s[j]) for w, j in zip(tilt, negatives, strict=True))
            total += factor_of(len(z), len(negatives)) * mean / sum(tilt)
        found.append(sum(math.log(total) - s[p] for p in same) / len(same))
    return torch.tensor(found, dtype=torch.float64)


@every_labels
@pytest.mark.parametrize('t', (0.5, 0.1))
def test_supcon(labels, t):
    for count in (2, 3):
        several = numbers(count)
        loss = ContrastiveLoss(pairs=SupCon(), temperature=t, reduction='none')
        expected = with_labels(several, labels, t, 0.0, lambda n, k: k)
        given = loss(*several, labels=torch.tensor(labels))
        assert_close(given, expected, **EXACT)


@every_labels
@pytest.mark.parametrize('full_count', (True, False))
def test_h_scl(labels, full_count):
    for count, beta in ((2, 0.0), (2, 1.0), (2, 4.0), (3, 1.0)):
        several = numbers(count)
        weights = HSCL(beta, full_count)
        loss = ContrastiveLoss(weights, pairs=SupCon(), reduction='none')
        full = 5 * count - count

        def factor_of(n, k, full=full):
            return full if full_count else k

        expected = with_labels(several, labels, 0.5, beta, factor_of)
        given = loss(*several, labels=torch.tensor(labels))
        assert_close(given, expected, **EXACT)


def test_no_gradient_flows_through_the_weights_of_h_scl():
    e = from_views(numbers(2), labels=torch.tensor(LABELS[0]))
    z = e.z.clone().requires_grad_()
    c = compare(e, e, SupCon(), 0.5, logits=z @ e.z.T / 0.5)
    assert c.logits.requires_grad and not HSCL()(c).requires_grad


@pytest.mark.parametrize('name', ('supcon', 'h-scl'))
def test_a_run_trains_with_its_true_labels(name):
    z1, z2 = numbers(2)
    y = torch.tensor(LABELS[3])
    run = run_of(strategy=name, chunk_size=3)
    loss = criterion_of(run)
    assert isinstance(loss, LabelledLoss) and loss.chunk_size == 3
    weights = {'supcon': {}, 'h-scl': {'weights': HSCL()}}[name]
    plain = ContrastiveLoss(**weights, pairs=SupCon())
    assert_close(loss(z1, z2, true_labels=y), plain(z1, z2, labels=y))
    value, stats = loss(z1, z2, true_labels=y, return_stats=True)
    assert value == loss(z1, z2, true_labels=y) and stats['false_negative_mass'] == 0
    with pytest.raises(ValueError, match='true_labels must be given, got None'):
        loss(z1, z2)
    with pytest.raises(ValueError, match='labels must be None, since the true ones'):
        loss(z1, z2, labels=y, true_labels=y)


def suspects(several, top, threshold):
    z, image = table(several)
    found = torch.zeros(len(z), len(z), dtype=torch.bool)
    for i in range(len(z)):
        score = {}
        for j in range(len(z)):
            if image[j] != image[i]:
                witnesses = [v for v in range(len(z)) if image[v] == image[i]]
                score[j] = max((z[v] @ z[j]).item() for v in witnesses)
        for j in sorted(score, key=score.get)[-top:]:
            found[i, j] = score[j] > threshold
    return found


@pytest.mark.parametrize('top, threshold', [(1, -1), (3, 0.2), (100, 0.3), (2, 1.0)])
def test_fnc(top, threshold):
    for count in (2, 3):
        several = numbers(count)
        e = from_views(several)
        plain, false = views(e, e), suspects(several, top, threshold)
        eliminated = FNC(top, threshold)(e, e)
        assert torch.equal(eliminated.positive, plain.positive)
        assert torch.equal(eliminated.negative, plain.negative & ~false)
        attracted = FNC(top, threshold, attract=True)(e, e)
        assert torch.equal(attracted.positive, plain.positive | false)
        assert torch.equal(attracted.negative, eliminated.negative)
        rows = FNC(top, threshold)(e[2:5], e)
        assert torch.equal(rows.negative, eliminated.negative[2:5])


def test_fnc_of_equals_and_of_candidates_without_a_batch():
    same = torch.ones(4, 3)
    e = from_views([same, same])
    assert not FNC(top=1)(e, e).negative.any()  # equals of the last one go too
    few = e[:]
    assert few.batch == (0, 0)
    assert not FNC(top=1)(few, few).negative.any()


def attraction(several, tau):
    "Of CACR's released code: each view of an image against its other views."
    terms = []
    for x in several:
        for i in range(len(x)):
            d2 = [((x[i] - y[i]) ** 2).sum().item() for y in several if y is not x]
            w = [math.exp(tau * d) for d in d2]
            terms.append(sum(a * d for a, d in zip(w, d2, strict=True)) / sum(w))
    return sum(terms) / len(terms)


def repulsion(x, y, tau, tau_plus=0.0, sign=-1):
    "Of one pair of views: each image of the first against all others of the second."
    terms = []
    for i in range(len(x)):
        d2 = [((x[i] - y[j]) ** 2).sum().item() for j in range(len(y)) if j != i]
        w = [math.exp(-tau * d) for d in d2]
        far = sum(a * d for a, d in zip(w, d2, strict=True)) / sum(w)
        own = ((x[i] - y[i]) ** 2).sum().item()
        terms.append((sign * tau_plus * own - far) / (1 - tau_plus))
    return sum(terms) / len(terms)


@pytest.mark.parametrize('tau_pos, tau_neg', [(1.0, 0.9), (1.0, 2.0), (0.0, 0.0)])
def test_cacr_is_the_released_formula(tau_pos, tau_neg):
    several = numbers(2)
    unit = [F.normalize(z) for z in several]
    for prior, legacy in ((0.0, False), (0.1, False), (0.1, True)):
        loss = CACR(tau_pos, tau_neg, class_prior=prior, legacy_sign=legacy)
        both = ContrastiveLoss(loss=loss, pairs=across, reduction='none')
        sign = -1 if legacy else 1
        expected = attraction(unit, tau_pos) + repulsion(*unit, tau_neg, prior, sign)
        assert math.isclose(both(*several)[:5].mean(), expected, rel_tol=1e-10)
    several = numbers(4)
    unit = [F.normalize(z) for z in several]
    near = ContrastiveLoss(loss=CACR(tau_pos, repulsion=0.0))
    assert math.isclose(near(*several), attraction(unit, tau_pos), rel_tol=1e-10)


def test_cacr_has_no_temperature_and_a_gradient_through_its_shares():
    several = numbers(3)
    losses = [ContrastiveLoss(loss=CACR(), temperature=t)(*several) for t in (0.5, 0.1)]
    assert_close(*losses)

    def f(*z):
        return ContrastiveLoss(loss=CACR(tau_neg=2.0), reduction='none')(*z)

    assert torch.autograd.gradcheck(f, [z.requires_grad_() for z in several])


def test_cacr_takes_weights_as_a_prior():
    "Twice the weight is the same negative twice."
    e = from_views(numbers(2))
    c = compare(e, e, views, 0.5)
    log_w = torch.zeros_like(c.logits)
    log_w[0, 1] = math.log(2)
    d2 = [(2 - 2 * c.cosine[0, j]).item() for j in (1, 1, 2, 3, 4, 6, 7, 8, 9)]
    w = [math.exp(-0.9 * d) for d in d2]
    far = sum(a * d for a, d in zip(w, d2, strict=True)) / sum(w)
    near = (2 - 2 * c.cosine[0, 5]).item()
    assert math.isclose(CACR()(c, log_w)[0], near - far, rel_tol=1e-10)
    log_w[0] = -math.inf
    assert CACR()(c, log_w)[0] == 0


def test_decoupled():
    for count, t in ((2, 0.5), (3, 0.1)):
        several = numbers(count)
        z, image = table(several)
        found = []
        for i in range(len(z)):
            s = [(z[i] @ x).item() / t for x in z]
            same, negatives = roles_of(image, [-1] * 5, i)
            total = sum(math.exp(s[j]) for j in negatives)
            found.append(math.log(total) - sum(s[p] for p in same) / len(same))
        loss = ContrastiveLoss(loss=Decoupled(), temperature=t, reduction='none')
        expected = torch.tensor(found, dtype=torch.float64)
        assert_close(loss(*several), expected, **EXACT)
        assert criterion_of(run_of(strategy='decoupled')).loss == Decoupled()


@pytest.mark.parametrize(
    'make, words',
    [
        (lambda: CACR(tau_pos=math.nan), 'tau_pos must be a number ≥ 0, got nan'),
        (lambda: CACR(class_prior=1), 'class_prior must be a number in'),
        (lambda: CACR(legacy_sign=True), 'legacy_sign must be False without a class'),
        (lambda: CACR(legacy_sign=1), 'legacy_sign must be True or False, got 1'),
        (lambda: FNC(top=2.5), 'top must be a whole number ≥ 1, got 2.5'),
        (lambda: FNC(threshold=-2), r'threshold must be a number in \[-1, 1\], got -2'),
        (lambda: HSCL(beta=-1), 'beta must be a number ≥ 0, got -1'),
        (lambda: HSCL(full_count=None), 'full_count must be True or False, got None'),
    ],
)
def test_what_is_out_of_range_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
