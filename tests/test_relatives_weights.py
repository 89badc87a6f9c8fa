"""Weightings by bands and by solved problems, each against another way to compute it.

The oracles are loops in plain Python over anchors and negatives, scikit-learn's support
vector machine, and POT's exact solver of optimal transport.
"""

import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.svm import SVC
from torch.testing import assert_close

from seam.relatives import Transport as SeamTransport
from threads import Threads
from unremix import ContrastiveLoss, KeyQueue
from unremix.bands import ADNCE, Given, Margin, Ring, SimANS, TopK, by_uncertainty
from unremix.contrast import compare
from unremix.embeddings import from_views
from unremix.hard_negatives import HCL, uniform
from unremix.rules import Without, supervised, views
from unremix.solved_weights import MMCL, Transport, potentials, support, times_delta
from unremix.synthesis import MoCHi
from unremix.uncertainty import UNCERTAINTIES, uncertainty
from unremix.unremix import UnReMix

CLOSE = dict(rtol=0, atol=1e-8)
LABELS = torch.tensor([0, 0, 0, 1, 1, 2, 3, -1])
RULES = {'views': views, 'supervised': supervised, 'labels': Without(views, 'label')}
each_rule = pytest.mark.parametrize('rule', RULES.values(), ids=RULES)


def numbers(b=8, d=5, dtype=torch.float64, seed=0):
    g = torch.Generator().manual_seed(seed)
    z1, z2 = torch.randn(2, b, d, generator=g, dtype=torch.float64)
    return z1.to(dtype), (z1 + 0.8 * z2).to(dtype)


def contrast(rule=views, b=8, t=0.3, labels=LABELS, **given):
    e = from_views(list(numbers(b, **given)), labels=labels)
    return compare(e, e, rule, t)


def rows(c):
    "Anchor, its negatives, their cosines, the positives' mean cosine."
    z = c.anchors.z.tolist(), c.candidates.z.tolist()
    for i, mine in enumerate(z[0]):
        cosine = [sum(x * y for x, y in zip(mine, other)) for other in z[1]]
        asked = [j for j in range(len(z[1])) if c.negative[i, j]]
        near = [cosine[j] for j in range(len(z[1])) if c.positive[i, j]]
        mean = sum(near) / len(near) if near else 0.0
        yield i, asked, [cosine[j] for j in asked], mean


def by_loops(c, formula):
    "`formula(cosines, positive)` gives one number per negative."
    w = torch.zeros_like(c.logits)
    for i, asked, cosines, positive in rows(c):
        values = formula(cosines, positive)
        for j, value in zip(asked, values, strict=True):
            w[i, j] = value * len(values) / sum(values)
    return w


def adnce(mu, sigma):
    def formula(cosines, positive):
        return [math.exp(-((x - mu) ** 2) / (2 * sigma**2)) / sigma for x in cosines]

    return formula


def simans(a, b):
    def formula(cosines, positive):
        return [math.exp(-a * (x - positive + b) ** 2) for x in cosines]

    return formula


def ring(inner, outer):
    def formula(cosines, positive):
        k = len(cosines)
        order = sorted(range(k), key=lambda j: -cosines[j])
        first, end = math.floor(inner * k), math.ceil(outer * k)
        kept = order[first : max(end, first + 1)]
        return [float(j in kept) for j in range(k)]

    return formula


def topk(nearest):
    return lambda cosines, positive: ring(0, nearest / len(cosines))(cosines, positive)


def margin(m, relative):
    def formula(cosines, positive):
        limit = positive * (1 - m) if relative else positive - m
        kept = [float(x <= limit) for x in cosines]
        return kept if any(kept) else [1.0] * len(kept)

    return formula


FORMULAS = {
    'adnce': (ADNCE(), adnce(0.7, 0.5)),
    'adnce, narrow': (ADNCE(-0.2, 0.05), adnce(-0.2, 0.05)),
    'simans': (SimANS(), simans(10.0, 0.1)),
    'simans, above': (SimANS(40.0, -0.3), simans(40.0, -0.3)),
    'ring': (Ring(), ring(0.01, 0.1)),
    'ring, wide': (Ring(0.2, 0.5), ring(0.2, 0.5)),
    'ring, thin': (Ring(0.4, 0.41), ring(0.4, 0.41)),
    'topk': (TopK(3), topk(3)),
    'topk, all': (TopK(99), lambda cosines, positive: [1.0] * len(cosines)),
    'margin': (Margin(), margin(0.1, False)),
    'margin, large': (Margin(0.9), margin(0.9, False)),
    'margin, relative': (Margin(0.5, True), margin(0.5, True)),
}


