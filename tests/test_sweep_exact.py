"What a sweep asks for, repeats, writes and prints; the training itself is played."
import dataclasses, hashlib, json, math

import pytest
import torch

from configs import run_of
from unremix.config import TrainConfig
from unremix import sweep as module
from unremix.cli import main
from unremix.command_runs import sweep_text
from unremix.config_groups import PRECISIONS
from unremix.grid import Grid, is_of, line_of, read_grid, remaining, run_key, runs_of
from unremix.run_parts import resolve
from unremix.safe_files import FolderInUse, hold
from unremix.several_runs import limited
from unremix.sweep import by_cell, finish_run, paired, read_lines, results_of, sweep

PLAIN = {'strategy': 'simclr'}
GRID = Grid('x', {'a': PLAIN, 'b': {'strategy': 'hcl', 'seeds': 1}}, {'limit': 64, 'batch_size': 16}, seeds=2, seed=5)
SCORES = {'linear': .5, 'knn10': .25, 'correct': '10'}


@pytest.fixture
def play(monkeypatch):
    "Put a function in the place of `train`; the list of what it was asked for."
    asked = []
    def put(run=lambda cfg: {'seconds': 1., 'scores': SCORES}):
        def train(cfg, out, finish, progress):
            asked.append((cfg, out.name))
            out.mkdir(parents=True, exist_ok=True)
            (out/'config.json').write_text(json.dumps(resolve(cfg).as_json()))
            return run(cfg)
        monkeypatch.setattr(module, 'train', train)
        return asked
    return put


def fail(error):
    def run(cfg): raise error
    return run


# which runs

def test_runs_in_order():
    "Seed by seed, each cell with its own number of them; later tables win."
    assert [(name, cfg.run.seed) for name, cfg in runs_of(GRID)] == [('a', 5), ('b', 5), ('a', 6)]
    cfg = runs_of(Grid('x', {'a': {'strategy': 'hcl', 'beta': 2., 'epochs': 2}}, {'beta': 3., 'lr': .5}, {'epochs': [7]}, 1))[0][1]
    assert (cfg.knobs.beta, cfg.optim.lr, cfg.optim.epochs) == (2., .5, 7)
    assert runs_of(Grid('x', {'a': {'strategy': 'unremix', 'kappa': [1., 0.]}}, seeds=1))[0][1].knobs.kappa == (1., 0.)


def test_every_value_meets_every_cell():
    names = [name for name, _ in runs_of(dataclasses.replace(GRID, vary={'lr': [.1, .2], 'epochs': [1, 2]}, seeds=1))]
    assert names == [f'{c} lr={lr} epochs={e}' for c in 'ab' for lr in (.1, .2) for e in (1, 2)]


BAD = {
    'value': ({'cells': {'a': PLAIN, 'bad': {'temperature': -1.}}}, "cell 'bad': temperature must be a number > 0, got -1.0"),
    'of vary': ({'vary': {'temperature': [1., -1.]}}, "cell 'a temperature=-1.0': temperature must be a number > 0, got -1.0"),
    'option of a loss': ({'cells': {'a': PLAIN, 'bad': {'strategy': 'unremix', 'select': 'top'}}}, "cell 'bad': k_keep must be a whole number ≥ 1 with select, got None"),
    'batch': ({'cells': {'a': PLAIN, 'bad': {'batch_size': 65}}}, "cell 'bad': batch_size must be at most the 64 training images, got 65"),
    'data': ({'cells': {'a': PLAIN, 'bad': {'dataset': 'imagefolder', 'data_root': 'no/such'}}}, "cell 'bad': "),
    'a schedule': ({'cells': {'bad': {'strategy': 'hcl', 'tau_plus': 0., 'tau_plus_end': .99999999999999999}}}, "cell 'bad': tau_plus_end: tau_plus must be a number in [0, 1)"),
    'type': ({'cells': {'bad': {'epochs': 'ten'}}}, "cell 'bad': "),
    'field': ({'cells': {'bad': {'strategie': 'hcl'}}}, "cell 'bad': strategie is no knob of simclr, which has temperature"),
    'seed as a field': ({'cells': {'bad': {'seed': 3}}}, "field of 'bad' must be one of TrainConfig, seed excepted, got 'seed'"),
    'two processes': ({'cells': {'bad': {'devices': 2}}}, "devices × num_nodes of 'bad' must be 1 in a sweep"),
    'a knob in two places': ({'cells': {'bad': {'strategy': 'hcl(beta=2)'}}, 'vary': {'beta': [.5, 4.]}}, "cell 'bad beta=0.5': beta must be given once, not also as 2 behind the strategy, got 0.5"),
    'a seed behind the strategy': ({'cells': {'bad': {'strategy': 'hcl(seed=3)'}}}, "cell 'bad': seed must be given once, not also as 3 behind the strategy, got 5"),
    'no strategy': ({'cells': {'bad': {'strategy': 'hcl('}}}, "cell 'bad': strategy must be a name"),
    'no seeds': ({'cells': {'bad': {'seeds': 0}}}, "seeds of 'bad' must be a whole number ≥ 1, got 0"),
    'half a seed': ({'cells': {'bad': {'seeds': 1.5}}}, "seeds of 'bad' must be a whole number ≥ 1, got 1.5")}


