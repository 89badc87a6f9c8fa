"Every pair once: the losses of the whole matrix, and when it is not taken."

import math
import weakref
from dataclasses import replace
from itertools import product
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from unremix import ContrastiveLoss, DebiasedNTXentLoss, HCLLoss, MoCHi, NTXentLoss
from unremix import UnReMixLoss, pairs_in_a_loss, tiles
from unremix.embeddings import from_views
from unremix.gradient_norm import gradient_by_pairs, gradient_norm, gradient_rows
from unremix.gradient_norm import gradient_scale, is_symmetric
from unremix.hard_negatives import HCL, Uniform, uniform
from unremix.info_nce import InfoNCE, decoupled
from unremix.learned_temperature import LearnedTemperature
from unremix.pseudo_task import pseudo_task
from unremix.queue import KeyQueue
from unremix.rules import OutsideBatch, across, supervised, views
from unremix.selection import Placebo
from unremix.unremix import UnReMix

LOSSES = {
    'ntxent': lambda **k: NTXentLoss(**k),
    'ntxent cold': lambda **k: NTXentLoss(0.05, **k),
    'debiased': lambda **k: DebiasedNTXentLoss(**k),
    'debiased at the floor': lambda **k: DebiasedNTXentLoss(0.5, 0.6, **k),
    'hcl': lambda **k: HCLLoss(**k),
    'hcl 2.5': lambda **k: HCLLoss(0.2, 0.01, 2.5, **k),
    'hcl 0': lambda **k: HCLLoss(beta=0.0, **k),
    'hcl detached': lambda **k: HCLLoss(beta=1.5, detach_weights=True, **k),
}
OPTIONS = {
    'plain': {},
    'debiased': dict(tau_plus=0.1),
    'attached': dict(detach_weights=False),
    'knobs': dict(temperature=0.2, beta=2.0, kappa=(0.5, 3.0)),
    'entropy': dict(uncertainty='entropy', uncertainty_temperature=0.1),
    'u': dict(mix=(1.0, 0.0, 0.0)),
    'a': dict(mix=(0.0, 1.0, 0.0)),
    'r': dict(mix=(0.0, 0.0, 1.0)),
    'ur': dict(mix=(0.4, 0.0, 0.6)),
    'log': dict(pool='log'),
    'log attached': dict(pool='log', detach_weights=False, tau_plus=0.05),
    'log of one': dict(pool='log', kappa=(0.0, 2.0)),
    'log of none': dict(pool='log', kappa=(0.0, 0.0), beta=0.0),
}
for name, knobs in OPTIONS.items():
    LOSSES[f'unremix {name}'] = lambda knobs=knobs, **k: UnReMixLoss(**knobs, **k)
every_loss = pytest.mark.parametrize('name', LOSSES)


