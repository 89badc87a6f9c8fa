"What two views with one positive cannot express, on the seam, against its definition."

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from seam import blocks, methods
from seam.relatives import MoCHi, Transport
from seam.unremix_weights import UnReMix

from unremix import embeddings, rules
from unremix.contrast import compare, detached
from unremix.info_nce import InfoNCE, decoupled

T = 0.3


def numbers(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def unit(*shape, seed=0):
    return F.normalize(numbers(*shape, seed=seed), dim=-1)


def losses(anchors, candidates, rule, method=methods.Method(), temperature=T):
    comparison = blocks.compare(anchors, candidates, method, rule, temperature)
    return methods.per_anchor(method, comparison.contrast())[0]


def supcon(z, sample, label):
    "Khosla et al. 2020, eq. 2, one anchor and one positive after the other."
    found = []
    for i in range(len(z)):
        others = [j for j in range(len(z)) if j != i]
        total = sum(math.exp(z[i] @ z[j] / T) for j in others)
        same = [
            j for j in others if sample[j] == sample[i] or 0 <= label[i] == label[j]
        ]
        terms = [-math.log(math.exp(z[i] @ z[j] / T) / total) for j in same]
        found.append(sum(terms) / len(same))
    return torch.tensor(found, dtype=torch.float64)


@pytest.mark.parametrize(
    'labels, positives',
    [
        ([0, 1, 2, 3, 4, 5], 1),
        ([0, 1, -1, -1, 4, 5], 1),
        ([0, 0, 1, 1, 2, 2], 3),
        ([0, 0, 0, 1, 1, 1], 5),
        ([-1] * 6, 1),
    ],
)
def test_several_positives_are_supcon(labels, positives):
    z = unit(12, 4)
    e = embeddings.from_views(list(z.chunk(2)), labels=torch.tensor(labels))
    assert (rules.supervised(e, e).positive.sum(1) == positives).all()
    expected = supcon(z, e.sample, e.label)
    assert_close(losses(e, e, rules.supervised), expected, rtol=1e-10, atol=1e-10)


def test_two_positives():
    "A third view makes two positives; unequal classes make unequal numbers of them."
    z = unit(12, 4)
    labels = torch.tensor([0, 0, -1, 3])
    e = embeddings.from_views(list(z.chunk(3)), labels=labels)
    assert rules.supervised(e, e).positive.sum(1).unique().tolist() == [2, 5]
    expected = supcon(z, e.sample, e.label)
    assert_close(losses(e, e, rules.supervised), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize('count', [2, 3, 4])
def test_more_views(count):
    z = unit(5 * count, 4)
    e = embeddings.from_views(list(z.chunk(count)))
    expected = supcon(z, e.sample, e.label)
    assert_close(losses(e, e, rules.views), expected, rtol=1e-10, atol=1e-10)


def test_clip_in_one_call():
    image, text = unit(2, 6, 4)
    e = embeddings.from_views([image, text])
    logits, answer = image @ text.T / T, torch.arange(6)
    expected = [
        F.cross_entropy(x, answer, reduction='none') for x in (logits, logits.T)
    ]
    assert_close(
        losses(e, e, rules.across), torch.cat(expected), rtol=1e-10, atol=1e-10
    )


def test_queries_and_documents_with_mined_negatives():
    query, document = unit(2, 6, 4)
    mined = unit(9, 4, seed=1)
    e = embeddings.from_views([query, document])
    candidates = embeddings.stack(e, embeddings.embed(mined))
    logits = query @ torch.cat([document, mined]).T / T
    expected = F.cross_entropy(logits, torch.arange(6), reduction='none')
    assert_close(
        losses(e[:6], candidates, rules.across), expected, rtol=1e-10, atol=1e-10
    )


def test_queue_and_batch():
    query, key = unit(2, 6, 4)
    queue = unit(5, 4, seed=1)
    e = embeddings.from_views([query, key])
    view = torch.tensor([embeddings.MEMORY] * 3 + [embeddings.EMPTY] * 2)
    candidates = embeddings.stack(e, embeddings.embed(queue, view=view))
    logits = query @ torch.cat([key, queue[:3]]).T / T
    expected = F.cross_entropy(logits, torch.arange(6), reduction='none')
    found = losses(e[:6], candidates, rules.Filled(rules.across))
    assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_own_mask():
    z = unit(8, 4)
    positive = torch.rand(8, 8, generator=torch.Generator().manual_seed(0)) > 0.6
    positive.fill_diagonal_(False)[:, 0] = torch.arange(8) > 0
    negative = ~positive & ~torch.eye(8, dtype=torch.bool)
    e = embeddings.embed(z)
    found = losses(e, e, lambda anchors, candidates: (positive, negative))
    logits = z @ z.T / T
    log_p = (
        logits
        - logits.masked_fill(~(positive | negative), -math.inf).logsumexp(1)[:, None]
    )
    some = positive.any(1) & negative.any(1)
    expected = -torch.where(positive, log_p, 0.0).sum(1) / positive.sum(1).clamp_min(1)
    assert_close(found[some], expected[some], rtol=1e-10, atol=1e-10)


def test_temperature_that_learns():
    e = embeddings.from_views(list(unit(2, 6, 4)))
    log_t = torch.tensor(math.log(T), dtype=torch.float64, requires_grad=True)
    hcl = methods.Method(methods.HCL(), loss=InfoNCE(0.1))

    def loss(log_t):
        return losses(e, e, rules.views, hcl, log_t.exp()).mean()

    assert torch.autograd.gradcheck(loss, (log_t,))
    assert_close(loss(log_t), losses(e, e, rules.views, hcl, T).mean())


def test_decoupled():
    z = unit(12, 4)
    e = embeddings.from_views(list(z.chunk(2)))
    found = losses(e, e, rules.views, methods.Method(loss=decoupled))
    logits = z @ z.T / T
    for i in range(12):
        others = [logits[i, j] for j in range(12) if j % 6 != i % 6]
        expected = torch.stack(others).logsumexp(0) - logits[i, (i + 6) % 12]
        assert_close(found[i], expected, rtol=1e-10, atol=1e-10)


def test_debiasing_of_any_weights_and_several_positives():
    "Chuang et al. 2020, eq. 7, with loops; weights that do not average 1."
    e = embeddings.from_views(
        list(unit(12, 4).chunk(3)), labels=torch.tensor([0, 0, 1, 2])
    )
    c = compare(e, e, rules.supervised, T)
    log_w = numbers(12, 12, seed=3)
    found = InfoNCE(tau_plus=0.2)(c, log_w)
    for i in range(12):
        positives = [c.logits[i, j].exp() for j in range(12) if c.positive[i, j]]
        negatives = [j for j in range(12) if c.negative[i, j]]
        weights = [log_w[i, j].exp() for j in negatives]
        pushes = [w * c.logits[i, j].exp() for w, j in zip(weights, negatives)]
        mean_positive = sum(positives) / len(positives)
        g = (sum(pushes) / sum(weights) - 0.2 * mean_positive) / 0.8
        g = max(g, math.exp(-1 / T))
        total = sum(positives) + sum(weights) * g
        expected = sum(math.log(total / p) for p in positives) / len(positives)
        assert_close(found[i].item(), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize('tau_plus', [0.0, 0.1])
@pytest.mark.parametrize('count', [2, 3])
def test_without_negatives_positives_share(count, tau_plus):
    "One sample: nothing to tell apart, and several positives are to be equally near."
    z = numbers(count, 4).requires_grad_()
    e = embeddings.from_views(list(z[:, None]))
    method = methods.Method(loss=InfoNCE(tau_plus))
    found = losses(e, e, rules.views, method)
    logits = e.z @ e.z.T / T
    others = logits[~torch.eye(count, dtype=torch.bool)].view(count, count - 1)
    assert_close(found, others.logsumexp(1) - others.mean(1))
    gradient = torch.autograd.grad(found.sum(), z)[0]
    assert gradient.isfinite().all() and (gradient.abs().sum() > 0.01) == (count > 2)


METHODS = {
    'transport': methods.Method(Transport(), prepare=Transport().prepare),
    'mochi': methods.Method(synthesis=MoCHi(), prepare=MoCHi().prepare),
    'mochi, then hcl': methods.Method(methods.HCL(), MoCHi(), prepare=MoCHi().prepare),
    'unremix': methods.Method(UnReMix(), prepare=UnReMix().prepare),
}


@pytest.mark.parametrize('size', [1, 5, 7, 12])
@pytest.mark.parametrize('name', METHODS)
def test_blocks_are_the_whole(name, size):
    z = numbers(2, 6, 4).requires_grad_()
    method = METHODS[name]

    def gradient(size=None):
        e = embeddings.from_views(list(z))
        comparison = blocks.compare(e, e, method, rules.views, T)
        if size is None:
            total = methods.per_anchor(method, comparison.contrast())[0].sum()
        else:
            total = blocks.sum_in_blocks(
                comparison, method, size, torch.ones(12).double()
            )
        return total.detach(), torch.autograd.grad(total, z)[0]

    for found, expected in zip(gradient(size), gradient()):
        assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_transport_meets_both_margins():
    "The plan's columns carry equal mass: what the potentials are for."
    e = embeddings.from_views(list(unit(2, 6, 4)))
    transport = Transport(steps=200)
    comparison = blocks.compare(e, e, METHODS['transport'], rules.views, T)
    c = replace(comparison.contrast())
    plan = transport(c).exp() / c.k[:, None] / len(c.anchors)
    assert_close(
        plan.sum(0), torch.full((12,), 1 / 12, dtype=torch.float64), rtol=1e-6, atol=0
    )


@pytest.mark.parametrize('name', ['transport', 'unremix'])
def test_replaced_is_fresh(name):
    method = METHODS[name]
    z = unit(2, 6, 4).requires_grad_()
    old, new = (
        embeddings.from_views(list(z)),
        embeddings.from_views(list(unit(2, 6, 4, seed=1))),
    )

    def contrast(candidates):
        return blocks.compare(old, candidates, method, rules.views, T).contrast()

    fresh = contrast(new)
    replaced = replace(contrast(old), candidates=new, logits=fresh.logits)
    assert_close(method.weights(replaced), method.weights(fresh))
    assert not detached(contrast(old)).logits.requires_grad
    without = replace(contrast(old), negative=torch.zeros_like(fresh.negative))
    assert (without.k == 0).all()
