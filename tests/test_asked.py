"What was asked of a run or a comparison survives changes, files, and reports."

import dataclasses
import shlex

import pytest

from unremix.commands import compare_command, train_command
from unremix.compare_config import CompareConfig, cell_config
from unremix.config import TrainConfig
from unremix.config_fields import flat
from unremix.image_task import TASK
from unremix.presets import PRESETS
from unremix.registry import find, known
from unremix.report import command_of
from unremix.run_folder import disagreement
from unremix.tasks import TASKS, find_task, is_installed

GEOMETRIC = is_installed('torch_geometric')
MODALITIES = 'image', 'text', *(['graph'] if GEOMETRIC else [])
NO_TEMPERATURE = [name for name, s in known().items() if not s.has_temperature]
VIEWS = [name for name, s in known().items() if not s.of_pieces]


def run(**fields):
    return TrainConfig.of(fields)


def comparison(*rows, **fields):
    return CompareConfig.of(fields | {'strategies': rows})


@pytest.fixture
def mine(monkeypatch):
    "A task whose defaults not every strategy has."
    own = {'temperature': 0.2, 'tau_plus': 0.05, 'beta': 3.0, 'temperature_end': 0.1}
    task = dataclasses.replace(TASK, name='mine', defaults=own | {'epochs': 9})
    monkeypatch.setitem(TASKS, 'mine', task)
    return task


# ---------------------------------------------------------------- defaults of a task


@pytest.mark.parametrize('modality', MODALITIES)
@pytest.mark.parametrize('strategy', VIEWS)
def test_every_strategy_has_its_defaults_on_every_task(strategy, modality):
    cfg = run(strategy=strategy, modality=modality)
    assert cfg.usual() == cfg.fields()
    assert disagreement(cfg.as_json(), cfg) == {}
    has = find(strategy).has_temperature
    usual = find_task(modality).usual().get('temperature', 0.5)
    assert cfg.loss.temperature == (usual if has else 0.5)


def test_a_temperature_that_was_asked_is_still_refused():
    for strategy in NO_TEMPERATURE:
        if strategy in VIEWS:
            with pytest.raises(ValueError, match='temperature must be left at 0.5'):
                run(strategy=strategy, modality='text', temperature=0.05)


def test_a_default_that_a_strategy_has_no_knob_for_is_left_out(mine):
    hcl = run(strategy='hcl', modality='mine')
    assert (hcl.loss.temperature, hcl.loss.tau_plus, hcl.knobs.beta) == (0.2, 0.05, 3.0)
    assert hcl.schedule.ends == {'temperature': 0.1} and hcl.optim.epochs == 9
    bare = run(strategy='supervised', modality='mine')
    assert (bare.loss.temperature, bare.loss.tau_plus) == (0.5, None)
    assert bare.schedule.ends == {} and bare.optim.epochs == 9


def test_a_default_that_nobody_has_is_refused(mine, monkeypatch):
    bad = dataclasses.replace(mine, defaults={'epoch': 3})
    monkeypatch.setitem(TASKS, 'mine', bad)
    with pytest.raises(ValueError, match='epoch is no field of a training run'):
        run(modality='mine')


def test_a_preset_on_a_strategy_without_its_temperature():
    "Of a preset too: nobody asked this run for a temperature."
    name = 'fashion-small-10ep'
    assert PRESETS[name]['temperature'] != 0.5
    words = ['--preset', name, '--strategy', 'supervised']
    assert train_command(words).config.loss.temperature == 0.5
    assert train_command(['--preset', name]).config.loss.temperature == 0.15
    with pytest.raises(ValueError, match='temperature must be left at 0.5'):
        train_command([*words, '--temperature', '0.15'])


# ---------------------------------------------------------------- changes of a run


@pytest.mark.parametrize('strategy', ('hcl', 'fnc', 'supervised', 'unremix'))
@pytest.mark.parametrize('modality', ('text', 'mine'))
def test_another_modality_leaves_the_strategy(strategy, modality, mine):
    cfg = run(strategy=strategy).but({'modality': modality})
    assert cfg == run(strategy=strategy, modality=modality)
    assert cfg.but({'modality': 'image'}) == run(strategy=strategy)


def test_what_was_asked_survives_another_modality(mine):
    asked = {'strategy': 'hcl', 'beta': 2.0, 'epochs': 3, 'tau_plus': 0.3, 'seed': 5}
    asked |= {'beta_end': 0.5, 'anneal_steps': 2, 'temperature': 0.7, 'limit': 64}
    asked |= {'queue_size': 32, 'log_every': 3, 'lr': 0.1, 'detach': True}
    assert run(**asked).but({'modality': 'mine'}) == run(**asked, modality='mine')
    off = {'beta_end': None, 'anneal_steps': None}
    both = run(**asked).but({'modality': 'mine', 'strategy': 'debiased'} | off)
    assert both.strategy == 'debiased' and both.loss.tau_plus == 0.3


