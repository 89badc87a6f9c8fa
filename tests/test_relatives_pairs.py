"Pairs, losses and who shares a batch: each method against its formula in loops."

import math
import random
from itertools import islice

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from configs import run_of
from unremix import ContrastiveLoss, KeyQueue
from unremix.batch_sampler import BatchSampler, proximity_graph, walk, walked
from unremix.cacr import CACR, Decoupled
from unremix.checkpoint import restore, save_checkpoint
from unremix.config import criterion_of
from unremix.contrast import compare, with_prepared
from unremix.controls import LabelledLoss
from unremix.embeddings import from_views
from unremix.evaluate import score
from unremix.false_negatives import FNC, GloFND, GloFNDLoss
from unremix.hard_negatives import uniform
from unremix.info_nce import InfoNCE
from unremix.jensen_shannon import JSD, jsd_parts
from unremix.pieces import OfPieces
from unremix.rules import across, views
from unremix.run_parts import embeddings_of, set_up
from unremix.steps import chosen, epoch_steps
from unremix.train import train
from unremix.with_labels import HSCL, SupCon

NAMES = 'supcon', 'h-scl', 'fnc', 'glofnd', 'cacr', 'decoupled', 'batchsampler'
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


@pytest.mark.parametrize(
    'pairs',
    (None, views, across, SupCon()),
    ids=('usual', 'views', 'across', 'supcon'),
)
@pytest.mark.parametrize('queued', (False, True))
@pytest.mark.parametrize('chunk_size', (None, 3))
def test_h_scl_counts_whom_labels_take_out(pairs, queued, chunk_size):
    "As many as a call without labels has negatives: no copy, no slot that is empty."
    z1, z2 = numbers(2)
    y = torch.tensor([0, 0, 1, 1, -1])
    known = dict(sample_ids=torch.tensor([0, 1, 2, 3, 0]))
    if queued:
        known['queue'] = KeyQueue(6, z1.shape[1]).double()
        ids = dict(labels=torch.tensor([0, 1, 1]), sample_ids=torch.tensor([7, 8, 2]))
        known['queue'].push(z2[:3], **ids)
    loss = ContrastiveLoss(HSCL(2.0), pairs=pairs, chunk_size=chunk_size)
    mean_one = ContrastiveLoss(HSCL(2.0, full_count=False), pairs=pairs)
    c = loss.contrast(z1, z2, labels=y, **known)
    full = ContrastiveLoss(pairs=pairs if pairs in (None, across) else views)
    wanted = full.contrast(z1, z2, **known).k
    w = loss.log_weights(c)
    assert_close(w.exp().sum(1), wanted.where(c.k > 0, 0.0))
    assert (wanted > c.k).any() and (wanted >= c.k).all()
    assert_close(loss(z1, z2, labels=y, **known), InfoNCE()(c, w).mean())
    assert loss(z1, z2, labels=y, **known) > mean_one(z1, z2, labels=y, **known)
    if not queued and pairs is not across:
        assert_close(HSCL(2.0)(with_prepared(c, None)), w)


@pytest.mark.parametrize('kind', (JSD, OfPieces))
def test_what_only_the_weights_read_is_refused_of_a_loss(kind):
    z = numbers(2)
    with pytest.raises(ValueError, match='beta must be 0 in a loss by itself'):
        ContrastiveLoss(loss=kind(beta=5.0))(*z)
    assert ContrastiveLoss(**jsd_parts(kind(beta=5.0)))(*z)
    assert_close(ContrastiveLoss(loss=kind())(*z), ContrastiveLoss(**jsd_parts(kind()))(*z))


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


def glofnd_in_loops(batches, n, alpha, rate, warmup, t):
    "Losses and thresholds, one image and one pair after the other."
    threshold, visits, losses = [1.0] * n, [0] * n, []
    for several, idx in batches:
        z, image = table(several)
        cosine = (z @ z.T).tolist()
        loss, shares, quantiles = 0.0, {}, {}
        for i in range(len(z)):
            who = idx[image[i]]
            others = [j for j in range(len(z)) if image[j] != image[i]]
            left = others
            if visits[who] >= warmup:
                left = [j for j in others if cosine[i][j] <= threshold[who]]
            positives = [j for j in range(len(z)) if image[j] == image[i] and j != i]
            total = sum(math.exp(cosine[i][j] / t) for j in positives + left)
            terms = [math.log(total) - cosine[i][p] / t for p in positives]
            loss += sum(terms) / len(terms) / len(z)
            above = sum(cosine[i][j] > threshold[who] for j in others) / len(others)
            ranked = sorted((cosine[i][j] for j in others), reverse=True)
            shares.setdefault(who, []).append(above)
            quantiles.setdefault(who, []).append(ranked[int(alpha * len(others))])
        for who in shares:
            moved = threshold[who] - rate * (alpha - sum(shares[who]) / len(several))
            first = sum(quantiles[who]) / len(several)
            threshold[who] = max(-1.0, min(1.0, moved if visits[who] else first))
            visits[who] += 1
        losses.append(loss)
    return [torch.tensor(x, dtype=torch.float64) for x in (losses, threshold)]