@pytest.mark.parametrize('case', BAD)
def test_a_bad_cell_is_named_before_anything_runs(case, play, tmp_path):
    asked, (parts, sentence) = play(), BAD[case]
    with pytest.raises(ValueError) as e: sweep(dataclasses.replace(GRID, **parts), tmp_path/'lines.jsonl', tmp_path/'runs')
    assert sentence in str(e.value) and '\n' not in str(e.value)
    assert not asked and not list(tmp_path.iterdir())


SHAPES = {
    'cells = 3': 'cells must be a table, got 3', '[cells]\na = 3': "cell 'a' must be a table of fields, got 3",
    'vary = 3\n[cells]': 'vary must be a table, got 3', '[cells]\n[vary]\nlr = 1.0': "vary 'lr' must be a list of values, got 1.0",
    'base = [1]\n[cells]': 'base must be a table, got [1]', 'seeds = 0\n[cells]': 'seeds must be a whole number ≥ 1, got 0',
    '[cells]\n[vary]\nlr = [1.0, 0.5, 1]': "vary 'lr' must be a list of different values, got [1.0, 0.5, 1]",
    'seeds = "two"\n[cells]': "seeds must be a whole number ≥ 1, got 'two'", 'seed = -1\n[cells]': 'seed must be a whole number ≥ 0, got -1'}


@pytest.mark.parametrize('text', SHAPES)
def test_bad_shapes(text, tmp_path):
    (tmp_path/'grid.toml').write_text(f'experiment = "x"\n{text}')
    with pytest.raises(ValueError) as e: read_grid(tmp_path/'grid.toml')
    assert str(e.value) == SHAPES[text]


def test_a_file_that_is_no_text(tmp_path):
    (tmp_path/'grid.toml').write_bytes(b'\xff\xfe\x00')
    with pytest.raises(ValueError, match='is not TOML'): read_grid(tmp_path/'grid.toml')


# who is who

def test_keys():
    "Known values: lines of releases before are found by them."
    assert run_key(TrainConfig()) == '44136fa355b3' # of no field at all
    assert run_key(run_of(temperature=.15, dataset='fashion_mnist', limit=20000, epochs=3, precision='bf16-mixed', log_every=1000, seed=10)) == '22c377a18dc3'
    same = run_of(log_every=7), run_of(data_root='there')
    assert all(run_key(cfg) == run_key(TrainConfig()) for cfg in same)
    folder = [run_of(dataset='imagefolder', data_root=r) for r in 'ab']
    assert run_key(folder[0]) != run_key(folder[1])


@pytest.mark.parametrize('fast', (False, True))
def test_key_on_any_processor(fast, monkeypatch):
    "What was asked counts, not what this machine made of it."
    monkeypatch.setattr('unremix.run_parts.auto_precision', lambda device: 'bf16-mixed' if fast else '32-true')
    assert run_key(run_of(temperature=.2)) == run_key(run_of(temperature=.2, precision='auto'))
    keys = {run_key(run_of(temperature=.2, precision=p)) for p in PRECISIONS}
    assert len(keys) == len(PRECISIONS)
    line = line_of('x', 'a', run_of(temperature=.2), {'precision': 'bf16-mixed'})
    assert (line['key'], line['knobs'], line['precision']) == (run_key(run_of(temperature=.2)), {'temperature': .2}, 'bf16-mixed')


