"Scores of tiny features by hand, and what of a run is scored: which images, in which mode, with which temperature."
import dataclasses, math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from configs import run_of
from unremix import evaluate as module
from unremix.compare_config import CompareConfig
from unremix.contrastive_loss import ContrastiveLoss
from unremix.controls import OracleLoss
from unremix.data import load_dataset
from unremix.image_sets import Images
from unremix import features
from unremix.evaluate import QUALITY, VOTES, embed, feature_scores, negative_quality, score
from unremix.features import (alignment, choose_penalty, effective_rank, first_of_equals, knn, linear_probe, nearest, standardize, too_few,
                              uniformity, vote)
from unremix.losses import NTXentLoss
from unremix.run_parts import set_up
from unremix.safe_files import write_json


def at(*cosines):
    "Unit vectors (n 2) at these cosines from the first axis."
    c = torch.tensor(cosines, dtype=torch.float64)
    return torch.stack([c, (1 - c*c).sqrt()], 1)


EAST = at(1.)


# neighbours

def test_one_vote_each():
    "Two of class 0 are near, three of class 1 further away."
    train, y = at(.9, .8, .5, .4, .3), torch.tensor([0, 0, 1, 1, 1])
    assert [knn(train, y, EAST, k).item() for k in (1, 2, 3, 4, 5)] == [0, 0, 0, 0, 1] # at four it is a tie: the lower class


def test_votes_weigh_exponentials():
    "One at cosine 1 against m at cosine 0: e^{1/t} > m decides. cos·t, no t, or the cosine itself would decide otherwise."
    for t, m, wins in ((.5, 7, True), (.5, 8, False), (1/3, 20, True), (1/3, 21, False), (2., 1, True), (2., 2, False)):
        train, y = at(1., *[0.]*m), torch.tensor([1] + [0]*m)
        assert knn(train, y, EAST, m+1, t).item() == int(wins), (t, m)
        assert knn(train, y, EAST, m+1).item() == int(m < 1)


@pytest.mark.parametrize('t', (1., .1, .011, .01, 1e-3, 1e-8, 1e-40, 1e-300))
@pytest.mark.parametrize('dtype', (torch.float16, torch.bfloat16, torch.float32, torch.float64))
def test_any_temperature(t, dtype):
    "The nearest has the weight of e^{gap/t} further ones; as t falls it decides alone. e^{1/t} itself is past float32 from t = .0113 on."
    train, y = at(1., .75, .75, .75).to(dtype), torch.tensor([1, 0, 0, 0])
    assert knn(train, y, EAST.to(dtype), 4, t).item() == int(math.exp(min(.25/t, 700)) > 3)
    assert knn(-train, y, EAST.to(dtype), 4, t).item() == 0 # where all are far away, too


def test_small_temperature_is_the_nearest_neighbour():
    g = torch.Generator().manual_seed(0)
    train, test, y = torch.randn(50, 8, generator=g), torch.randn(40, 8, generator=g), torch.randint(5, (50,), generator=g)
    assert torch.equal(knn(train, y, test, 200, 1e-6), knn(train, y, test, 1))
    shifted = (F64(test) @ F64(train).T/.011).softmax(1) # float64 and its own maximum: the definition
    assert torch.equal(knn(train, y, test, 50, .011), torch.zeros(40, 5).double().index_add_(1, y, shifted).argmax(1))


def F64(h): return nn.functional.normalize(h.double())


def test_votes_of_the_first_k_only():
    "Ten of 200 neighbours found are asked; further ones would outvote them."
    cos, idx, y = torch.tensor([[.9, .8, .7, .6]]), torch.tensor([[0, 1, 2, 3]]), torch.tensor([1, 0, 0, 0])
    assert [vote(cos, idx, y, k).item() for k in (1, 2, 3)] == [1, 0, 0] and vote(cos, idx, y, 2, .1).item() == 1
    assert vote(cos, idx, y, 4, .2).item() == 0 and vote(cos, idx, y, 1, 9.).item() == 1


def test_half_precision_is_only_for_features():
    "In float16 these two cosines are equal and the first would win."
    train, y = torch.tensor([[1., .0312], [1., .01]]), torch.tensor([0, 1])
    assert knn(train.half(), y, EAST.half(), 1).item() == knn(train, y, EAST.float(), 1).item() == 1


def test_length_does_not_count():
    train, y = at(.9, .8, .7)*torch.tensor([[1e-3], [1e3], [1.]]), torch.tensor([2, 0, 1])
    cos, idx = nearest(train, EAST*7, 2)
    assert idx.tolist() == [[0, 1]] and cos.dtype == torch.float64
    assert_close(cos, torch.tensor([[.9, .8]]).double())
    assert knn(train, y, EAST, 1).item() == 2


