"Strategies of equal skill, simulated with lucky seeds and images of different difficulty: how often does a table call one better?"
import itertools, math

import numpy as np
import pytest
import torch
from scipy import stats

from unremix.rows import summarize
from unremix.significance import LEVEL, both_errors, chance, holm, paired_difference
from unremix.significance import verdict


def cell(*correct): return [{'scores': {'linear': c.count('1')/len(c), 'correct': c}} for c in correct]


def bits(*rows): return torch.tensor([[c == '1' for c in r] for r in rows])


def tables(seeds, luck, rows, images, tables, seed, gain=0.):
    "Differences (tables, rows, seeds, images) from a shared reference; the first row is better by `gain` logits."
    g = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, generator=g)
    logit = 1.5 + 1.5*normal(tables, 1, 1, images) + .4*normal(tables, rows+1, 1, images) + luck*normal(tables, rows+1, seeds, 1)
    logit[:,1] += gain
    right = (torch.rand(tables, rows+1, seeds, images, generator=g) < logit.sigmoid()).double()
    return right[:,1:] - right[:,:1]


def called(d):
    "Per table: is any row called better or worse? Holm calls one if the smallest p is small enough for all."
    over_images, over_seeds = (e.numpy() for e in both_errors(d))
    p = chance(d.mean((2, 3)).numpy(), over_images, d.shape[3], over_seeds, d.shape[2])
    return p.min(1)*p.shape[1] <= LEVEL


@pytest.mark.parametrize('seeds', (2, 3, 5, 10))
@pytest.mark.parametrize('luck', (0., .1, .3, 1.))
def test_false_verdicts_of_any_row(seeds, luck):
    "At most 5 % of tables of equals, whatever the share of the seeds in the error; 1.6 standard errors for the simulation."
    n = 500
    for rows in (1, 3, 6):
        rate = called(tables(seeds, luck, rows, 200, n, seed=seeds)).mean()
        assert rate <= .05 + 1.64*(.05*.95/n)**.5, (rows, rate)


def test_worst_case_of_few_seeds():
    "Normal errors with known parts: never above the level, for any share of the seeds, number of them and level."
    g = np.random.default_rng(0)
    n = 100_000
    for seeds, share, level in itertools.product((2, 3, 5, 10), (1., .95, .8, .5), (.05, .05/6)):
        over_seeds = np.sqrt(share*g.chisquare(seeds-1, n)/(seeds-1))
        size, over_images = np.abs(g.standard_normal(n)), math.sqrt(1-share)
        reach = np.hypot(stats.t.isf(level/2, seeds-1)*over_seeds, stats.t.isf(level/2, 1999)*over_images)
        near = np.abs(size - reach) < .02*reach # both rules in one: `chance` where it is close, the formula elsewhere
        beyond = size > reach
        assert ((chance(size[near][:500], over_images, 2000, over_seeds[near][:500], seeds) <= level) == beyond[near][:500]).all()
        assert beyond.mean() <= level + 2.5*(level/n)**.5, (seeds, share, level)


@pytest.mark.parametrize('seeds, least', ((3, .1), (5, .6), (10, .9)))
def test_a_real_difference_is_found(seeds, least):
    assert called(tables(seeds, .05, 3, 500, 100, seed=1, gain=.8)).mean() >= least


def test_summarize_judges_as_simulated():
    "The same through the rows of a result: p of each by itself, then Holm."
    d = tables(5, .1, 3, 100, 6, seed=3, gain=1.)
    for t in d:
        texts = lambda row: [''.join('1' if x > 0 else '0' for x in s) for s in row]
        base = [''.join('1' if x < 0 else '0' for x in s) for s in t[0]]
        cells = {'simclr': cell(*base)} | {f'row{i}': cell(*texts(r)) for i, r in enumerate(t)}
        rows = summarize(cells, 'simclr', {})
        raw = [paired_difference(bits(*texts(r)), bits(*base)) for r in t]
        for i, p in enumerate(holm([p for _, _, p in raw])):
            assert (rows[f'row{i}']['p'], rows[f'row{i}']['verdict']) == (p, verdict(raw[i][0], raw[i][1], p))