@pytest.mark.parametrize('count, chunk_size', [(2, None), (3, None), (2, 3)])
def test_glofnd(count, chunk_size):
    order = [[0, 1, 2, 3, 4], [4, 6, 5, 2, 0], [1, 0, 3, 6, 2], [0, 1, 2, 3, 4]]
    batches = [(numbers(count, seed=s % 3), idx) for s, idx in enumerate(order)]
    knobs = GloFND(alpha=0.3, rate=0.2, warmup=2)
    loss = GloFNDLoss(images=7, pairs=knobs, chunk_size=chunk_size).double()
    found = [loss(*several, sample_ids=torch.tensor(i)) for several, i in batches]
    losses, threshold = glofnd_in_loops(batches, 7, 0.3, 0.2, 2, 0.5)
    assert_close(torch.stack(found), losses, **EXACT)
    assert_close(loss.threshold, threshold, **EXACT)
    assert loss.visits.tolist() == [4, 3, 4, 3, 3, 1, 2]


def small(**fields):
    usual = dict(limit=64, batch_size=16, epochs=2, precision='32-true', log_every=1)
    return run_of(**usual, accelerator='cpu', warmup_epochs=0, **fields)


def test_glofnd_gets_its_ids_from_the_loop_and_keeps_its_state(tmp_path):
    cfg = small(strategy='glofnd', warmup=1)
    whole = set_up(cfg)
    for epoch in (0, 1):
        for _ in epoch_steps(whole, epoch):
            pass
    assert (whole.criterion.visits == 2).all()
    assert_close(*resumed(cfg, whole, tmp_path))


def resumed(cfg, whole, tmp_path):
    "What a run without and one with an interruption after 6 of 8 steps end with."
    first = set_up(cfg)
    for _ in epoch_steps(first, 0):
        pass
    steps = epoch_steps(first, 1)
    for _ in range(2):
        next(steps)
    where = dict(epoch=1, done=2, seconds=0.0, loss=1.0)
    save_checkpoint(tmp_path / 'checkpoint.pt', first, **where)
    again = set_up(cfg)
    state = restore(again, tmp_path / 'checkpoint.pt')
    for _ in epoch_steps(again, 1, state['done'], state['random']):
        pass
    return [end_of(run) for run in (again, whole)]


def end_of(run):
    criterion = list(run.criterion.state_dict().values())
    graph = [] if run.sampler is None else [run.sampler.graph]
    return [*run.model.state_dict().values(), *criterion, *graph]


def test_a_run_draws_its_batches_by_walks_and_goes_on_with_the_same(tmp_path):
    knobs = dict(every=5, neighbours=20, restart=0.5)
    cfg = small(strategy='batchsampler', **knobs)
    whole = set_up(cfg)
    assert type(whole.criterion.loss) is InfoNCE and whole.criterion.weights == uniform
    for epoch in (0, 1):
        for step, _, _ in epoch_steps(whole, epoch):
            built = len(whole.sampler.graph) > 0
            assert built == (step >= 5)
    drawn = torch.arange(16)
    batch = chosen(whole, 7, drawn)
    assert batch[0] == 0 and len(set(batch.tolist())) == 16
    assert not torch.equal(batch, drawn)
    ends = resumed(cfg, whole, tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))
    plain = set_up(small())
    assert plain.sampler is None and chosen(plain, 7, drawn) is drawn


def heaps(n=400, kinds=8, seed=0):
    g = torch.Generator().manual_seed(seed)
    kind = torch.arange(n) % kinds
    centre = torch.randn(kinds, 16, generator=g)
    return F.normalize(centre[kind] + torch.randn(n, 16, generator=g), dim=1)