@each_rule
@pytest.mark.parametrize('name', FORMULAS)
def test_formulas_in_loops(name, rule):
    weighting, formula = FORMULAS[name]
    c = contrast(rule)
    log_w = weighting(c)
    assert_close(log_w.exp(), by_loops(c, formula), **CLOSE)
    assert not log_w.requires_grad


def test_the_settings_are_not_trivial():
    "Each kind of selection keeps some and drops some, also of several positives."
    c = contrast(supervised)
    assert 1 < c.positive.sum(1).max() and c.k.unique().numel() > 1
    for name in ('ring', 'ring, wide', 'topk', 'margin', 'margin, relative'):
        kept = (FORMULAS[name][0](c) > -math.inf).sum(1)
        assert (kept > 0).all() and (kept < c.k).any(), name
    would_lose_all = by_loops(c, margin(0.9, False))
    assert ((would_lose_all == 1).sum(1) == c.k).any()


def test_equals_at_an_edge_stay_together():
    z1, z2 = numbers(6)
    z1, z2 = z1[[0, 1, 1, 2, 3, 4]], z2[[0, 1, 1, 2, 3, 4]]
    e = from_views([z1, z2])
    c = compare(e, e)
    for weighting in (TopK(1), TopK(3), Ring(0.1, 0.5)):
        w = weighting(c).exp()
        theirs = w[[0, 3, 4, 5, 6, 9, 10, 11]]
        assert_close(theirs[:, 1], theirs[:, 2])
        assert_close(w.sum(1), c.k)


def given_by_loops(c, u):
    w = torch.zeros_like(c.logits)
    for i, asked, _, _ in rows(c):
        total = sum(u[i][j] for j in asked)
        for j in asked:
            w[i, j] = len(asked) * u[i][j] / total if total else 1.0
    return w


@each_rule
def test_any_uncertainty(rule):
    c = contrast(rule)
    u = torch.rand(16, 16, generator=torch.Generator().manual_seed(3)).double()
    assert_close(by_uncertainty(c, u).exp(), given_by_loops(c, u.tolist()), **CLOSE)
    of_candidates = u[0]
    wanted = given_by_loops(c, [of_candidates.tolist()] * 16)
    assert_close(by_uncertainty(c, of_candidates).exp(), wanted, **CLOSE)
    tiny = by_uncertainty(c, 1e-200 * u).exp()
    assert_close(tiny, given_by_loops(c, u.tolist()), **CLOSE)


@pytest.mark.parametrize('kind', UNCERTAINTIES)
def test_uncertainties_by_name(kind):
    c = contrast(labels=None)
    u = uncertainty(c, kind)
    above = (u.value - u.low).clamp_min(0).expand(16, 16).tolist()
    found = Given(uncertainty=kind)(c)
    assert_close(found.exp(), given_by_loops(c, above), rtol=0, atol=1e-5)
    same = UnReMix(mix=(1, 0, 0), normalize='sum', uncertainty=kind)
    assert_close(found, same(c))


def test_uncertainties_that_are_refused():
    c = contrast()
    for bad in (torch.ones(4), torch.ones(16, 4), 1.0):
        with pytest.raises(ValueError, match='^u must be of shape'):
            by_uncertainty(c, bad)
    with pytest.raises(
        ValueError, match='uncertainty_temperature must be left at None'
    ):
        Given(uncertainty='boundary', uncertainty_temperature=0.1)
    u = torch.ones(16, requires_grad=True)
    assert not by_uncertainty(c, u).requires_grad
    assert_close(by_uncertainty(c, -u), uniform(c))


