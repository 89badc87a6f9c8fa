"""Groups of settings and strategies by name: what fits is found, the rest is told.

Configurations of earlier versions, which were flat, are still read.
"""

import contextlib
import dataclasses
import io
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from configs import NOT_RUN, comparison, run_of
from unremix.cli import main
from unremix.commands import RowsConfig, compare_command, train_command
from unremix.compare_config import CompareConfig, cell_config
from unremix.config import TrainConfig, criterion_of, read
from unremix.config_fields import flat
from unremix.config_groups import GROUPS, HOME
from unremix.evaluate import load_run
from unremix.grid import is_of, read_grid, run_key, runs_of
from unremix.hard_negatives import HCL, Debiased, Uniform
from unremix.losses import DebiasedNTXentLoss, HCLLoss, NTXentLoss, UnReMixLoss
from unremix.mixtures import SynCo
from unremix.registry import STRATEGIES, Strategy, find, from_text, is_setting, known, strategy
from unremix.safe_files import read_json
from unremix.sweep import read_lines
from unremix.synthesis import MoCHi
from unremix.table import reference_of, table
from unremix.train import train
from unremix.unremix import UnReMix

ROOT = Path(__file__).resolve().parents[1]
SMALL = dict(limit=64, batch_size=16, epochs=1, precision='32-true', accelerator='cpu')
EVERY = tuple(name for name, s in known().items() if not s.of_pieces)  # on images


# ---------------------------------------------------------------- strategies by name


def test_each_name_has_one_dataclass():
    kinds = [s.kind for s in known().values()]
    assert len(set(kinds)) == len(kinds) >= 8
    assert find('hcl').kind is HCL and find('unremix').kind is UnReMix
    assert (find('simclr').kind, find('debiased').kind) == (Uniform, Debiased)


@pytest.mark.parametrize(
    'name,loss',
    dict(
        simclr=NTXentLoss, debiased=DebiasedNTXentLoss, hcl=HCLLoss, unremix=UnReMixLoss
    ).items(),
)
def test_a_strategy_is_the_loss_of_that_name(name, loss):
    "With the same defaults, so in value and gradient."
    z = torch.randn(2, 9, 5, generator=torch.Generator().manual_seed(0))
    found = []
    for criterion in (loss(), criterion_of(run_of(strategy=name))):
        z1, z2 = (x.clone().requires_grad_() for x in z)
        value = criterion(z1, z2)
        found.append((value, *torch.autograd.grad(value, (z1, z2))))
    assert_close(*found, rtol=0, atol=0)


def test_what_is_no_frozen_dataclass_is_refused():
    @dataclass
    class Melts:
        "Not frozen."

        def __call__(self, c):
            return c

    @dataclass(frozen=True)
    class Silent:
        "Nobody can call it."

        x: float = 1.0

    @dataclass(frozen=True)
    class Needy(Uniform):
        "It cannot be made without arguments."

        x: float

    for kind in (Melts, Melts(), lambda c: c, Silent, Needy):
        with pytest.raises(ValueError, match='must be a frozen dataclass'):
            strategy('melts', weight='1', source='a test')(kind)
    assert 'melts' not in STRATEGIES
    with pytest.raises(ValueError, match="strategy 'json:JSONDecoder' must be a frozen dataclass"):
        find('json:JSONDecoder')


def test_a_name_that_somebody_has():
    @dataclass(frozen=True)
    class Other(Uniform):
        "Another class."

    with pytest.raises(ValueError, match="name of a strategy must be one that nobody has, got 'hcl'"):
        strategy('hcl', weight='1', source='a test')(Other)
    assert find('hcl').kind is HCL


@pytest.mark.parametrize('knob', ('seed', 'temperature', 'name', 'beta_end'))
def test_a_knob_that_is_called_like_a_setting(knob, monkeypatch):
    kind = dataclasses.make_dataclass('Odd', [(knob, float, 1.0)], bases=(Uniform,), frozen=True)
    monkeypatch.setitem(STRATEGIES, 'odd', Strategy(kind, '1', 'a test'))
    with pytest.raises(ValueError, match=f"knob of odd must be called otherwise than a setting, got '{knob}'"):
        run_of(strategy='odd')


