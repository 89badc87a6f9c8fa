"The rows of a comparison worked out on paper, rows that failed, what is told before anything starts; nothing is trained."
from importlib.util import find_spec
import dataclasses, itertools, json, math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.testing import assert_close

from configs import comparison, run_of
from unremix import compare as module, several_runs
from unremix.cli import main
from unremix.compare import compare, facts_of, remember, run_cells
from unremix.compare_config import CompareConfig, cell_config
from unremix.registry import known
from unremix.rows import spread, summarize
from unremix.run_folder import split_samples
from unremix.several_runs import time_steps
from unremix.significance import both_errors, chance, holm, paired_difference, rejudged
from unremix.significance import verdict
from unremix.table import align_columns, cell_text, difference_text, draw, table


def cell(*correct, **scores):
    "Results of one row: per seed, which test images are right."
    return [{'seconds': 1., 'scores': {'linear': c.count('1')/len(c), 'correct': c} | scores} for c in correct]


def bits(*rows): return torch.tensor([[c == '1' for c in r] for r in rows])


# the difference and its two errors

def test_difference_on_paper():
    "d = [[0 1 0 0], [0 1 0 0]]: mean 1/4; images (0 1 0 0) have s.d. 1/2, so 1/4; seeds agree."
    ours, base = bits('1110', '1100'), bits('1010', '1000')
    over_images, over_seeds = both_errors(ours.double() - base.double())
    assert (over_images.item(), over_seeds.item()) == (.25, 0.)
    assert paired_difference(ours, base)[:2] == (.25, .25)
    assert paired_difference(base, ours)[:2] == (-.25, .25)
    d = torch.tensor([[1., 0, 0, 0], [1, 1, 1, 0]]).double() # images (1 .5 .5 0): s.d. √(1/6); seeds (.25 .75): s.d. √(1/8)
    assert_close(torch.stack(both_errors(d)), torch.tensor([(1/6)**.5/2, (1/8)**.5/2**.5]).double())


def test_one_seed_or_image_tells_nothing():
    for ours, base in ((bits('1111'), bits('0000')), (bits('1', '1'), bits('0', '0'))):
        d, error, p = paired_difference(ours, base)
        assert (d, error, p) == (1., math.inf, 1.) and verdict(d, error, p) == 'within error'


def test_no_spread_is_no_evidence():
    "All images differ in all seeds: there is nothing from which an error could be estimated."
    assert paired_difference(bits('11', '11'), bits('00', '00')) == (1., 0., 1.)


@pytest.mark.parametrize('seeds', (2, 3, 10))
@pytest.mark.parametrize('p', (.3, .05, .001, 1e-9))
def test_chance_of_one_error_is_student_s(seeds, p):
    for errors, df in (((0., 1.), seeds-1), ((1., 0.), 1999)):
        size = stats.t.isf(p/2, df)
        assert_close(float(chance(size, errors[0], 2000, errors[1], seeds)), p, rtol=1e-6, atol=0)
        assert_close(float(chance(-2*size, 2*errors[0], 2000, 2*errors[1], seeds)), p, rtol=1e-6, atol=0)


def test_chance_of_both_errors():
    "Each is stretched by its own quantile, then they are added as errors are."
    size = math.hypot(stats.t.isf(.01, 2)*.3, stats.t.isf(.01, 99)*.4)
    assert_close(float(chance(size, .4, 100, .3, 3)), .02, rtol=1e-6, atol=0)
    assert_close(chance(np.array([size, 0.]), .4, 100, .3, 3), np.array([.02, 1.]), rtol=1e-6, atol=0)


def test_holm():
    assert holm([.02, .01, .5]) == [.04, .03, .5]
    assert holm([.03, .01, .03]) == [.06, .03, .06] and holm([.9, .8]) == [1., 1.] and holm([]) == [] and holm([.04]) == [.04]
    assert holm([.01, .011]) == [.02, .02] # never below one that was smaller


