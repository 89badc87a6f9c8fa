"How negatives are judged, on anchors whose numbers can be written out."

import inspect
import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch.testing import assert_close

from unremix import HCLLoss, UnReMixLoss
from unremix.contrast import compare, with_prepared
from unremix.contrastive_loss import ContrastiveLoss
from unremix.embeddings import embed, from_views, stack
from unremix.hard_negatives import HCL, log_share, mean_one, uniform
from unremix.info_nce import InfoNCE
from unremix.knobs import Knobs
from unremix.representativeness import representativeness
from unremix.rules import Without, views
from unremix.selection import MEASURES, Placebo, Yardstick, hardness_and_mass, knowledge
from unremix.selection import rank_profile, shares, swap_candidates, tilt
from unremix.uncertainty import Indicator, uncertainty
from unremix.unremix import UnReMix, mixture

NEAR, OWN = [0.8, 0.4, -0.2], torch.tensor([False, False, True, False, False])


def float64(x):
    return torch.tensor(x, dtype=torch.float64)


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def contrast_of(*z, rule=views, t=0.5, negatives=None, **ids):
    e = from_views(list(z), **ids)
    candidates = e if negatives is None else stack(e, embed(negatives))
    return compare(candidates[: e.batch[0] * e.batch[1]], candidates, rule, t)


def toy(cosines=NEAR, t=0.5):
    "An anchor along the first axis, its positive beside it, candidates at cosines."
    angle = torch.cat([float64([0.0, 0.0]), float64(cosines).acos()])
    z = torch.stack([angle.cos(), angle.sin()], 1)
    return contrast_of(z[:1], z[1:2], t=t, negatives=z[2:])


def own(contrast):
    return OWN.expand(contrast.logits.shape)


def cloud(seed=0, images=24):
    "Three classes, and who shares the anchor's."
    g = torch.Generator().manual_seed(seed)
    y = torch.arange(images) % 3
    centres = normal(3, 8, seed=9)[y]
    noise = [torch.randn(images, 8, dtype=torch.float64, generator=g) for _ in 'ab']
    contrast = contrast_of(*(centres + x for x in noise), t=0.4)
    both = y.repeat(2)
    return contrast, contrast.negative & (both[:, None] == both)


def test_measures():
    assert MEASURES == {'weight': 0.0, 'push': 1.0}


@pytest.mark.parametrize('measure, times', MEASURES.items())
def test_shares_in_closed_form(measure, times):
    contrast = toy(t=0.25)
    log_w = float64([9.0, 9.0, 0.3, -0.1, 0.7]).expand(2, 5)
    log_w = log_w.masked_fill(~contrast.negative, -math.inf)
    weighed = zip((0.3, -0.1, 0.7), NEAR, strict=True)
    e = [math.exp(w + times * cos / 0.25) for w, cos in weighed]
    wanted = float64([0.0, 0.0, *(x / sum(e) for x in e)]).expand(2, 5)
    assert_close(shares(contrast, log_w, measure), wanted)
    if measure == 'push':
        assert_close(shares(contrast, log_w), shares(contrast, log_w, 'push'))


def test_an_anchor_without_negatives_has_no_shares():
    z, labels = torch.ones(2, 3, 2, dtype=torch.float64), torch.tensor([0, 0, 0])
    alone = contrast_of(*z, rule=Without(views, 'label'), labels=labels)
    assert (shares(alone, uniform(alone)) == 0).all()


def test_hardness_and_mass_of_two_batches():
    "Means over the batches, each a mean over its anchors."
    a, b = toy(), toy([0.6, 0.0, -0.6], t=1.0)
    same = [own(a), own(b)]
    hardness, mass = hardness_and_mass([a, b], same, uniform, 'weight')
    assert_close(hardness, (1 / 3 + 0.0) / 2)
    assert_close(mass, 1 / 3)
    e, f = [math.exp(x / 0.5) for x in NEAR], [math.exp(x) for x in (0.6, 0.0, -0.6)]
    of_a = sum(x * y for x, y in zip(e, NEAR, strict=True)) / sum(e)
    of_b = 0.6 * (f[0] - f[2]) / sum(f)
    wanted = [(of_a + of_b) / 2, (e[0] / sum(e) + f[0] / sum(f)) / 2]
    assert_close(list(hardness_and_mass([a, b], same, uniform)), wanted)


