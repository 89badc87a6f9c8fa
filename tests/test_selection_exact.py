"How negatives are judged, on anchors whose numbers can be written out."
import inspect, math

import pytest
import torch
from torch.testing import assert_close

from unremix import HCLLoss, UnReMixLoss
from unremix.importance import Indicator, Knobs, mixture, opinions
from unremix.losses import uniform
from unremix.pairs import from_views
from unremix.representativeness import representativeness
from unremix.selection import (MEASURES, OracleLoss, PlaceboLoss, Yardstick, hardness_and_mass, knowledge, rank_profile, shares, swap_both,
                               swap_candidates, swap_u, tilt)
from unremix.uncertainty import uncertainty
from unremix.weights import hcl, log_share, mean_one

NEAR, OWN = [.8, .4, -.2], torch.tensor([False, False, True, False, False])


def float64(x): return torch.tensor(x, dtype=torch.float64)


def toy(cosines=NEAR, t=.5):
    "An anchor along the first axis, its positive beside it, candidates at these cosines."
    angle = torch.cat([float64([0., 0.]), float64(cosines).acos()])
    z = torch.stack([angle.cos(), angle.sin()], 1)
    return from_views(z[:1], z[1:2], t, negatives=z[2:])


def own(contrast): return OWN.expand(contrast.logits.shape)


def cloud(seed=0, images=24):
    "Three classes, and who shares the anchor's."
    g = torch.Generator().manual_seed(seed)
    y = torch.arange(images) % 3
    centres = torch.randn(3, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(9))[y]
    contrast = from_views(*(centres + torch.randn(images, 8, dtype=torch.float64, generator=g) for _ in range(2)), temperature=.4)
    both = y.repeat(2)
    return contrast, contrast.negative & (both[:,None] == both)


def test_measures(): assert MEASURES == {'weight': 0., 'push': 1.}


@pytest.mark.parametrize('measure, times', MEASURES.items())
def test_shares_in_closed_form(measure, times):
    contrast = toy(t=.25)
    log_w = float64([9., 9., .3, -.1, .7]).expand(2, 5).masked_fill(~contrast.negative, -math.inf)
    e = [math.exp(w + times*cos/.25) for w, cos in zip((.3, -.1, .7), NEAR)]
    assert_close(shares(contrast, log_w, measure), float64([0., 0., *(x/sum(e) for x in e)]).expand(2, 5))
    if measure == 'push': assert_close(shares(contrast, log_w), shares(contrast, log_w, 'push'))


def test_an_anchor_without_negatives_has_no_shares():
    alone = from_views(*torch.ones(2, 3, 2, dtype=torch.float64), labels=torch.tensor([0, 0, 0]))
    assert (shares(alone, uniform(alone)) == 0).all()


def test_hardness_and_mass_of_two_batches():
    "Means over the batches, each a mean over its anchors."
    a, b = toy(), toy([.6, 0., -.6], t=1.)
    hardness, mass = hardness_and_mass([a, b], [own(a), own(b)], uniform, 'weight')
    assert_close(hardness, (1/3 + 0.)/2); assert_close(mass, 1/3)
    e, f = [math.exp(x/.5) for x in NEAR], [math.exp(x) for x in (.6, 0., -.6)]
    wanted = [(sum(x*y for x, y in zip(e, NEAR))/sum(e) + .6*(f[0]-f[2])/sum(f))/2, (e[0]/sum(e) + f[0]/sum(f))/2]
    assert_close(list(hardness_and_mass([a, b], [own(a), own(b)], uniform)), wanted)