def test_defaults_are_not_shared():
    for make in (TrainConfig, run_of, lambda: CompareConfig().train, lambda: RowsConfig().train):
        make().schedule.ends['beta'] = 1.0
        assert make().schedule.ends == {}
    given = {'beta': 2.0}
    cfg = CompareConfig(knobs=given)
    for copy in (given, cfg.as_json()['knobs']):
        copy['beta'] = 3.0
    assert cfg.knobs == {'beta': 2.0} and CompareConfig().knobs == {}


@pytest.mark.parametrize(
    'text,wanted',
    [
        ('hcl', ('hcl', {})),
        (' hcl() ', ('hcl', {})),
        ('hcl(beta=2)', ('hcl', {'beta': 2})),
        ('placebo-u(mix=(1, 0, 0))', ('placebo-u', {'mix': (1, 0, 0)})),
        ('unremix(pool=log, kappa=[1., 0.])', ('unremix', {'pool': 'log', 'kappa': [1.0, 0.0]})),
        ('a.b:C(x=-1)', ('a.b:C', {'x': -1})),
    ],
    ids=str,
)
def test_a_name_with_knobs(text, wanted):
    assert from_text(text) == wanted


@pytest.mark.parametrize('text', ['', 'hcl(', 'hcl(2)', 'hcl(beta=f(1))', 'hcl(**{})', 'a b', None, 3, 'hcl(beta=1)(2)', 'hcl(beta=1)(beta=2)', 'hcl(beta=1, beta=2)', 'hcl(strategy=unremix)', 'hcl(beta={[]: 1})'], ids=str)
def test_what_is_no_name_with_knobs(text):
    with pytest.raises(ValueError, match='strategy must be a name, or a name with knobs'):
        from_text(text)


# ---------------------------------------------------------------- groups


def test_every_field_has_one_home():
    names = [f.name for kind in GROUPS.values() for f in dataclasses.fields(kind)]
    assert len(names) == len(set(names)) == len(HOME)
    fields = [f for s in known().values() for f in dataclasses.fields(s.kind)]
    knobs = {f.name for f in fields if is_setting(f)}
    assert not knobs & set(HOME), 'a knob with the name of a field could not be asked for'


@pytest.mark.parametrize('name', EVERY)
def test_fields_give_the_run_back(name):
    cfg = run_of(**SMALL, strategy=name, seed=3)
    saved = json.loads(json.dumps(cfg.as_json()))
    assert TrainConfig.of(cfg.fields()) == TrainConfig.from_json(saved) == cfg
    assert cfg.but({}) == cfg and cfg.but({'seed': 4}).run.seed == 4


def test_schedules_come_back():
    cfg = run_of(strategy='hcl', beta=2.0, beta_end=0, temperature_end=0.1, anneal_steps=8)
    assert cfg.schedule.ends == {'beta': 0, 'temperature': 0.1}
    assert run_of(strategy='hcl', beta_end=None).schedule.ends == {}
    assert TrainConfig.from_json(json.loads(json.dumps(cfg.as_json()))) == cfg


def test_another_strategy_has_its_own_knobs():
    cfg = run_of(strategy='hcl', beta=2.0).but({'strategy': 'unremix'})
    assert cfg.knobs == UnReMix() and cfg.but({'strategy': 'simclr'}).knobs == Uniform()


@pytest.mark.parametrize('name', EVERY)
def test_a_knob_of_another_strategy_is_refused(name):
    every = {'beta': 5.0, 'mix': (1, 0, 0), 'pool': 'log', 'uncertainty': 'nonsense'}
    every |= {'beta_end': 0.0, 'tau_plus_end': 0.2, 'temperature_end': 0.2}
    for knob, value in every.items():
        if knob.removesuffix('_end') in known()[name].knobs:
            continue
        with pytest.raises(ValueError, match=f'{knob}.* {name}'):
            run_of(strategy=name, **{knob: value})