@pytest.mark.parametrize('became', [p for p in PRECISIONS if p != 'auto'])
def test_lines_of_release_0_1_0_are_found(became):
    "It resolved 'auto' before it made the key."
    asked = run_of(temperature=.2)
    old = {'key': run_key(asked.but(dict(precision=became))), 'knobs': {'precision': became}, 'cell': 'a'}
    assert is_of(old, asked) and not is_of(old, asked.but(dict(seed=1)))
    assert not is_of(old | {'precision': became}, asked) # of this release: it was asked for
    assert not is_of({'key': run_key(asked)}, asked.but(dict(precision=became)))
    grid = Grid('x', {'a': {'temperature': .2}}, seeds=1)
    assert not remaining(grid, [old]) and remaining(grid, [old | {'cell': 'b'}])


ALIKE = {
    'a checkpoint now and then': ({}, {'save_every': 100}), 'another device': ({}, {'accelerator': 'cpu'}), 'a knob': ({'beta': 2.}, {'beta': 2}),
    'a prior': ({'tau_plus': 0.}, {'tau_plus': 0}), 'a field without a number': ({'clip_grad': 1.}, {'clip_grad': 1}), 'a schedule': ({'beta_end': 0.}, {'beta_end': 0}),
    'a pair': ({'strategy': 'unremix', 'kappa': (2., 0.)}, {'strategy': 'unremix', 'kappa': (2, 0)}), 'a field': ({'warmup_epochs': 2.}, {'warmup_epochs': 2})}


@pytest.mark.parametrize('case', ALIKE)
def test_one_run_has_one_key(case):
    "How it is computed does not count, and 2 is 2.0, as in a run folder; what is whole stays so."
    a, b = (run_of(**{'strategy': 'hcl'} | fields) for fields in ALIKE[case])
    assert run_key(a) == run_key(b) and json.dumps(a.as_json()) != json.dumps(b.as_json())
    assert run_key(run_of(epochs=2)) == older(epochs=2) != run_key(run_of(epochs=3))


def older(**fields):
    "The key that these fields had when all of them counted as they were written."
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:12]


OLDER = {'typed alike': (dict(beta=2, save_every=9), dict(beta=2, save_every=9)), 'tidied': (dict(beta=2), dict(beta=2.)), 'both': (dict(beta=2, clip_grad=1), dict(beta=2., clip_grad=1.))}


@pytest.mark.parametrize('case', OLDER)
@pytest.mark.parametrize('of_0_1_0', (False, True))
def test_lines_under_an_older_key_are_found(case, of_0_1_0, play, tmp_path):
    "Their runs are not trained again."
    then, now = ({'strategy': 'hcl', **fields} for fields in OLDER[case])
    said = {'precision': 'bf16-mixed'}
    key = older(**then, **said) if of_0_1_0 else older(**then)
    line = {'cell': 'a', 'seed': 0, 'key': key, 'linear': .5} | ({'knobs': said} if of_0_1_0 else said)
    (tmp_path/'lines.jsonl').write_text(json.dumps(line) + '\n')
    asked = play()
    assert sweep(Grid('x', {'a': now}, seeds=1), tmp_path/'lines.jsonl', tmp_path/'runs') == [line] and not asked
    assert not is_of(line, run_of(**now | {'beta': 3.}))


def test_a_folder_begun_elsewhere_keeps_its_precision(tmp_path, monkeypatch):
    monkeypatch.setattr('unremix.run_parts.auto_precision', lambda device: 'bf16-mixed')
    assert resolve(TrainConfig(), tmp_path).run.precision == 'bf16-mixed'
    for precision in '32-true', 'bf16-mixed':
        (tmp_path/'config.json').write_text(json.dumps({'precision': precision}))
        assert resolve(TrainConfig(), tmp_path).run.precision == precision
        assert resolve(run_of(precision='16-mixed'), tmp_path).run.precision == '16-mixed'
    (tmp_path/'config.json').write_text('{}')
    assert resolve(TrainConfig(), tmp_path).run.precision == 'bf16-mixed'