# ---------------------------------------------------------------- transport
def sinkhorn(c, epsilon, steps):
    "Rows and columns scaled in turn, with plain exponentials and one cell at a time."
    cells = {}
    for i, asked, cosines, _ in rows(c):
        for j, cosine in zip(asked, cosines):
            cells[i, j] = math.exp(-(2 - 2 * cosine) / epsilon)
    some_rows, some_columns = ({at[x] for at in cells} for x in (0, 1))
    row = dict.fromkeys(some_rows, 1.0)
    for _ in range(steps):
        column = dict.fromkeys(some_columns, 0.0)
        for (i, j), x in cells.items():
            column[j] += x * row[i]
        column = {j: 1 / (len(column) * x) for j, x in column.items()}
        total = dict.fromkeys(some_rows, 0.0)
        for (i, j), x in cells.items():
            total[i] += x * column[j]
        row = {i: 1 / (len(row) * x) for i, x in total.items()}
    w = torch.zeros_like(c.logits)
    for (i, j), x in cells.items():
        w[i, j] = x * row[i] * column[j] * len(row) * c.k[i]
    return w


@each_rule
@pytest.mark.parametrize('epsilon, steps', [(0.7, 20), (0.7, 1), (0.1, 7)])
def test_transport_in_loops(rule, epsilon, steps):
    pytest.importorskip('ot')
    c = contrast(rule)
    found = Transport(epsilon, steps)(c).exp()
    assert_close(found, sinkhorn(c, epsilon, steps), **CLOSE)


@pytest.mark.parametrize('epsilon', (0.7, 0.2))
def test_transport_has_its_marginals_and_is_that_of_the_seam(epsilon):
    pytest.importorskip('ot')
    c = contrast()
    w = Transport(epsilon, 400)(c).exp()
    both = torch.full((16,), 14.0, dtype=w.dtype)
    assert_close(w.sum(0), both, **CLOSE)
    assert_close(w.sum(1), both, **CLOSE)
    assert_close(w, SeamTransport(epsilon, steps=400)(c).exp(), **CLOSE)
    # log plan + cost is a sum of a number per row and one per column
    scale = w.log() + (2 - 2 * c.cosine) / epsilon
    allowed = c.negative
    for i, k in ((0, 1), (2, 12), (5, 9)):
        both = allowed[i] & allowed[k]
        difference = (scale[i] - scale[k])[both]
        assert_close(difference, difference[:1].expand_as(difference))


def test_transport_becomes_the_exact_plan():
    ot = pytest.importorskip('ot')
    c = contrast(labels=None)
    cost = 2 - 2 * c.cosine
    share = np.full(16, 1 / 16)
    plan = ot.emd(share, share, torch.where(c.negative, cost, 1e3).numpy())
    lowest = (plan * cost.numpy()).sum()
    gaps = []
    for epsilon, steps in ((0.5, 100), (0.1, 2000), (0.02, 20_000), (0.006, 20_000)):
        p = Transport(epsilon, steps)(c).exp() / (16 * 14)
        gaps.append((p * cost).sum().item() - lowest)
        assert -1e-5 < gaps[-1] < epsilon * math.log(16 * 14)
    assert gaps == sorted(gaps, reverse=True) and gaps[-1] < 1e-3
    # costs are symmetric: the plan turned over is as good, and entropy takes the mean
    assert_close(p, torch.from_numpy(plan + plan.T) / 2, rtol=0, atol=1e-3)


def test_transport_of_masks_that_no_plan_can_satisfy():
    "Six of eight samples are of one class and cannot all go to the other two."
    pytest.importorskip('ot')
    labels = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1])
    for dtype in (torch.float32, torch.float64):
        c = contrast(Without(views, 'label'), labels=labels, dtype=dtype)
        for steps in (1, 20, 500):
            log_w = Transport(steps=steps)(c)
            assert log_w[c.negative].isfinite().all()
            assert_close(log_w.exp().sum(1), c.k)


def test_nobody_to_carry_to():
    cost = torch.ones(3, 4)
    nothing = torch.zeros(3, 4, dtype=torch.bool)
    pytest.importorskip('ot')
    assert potentials(cost, nothing, 0.7, 5).tolist() == [0] * 4
    few = nothing.clone()
    few[0, 1:3] = True
    g = potentials(cost, few, 0.7, 5)
    assert g[[0, 3]].tolist() == [0, 0] and g[1] == g[2] != 0


def test_transport_is_balanced_hcl():
    pytest.importorskip('ot')
    c = contrast(labels=None)
    alone = HCL(2 * 0.3 / 0.7)(c)
    difference = Transport()(c) - alone
    for i, k in ((0, 1), (3, 12)):
        both = c.negative[i] & c.negative[k]
        d = (difference[i] - difference[k])[both]
        assert_close(d, d[:1].expand_as(d))
    assert (alone.exp().sum(0) - 14).abs().max() > 1


