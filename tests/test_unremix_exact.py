"""UnReMix's bars and choices on cases that can be written out.

Who gets nothing, who of equals is kept, who is drawn.
"""

import copy
import math
import pickle
from itertools import combinations

import pytest
import torch
from torch.testing import assert_close

from unremix import NTXentLoss, UnReMixLoss
from unremix.choosing import keep_sample, keep_top
from unremix.contrast import compare
from unremix.embeddings import embed, from_views, stack
from unremix.gradient_norm import gradient_norm
from unremix.knobs import Knobs
from unremix.normalizers import by_range, by_sum
from unremix.rules import views
from unremix.uncertainty import Indicator
from unremix.unremix import mixture

BARS = dict(sum=by_sum, minmax=by_range)
every_bar = pytest.mark.parametrize('normalize', BARS)
two_or_three = pytest.mark.parametrize('count', (2, 3))  # views of an image


def numbers(*shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=dtype, generator=generator)


def circle(*degrees):
    angle = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([angle.cos(), angle.sin()], 1)


def anchor_and(cosines, t, count=2, dtype=torch.float64):
    "One image whose views coincide, and explicit negatives at these cosines."
    z = circle(*[math.degrees(math.acos(c)) for c in cosines])
    image = from_views([circle(0.0).to(dtype)] * count)
    candidates = stack(image, embed(z.to(dtype)))
    return compare(candidates[:count], candidates, views, t)


def scores(count, *of_negatives, dtype=torch.float64, of_views=0.0, **more):
    "One opinion for all anchors: of the views, then of the explicit negatives."
    value = torch.tensor([[of_views] * count + list(of_negatives)], dtype=dtype)
    return Indicator(value, **more)


def log_sum(contrast, log_w):
    return (contrast.logits + log_w).logsumexp(1)[0]


@two_or_three
@every_bar
@pytest.mark.parametrize('t', (0.5, 0.1, 0.05, 0.02))
def test_a_bar_of_height_zero_adds_nothing(normalize, t, count):
    """The nearest negative has the lowest score.

    At t = .02, a millionth of a share times e^50 would be all there is.
    """
    contrast = anchor_and((1.0, 0.0, -1.0), t, count)
    score = scores(count, 0.0, 1.0, 3.0)
    wanted = math.log(3 * (1 / 4 * math.exp(0) + 3 / 4 * math.exp(-1 / t)))
    log_w = BARS[normalize](score, contrast) + contrast.k.log()[:, None]
    assert_close(log_sum(contrast, log_w).item(), wanted)
    assert log_w[:, count:].isfinite().all() and log_w[0, count].exp() == 0


@two_or_three
@every_bar
@pytest.mark.parametrize('mix', ((1.0, 0.0, 0.0), (0.5, 0.0, 0.5), (0.0, 0.0, 1.0)))
def test_nothing_of_two_opinions_is_nothing(normalize, mix, count):
    contrast = anchor_and((1.0, 0.0, -1.0), 0.02, count)
    score = scores(count, 0.0, 1.0, 3.0)
    knobs = Knobs(mix=mix, normalize=normalize)
    log_w = mixture(contrast, knobs, lambda: score, lambda: score)
    wanted = math.log(3 / 4 + 9 / 4 * math.exp(-50))
    assert_close(log_sum(contrast, log_w).item(), wanted)
    assert log_w[:, count:].isfinite().all()