def test_the_same_run_has_one_key():
    "Before, knobs that nobody read made another run of it."
    plain, spelled_out = run_of(strategy='hcl'), run_of(strategy='hcl', beta=1.0, detach=False)
    assert run_key(plain) == run_key(spelled_out) != run_key(run_of(strategy='hcl', beta=2.0))


@pytest.mark.parametrize(
    'knobs',
    [
        {'pool': 'log', 'mix': (1, 0, 0)},
        {'normalize': 'sum', 'beta': 2.0},
        {'normalize': 'minmax', 'kappa': (2.0, 1.0)},
        {'uncertainty': 'boundary', 'uncertainty_temperature': 0.1},
    ],
    ids=str,
)
def test_a_choice_that_rules_out_a_knob(knobs):
    "What would not be read is refused, by the weights, the loss and the run."
    (choice, chosen), (unread, _) = knobs.items()
    for make in (lambda k: UnReMix(**k), lambda k: UnReMixLoss(**k), lambda k: run_of(strategy='unremix', **k)):
        assert make({choice: chosen})
        with pytest.raises(ValueError, match=f'{unread} must be left at .* with {choice}='):
            make(knobs)


ALONE = {'mix': (1.0, 0.0, 0.0)}
NOBODY_READS = {  # of knobs, the first would not be read
    'beta': ALONE | {'beta': 4.0},
    'kappa': ALONE | {'kappa': (1.0, 3.0)},
    'distance': {'mix': (0.5, 0.5, 0.0), 'distance': 'euclidean'},
    'uncertainty': {'mix': (0.0, 1.0, 0.0), 'uncertainty': 'entropy'},
    'uncertainty_temperature': {'pool': 'log', 'kappa': (0.0, 1.0), 'uncertainty_temperature': 0.1},
    'pseudo_label': {'mix': (0.0, 0.5, 0.5), 'pseudo_label': 'positive'},
    'detach': {'mix': (0.5, 0.0, 0.5), 'normalize': 'sum', 'detach': False},
}


@pytest.mark.parametrize('knob', NOBODY_READS)
def test_a_knob_of_an_opinion_that_does_not_count(knob):
    "It would be tuned in vain. A run of an earlier version that has it is read as it was."
    asked = NOBODY_READS[knob]
    called = {'detach_weights' if k == 'detach' else k: v for k, v in asked.items()}
    by = 'kappa' if 'pool' in asked else 'mix'
    for make in (lambda: UnReMix(**asked), lambda: UnReMixLoss(**called), lambda: run_of(strategy='unremix', **asked)):
        with pytest.raises(ValueError, match=f'{knob} must be left at .*, since {by} leaves its opinion out, got'):
            make()
    read = {k: v for k, v in asked.items() if k != knob}
    cfg = run_of(strategy='unremix', **read)
    saved = cfg.as_json()
    saved['strategy'] |= json.loads(json.dumps(asked))
    assert TrainConfig.from_json(saved) == cfg
    if knob == 'beta':
        moving = cfg.as_json() | {'schedule': {'ends': {'beta': 0.0}, 'anneal_steps': None}}
        assert TrainConfig.from_json(moving) == cfg
        with pytest.raises(ValueError, match='beta_end: beta must be left at 1.0, since mix leaves its opinion out'):
            run_of(strategy='unremix', **ALONE, beta_end=0.0)


@pytest.mark.parametrize(
    'part, told',
    [
        (lambda: SynCo(noisy=0, sigma=0.5), 'sigma must be left at 0.01'),
        (lambda: SynCo(stepped=0, delta=0.5), 'delta must be left at 0.01'),
        (lambda: SynCo(signed=0, eta=0.5), 'eta must be left at 0.01'),
        (lambda: MoCHi(count=0, hardest=3), 'hardest must be left at 64'),
    ],
)
def test_a_size_of_negatives_that_are_not_made(part, told):
    with pytest.raises(ValueError, match=told):
        part()
    assert MoCHi(count=0, with_anchor=1, hardest=3) and SynCo(noisy=0, delta=0.5)


