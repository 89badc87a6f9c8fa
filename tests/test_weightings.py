"""What every weighting must satisfy, checked for all of them.

The invariants are those of the pages on hard negatives, uncertainty and UnReMix.
"""

import math
from dataclasses import dataclass, is_dataclass, replace
from importlib.util import find_spec
from functools import partial
from itertools import product
from typing import ClassVar

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing import assert_close

from unremix import ContrastiveLoss, DebiasedNTXentLoss, HCLLoss, LearnedTemperature
from unremix import NTXentLoss, UnReMixLoss
from unremix import contrast, embeddings, rules
from unremix import registry
from unremix.composition import prepared_by
from unremix.contrast import part, prepared_for, with_prepared
from unremix.hard_negatives import HCL, Debiased, Uniform, log_share, mean_one, uniform
from unremix.info_nce import InfoNCE, decoupled
from unremix.normalizers import NORMALIZERS
from unremix.queue import KeyQueue
from unremix.rules import OutsideBatch, across, supervised
from unremix.solved_weights import MMCL
from unremix.uncertainty import UNCERTAINTIES
from unremix.unremix import UnReMix


def first_half(c):
    "A user's own weighting: only the first half of the batch, all alike."
    count, samples = c.candidates.batch
    column = torch.arange(c.logits.shape[1], device=c.logits.device)
    few = c.negative & (column < count * samples // 2)
    few = torch.where(few.any(1, keepdim=True), few, c.negative)
    share = few / few.sum(1, keepdim=True).clamp_min(1)
    return (share * c.k[:, None]).log().masked_fill(~few, -math.inf)


@dataclass(frozen=True)
class Central:
    "A user's own weighting that is prepared: who resembles the batch counts more."

    reads: ClassVar[tuple[str, ...]] = ()

    def prepare(self, anchors, candidates, rule, temperature):
        mean = anchors.z.mean(0)
        return candidates.each(lambda rows: candidates.z[rows] @ mean, 4)

    def __call__(self, c):
        score = prepared_for(c, self.prepare).expand_as(c.logits)
        return mean_one(log_share(score, c.negative, c.k), c.k)


def more(known):
    "Is a strategy more than weights?"
    return known.place != 'weights' or known.parts is not None


LOSSES = dict(
    ntxent=NTXentLoss,
    debiased=DebiasedNTXentLoss,
    hcl=HCLLoss,
    hcl_detached=lambda t: HCLLoss(t, detach_weights=True),
    unremix_attached=lambda t: UnReMixLoss(t, detach_weights=False),
    unremix_debiased=lambda t: UnReMixLoss(t, tau_plus=0.1),
    unremix_euclidean=lambda t: UnReMixLoss(t, distance='euclidean'),
    similarity_only=lambda t: UnReMixLoss(t, mix=(0, 1, 0)),
    top=lambda t: UnReMixLoss(t, select='top', k_keep=3),
    own=lambda t: ContrastiveLoss(first_half, temperature=t),
    own_prepared=lambda t: ContrastiveLoss(Central(), temperature=t),
    decoupled=lambda t: ContrastiveLoss(HCL(), loss=decoupled, temperature=t),
)
for u, n in product(UNCERTAINTIES, NORMALIZERS):
    knobs = dict(uncertainty=u, normalize=n)
    LOSSES[f'{u}_{n}'] = lambda t, knobs=knobs: UnReMixLoss(t, **knobs)
for u in UNCERTAINTIES:
    knobs = dict(uncertainty=u, pool='log')
    if u != 'boundary':  # which has a temperature of its own
        knobs['uncertainty_temperature'] = 0.1
    LOSSES[f'{u}_log'] = lambda t, knobs=knobs: UnReMixLoss(t, **knobs)
COVERED = {Uniform, Debiased, HCL, UnReMix}  # above, in several settings
COMPOSED = {}  # strategies of another place, and made of several parts
ABSENT = set() if find_spec('ot') else {'transport'}  # without the extra `ot`


def composed(known, t):
    "As in a run, but made-up negatives are the same at each call."
    part = known.kind()
    if hasattr(part, 'seed'):
        part = replace(part, seed=0)
    parts = {'loss': InfoNCE(known.tau_plus or 0.0)} | known.parts_of(part)
    return ContrastiveLoss(**parts, temperature=t)


for name, known in registry.known().items():
    if known.kind in COVERED or known.kind.__module__ in ('unremix.controls', 'unremix.pieces'):
        continue
    if name in ABSENT:
        continue
    alone = known.place == 'weights' and 'synthesis' not in known.parts_of(known.kind())
    table = LOSSES if alone else COMPOSED
    table[name] = partial(composed, known)
READINGS = dict(
    positive_norm=dict(pseudo_label='positive'),
    positive_influence=dict(pseudo_label='positive', uncertainty='influence'),
    score=dict(pool='score', beta=2.0),
    score_attached=dict(pool='score', detach_weights=False),
    score_candidate=dict(pool='score', uncertainty='candidate_gradient'),
    candidate_attached=dict(uncertainty='candidate_gradient', detach_weights=False),
)
for name, knobs in READINGS.items():
    LOSSES[name] = lambda t, knobs=knobs: UnReMixLoss(t, **knobs)
LOSSES['mmcl_inverse'] = lambda t: ContrastiveLoss(MMCL(solver='inverse'), temperature=t)
EVERY = LOSSES | COMPOSED
ON_THE_HOST = {'mioc'}  # scikit-learn solves it, which no compiler looks into
NEVER_UNIFORM = {'top', 'own'}  # even if all negatives are equal
SELECTING = NEVER_UNIFORM | {'ring', 'topk', 'margin', 'mmcl', 'mmcl_inverse'}
CHOOSING_PAIRS = {'fnc'}  # by a threshold, which rounding may cross
BEYOND_AVERAGE_ONE = {'h-scl'}  # as released: a factor that counts all negatives
of_pairs = ('pairs', 'loss', 'batch')
IN_PLACE = {n: s for n, s in registry.known().items() if s.place in of_pairs}
OTHERS = [n for n, s in IN_PLACE.items() if not s.of_pieces] + ['h-scl']
every_loss = pytest.mark.parametrize('name', LOSSES)
of_any_place = pytest.mark.parametrize('name', EVERY)
on_devices = pytest.mark.parametrize('name', [x for x in EVERY if x not in ON_THE_HOST])


def tau_plus(loss):
    return getattr(loss.loss, 'tau_plus', 0.0)


def without_prior(loss):
    "Labels already remove what it corrects for."
    if tau_plus(loss):
        loss.loss = replace(loss.loss, tau_plus=0.0)


def views(b=6, d=8, f=5, dtype=torch.float64, seed=0):
    g = torch.Generator().manual_seed(seed)
    z1, z2 = torch.randn(2, b, d, generator=g, dtype=torch.float64)
    hidden = torch.randn(2, b, f, generator=g, dtype=torch.float64)
    return [x.to(dtype) for x in (z1, z1 + 0.7 * z2)], tuple(
        h.to(dtype) for h in hidden
    )


def third_view(b=6, d=8, f=5, dtype=torch.float64):
    "One view more, and its hidden inputs."
    (z3, _), (h3, _) = views(b, d, f, dtype, seed=1)
    return z3, h3


def filled_queue(dtype=torch.float64, device='cpu', size=5):
    "Four of five slots hold keys."
    (keys, _), (hidden, _) = views(b=4, dtype=dtype, seed=2)
    queue = KeyQueue(size, 8, stores_hidden=True).to(dtype).to(device)
    queue.push(keys.to(device), hidden.to(device))
    return queue


def companions():
    "What a call can be given: further views, then arguments by name, then the rule."
    (z1, _), hidden = views()
    z3, h3 = third_view()
    classes = torch.tensor([0, 0, 1, 1, 2, 2])
    return dict(
        hidden=((), dict(hidden=hidden), None),
        nothing=((), {}, None),
        sample_ids=((), dict(sample_ids=torch.tensor([0, 1, 2, 0, 1, 3])), None),
        labels=((), dict(labels=classes), None),
        negatives=((), dict(negatives=z1.flip(1)), None),
        only_negatives=((), dict(negatives=z1.flip(1)), OutsideBatch(rules.views)),
        queue=((), dict(queue=filled_queue(), hidden=hidden), None),
        everything=((), dict(queue=filled_queue(), negatives=z1.flip(1)), rules.views),
        three_views=((z3,), dict(hidden=(*hidden, h3)), None),
        several_positives=((), dict(labels=classes, hidden=hidden), supervised),
        three_and_several=((z3,), dict(labels=classes), supervised),
        across=((z3,), {}, across),
    )


COMPANIONS = companions()


def edge_cases():
    "Inputs on which naive code divides by zero, overflows or compares rounding errors."
    (z1, z2), _ = views(dtype=torch.float32)
    eye, zero, same = torch.eye(6, 8), torch.zeros(6, 8), torch.ones(6, 8)
    outlier = z1.clone()
    outlier[0] /= 20
    one_zero = z1.clone()
    one_zero[2] = 0
    return dict(
        duplicated=(z1[[0, 0, 1, 1, 2, 2]], z2),
        collapsed=(same, same),
        orthogonal=(eye, eye),
        all_zero=(zero, zero),
        one_zero=(one_zero, z2),
        near_collapse=(same + 1e-3 * z1, same + 1e-3 * z2),
        outlier=(outlier, z2),
        one_image=(z1[:1], z2[:1]),
        two_images=(z1[:2], z2[:2]),
    )


def hidden_like(z1):
    return tuple(x[: len(z1)].to(z1.dtype) for x in views()[1])


@pytest.mark.parametrize('given', COMPANIONS)
@every_loss
def test_mean_one_and_nothing_off_the_negatives(name, given):
    z, _ = views()
    more, kwargs, rule = COMPANIONS[given]
    loss = LOSSES[name](0.5)
    loss.pairs = rule
    c = loss.contrast(*z, *more, **kwargs)
    log_w = loss.log_weights(c)
    if name not in BEYOND_AVERAGE_ONE:
        assert_close(log_w.exp().sum(1) / c.k, torch.ones_like(c.k))
    assert (log_w[~c.negative] == -math.inf).all()
    if name not in SELECTING:
        assert log_w[c.negative].isfinite().all()


@every_loss
def test_permutation_and_view_swap(name):
    if name == 'own':
        pytest.skip('the example depends on the order by design')
    (z1, z2), h = views()
    loss = LOSSES[name](0.5)
    log_w = loss.log_weights(loss.contrast(z1, z2, hidden=h))
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    moved_h = (h[0][order], h[1][order])
    moved = loss.log_weights(loss.contrast(z1[order], z2[order], hidden=moved_h))
    both = torch.cat([order, order + 6])
    assert_close(moved, log_w[both][:, both])
    swapped = loss.log_weights(loss.contrast(z2, z1, hidden=h[::-1]))
    roll = torch.arange(12).roll(6)
    assert_close(swapped, log_w[roll][:, roll])


@every_loss
def test_views_in_any_order(name):
    "Of three views, too, none is the first."
    if name == 'own':
        pytest.skip('the example depends on the order by design')
    (z1, z2), (h1, h2) = views()
    z3, h3 = third_view()
    loss = LOSSES[name](0.5)
    log_w = loss.log_weights(loss.contrast(z1, z2, z3, hidden=(h1, h2, h3)))
    rolled = loss.log_weights(loss.contrast(z3, z1, z2, hidden=(h3, h1, h2)))
    roll = torch.arange(18).roll(6)
    assert_close(rolled, log_w[roll][:, roll])


@of_any_place
@pytest.mark.parametrize(
    'dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str
)
def test_finite_values_and_gradients(name, dtype):
    for (case, (z1, z2)), t in product(edge_cases().items(), (0.5, 0.01)):
        loss = EVERY[name](t)
        # the second leaves no negative at all; labels exclude tau_plus
        labels = [None, torch.zeros(len(z1), dtype=torch.long)]
        for y in labels[:1] if tau_plus(loss) else labels:
            a, b = (z.to(dtype, copy=True).requires_grad_() for z in (z1, z2))
            value = loss(a, b, hidden=hidden_like(a), labels=y)
            value.backward()
            where = f'{case} at t={t}, labels={y is not None}'
            assert value.isfinite(), where
            assert a.grad.isfinite().all() and b.grad.isfinite().all(), where
            assert a.grad.dtype == dtype
            if (y is not None or len(z1) == 1) and loss.pairs is None:
                assert value == 0 and (a.grad == 0).all()


@of_any_place
def test_finite_with_several_positives(name):
    "Also where nobody is left to be a negative, and where the temperature learns."
    for (case, (z1, z2)), t in product(edge_cases().items(), (0.5, 0.02)):
        for labels in (torch.arange(len(z1)) % 3, torch.zeros(len(z1)).long()):
            temperature = LearnedTemperature(t)
            loss = EVERY[name](temperature)
            loss.pairs = supervised
            without_prior(loss)
            a, b = (z.clone().requires_grad_() for z in (z1, z2))
            value = loss(a, b, a.flip(1), labels=labels)
            value.backward()
            assert value.isfinite(), f'{case} at t={t}'
            gradients = a.grad, b.grad, temperature.x.grad
            assert all(x.isfinite().all() for x in gradients), f'{case} at t={t}'


def near(name):
    "Promised unless a weighting jumps: which of two equals is kept."
    return name == 'own' or name not in SELECTING | CHOOSING_PAIRS


@every_loss
def test_float32_log_weights_near_float64(name):
    for (case, (z1, z2)), t in product(edge_cases().items(), (0.5, 0.1, 0.01)):
        loss = LOSSES[name](t)
        both = []
        for dtype in (torch.float32, torch.float64):
            hidden = hidden_like(z1.to(dtype))
            c = loss.contrast(z1.to(dtype), z2.to(dtype), hidden=hidden)
            both.append(loss.log_weights(c).double())
        if name == 'given':  # which cuts shares below a millionth to nothing
            k = c.k.clamp_min(1)[:, None]
            both = [log_w.exp() / k for log_w in both]
        if near(name):
            message = f'{case} at t={t}'
            assert_close(
                *both, rtol=0, atol=0.02, msg=lambda m, at=message: f'{at}: {m}'
            )


@every_loss
def test_equal_scores_are_uniform(name):
    if name in NEVER_UNIFORM:
        pytest.skip('of equals it keeps the first ones')
    z = torch.ones(5, 8, dtype=torch.float64)
    loss = LOSSES[name](0.5)
    c = loss.contrast(z, z)
    assert_close(loss.log_weights(c), uniform(c))
    others = c.k[0].item()
    if name != 'decoupled':  # which leaves the positive out
        others += 1
    if not tau_plus(loss):
        assert_close(loss(z, z), torch.tensor(math.log(others), dtype=torch.float64))


@pytest.mark.parametrize('given', COMPANIONS)
@every_loss
def test_blocks_of_rows_give_the_same_rows(name, given):
    z, _ = views()
    more, kwargs, rule = COMPANIONS[given]
    loss = LOSSES[name](0.5)
    loss.pairs = rule
    comparison = loss.comparison(*z, *more, **kwargs)
    prepared = prepared_by(loss.weights, comparison)
    c = with_prepared(comparison.contrast(), prepared)
    whole = loss.log_weights(c)
    rows = [slice(lo, lo + 5) for lo in range(0, len(whole), 5)]
    blocks = [with_prepared(comparison.contrast(r), prepared) for r in rows]
    assert_close(torch.cat([loss.log_weights(x) for x in blocks]), whole)
    cut = [loss.log_weights(part(c, r)) for r in rows]
    assert_close(torch.cat(cut), whole)


def unseeded(loss):
    "Random numbers are PyTorch's own, as in a run."
    if hasattr(loss.synthesis, 'seed'):
        loss.synthesis = replace(loss.synthesis, seed=None)


@pytest.mark.parametrize('given', COMPANIONS)
@pytest.mark.parametrize('name', COMPOSED)
def test_blocks_of_another_place_give_the_whole(name, given):
    "Value and gradient; random numbers are drawn once per step."
    z, _ = views()
    more, kwargs, rule = COMPANIONS[given]
    loss = EVERY[name](0.5)
    if 'labels' in kwargs:
        without_prior(loss)
    unseeded(loss)
    found = []
    for chunk_size in (None, 5):
        torch.manual_seed(0)
        leaves = [x.clone().requires_grad_() for x in (*z, *more)]
        loss.pairs, loss.chunk_size = rule, chunk_size
        value = loss(*leaves, **kwargs)
        found.append([value.detach(), *torch.autograd.grad(value, leaves[:1])])
    assert_close(*found)


@pytest.mark.parametrize('name', COMPOSED)
def test_a_replaced_contrast_of_another_place_is_a_fresh_one(name):
    (z1, z2), (o1, o2) = views()[0], views(seed=3)[0]
    loss = EVERY[name](0.5)
    if loss.synthesis is None:
        pytest.skip('it reads its tables only')
    c, other = loss.contrast(z1, z2), loss.contrast(o1, o2)
    loss.synthesis(c)
    new = dict(anchors=other.anchors, candidates=other.candidates, logits=other.logits)
    found, fresh = loss.synthesis(replace(c, **new)), loss.synthesis(other)
    assert_close(found.logits, fresh.logits)
    assert found.negative.equal(fresh.negative)


@pytest.mark.parametrize('name', OTHERS)
def test_blocks_and_any_order_give_the_same_loss(name):
    "Of strategies that are more than weights: value and gradient of every anchor."
    (z1, z2), h = views()
    y, order = torch.tensor([0, 0, 1, 1, -1, 2]), torch.tensor([3, 0, 5, 1, 4, 2])
    found = []
    for size, at in ((None, torch.arange(6)), (5, torch.arange(6)), (None, order)):
        loss = EVERY[name](0.5)
        loss.chunk_size, loss.reduction = size, 'none'
        a, b = (z[at].clone().requires_grad_() for z in (z1, z2))
        given = dict(hidden=(h[0][at], h[1][at]))
        losses = loss(a, b, labels=None if tau_plus(loss) else y[at], **given)
        losses.square().sum().backward()
        back = at.argsort()
        per_view = losses.detach().view(2, 6)[:, back]
        found.append([per_view, a.grad[back], b.grad[back]])
    assert_close(found[1], found[0])
    assert_close(found[2], found[0])


def farther_samples(anchors, candidates):
    "An own rule: neighbours in the batch are left out."
    roles = rules.views(anchors, candidates)
    distance = (anchors.sample[:, None] - candidates.sample).abs()
    return roles.positive, roles.negative & (distance > 1)


def farther_by_replacement(anchors, candidates):
    "The same rule, written as a change of the roles that another rule returned."
    roles = rules.views(anchors, candidates)
    _, negative = farther_samples(anchors, candidates)
    if is_dataclass(roles):
        return replace(roles, negative=negative)
    return roles._replace(negative=negative)


@of_any_place
@pytest.mark.parametrize('chunk_size', (None, 5))
def test_a_rule_made_of_the_roles_of_another(name, chunk_size):
    "What `views` knew of its own negatives is forgotten."
    (z1, z2), hidden = views()
    found = []
    for rule in (farther_samples, farther_by_replacement):
        loss = EVERY[name](0.5)
        loss.pairs, loss.chunk_size = rule, chunk_size
        found.append(loss(z1, z2, hidden=hidden))
    assert_close(*found)


@every_loss
def test_a_replaced_contrast_is_a_fresh_one(name):
    "Nothing that was prepared for other negatives or other embeddings is used again."
    if name in CHOOSING_PAIRS:
        pytest.skip('its roles follow from the embeddings, which are replaced here')
    (z1, z2), hidden = views()
    (o1, o2), other_hidden = views(seed=3)
    loss = LOSSES[name](0.5)
    loss.pairs = None
    c = loss.contrast(z1, z2, hidden=hidden)
    loss.log_weights(c)
    other = loss.contrast(o1, o2, hidden=other_hidden)
    new = dict(anchors=other.anchors, candidates=other.candidates, logits=other.logits)
    assert_close(loss.log_weights(replace(c, **new)), loss.log_weights(other))
    loss.pairs = farther_samples
    fresh = loss.contrast(z1, z2, hidden=hidden)
    assert (fresh.k < c.k).all()
    fewer = replace(c, negative=fresh.negative)
    assert_close(loss.log_weights(fewer), loss.log_weights(fresh))
    losses = loss.loss(fewer, loss.log_weights(fewer))
    assert_close(losses.mean(), loss(z1, z2, hidden=hidden))


@of_any_place
def test_a_temperature_that_learns_changes_no_number(name):
    found = []
    learned = LearnedTemperature(0.5).double()
    for t in (learned().item(), learned):
        (z1, z2), hidden = views()
        loss = EVERY[name](t)
        z1.requires_grad_()
        value = loss(z1, z2, hidden=hidden)
        value.backward()
        log_w = loss.log_weights(loss.contrast(z1, z2, hidden=hidden))
        found.append([value.detach(), z1.grad, log_w.detach()])
    assert_close(*found)
    reads_it = name not in registry.known() or registry.known()[name].has_temperature
    assert learned.x.grad.isfinite() and (learned.x.grad != 0 or not reads_it)


@on_devices
def test_compiles_without_a_break(name):
    (z1, z2), hidden = views(dtype=torch.float32)
    loss = EVERY[name](0.5)
    unseeded(loss)  # a seed would break the graph
    torch._dynamo.reset()
    results = []
    for f in (loss, torch.compile(loss, fullgraph=True, backend='eager')):
        torch.manual_seed(0)
        a, b = z1.clone().requires_grad_(), z2.clone().requires_grad_()
        value = f(a, b, hidden=hidden)
        value.backward()
        results.append((value.detach(), a.grad, b.grad))
    assert_close(*results)


def fake_tensors_can_be_indexed():
    "PyTorch 2.8 asks for a CUDA driver when a fake tensor of a GPU is indexed."
    with FakeTensorMode():
        try:
            return torch.empty(2, device='cuda')[:, None].shape == (2, 1)
        except RuntimeError:
            return False


@pytest.mark.skipif(
    not fake_tensors_can_be_indexed(),
    reason='this PyTorch cannot index fake tensors of a GPU without a driver',
)
@on_devices
def test_everything_stays_on_the_device(name):
    # without gradient: PyTorch asks for a driver when it goes backward on a GPU
    with FakeTensorMode(), torch.no_grad():
        z1, z2, h1, h2 = (torch.empty(6, n, device='cuda') for n in (8, 8, 5, 5))
        ids = torch.empty(6, dtype=torch.long, device='cuda')
        companions = (
            ((), dict(hidden=(h1, h2))),
            ((), dict(sample_ids=ids)),
            ((), dict(negatives=torch.empty(3, 8, device='cuda'))),
            ((), dict(queue=KeyQueue(4, 8).to('cuda'))),
            ((z1,), dict(hidden=(h1, h2, h1))),
        )
        with torch.device('cuda'):
            learned = LearnedTemperature(0.5)
        calls = [(0.5, *x) for x in companions] + [(learned, *companions[0])]
        for t, more, given in calls:
            loss = EVERY[name](t)
            for loss.chunk_size in (None, 4):
                labelled = dict(true_labels=ids, return_stats=True)
                value, stats = loss(z1, z2, *more, **labelled, **given)
                places = {x.device.type for x in (value, *stats.values())}
                assert places == {'cuda'}


@of_any_place
def test_bfloat16_autocast_is_float32_of_rounded_inputs(name):
    (z1, z2), h = views(dtype=torch.bfloat16)
    with torch.autocast('cpu', torch.bfloat16):
        low = EVERY[name](0.5)(z1, z2, hidden=h)
    widened = tuple(x.float() for x in h)
    full = EVERY[name](0.5)(z1.float(), z2.float(), hidden=widened)
    assert low.dtype == torch.float32
    assert_close(low, full, rtol=1e-6, atol=1e-6)


def test_labels_are_read_by_no_weighting():
    (z1, z2), hidden = views()
    y = torch.tensor([0, 0, 1, 1, 2, 2])
    for name, make in EVERY.items():
        given = dict(hidden=hidden, true_labels=y, return_stats=True)
        value, stats = make(0.5)(z1, z2, **given)
        assert value == make(0.5)(z1, z2, hidden=hidden), name
        for x in stats.values():
            assert x.ndim == 0 and x.dtype == torch.float32 and not x.requires_grad


@pytest.mark.parametrize('rule', (rules.views, supervised), ids=('views', 'supervised'))
def test_constant_weights_pass_gradcheck(rule):
    (z1, z2), _ = views(b=3)
    generator = torch.Generator().manual_seed(0)
    log_w = torch.randn(6, 6, dtype=torch.float64, generator=generator)

    def f(a, b):
        e = embeddings.from_views([a, b], labels=torch.tensor([0, 1, 0]))
        c = contrast.compare(e, e, rule, 0.5)
        return InfoNCE(0.05)(c, log_w.masked_fill(~c.negative, -math.inf))

    assert torch.autograd.gradcheck(f, [z1.requires_grad_(), z2.requires_grad_()])