def test_verdict():
    assert [verdict(d, .1, p) for d, p in ((.2, .05), (-.2, .05), (.2, .0501))] == ['better', 'worse', 'within error']
    assert verdict(.2, math.inf, 0.) == 'within error'


# rows

def test_rows_on_paper():
    cells = {'raw pixels': cell('1000'), 'simclr': cell('1010', '1000', alignment=.5), 'hcl': cell('1110', '1100', alignment=.25)}
    rows = summarize(cells, 'simclr', {'simclr': [1., 2., 4.], 'hcl': [1.1, 2.2, 2.]})
    assert [r['n'] for r in rows.values()] == [1, 2, 2]
    assert rows['simclr']['linear'] == {'mean': .375, 'sd': pytest.approx(.125*2**.5), 'values': [.5, .25]}
    assert rows['raw pixels']['linear'] == {'mean': .25, 'sd': None, 'values': [.25]} and rows['raw pixels']['difference'] == -.125
    assert rows['hcl']['alignment']['mean'] == .25 and 'alignment' not in rows['raw pixels']
    assert rows['simclr']['test_error'] == pytest.approx((.375*.625/4)**.5)
    assert (rows['hcl']['step_seconds'], rows['hcl']['overhead']) == (2., pytest.approx(.1)) # of the ratios, the middle one
    assert rows['simclr']['overhead'] == 0 and 'overhead' not in rows['raw pixels'] and 'difference' not in rows['simclr']
    json.dumps(rows, allow_nan=False)


def test_one_seed_gives_no_verdict():
    rows = summarize({'simclr': cell('1010'), 'hcl': cell('1110')}, 'simclr', {})
    assert (rows['hcl']['difference'], rows['hcl']['error'], rows['hcl']['verdict']) == (.25, None, 'one seed: no verdict')
    assert difference_text(rows['hcl']) == '+25.0 one seed: no verdict'
    json.dumps(rows, allow_nan=False)


def test_one_test_image():
    "Two seeds, one image, what it has no number for is None: a table, and json that others can read."
    cells = {n: cell('1', '0', uniformity=None, hardness=None, false_negative_rate=None) for n in ('simclr', 'hcl')}
    rows = summarize(cells, 'simclr', {})
    json.dumps(rows, allow_nan=False)
    result = {'rows': rows, 'config': {'strategy': 'simclr', 'strategies': ['simclr', 'hcl']}}
    assert '+0.0 one test image: no verdict' in table(result) and 'nan' not in table(result)
    assert spread([1., None]) == {'mean': None, 'sd': None, 'values': [1., None]} and cell_text(rows['hcl'], 'uniformity') == '–'
    draw(result)


def test_results_of_release_0_1_0_are_judged_again():
    "They have no p; accuracies per seed and the error are enough to work it out."
    g = torch.Generator().manual_seed(0)
    draw_cell = lambda p, seeds: cell(*(''.join('01'[int(x)] for x in torch.rand(400, generator=g) < p) for _ in range(seeds)))
    cells = {'raw pixels': draw_cell(.69, 1), 'simclr': draw_cell(.7, 4), 'hcl': draw_cell(.9, 4)}
    rows = summarize(cells, 'simclr', {})
    old = {n: {k: v for k, v in r.items() if k not in ('p', 'verdict')} | ({'verdict': 'better'} if 'verdict' in r else {}) for n, r in rows.items()}
    again = rejudged(old, 'simclr')
    assert {n: r.get('verdict') for n, r in again.items()} == {n: r.get('verdict') for n, r in rows.items()}
    assert_close([r['p'] for r in again.values() if 'p' in r], [r['p'] for r in rows.values() if 'p' in r])
    assert rows['hcl']['verdict'] == 'better' and rows['raw pixels']['verdict'] == 'within error' and old['raw pixels']['verdict'] == 'better'
    head = {'config': {'strategy': 'simclr', 'strategies': ['simclr', 'hcl']}}
    assert table(head | {'rows': old}) == table(head | {'rows': rows})