def test_who_has_no_negatives_is_not_counted():
    "Of one file, all images have the two further candidates; one anchor has none."
    z = normal(2, 4, 3)
    given = dict(negatives=z[0, :1].neg().repeat(2, 1), copies=torch.zeros(4).long())
    contrast = contrast_of(*z, rule=Without(views, 'copy'), **given)
    some = torch.arange(8) > 0
    contrast = replace(contrast, negative=contrast.negative & some[:, None])
    assert contrast.k.tolist() == [0] + [2] * 7
    same = torch.zeros_like(contrast.negative)
    same[1:, 8] = True
    hardness, mass = hardness_and_mass([contrast], [same], uniform, 'weight')
    assert_close(mass, 0.5)
    cos = (contrast.logits * contrast.temperature)[1:, 8:].mean()
    assert_close(hardness, cos.item())


@pytest.mark.parametrize('beta', (-2.0, 0.0, 0.7, 3.0))
def test_tilt_in_closed_form(beta):
    e = [math.exp(beta * x / 0.5) for x in NEAR]
    wanted = float64([3 * x / sum(e) for x in e])
    assert_close(tilt(toy(), beta)[0, 2:].exp(), wanted)
    if beta >= 0:
        assert_close(tilt(toy(), beta), HCL(beta)(toy()))


def tilted(beta):
    return partial(tilt, beta=beta)


@pytest.fixture(scope='module')
def clouds():
    contrasts, same = zip(*(cloud(seed) for seed in (0, 1)), strict=True)
    return list(contrasts), list(same), Yardstick(list(contrasts), list(same))


@pytest.mark.parametrize('measure', MEASURES)
@pytest.mark.parametrize('beta', (0.0, 0.5, 2.0, 20.0))
def test_hcl_is_as_hard_as_itself(clouds, measure, beta):
    contrasts, same, yardstick = clouds
    found = yardstick.judge(tilted(beta), measure)
    assert_close(found['beta'], beta, rtol=0.01, atol=0.01)
    assert abs(found['excess']) < 2e-3
    wanted = hardness_and_mass(contrasts, same, tilted(beta), measure)
    assert (found['hardness'], found['mass']) == wanted


def test_the_easy_side_of_the_yardstick(clouds):
    found = clouds[2].judge(tilted(-3.0), 'weight')
    assert_close(found['beta'], -3.0, rtol=0.01, atol=0.01)
    assert abs(found['excess']) < 2e-3


def test_reach_of_the_yardstick(clouds):
    "Shares up to e^{300·cos}: β = 100 at t = .4 lies within."
    contrasts, same, yardstick = clouds
    far = yardstick.judge(tilted(100.0), 'weight')
    assert_close(far['beta'], 100.0, rtol=0.05, atol=0)
    defaults = inspect.signature(Yardstick.__init__).parameters
    reach = defaults['steepest'].default, defaults['points'].default
    assert reach == (300.0, 161)
    short = Yardstick(contrasts, same, steepest=5.0, points=21)
    found = short.judge(tilted(20.0), 'weight')
    assert math.isnan(found['excess']) and math.isnan(found['beta'])
    assert found['mass'] > 0


def test_excess_is_the_mass_beyond_hcls(clouds):
    """The oracle is judged without its own class.

    All of HCL's mass at that hardness is saved.
    """
    contrasts, same, yardstick = clouds
    of = {id(c): s for c, s in zip(contrasts, same, strict=True)}

    def oracle(c):
        return mean_one(log_share(c.logits, c.negative & ~of[id(c)], c.k), c.k)

    found = yardstick.judge(oracle)
    assert found['mass'] == 0
    hardness, mass = hardness_and_mass(contrasts, same, tilted(found['beta']))
    assert_close(hardness, found['hardness'], rtol=0, atol=1e-3)
    assert_close(found['excess'], -mass, rtol=0, atol=2e-3)


@pytest.mark.parametrize('measure', MEASURES)
def test_match_turns_the_familys_own_knob(clouds, measure):
    contrasts, same, yardstick = clouds
    wanted = hardness_and_mass(contrasts, same, tilted(3.0), measure)[0]
    found = yardstick.match(lambda b: tilted(b * 2), wanted, measure)
    assert_close(found['own_beta'], 1.5, rtol=0, atol=2e-3)
    assert_close(found['beta'], 3.0, rtol=0, atol=0.03)
    assert_close(found['hardness'], wanted, rtol=0, atol=1e-3)
    assert set(found) == {'own_beta', 'hardness', 'mass', 'beta', 'excess'}


