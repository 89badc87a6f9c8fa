"UnReMix's bars and choices on cases that can be written out: who gets nothing, who of equals is kept, who is drawn."
import copy, math, pickle
from itertools import combinations

import pytest
import torch
from torch.testing import assert_close

from unremix import NTXentLoss, UnReMixLoss
from unremix.importance import Indicator, Knobs, by_range, by_sum, keep_sample, keep_top, linear_pool
from unremix.pairs import from_views
from unremix.uncertainty import UNCERTAINTIES

BARS = dict(sum=by_sum, minmax=by_range)
every_bar = pytest.mark.parametrize('normalize', BARS)


def circle(*degrees):
    angle = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([angle.cos(), angle.sin()], 1)


def anchor_and(cosines, t):
    "One image whose views coincide, and explicit negatives at these cosines."
    z = circle(*[math.degrees(math.acos(c)) for c in cosines])
    return from_views(circle(0.), circle(0.), t, negatives=z)


def log_sum(contrast, log_w): return (contrast.logits + log_w).logsumexp(1)[0]


@every_bar
@pytest.mark.parametrize('t', (.5, .1, .05, .02))
def test_a_bar_of_height_zero_adds_nothing(normalize, t):
    "The nearest negative has the lowest score: at t = .02, a millionth of a share times e^50 would be all there is."
    contrast = anchor_and((1., 0., -1.), t)
    score = Indicator(torch.tensor([[0., 0., 0., 1., 3.]], dtype=torch.float64))
    wanted = math.log(3*(1/4*math.exp(0) + 3/4*math.exp(-1/t)))
    log_w = BARS[normalize](score, contrast) + contrast.k.log()[:,None]
    assert_close(log_sum(contrast, log_w).item(), wanted)
    assert log_w[:,2:].isfinite().all() and log_w[0, 2].exp() == 0


@every_bar
@pytest.mark.parametrize('mix', ((1., 0., 0.), (.5, 0., .5), (0., 0., 1.)), ids=str)
def test_nothing_of_two_opinions_is_nothing(normalize, mix):
    contrast = anchor_and((1., 0., -1.), .02)
    score = Indicator(torch.tensor([[0., 0., 0., 1., 3.]], dtype=torch.float64))
    knobs = Knobs(mix=mix, normalize=normalize)
    log_w = linear_pool(contrast, knobs, lambda: score, lambda: score)
    assert_close(log_sum(contrast, log_w).item(), math.log(3/4 + 9/4*math.exp(-50)))
    assert log_w[:,2:].isfinite().all()