# rows that failed

FAILED = [{'failed': 'seed 0: loss is not finite at step 3'}, {'failed': 'seed 1: loss is not finite at step 4'}]


def text_of(cells, reference='simclr'):
    rows = summarize(cells, reference, {})
    json.dumps(rows, allow_nan=False)
    result = {'rows': rows, 'config': {'strategy': reference, 'strategies': [n for n in cells if n != 'raw pixels']}}
    draw(result)
    return rows, table(result)


def test_a_row_that_failed_everywhere():
    rows, text = text_of({'simclr': cell('1010', '1000'), 'hcl': FAILED, 'unremix': cell('1110', '1100')})
    assert rows['hcl'] == {'n': 0, 'failed': 'seed 0: loss is not finite at step 3; seed 1: loss is not finite at step 4'}
    assert rows['unremix']['difference'] == .25 and text.splitlines()[2].split()[:5] == ['hcl', '0', '–', 'failed', '–']
    assert text.splitlines()[-1] == 'hcl failed: seed 0: loss is not finite at step 3; seed 1: loss is not finite at step 4'


def test_a_row_that_failed_once_is_not_compared():
    "The seeds that ended are a selection."
    rows, text = text_of({'simclr': cell('1010', '1000'), 'hcl': [*cell('1111'), FAILED[1]], 'unremix': cell('1110', '1100')})
    assert rows['hcl']['n'] == 1 and 'difference' not in rows['hcl'] and rows['unremix']['p'] == paired_difference(bits('1110', '1100'), bits('1010', '1000'))[2]
    assert 'hcl failed: seed 1' in text


def test_a_reference_that_failed():
    rows, text = text_of({'raw pixels': cell('1000'), 'simclr': FAILED, 'hcl': cell('1110', '1100')})
    assert not any('difference' in r for r in rows.values()) and 'reference' not in text and 'simclr failed: ' in text


def test_everything_failed():
    assert text_of({'simclr': FAILED, 'hcl': FAILED})[1].splitlines()[-1].startswith('hcl failed')


CFG = comparison(limit=64, batch_size=16, epochs=1, strategies=('simclr', 'hcl'), seeds=2, seed=3, timed_steps=0, supervised=False, precision='32-true')


@pytest.fixture
def play(monkeypatch):
    "Training, untrained encoders and pixels are played; what was asked for."
    asked = []
    def train(cfg, out, finish, progress):
        asked.append((cfg.strategy, cfg.run.seed))
        out.mkdir(parents=True, exist_ok=True)
        if cfg.strategy in bad: raise FloatingPointError(f'loss is not finite at step 3 (seen last: lr 1); the last good state is {out}')
        return cell('1010')[0] | {'device': 'cpu'}
    bad = set()
    monkeypatch.setattr(module, 'train', train)
    monkeypatch.setattr(module, 'untrained_scores', lambda cfg: asked.append(('untrained', cfg.run.seed)) or cell('1000')[0])
    monkeypatch.setattr(module, 'baseline_scores', lambda cfg: asked.append(('pixels', cfg.run.seed)) or cell('1000')[0])
    return asked, bad


def test_rows_and_order(play, tmp_path):
    "Seed by seed; the untrained encoder of every seed; nothing twice."
    asked, _ = play
    cells = run_cells(CFG.but(dict(supervised=True)), tmp_path, progress=False)
    assert list(cells) == ['raw pixels', 'untrained', 'supervised', 'simclr', 'hcl'] and [len(c) for c in cells.values()] == [1, 2, 2, 2, 2]
    trained = [(name, seed) for seed in (3, 4) for name in ('supervised', 'simclr', 'hcl')]
    assert asked == [('pixels', 3), ('untrained', 3), ('untrained', 4), *trained]
    run_cells(CFG, tmp_path, progress=False)
    assert [a for a in asked if a[0] in ('pixels', 'untrained')] == [('pixels', 3), ('untrained', 3), ('untrained', 4)]


