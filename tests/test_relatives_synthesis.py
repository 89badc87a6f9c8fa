"Made-up negatives: where each formula puts them, and with which chances."

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from scipy.optimize import minimize
from torch.testing import assert_close

from unremix import ContrastiveLoss, embeddings, rules
from unremix.config import assign, criterion_of, TrainConfig
from unremix.contrast import compare, with_prepared
from unremix.hard_negatives import HCL, uniform
from unremix.info_nce import InfoNCE
from unremix.mixtures import MMix, SSCL, SynCo, sscl_parts
from unremix.one_class import MiOC, inside_sphere
from unremix.queue import KeyQueue
from unremix.registry import known
from unremix.synthesis import MoCHi, beside_average, with_synthetic
from unremix.unremix import UnReMix

T = 0.3
KINDS = 'interpolated', 'extrapolated', 'mixed', 'noisy', 'stepped', 'signed'
OFF = dict.fromkeys(KINDS, 0)


def numbers(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def contrast_of(b=6, d=8, seed=0, count=2):
    z = list(numbers(count, b, d, seed=seed))
    z[1:] = [z[0] + x for x in z[1:]]
    e = embeddings.from_views(z)
    return compare(e, e, rules.views, T)


def hardest_of(c, i, most):
    negatives = [j for j in range(len(c.candidates)) if c.negative[i, j]]
    return sorted(negatives, key=lambda j: -c.logits[i, j].item())[:most]


def unit(x):
    return x / math.sqrt(sum(y * y for y in x.tolist()))


# ---------------------------------------------------------------- by definition
def by_hand_mochi(c, part, draws):
    rows = []
    for i in range(len(c.logits)):
        near = hardest_of(c, i, part.hardest)
        for s in range(part.count + part.with_anchor):
            u, v, share = (x[i, s].item() for x in draws)
            x = c.candidates.z[near[int(u * len(near))]]
            if s < part.count:
                y = c.candidates.z[near[int(v * len(near))]]
                made = share * x + (1 - share) * y
            else:
                made = share / 2 * c.anchors.z[i] + (1 - share / 2) * x
            rows.append(c.anchors.z[i] @ unit(made) / T)
    return torch.stack(rows).view(len(c.logits), -1)


def by_hand_synco(c, part, moves):
    counts = [getattr(part, name) for name in KINDS]
    kinds = [k for k, n in enumerate(counts) for _ in range(n)]
    rows = []
    for i in range(len(c.logits)):
        near = hardest_of(c, i, part.hardest)
        q, noise = c.anchors.z[i], iter(moves.noise[i])
        for s, kind in enumerate(kinds):
            u, v, share = (x[i, s].item() for x in moves[:3])
            x, y = (c.candidates.z[near[int(r * len(near))]] for r in (u, v))
            if kind == 0:
                made = share / 2 * q + (1 - share / 2) * x
            elif kind == 1:
                made = q + (1 + share / 2) * (x - q)
            elif kind == 2:
                made = share * x + (1 - share) * y
            elif kind == 3:
                made = x + part.sigma * next(noise)
            elif kind == 4:
                made = x + part.delta * q
            else:
                made = x + part.eta * torch.tensor([math.copysign(1, a) for a in q])
            rows.append(q @ unit(made) / T)
    return torch.stack(rows).view(len(c.logits), -1)


def by_hand_mmix(c, part, prepared):
    rows = []
    for i in range(len(c.logits)):
        z = c.candidates.z
        some = [
            j
            for j in range(len(z))
            if c.negative[i, j] and c.anchors.z[i] @ z[j] > part.threshold
        ]
        if not some:
            rows.append(torch.tensor(math.nan, dtype=torch.float64))
            continue
        p = [math.exp(part.sharpness * (c.anchors.z[i] @ z[j])) for j in some]
        made = sum(x / sum(p) * z[j] for x, j in zip(p, some))
        rows.append(c.anchors.z[i] @ unit(made) / T)
    return torch.stack(rows)[:, None]


SEEDED = {
    'mochi': (MoCHi(4, 5, seed=1, with_anchor=3), by_hand_mochi),
    'mochi, one': (MoCHi(1, 2, seed=1, with_anchor=2), by_hand_mochi),
    'mochi, all': (MoCHi(64, 2, seed=2, with_anchor=9), by_hand_mochi),
    'synco': (SynCo(5, 3, 4, 5, 2, 3, 2, 0.3, 0.2, 0.1, seed=1), by_hand_synco),
    'synco, noisy': (SynCo(64, **OFF | dict(noisy=3), seed=4), by_hand_synco),
    'mmix': (MMix(0.45, sharpness=4.0), by_hand_mmix),
    'mmix, plain': (MMix(-1.0, sharpness=0.0), by_hand_mmix),
}
seeded = pytest.mark.parametrize('name', SEEDED)


@seeded
@pytest.mark.parametrize('count', (2, 3))
def test_by_hand(name, count):
    part, by_hand = SEEDED[name]
    c = contrast_of(count=count)
    n = len(c.candidates)
    prepare = getattr(part, 'prepare', lambda *given: None)
    expected = by_hand(c, part, prepare(c.anchors, c.candidates, rules.views, T))
    more = part(c)
    assert more.synthetic == expected.shape[1] > 0
    some = ~expected.isnan()
    assert (more.negative[:, n:] == some).all() and not more.positive[:, n:].any()
    assert_close(more.logits[:, n:][some], expected[some], rtol=1e-8, atol=1e-8)
    assert_close(more.logits[:, :n], c.logits, rtol=0, atol=0)
    assert name != 'mmix' or 0 < some.sum() < len(some)


def test_nothing_above_the_threshold():
    c = contrast_of()
    more = MMix(0.999)(c)
    assert (more.k == c.k).all() and more.logits.isfinite().all()
    losses = [InfoNCE()(x, uniform(x)) for x in (c, more)]
    assert_close(*losses)


def test_mmix_with_a_sharp_softmax_is_the_hardest():
    c = contrast_of()
    nearest = c.logits.masked_fill(~c.negative, -math.inf).amax(1)
    assert_close(MMix(-1.0, sharpness=1e5)(c).logits[:, 12], nearest)


# ---------------------------------------------------------------- chances
def shares_of(c, part, most):
    "Of each made-up negative, in the basis of the hardest and the anchor: (a s m+1)."
    made = F.normalize(part.made(c), dim=2)
    found = []
    for i in range(len(c.logits)):
        near = hardest_of(c, i, most)
        basis = torch.stack([*c.candidates.z[near], c.anchors.z[i]], 1)
        x = torch.linalg.lstsq(basis, made[i].T).solution.T
        assert_close(x @ basis.T, made[i], rtol=1e-7, atol=1e-7)
        found.append(x / x.sum(1, keepdim=True))
    return torch.stack(found)


def assert_uniform(x, low, high):
    assert low <= x.min() and x.max() <= high
    assert stats.kstest(x.numpy(), 'uniform', (low, high - low)).pvalue > 0.001
    assert x.max() > high - 0.02 * (high - low) and x.min() < low + 0.02 * (high - low)


PAIRS = {
    'mochi': MoCHi(5, 200, seed=7),
    'synco': SynCo(5, **OFF | dict(mixed=200), seed=7),
    'sscl': SSCL(5, 200, seed=7),
}


@pytest.mark.parametrize('name', PAIRS)
def test_chances_of_two_negatives(name):
    "α ~ U(0, 1), and each of the 25 pairs equally often."
    shares = shares_of(contrast_of(), PAIRS[name], 5).flatten(0, 1)
    assert (shares[:, 5].abs() < 1e-6).all()
    used = shares[:, :5].abs() > 1e-6
    two = used.sum(1) == 2
    assert (used.sum(1) >= 1).all() and (used.sum(1) <= 2).all()
    assert abs((~two).double().mean() - 1 / 5) < 0.03
    first = torch.stack([x[y][0] for x, y in zip(shares[two, :5], used[two])])
    assert_uniform(first, 0, 1)
    pairs = [tuple(y.nonzero()[:, 0].tolist()) for y in used[two]]
    often = np.unique(pairs, axis=0, return_counts=True)[1]
    assert len(often) == 10 and stats.chisquare(often).pvalue > 0.001


ANCHORED = {
    'mochi': (MoCHi(5, 0, seed=7, with_anchor=200), (0, 0.5)),
    'interpolated': (SynCo(5, **OFF | dict(interpolated=200), seed=7), (0, 0.5)),
    'extrapolated': (SynCo(5, **OFF | dict(extrapolated=200), seed=7), (-0.5, 0)),
}


@pytest.mark.parametrize('name', ANCHORED)
def test_chances_of_the_anchor(name):
    "β ~ U(0, ½) is the anchor's share; beyond the negative it is 1 − β ~ U(−½, 0)."
    part, (low, high) = ANCHORED[name]
    shares = shares_of(contrast_of(), part, 5).flatten(0, 1)
    assert_uniform(shares[:, 5], low, high)
    used = shares[:, :5].abs() > 0.25
    assert (used.sum(1) == 1).all()
    often = used.sum(0).numpy()
    assert stats.chisquare(often).pvalue > 0.001


def test_noise_is_normal_and_steps_are_exact():
    c = contrast_of(b=4)
    part = SynCo(1, 0, 0, 0, 100, 2, 2, 0.02, 0.03, 0.04, seed=5)
    made = part.made(c)
    near = torch.stack([c.candidates.z[hardest_of(c, i, 1)[0]] for i in range(8)])
    moved = made - near[:, None]
    noise = (moved[:, :100] / 0.02).flatten().numpy()
    assert stats.kstest(noise, 'norm').pvalue > 0.001
    steps = c.anchors.z[:, None].expand(-1, 2, -1)
    assert_close(moved[:, 100:102], 0.03 * steps)
    assert_close(moved[:, 102:], 0.04 * steps.sign())


def test_draws_differ_from_step_to_step_and_repeat_with_a_seed():
    c = contrast_of()
    for kind in (MoCHi, SynCo, MiOC, SSCL):
        assert not kind()(c).logits.equal(kind()(c).logits)
        assert kind(seed=3)(c).logits.equal(kind(seed=3)(c).logits)
        assert not kind(seed=3)(c).logits.equal(kind(seed=4)(c).logits)


# ---------------------------------------------------------------- SSCL
@pytest.mark.parametrize('tau_plus', (0.0, 0.1, 0.6))
def test_sscl_is_its_released_formula(tau_plus):
    "With the mixing line in use; exponentials, one anchor at a time."
    z1, z2 = contrast_of().candidates.z.chunk(2)
    part = SSCL(4, 5, seed=3, beta=1.7)
    loss = ContrastiveLoss(**sscl_parts(part), loss=InfoNCE(tau_plus), temperature=T)
    c = contrast_of()
    mixed = by_hand_mochi(c, part, part.prepare(c.anchors, c.candidates, None, T))
    expected, N = [], 2 * 6 - 2 + 5
    for i in range(12):
        pos = math.exp(c.logits[i, (i + 6) % 12])
        real = [c.logits[i, j].item() for j in range(12) if j % 6 != i % 6]
        neg = [math.exp(s) for s in [*real, *mixed[i].tolist()]]
        imp = [math.exp(1.7 * math.log(x)) for x in neg]
        mean = sum(imp) / len(imp)
        total = sum(w * x for w, x in zip(imp, neg)) / mean
        total = (total - tau_plus * N * pos) / (1 - tau_plus)
        total = max(total, N * math.exp(-1 / T))
        expected.append(-math.log(pos / (pos + total)))
    assert_close(loss(z1, z2).item(), np.mean(expected), rtol=1e-8, atol=1e-8)


def test_sscl_differentiates_through_its_weights():
    found = []
    for detach in (False, True):
        z1, z2 = (x.clone().requires_grad_() for x in contrast_of().anchors.z.chunk(2))
        parts = sscl_parts(SSCL(4, 5, seed=3, detach=detach))
        ContrastiveLoss(**parts)(z1, z2).backward()
        found.append(z1.grad)
        assert parts['weights'] == HCL(1.0, detach)
    assert (found[0] - found[1]).abs().max() > 1e-3


def test_sscl_is_refused_beside_weights_that_ignore_its_beta():
    part, z = SSCL(4, 5, seed=3, beta=2.0), contrast_of().anchors.z.chunk(2)
    detached = HCL(2.0, detach=True)
    for weights in (uniform, HCL(), detached, UnReMix(beta=2.0, detach=False)):
        with pytest.raises(ValueError, match=r'^weights must be HCL\(2.0, False\), as '):
            ContrastiveLoss(weights, synthesis=part)
    with pytest.raises(ValueError, match='^weights must be HCL'):
        ContrastiveLoss(synthesis=SSCL())
    loss = ContrastiveLoss(**sscl_parts(part))
    assert loss(*z).isfinite()
    loss.weights = HCL(1.0)
    with pytest.raises(ValueError, match='^weights must be HCL'):
        loss(*z)


def test_the_stored_code_of_sscl_repeats_negatives():
    "α = 1: each made-up column is one of the four hardest real ones."
    c, part = contrast_of(), SSCL(4, 5, seed=3)
    draws = part.prepare(c.anchors, c.candidates, rules.views, T)
    ones = draws._replace(share=torch.ones_like(draws.share))
    more = part(with_prepared(c, ones))
    for i in range(12):
        real = c.logits[i, hardest_of(c, i, 4)]
        away = (more.logits[i, 12:, None] - real).abs().amin(1)
        assert (away < 1e-12).all()


# ---------------------------------------------------------------- MiOC
def sphere_by_dual(x, gamma, nu):
    "f(x_i) = Σ_j α_j k(x_i, x_j) − ρ from the dual problem, by another solver."
    n = len(x)
    k = np.array([[math.exp(-gamma * ((a - b) ** 2).sum()) for b in x] for a in x])
    high = 1 / (nu * n)
    start = np.full(n, 1 / n)
    found = minimize(
        lambda a: 0.5 * a @ k @ a,
        start,
        jac=lambda a: k @ a,
        bounds=[(0, high)] * n,
        constraints=dict(type='eq', fun=lambda a: a.sum() - 1),
        method='SLSQP',
        options=dict(ftol=1e-14, maxiter=1000),
    )
    alpha = found.x
    on = (alpha > 1e-6) & (alpha < high - 1e-6)
    return k @ alpha - (k @ alpha)[on].mean()


def heap(b, far):
    "Directions of one side, and a few of any other."
    z = 0.4 * numbers(b, 3) + torch.tensor([1.0, 0, 0], dtype=torch.float64)
    z[:far] = numbers(far, 3, seed=1)
    return F.normalize(z, dim=1)


@pytest.mark.parametrize('gamma, nu', ((1.0, 0.3), (0.5, 0.5), (2.0, 0.5)))
def test_the_sphere_is_that_of_another_solver(gamma, nu):
    z = heap(30, 6)
    expected = sphere_by_dual(z.numpy(), gamma, nu) > -1e-4
    found = inside_sphere(z, z, gamma, nu).numpy()
    assert (found == expected).all() and (~found).mean() <= nu
    assert not found.all()
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    assert inside_sphere(z[order], z, gamma, nu).numpy().tolist() == found.tolist()


def shares_of_queries(c, part):
    "Of each shared negative: the query's share, and how far off the line it is."
    z, at = part.prepare(c.anchors, c.candidates, rules.views, T)
    shares = []
    for made, n in zip(z, c.candidates.z[at]):
        along = c.anchors.z - n
        share = (along @ (made - n)) / along.square().sum(1).clamp_min(1e-12)
        off = (n + share[:, None] * along - made).norm(dim=1)
        assert off.min() < 1e-10
        shares.append(share[off.argmin()])
    return torch.stack(shares), at


def test_chances_of_mioc():
    c = contrast_of(b=10)
    part = MiOC(anywhere=2000, inside=0, seed=2)
    shares, at = shares_of_queries(c, part)
    others = shares[shares.abs() > 1e-9]  # whose query is not its own negative
    assert_uniform(others, 0, 0.5)
    assert stats.chisquare(at.bincount(minlength=20)).pvalue > 0.001


def test_mioc_takes_those_inside():
    "And each is a negative of whom its candidate is a negative."
    e = embeddings.from_views(list(heap(20, 4).chunk(2)))
    c = compare(e, e, rules.views, T)
    part = MiOC(anywhere=200, inside=300, gamma=1.0, nu=0.4, seed=2)
    _, at = part.prepare(c.anchors, c.candidates, rules.views, T)
    inner = inside_sphere(c.candidates.z, c.candidates.z, 1.0, 0.4)
    assert 0 < (~inner).sum() <= 8
    assert inner[at[200:]].all() and not inner[at[:200]].all()
    assert set(at[200:].tolist()) == set(inner.nonzero()[:, 0].tolist())
    more = part(c)
    assert more.negative[:, 20:].equal(c.negative[:, at])
    z, _ = part.prepare(c.anchors, c.candidates, rules.views, T)
    expected = torch.stack([c.anchors.z @ unit(x) for x in z], 1) / T
    assert_close(more.logits[:, 20:], expected, rtol=1e-8, atol=1e-8)


def test_mioc_takes_the_queue_where_there_is_one():
    queue = KeyQueue(6, 8).double()
    queue.push(numbers(4, 8, seed=3))
    seen = []

    class Seen(MiOC):
        def prepare(self, anchors, candidates, rule, temperature):
            found = super().prepare(anchors, candidates, rule, temperature)
            seen.append((found.at, candidates.view))
            return found

    loss = ContrastiveLoss(synthesis=Seen(anywhere=50, inside=50, seed=0))
    assert loss(*numbers(2, 5, 8), queue=queue).isfinite()
    at, view = seen[0]
    assert (view[at] == embeddings.MEMORY).all() and len(at.unique()) == 4


def test_mioc_under_transforms():
    "Its negatives are constants of a transform too."
    z1, z2 = numbers(2, 6, 8)
    loss = ContrastiveLoss(synthesis=MiOC(seed=0))
    x = z1.clone().requires_grad_()
    value = loss(x, z2)
    value.backward()
    grad, found = torch.func.grad_and_value(loss)(z1, z2)
    assert_close(found, value.detach())
    assert_close(grad, x.grad)
    assert_close(torch.func.vjp(lambda z: loss(z, z2), z1)[1](value.detach())[0], grad * value.detach())


def test_mioc_compiles_with_a_break():
    z1, z2 = numbers(2, 6, 8).float()
    loss = ContrastiveLoss(synthesis=MiOC(seed=0))
    torch._dynamo.reset()
    assert_close(torch.compile(loss, backend='aot_eager')(z1, z2), loss(z1, z2))


# ---------------------------------------------------------------- all of them
PARTS = dict(
    mochi=MoCHi(4, 3, seed=0, with_anchor=2),
    synco=SynCo(4, 2, 2, 2, 2, 2, 2, seed=0),
    sscl=SSCL(4, 3, seed=0),
    mioc=MiOC(5, 5, seed=0),
    mmix=MMix(0.1),
)
every_part = pytest.mark.parametrize('name', PARTS)


def test_all_are_here():
    here = {s for s, x in known().items() if x.place == 'synthesis'}
    assert here == set(PARTS)
    for name, part in PARTS.items():
        assert type(part) is known()[name].kind


@every_part
def test_made_up_negatives_are_constants(name):
    "The gradient goes through the anchor alone."
    z = numbers(12, 8).requires_grad_()
    e = embeddings.from_views(list(z.chunk(2)))
    c = compare(e, e.detach(), rules.views, T)
    columns = PARTS[name](c).logits[:, 12:]
    fixed = compare(e.detach(), e.detach(), rules.views, T)
    made = getattr(PARTS[name], 'made', None)
    if made is None:
        vectors = PARTS[name].prepare(e.detach(), e.detach(), rules.views, T).z
    else:
        vectors = made(fixed)
    vectors = F.normalize(vectors, dim=-1).expand(12, -1, -1)
    expected = torch.einsum('ad,asd->as', e.z, vectors) / T
    assert_close(columns, expected)
    weights = numbers(*columns.shape, seed=1)
    found, wanted = (
        torch.autograd.grad((x * weights).sum(), z, retain_graph=True)[0]
        for x in (columns, expected)
    )
    assert_close(found, wanted)


@every_part
@pytest.mark.parametrize('size', (1, 5, 12))
def test_blocks_are_the_whole(name, size):
    "Also without a seed, as the random numbers are drawn once per step."
    part = PARTS[name]
    if hasattr(part, 'seed'):
        part = replace(part, seed=None)
    found = []
    for chunk_size in (None, size):
        torch.manual_seed(0)
        z = numbers(2, 6, 8).requires_grad_()
        loss = ContrastiveLoss(HCL(), synthesis=part, chunk_size=chunk_size)
        value, stats = loss(*z, return_stats=True)
        found.append((value.detach(), torch.autograd.grad(value, z)[0], stats))
    assert_close(*found)


@every_part
def test_a_permuted_batch_with_permuted_draws(name):
    c, part = contrast_of(), PARTS[name]
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    both = torch.cat([order, order + 6])
    z = c.anchors.z[both]
    e = embeddings.from_views(list(z.chunk(2)))
    moved = compare(e, e, rules.views, T)
    if name == 'mioc':
        shared = part.prepare(c.anchors, c.candidates, rules.views, T)
        place = both.argsort()
        moved = with_prepared(moved, shared._replace(at=place[shared.at]))
    elif name != 'mmix':
        draws = part.prepare(c.anchors, c.candidates, rules.views, T)
        moved = with_prepared(moved, type(draws)(*(x[both] for x in draws)))
    found, expected = part(moved), part(c)
    assert_close(found.logits[:, 12:], expected.logits[both][:, 12:])
    assert found.negative[:, 12:].equal(expected.negative[both][:, 12:])


@every_part
@pytest.mark.parametrize('weights', (uniform, HCL(), UnReMix()), ids=repr)
def test_weights_of_made_up_negatives(name, weights):
    "Average 1 over all that count, and −inf elsewhere."
    c = replace(PARTS[name], active=0.5)(contrast_of())
    log_w = weights(c)
    assert_close(log_w.exp().sum(1), c.k)
    assert (log_w[~c.negative] == -math.inf).all()
    assert log_w[c.negative].isfinite().all()


def test_mochi_then_hcl_by_hand():
    c = contrast_of()
    more = PARTS['mochi'](c)
    found = InfoNCE()(more, HCL(2.0)(more))
    for i in range(12):
        s = more.logits[i, more.negative[i]].tolist()
        w = [math.exp(2 * x) for x in s]
        total = sum(y * math.exp(x) for x, y in zip(s, w)) / (sum(w) / len(w))
        pos = math.exp(c.logits[i, (i + 6) % 12])
        assert_close(found[i].item(), -math.log(pos / (pos + total)))


@every_part
def test_warm_up(name):
    "With 0 nothing counts, with 1 everything, and the shapes stay."
    c = contrast_of()
    none, some = (replace(PARTS[name], active=a)(c) for a in (0.0, 1.0))
    assert none.logits.shape == some.logits.shape and (none.k == c.k).all()
    assert (some.k >= c.k).all() and (some.k > c.k).any()
    assert_close(InfoNCE()(none, uniform(none)), InfoNCE()(c, uniform(c)))
    assert_close(beside_average(uniform(c), none), uniform(none))


def test_half_of_each_kind():
    c = contrast_of()
    part = MoCHi(4, 4, seed=0, with_anchor=2, active=0.5)
    counted = [True, True, False, False, True, False]
    assert part(c).negative[:, 12:].tolist() == [counted] * 12
    part = SynCo(4, **dict.fromkeys(KINDS, 2), seed=0, active=0.5)
    assert part(c).negative[:, 12:].tolist() == [[True, False] * 6] * 12


@every_part
def test_an_anchor_without_negatives_gets_none(name):
    c = contrast_of()
    lonely = c.negative & (torch.arange(12) > 0)[:, None]
    more = PARTS[name](replace(c, negative=lonely))
    assert more.k[0] == 0 and more.logits.isfinite().all()
    assert_close(InfoNCE()(more, HCL()(more))[0], torch.zeros_like(more.k[0]))


@every_part
def test_one_on_top_of_another(name):
    "What was made up before stays, and is not mixed again."
    c = contrast_of()
    first = with_synthetic(c, c.anchors.z[:, None])
    found = PARTS[name](with_prepared(first, None))
    assert_close(found.logits[:, 13:], PARTS[name](c).logits[:, 12:])
    assert found.synthetic == 1 + PARTS[name](c).synthetic


@every_part
def test_nan_gives_nan(name):
    z1, z2 = numbers(2, 6, 8)
    z1[2, 0] = math.nan
    weights = HCL() if name == 'sscl' else uniform
    assert ContrastiveLoss(weights, synthesis=PARTS[name])(z1, z2).isnan()


@pytest.mark.parametrize('name', PARTS)
def test_a_run_has_it(name):
    "From its name to a loss, with the warm-up as a knob that moves."
    loss = criterion_of(TrainConfig(strategy=name))
    assert type(loss.synthesis) is type(PARTS[name])
    assert loss.weights == (HCL() if name == 'sscl' else uniform)
    assert loss.loss.tau_plus == (0.1 if name == 'sscl' else 0.0)
    z1, z2 = numbers(2, 6, 8)
    full = loss(z1, z2)
    assign(loss, 'active', 0.0)
    plain = ContrastiveLoss(loss.weights, loss=loss.loss)(z1, z2)
    assert_close(loss(z1, z2), plain)
    assert name == 'mmix' or full != plain


def test_a_knob_of_both_parts_moves_in_both():
    loss = criterion_of(TrainConfig(strategy='sscl'))
    assign(loss, 'beta', 3.0)
    assert loss.weights.beta == loss.synthesis.beta == 3.0


REFUSED = [
    (lambda: MoCHi(hardest=0), 'hardest must be a whole number ≥ 1, got 0'),
    (lambda: MoCHi(count=-1), 'count must be a whole number ≥ 0, got -1'),
    (lambda: MoCHi(with_anchor=1.5), 'with_anchor must be a whole number ≥ 0'),
    (lambda: MoCHi(active=1.1), r'active must be a number in \[0, 1\], got 1.1'),
    (lambda: MoCHi(seed=-1), 'seed must be None or a whole number ≥ 0'),
    (lambda: SynCo(hardest=0), 'hardest must be a whole number ≥ 1'),
    (lambda: SynCo(signed=-2), 'signed must be a whole number ≥ 0'),
    (lambda: SynCo(sigma=-1), 'sigma must be a number ≥ 0, got -1'),
    (lambda: SynCo(delta=None), 'delta must be a number ≥ 0'),
    (lambda: SynCo(eta=math.nan), 'eta must be a number ≥ 0'),
    (lambda: SynCo(active=-0.1), 'active must be'),
    (lambda: SSCL(beta=-1), 'beta must be a number ≥ 0'),
    (lambda: SSCL(detach=1), 'detach must be True or False'),
    (lambda: SSCL(count=-1), 'count must be'),
    (lambda: MiOC(anywhere=-1), 'anywhere must be a whole number ≥ 0'),
    (lambda: MiOC(gamma=0), 'gamma must be a number > 0, got 0'),
    (lambda: MiOC(nu=0), r'nu must be a number in \(0, 1\], got 0'),
    (lambda: MiOC(nu=2), 'nu must be a number in'),
    (lambda: MiOC(seed='a'), 'seed must be'),
    (lambda: MMix(threshold=1.0), r'threshold must be a number in \[-1, 1\)'),
    (lambda: MMix(sharpness=-1), 'sharpness must be a number ≥ 0'),
    (lambda: MMix(active=2), 'active must be'),
]


@pytest.mark.parametrize('make, message', REFUSED)
def test_what_is_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()