def test_without_pot_one_sentence():
    "In a fresh process, in which the module cannot be imported."
    code = (
        "import sys; sys.modules['ot'] = None\n"
        'import torch; from unremix import ContrastiveLoss\n'
        'from unremix.solved_weights import Transport\n'
        'z = torch.randn(4, 3)\n'
        'try: ContrastiveLoss(Transport())(z, z)\n'
        'except ValueError as e: print(e)\n'
    )
    command = [sys.executable, '-c', code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    said = "transport needs POT: pip install 'unremix[ot]'"
    assert done.stdout.strip() == said, done.stderr[-500:]


# ---------------------------------------------------------------- support vectors
SETTINGS = {
    'paper': {},
    'limited': dict(bandwidth=5.0, cost=1.0),
    'narrow': dict(bandwidth=0.5, ridge=0.5),
}
each_setting = pytest.mark.parametrize('knobs', SETTINGS.values(), ids=SETTINGS)


def kernel(u, v, knobs):
    return torch.exp(-torch.cdist(u, v).square() / knobs.bandwidth)


def problem(c, i, knobs):
    "The matrix of the dual of one anchor: Δ + ρ."
    x, y = c.anchors.z[[i]], c.candidates.z[c.negative[i]]
    near = kernel(x, y, knobs)
    ridge = knobs.ridge * torch.eye(len(y), dtype=y.dtype)
    return 1 - near - near.T + kernel(y, y, knobs) + ridge


@each_rule
@each_setting
def test_optimality(rule, knobs):
    "Karush, Kuhn and Tucker: no slope inside of the box, none that leads into it."
    c = contrast(rule)
    mmcl = MMCL(**knobs, steps=4000)
    alpha = mmcl.alpha(c)
    assert (alpha[~c.negative] == 0).all() and (0 <= alpha).all()
    assert (alpha <= mmcl.cost).all()
    for i in range(16):
        a = alpha[i, c.negative[i]]
        slope = 2 - problem(c, i, mmcl) @ a
        inside = (a > 0) & (a < mmcl.cost)
        assert slope[inside].abs().max() < 1e-8 if inside.any() else True
        assert (slope[a == 0] < 1e-8).all() and (slope[a == mmcl.cost] > -1e-8).all()
    wanted = alpha * (c.k / alpha.sum(1))[:, None]
    assert_close(mmcl(c).exp(), wanted, **CLOSE)


def test_the_settings_reach_every_part_of_the_box():
    c = contrast()
    limited = MMCL(**SETTINGS['limited'], steps=4000)
    alpha = limited.alpha(c)[c.negative]
    assert (alpha == 0).any() and (alpha == limited.cost).any()
    assert ((alpha > 0) & (alpha < limited.cost)).any()


@each_setting
def test_support_vectors_of_scikit_learn(knobs):
    "LIBSVM holds the kernel in 32 bits, hence the tolerance."
    c = contrast()
    mmcl = MMCL(**knobs, steps=4000)
    alpha = mmcl.alpha(c)
    for i in (0, 5, 12):
        y = c.candidates.z[c.negative[i]]
        points = torch.cat([c.anchors.z[[i]], y])
        table = kernel(points, points, mmcl)
        table[1:, 1:] += mmcl.ridge * torch.eye(len(y), dtype=y.dtype)
        free = {1: 1e9, -1: 1.0}
        svm = SVC(C=mmcl.cost, kernel='precomputed', class_weight=free, tol=1e-9)
        svm.fit(table.numpy(), [1] + [-1] * len(y))
        wanted = torch.zeros(len(points), dtype=y.dtype)
        wanted[svm.support_] = torch.from_numpy(np.abs(svm.dual_coef_[0]))
        got = alpha[i, c.negative[i]]
        assert_close(got, wanted[1:], rtol=2e-4, atol=2e-4)


def test_the_shortcut_is_the_clipped_inverse():
    c = contrast(Without(views, 'label'))
    mmcl = MMCL(bandwidth=2.0, cost=3.0, solver='inverse', steps=4000)
    alpha = mmcl.alpha(c)
    assert (alpha == 0)[c.negative].any() and (alpha == 3).any()
    for i in range(16):
        two = torch.full((int(c.k[i]),), 2.0, dtype=torch.float64)
        wanted = torch.linalg.solve(problem(c, i, mmcl), two).clamp(0, 3)
        assert_close(alpha[i, c.negative[i]], wanted, **CLOSE)


def test_products_without_the_matrix():
    c = contrast(Without(views, 'label'))
    knobs = MMCL(bandwidth=1.0)
    v = torch.randn(16, 16, dtype=torch.float64) * c.negative
    own = torch.expm1(2 * c.cosine - 2)
    between = torch.expm1(2 * c.candidates.z @ c.candidates.z.T - 2)
    found = times_delta(v, own, between)
    for i in range(16):
        mine = c.negative[i]
        delta = problem(c, i, knobs) - knobs.ridge * torch.eye(int(mine.sum()))
        assert_close(found[i, mine], delta @ v[i, mine], **CLOSE)


def test_usual_steps_come_near():
    "What a hundred steps leave, on a batch of the usual size."
    c = contrast(b=128, d=32, labels=None, dtype=torch.float32)
    best = MMCL(steps=3000)(c).exp()
    found = MMCL()(c).exp()
    wrong = (found - best).abs().sum(1) / 2 / c.k
    assert wrong.mean() < 0.01


def test_one_who_starts_right_stays():
    "Where all entries of Δ are .4, all α are 2 / (.4 K + ρ), from the first step on."
    own, between = torch.full((2, 6), -0.3), torch.full((6, 6), -0.2)
    negative = torch.ones(2, 6, dtype=torch.bool)
    alpha = support(own, between, negative, 100.0, 0.1, 1)
    assert_close(alpha, torch.full((2, 6), 2 / (0.4 * 6 + 0.1)))


# ---------------------------------------------------------------- all of them
EVERY = [ADNCE(), SimANS(), Ring(), TopK(2), Margin(0.3), Given(), Transport(), MMCL()]
every = pytest.mark.parametrize('weighting', EVERY, ids=lambda w: type(w).__name__)


@pytest.fixture(autouse=True)
def pot(request):
    "The strategy `transport` needs the extra `ot`."
    values = request.node.callspec.params if hasattr(request.node, 'callspec') else {}
    if isinstance(values.get('weighting'), Transport):
        pytest.importorskip('ot')


@every
def test_the_gradient_is_that_of_constant_weights(weighting):
    z = [x.requires_grad_() for x in numbers()]
    loss = ContrastiveLoss(weighting, temperature=0.3)
    found = torch.autograd.grad(loss(*z), z)
    log_w = weighting(loss.contrast(*z)).detach()
    assert log_w.exp()[loss.contrast(*z).negative].std() > 0.01
    constant = ContrastiveLoss(lambda c: log_w, temperature=0.3)
    assert_close(found, torch.autograd.grad(constant(*z), z))


@every
@pytest.mark.parametrize('bad', (math.nan, math.inf))
@pytest.mark.parametrize('chunk_size', (None, 4))
def test_what_is_no_number_is_seen(weighting, bad, chunk_size):
    loss = ContrastiveLoss(weighting, chunk_size=chunk_size, reduction='none')
    z1, z2 = numbers()
    wrong = numbers(3, seed=2)[0]
    wrong[1, 1] = bad
    assert loss(z1, z2, negatives=wrong).isnan().all()
    log_w = weighting(loss.contrast(z1, z2, negatives=wrong))
    assert log_w.isnan().any(1).all()
    z1[2, 0] = bad
    assert loss(z1, z2).isnan().all()


@every
def test_made_up_negatives_are_average(weighting):
    c = contrast(labels=None)
    mochi = MoCHi(hardest=4, count=3, seed=0)
    log_w = weighting(mochi(c))
    assert log_w.shape == (16, 19)
    assert_close(log_w.exp().sum(1), torch.full((16,), 17.0, dtype=torch.float64))
    if isinstance(weighting, (Given, Transport, MMCL)):
        assert (log_w[:, 16:] == 0).all()
        assert_close(log_w[:, :16], weighting(c))


@every
def test_a_queue_and_its_blocks(weighting):
    z1, z2 = numbers()
    queue = KeyQueue(7, 5).double()
    queue.push(numbers(5, seed=4)[0])
    found = []
    for chunk_size in (None, 3):
        z = z1.clone().requires_grad_()
        value = ContrastiveLoss(weighting, chunk_size=chunk_size)(z, z2, queue=queue)
        found.append((value.detach(), torch.autograd.grad(value, z)[0]))
    assert_close(*found)
    assert found[0][0] > 0


@every
@pytest.mark.parametrize('size', (2, 4))
def test_several_processes_are_one(weighting, size):
    z = numbers()
    loss = ContrastiveLoss(weighting, reduction='none', gather_distributed=True)
    whole = loss(*z).unflatten(0, (2, size, -1))

    def work(rank):
        return loss(*(x.chunk(size)[rank] for x in z))

    for rank, mine in enumerate(Threads(size).run(work)):
        assert_close(mine, whole[:, rank].flatten())


@every
@pytest.mark.parametrize('b', (1, 2, 3))
def test_few_images_in_half_precision(weighting, b):
    z = [x.requires_grad_() for x in numbers(b, dtype=torch.float16)]
    value = ContrastiveLoss(weighting, temperature=0.05)(*z)
    value.backward()
    assert value.isfinite() and all(x.grad.isfinite().all() for x in z)
    assert (value == 0) == (b == 1)


BAD = [
    (ADNCE, dict(sigma=0.0), 'sigma must be a number ≥ 0.001, got 0.0'),
    (ADNCE, dict(mu='x'), "mu must be a number, got 'x'"),
    (SimANS, dict(sharpness=-1), 'sharpness must be a number ≥ 0, got -1'),
    (SimANS, dict(below=math.nan), 'below must be a number, got nan'),
    (Ring, dict(outer=1.5), 'outer must be a number in (0, 1], got 1.5'),
    (Ring, dict(inner=0.2), 'inner must be a number in [0, 0.1), got 0.2'),
    (Ring, dict(inner=-0.1), 'inner must be a number in [0, 0.1), got -0.1'),
    (TopK, dict(nearest=0), 'nearest must be a whole number ≥ 1, got 0'),
    (TopK, dict(nearest=2.0), 'nearest must be a whole number ≥ 1, got 2.0'),
    (Margin, dict(margin=None), 'margin must be a number, got None'),
    (Margin, dict(relative=1), 'relative must be True or False, got 1'),
    (Transport, dict(epsilon=0), 'epsilon must be a number > 0, got 0'),
    (Transport, dict(steps=0), 'steps must be a whole number ≥ 1, got 0'),
    (MMCL, dict(bandwidth=0), 'bandwidth must be a number > 0, got 0'),
    (MMCL, dict(cost=-1.0), 'cost must be a number > 0, got -1.0'),
    (MMCL, dict(ridge=0.0), 'ridge must be a number > 0, got 0.0'),
    (MMCL, dict(solver='svm'), "solver must be one of ['dual', 'inverse'], got 'svm'"),
    (MMCL, dict(steps=1.5), 'steps must be a whole number ≥ 1, got 1.5'),
]


@pytest.mark.parametrize('kind, knobs, said', BAD, ids=lambda x: str(x)[:40])
def test_numbers_out_of_range(kind, knobs, said):
    with pytest.raises(ValueError) as e:
        kind(**knobs)
    assert str(e.value) == said


def test_reductions():
    c = contrast(labels=None)
    pairs = [
        (ADNCE(0.7, 1e6), uniform),
        (SimANS(sharpness=0), uniform),
        (Ring(0, 1), uniform),
        (TopK(14), uniform),
        (Ring(0, 3 / 14), TopK(3)),
        (Margin(-2.0), uniform),
        (Margin(2.5), uniform),
        (Margin(0.0, True), Margin(0.0)),
    ]
    for one, other in pairs:
        assert_close(one(c), other(c)), (one, other)
    hardest = HCL(beta=1e6)(c).exp()
    assert_close(TopK(1)(c).exp(), hardest)
    level = replace(c, logits=torch.where(c.positive, 2.0, c.logits))  # cosine .6
    same = ADNCE(0.5, math.sqrt(1 / 20))
    assert_close(SimANS(10.0, 0.1)(level), same(level))
    assert_close(MMCL(ridge=1e7)(c), uniform(c), rtol=0, atol=1e-4)
