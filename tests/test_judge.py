"What `tools/judge_encoders.py` writes is what the pages read."

import json
import math

import judge_encoders
import judge_readings
import pytest
from judge_encoders import encoders, judge
from torch.testing import assert_close
from configs import run_of
from unremix.normalizers import standard_score
from unremix.run_parts import set_up
from unremix.selection import MEASURES


def small_run():
    return set_up(run_of(limit=64, batch_size=32, precision='32-true'))


@pytest.fixture(scope='module')
def both():
    judge_encoders.BATCH, judge_encoders.BATCHES = 32, 2
    return judge(small_run(), 0.5, 0)


@pytest.fixture(scope='module')
def judged(both):
    return both[0]


def test_every_weighting_is_judged_under_both_measures(judged):
    assert len(judged) > 100
    assert all(set(q) == set(MEASURES) for q in judged.values())
    json.dumps(judged, allow_nan=False)


def test_hcl_is_its_own_yardstick(judged):
    of_hcl = {name: q for name, q in judged.items() if name.startswith('hcl')}
    assert len(of_hcl) == 6
    for name, q in of_hcl.items():
        for m in MEASURES:
            assert abs(q[m]['excess']) < 2e-3, name
            assert math.isclose(q[m]['beta'], float(name[6:]), rel_tol=0.02), name


def test_oracle_and_uniform_are_the_ends(judged):
    oracle = judged['oracle β=1.0']['push']
    assert oracle['mass'] == 0 and oracle['excess'] < 0
    assert abs(judged['uniform']['weight']['beta']) < 0.02


def test_placebos_differ_from_what_they_control(judged):
    pairs = [(n, f'{n} placebo') for n in judged if f'{n} placebo' in judged]
    pairs += [
        ('unremix β=1.0', 'placebo-u β=1.0'),
        ('placebo-u β=1.0', 'placebo-ur β=1.0'),
    ]
    assert len(pairs) > 20
    assert all(judged[a] != judged[b] for a, b in pairs)


def line(cell, t, seed=0):
    knobs = {} if t == 0.5 else {'temperature': t}
    return {'cell': cell, 'strategy': cell.split()[0], 'knobs': knobs, 'seed': seed}


def test_encoders_are_found_by_strategy_temperature_and_stage():
    lines = [
        line('simclr', 0.5),
        line('simclr', 0.5, 1),
        line('simclr t=0.2', 0.2),
        line('simclr early t=0.5', 0.5),
        line('hcl t=0.2', 0.2),
        line('debiased', 0.5),
    ]
    found = {(name, t, seed, run['cell']) for name, t, seed, run in encoders(lines, 1)}
    assert found == {
        ('untrained', 0.5, 0, 'simclr'),
        ('untrained', 0.2, 0, 'simclr'),
        ('simclr', 0.5, 0, 'simclr'),
        ('simclr', 0.2, 0, 'simclr t=0.2'),
        ('simclr early', 0.5, 0, 'simclr early t=0.5'),
        ('hcl', 0.2, 0, 'hcl t=0.2'),
    }


def test_matched_rows_are_as_hard_as_hcl(both):
    judged, matched = both
    target = judged['hcl β=1.0']['push']['hardness']
    reached = [row for row in matched.values() if row['own_beta'] is not None]
    assert len(reached) > 15
    assert all(abs(row['hardness'] - target) < 2e-3 for row in reached)
    assert {'knowledge', 'excess'} <= set(matched['unremix'])
    assert matched['unremix']['own_beta'] is not None
    assert {'log near_images κ=1.0', 'log norm placebo κ=2.0'} <= set(matched)
    json.dumps(matched, allow_nan=False)


def test_the_control_is_the_library_s_similarity_of_images():
    contrast = judge_encoders.embeddings(small_run(), 0.5, 0)[0][0]
    library = judge_encoders.SCORES['image_similarity']
    found, wanted = (
        standard_score(score(contrast), contrast)[contrast.negative]
        for score in (judge_encoders.near_images, library)
    )
    assert_close(found, wanted, rtol=1e-3, atol=1e-3)


@pytest.fixture(scope='module')
def readings():
    judge_encoders.BATCH, judge_encoders.BATCHES = 32, 2
    return judge_readings.judge(small_run(), 0.5, 0)


def test_readings_are_judged_by_the_same_yardstick(readings, judged):
    assert readings['oracle']['mass'] == 0 and abs(readings['hcl']['excess']) < 2e-3
    both = (
        ('A argmax', 'unremix β=1.0'),
        ('A argmax placebo', 'placebo-u β=1.0'),
        ('uniform', 'uniform'),
    )
    for name, same in both:
        for number in ('hardness', 'mass', 'excess'):
            found = readings[name][number]
            assert math.isclose(found, judged[same]['push'][number], abs_tol=1e-4)
    json.dumps(readings, allow_nan=False)


def test_readings_and_their_placebos_differ(readings):
    rows = [json.dumps(row) for row in readings.values()]
    assert len(set(rows)) == len(rows) == 12 + 3 + 3
    k = 2 * 32 - 2
    assert all(1 <= row['effective'] <= k for row in readings.values())
    softer = readings['log κ=1 matched placebo']['hardness']
    assert softer < readings['log κ=1 placebo']['hardness']
