"""Formulas written out in loops, in float64.

What a one-line change of the weightings and losses would break.
"""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close
from unremix import tiles
from unremix.choosing import keep_top
from unremix.companions import with_extras
from unremix.contrast import compare
from unremix.contrastive_loss import ContrastiveLoss
from unremix.embeddings import embed, from_views, places, stack, unit_norm
from unremix.gradient_norm import hidden_square
from unremix.hard_negatives import HCL, uniform
from unremix.info_nce import InfoNCE, log_sum
from unremix.knobs import Knobs
from unremix.losses import DebiasedNTXentLoss, HCLLoss, NTXentLoss, UnReMixLoss
from unremix.pseudo_task import pseudo_logits, pseudo_task
from unremix.queue import KeyQueue
from unremix.representativeness import is_plain, prepare_distance
from unremix.representativeness import representativeness, similarity
from unremix.row_sums import row_sums
from unremix.rules import OutsideBatch, Without, views
from unremix.statistics import heaviest, means, over
from unremix.uncertainty import prepare_uncertainty, uncertainty
from unremix.unremix import UnReMix

B, D, T = 4, 3, 0.4


def draw(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


Z1, Z2, MORE = draw(B, D), draw(B, D, seed=1), draw(3, D, seed=2)
H = draw(2 * B, 5, seed=3)
IDS = torch.tensor([7, 7, 5, 6])
RAW = torch.cat([Z1, Z2])
Z = F.normalize(RAW)
POSITIVE = torch.arange(2 * B).roll(B)


def negatives_of(i, ids=None):
    "Columns that are negatives of the anchor, by what the words say."
    others = [j for j in range(2 * B) if j not in (i, POSITIVE[i])]
    if ids is None:
        return others
    return [j for j in others if ids[j % B] != ids[i % B]]


def one_contrast(z1, z2, t=T):
    e = from_views([z1, z2])
    return compare(e, e, views, t)


def contrast(with_hidden=True, labels=None, negatives=None, rule=views):
    hidden = list(H.split(B)) if with_hidden else None
    candidates = from_views([Z1, Z2], hidden, labels)
    if negatives is not None:
        candidates = stack(candidates, embed(negatives))
    if labels is not None:
        rule = Without(rule, 'label')
    return compare(candidates[: 2 * B], candidates, rule, T)


def opinion(c, kind, t=None):
    "The uncertainty at a temperature of the pseudo-task; None: the contrast's."
    prepared = None if t is None else prepare_uncertainty(c.candidates, kind, t)
    return uncertainty(c, kind, prepared)


# what the pseudo-task asks of a view: which other view shows its image?


def posterior(z, t):
    logits = z @ z.T / t
    own = torch.eye(len(z), dtype=torch.bool)
    return logits.masked_fill(own, -math.inf).softmax(1)


def last_layer_gradients(t, with_hidden):
    """By autograd: the gradient of each view's pseudo-loss.

    In the last layer, or in the raw embedding.
    """
    found = []
    for j in range(2 * B):
        weight = torch.zeros(D, 5, dtype=torch.float64, requires_grad=True)
        bias = RAW[j].clone().requires_grad_()
        z = Z.clone()
        z[j] = F.normalize(weight @ H[j] + bias, dim=0)
        p = posterior(z, t)[j]
        grads = torch.autograd.grad(-p.max().log(), (weight, bias))
        kept = grads if with_hidden else grads[1:]
        found.append(torch.cat([g.flatten() for g in kept]))
    return torch.stack(found)


@pytest.mark.parametrize('with_hidden', (True, False))
@pytest.mark.parametrize('t', (None, 0.9))
def test_norm_is_the_gradient_norm(with_hidden, t):
    found = opinion(contrast(with_hidden), 'norm', t)
    wanted = last_layer_gradients(t or T, with_hidden).norm(dim=1)
    assert_close(found.value, wanted[None])
    unit = torch.ones(2 * B, dtype=torch.float64)
    if with_hidden:
        unit = (H.square().sum(1) + 1).sqrt()
    assert_close(found.unit, (unit / RAW.norm(dim=1)).mean() / (t or T))
    assert (found.low, found.floor) == (0, 0.01)


@pytest.mark.parametrize('with_hidden', (True, False))
def test_influence_is_the_cosine_of_gradients(with_hidden):
    g = F.normalize(last_layer_gradients(T, with_hidden))
    found = uncertainty(contrast(with_hidden), 'influence')
    assert_close(found.value, g @ g.T)
    assert found.low == -1


def test_entropy_of_the_answer():
    p = posterior(Z, 0.3)
    wanted = -torch.xlogy(p, p).sum(1)[None]
    assert_close(opinion(contrast(), 'entropy', 0.3).value, wanted)


def test_overlap_of_the_answers():
    p = F.normalize(posterior(Z, 0.3))
    assert_close(opinion(contrast(), 'overlap', 0.3).value, -p @ p.T)


def test_overlap_of_an_images_mean_answers():
    p = posterior(Z, 0.3)
    p = F.normalize(p + p.roll(B, 0))
    assert_close(opinion(contrast(), 'image_overlap', 0.3).value, -p @ p.T)


def test_similarity_of_images():
    mean = F.normalize(Z + Z.roll(B, 0))
    wanted = 1 - ((mean @ mean.T - 1) / 0.3).exp()
    assert_close(opinion(contrast(), 'image_similarity', 0.3).value, wanted)


def test_nearness_to_the_boundary():
    cos = Z @ Z.T
    found = uncertainty(contrast(), 'boundary').value
    for i in range(2 * B):
        middle = (cos[i, negatives_of(i)].mean() + cos[i, POSITIVE[i]]) / 2
        p = torch.sigmoid((cos[i] - middle) / 0.1)
        assert_close(found[i], torch.minimum(p, 1 - p) - 0.5)


KINDS = ('norm', 'influence', 'entropy', 'overlap', 'image_similarity')


@pytest.mark.parametrize('kind', KINDS)
def test_further_candidates_are_asked_but_are_no_answer(kind):
    "An explicit negative answers as a view would that nobody asks about."
    found = uncertainty(contrast(False, negatives=MORE), kind).value
    assert found.shape[1] == 2 * B + 3
    wanted = uncertainty(contrast(False), kind).value
    assert_close(found[..., : 2 * B], wanted)


def test_entropy_of_a_further_candidate():
    p = (F.normalize(MORE) @ Z.T / T).softmax(1)
    found = uncertainty(contrast(False, negatives=MORE), 'entropy').value
    assert_close(found[0, 2 * B :], -torch.xlogy(p, p).sum(1))


def test_zero_vector_is_torn_between_all():
    z1 = Z1.clone()
    z1[0] = 0
    c = one_contrast(z1, Z2)
    wanted = torch.tensor(math.log(2 * B - 1), dtype=torch.float64)
    assert_close(uncertainty(c, 'entropy').value[0, 0], wanted)
    assert uncertainty(c, 'norm').value[0, 0] == 0


def test_zero_vector_prefers_nobody_by_rounding():
    z1 = draw(50, 7).float()
    z1[0] = 0
    task = pseudo_task(from_views([z1, z1.roll(1, 0)]), 0.05)
    assert (pseudo_logits(task, slice(None))[0, 1:] == 0).all()


def test_two_temperatures_on_one_contrast():
    c = contrast()
    first, second = (opinion(c, 'entropy', t).value for t in (0.3, 0.9))
    assert_close(second, opinion(contrast(), 'entropy', 0.9).value)
    assert (first < second).all()


# representativeness


@pytest.mark.parametrize('ids', (None, IDS))
@pytest.mark.parametrize('distance', ('cosine', 'euclidean'))
def test_mean_distance_to_the_other_negatives(distance, ids):
    between = 1 - Z @ Z.T
    if distance == 'euclidean':
        between = (Z[:, None] - Z).norm(dim=2)
    found = representativeness(contrast(labels=ids), distance).value
    for i in range(2 * B):
        for j in negatives_of(i, ids):
            others = [k for k in negatives_of(i, ids) if k != j]
            assert_close(found[i, j], between[j, others].mean())


@pytest.mark.parametrize('distance', ('cosine', 'euclidean'))
@pytest.mark.parametrize('count', (2, 3))
def test_mean_distance_by_sums_over_a_plain_batch(count, distance):
    "The short way, which reads no table of negatives."
    z = [Z1, Z2, draw(B, D, seed=4)][:count]
    e = from_views(z)
    c = compare(e, e, views, T)
    prepared = prepare_distance(e, views, distance)
    found = representativeness(c, distance, prepared).value
    assert (prepared.others if distance == 'cosine' else prepared.total) is not None
    unit = F.normalize(torch.cat(z))
    between = 1 - unit @ unit.T
    if distance == 'euclidean':
        between = (unit[:, None] - unit).norm(dim=2)
    n = count * B
    for i in range(n):
        mine = [j for j in range(n) if j % B != i % B]
        for j in mine:
            others = [k for k in mine if k != j]
            assert_close(found[i, j], between[j, others].mean())


@pytest.mark.parametrize('distance', ('cosine', 'euclidean'))
def test_an_only_negative_is_at_distance_one(distance):
    c = contrast(negatives=MORE[:1], rule=OutsideBatch(views))
    found = representativeness(c, distance).value
    assert_close(found[:, 2 * B :], torch.ones(2 * B, 1, dtype=torch.float64))


def test_distance_to_a_zero_vector_is_one():
    z1 = Z1.clone()
    z1[0] = 0
    c = one_contrast(z1, Z2)
    cos = c.candidates.z @ c.candidates.z.T
    found = representativeness(c).value
    for i in range(2 * B):
        for j in negatives_of(i):
            others = [k for k in negatives_of(i) if k != j]
            assert_close(found[i, j], (1 - cos[j, others]).mean())


def test_similarity_is_the_cosine():
    c = one_contrast(Z1.clone().requires_grad_(), Z2)
    found = similarity(c)
    assert_close(found.value, Z @ Z.T)
    assert found.low == -1
    assert found.value.requires_grad
    assert not representativeness(c).value.requires_grad


# weights


def softmax_over(scores, members):
    "(a n) shares over the members of each row, 0 elsewhere."
    p = torch.zeros(2 * B, 2 * B, dtype=torch.float64)
    for i in range(2 * B):
        p[i, members[i]] = scores[i, members[i]].softmax(0)
    return p


@pytest.mark.parametrize('ids', (None, IDS))
def test_hcl_by_the_formula(ids):
    members = [negatives_of(i, ids) for i in range(2 * B)]
    k = torch.tensor([len(m) for m in members])
    found = HCL(1.7)(contrast(labels=ids)).exp()
    assert_close(found, softmax_over(1.7 * Z @ Z.T / T, members) * k[:, None])


def loss_by_loops(w, tau_plus=0.0, z=Z, t=T):
    "(a) weighted, debiased InfoNCE of weights that average 1."
    found = []
    for i in range(2 * B):
        neg = negatives_of(i)
        s, p = (z[i] @ z.T / t), (z[i] @ z[POSITIVE[i]] / t)
        g = (w[i, neg] * s[neg].exp()).mean()
        g = ((g - tau_plus * p.exp()) / (1 - tau_plus)).clamp_min(math.exp(-1 / t))
        found.append((1 + len(neg) * g / p.exp()).log())
    return torch.stack(found)


UNIFORM = torch.ones(2 * B, 2 * B, dtype=torch.float64)


@pytest.mark.parametrize('tau_plus', (0.0, 0.1, 0.6))
@pytest.mark.parametrize('detach', (True, False))
def test_hcl_loss_and_gradient(tau_plus, detach):
    def gradient(of):
        z1 = Z1.clone().requires_grad_()
        loss = of(z1)
        return loss.detach(), torch.autograd.grad(loss.sum(), z1)[0]

    def loops(z1):
        z = F.normalize(torch.cat([z1, Z2]))
        members = [negatives_of(i) for i in range(2 * B)]
        w = (2 * B - 2) * softmax_over(1.7 * z @ z.T / T, members)
        return loss_by_loops(w.detach() if detach else w, tau_plus, z)

    criterion = HCLLoss(T, tau_plus, 1.7, detach_weights=detach, reduction='none')
    assert_close(gradient(lambda z1: criterion(z1, Z2)), gradient(loops))


def by_formula(z1):
    "HCL's weights, with gradient through the cosines."
    z = F.normalize(torch.cat([z1, Z2]))
    members = [negatives_of(i) for i in range(2 * B)]
    return (2 * B - 2) * softmax_over(1.7 * z @ z.T / T, members)


@pytest.mark.parametrize('weights', (HCL(1.7), UnReMix((0, 1, 0), 1.7, detach=False)))
def test_gradient_through_the_weights_alone(weights):
    "A weighting that is called by itself, as a loss of one's own does."
    found, wanted = (Z1.clone().requires_grad_() for _ in range(2))
    push = draw(2 * B, 2 * B, seed=5)
    (weights(one_contrast(found, Z2)).exp() * push).sum().backward()
    (by_formula(wanted) * push).sum().backward()
    assert_close(found.grad, wanted.grad)
    constant = replace(weights, detach=True)(one_contrast(found, Z2))
    assert not constant.requires_grad
    assert_close(constant.exp(), by_formula(Z1))


def test_negative_beta_is_refused():
    for make in (lambda: HCL(-0.1), lambda: HCLLoss(beta=-0.1)):
        with pytest.raises(ValueError, match='beta must be'):
            make()


def test_weights_of_an_anchor_without_negatives():
    z1, z2 = Z1[:1].clone().requires_grad_(), Z2[:1]
    assert (HCL()(one_contrast(z1, z2)) == -math.inf).all()
    loss = HCLLoss(tau_plus=0.0)(z1, z2)
    loss.backward()
    assert loss == 0 and (z1.grad == 0).all()


# losses


@pytest.mark.parametrize('tau_plus', (0.1, 0.6))
def test_debiased_loss_by_loops(tau_plus):
    wanted = loss_by_loops(UNIFORM, tau_plus)
    each = DebiasedNTXentLoss(T, tau_plus, reduction='none')
    assert_close(each(Z1, Z2), wanted)
    assert_close(DebiasedNTXentLoss(T, tau_plus)(Z1, Z2), wanted.mean())
    total = DebiasedNTXentLoss(T, tau_plus, reduction='sum')
    assert_close(total(Z1, Z2), wanted.sum())


def test_simclr_is_a_cross_entropy():
    own = torch.eye(2 * B, dtype=torch.bool)
    logits = (Z @ Z.T / T).masked_fill(own, -math.inf)
    assert_close(NTXentLoss(T)(Z1, Z2), F.cross_entropy(logits, POSITIVE))


def test_labels_and_further_negatives():
    "Same-label views drop out of the sum, further negatives join it."
    more = F.normalize(MORE)
    wanted = []
    for i in range(2 * B):
        p = Z[i] @ Z[POSITIVE[i]] / T
        neg = torch.cat([Z[negatives_of(i, IDS)], more])
        wanted.append((1 + ((neg @ Z[i]) / T - p).exp().sum()).log())
    loss = NTXentLoss(T, reduction='none')
    assert_close(loss(Z1, Z2, labels=IDS, negatives=MORE), torch.stack(wanted))


def test_further_negatives_may_have_ids():
    ids = torch.cat([IDS, torch.tensor([7, 5, 9])])
    found = NTXentLoss(T).contrast(Z1, Z2, negatives=MORE, sample_ids=ids)
    further = [[ids[i % B] != ids[B + m] for m in range(3)] for i in range(2 * B)]
    assert found.negative[:, 2 * B :].tolist() == further
    in_batch = [len(negatives_of(i, IDS)) for i in range(2 * B)]
    both = [n + sum(row).item() for n, row in zip(in_batch, further, strict=True)]
    assert found.k.tolist() == both


def test_only_further_negatives():
    loss = NTXentLoss(T, pairs=OutsideBatch(views))
    found = loss.contrast(Z1, Z2, negatives=MORE)
    assert found.k.tolist() == [3] * 2 * B
    assert not found.negative[:, : 2 * B].any()
    comparison = loss.comparison(Z1, Z2, negatives=MORE)
    assert not is_plain(comparison.rule, comparison.candidates)


def test_an_anchor_without_negatives_costs_nothing():
    z1 = Z1[:2].clone().requires_grad_()
    loss = NTXentLoss(T)(z1, Z2[:2], labels=torch.tensor([1, 1]))
    loss.backward()
    assert loss == 0 and z1.grad.abs().max() == 0


def test_labels_exclude_a_class_prior():
    with pytest.raises(ValueError, match='tau_plus must be 0 with labels'):
        DebiasedNTXentLoss(T)(Z1, Z2, labels=IDS)


def test_keys_get_no_gradient():
    queue = KeyQueue(5, D)
    queue.push(MORE)
    z1, z2 = (z.clone().requires_grad_() for z in (Z1, Z2))
    NTXentLoss(T)(z1, z2, queue=queue).backward()
    assert z1.grad.abs().max() > 0 and z2.grad is None


def mean_over_anchors(x, some):
    return means([{'x': over(torch.tensor(x), torch.tensor(some))}])['x']


def test_mean_over_anchors_that_have_negatives():
    assert mean_over_anchors([1.0, math.nan, 4], [True, False, True]) == 2.5
    assert mean_over_anchors([math.nan], [False]).isnan()  # of nobody


def test_deselected_negatives_are_not_among_the_heaviest():
    log_w = torch.tensor([[0.0, -math.inf, -math.inf, -math.inf]])
    assert heaviest(log_w, torch.tensor([3.0]), 1.0).tolist() == [[1, 0, 0, 0]]


def test_weights_that_differ_by_rounding_are_equals():
    "The same weights, computed in two ways, have one hardness."
    log_w = torch.tensor([[0.0, 1e-7, -2e-7, 3e-7, -1.0]])
    assert_close(heaviest(log_w, torch.tensor([5.0]), 0.2), torch.tensor([[0.25] * 4 + [0.0]]))
    apart = torch.tensor([[0.0, 1e-3, -2e-3, 3e-3, -1.0]])
    assert heaviest(apart, torch.tensor([5.0]), 0.2).tolist() == [[0, 0, 0, 1, 0]]
    g = torch.Generator().manual_seed(0)
    z1, z2 = torch.randn(2, 2, 4, generator=g).double()
    given = dict(true_labels=torch.arange(2), return_stats=True)
    ways = UnReMix(mix=(0, 0, 1.0)), HCL(0.0), uniform
    found = [ContrastiveLoss(w)(z1, z2, **given)[1] for w in ways]
    for name in ('hardness', 'false_negative_rate'):
        assert_close(found[0][name], found[2][name])
        assert_close(found[1][name], found[2][name])


def test_members_of_the_heaviest_share_the_last_places():
    log_w = torch.tensor([[3.0, 1, 1, 1, 0, -math.inf], [2, 2, 1, 1, 1, 1]])
    k = torch.tensor([5.0, 6.0])
    third, quarter = 1 / 3, 0.25
    wanted = [
        [1, third, third, third, 0, 0],
        [1, 1, quarter, quarter, quarter, quarter],
    ]
    assert_close(heaviest(log_w, k, 0.4), torch.tensor(wanted))
    wanted = [[1, 0, 0, 0, 0, 0], [0.5, 0.5, 0, 0, 0, 0]]
    assert heaviest(log_w, k, 0.1).tolist() == wanted


def statistics_of_anchor(i, labels):
    neg, cos = negatives_of(i), Z @ Z.T
    s, positive = cos[i, neg], cos[i, POSITIVE[i]]
    same = (labels[torch.tensor(neg) % B] == labels[i % B]).double()
    w = (1.7 * s / T).softmax(0)
    push = (2.7 * s / T).softmax(0)
    g = len(neg) * (w * (s / T).exp()).sum() / len(neg)
    rest = (g - 0.6 * (positive / T).exp()) / 0.4
    return dict(
        positive_similarity=positive,
        negative_similarity=s.mean(),
        hardest_similarity=s.max(),
        clamped_fraction=(rest <= math.exp(-1 / T)).double(),
        effective_negatives=1 / w.square().sum(),
        weight_entropy=-(w * w.log()).sum(),
        false_negative_rate=same[s.argmax()],
        hardness=s.max(),
        false_negative_mass=(w * same).sum(),
        hard_false_negative_mass=(push * same).sum(),
    )


def test_statistics_by_loops():
    labels = torch.tensor([0, 0, 1, 1])
    loss = HCLLoss(T, 0.6, 1.7)
    _, found = loss(Z1, Z2, true_labels=labels, return_stats=True)
    rows = [statistics_of_anchor(i, labels) for i in range(2 * B)]
    wanted = {}
    for name in rows[0]:
        wanted[name] = torch.stack([row[name] for row in rows]).mean().float()
    assert 0 < wanted['clamped_fraction'] < 1
    assert_close(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    'of_negatives',
    (
        lambda c, log_w: row_sums(c, log_w).log_negatives,
        lambda c, log_w: log_sum(c.logits + log_w, c.negative),
    ),
    ids=('row_sums', 'log_sum'),
)
def test_log_weighted_sum_of_a_row_without_weights(of_negatives):
    def everybody(anchors, candidates):
        nobody = torch.zeros(2, 3, dtype=torch.bool)
        return nobody, ~nobody

    logits = draw(2, 3).requires_grad_()
    log_w = [[0.0, -1, -math.inf], [-math.inf] * 3]
    log_w = torch.tensor(log_w, dtype=torch.float64)
    c = compare(embed(Z1[:2]), embed(MORE), everybody, T, logits)
    found = of_negatives(c, log_w)
    assert_close(found[0], (logits[0] + log_w[0]).logsumexp(0))
    assert found[1] == -math.inf
    found[0].backward()
    nothing = torch.zeros(3, dtype=torch.float64)
    wanted = torch.stack([(logits[0] + log_w[0]).softmax(0), nothing])
    assert_close(logits.grad, wanted.detach())


def test_weights_of_nothing_send_no_gradient_through_debiasing():
    "A weighting of one's own that gives an anchor's negatives no weight at all."
    z1, beta = Z1.clone().requires_grad_(), torch.tensor(1.3, requires_grad=True)
    nothing = torch.zeros(2 * B, 1)
    nothing[0] = -math.inf
    loss = ContrastiveLoss(lambda c: beta * c.logits + nothing, loss=InfoNCE(0.1))
    value = loss(z1, Z2)
    value.backward()
    assert value.isfinite() and z1.grad.isfinite().all() and beta.grad.isfinite()


# contrast


def test_unit_norm():
    raw = torch.tensor([[3.0, 4], [0, 0], [1e-9, 0], [1e-7, 0]], requires_grad=True)
    z, norm = unit_norm(raw)
    assert_close(z, torch.tensor([[0.6, 0.8], [0, 0], [0, 0], [1, 0]]))
    assert_close(norm, torch.tensor([5, math.inf, math.inf, 1e-7]))
    assert not norm.requires_grad
    assert unit_norm(raw.half())[0].dtype == torch.float32


def test_views_and_their_partners():
    c = contrast()
    assert places(c.anchors, c.candidates).tolist() == list(range(2 * B))
    assert c.positive.tolist() == torch.eye(2 * B, dtype=torch.bool)[POSITIVE].tolist()
    assert_close(c.logits, Z @ Z.T / T)
    assert_close(c.logits[c.positive], (Z * Z[POSITIVE]).sum(1) / T)
    assert c.k.tolist() == [2 * B - 2] * 2 * B
    assert c.candidates.batch == (2, B)
    assert is_plain(views, c.candidates)


def test_hidden_is_squared_without_gradient():
    e = from_views([Z1, Z2], hidden=list(H.clone().requires_grad_().split(B)))
    assert_close(hidden_square(e), H.square().sum(1))
    assert_close(with_extras(e, ('square',)).extra['square'], H.square().sum(1))
    assert not e.extra['hidden'].requires_grad


# blocks


class Learnt(torch.nn.Module):
    "HCL whose β is learnt."

    def __init__(self):
        super().__init__()
        self.beta = torch.nn.Parameter(torch.tensor(1.3, dtype=torch.float64))

    def forward(self, c):
        scores = (self.beta * c.logits).masked_fill(~c.negative, -math.inf)
        return scores.log_softmax(1) + c.k.log()[:, None]


LOSSES = {
    'simclr': lambda **k: NTXentLoss(T, **k),
    'hcl': lambda **k: HCLLoss(T, 0.1, 1.7, **k),
    'unremix': lambda **k: UnReMixLoss(T, 0.1, detach_weights=False, **k),
    'learnt': lambda **k: ContrastiveLoss(Learnt(), temperature=T, **k),
}


@pytest.mark.parametrize('make', LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize('reduction', ('mean', 'sum', 'none'))
@pytest.mark.parametrize('size', (1, 3, 8))
def test_blocks_are_the_whole(make, reduction, size):
    def of(chunk_size):
        inputs = [x.clone().requires_grad_() for x in (Z1, Z2, MORE)]
        criterion = make(reduction=reduction, chunk_size=chunk_size)
        given = dict(negatives=inputs[2], true_labels=IDS)
        loss, stats = criterion(*inputs[:2], **given, return_stats=True)
        factor = 1 if reduction != 'none' else torch.arange(1.0, 2 * B + 1)
        (loss * factor * 2).sum().backward()
        leaves = *inputs, *criterion.parameters()
        return loss.detach(), [x.grad for x in leaves], stats

    for found, wanted in zip(of(size), of(None), strict=True):
        assert_close(found, wanted)


def test_blocks_without_gradient():
    with torch.no_grad():
        found = NTXentLoss(T, chunk_size=3)(Z1, Z2)
        assert_close(found, NTXentLoss(T)(Z1, Z2))


# UnReMix

KNOBS = dict(mix=(0.5, 0.2, 0.3), beta=1.7, kappa=(0.6, 1.4))


def opinions_by_loops(kind='norm', ids=None):
    c = contrast(labels=ids)
    u, r = uncertainty(c, kind), representativeness(c)
    return (u.value.expand(2 * B, 2 * B), u.low), (Z @ Z.T, -1.0), (r.value, 0.0)


def score_of(x, neg):
    x = x[neg]
    return ((x - x.mean()) / x.std(correction=0)).clamp(-3, 3)


@pytest.mark.parametrize('ids', (None, IDS))
def test_linear_mixture_of_softmaxes(ids):
    (u, _), (cos, _), (r, _) = opinions_by_loops(ids=ids)
    found = UnReMix(**KNOBS)(contrast(labels=ids)).exp()
    for i in range(2 * B):
        neg = negatives_of(i, ids)
        by_u = (0.6 * score_of(u[i], neg)).softmax(0)
        by_a = (1.7 * cos[i, neg] / T).softmax(0)
        by_r = (1.4 * score_of(r[i], neg)).softmax(0)
        shares = 0.5 * by_u + 0.2 * by_a + 0.3 * by_r
        assert_close(found[i, neg], len(neg) * shares)
        assert_close(found[i].sum(), found.new_tensor(len(neg)))


def test_logarithmic_mixture():
    (u, _), (cos, _), (r, _) = opinions_by_loops()
    found = UnReMix(beta=1.7, kappa=(0.6, 1.4), pool='log')(contrast()).exp()
    for i in range(2 * B):
        neg = negatives_of(i)
        scores = 0.6 * score_of(u[i], neg) + 1.4 * score_of(r[i], neg)
        scores = scores + 1.7 * cos[i, neg] / T
        assert_close(found[i, neg], len(neg) * scores.softmax(0))


def mixed(shares):
    return sum(m * s for m, s in zip(KNOBS['mix'], shares, strict=True))


@pytest.mark.parametrize('kind', ('norm', 'influence', 'boundary'))
def test_mixture_of_sums(kind):
    three = opinions_by_loops(kind)
    weights = UnReMix(mix=KNOBS['mix'], normalize='sum', uncertainty=kind)
    found = weights(contrast()).exp()
    for i in range(2 * B):
        neg = negatives_of(i)
        above = [(x[i, neg] - low).clamp_min(0) for x, low in three]
        wanted = len(neg) * mixed([a / a.sum() for a in above])
        assert_close(found[i, neg], wanted, rtol=1e-5, atol=1e-5)


def test_mixture_of_ranges():
    three = opinions_by_loops()
    found = UnReMix(mix=KNOBS['mix'], normalize='minmax')(contrast()).exp()
    for i in range(2 * B):
        neg = negatives_of(i)
        above = [x[i, neg] - x[i, neg].min() for x, _ in three]
        wanted = len(neg) * mixed([a / a.sum() for a in above])
        assert_close(found[i, neg], wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('normalize', ('softmax', 'sum', 'minmax'))
def test_equal_opinions_are_uniform(normalize):
    same = torch.ones(B, D, dtype=torch.float64)
    found = UnReMix(normalize=normalize)(one_contrast(same, same)).exp()
    number = 2 * B - 2
    total = torch.full((2 * B,), number, dtype=torch.float64)
    assert_close(found.sum(1), total)
    for i in range(2 * B):
        one_each = torch.ones(number, dtype=torch.float64)
        assert_close(found[i, negatives_of(i)], one_each)


@pytest.mark.parametrize('kind', ('norm', 'influence', 'image_similarity'))
def test_parts_of_a_mixture_are_the_whole(kind, monkeypatch):
    "Anchors are worked on some at a time; 16 at least."

    def weights():
        c = one_contrast(draw(12, D), draw(12, D, seed=1))
        return UnReMix(**KNOBS, uncertainty=kind)(c)

    whole = weights()
    monkeypatch.setattr(tiles, 'CACHE_CELLS', 1)
    assert_close(weights(), whole)


@pytest.mark.parametrize('detach', (True, False))
def test_only_similarity_is_hcl(detach):
    knobs = dict(beta=1.7, detach_weights=detach)
    mixture = UnReMixLoss(T, mix=(0, 1, 0), **knobs)
    hcl = HCLLoss(T, 0.0, **knobs)
    found = []
    for loss in (mixture, hcl):
        z1 = Z1.clone().requires_grad_()
        value = loss(z1, Z2)
        found.append((value.detach(), torch.autograd.grad(value, z1)[0]))
    assert_close(*found)


def test_kept_negatives_count_alike():
    none = -math.inf
    log_w = torch.tensor([[0.3, none, 0.9, 0.1], [none, 0.2, none, none]])
    found = keep_top(log_w, torch.tensor([3.0, 1.0]), 2).exp()
    assert_close(found, torch.tensor([[1.5, 0, 1.5, 0], [0, 1, 0, 0]]))


OUT_OF_RANGE = (
    dict(mix=(0.5, 0.5, 0.1)),
    dict(mix=(1.5, -0.5, 0)),
    dict(kappa=(-1.0, 0.0)),
    dict(beta=-1.0),
    dict(pool='log', normalize='sum'),
    dict(uncertainty='doubt'),
    dict(uncertainty_temperature=0.0),
    dict(distance='far'),
)


@pytest.mark.parametrize('fields', OUT_OF_RANGE, ids=str)
@pytest.mark.parametrize('kind', (Knobs, UnReMix))
def test_knobs_out_of_range(kind, fields):
    with pytest.raises(ValueError):
        kind(**fields)