@two_or_three
@every_bar
@pytest.mark.parametrize('dtype', (torch.float32, torch.float64), ids=str)
def test_nothing_is_nothing_at_any_temperature(normalize, dtype, count):
    """At t = .005 the nearest has e^200 times the force.

    The smallest float32 would not do.
    """
    contrast = anchor_and((1.0, 0.0), 0.005, count, dtype)
    score = scores(count, 0.0, 1.0, dtype=dtype)
    for mix in ((1.0, 0.0, 0.0), (0.5, 0.0, 0.5)):
        knobs = Knobs(mix=mix, normalize=normalize)
        log_w = mixture(contrast, knobs, lambda: score, lambda: score)
        found = log_sum(contrast, log_w).item()
        assert_close(found, math.log(2.0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    'count, seed', ((2, 3), (3, 7))
)  # no share is a rounding error
@pytest.mark.parametrize('t', (0.5, 0.05, 0.02))
def test_minmax_against_loops(t, count, seed):
    """Uncertainty alone, from the definition: a share of zero counts zero.

    With these seeds, no share is felt that the loss takes for a rounding error.
    """
    z = numbers(count, 5, 4, seed=seed, dtype=torch.float64)
    knobs = dict(mix=(1.0, 0.0, 0.0), normalize='minmax')
    loss = UnReMixLoss(t, **knobs, reduction='none')
    contrast, wanted = loss.contrast(*z), []
    score = gradient_norm(contrast.candidates, t)
    for i in range(5 * count):
        negatives = contrast.negative[i].nonzero().flatten()
        assert len(negatives) == 4 * count
        share = score[negatives] - score[negatives].min()
        share = share / share.sum()
        force = contrast.logits[i].exp()
        others = len(negatives) * (share * force[negatives]).sum()
        own = force[contrast.positive[i]]
        assert len(own) == count - 1
        among = (own.sum() / own).log().mean()
        wanted.append(torch.log1p(others / own.sum()) + among)
    assert_close(loss(*z), torch.stack(wanted), rtol=1e-6, atol=1e-9)


@two_or_three
@every_bar
def test_equal_scores_are_equal_bars(normalize, count):
    contrast = anchor_and((1.0, 0.0, -1.0), 0.5, count)
    third = torch.full((count, 3), 1 / 3, dtype=torch.float64)
    for value in (0.0, 5.0, 5e-7):
        score = scores(count, value, value, value, of_views=value)
        assert_close(BARS[normalize](score, contrast)[:, count:].exp(), third)
    least = scores(count, 2.0, 2.0, 4.0, of_views=9.0, low=2.0)
    found = BARS[normalize](least, contrast)[0, count:].exp()
    assert_close(found, torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64))


KNOBS = [
    dict(normalize='sum'),
    dict(normalize='minmax'),
    dict(pool='log'),
    dict(select='top', k_keep=2),
    dict(select='sample', k_keep=2),
]


@two_or_three
@pytest.mark.parametrize('bad', (math.nan, math.inf), ids=str)
@pytest.mark.parametrize('knobs', KNOBS, ids=str)
def test_what_is_no_number_is_seen(knobs, bad, count):
    "In one image's hidden input: anchors that have it as a negative have no loss."
    z, h = (numbers(count, 4, 6, seed=seed) for seed in (0, 1))
    h[0, 3, 2] = bad
    losses = UnReMixLoss(reduction='none', **knobs)(*z, hidden=tuple(h))
    assert losses.unflatten(0, (count, 4))[:, :3].isnan().all()


@pytest.mark.parametrize('n', (6, 40, 700))
@pytest.mark.parametrize('k_keep', (1, 2, 5, 1000))
def test_of_equals_the_first_are_kept(n, k_keep):
    "As many lengths as `topk` has algorithms."
    g = torch.Generator().manual_seed(n)
    log_w = torch.randint(0, 3, (50, n), generator=g).float()  # many equals
    log_w[torch.rand(50, n, generator=g) < 0.3] = -math.inf
    log_w[0] = -math.inf
    k = (log_w > -math.inf).sum(1).float()
    kept = keep_top(log_w, k, k_keep)
    for row, got, number in zip(log_w.tolist(), kept, k.tolist(), strict=True):
        alive = [j for j in range(n) if row[j] > -math.inf]
        # Python's sort is stable
        wanted = sorted(alive, key=lambda j: -row[j])[:k_keep]
        assert (got > -math.inf).nonzero().flatten().tolist() == sorted(wanted)
        if alive:
            assert_close(got.exp().sum().item(), number, rtol=1e-6, atol=0)


@two_or_three
def test_top_of_copies_in_the_loss(count):
    """Images 1, 2 and 3 are the same.

    The first view of image 1 is kept for every view of image 0.
    """
    z = circle(0.0, 40.0, 40.0, 40.0)
    loss = UnReMixLoss(mix=(0.0, 1.0, 0.0), select='top', k_keep=1)
    log_w = loss.log_weights(loss.contrast(*[z] * count))
    for anchor in range(0, 4 * count, 4):
        assert (log_w[anchor] > -math.inf).nonzero().flatten().tolist() == [1]
    assert_close(log_w[0, 1].exp().item(), 3.0 * count)


@two_or_three
def test_no_gradient_comes_through_a_choice(count):
    z = circle(0.0, 50.0, 200.0)
    a = z.clone().requires_grad_()
    loss = UnReMixLoss(select='top', k_keep=2, detach_weights=False)
    contrast = loss.contrast(a, *[z] * (count - 1))
    assert contrast.logits.requires_grad
    assert not loss.log_weights(contrast).requires_grad


def sampled(loss, seed=None, count=2):
    z = numbers(count, 8, 4)
    if seed is not None:
        torch.manual_seed(seed)
    return [loss(*z).item() for _ in range(3)]