def test_a_schedule_may_end_where_a_knob_is_not_read():
    "At one step of many nobody reads it, in the others somebody does."
    assert run_of(strategy='simans', sharpness=5.0, below=0.2, sharpness_end=0.0)
    assert run_of(strategy='cacr', tau_pos=2.0, attraction_end=0.0)


# ---------------------------------------------------------------- comparisons


def test_a_shared_knob_that_a_row_does_not_read():
    "It is for those that do; what a row asks of itself is refused."
    rows = 'hcl', 'unremix', 'unremix(mix=(1, 0, 0))'
    cfg = comparison(**SMALL, strategies=rows, beta=2.0, beta_end=0.5)
    cells = [cell_config(cfg, row, 0) for row in rows]
    assert [c.knobs.beta for c in cells] == [2.0, 2.0, 1.0]
    assert [c.schedule.ends for c in cells] == [{'beta': 0.5}, {'beta': 0.5}, {}]
    with pytest.raises(ValueError, match='beta must be left at 1.0, since mix leaves'):
        comparison(**SMALL, strategies=('hcl', 'unremix(mix=(1, 0, 0), beta=2)'))


def test_two_rows_of_one_strategy(tmp_path):
    rows = 'simclr', 'hcl', 'hcl(beta=3, temperature=.2, tau_plus=0)'
    cfg = comparison(**SMALL, strategies=rows)
    cells = [cell_config(cfg, row, 1) for row in rows]
    assert [c.knobs for c in cells] == [Uniform(), HCL(), HCL(3)]
    assert [c.loss.temperature for c in cells] == [0.5, 0.5, 0.2]
    assert {c.run.seed for c in cells} == {1} and cells[2].loss.tau_plus == 0


def test_shared_knobs_go_where_they_are():
    rows = 'simclr', 'debiased', 'hcl', 'unremix(beta=3)', 'oracle'
    cfg = comparison(**SMALL, strategies=rows, beta=2.0, tau_plus=0.2, temperature_end=0.1)
    cells = {row: cell_config(cfg, row, 0) for row in (*rows, 'supervised')}
    betas = {row: getattr(c.knobs, 'beta', None) for row, c in cells.items()}
    assert betas == {'simclr': None, 'debiased': None, 'hcl': 2, 'unremix(beta=3)': 3, 'oracle': 2, 'supervised': None}
    priors = [c.loss.tau_plus for c in cells.values()]
    assert priors == [None, 0.2, 0.2, 0.2, None, None]
    ends = [c.schedule.ends for c in cells.values()]
    assert ends == [{'temperature': 0.1}] * 5 + [{}]
    again = CompareConfig.of(flat(json.loads(json.dumps(cfg.as_json()))))
    assert again == cfg


def test_rows_of_one_strategy_are_trained(tmp_path, capsys):
    rows = ['simclr', 'hcl(beta=2)', "hcl(beta=4, beta_end=0)"]
    words = ['--strategies', *rows, '--limit', '64', '--batch-size', '32', '--epochs', '1']
    words += ['--seeds', '1', '--no-supervised', '--timed-steps', '0', '--log-every', '1']
    command = ['compare', '--out', str(tmp_path), *words, '--precision', '32-true']
    assert main(command) == 0
    told = capsys.readouterr().out
    assert all(row in told for row in rows) and 'vs simclr' in told
    ends = [json.loads(path.read_text().splitlines()[-1]).get('beta') for path in sorted(tmp_path.glob('hcl*/log.jsonl'))]
    assert ends == [None, 0.0]
    assert main(command) == 0 and 'is finished' in capsys.readouterr().out


# ---------------------------------------------------------------- the command line


def test_three_ways_to_one_run():
    by_option = train_command(['--strategy', 'hcl', '--beta', '2', '--beta-end', '0'])
    by_text = train_command(['--strategy', 'hcl(beta=2)', '--ends', 'beta', '0'])
    in_python = run_of(strategy='hcl', beta=2, beta_end=0)
    assert by_option.config == by_text.config == in_python
    assert train_command(['--strategy=hcl', '--beta=2', '--beta-end=0']).config == in_python