@pytest.mark.parametrize('block', (1, 2, 3, 500))
def test_blocks_change_nothing(block):
    g = torch.Generator().manual_seed(0)
    train, test = torch.randn(9, 4, generator=g), torch.randn(5, 4, generator=g)
    whole = nearest(train, test, 4)
    for a, b in zip(nearest(train, test, 4, block), whole): assert_close(a, b)
    sim = nn.functional.normalize(test) @ nn.functional.normalize(train).T
    assert torch.equal(whole[1], sim.argsort(1, descending=True)[:,:4])


def test_more_neighbours_than_images():
    train, y = at(.9, .8), torch.tensor([1, 1])
    assert nearest(train, EAST, 200)[1].shape == (1, 2) and knn(train, y, EAST, 200, .1).item() == 1


@pytest.mark.parametrize('k', (1, 2, 3, 5, 40))
def test_of_equals_the_first(k):
    "Copies of an image: `topk` takes any of them."
    sim = torch.tensor([[.5, .9, .5, .9, .1]*8, [.5]*40, [.1]*39 + [.2]])
    value, idx = first_of_equals(sim, k)
    by_hand = [sorted(range(40), key=lambda j: (-row[j].item(), j))[:k] for row in sim]
    assert idx.tolist() == by_hand
    assert torch.equal(value, sim.gather(1, idx))
    train = at(*[.5]*40)
    assert knn(train, torch.arange(40).flip(0), EAST, 1).item() == 39


@pytest.mark.parametrize('bad', (dict(temperature=0.), dict(temperature=-1.), dict(temperature=math.nan), dict(k=0)), ids=str)
def test_knn_refuses(bad):
    with pytest.raises(ValueError, match=next(iter(bad))): knn(at(.9), torch.tensor([0]), EAST, **bad)


# linear probe

def test_standardize():
    a, b = standardize(torch.tensor([[0., 3.], [2., 3.]]), torch.tensor([[5., 4.]]))
    assert_close(a, torch.tensor([[-.5**.5, 0.], [.5**.5, 0.]]))
    assert_close(b, torch.tensor([[4/2**.5, 0.]]))

@pytest.mark.parametrize('n,value', [(50_000, 77.7), (10_007, 12345.678), (2, 1e30), (3, 0.)])
def test_constant_features_are_zero(n, value):
    "A mean in float32 is rounded, and so is the deviation from it."
    same = torch.full((n, 1), value)
    for h in standardize(same, same + 1): assert (h == 0).all()


def test_penalty_is_chosen_on_images_it_was_not_fitted_on():
    "The probe is asked to predict exactly the fifth that it has not seen, once per strength; the best there wins, the first of equals."
    x, y, asked = torch.arange(100.)[:,None].numpy(), (torch.arange(100) % 2).numpy(), []
    class Probe:
        def __init__(self, c, a, b): self.c, self.seen = c, set(a[:,0])
        def score(self, a, b):
            asked.append((self.c, len(self.seen), len(a), bool(self.seen & set(a[:,0]))))
            return {1.: .5, 2.: .75, 3.: .75}[self.c]
    assert choose_penalty(x, y, (1., 2., 3.), Probe) == 2.
    assert asked == [(c, 40, 20, False) for c in (1., 2., 3.)]


def test_probe_is_fitted_on_all_with_the_chosen_strength(monkeypatch):
    fitted = []
    class Probe:
        def __init__(self, C, max_iter, tol): self.C = C
        def fit(self, x, y): fitted.append((self.C, len(x))); return self
        def score(self, x, y): return self.C
        def predict(self, x): return torch.zeros(len(x)).numpy()
    monkeypatch.setattr('sklearn.linear_model.LogisticRegression', Probe)
    linear_probe(torch.randn(50, 3), torch.arange(50) % 5, torch.randn(4, 3), penalties=(.1, .3))
    assert fitted == [(.1, 20), (.3, 20), (.3, 50)]
    fitted.clear()
    linear_probe(torch.randn(5, 3), torch.arange(5), torch.randn(4, 3), penalties=(.1, .3)) # too few to choose
    assert fitted == [(.1, 5)]


@pytest.mark.parametrize('counts, few', (((1, 9), True), ((2, 8), False), ((2, 2, 2), True), ((5,)*3, False), ((4,)*5, True), ((5,)*5, False)), ids=str)
def test_too_few(counts, few):
    "A fifth of 20 images has no place for five classes, of 25 it has; two fifths are never less."
    assert too_few(torch.cat([torch.full((n,), i) for i, n in enumerate(counts)])) == few