def test_a_family_that_is_never_so_hard(clouds):
    contrasts, same, yardstick = clouds

    def hardness_at(beta):
        return hardness_and_mass(contrasts, same, tilted(beta))[0]

    softer, harder = hardness_at(0.5), hardness_at(3.0)
    for wanted, limits in ((harder, (0.0, 2.0)), (softer, (1.0, 60.0))):
        found = yardstick.match(tilted, wanted, limits=limits)
        assert set(found) == {'own_beta', 'hardness', 'mass', 'beta', 'excess'}
        assert all(math.isnan(x) for x in found.values())
    # the default reaches to 60
    far = yardstick.match(tilted, hardness_at(50.0))
    assert_close(far['own_beta'], 50.0, rtol=0, atol=2.0)


def test_rank_profile_by_hand():
    """Two anchors, whose negatives get, from the nearest to the farthest:

    .5 .3 .2 and .1 .1 .8 of the share.
    """
    logits = float64([[5.0, 5.0, 3.0, 1.0, 2.0], [5.0, 5.0, 1.0, 2.0, 3.0]])
    contrast = replace(toy(), logits=logits)
    p = float64([[0.0, 0.0, 0.5, 0.2, 0.3], [0.0, 0.0, 0.8, 0.1, 0.1]])
    wanted = float64([[0.0, 0.0, 0.3, 0.5, 0.2], [0.0, 0.0, 0.5, 0.2, 0.3]])
    assert_close(rank_profile(contrast, p), wanted)


def test_rank_profile_where_numbers_of_negatives_differ():
    """The second anchor has two, and an equal share of them is a half.

    So shares count times the number of negatives, over the anchors that have the rank.
    """
    contrast = toy()
    negative = contrast.negative.clone()
    negative[1, 4] = False
    logits = float64([[0.0, 0.0, 3.0, 2.0, 1.0], [0.0, 0.0, 1.0, 2.0, 9.0]])
    contrast = replace(contrast, logits=logits, negative=negative)
    first = [0.0, 0.0, 0.6, 0.2, 0.2]
    mean = float64([(1.8 + 1.6) / 2, (0.6 + 0.4) / 2, 0.6])
    second = float64([0.0, 0.0, mean[1], mean[0], 0.0]) / mean[:2].sum()
    found = rank_profile(contrast, float64([first, [0.0, 0.0, 0.2, 0.8, 0.0]]))
    assert_close(found[0, 2:], mean / mean.sum())
    assert_close(found[1], second)
    of_one = rank_profile(contrast, float64([first, [0.0] * 5]))
    assert_close(of_one[1].sum(), float64(1.0))


def test_uniform_weights_know_nothing():
    "Whatever the numbers of negatives of the anchors."
    y = torch.tensor([0, 0, 0, 0, 1, 2])
    c = contrast_of(*images(), rule=Without(views, 'label'), t=0.3, labels=y)
    assert len(c.k.unique()) == 2
    p = shares(c, uniform(c), 'weight')
    assert_close(rank_profile(c, p), p)
    e = contrast_of(*images(), t=0.3, labels=y)
    same = e.negative & (e.anchors.label[:, None] == e.candidates.label)
    for contrast in (c, e, replace(e, negative=e.negative & ~same | same.tril())):
        own = same & contrast.negative
        found = knowledge([contrast], [own], uniform, 'weight')
        assert abs(found['knowledge']) < 1e-12


def test_a_collapsed_encoder_has_no_yardstick():
    "All cosines are equal, so HCL is as hard at every β."
    c = contrast_of(*torch.ones(2, 4, 3, dtype=torch.float64), t=0.5)
    stick = Yardstick([c], [c.negative.tril()])
    found = stick.judge(HCL(2.0))
    assert math.isnan(found['beta']) and math.isnan(found['excess'])
    assert_close(found['hardness'], 1.0)