def test_neighbours_are_the_nearest_of_those_that_are_drawn():
    z = heaps()
    exact = proximity_graph(z, candidates=1000, neighbours=7, size=37)
    cosine = (z @ z.T).fill_diagonal_(-2)
    assert torch.equal(exact.long(), cosine.argsort(1, descending=True)[:, :7])
    graph = proximity_graph(z, candidates=100, neighbours=10, seed=3)
    assert torch.equal(graph, proximity_graph(z, 100, 10, seed=3))
    assert not torch.equal(graph, proximity_graph(z, 100, 10, seed=4))
    assert all(
        len(set(row)) == 10 and i not in row for i, row in enumerate(graph.tolist())
    )
    # of n others, a hundred draws hold the ten nearest only by chance
    edges = cosine.gather(1, graph.long()).mean()
    assert cosine.mean() + 0.2 < edges < cosine.gather(1, exact.long()).mean()


def test_batches_hold_nobody_twice_and_are_harder():
    z = heaps()
    sampler = BatchSampler(candidates=200, neighbours=20)(400, 32, seed=5)

    def hardness(batches):
        found = []
        for batch in batches:
            assert len(set(batch)) == 32 and min(batch) >= 0 and max(batch) < 400
            cosine = z[batch] @ z[batch].T
            found.append((cosine.sum().item() - 32) / (32 * 31))
        return sum(found) / len(found)

    plain = hardness(sampler)
    assert len(sampler) == 12 and sampler.step == 12
    sampler.rebuild(z)
    by_walks = hardness(sampler)
    near = BatchSampler(restart=0.7, candidates=200, neighbours=20)(400, 32, seed=5)
    near.rebuild(z)
    assert plain + 0.05 < by_walks < hardness(near)


def test_a_walk_goes_back_as_often_as_it_should():
    star = [[1, 2, 3]] + [[1, 2, 3]] * 3  # nobody's neighbour is 0
    for restart in (0.0, 0.1, 0.2, 1.0):
        nodes = list(islice(walk(star, 0, restart, random.Random(0)), 100_001))
        sd = math.sqrt(restart * (1 - restart) / 100_000)
        assert abs(nodes[1:].count(0) / 100_000 - restart) <= 4 * sd
        assert nodes[0] == 0


def test_a_walk_that_is_caught_ends():
    found = walked([[1], [0], [3], [2], [5], [4]], 2, 5, 0.2, random.Random(0))
    assert set(found[:2]) == {2, 3} and len(set(found)) == 5


def test_batches_follow_from_seed_and_step():
    z = heaps()

    def made(seed, step):
        sampler = BatchSampler()(400, 32, seed)
        sampler.rebuild(z, step=100)
        return sampler.batch(step, start=9).tolist()

    assert made(1, 107) == made(1, 107)
    assert made(1, 107) != made(1, 108) and made(1, 107) != made(2, 107)
    assert made(1, 107)[0] == 9
    sampler = BatchSampler()(400, 32)
    assert [s for s in range(301) if sampler.is_due(s)] == [100, 200, 300]


def test_embeddings_of_all_images_change_nothing():
    "Neither the encoder nor its mode, and nobody's depend on who is beside it."
    run = set_up(small())
    before = [x.clone() for x in run.model.state_dict().values()]
    z = embeddings_of(run, size=64)
    assert z.shape == (64, 128) and not z.requires_grad and run.model.training
    after = run.model.state_dict().values()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert_close(embeddings_of(run, size=5), z)


def test_glofnd_learns_nothing_of_test_images():
    "Of them it knows no ids, neither in a rehearsal nor where a run is scored."
    z1, z2 = numbers(2)
    loss = GloFNDLoss(images=5)
    with pytest.raises(ValueError, match='sample_ids must be given, got None'):
        loss(z1, z2)
    loss(z1, z2, sample_ids=torch.arange(5))
    before = loss.threshold.clone()
    assert_close(loss.eval()(z1, z2), ContrastiveLoss()(z1, z2))
    assert torch.equal(loss.threshold, before) and loss.visits.tolist() == [1] * 5


@pytest.mark.parametrize('name', NAMES)
def test_each_trains_and_is_scored(name, tmp_path):
    cfg = small(strategy=name).but({'epochs': 1, 'limit': 128})
    result = train(cfg, tmp_path / 'run', finish=score, progress=False)
    assert math.isfinite(result['loss']) and math.isfinite(result['hardness'])