# geometry

def test_geometry_in_closed_form():
    e = torch.eye(3)
    assert alignment(e, 5*e) == 0 and alignment(e, -e) == 4 and alignment(e[:1], e[1:2]) == 2
    assert_close(uniformity(torch.stack([e[0], 2*e[1]])), -4., rtol=1e-6, atol=0) # one pair at squared distance 2
    assert_close(uniformity(e[[0, 0, 1]], t=1.), math.log((1 + 2*math.exp(-2))/3), rtol=1e-6, atol=0)
    assert uniformity(e[:1]) is None
    assert_close(effective_rank(torch.tensor([[1., 0], [-1, 0], [0, 1], [0, -1]]) + 3), 2.)
    assert_close(effective_rank(torch.tensor([[3., 0], [-3, 0], [0, 1], [0, -1]])), math.exp(-(.75*math.log(.75) + .25*math.log(.25))))
    assert effective_rank(torch.ones(4, 2)) == 1


def test_negatives_of_one_image():
    assert negative_quality(EAST, EAST, (EAST, EAST), torch.tensor([0]), NTXentLoss()) == dict.fromkeys(QUALITY)


def test_quality_over_whole_batches():
    "Of five images in batches of two, the last is left out; a mean over the others."
    z, y = torch.eye(5), torch.tensor([0, 0, 1, 2, 0])
    q = negative_quality(z, z, (z, z), y, ContrastiveLoss(), batch_size=2)
    assert_close([q['false_negative_rate'], q['false_negative_mass'], q['effective_negatives']], [.5, .5, 2.]) # all, then none
    whole = negative_quality(z, z, (z, z), y, ContrastiveLoss(), batch_size=9)
    assert_close(whole['effective_negatives'], 8.)


def test_a_batch_without_negatives_is_in_no_mean():
    "Images of one class with labels, or of one id: neither hard nor easy, and no rate of 0."
    z, y = torch.eye(4), torch.tensor([0, 0, 0, 1])
    def of(loss, y, batch_size=4, ids=None): return negative_quality(z, z, (z, z), y, loss, batch_size, ids)
    none = dict.fromkeys(QUALITY)
    assert of(OracleLoss(), torch.zeros(4, dtype=torch.long)) == none
    assert of(NTXentLoss(), y, ids=torch.zeros(4, dtype=torch.long)) == none
    found = of(OracleLoss(), y, batch_size=2) # the first batch has none
    assert found == of(OracleLoss(), torch.tensor([2, 3, 0, 1]), batch_size=2) and found['effective_negatives'] == 2
    _, logged = OracleLoss()(z, z, true_labels=torch.zeros(4, dtype=torch.long), return_stats=True)
    assert logged.pop('positive_similarity') == 1 and all(x.isnan() for x in logged.values())


# embedding

class Counting(nn.Module):
    "Remembers in which mode and precision it was called."
    def __init__(self):
        super().__init__()
        self.linear, self.seen = nn.Linear(4, 2), []
    def forward(self, x):
        h = self.linear(x)
        self.seen.append((self.training, torch.is_grad_enabled(), h.dtype, len(x)))
        return h


@pytest.mark.parametrize('precision, dtype', (('32-true', torch.float32), ('bf16-mixed', torch.bfloat16)))
@pytest.mark.parametrize('training', (True, False))
def test_embed(precision, dtype, training):
    "Evaluation mode, no gradient, the precision of training, in order; the mode comes back."
    encoder, x = Counting().train(training), torch.arange(12).view(3, 4).byte()
    h = embed(encoder, x, lambda x: x.float(), precision, batch_size=2)
    assert encoder.seen == [(False, False, dtype, 2), (False, False, dtype, 1)] and encoder.training is training
    assert h.dtype == torch.float32 and not h.requires_grad
    with torch.no_grad(): assert_close(h, encoder.linear(x.float()), rtol=2e-2, atol=.5 if precision != '32-true' else 1e-5)


def test_features_that_are_no_numbers():
    encoder = Counting()
    nn.init.constant_(encoder.linear.bias, math.nan)
    with pytest.raises(FloatingPointError, match='not finite'): embed(encoder, torch.zeros(2, 4).byte(), lambda x: x.float())


# what of a run is scored

def test_feature_scores_by_hand(monkeypatch):
    "Which prediction is called what; `correct` is the probe's."
    monkeypatch.setattr(module, 'linear_probe', lambda h, y, test: torch.tensor([1, 1, 0, 1]))
    train, y = at(.9, .8, -.9), torch.tensor([1, 1, 0])
    s = feature_scores(train, y, at(1., 1., 1., -1.), torch.tensor([1, 0, 1, 1]))
    assert (s['linear'], s['correct'], s['knn10']) == (.5, '1001', .75) and VOTES == {'knn10': (10, None), 'knn200': (200, .1)}