def test_of_equally_near_the_first_ranks_first():
    "As many as make an unstable sort shuffle."
    n = 200
    contrast = toy([0.3] * n)
    p = torch.arange(n + 2, dtype=torch.float64).expand(2, -1) * contrast.negative
    p = p / p.sum(1, keepdim=True)
    assert_close(rank_profile(contrast, p), p)


def test_knowledge_by_hand():
    """Means over anchors and batches of what the mass exceeds the profile's.

    The hardness is the profile's.
    """
    base = toy(t=0.5)
    logits = float64([[0.0, 0.0, 3.0, 1.0, 2.0], [0.0, 0.0, 1.0, 2.0, 9.0]])
    contrast = replace(base, logits=logits)
    w = float64([[0.0, 0.0, 0.5, 0.2, 0.3], [0.0, 0.0, 0.8, 0.1, 0.1]])
    log_w = w.log().masked_fill(~base.negative, -math.inf)

    def known(*contrasts, measure='weight', pushed=0):
        same = [own(base)] * len(contrasts)

        def weighting(c):
            return log_w + pushed * c.logits

        return knowledge(list(contrasts), same, weighting, measure)

    found = known(contrast, contrast)
    assert_close(found['knowledge'], ((0.5 - 0.3) + (0.8 - 0.5)) / 2)
    first = 0.3 * 3 + 0.5 * 1 + 0.2 * 2
    second = 0.5 * 1 + 0.2 * 2 + 0.3 * 9
    assert_close(found['rank_hardness'], 0.5 * (first + second) / 2)
    mean = (found['knowledge'] + known(base)['knowledge']) / 2
    assert_close(known(contrast, base)['knowledge'], mean)
    by_default = knowledge([contrast], [own(base)], lambda c: log_w)
    assert by_default == known(contrast, measure='push')
    assert by_default == known(contrast, pushed=1) != known(contrast)


def images(count=2, seed=0):
    return normal(count, 6, 5, seed=seed)


@pytest.mark.parametrize('count', (2, 3))
def test_oracle(count):
    "HCL under a rule that reads the labels, some of which are unknown."
    z, y = images(count), torch.tensor([0, 1, 0, 1, 2, -1])
    cheating = contrast_of(*z, rule=Without(views, 'label'), t=0.3, labels=y)
    each = HCLLoss(0.3, 0.0, 2.0, reduction='none', chunk_size=5)
    assert_close(each(*z, labels=y), InfoNCE()(cheating, HCL(2.0)(cheating)))
    known = dict(labels=y, true_labels=y, return_stats=True)
    stats = HCLLoss(0.3, 0.0, 2.0)(*z, **known)[1]
    assert stats['false_negative_mass'] == 0 and 'false_negative_rate' in stats


def permutation(n):
    return torch.randperm(n, generator=torch.Generator().manual_seed(0)).tolist()


@pytest.mark.parametrize('per_anchor', (True, False), ids=('of each anchor', 'of all'))
def test_a_placebo_wears_the_scores_of_others(per_anchor):
    "Row by row: an anchor's own scores at other candidates, the mean where none was."
    copies = torch.tensor([0, 1, 2, 0, 3, 4])
    contrast = contrast_of(*images(), rule=Without(views, 'copy'), copies=copies)
    value = torch.arange(144.0, dtype=torch.float64).reshape(12, 12) ** 2
    value = value if per_anchor else value[3:4]
    indicator = Indicator(value, low=-2.0, unit=3.0, floor=0.5)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    swapped, order = swap_candidates(indicator, contrast), permutation(12)
    assert torch.get_rng_state().equal(before)  # and no other randomness is touched
    assert (swapped.low, swapped.unit, swapped.floor) == (-2.0, 3.0, 0.5)
    for i in range(12):
        row = indicator.value[i if per_anchor else 0].tolist()
        negative = contrast.negative[i].tolist()
        mean = sum(x for x, n in zip(row, negative, strict=True) if n) / sum(negative)
        wanted = [row[j] if negative[j] else mean for j in order]
        assert_close(swapped.value[i], float64(wanted))
    assert sum(i == j for i, j in enumerate(order)) < 3


def test_a_placebo_without_negatives_is_finite():
    labels = torch.zeros(6, dtype=torch.long)
    alone = contrast_of(*images(), rule=Without(views, 'label'), labels=labels)
    indicator = Indicator(torch.ones(1, 12, dtype=torch.float64))
    assert swap_candidates(indicator, alone).value.isfinite().all()
    assert (Placebo(swap='ur')(alone) == -math.inf).all()


