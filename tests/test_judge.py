"What `tools/judge_encoders.py` writes is what the pages read."
import json, math

import judge_encoders
import pytest
from torch.testing import assert_close
from judge_encoders import encoders, judge
from unremix.importance import standard_score
from unremix.selection import MEASURES
from unremix.train import TrainConfig, set_up

@pytest.fixture(scope='module')
def judged():
    judge_encoders.BATCH, judge_encoders.BATCHES = 32, 2
    return judge(set_up(TrainConfig(limit=64, batch_size=32, precision='32-true')), .5, 0)[0]

def test_every_weighting_is_judged_under_both_measures(judged):
    assert len(judged) > 100 and all(set(q) == set(MEASURES) for q in judged.values())
    json.dumps(judged, allow_nan=False)

def test_hcl_is_its_own_yardstick(judged):
    for name, q in judged.items():
        if name.startswith('hcl'): assert all(abs(q[m]['excess']) < 2e-3 and math.isclose(q[m]['beta'], float(name[6:]), rel_tol=.02) for m in MEASURES), name

def test_oracle_and_uniform_are_the_ends(judged):
    assert judged['oracle β=1.0']['push']['mass'] == 0 and judged['oracle β=1.0']['push']['excess'] < 0
    assert abs(judged['uniform']['weight']['beta']) < .02

def test_placebos_differ_from_what_they_control(judged):
    pairs = [(n, f'{n} placebo') for n in judged if f'{n} placebo' in judged] + [('unremix β=1.0', 'placebo-u β=1.0'), ('placebo-u β=1.0', 'placebo-ur β=1.0')]
    assert len(pairs) > 20 and all(judged[a] != judged[b] for a, b in pairs)

def test_encoders_are_found_by_strategy_temperature_and_stage():
    line = lambda cell, t, seed=0: {'cell': cell, 'strategy': cell.split()[0], 'knobs': {} if t == .5 else {'temperature': t}, 'seed': seed}
    lines = [line('simclr', .5), line('simclr', .5, 1), line('simclr t=0.2', .2), line('simclr early t=0.5', .5), line('hcl t=0.2', .2), line('debiased', .5)]
    found = {(name, t, seed, l['cell']) for name, t, seed, l in encoders(lines, 1)}
    assert found == {('untrained', .5, 0, 'simclr'), ('untrained', .2, 0, 'simclr'), ('simclr', .5, 0, 'simclr'), ('simclr', .2, 0, 'simclr t=0.2'),
                     ('simclr early', .5, 0, 'simclr early t=0.5'), ('hcl', .2, 0, 'hcl t=0.2')}

def test_matched_rows_are_as_hard_as_hcl():
    judge_encoders.BATCH, judge_encoders.BATCHES = 32, 2
    judged, matched = judge(set_up(TrainConfig(limit=64, batch_size=32, precision='32-true')), .5, 0)
    target = judged['hcl β=1.0']['push']['hardness']
    reached = {name: row for name, row in matched.items() if row['own_beta'] is not None}
    assert len(reached) > 15 and all(abs(row['hardness'] - target) < 2e-3 for row in reached.values())
    assert {'knowledge', 'excess'} <= set(reached['unremix']) and {'log near_images κ=1.0', 'log norm placebo κ=2.0'} <= set(matched)
    json.dumps(matched, allow_nan=False)

def test_the_control_is_the_library_s_similarity_of_images():
    run = set_up(TrainConfig(limit=64, batch_size=32, precision='32-true'))
    contrast = judge_encoders.embeddings(run, .5, 0)[0][0]
    a, b = (standard_score(f(contrast), contrast)[contrast.negative] for f in (judge_encoders.near_images, judge_encoders.SCORES['image_similarity']))
    assert_close(a, b, rtol=1e-3, atol=1e-3)