def test_who_has_no_negatives_is_not_counted():
    "Images 0 to 2 are of one class; image 3 alone has negatives, and its mass is all there is."
    z = torch.randn(2, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    contrast = from_views(*z, sample_ids=torch.tensor([0, 0, 0, 0]), negatives=z[0, :1].neg().repeat(2, 1), in_batch=True)
    contrast.k[0] = 0 # and one with none at all
    contrast.negative[0] = False
    same = torch.zeros_like(contrast.negative); same[1:, 8] = True
    hardness, mass = hardness_and_mass([contrast], [same], uniform, 'weight')
    assert_close(mass, .5)
    cos = (contrast.logits*contrast.temperature)[1:, 8:].mean()
    assert_close(hardness, cos.item())


@pytest.mark.parametrize('beta', (-2., 0., .7, 3.))
def test_tilt_in_closed_form(beta):
    e = [math.exp(beta*x/.5) for x in NEAR]
    assert_close(tilt(toy(), beta)[0,2:].exp(), float64([3*x/sum(e) for x in e]))
    if beta >= 0: assert_close(tilt(toy(), beta), hcl(toy(), beta))


@pytest.fixture(scope='module')
def clouds():
    contrasts, same = zip(*(cloud(seed) for seed in (0, 1)))
    return list(contrasts), list(same), Yardstick(list(contrasts), list(same))


@pytest.mark.parametrize('measure', MEASURES)
@pytest.mark.parametrize('beta', (0., .5, 2., 20.))
def test_hcl_is_as_hard_as_itself(clouds, measure, beta):
    found = clouds[2].judge(lambda c: tilt(c, beta), measure)
    assert_close(found['beta'], beta, rtol=.01, atol=.01); assert abs(found['excess']) < 2e-3
    assert (found['hardness'], found['mass']) == hardness_and_mass(clouds[0], clouds[1], lambda c: tilt(c, beta), measure)


def test_the_easy_side_of_the_yardstick(clouds):
    found = clouds[2].judge(lambda c: tilt(c, -3.), 'weight')
    assert_close(found['beta'], -3., rtol=.01, atol=.01); assert abs(found['excess']) < 2e-3


def test_reach_of_the_yardstick(clouds):
    "Shares up to e^{300·cos}: β = 100 at t = .4 lies within."
    assert_close(clouds[2].judge(lambda c: tilt(c, 100.), 'weight')['beta'], 100., rtol=.05, atol=0)
    defaults = inspect.signature(Yardstick.__init__).parameters
    assert (defaults['steepest'].default, defaults['points'].default) == (300., 161)
    short = Yardstick(clouds[0], clouds[1], steepest=5., points=21)
    found = short.judge(lambda c: tilt(c, 20.), 'weight')
    assert math.isnan(found['excess']) and math.isnan(found['beta']) and found['mass'] > 0


def test_excess_is_the_mass_beyond_hcls(clouds):
    "The oracle is judged without its own class: all of HCL's mass at that hardness is saved."
    contrasts, same, yardstick = clouds
    of = {id(c): s for c, s in zip(contrasts, same)}
    oracle = lambda c: mean_one(log_share(c.logits, c.negative & ~of[id(c)], c.k), c.k)
    found = yardstick.judge(oracle)
    assert found['mass'] == 0
    as_hard = hardness_and_mass(contrasts, same, lambda c: tilt(c, found['beta']))
    assert_close(as_hard[0], found['hardness'], rtol=0, atol=1e-3); assert_close(found['excess'], -as_hard[1], rtol=0, atol=2e-3)


@pytest.mark.parametrize('measure', MEASURES)
def test_match_turns_the_familys_own_knob(clouds, measure):
    contrasts, same, yardstick = clouds
    wanted = hardness_and_mass(contrasts, same, lambda c: tilt(c, 3.), measure)[0]
    found = yardstick.match(lambda b: lambda c: tilt(c, b*2), wanted, measure)
    assert_close(found['own_beta'], 1.5, rtol=0, atol=2e-3); assert_close(found['beta'], 3., rtol=0, atol=.03)
    assert_close(found['hardness'], wanted, rtol=0, atol=1e-3) and set(found) == {'own_beta', 'hardness', 'mass', 'beta', 'excess'}


def test_a_family_that_is_never_so_hard(clouds):
    contrasts, same, yardstick = clouds
    nothing = dict.fromkeys(('own_beta', 'hardness', 'mass', 'beta', 'excess'))
    softer, harder = (hardness_and_mass(contrasts, same, lambda c: tilt(c, b))[0] for b in (.5, 3.))
    for wanted, limits in ((harder, (0., 2.)), (softer, (1., 60.))):
        found = yardstick.match(lambda b: lambda c: tilt(c, b), wanted, limits=limits)
        assert set(found) == set(nothing) and all(math.isnan(x) for x in found.values())
    far = hardness_and_mass(contrasts, same, lambda c: tilt(c, 50.))[0]
    assert_close(yardstick.match(lambda b: lambda c: tilt(c, b), far)['own_beta'], 50., rtol=0, atol=2.) # the default reaches to 60


def test_rank_profile_by_hand():
    "Two anchors; their negatives from the nearest to the farthest get .5 .3 .2 and .1 .1 .8 of the share."
    contrast = toy()
    logits = float64([[5., 5., 3., 1., 2.], [5., 5., 1., 2., 3.]])
    contrast = type(contrast)(**vars(contrast) | {'logits': logits})
    p = float64([[0., 0., .5, .2, .3], [0., 0., .8, .1, .1]])
    assert_close(rank_profile(contrast, p), float64([[0., 0., .3, .5, .2], [0., 0., .5, .2, .3]]))


def test_rank_profile_where_numbers_of_negatives_differ():
    "The second anchor has two: what a third rank gets is not its own, and the rest is scaled to one."
    contrast = toy()
    negative = contrast.negative.clone(); negative[1, 4] = False
    logits = float64([[0., 0., 3., 2., 1.], [0., 0., 1., 2., 9.]])
    contrast = type(contrast)(**vars(contrast) | {'logits': logits, 'negative': negative})
    p = float64([[0., 0., .6, .2, .2], [0., 0., .2, .8, 0.]])
    mean = [.7, .2, .1]
    assert_close(rank_profile(contrast, p), float64([[0., 0., *mean], [0., 0., .2/.9, .7/.9, 0.]]))
    assert_close(rank_profile(contrast, float64([[0., 0., .6, .2, .2], [0.]*5]))[1].sum(), float64(1.))


def test_of_equally_near_the_first_ranks_first():
    "As many as make an unstable sort shuffle."
    n = 200
    contrast = toy([.3]*n)
    p = torch.arange(n+2, dtype=torch.float64).expand(2, -1)*contrast.negative
    p = p/p.sum(1, keepdim=True)
    assert_close(rank_profile(contrast, p), p)


def test_knowledge_by_hand():
    "Means over anchors and batches of what the mass exceeds the profile's; hardness is the profile's."
    logits = float64([[0., 0., 3., 1., 2.], [0., 0., 1., 2., 9.]])
    base = toy(t=.5)
    contrast = type(base)(**vars(base) | {'logits': logits})
    log_w = float64([[0., 0., .5, .2, .3], [0., 0., .8, .1, .1]]).log().masked_fill(~base.negative, -math.inf)
    same = own(base)
    found = knowledge([contrast, contrast], [same, same], lambda c: log_w, 'weight')
    assert_close(found['knowledge'], ((.5 - .3) + (.8 - .5))/2)
    assert_close(found['rank_hardness'], .5*((.3*3 + .5*1 + .2*2) + (.5*1 + .2*2 + .3*9))/2)
    other = knowledge([contrast, base], [same, same], lambda c: log_w, 'weight')
    assert_close(other['knowledge'], (found['knowledge'] + knowledge([base], [same], lambda c: log_w, 'weight')['knowledge'])/2)
    pushed = knowledge([contrast], [same], lambda c: log_w)
    assert pushed == knowledge([contrast], [same], lambda c: log_w + c.logits, 'weight') != knowledge([contrast], [same], lambda c: log_w, 'weight')


def views(seed=0): return torch.randn(2, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_oracle():
    z, y = views(), torch.tensor([0, 1, 0, 1, 2, -1])
    loss = OracleLoss(.3, 2., reduction='none', chunk_size=5)
    assert (loss.temperature, loss.beta, loss.tau_plus, loss.chunk_size) == (.3, 2., 0., 5)
    assert_close(loss(*z, true_labels=y), HCLLoss(.3, 0., 2., reduction='none')(*z, labels=y))
    stats = OracleLoss()(*z, true_labels=y, return_stats=True)[1]
    assert stats['false_negative_mass'] == 0 and 'false_negative_rate' in stats
    assert (OracleLoss().temperature, OracleLoss().beta) == (.5, 1.)
    with pytest.raises(TypeError, match='true_labels'): loss(*z)


def permutation(n): return torch.randperm(n, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize('per_anchor', (True, False), ids=('of each anchor', 'of all'))
def test_a_placebo_wears_the_scores_of_others(per_anchor):
    "Row by row: an anchor's own scores at other candidates, the mean where there was none."
    contrast = from_views(*views(), sample_ids=torch.tensor([0, 1, 2, 0, 3, 4]))
    value = torch.arange(144., dtype=torch.float64).reshape(12, 12)**2
    indicator = Indicator(value if per_anchor else value[3:4], low=-2., unit=3., floor=.5)
    torch.manual_seed(5); before = torch.get_rng_state()
    swapped, order = swap_candidates(indicator, contrast), permutation(12).tolist()
    assert torch.get_rng_state().equal(before) # and no other randomness is touched
    assert (swapped.low, swapped.unit, swapped.floor) == (-2., 3., .5)
    for i in range(12):
        row, negative = indicator.value[i if per_anchor else 0].tolist(), contrast.negative[i].tolist()
        mean = sum(x for x, n in zip(row, negative) if n)/sum(negative)
        assert_close(swapped.value[i], float64([row[j] if negative[j] else mean for j in order]))
    assert sum(i == j for i, j in enumerate(order)) < 3


def test_a_placebo_without_negatives_is_finite():
    contrast = from_views(*views(), labels=torch.zeros(6, dtype=torch.long))
    assert swap_candidates(Indicator(torch.ones(1, 12, dtype=torch.float64)), contrast).value.isfinite().all()


def test_which_opinions_are_swapped():
    contrast, knobs = from_views(*views()), Knobs(uncertainty='entropy', distance='euclidean')
    u, r = uncertainty(contrast, 'entropy'), representativeness(contrast, 'euclidean')
    of_others = [swap_candidates(x, contrast).value for x in (u, r)]
    for given in (None, u):
        known = [f().value for f in opinions(contrast, knobs, given)]
        only_u = [f().value for f in swap_u(contrast, knobs, given)]
        both = [f().value for f in swap_both(contrast, knobs, given)]
        assert_close(known[1], r.value); assert_close(only_u[1], r.value)
        assert_close(only_u[0], of_others[0]); assert_close(both, of_others)
    assert not torch.equal(of_others[0], u.value.expand(12, 12)) and not torch.equal(of_others[1], r.value)


@pytest.mark.parametrize('ask', (swap_u, swap_both), ids=('u', 'ur'))
def test_placebo_loss(ask):
    z, knobs = views(), dict(mix=(.5, .2, .3), beta=2., kappa=(2., 1.))
    loss = PlaceboLoss(.3, .1, ask=ask, chunk_size=5, reduction='none', **knobs)
    assert (loss.temperature, loss.tau_plus, loss.chunk_size) == (.3, .1, 5)
    contrast = loss.contrast(*z)
    wanted = mixture(contrast, Knobs(**knobs), ask=ask)
    assert_close(loss.log_weights(contrast), wanted)
    assert not wanted.allclose(mixture(contrast, Knobs(**knobs), ask=swap_both if ask is swap_u else swap_u))
    assert PlaceboLoss().ask is swap_u
    top = PlaceboLoss(.3, ask=ask, select='top', k_keep=2, **knobs)
    assert (top.log_weights(contrast).isfinite().sum(1) == 2).all()
    assert not loss(*z).allclose(UnReMixLoss(.3, .1, reduction='none', **knobs)(*z))