@two_or_three
@pytest.mark.parametrize('chunk_size', (None, 5))
def test_drawing_follows_the_seed(chunk_size, count):
    knobs = dict(select='sample', k_keep=3, chunk_size=chunk_size)
    first, second = (UnReMixLoss(**knobs) for _ in range(2))
    wanted = sampled(first, 7, count)
    assert len(set(wanted)) == 3
    assert sampled(second, 7, count) == wanted and sampled(first, 7, count) == wanted
    assert not set(sampled(second, 8, count)) & set(wanted)


def test_two_losses_draw_apart():
    """Two modules of one model don't draw the same negatives.

    Nor do two processes with seeds of their own.
    """
    torch.manual_seed(0)
    losses = (UnReMixLoss(select='sample', k_keep=3) for _ in range(2))
    first, second = (sampled(loss) for loss in losses)
    assert not set(first) & set(second)


def test_drawing_goes_on_from_the_state_that_a_checkpoint_keeps():
    loss = UnReMixLoss(select='sample', k_keep=3)
    sampled(loss, 0)
    state = torch.get_rng_state()
    wanted = sampled(loss)
    torch.set_rng_state(state)
    assert sampled(pickle.loads(pickle.dumps(copy.deepcopy(loss)))) == wanted


NOT_DRAWING = [NTXentLoss(), UnReMixLoss(), UnReMixLoss(select='top', k_keep=2)]


@two_or_three
@pytest.mark.parametrize('loss', NOT_DRAWING, ids=repr)
def test_who_does_not_draw_leaves_the_generator_alone(loss, count):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    sampled(loss, count=count)
    assert torch.get_rng_state().equal(before)


def test_who_would_draw_twice_is_refused():
    "With `chunk_size` and `reduction='none'`, gradients come from a second pass."
    drawing = dict(select='sample', k_keep=3)
    with pytest.raises(ValueError, match='draw twice'):
        UnReMixLoss(**drawing, chunk_size=5, reduction='none')
    UnReMixLoss(**drawing, chunk_size=5)
    UnReMixLoss(**drawing, reduction='none')
    UnReMixLoss(select='top', k_keep=3, chunk_size=5, reduction='none')


def test_a_generator_can_be_given():
    log_w, k = torch.zeros(6, 9), torch.full((6,), 9.0)

    def drawn():
        return keep_sample(log_w, k, 3, torch.Generator().manual_seed(1))

    a, b = drawn(), drawn()
    torch.manual_seed(1)
    assert a.equal(b)
    assert a.equal(keep_sample(log_w, k, 3))
    assert not a.equal(keep_sample(log_w, k, 3))


def test_pairs_are_drawn_one_after_the_other():
    "The first in proportion to the weights, the second to what is left."
    p = torch.tensor([0.6, 0.3, 0.1])
    torch.manual_seed(0)
    log_w = p.log().expand(40000, 3)
    kept = keep_sample(log_w, torch.full((40000,), 3.0), 2) > -math.inf
    for i, j in combinations(range(3), 2):
        wanted = p[i] * p[j] / (1 - p[i]) + p[j] * p[i] / (1 - p[j])
        found = (kept[:, i] & kept[:, j]).float().mean()
        assert_close(found, wanted, rtol=0, atol=0.01)


@two_or_three
def test_drawing_compiles(count):
    loss, z = UnReMixLoss(select='sample', k_keep=3), torch.randn(count, 8, 4)
    torch._dynamo.reset()
    compiled = torch.compile(loss, fullgraph=True, backend='aot_eager')
    assert compiled(*z).isfinite()


@two_or_three
@pytest.mark.parametrize('detach', (True, False))
def test_weights_made_some_anchors_at_a_time(detach, count, monkeypatch):
    """Constants are written in place, others are put together.

    `torch.func` sees neither.
    """
    z1, *others = numbers(count, 20, 5, dtype=torch.float64)
    loss = UnReMixLoss(detach_weights=detach)

    def of(z):
        return loss(z, *others)

    whole, doubled = torch.func.grad_and_value(of)(z1), of(2 * z1)
    # sixteen of the forty anchors, or of the sixty
    monkeypatch.setattr('unremix.tiles.CACHE_CELLS', 1)
    assert_close(torch.func.grad_and_value(of)(z1), whole)
    z = z1.clone().requires_grad_()
    value = loss(z, *others)
    assert_close((torch.autograd.grad(value, z)[0], value.detach()), whole)
    each = torch.func.vmap(of)(torch.stack([z1, 2 * z1]))
    assert_close(each, torch.stack([whole[1], doubled]))