def test_line():
    cfg = run_of(strategy='hcl', beta=2., seed=3, epochs=2, log_every=1, validation=9)
    result = {'seconds': 2., 'threads': 1, 'loss': 1., 'precision': '32-true', 'scores': SCORES | {'linear': 1/3, 'uniformity': None}}
    assert line_of('x', 'a', cfg, result) == {
        'experiment': 'x', 'cell': 'a', 'dataset': 'fashion_mini', 'strategy': 'hcl', 'knobs': {'beta': 2., 'validation': 9}, 'seed': 3, 'epochs': 2,
        'scored_on': 'validation', 'linear': .333333, 'knn10': .25, 'uniformity': None, 'seconds': 2., 'threads': 1, 'precision': '32-true', 'key': run_key(cfg)}
    assert line_of('x', 'a', TrainConfig(), result)['scored_on'] == 'test'


# running

def test_lines_and_nothing_twice(play, tmp_path):
    asked = play()
    lines = sweep(GRID, tmp_path/'deep'/'lines.jsonl', tmp_path/'runs', progress=False)
    assert [(l['cell'], l['seed'], l['linear']) for l in lines] == [('a', 5, .5), ('b', 5, .5), ('a', 6, .5)]
    assert [name for _, name in asked] == [run_key(cfg) for _, cfg in runs_of(GRID)]
    assert sweep(GRID, tmp_path/'deep'/'lines.jsonl', tmp_path/'runs', progress=False) == lines and len(asked) == 3
    more = sweep(dataclasses.replace(GRID, seeds=3), tmp_path/'deep'/'lines.jsonl', tmp_path/'runs', progress=False)
    assert len(asked) == 4 and asked[3][0].run.seed == 7 and len(more) == 4
    assert len(sweep(Grid('x', {'b': GRID.cells['b']}, GRID.base, seed=5), tmp_path/'deep'/'lines.jsonl', progress=False)) == 1 # of this grid only


def test_a_line_cut_off_is_written_again(play, tmp_path):
    asked, out = play(), tmp_path/'lines.jsonl'
    sweep(GRID, out, tmp_path/'runs', progress=False)
    out.write_bytes(out.read_bytes()[:-9])
    assert len(read_lines(out)) == 2
    assert len(sweep(GRID, out, tmp_path/'runs', progress=False)) == 3 == len(out.read_text().splitlines()) and len(asked) == 4


def test_equal_cells_share_a_run(play, tmp_path):
    asked = play()
    lines = sweep(Grid('x', {'a': PLAIN, 'same': PLAIN}, seeds=1), tmp_path/'lines.jsonl', tmp_path/'runs', progress=False)
    assert [l['cell'] for l in lines] == ['a', 'same'] and len(asked) == 1


def test_a_default_of_the_grid_gives_way_to_the_strategy():
    grid = Grid('x', {'a': {'strategy': 'hcl(beta=2)'}}, base=PLAIN | {'beta': 1.}, seeds=1)
    assert [cfg.knobs.beta for _, cfg in runs_of(grid)] == [2]


def test_divergence_is_a_result(play, tmp_path, capsys):
    "One line with the reason, not tried again, no path of this machine in it."
    asked = play(fail(FloatingPointError('loss is not finite at step 3; the last good state is /here/x')))
    lines = sweep(GRID, tmp_path/'lines.jsonl', tmp_path/'runs')
    assert [l['failed'] for l in lines] == ['loss is not finite at step 3']*3 and not any('again' in l or 'linear' in l for l in lines)
    assert sweep(GRID, tmp_path/'lines.jsonl', tmp_path/'runs') == lines and len(asked) == 3
    assert capsys.readouterr().err.splitlines()[0] == '1/3 a seed 5: loss is not finite at step 3'


@pytest.mark.parametrize('error, told', [(ValueError('batch_size must be\nsmall'), 'ValueError: batch_size must be small'),
    (OSError(28, 'No space left'), 'OSError: [Errno 28] No space left'), (RuntimeError('a mistake of ours'), 'RuntimeError: a mistake of ours')], ids=lambda e: type(e).__name__)