def test_another_strategy_has_the_temperature_of_its_task():
    text = run(modality='text')
    bare = run(modality='text', strategy='supervised')
    assert text.but({'strategy': 'supervised'}) == bare
    assert bare.but({'strategy': 'simclr'}) == text
    assert text.but({'strategy': 'hcl'}).loss.temperature == 0.05
    assert run(temperature=0.3).but({'strategy': 'hcl'}).loss.temperature == 0.3
    with pytest.raises(ValueError, match='temperature must be left at 0.5'):
        run(modality='text', temperature=0.3).but({'strategy': 'supervised'})


# ---------------------------------------------------------------- comparisons


def test_the_reference_of_a_command_is_its_first_row():
    "As in Python, and as the help says."
    for rows in (['hcl', 'unremix'], ['hcl', 'simclr'], ['hcl(beta=2)', 'hcl']):
        cfg = compare_command(['--strategies', *rows]).config
        assert type(cfg) is CompareConfig and cfg.reference == rows[0]
        assert cfg == comparison(*rows, workers=None)
    words = ['--strategies', 'hcl', 'simclr', '--reference', 'simclr']
    assert compare_command(words).config.reference == 'simclr'
    assert compare_command([]).config.reference == 'simclr'


def test_other_rows_have_their_own_first_row():
    cfg = comparison('simclr', 'hcl')
    assert cfg.but({'strategies': ('hcl', 'unremix')}).reference == 'hcl'
    named = comparison('simclr', 'hcl', reference='hcl')
    assert named.but({'strategies': ('simclr', 'topk', 'hcl')}).reference == 'hcl'
    assert named.but({'seeds': 3}).reference == 'hcl'
    both = {'strategies': ('hcl', 'simclr'), 'reference': 'simclr'}
    assert cfg.but(both).reference == 'simclr'
    with pytest.raises(ValueError, match='reference must be one of'):
        named.but({'strategies': ('simclr', 'topk')})


def test_knobs_of_the_shared_run_are_of_no_row():
    cfg = CompareConfig(run(strategy='hcl', beta=3.0), strategies=('simclr', 'hcl'))
    again = CompareConfig.of(flat(cfg.as_json()))
    for made in (cfg.but({'seeds': 5}), again):
        assert cell_config(made, 'hcl', 0).knobs.beta == 1.0 and made.knobs == {}
    assert disagreement(cfg.as_json(), cfg) == {}
    foreign = CompareConfig(run(strategy='fnc'), strategies=('simclr', 'hcl'))
    assert foreign.but({'seeds': 5}).seeds == 5
    assert 'top' not in foreign.fields() and 'strategy' not in foreign.fields()


def test_knobs_of_all_rows_survive():
    cfg = comparison('simclr', 'hcl', beta=3.0, beta_end=1.0, temperature=0.3)
    for made in (cfg.but({'seeds': 5}), CompareConfig.of(flat(cfg.as_json()))):
        assert made.knobs == {'beta': 3.0, 'beta_end': 1.0}
        assert cell_config(made, 'hcl', 0) == cell_config(cfg, 'hcl', 0)


def test_a_shared_schedule_of_no_row_is_refused():
    "As a knob is: it would move nothing."
    moves = run(strategy='hcl', beta_end=0.0)
    cfg = CompareConfig(moves, strategies=('simclr', 'hcl'))
    again = CompareConfig.of(flat(cfg.as_json()))
    for made in (cfg, cfg.but({'seeds': 5}), again):
        assert cell_config(made, 'hcl', 0).schedule.ends == {'beta': 0.0}
    with pytest.raises(ValueError, match='beta_end must be None with simclr and topk'):
        CompareConfig(moves, strategies=('simclr', 'topk'))


def test_a_comparison_of_another_modality(mine):
    cfg = comparison('hcl', 'simclr', seeds=3, beta=2.0, epochs=4, reference='simclr')
    found = cfg.but({'modality': 'mine'})
    assert found.train == run(modality='mine', epochs=4)
    assert found.own_fields() == cfg.own_fields() and found.knobs['beta'] == 2.0
    text = CompareConfig().but({'modality': 'text'})
    assert text == CompareConfig.of({'modality': 'text'})


ROWS = 'simclr', 'hcl', 'unremix', 'cacr', 'supervised', 'topk'