@pytest.mark.parametrize(
    'words',
    [
        '--strategy hcl --ends temperature .1 --beta-end 0 --anneal-steps 8',
        '--strategy hcl --beta-end 0 --temperature-end .1 --anneal-steps 8',
        '--strategy hcl(beta_end=0,temperature_end=.1,anneal_steps=8)',
    ],
)
def test_every_schedule_counts(words):
    wanted = {'ends': {'beta': 0, 'temperature': 0.1}, 'anneal_steps': 8}
    assert train_command(words.split()).config.as_json()['schedule'] == wanted


def test_two_ways_to_one_comparison():
    by_option = compare_command(['--strategies', 'simclr', 'unremix', '--mix', '0', '1', '0', '--pool', 'linear', '--no-detach'])
    assert by_option.config == comparison(strategies=('simclr', 'unremix'), mix=(0, 1, 0), pool='linear', detach=False, workers=None)


def test_help_is_of_the_strategy(capsys):
    told = {}
    for name in ('simclr', 'hcl'):
        with pytest.raises(SystemExit):
            main(['train', '--strategy', name, '--help'])
        told[name] = capsys.readouterr().out
    assert '--beta' in told['hcl'] and 'hardness' in told['hcl']
    assert '--beta' not in told['simclr'] and '--epochs' in told['simclr']


# ---------------------------------------------------------------- what earlier versions wrote

OLD = dict(  # a configuration as it was written then, every field
    dataset='fashion_mini', data_root=None, limit=64, validation=None, image_size=None, augment_strength=1.0,
    encoder='small', head_hidden=512, head_out=128, strategy='simclr', temperature=0.5, tau_plus=None, beta=1.0,
    mix=[1 / 3, 1 / 3, 1 / 3], kappa=[1.0, 1.0], uncertainty='norm', uncertainty_temperature=None, distance='cosine',
    normalize='softmax', pool='linear', select=None, k_keep=None, detach_weights=None, temperature_end=None,
    tau_plus_end=None, beta_end=None, anneal_steps=None, epochs=1, batch_size=16, optimizer='adam', lr=2e-3,
    weight_decay=1e-6, warmup_epochs=0.5, lr_schedule='cosine', clip_grad=None, chunk_size=None,
    gather_distributed=True, queue_size=0, momentum=0.99, micro_batch=None, precision='32-true', channels_last=True,
    accelerator='cpu', devices=1, num_nodes=1, sync_batchnorm=False, seed=0, log_every=10, save_every=None,
)  # fmt: skip


@pytest.mark.parametrize(
    'then,now',
    [
        ({}, {}),
        ({'beta': 5.0, 'pool': 'log', 'uncertainty': 'nonsense'}, {}),  # read by nobody
        ({'strategy': 'hcl', 'beta': 2.0, 'mix': [1, 0, 0]}, {'strategy': 'hcl', 'beta': 2.0}),
        ({'strategy': 'hcl', 'detach_weights': True, 'beta_end': 0.0}, {'strategy': 'hcl', 'detach': True, 'beta_end': 0.0}),
        ({'strategy': 'unremix', 'select': 'top', 'k_keep': 3}, {'strategy': 'unremix', 'select': 'top', 'k_keep': 3}),
        ({'strategy': 'placebo-ur', 'pool': 'log'}, {'strategy': 'placebo-ur', 'pool': 'log'}),
        ({'tau_plus': 0.1, 'detach_weights': False}, {}),
        ({'strategy': 'supervised', 'temperature': 0.2}, {'strategy': 'supervised'}),
        ({'strategy': 'debiased', 'tau_plus': 0.2, 'beta': 3.0}, {'strategy': 'debiased', 'tau_plus': 0.2}),
    ],
    ids=str,
)
def test_an_old_configuration(then, now):
    assert TrainConfig.from_json(OLD | then) == run_of(**SMALL, **now)