def test_the_others_go_on(play, tmp_path, capsys):
    "A table with the reason, no folder of this machine in it, and status 1, also when it is asked again."
    asked, bad = play
    bad.add('hcl')
    args = ['compare', '--out', str(tmp_path/'run'), *'--limit 64 --batch-size 16 --epochs 1 --strategies hcl simclr --timed-steps 0 --no-supervised'.split()]
    for _ in range(2):
        assert main(args) == 1
        told = capsys.readouterr()
        assert 'hcl failed: seed 0: loss is not finite at step 3 (seen last: lr 1); seed 1: loss' in told.out and 'good state' not in told.out
    result = json.loads((tmp_path/'run'/'result.json').read_text())
    assert result['rows']['hcl']['failed'].startswith('seed 0') and result['device'] == 'cpu' and asked.count(('simclr', 1)) == 1


def test_remember(tmp_path):
    calls = []
    for _ in range(2): assert remember(tmp_path/'row'/'r.json', lambda: calls.append(1) or {'a': 1}) == {'a': 1}
    assert len(calls) == 1


def test_cells_differ_in_nothing_else():
    cfg = comparison(lr=.1, beta=2., seed=1, queue_size=0, batch_size=64)
    a, b = (cell_config(cfg, s, 7).fields() for s in ('simclr', 'unremix'))
    assert b['beta'] == 2. and {k for k in a if a[k] != b[k]} == {'strategy'} and (a['seed'], a['lr'], a['batch_size']) == (7, .1, 64)


def test_steps_are_timed_in_turns(monkeypatch):
    asked = []
    def steps(run, epoch): asked.append((run, epoch)); yield from [(0, torch.zeros(()), {})]*2
    clock = itertools.count()
    monkeypatch.setattr(several_runs, 'set_up', lambda cfg: cfg.strategy)
    monkeypatch.setattr(several_runs, 'epoch_steps', steps)
    monkeypatch.setattr(several_runs.time, 'perf_counter', lambda: float(next(clock)))
    configs = {s: cell_config(CFG, s, 0) for s in CFG.strategies}
    assert time_steps(configs, 3, warm_up=1) == {'simclr': [1.]*3, 'hcl': [1.]*3}
    assert asked == [('simclr', 0), ('hcl', 0), ('simclr', 1), ('hcl', 1)] and time_steps(configs, 0) == {}


def test_columns():
    assert align_columns([('a', 'b'), ('long', '1'), ('x', '')]) == 'a     b\nlong  1\nx'
    wide = [('row', *['x' * 20] * 5), ('a', *'12345')]
    blocks = align_columns(wide).split('\n\n')
    assert len(blocks) == 2 and [b.split()[-1] for b in blocks] == ['3', '5'] and all(b.splitlines()[1][0] == 'a' for b in blocks)
    assert max(map(len, align_columns(wide).splitlines())) <= 80
    assert align_columns([('row', 'x' * 90)]).split() == ['row', 'x' * 90]
    row = {'linear': {'mean': .5, 'sd': .125}, 'difference': .0123, 'error': .0046, 'verdict': 'better'}
    assert cell_text(row, 'linear', 100, 1) == '50.0 ± 12.5' and cell_text(row, 'knn10') == '–' and difference_text(row) == '+1.2 ± 0.5 better'
    assert difference_text({}) == '–' and difference_text({'failed': 'x'}) == 'failed'


# told before anything is made