@pytest.mark.parametrize('row', ROWS)
def test_a_row_has_the_defaults_of_its_task(row, mine):
    "As a run of its strategy has them; what was asked for wins."
    cfg = comparison('simclr', row, modality='mine') if row != 'simclr' else comparison(row, modality='mine')
    assert cell_config(cfg, row, 4) == run(modality='mine', strategy=row, seed=4)
    for made in (cfg.but({'seeds': 5}), CompareConfig.of(flat(cfg.as_json()))):
        assert cell_config(made, row, 4) == cell_config(cfg, row, 4)


def test_what_was_asked_wins_over_the_task(mine):
    cfg = comparison('simclr', 'hcl', 'hcl(beta=1)', modality='mine', beta=2.0, epochs=3)
    asked = dict(modality='mine', strategy='hcl', epochs=3)
    for row, beta in (('hcl', 2.0), ('hcl(beta=1)', 1)):
        assert cell_config(cfg, row, 0) == run(**asked, beta=beta)
    own = comparison('hcl(tau_plus=.2, temperature_end=None)', 'simclr', modality='mine')
    made = cell_config(own, own.strategies[0], 0)
    assert (made.loss.tau_plus, made.schedule.ends) == (0.2, {})


def test_what_quick_sets_reaches_the_rows(monkeypatch):
    "As it reaches a run: of a knob, those that have it; an option wins."
    task = dataclasses.replace(TASK, name='mine', quick={'beta': 3.0, 'beta_end': 0.0})
    monkeypatch.setitem(TASKS, 'mine', task)
    words = ['--modality', 'mine', '--quick', '--strategies', 'simclr']
    made = compare_command([*words, 'hcl']).config
    alone = train_command(['--modality', 'mine', '--quick', '--strategy', 'hcl']).config
    assert cell_config(made, 'hcl', 0) == alone and alone.knobs.beta == 3.0
    assert compare_command([*words, 'topk']).config.knobs == {}
    assert compare_command([*words, 'hcl', '--beta', '2']).config.knobs['beta'] == 2


# ---------------------------------------------------------------- jumps of a schedule


def test_jumps_of_all_rows_survive_another_schedule():
    "Where the shared run moves one knob and `knobs` another, both jump."
    shared = run(strategy='hcl', beta_end=0.0, anneal_steps=8)
    knobs = {'temperature_end': 0.1}
    cfg = CompareConfig(shared, knobs=knobs, strategies=('simclr', 'hcl'))
    again = CompareConfig.of(flat(cfg.as_json()))
    for made in (cfg, cfg.but({'seeds': 2}), again):
        moves = cell_config(made, 'hcl', 0).schedule
        assert (moves.ends, moves.anneal_steps) == ({'beta': 0.0, 'temperature': 0.1}, 8)
        assert cell_config(made, 'simclr', 0).schedule.anneal_steps == 8
    own = dataclasses.replace(cfg, knobs=knobs | {'anneal_steps': 4})
    assert cell_config(own, 'hcl', 0).schedule.anneal_steps == 4


def test_jumps_of_a_knob_that_one_row_moves():
    cfg = comparison('simclr', 'hcl(beta_end=0)', anneal_steps=8)
    assert cell_config(cfg, 'hcl(beta_end=0)', 0).schedule.anneal_steps == 8
    assert cell_config(cfg, 'simclr', 0).schedule.anneal_steps is None
    own = comparison('simclr', 'hcl(beta_end=0, anneal_steps=3)', anneal_steps=8)
    assert cell_config(own, own.strategies[1], 0).schedule.anneal_steps == 3
    with pytest.raises(ValueError, match='anneal_steps must be None without a knob'):
        comparison('simclr', 'hcl', anneal_steps=8)


# ---------------------------------------------------------------- lists in two pieces

TWICE = {
    '--strategies': (compare_command, ['simclr'], ['hcl', 'hcl(beta=2)']),
    '--loggers': (train_command, ['csv'], ['csv']),
    '--ends': (train_command, ['temperature', '.1'], ['tau_plus', '0']),
}


@pytest.mark.parametrize('option', TWICE)
def test_a_list_in_two_pieces_is_refused(option):
    "The last piece alone would count; `--beta-end` joins `--ends` as before."
    command, first, second = TWICE[option]
    hcl = ['--strategy', 'hcl', '--beta-end', '0'] if option == '--ends' else []
    with pytest.raises(ValueError, match=f'{option} must be given once, with all its'):
        command([*hcl, option, *first, option, *second])
    with pytest.raises(ValueError, match=f'{option} must be given once'):
        command([*hcl, f'{option}={first[0]}', *first[1:], option, *second])
    command([*hcl, option, *first])


# ---------------------------------------------------------------- the report's command