@every_bar
@pytest.mark.parametrize('dtype', (torch.float32, torch.float64), ids=str)
def test_nothing_is_nothing_at_any_temperature(normalize, dtype):
    "At t = .005 the nearest has e^200 times the force: the smallest float32 would not do."
    contrast = from_views(circle(0.).to(dtype), circle(0.).to(dtype), .005, negatives=circle(0., 90.).to(dtype))
    score = Indicator(torch.tensor([[0., 0., 0., 1.]], dtype=dtype))
    for mix in ((1., 0., 0.), (.5, 0., .5)):
        log_w = linear_pool(contrast, Knobs(mix=mix, normalize=normalize), lambda: score, lambda: score)
        assert_close(log_sum(contrast, log_w).item(), math.log(2.), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('t', (.5, .05, .02))
def test_minmax_against_loops(t):
    "Uncertainty alone, from the definition: a share of zero counts zero."
    z = torch.randn(2, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    loss = UnReMixLoss(t, mix=(1., 0., 0.), normalize='minmax', reduction='none')
    contrast, wanted = loss.contrast(*z), []
    score = UNCERTAINTIES['norm'].prepare(contrast.shift(), t)
    for i in range(10):
        js = contrast.negative[i].nonzero().flatten()
        x = score[js] - score[js].min()
        total = 8*(x/x.sum()*contrast.logits[i, js].exp()).sum()
        wanted.append(torch.log1p(total/contrast.positive_logit[i].exp()))
    assert_close(loss(*z), torch.stack(wanted), rtol=1e-6, atol=1e-9)


@every_bar
def test_equal_scores_are_equal_bars(normalize):
    contrast = anchor_and((1., 0., -1.), .5)
    for value in (0., 5., 5e-7):
        score = Indicator(torch.full((1, 5), value, dtype=torch.float64))
        assert_close(BARS[normalize](score, contrast)[:,2:].exp(), torch.full((2, 3), 1/3, dtype=torch.float64))
    least = Indicator(torch.tensor([[9., 9., 2., 2., 4.]], dtype=torch.float64), low=2.)
    assert_close(BARS[normalize](least, contrast)[0,2:].exp(), torch.tensor([0., 0., 1.], dtype=torch.float64))


@pytest.mark.parametrize('bad', (math.nan, math.inf), ids=str)
@pytest.mark.parametrize('knobs', [dict(normalize='sum'), dict(normalize='minmax'), dict(pool='log'), dict(select='top', k_keep=2), dict(select='sample', k_keep=2)], ids=str)
def test_what_is_no_number_is_seen(knobs, bad):
    "In one image's hidden input: anchors that have it as a negative have no loss."
    z, h = (torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    h[0, 3, 2] = bad
    losses = UnReMixLoss(reduction='none', **knobs)(*z, hidden=tuple(h))
    assert losses[[0, 1, 2, 4, 5, 6]].isnan().all()


@pytest.mark.parametrize('n', (6, 40, 700))
@pytest.mark.parametrize('k_keep', (1, 2, 5, 1000))
def test_of_equals_the_first_are_kept(n, k_keep):
    "As many lengths as `topk` has algorithms."
    g = torch.Generator().manual_seed(n)
    log_w = torch.randint(0, 3, (50, n), generator=g).float() # many equals
    log_w[torch.rand(50, n, generator=g) < .3] = -math.inf
    log_w[0] = -math.inf
    k = (log_w > -math.inf).sum(1).float()
    kept = keep_top(log_w, k, k_keep)
    for row, got, count in zip(log_w.tolist(), kept, k.tolist()):
        alive = [j for j in range(n) if row[j] > -math.inf]
        wanted = sorted(alive, key=lambda j: -row[j])[:k_keep] # Python's sort is stable
        assert (got > -math.inf).nonzero().flatten().tolist() == sorted(wanted)
        if alive: assert_close(got.exp().sum().item(), count, rtol=1e-6, atol=0)


def test_top_of_copies_in_the_loss():
    "Images 1, 2 and 3 are the same: the first view of image 1 is kept for the first anchor."
    z = circle(0., 40., 40., 40.)
    loss = UnReMixLoss(mix=(0., 1., 0.), select='top', k_keep=1)
    log_w = loss.log_weights(loss.contrast(z, z))
    assert (log_w[0] > -math.inf).nonzero().item() == 1 and (log_w[4] > -math.inf).nonzero().item() == 1
    assert_close(log_w[0, 1].exp().item(), 6.)


def test_no_gradient_comes_through_a_choice():
    z = circle(0., 50., 200.)
    a = z.clone().requires_grad_()
    assert not UnReMixLoss(select='top', k_keep=2, detach_weights=False).log_weights(from_views(a, z)).requires_grad


def sampled(loss, seed=None, z=torch.randn(2, 8, 4, generator=torch.Generator().manual_seed(0))):
    if seed is not None: torch.manual_seed(seed)
    return [loss(*z).item() for _ in range(3)]


@pytest.mark.parametrize('chunk_size', (None, 5))
def test_drawing_follows_the_seed(chunk_size):
    first, second = (UnReMixLoss(select='sample', k_keep=3, chunk_size=chunk_size) for _ in range(2))
    wanted = sampled(first, 7)
    assert len(set(wanted)) == 3
    assert sampled(second, 7) == wanted and sampled(first, 7) == wanted
    assert not set(sampled(second, 8)) & set(wanted)


def test_two_losses_draw_apart():
    "Two modules of one model, or two processes with seeds of their own, don't draw the same negatives."
    torch.manual_seed(0)
    first, second = (sampled(UnReMixLoss(select='sample', k_keep=3)) for _ in range(2))
    assert not set(first) & set(second)


def test_drawing_goes_on_from_the_state_that_a_checkpoint_keeps():
    loss = UnReMixLoss(select='sample', k_keep=3)
    sampled(loss, 0)
    state = torch.get_rng_state()
    wanted = sampled(loss)
    torch.set_rng_state(state)
    assert sampled(pickle.loads(pickle.dumps(copy.deepcopy(loss)))) == wanted


@pytest.mark.parametrize('loss', [NTXentLoss(), UnReMixLoss(), UnReMixLoss(select='top', k_keep=2)], ids=repr)
def test_who_does_not_draw_leaves_the_generator_alone(loss):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    sampled(loss)
    assert torch.get_rng_state().equal(before)


def test_a_generator_can_be_given():
    log_w, k = torch.zeros(6, 9), torch.full((6,), 9.)
    a, b = (keep_sample(log_w, k, 3, torch.Generator().manual_seed(1)) for _ in range(2))
    torch.manual_seed(1)
    assert a.equal(b) and a.equal(keep_sample(log_w, k, 3)) and not a.equal(keep_sample(log_w, k, 3))


def test_pairs_are_drawn_one_after_the_other():
    "The first in proportion to the weights, the second to what is left."
    p = torch.tensor([.6, .3, .1])
    torch.manual_seed(0)
    kept = keep_sample(p.log().expand(40000, 3), torch.full((40000,), 3.), 2) > -math.inf
    for i, j in combinations(range(3), 2):
        wanted = p[i]*p[j]/(1-p[i]) + p[j]*p[i]/(1-p[j])
        assert_close((kept[:,i] & kept[:,j]).float().mean(), wanted, rtol=0, atol=.01)


def test_drawing_compiles():
    loss, z = UnReMixLoss(select='sample', k_keep=3), torch.randn(2, 8, 4)
    torch._dynamo.reset()
    assert torch.compile(loss, fullgraph=True, backend='aot_eager')(*z).isfinite()


@pytest.mark.parametrize('detach', (True, False))
def test_weights_made_some_anchors_at_a_time(detach, monkeypatch):
    "Constants are written in place, others are put together; `torch.func` sees neither."
    z1, z2 = torch.randn(2, 20, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    loss = UnReMixLoss(detach_weights=detach)
    def of(z): return loss(z, z2)
    whole, doubled = torch.func.grad_and_value(of)(z1), of(2*z1)
    monkeypatch.setattr('unremix.blocks.CACHE_CELLS', 1) # sixteen of the forty anchors
    assert_close(torch.func.grad_and_value(of)(z1), whole)
    z = z1.clone().requires_grad_()
    value = loss(z, z2)
    assert_close((torch.autograd.grad(value, z)[0], value.detach()), whole)
    each = torch.func.vmap(of)(torch.stack([z1, 2*z1]))
    assert_close(each, torch.stack([whole[1], doubled]))