def test_an_error_is_a_line_and_the_others_go_on(error, told, play, tmp_path, capsys):
    "It is tried again at the next start, and leaves one line then."
    def run(cfg):
        if cfg.strategy == 'hcl': raise error
        return {'seconds': 1., 'scores': SCORES}
    asked = play(run)
    lines = sweep(GRID, tmp_path/'lines.jsonl', tmp_path/'runs', progress=False)
    assert [l.get('failed') for l in lines] == [None, told, None] and lines[1]['again'] and len(asked) == 3
    assert ('Traceback' in capsys.readouterr().err) == isinstance(error, RuntimeError)
    asked = play()
    lines = sweep(GRID, tmp_path/'lines.jsonl', tmp_path/'runs', progress=False)
    assert len(lines) == 3 == len(read_lines(tmp_path/'lines.jsonl')) and not any('failed' in l for l in lines)
    assert [cfg.strategy for cfg, _ in asked[3:]] == ['hcl']


def test_stopping_stops(play, tmp_path):
    play(fail(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt): sweep(GRID, tmp_path/'lines.jsonl', tmp_path/'runs', progress=False)


def test_threads_of_a_run(play, tmp_path):
    "One, whatever the process has, unless asked; afterwards as before."
    before, seen = torch.get_num_threads(), []
    play(lambda cfg: seen.append(torch.get_num_threads()) or {'seconds': 1., 'scores': SCORES})
    sweep(Grid('x', {'a': PLAIN}, seeds=1), tmp_path/'a.jsonl', tmp_path/'runs', progress=False)
    sweep(Grid('x', {'a': PLAIN}, seeds=1), tmp_path/'b.jsonl', tmp_path/'runs', threads=2, progress=False)
    assert seen == [1, 2] and torch.get_num_threads() == before
    with pytest.raises(KeyError), limited(1): raise KeyError
    assert torch.get_num_threads() == before


@pytest.mark.parametrize('name', ('workers', 'threads'))
def test_counts(name, tmp_path):
    for value, what in ((0, '1 or more'), (1.5, '1 or more'), (99999999999, '1024 or fewer, got 9')):
        with pytest.raises(ValueError, match=f'{name} must be {what}'): sweep(GRID, tmp_path/'lines.jsonl', **{name: value})


def test_a_line_holds_numbers(play, tmp_path):
    play(lambda cfg: {'seconds': 1., 'scores': SCORES | {'uniformity': math.nan}})
    with pytest.raises(ValueError): sweep(Grid('x', {'a': PLAIN}, seeds=1), tmp_path/'lines.jsonl', tmp_path/'runs', progress=False)


# reading

FAILED = {'cell': 'b', 'seed': 1, 'failed': 'loss is not finite'}


def test_text_of_a_sweep():
    lines = [{'cell': 'a', 'seed': 0, 'linear': .5}, {'cell': 'a', 'seed': 1, 'linear': .75}, FAILED, {'cell': 'c', 'seed': 0, 'linear': None}]
    assert by_cell(lines) == {'a': {0: .5, 1: .75}, 'b': {}, 'c': {}}
    assert sweep_text(lines).splitlines() == ['cell  n  linear %           range', 'a     2     62.50  50.00 to 75.00', 'b     0         –               –',
                                             'c     0         –               –', '', 'b seed 1 failed: loss is not finite']


def of_cell(seed, **fields):
    cfg = run_of(**{'strategy': 'hcl', 'seed': seed} | fields)
    line = line_of('x', 'hcl', cfg, {'scores': SCORES, 'precision': '32-true', 'data': 'ab'})
    return json.loads(json.dumps(line))


OTHERS = {'epochs': dict(epochs=1), 'knobs': dict(beta=2.), 'dataset': dict(dataset='digits'), 'strategy': dict(strategy='simclr'), 'scored_on': dict(validation=9), 'precision': dict(precision='32-true')}


@pytest.mark.parametrize('name', OTHERS)
def test_a_cell_has_runs_of_one_setting(name):
    "A file still has the lines of a grid before it was edited, also seeds that only that one had."
    new, old = [of_cell(s) for s in (0, 1)], [of_cell(s, **OTHERS[name]) for s in (0, 1, 2)]
    assert by_cell(new) == {'hcl': {0: .5, 1: .5}} and by_cell(old) == {'hcl': {0: .5, 1: .5, 2: .5}}
    for lines in (old + new, new + old, new + old[2:]):
        with pytest.raises(ValueError, match=f"^{name} of cell 'hcl' must be one for all its lines, as `sweep` returns them, got "): by_cell(lines)
    ended = [line | {'linear': None} for line in old[:1]] + [{k: v for k, v in old[1].items() if k != 'linear'} | {'failed': 'x'}]
    assert by_cell(ended + new) == by_cell(new) # whose scores do not count


def test_other_images_are_another_setting():
    with pytest.raises(ValueError, match="data of cell 'hcl' must be one"): by_cell([of_cell(0), of_cell(1) | {'data': 'cd'}])


def test_how_a_run_was_computed_is_no_setting():
    "Nor how a number was written, nor what release 0.1.0 made of 'auto'."
    alike = [of_cell(0, beta=2.), of_cell(1, beta=2), of_cell(2, beta=2., save_every=9, accelerator='cpu', log_every=3), of_cell(3, beta=2., data_root='there')]
    first = of_cell(4, beta=2., precision='bf16-mixed')
    del first['precision']
    older_line = of_cell(5, beta=2.)
    older_line['knobs'] |= {'save_every': 100, 'decode_to': 'x'} # as lines had them
    assert list(by_cell([*alike, first, older_line])['hcl']) == list(range(6))


def test_two_grids_in_one_file(play, tmp_path, capsys):
    "Each is told its own lines, and a cell that both have is not mixed."
    play()
    pilot, final = (Grid(name, {'hcl': {'strategy': 'hcl'}}, GRID.base | {'epochs': epochs}, seeds=seeds) for name, epochs, seeds in (('pilot', 1, 3), ('final', 2, 2)))
    for grid, seeds in ((pilot, 3), (final, 2)):
        lines = sweep(grid, tmp_path/'lines.jsonl', tmp_path/'runs', progress=False)
        assert list(by_cell(lines)['hcl']) == list(range(seeds)) and sweep_text(lines)
    with pytest.raises(ValueError, match="epochs of cell 'hcl'"): by_cell(read_lines(tmp_path/'lines.jsonl'))


@pytest.mark.parametrize('error, status', [(FloatingPointError('loss is not finite'), 0), (ValueError('no'), 1)], ids=('diverged', 'error'))
def test_command_says_how_it_ended(error, status, play, tmp_path, capsys):
    play(fail(error))
    (tmp_path/'grid.toml').write_text('experiment = "x"\nseeds = 2\n[cells]\na = {}\n')
    command = ['sweep', str(tmp_path/'grid.toml'), '--out', str(tmp_path/'lines.jsonl'), '--runs', str(tmp_path/'runs')]
    assert main(command) == status and main(command) == status
    told = capsys.readouterr()
    assert 'a     0         –' in told.out and 'division' not in told.err


def test_paired_interval():
    "Differences 1, 2, 3: mean 2, standard error 1/√3, t with two degrees of freedom 4.3027."
    mean, low, high, n = paired({0: 11., 1: 22., 2: 33., 7: 0.}, {0: 10., 1: 20., 2: 30., 8: 0.})
    assert (mean, n) == (2., 3)
    assert math.isclose(high - 2, 4.302653/3**.5, rel_tol=1e-6) and math.isclose(2 - low, high - 2)
    assert paired({0: 2., 1: 3.}, {0: 1., 1: 2.}) == (1., 1., 1., 2)


def test_every_line_is_on_the_disk_before_the_next_run(play, tmp_path, monkeypatch):
    asked, out, synced, real = play(), tmp_path/'lines.jsonl', [], module.os.fsync
    def fsync(number):
        real(number)
        synced.append(len(out.read_text().splitlines()) if out.exists() else 0)
    monkeypatch.setattr(module.os, 'fsync', fsync)
    sweep(GRID, out, tmp_path/'runs', progress=False)
    assert synced[-3:] == [1, 2, 3] and len(asked) == 3


def test_a_paired_interval_by_hand():
    "Differences of 1, 2 and 3, so a mean of 2 with an error of 1/√3, and t of two degrees of freedom."
    a, b = {0: 4., 1: 6., 2: 8., 9: 0.}, {0: 3., 1: 4., 2: 5.}
    for confidence, t in (.95, 4.30265), (.5, .81650):
        half = t/3**.5
        assert paired(a, b, confidence) == pytest.approx((2., 2. - half, 2. + half, 3), abs=1e-4)
    assert paired(a, b) == paired(a, b, .95)


@pytest.mark.parametrize('b', [{0: 3.}, {7: 3.}, {}])
def test_an_interval_needs_two_seeds(b):
    with pytest.raises(ValueError, match='seeds must be shared by both cells, 2 or more'): paired({0: 4., 1: 6.}, b)


# the file of lines

def held(cell, **more): return json.dumps({'experiment': 'x', 'cell': cell, 'seed': 0, 'key': '0'} | more, ensure_ascii=False)


ODD = {'a blank behind it': held('old') + ' \n', 'no end of a line': held('old'), 'an empty line': held('old') + '\n\n',
       'a line that Windows ended': held('old') + '\r\n', 'old end of a line in a name': held('o\u0085ld\u2028') + '\n'}


@pytest.mark.parametrize('case', ODD)
def test_no_line_is_lost(case, play, tmp_path):
    "Whoever has edited the file, and whatever is in a name."
    play()
    out = tmp_path/'lines.jsonl'
    out.write_text(ODD[case], encoding='utf-8')
    old = json.loads(ODD[case])
    assert read_lines(out) == [old]
    assert len(sweep(GRID, out, tmp_path/'runs', progress=False)) == 3
    assert read_lines(out)[0] == old and len(read_lines(out)) == 4
    assert len(out.read_bytes().split(b'\n')) == 5


def test_a_lost_line_is_told(tmp_path):
    (tmp_path/'lines.jsonl').write_text(held('a') + '\n{"cel\n' + held('b') + '\n')
    with pytest.raises(ValueError, match=r"^line 2 of '.*lines.jsonl' is no json: mend the file$"): read_lines(tmp_path/'lines.jsonl')


@pytest.mark.parametrize('text', ('{"settings": 3}', '{"settings"', '{'*3))
def test_somebody_elses_file_is_not_written(text, play, tmp_path):
    asked, out = play(), tmp_path/'lines.jsonl'
    out.write_text(text)
    with pytest.raises(ValueError, match='out must be a new file, or the lines of a sweep'): sweep(GRID, out, tmp_path/'runs')
    assert out.read_text() == text and not asked


def test_lines_behind_a_link(play, tmp_path):
    "The link stays, and both names of the file have one lock."
    play()
    (tmp_path/'disk').mkdir()
    out = tmp_path/'lines.jsonl'
    out.symlink_to('disk/lines.jsonl')
    assert len(sweep(GRID, out, tmp_path/'runs', progress=False)) == 3 == len(read_lines(tmp_path/'disk'/'lines.jsonl')) and out.is_symlink()
    with hold(tmp_path/'disk'/'lines.jsonl.in_use', 'x'), pytest.raises(FolderInUse, match=f"out='{out}' is in use"):
        sweep(dataclasses.replace(GRID, seeds=3), out, tmp_path/'runs', progress=False)


def test_a_reason_may_name_a_path_that_is_no_utf8(play, tmp_path):
    play(fail(ValueError('caf\udce9 is gone')))
    grid = Grid('x', {'a': PLAIN}, seeds=1)
    for _ in range(2):
        lines = sweep(grid, tmp_path/'lines.jsonl', tmp_path/'runs', progress=False)
        assert [line['failed'] for line in lines] == ['ValueError: caf\udce9 is gone']


@pytest.mark.parametrize('out, runs, words', [('a/x.jsonl', 'runs', 'out=.*a/x.jsonl'), ('x.jsonl', 'a', 'runs=.*a'), ('x.jsonl', 'a/runs', 'runs=.*a/runs')])
def test_places_that_cannot_be_written_are_told_first(out, runs, words, play, tmp_path, monkeypatch):
    asked = play()
    (tmp_path/'a').write_text('a file')
    monkeypatch.setattr(module, 'rehearse_cells', lambda *asked: pytest.fail('loads images'))
    with pytest.raises(OSError, match=f"^{words}' cannot be written .Not a directory.: give another folder$"):
        sweep(GRID, tmp_path/out, tmp_path/runs, progress=False)
    assert not asked and [p.name for p in tmp_path.iterdir()] == ['a']