KNOBS = {
    'simclr': {},
    'hcl': {'beta': 2.0, 'tau_plus': 0.0, 'beta_end': 0.5, 'anneal_steps': 8},
    'unremix': {'mix': (0.0, 1.0, 0.0), 'detach': False, 'pool': 'score'},
    'fnc': {'attract': True, 'top': 3},
    'supervised': {},
    'cacr': {'tau_pos': 2.0},
}
SHARED = (
    {'epochs': 8, 'batch_size': 64, 'temperature': 0.05},  # defaults of others
    {'data_root': 'a folder', 'seed': 3, 'sync_batchnorm': True, 'lr': 1e-5},
    {'gather_distributed': False, 'weight_decay': 0.0, 'precision': '32-true'},
)


def check_command(cfg):
    command = command_of(cfg.as_json(), 'train')
    unremix, name, *words = shlex.split(command)
    assert (unremix, name) == ('unremix', 'train')
    assert train_command(words).config == cfg, command
    assert ('--modality' in words) == (cfg.data.modality != 'image')


@pytest.mark.parametrize('modality', MODALITIES)
@pytest.mark.parametrize('strategy', KNOBS)
def test_the_command_of_a_report_makes_the_same_run(strategy, modality):
    warm = {'temperature': 0.5}  # the default of images
    some = warm if find(strategy).has_temperature else {}
    of_images = {'epochs': 6, 'batch_size': 128}
    for own in ({}, KNOBS[strategy] | some | of_images):
        check_command(run(strategy=strategy, modality=modality, **own))


@pytest.mark.parametrize('modality', MODALITIES)
@pytest.mark.parametrize('shared', SHARED, ids='-'.join)
def test_the_command_of_a_report_has_what_was_asked(shared, modality):
    check_command(run(modality=modality, **shared))


def test_the_command_of_a_run_of_defaults_is_short():
    assert command_of(run().as_json(), 'train') == 'unremix train'
    short = 'unremix train --modality text --strategy supervised'
    found = command_of(run(modality='text', strategy='supervised').as_json(), 'train')
    assert sorted(found.split()) == sorted(short.split())


def test_what_is_switched_off_is_in_the_command(mine, monkeypatch):
    "None where the task has a number."
    own = {'limit': 64, 'temperature': 0.2}
    task = dataclasses.replace(mine, defaults=own)
    monkeypatch.setitem(TASKS, 'mine', task)
    cfg = run(modality='mine', limit=None)
    words = shlex.split(command_of(cfg.as_json(), 'train'))[2:]
    assert train_command(words).config == cfg and '--limit' in words


@pytest.mark.parametrize('modality', MODALITIES)
@pytest.mark.parametrize(
    'fields',
    (
        {},
        {'temperature': 0.5, 'epochs': 6, 'seeds': 3},
        {'strategies': ('hcl(beta=2.0)', 'unremix'), 'supervised': False},
        {'strategies': ('hcl', 'simclr'), 'reference': 'simclr', 'beta': 3.0},
        {'beta_end': 0.5, 'anneal_steps': 4, 'mix': (0.0, 1.0, 0.0), 'detach': True},
        {'tau_plus': 0.2, 'timed_steps': 0, 'pool': 'score', 'detach': False},
    ),
    ids=lambda fields: '-'.join(fields) or 'defaults',
)
def test_the_command_of_a_report_makes_the_same_comparison(fields, modality):
    cfg = CompareConfig.of({'modality': modality, **fields})
    unremix, name, *words = shlex.split(command_of(cfg.as_json(), 'compare'))
    assert (unremix, name) == ('unremix', 'compare')
    found = compare_command(words).config
    assert found == cfg.but({'workers': None}), words


# the momentum of an encoder that is not there


def test_momentum_without_a_queue_is_refused():
    "It is not SGD's, which somebody who sets `optimizer='sgd'` may think."
    asked = {'optimizer': 'sgd', 'momentum': 0.5}
    with pytest.raises(ValueError, match='^momentum must be left at 0.99 without'):
        TrainConfig.of(asked)
    assert TrainConfig.of(asked | {'queue_size': 8}).memory.momentum == 0.5
    early = TrainConfig().as_json()
    early['memory']['momentum'] = 0.5
    assert TrainConfig.from_json(early) == TrainConfig()
    assert TrainConfig.of(flat(TrainConfig().fields() | asked)).memory.momentum == 0.99


def test_a_knob_is_given_once():
    "Behind the name of the strategy or as an option: 3 had counted, without a word."
    for twice in (['--beta', '3'], ['--beta=2'], ['--no-detach'], ['--tau-plus', '0']):
        knobs = 'hcl(beta=2, detach=True, tau_plus=0.1)'
        with pytest.raises(ValueError, match='must be given once, not also as'):
            train_command(['--strategy', knobs, *twice])
    once = train_command(['--strategy', 'hcl(beta=2)', '--tau-plus', '0', '--out', 'beta'])
    assert once.config.knobs.beta == 2 and once.config.loss.tau_plus == 0