def values(opinions):
    return [opinion().value for opinion in opinions]


@pytest.mark.parametrize('count', (2, 3))
def test_which_opinions_are_swapped(count):
    contrast = contrast_of(*images(count))
    knobs = dict(uncertainty='entropy', distance='euclidean')
    u = uncertainty(contrast, 'entropy')
    r = representativeness(contrast, 'euclidean')
    of_others = [swap_candidates(x, contrast).value for x in (u, r)]
    for given in (None, u):
        known = values(UnReMix(**knobs).opinions(contrast, given))
        only_u = values(Placebo(**knobs).opinions(contrast, given))
        both = values(Placebo(**knobs, swap='ur').opinions(contrast, given))
        assert_close(known, [u.value, r.value])
        assert_close(only_u, [of_others[0], r.value])
        assert_close(both, of_others)
    assert not torch.equal(of_others[0], u.value.expand(6 * count, 6 * count))
    assert not torch.equal(of_others[1], r.value)


KNOBS = dict(mix=(0.5, 0.2, 0.3), beta=2.0, kappa=(2.0, 1.0))


def test_a_placebo_of_what_does_not_count_is_refused():
    "It would be UnReMix itself."
    log = dict(pool='log')
    for knobs in (
        dict(mix=(0, 0.5, 0.5)),
        dict(mix=(0, 1.0, 0), swap='ur'),
        log | dict(kappa=(0.0, 1.0)),
        log | dict(kappa=(0.0, 0.0), swap='ur'),
    ):
        with pytest.raises(ValueError, match='^swap must be of an opinion that counts'):
            Placebo(**knobs)
    for knobs in (dict(mix=(0, 0.5, 0.5)), dict(mix=(0.5, 0.5, 0))):
        assert Placebo(**knobs, swap='ur').swap == 'ur'
    assert Placebo(mix=(1, 0, 0)).swap == 'u'


@pytest.mark.parametrize('count', (2, 3))
@pytest.mark.parametrize('swap', ('u', 'ur'))
def test_placebo_loss(swap, count):
    z, placebo = images(count), Placebo(**KNOBS, swap=swap)
    fields = dict(loss=InfoNCE(0.1), temperature=0.3, reduction='none')
    loss = ContrastiveLoss(placebo, **fields, chunk_size=5)
    contrast = loss.contrast(*z)
    u = swap_candidates(uncertainty(contrast, 'norm'), contrast)
    r = representativeness(contrast)
    if swap == 'ur':
        r = swap_candidates(r, contrast)
    wanted = mixture(contrast, Knobs(**KNOBS), lambda: u, lambda: r)
    assert_close(loss.log_weights(contrast), wanted)
    other = Placebo(**KNOBS, swap='ur' if swap == 'u' else 'u')
    assert not wanted.allclose(other(contrast))
    top = replace(placebo, select='top', k_keep=2)
    assert (top(contrast).isfinite().sum(1) == 2).all()
    assert_close(loss(*z), ContrastiveLoss(placebo, **fields)(*z))
    assert_close(loss(*z), InfoNCE(0.1)(contrast, wanted, contrast.k))
    real = UnReMixLoss(0.3, 0.1, **KNOBS, reduction='none')
    assert not loss(*z).allclose(real(*z))
    assert Placebo().swap == 'u'


def test_a_placebo_swaps_among_all_candidates_in_parts_too(monkeypatch):
    "What is prepared once, and some anchors at a time, change nothing."
    z = normal(2, 20, 5)
    e = from_views(list(z))
    contrast, placebo = compare(e, e, views, 0.3), Placebo(swap='ur')
    whole = placebo(contrast)
    prepared = placebo.prepare(e, e, views, 0.3)
    assert_close(placebo(with_prepared(contrast, prepared)), whole)
    monkeypatch.setattr('unremix.tiles.CACHE_CELLS', 1)
    assert_close(placebo(contrast), whole)


def test_what_is_no_swap():
    with pytest.raises(ValueError, match='swap must be'):
        Placebo(swap='r')
    with pytest.raises(ValueError, match='beta must be'):
        Placebo(beta=-1.0)