def numbers(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def batch(count=2, b=19, d=6, dtype=torch.float64):
    first = numbers(b, d)
    near = [first + 0.7 * numbers(b, d, seed=i + 1) for i in range(count - 1)]
    return [x.to(dtype).requires_grad_() for x in (first, *near)]


def is_once(loss, *z, **given):
    "Does this call compute every pair once?"
    seen = []

    def spy(*args):
        seen.append(True)
        return real(*args)

    real = pairs_in_a_loss.fractions
    with pytest.MonkeyPatch.context() as m:
        m.setattr(pairs_in_a_loss, 'fractions', spy)
        loss(*z, **given)
    return bool(seen)


def result(loss, z, **given):
    value = loss(*z, **given)
    scale = torch.linspace(-1, 2, value.numel(), dtype=value.dtype)
    gradient = torch.autograd.grad((value.flatten() * scale).sum(), z)
    return value.detach(), torch.stack(gradient)


def sides(m, side):
    m.setattr(tiles, 'CPU_SIDE', side)


def given_with(b, kind):
    ids = torch.arange(b) % 4 - 1  # a quarter is unknown
    return {
        'alone': {},
        'labels': dict(labels=ids),
        'copies': dict(sample_ids=ids),
        'both': dict(labels=ids, sample_ids=torch.arange(b) % 7),
        'hidden': dict(hidden=tuple(numbers(2, b, 3, seed=9).unbind())),
    }[kind]


@every_loss
@pytest.mark.parametrize('reduction', ('mean', 'sum', 'none'))
@pytest.mark.parametrize('chunk_size', (None, 8))
@pytest.mark.parametrize('side', (4, 7, 19, 512))
def test_equal_to_the_whole_matrix(name, reduction, chunk_size, side, monkeypatch):
    sides(monkeypatch, side)
    z = batch()
    given = given_with(19, 'hidden') if name.startswith('unremix') else {}
    once = LOSSES[name](reduction=reduction, chunk_size=chunk_size)
    whole = LOSSES[name](reduction=reduction, pairs_once=False)
    assert is_once(once, *z, **given) and not is_once(whole, *z, **given)
    found, expected = result(once, z, **given), result(whole, z, **given)
    assert_close(found, expected, rtol=1e-10, atol=1e-12)
    assert expected[1].abs().max() > 1e-4


@every_loss
@pytest.mark.parametrize('side', (5, 512))
def test_in_single_precision(name, side, monkeypatch):
    sides(monkeypatch, side)
    z = batch(b=40, d=16, dtype=torch.float32)
    exact = [x.detach().double().requires_grad_() for x in z]
    value, gradient = result(LOSSES[name](), z)
    _, by_whole = result(LOSSES[name](pairs_once=False), z)
    expected, right = result(LOSSES[name](pairs_once=False), exact)
    assert value.dtype == gradient.dtype == torch.float32
    assert_close(value.double(), expected, rtol=1e-6, atol=0)
    error, usual = ((x - right).abs().max() for x in (gradient, by_whole))
    # standard scores of candidates that resemble each other are less certain
    assert error <= max(1e-6 * right.abs().max(), 1.5 * usual)


@pytest.mark.parametrize('name', [n for n in LOSSES if not n.startswith('unremix')])
@pytest.mark.parametrize('kind', ('labels', 'copies', 'both'))
@pytest.mark.parametrize('side', (5, 512))
def test_with_labels_and_ids(name, kind, side, monkeypatch):
    sides(monkeypatch, side)
    given = given_with(19, kind)
    z = batch()
    knobs = dict(reduction='none')
    once, whole = LOSSES[name](**knobs), LOSSES[name](pairs_once=False, **knobs)
    if getattr(once, 'tau_plus', 0) and kind != 'copies':
        once.tau_plus = whole.tau_plus = 0.0
    assert is_once(once, *z, **given)
    found, expected = result(once, z, **given), result(whole, z, **given)
    assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize('name', ('ntxent', 'hcl', 'unremix plain', 'unremix log'))
@pytest.mark.parametrize('count, b', ((3, 7), (4, 5), (2, 1), (3, 1), (2, 2), (3, 2)))
@pytest.mark.parametrize('side', (3, 512))
def test_views_and_small_batches(name, count, b, side, monkeypatch):
    sides(monkeypatch, side)
    z = batch(count, b)
    found = result(LOSSES[name](reduction='none'), z)
    expected = result(LOSSES[name](reduction='none', pairs_once=False), z)
    assert all(x.isfinite().all() for x in found)
    assert_close(found, expected, rtol=1e-10, atol=1e-12)


SPECIAL = {
    'duplicates': lambda z: z[:1].repeat(12, 1),
    'some duplicates': lambda z: z[torch.arange(12) // 2],
    'opposite': lambda z: torch.cat([z[:6], -z[:6]]),
    'zero vectors': lambda z: z * (torch.arange(12) % 3 > 0)[:, None],
    'all zero': lambda z: z * 0,
    'orthogonal': lambda z: torch.eye(12)[:, :12].double(),
    'tiny': lambda z: z * 1e-30,
    'huge': lambda z: z * 1e15,
}


@every_loss
@pytest.mark.parametrize('case', SPECIAL)
@pytest.mark.parametrize('dtype', (torch.float32, torch.float64))
def test_special_batches(name, case, dtype):
    x = SPECIAL[case](numbers(12, 12)).to(dtype)
    z = [x.clone().requires_grad_(), x.roll(1, 0).clone().requires_grad_()]
    found = result(LOSSES[name](reduction='none'), z)
    expected = result(LOSSES[name](reduction='none', pairs_once=False), z)
    assert all(part.isfinite().all() for part in found)
    bound = 1e-9 if dtype == torch.float64 else 3e-5
    largest = expected[1].abs().max()
    assert_close(found[0], expected[0], rtol=bound, atol=bound)
    # where all are alike nothing pushes, and the gradient is rounding noise
    noise = 1e-14 if dtype == torch.float64 else 1e-5
    noise = noise / z[0].detach().norm(dim=1).clamp_min(1e-8).min()
    if case != 'duplicates':
        noise = 0
    assert (found[1] - expected[1]).abs().max() <= bound * largest + noise


@every_loss
@pytest.mark.parametrize('bad', (math.nan, math.inf))
def test_what_is_no_number_is_seen(name, bad):
    z = batch()
    with torch.no_grad():
        z[1][3, 2] = bad
    assert LOSSES[name]()(*z).isnan()


@every_loss
def test_half_precision_inputs(name):
    for dtype in (torch.float16, torch.bfloat16):
        z = [x.detach().to(dtype).requires_grad_() for x in batch()]
        rounded = [x.detach().float().requires_grad_() for x in z]
        value, gradient = result(LOSSES[name](), z)
        expected, right = result(LOSSES[name](), rounded)
        assert_close(value, expected, rtol=1e-6, atol=0)
        assert gradient.dtype == dtype and value.dtype == torch.float32
        assert_close(gradient, right.to(dtype))


@every_loss
def test_second_derivatives(name):
    "By the whole matrix, whoever asks."
    z = batch(b=5)

    def penalty(loss):
        gradient = torch.autograd.grad(loss(*z), z, create_graph=True)
        return torch.autograd.grad(sum(g.square().sum() for g in gradient), z)

    assert is_once(LOSSES[name](), *z)
    assert_close(penalty(LOSSES[name]()), penalty(LOSSES[name](pairs_once=False)))


@pytest.mark.parametrize('name', ('ntxent', 'debiased', 'hcl', 'unremix plain'))
def test_no_second_derivative_with_chunk_size(name):
    z = batch(b=5)
    loss = LOSSES[name](chunk_size=4)
    ways = (
        lambda: torch.autograd.grad(loss(*z), z, create_graph=True),
        lambda: loss(*z).backward(create_graph=True),
        lambda: torch.autograd.functional.hessian(lambda x: loss(x, z[1]), z[0]),
        lambda: torch.func.grad(lambda x: loss(x, z[1].detach()))(z[0].detach()),
        lambda: torch.func.jvp(
            lambda x: loss(x, z[1].detach()), (z[0].detach(),), (z[0].detach(),)
        ),
    )
    for way in ways:
        with pytest.raises(NotImplementedError, match='chunk_size keeps a gradient'):
            way()


def test_gradient_twice_and_not_at_all():
    z = batch()
    loss = HCLLoss()(*z)
    first = torch.autograd.grad(loss, z, retain_graph=True)
    assert_close(torch.autograd.grad(loss, z), first)
    with torch.no_grad():
        assert_close(HCLLoss()(*z), loss)
    one = z[0].detach(), z[1]
    (alone,) = torch.autograd.grad(HCLLoss()(*one), one[1])
    assert_close(alone, first[1])


@every_loss
@pytest.mark.parametrize('chunk_size', (None, 3))
def test_many_gradients_at_once(name, chunk_size, monkeypatch):
    sides(monkeypatch, 4)
    z1, z2 = batch(b=5)
    found = []
    for once in (True, False):
        loss = LOSSES[name](reduction='none', pairs_once=once)
        loss.chunk_size = chunk_size if once else None
        jacobian = torch.autograd.functional.jacobian(
            lambda z: loss(z, z2), z1.detach(), vectorize=once
        )
        found.append(jacobian)
    assert found[0].shape == (10, 5, 6)
    assert_close(*found, rtol=1e-10, atol=1e-12)


def test_a_view_changed_in_place_is_noticed():
    z = [2 * x for x in batch()]
    loss = NTXentLoss()
    from unremix.embeddings import from_views

    e = from_views(z)
    c = loss.comparison(*z)
    p = pairs_in_a_loss.pairs_of(c, uniform, None, keep=True)
    k = pairs_in_a_loss.number_of_negatives(p, e.z.detach())
    sums = pairs_in_a_loss.sums_of_pairs(p, e.z, k, lambda z: z)
    with torch.no_grad():
        e.z.add_(1)
    with pytest.raises(RuntimeError, match='modified by an inplace operation'):
        sums.log_negatives.sum().backward()


def mine(c):
    return torch.where(c.negative, 0.0, -math.inf)


class Halved(HCL):
    "A subclass that weighs in its own way."

    def __call__(self, c):
        return HCL(self.beta / 2)(c)


class Quiet(UnReMix):
    "A subclass of which a part is another."

    def opinions(self, c, u=None):
        of_uncertainty, of_distance = super().opinions(c, u)
        return of_distance, of_distance


OTHERS = {
    'a function': lambda: ContrastiveLoss(mine),
    'a subclass': lambda: ContrastiveLoss(Halved(beta=2.0)),
    'a part of a subclass': lambda: ContrastiveLoss(Quiet()),
    'a placebo': lambda: ContrastiveLoss(Placebo()),
    'decoupled': lambda: ContrastiveLoss(loss=decoupled),
    'a synthesis': lambda: ContrastiveLoss(synthesis=MoCHi(4, 2)),
    'modalities': lambda: ContrastiveLoss(pairs=across),
    'a learned temperature': lambda: NTXentLoss(LearnedTemperature()),
    'a cold temperature': lambda: NTXentLoss(0.01),
    'cold for its beta': lambda: HCLLoss(0.1, beta=4.0),
    'a large kappa': lambda: UnReMixLoss(kappa=(1.0, 30.0)),
    'an opinion of the anchor': lambda: UnReMixLoss(uncertainty='overlap'),
    'euclidean': lambda: UnReMixLoss(distance='euclidean'),
    'sums': lambda: UnReMixLoss(normalize='sum'),
    'a selection': lambda: UnReMixLoss(select='top', k_keep=3),
    'switched off': lambda: HCLLoss(pairs_once=False),
}


@pytest.mark.parametrize('case', OTHERS)
def test_what_takes_the_whole_matrix(case):
    loss, z = OTHERS[case](), batch(dtype=torch.float32)
    assert not is_once(loss, *z)
    loss.pairs_once = False
    assert loss(*z).isfinite()


def test_calls_that_take_the_whole_matrix():
    z = batch()
    queue = KeyQueue(8, 6).double()
    queue.push(numbers(8, 6, seed=5))
    assert not is_once(NTXentLoss(), *z, queue=queue)
    assert not is_once(NTXentLoss(), *z, negatives=numbers(4, 6))
    labels = torch.arange(19) % 3
    assert not is_once(NTXentLoss(pairs=supervised), *z, labels=labels)
    only = NTXentLoss(pairs=OutsideBatch(views))
    assert not is_once(only, *z, negatives=numbers(4, 6))
    assert not is_once(UnReMixLoss(), *z, labels=labels)
    assert is_once(NTXentLoss(), *z, labels=labels)


class Cold(Uniform):
    "A subclass without methods of its own says what its parent says."


def test_a_subclass_without_methods():
    assert is_once(ContrastiveLoss(Cold()), *batch())


@pytest.mark.parametrize('name', ('ntxent', 'hcl', 'unremix plain'))
def test_statistics_are_those_of_the_whole_matrix(name):
    z, labels = batch(), torch.arange(19) % 3
    given = dict(true_labels=labels, return_stats=True)
    loss, stats = LOSSES[name]()(*z, **given)
    other, expected = LOSSES[name](pairs_once=False)(*z, **given)
    assert stats.keys() == expected.keys()
    assert_close(loss, other)
    for key, x in expected.items():
        assert_close(stats[key], x, rtol=1e-5, atol=1e-6)
    assert_close(loss, LOSSES[name]()(*z), rtol=0, atol=0)


def kept_by(loss, z, side):
    "Tensors that are kept for the gradient."
    comparison = loss.comparison(*z)
    method = loss.composed().prepare(comparison)
    keep = loss.chunk_size is None
    prepared = method.prepared['weights']
    p = pairs_in_a_loss.pairs_of(comparison, method.weights, prepared, keep)
    p = replace(p, side=side)
    zs = comparison.candidates.z.detach()
    k = pairs_in_a_loss.number_of_negatives(p, zs)
    _, kept = pairs_in_a_loss.fractions(p, zs, k)
    return [x for tile in kept for x in pairs_in_a_loss.tensors_of(tile)]


@pytest.mark.parametrize(
    # half of one for e^s, and one for each offset that takes a product
    'name, matrices',
    (
        ('ntxent', 0.5),
        ('hcl', 0.5),
        ('hcl 2.5', 1),
        ('unremix plain', 1),
        ('unremix log', 1),
    ),
)
def test_memory_of_tiles(name, matrices):
    "Half of the matrix is kept, and with a chunk_size nothing."
    z = batch(b=64)
    found = {x.data_ptr(): x.numel() for x in kept_by(LOSSES[name](), z, 16)}
    diagonal = 1 + 16 / 128  # tiles of the diagonal are kept as a whole
    assert sum(found.values()) == matrices * 128**2 * diagonal
    assert kept_by(LOSSES[name](chunk_size=8), z, 16) == []


@pytest.mark.parametrize('name', ('ntxent', 'hcl 2.5', 'unremix plain'))
def test_tiles_do_not_outlive_the_backward_pass(name, monkeypatch):
    "As long as the loss is alive, the next step would hold two."
    tiles = []

    def spy(*args):
        found, kept = real(*args)
        tiles.extend(weakref.ref(tile.e) for tile in kept)
        return found, kept

    real = pairs_in_a_loss.fractions
    monkeypatch.setattr(pairs_in_a_loss, 'fractions', spy)
    sides(monkeypatch, 7)
    loss = LOSSES[name]()(*batch())
    assert tiles and all(tile() is not None for tile in tiles)
    loss.backward()
    assert all(tile() is None for tile in tiles)
    assert loss.isfinite()


@every_loss
@pytest.mark.parametrize('chunk_size', (None, 8))
def test_backward_under_autocast(name, chunk_size, monkeypatch):
    "Nobody should, and the gradient is the same."
    sides(monkeypatch, 7)
    found = []
    for enabled in (False, True):
        z = batch(dtype=torch.float32)
        loss = LOSSES[name](chunk_size=chunk_size)(*z)
        with torch.autocast('cpu', torch.bfloat16, enabled=enabled):
            loss.backward()
        found.append([x.grad for x in z])
    assert_close(*found, rtol=0, atol=0)


def test_unremix_where_there_are_no_64_bits():
    device = torch.device('mps')
    e = SimpleNamespace(batch=(2, 5), z=SimpleNamespace(shape=(10, 3), device=device))
    comparison = SimpleNamespace(candidates=e, rule=views)
    assert UnReMix().tilts(comparison, None) is None


def test_products_of_a_step(monkeypatch):
    "A forward pass multiplies half of the matrix, a backward pass as much twice."
    cells = []
    addmm = torch.addmm

    def counted(x, a, b, **k):
        cells.append(a.shape[0] * b.shape[1])
        return addmm(x, a, b, **k)

    sides(monkeypatch, 16)
    monkeypatch.setattr(torch, 'addmm', counted)
    z = batch(b=64)
    NTXentLoss()(*z).backward()
    assert sum(cells) == 128**2 * (8 + 1) / 2 / 8
    cells.clear()
    NTXentLoss(chunk_size=4)(*z).backward()
    assert sum(cells) == 2 * 128**2 * (8 + 1) / 2 / 8


@pytest.mark.parametrize('value', (1, None, 'yes'))
def test_the_switch_is_checked(value):
    with pytest.raises(ValueError, match='pairs_once must be True or False'):
        NTXentLoss(pairs_once=value)


def test_repr_and_attribute():
    assert 'pairs_once=False' in repr(HCLLoss(pairs_once=False))
    assert 'pairs_once' not in repr(HCLLoss())


def test_a_module_trains_alike():
    torch.manual_seed(0)
    x = torch.randn(2, 32, 10)
    ends = []
    for once in (True, False):
        torch.manual_seed(1)
        net = nn.Linear(10, 8)
        loss = ContrastiveLoss(
            HCL(), loss=InfoNCE(0.1), temperature=0.2, pairs_once=once
        )
        optimiser = torch.optim.SGD(net.parameters(), 0.1)
        for _ in range(20):
            optimiser.zero_grad()
            loss(net(x[0]), net(x[1])).backward()
            optimiser.step()
        ends.append(net.weight.detach())
    assert_close(*ends)


def test_offsets_against_loops():
    "The scores of tiles are the standard scores of UnReMix's own definition."
    from unremix.normalizers import standard_score
    from unremix.representativeness import representativeness
    from unremix.uncertainty import uncertainty

    z = batch(3, 6)
    loss = UnReMixLoss(kappa=(2.0, 0.5))
    comparison = loss.comparison(*z)
    known = loss.weights.prepare(
        comparison.anchors.detach(), comparison.candidates.detach(), views, 0.5
    )
    tilts = loss.weights.tilts(comparison, known)
    c = comparison.contrast()
    everybody = slice(0, 6)
    opinions = uncertainty(c, 'norm'), representativeness(c)
    for tilt, opinion, kappa in zip(tilts[1:], opinions, (2.0, 0.5), strict=True):
        score = kappa * standard_score(opinion, c)
        expected = score.view(3, 6, 3, 6)  # anchors by view, candidates by view
        negative = c.negative.view(3, 6, 3, 6)
        for rows, columns in product((everybody, slice(2, 5)), repeat=2):
            found = tilt.offset(rows, columns).unflatten(1, (3, -1))
            turned = tilt.offset.turned(columns, rows)
            assert_close(turned, tilt.offset(rows, columns).T)
            for view in range(3):  # whose score is that of the sample
                mask = negative[view, rows][:, :, columns]
                mine = expected[view, rows][:, :, columns]
                assert_close(found[mask], mine[mask])


def by_rows(e, t):
    task = pseudo_task(e, t)
    return gradient_rows(task, slice(0, len(e)))


@pytest.mark.parametrize('side', (1, 4, 19, 512))
@pytest.mark.parametrize('count', (1, 2, 3))
def test_gradient_by_pairs(side, count, monkeypatch):
    "The gradient norm's pass over half of the matrix, against rows of all of it."
    sides(monkeypatch, side)
    z = [x.detach() for x in batch(count, b=19)]
    z[0][3] = z[0][5]  # and a view that is there twice
    e = from_views(z)
    for t in (0.5, 0.1):
        assert is_symmetric(pseudo_task(e, t))
        found = gradient_by_pairs(pseudo_task(e, t))
        assert_close(found, by_rows(e, t), rtol=1e-11, atol=1e-12)


def test_gradient_by_pairs_of_zero_and_nan():
    z = [x.detach() for x in batch(2, b=7)]
    z[1][2] = 0
    found = gradient_norm(from_views(z), 0.3)
    others = torch.arange(14) != 9
    expected = by_rows(from_views(z), 0.3).norm(dim=1) * gradient_scale(from_views(z), 0.3)
    assert found[9] == 0 and found.isfinite().all()
    assert_close(found[others], expected[others], rtol=1e-11, atol=1e-12)
    z[0][4, 0] = math.nan
    assert gradient_norm(from_views(z), 0.3).isnan().all()


def test_norm_of_a_view_alone():
    "It has nobody to choose from, so nothing pulls it; half of the matrix gave NaN."
    e = from_views([numbers(1, 5)])
    assert not is_symmetric(pseudo_task(e, 0.5))
    assert gradient_norm(e, 0.5).tolist() == [0.0]


def test_norm_at_a_low_temperature():
    "Exponents too far apart for half of the matrix are taken row by row."
    e = from_views([x.detach().float() for x in batch(2, b=9)])
    exact = from_views([x.detach() for x in batch(2, b=9)])
    for t in (0.5, 0.03, 0.01, 0.001):
        found = gradient_norm(e, t).double()
        assert_close(found, gradient_norm(exact, t), rtol=1e-3, atol=1e-4 / t)
        assert is_symmetric(pseudo_task(e, t)) == (t >= 0.025)