def test_an_old_run_goes_on_and_is_scored(tmp_path):
    "Its folder and its checkpoint hold a flat configuration."
    cfg = run_of(**SMALL | {'epochs': 2}, strategy='hcl', beta=2.0)
    whole = train(cfg, tmp_path / 'whole', progress=False)
    old = OLD | {'strategy': 'hcl', 'beta': 2.0, 'epochs': 2}
    shutil.copytree(tmp_path / 'whole', tmp_path / 'old')
    (tmp_path / 'old' / 'result.json').unlink()
    (tmp_path / 'old' / 'config.json').write_text(json.dumps(old))
    half = torch.load(tmp_path / 'whole' / 'checkpoint_before.pt', weights_only=True)
    torch.save(half | {'config': old}, tmp_path / 'old' / 'checkpoint.pt')
    assert train(cfg, tmp_path / 'old', progress=False)['loss'] == whole['loss']
    last = torch.load(tmp_path / 'whole' / 'checkpoint.pt', weights_only=True)
    torch.save(last | {'config': old}, tmp_path / 'old' / 'checkpoint.pt')
    run = load_run(tmp_path / 'old')
    assert run.cfg == cfg and read(run.criterion, 'beta') == 2.0
    with pytest.raises(ValueError, match=r'beta \(2.0, asked 3.0\)'):
        train(cfg.but({'beta': 3.0}), tmp_path / 'old', progress=False)


def test_the_committed_comparison_is_still_read():
    result = read_json(ROOT / 'results' / 'compare' / 'fashion_mini.json')
    cfg = CompareConfig.of(flat(result['config']))
    assert reference_of(result) == cfg.reference == 'simclr'
    assert set(cfg.strategies) <= result['rows'].keys() and 'vs simclr' in table(result)
    assert cfg.train.optim.epochs == result['config']['epochs'] and not cfg.knobs


GRIDS = [p for p in sorted((ROOT / 'results' / 'grids').glob('*.toml')) if p.stem not in NOT_RUN]


@pytest.mark.parametrize('path', GRIDS, ids=lambda p: p.stem)
def test_every_committed_line_is_of_its_grid(path):
    "A grid declares the runs whose keys the results hold."
    lines = read_lines(ROOT / 'results' / 'sweeps' / f'{path.stem}.jsonl')
    declared = runs_of(read_grid(path))
    found = [any(line['cell'] == cell and is_of(line, cfg) for cell, cfg in declared) for line in lines]
    assert lines and all(found)


def test_a_comparison_of_old_is_finished(tmp_path, capsys):
    "Its folder is read, and other settings are refused."
    words = ['--strategies', 'simclr', 'hcl', '--limit', '64', '--batch-size', '16', '--epochs', '1', '--seeds', '1']
    words += ['--no-supervised', '--timed-steps', '0', '--precision', '32-true', '--accelerator', 'cpu', '--beta', '2']
    command = ['compare', '--out', str(tmp_path), *words]
    assert main(command) == 0
    old = OLD | {'strategies': ['simclr', 'hcl'], 'seeds': 1, 'supervised': False, 'timed_steps': 0, 'beta': 2.0}
    (tmp_path / 'config.json').write_text(json.dumps(old))
    capsys.readouterr()
    assert main(command) == 0 and 'is finished' in capsys.readouterr().out
    assert main(command[:-2]) == 2 and 'beta (2.0, asked None)' in capsys.readouterr().err


def test_the_help_of_every_field_is_there():
    "Each field of a group and of a strategy says what it is."
    text = io.StringIO()
    for name in EVERY:
        with contextlib.redirect_stdout(text), pytest.raises(SystemExit):
            train_command(['--strategy', name, '--help'])
    words = text.getvalue()
    for f in HOME:
        assert re.search(rf'--(no-)?{f.replace("_", "-")}\b', words), f


def test_all_strategies_are_rows():
    "`all` is every strategy that has a name, once, and cross-entropy only as its own row."
    from unremix.compare_config import CompareConfig

    every = [name for name in EVERY if name != 'supervised']
    rows = CompareConfig(strategies=('all',)).strategies
    assert list(rows) == every
    rows = CompareConfig(strategies=('hcl', 'all', 'hcl(beta=2)')).strategies
    assert rows[0] == 'hcl' and rows[-1] == 'hcl(beta=2)'
    assert sorted(rows) == sorted([*every, 'hcl(beta=2)'])