def test_unlabelled_test_images_are_left_out():
    "Accuracies are those of the others, the rank is of all; with no label there is nothing else."
    torch.manual_seed(0)
    h, y = torch.randn(40, 6), torch.arange(40) % 2
    asked, classes = torch.randn(20, 6), torch.arange(20) % 2
    some = classes.masked_fill(torch.arange(20) < 7, -1)
    found, wanted = feature_scores(h, y, asked, some), feature_scores(h, y, asked[7:], classes[7:])
    rank = found.pop('effective_rank')
    assert {**wanted, 'effective_rank': rank} == {**found, 'effective_rank': rank} and len(found['correct']) == 13
    assert feature_scores(h, y, asked, some.fill_(-1)) == {'effective_rank': rank}


@pytest.fixture(scope='module')
def run(): return set_up(run_of(strategy='hcl', limit=64, batch_size=32, precision='32-true', accelerator='cpu', head_out=16, head_hidden=16, validation=48))


def test_score_of_which_images(run, monkeypatch):
    "Probe: trained on the training images, asked about those held out. Geometry: of the latter, two views for alignment."
    calls, embedded = {}, []
    def watch(name):
        old = getattr(module, name)
        def new(*args): calls[name] = args; return old(*args)
        monkeypatch.setattr(module, name, new)
    for name in ('feature_scores', 'alignment', 'uniformity', 'negative_quality'): watch(name)
    old_embed = module.embed
    monkeypatch.setattr(module, 'embed', lambda encoder, x, prepare, precision: embedded.append((x, prepare)) or old_embed(encoder, x, prepare, precision))
    run.model.train()
    held = module.test_images(run.cfg, 'cpu')
    s = score(run)
    assert run.model.encoder.training # training may go on after it
    h_train, y_train, h_test, y_test = calls['feature_scores']
    assert (len(h_train), len(h_test)) == (64, 48) and torch.equal(y_test, held.y) and torch.equal(y_train, run.images.y)
    assert torch.equal(embedded[0][0], run.images.x) and torch.equal(embedded[1][0], held.x) and not any((held.x[i] == run.images.x).all((1, 2, 3)).any() for i in range(48))
    plain = old_embed(run.model.encoder, held.x, run.augment.plain)
    assert_close(h_test, plain)
    assert calls['uniformity'][0] is h_test # of the images as they are, those that are scored
    h1, h2 = calls['alignment']
    assert h1.shape == h2.shape == h_test.shape and not torch.equal(h1, h2) and [(p.func, p.keywords['which']) for _, p in embedded[2:]] == [(run.views.one, 0), (run.views.one, 1)] and all(x is embedded[1][0] for x, _ in embedded[2:])
    z1, z2, hidden, y, criterion, batch_size, ids = calls['negative_quality']
    assert batch_size == 32 and ids is None and criterion is run.criterion and torch.equal(y, held.y) and len(z1) == 48
    again = score(run)
    assert again == s # the views are seeded
    some = dataclasses.replace(held, y=held.y.masked_fill(held.y == held.y[0], -1))
    monkeypatch.setattr(module, 'test_samples', lambda cfg, device: some)
    assert s.keys() - score(run).keys() == set(module.FALSE_NEGATIVES)  # pairs of unknown classes


def test_test_images_in_one_order():
    "A fixed permutation, the same for every seed; whole, and with their labels."
    a, b = (module.test_images(run_of(limit=100, seed=s), 'cpu') for s in (0, 1))
    stored = load_dataset('fashion_mini', 'test', None, 100)
    assert torch.equal(a.x, b.x) and not torch.equal(a.x, stored.x) and torch.equal(a.y.bincount(), stored.y.bincount())
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    assert torch.equal(a.x, stored.x[order]) and torch.equal(a.y, stored.y[order])
    held = module.test_images(run_of(limit=100, validation=30), 'cpu')
    assert len(held.x) == 30 and not (held.x[:,None] == stored.x).all((2, 3, 4)).any()


def test_a_comparison_is_no_run(tmp_path):
    "Its config.json has the fields of a run too, but rows in place of a strategy."
    config = CompareConfig.of({'strategies': ('simclr', 'hcl'), 'beta': 2.})
    write_json(tmp_path / 'config.json', config.as_json())
    write_json(tmp_path / 'result.json', {})
    for command in (module.load_run, module.evaluate):
        with pytest.raises(ValueError, match='has a config.json that is not of a training run'):
            command(tmp_path)