TOLD = {
    'select without k_keep': ('--select top', "row 'unremix': k_keep must be a whole number ≥ 1 with select, got None"),
    'k_keep without select': ('--k-keep 3', "row 'unremix': k_keep must be None without select, got 3"),
    'queue with supervised': ('--queue-size 32', "row 'supervised': queue_size must be 0 with supervised, which has no negatives, got 32 (--no-supervised leaves the row out)"),
    'limit below the batch': ('--limit 64', 'batch_size must be at most the 64 training images, got 128'),
    'knob of another row': ('--strategies simclr hcl --beta -1', "row 'hcl': beta must be a number ≥ 0, got -1"),
    'mix': ('--mix 1 1 1', "row 'unremix': mix must be three numbers ≥ 0 that sum to 1, got (1, 1, 1)"),
    'tau_plus': ('--tau-plus 1', "row 'debiased': tau_plus must be a number in [0, 1), got 1"),
    'no test images': ('--dataset imagefolder --data-root no/such', 'no/such')}


@pytest.mark.parametrize('case', TOLD)
def test_every_row_is_asked_before_the_folder_is_made(case, play, tmp_path, capsys):
    asked, _ = play
    args, sentence = TOLD[case]
    assert main(['compare', '--out', str(tmp_path/'run'), '--timed-steps', '0', *args.split()]) == 2
    error = capsys.readouterr().err
    assert sentence in error and error.count('\n') == 1 and not (tmp_path/'run').exists() and not asked


def test_rows_that_suit_all_options():
    "Every strategy with every option that some of them have."
    names = tuple(name for name, s in known().items() if not s.of_pieces and (name != 'transport' or find_spec('ot'))) # which needs the extra `ot`
    module.rehearse_rows(comparison(strategies=names, select='sample', k_keep=3, tau_plus=.05, tau_plus_end=.2, beta_end=3., temperature_end=.2,
                                       chunk_size=2, micro_batch=32, batch_size=64), split_samples(run_of(limit=64))[0])
    module.rehearse_rows(comparison(queue_size=32, supervised=False), split_samples(run_of(limit=128))[0])


def test_mean_and_spread_of_three_seeds():
    assert spread([1., 2., 6.]) == {'mean': 3., 'sd': pytest.approx(7**.5), 'values': [1., 2., 6.]}


def test_every_column_shows_its_own_score():
    "Scores that are all different, read back from the text."
    names = 'linear', 'knn10', 'knn200', 'alignment', 'uniformity', 'effective_rank'
    more = 'hardness', 'false_negative_rate', 'false_negative_mass', 'hard_false_negative_mass', 'effective_negatives', 'clamped_fraction'
    row = {'n': 1} | {name: spread([i/10]) for i, name in enumerate(names + more, 1)} | {'test_error': .123, 'step_seconds': .456, 'overhead': .5}
    blocks = table({'rows': {'simclr': row}, 'config': {'strategy': 'simclr'}}).split('\n\n')
    titles, values = zip(*(block.splitlines() for block in blocks))
    def joined(lines): # what of a row does not fit into 80 columns stands below, with the row's name again
        return [word for line in lines for word in line.split()[1:]]
    assert joined(titles) == ('n linear % vs simclr ± test kNN10 % kNN200 % alignment uniformity rank '
                              'hardness false-neg. rate mass hard mass effective neg. clamped ms/step overhead').split()
    assert joined(values) == '1 10.0 reference 12.3 20.0 30.0 0.40 0.50 0.6 0.70 0.80 0.90 1.00 1 1.20 456 +50 %'.split()
    assert {line.split()[0] for line in values} == {'simclr'} and max(map(len, titles)) <= 80


def test_facts_are_of_all_runs():
    "Of every row and seed; a run that failed took no time that is known."
    cells = {'a': [{'seconds': 2., 'device': 'cpu'}, {'seconds': 3., 'device': 'cuda'}], 'b': [{}, {'seconds': 5.}]}
    facts = facts_of(cells)
    assert facts['training_seconds'] == 10. and facts['device'] == 'cpu'
    assert facts_of({'a': [{}]})['device'] is None and facts_of({})['training_seconds'] == 0
