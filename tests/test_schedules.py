"A schedule moves only what a strategy has as a knob; a knob that nothing would read is refused before anything is written."
import json
from dataclasses import dataclass

import pytest
import torch
from torch.testing import assert_close

from configs import comparison, run_of
from unremix.catalogue import entry
from unremix.cli import main
from unremix.compare_config import cell_config
from unremix.config import TrainConfig, assign, criterion_of, read
from unremix.hard_negatives import Uniform
from unremix.learned_temperature import LearnedTemperature
from unremix.losses import DebiasedNTXentLoss, NTXentLoss
from unremix.registry import STRATEGIES, Strategy, known
from unremix.run_parts import set_up
from unremix.several_runs import rehearse
from unremix.steps import assign_schedules, epoch_steps

SMALL = dict(limit=64, batch_size=16, epochs=2, log_every=1, precision='32-true', accelerator='cpu')
ENDS = {'temperature_end': .2, 'tau_plus_end': .3, 'beta_end': 0.}
HAS = { # by hand, from the papers
    'simclr': {'temperature'}, 'debiased': {'temperature', 'tau_plus'}, 'hcl': {'temperature', 'tau_plus', 'beta'},
    'unremix': {'temperature', 'tau_plus', 'beta'}, 'placebo-u': {'temperature', 'tau_plus', 'beta'},
    'unremix-across': {'temperature', 'tau_plus', 'beta'}, 'unremix-drawing': {'temperature', 'tau_plus', 'beta'},
    'placebo-ur': {'temperature', 'tau_plus', 'beta'}, 'oracle': {'temperature', 'beta'}, 'supervised': set(),
    'supcon': {'temperature'}, 'h-scl': {'temperature', 'beta'}, 'decoupled': {'temperature'}, 'cacr': set(), 'glofnd': {'temperature'}, 'jsd': {'temperature', 'beta'}, 'infograph': {'beta'}}
OWN = { # further numbers of one strategy, each with an end that is no default
    'adnce': {'mu': .5, 'sigma': 1.}, 'simans': {'sharpness': 1., 'below': .2}, 'ring': {'inner': .05, 'outer': .5}, 'topk': {}, 'margin': {'margin': .2},
    'given': {}, 'transport': {'epsilon': 1.}, 'mmcl': {'bandwidth': 20., 'cost': 50., 'ridge': .2},
    'mochi': {'active': .5}, 'synco': {'active': .5, 'sigma': 1., 'delta': .2, 'eta': .3}, 'sscl': {'active': .5}, 'mioc': {'active': .5, 'gamma': .2, 'nu': .3},
    'mmix': {'active': .5, 'threshold': .5, 'sharpness': 1.}, 'fnc': {'threshold': .5}, 'batchsampler': {}}
HAS |= {name: {'temperature', 'tau_plus'} for name in OWN}
HAS['sscl'] = HAS['sscl'] | {'beta'}
OWN |= {'jsd': {'class_prior': .1}, 'infograph': {'class_prior': .1}, 'cacr': {'tau_pos': .5, 'tau_neg': .5, 'attraction': .5, 'repulsion': .5, 'class_prior': .1}, 'glofnd': {'alpha': .1, 'rate': .1}} # without τ⁺
ENDS |= {f'{knob}_end': end for ends in OWN.values() for knob, end in ends.items()}
NUMBERS = 'temperature', 'tau_plus', 'beta'
OF_VIEWS = [name for name in HAS if name != 'infograph']  # that one is for graphs: test_graphs.py
PAIRS = [(s, k) for s in OF_VIEWS for k in NUMBERS]


def test_every_strategy_has_its_knobs():
    assert set(known()) == set(HAS)
    assert {name: set(s.movable) for name, s in known().items()} == {name: HAS[name] | set(OWN.get(name, ())) for name in HAS}


def test_what_can_move_is_one_number():
    assert {name: set(s.movable) - set(NUMBERS) for name, s in known().items()} == {name: set(OWN.get(name, ())) for name in HAS}
    with pytest.raises(ValueError, match='mix_end must be None with unremix, whose mix is no single number, got 1.0'): run_of(strategy='unremix', mix_end=1.)


@pytest.mark.parametrize('strategy', OF_VIEWS)
def test_what_the_command_tells_is_what_there_is(strategy):
    "`unremix strategies` names the knobs that are there, with the defaults of a run."
    told, run = entry(strategy), run_of(strategy=strategy)
    assert tuple(knob.name for knob in told.knobs) == known()[strategy].knobs
    assert {knob.name for knob in told.knobs if knob.moves} == set(known()[strategy].movable)
    for knob in told.knobs:
        if knob.name in ('temperature', 'tau_plus'):
            assert read(criterion_of(run), knob.name) == knob.default
        else:
            assert run.fields()[knob.name] == knob.default


@pytest.mark.parametrize('strategy', OF_VIEWS)
def test_the_loss_is_made_from_its_knobs(strategy):
    "Each knob reaches the loss, each other one is refused."
    plain = criterion_of(run_of(strategy=strategy))
    for name, value in {'temperature': .7, 'tau_plus': .25, 'beta': 2.5, 'detach': True}.items():
        if name not in known()[strategy].knobs:
            with pytest.raises(ValueError, match=name): run_of(strategy=strategy, **{name: value})
            continue
        criterion = criterion_of(run_of(strategy=strategy, **{name: value}))
        home = {'temperature': criterion, 'tau_plus': criterion.loss}.get(name, criterion.weights)
        assert getattr(home, name) == value
        usual = {'temperature': plain, 'tau_plus': plain.loss}.get(name, plain.weights)
        assign(criterion, name, getattr(usual, name))
        assert repr(criterion) == repr(plain)


@pytest.mark.parametrize('strategy,knob', [p for p in PAIRS if p[1] in HAS[p[0]]] + [(s, k) for s in OF_VIEWS for k in OWN.get(s, ())])
def test_a_knob_moves(strategy, knob):
    "From its own start to the asked end, in the loss that computes the steps."
    if strategy == 'transport': pytest.importorskip('ot')
    end = ENDS[f'{knob}_end']
    run = set_up(run_of(**SMALL, strategy=strategy, **{f'{knob}_end': end}))
    start, seen = read(run.criterion, knob), []
    for epoch in range(2):
        for _ in epoch_steps(run, epoch): seen.append(read(run.criterion, knob))
    assert_close(seen, torch.linspace(start, end, 8, dtype=torch.float64).tolist())


@pytest.mark.parametrize('strategy,knob', [p for p in PAIRS if p[1] not in HAS[p[0]]])
def test_a_knob_that_is_not_there_is_refused(strategy, knob, capsys, tmp_path):
    value = str(ENDS[f'{knob}_end'])
    args = ['train', '--out', str(tmp_path/'run'), '--strategy', strategy, '--limit', '64', f'--{knob.replace("_", "-")}-end', value]
    assert main(args) == 2
    assert f'{knob}_end must be None with {strategy}, which has no {knob}, got {float(value)}' in capsys.readouterr().err
    assert not (tmp_path/'run').exists()


def test_steps_of_nothing_are_refused():
    with pytest.raises(ValueError, match='anneal_steps must be None without a knob that moves, such as beta_end, got 8'): run_of(strategy='hcl', anneal_steps=8)
    with pytest.raises(ValueError, match='anneal_steps must be None without'): comparison(anneal_steps=8)


@pytest.mark.parametrize('ends', ({'inner_end': .5, 'outer_end': .6}, {'outer_end': .6, 'inner_end': .5}))
def test_two_knobs_that_bound_each_other_move_together(ends):
    "In whichever order they are given, up and down again."
    run = set_up(TrainConfig.of({**SMALL, 'strategy': 'ring', **ends}))
    for step in range(8):
        now, part = assign_schedules(run, step), run.criterion.weights
        assert 0 <= part.inner == now['inner'] < part.outer == now['outer']
    assert (part.inner, part.outer) == (.5, .6)
    assign_schedules(run, 0) # from the end to the start, as a resumed rehearsal does
    assert (run.criterion.weights.inner, run.criterion.weights.outer) == (.01, .1)
    rehearse(run.cfg, run.samples)
    down = {'inner': .5, 'outer': .6, 'inner_end': .01, 'outer_end': .1}
    TrainConfig.of({'strategy': 'ring', **down})
    with pytest.raises(ValueError, match=r'^inner_end: inner must be a number in \[0, 0.3\), got 0.5'):
        TrainConfig.of({'strategy': 'ring', 'inner_end': .5, 'outer_end': .3})


@dataclass(frozen=True)
class Gap(Uniform):
    "Legal at both ends and not in between."
    height: float = 0.

    def __post_init__(self):
        if .4 < self.height < .6: raise ValueError(f'height must be outside of the gap, got {self.height}')


def test_a_way_through_what_is_refused_is_told_before_training(monkeypatch):
    monkeypatch.setitem(STRATEGIES, 'gap', Strategy(Gap, weight='1', source='me'))
    TrainConfig.of({'strategy': 'gap', 'height_end': .3})
    TrainConfig.of({'strategy': 'gap', 'height_end': 1., 'anneal_steps': 3}) # it jumps over it
    for steps in (None, 2):
        with pytest.raises(ValueError, match='^height_end: height must be outside of the gap'):
            TrainConfig.of({'strategy': 'gap', 'height_end': 1., 'anneal_steps': steps})


@pytest.mark.parametrize('knob', NUMBERS)
def test_a_comparison_moves_it_where_it_is(knob):
    "All rows share one configuration; each gets what its strategy has."
    names = tuple(s for s in OF_VIEWS if s != 'supervised')
    cfg = comparison(**SMALL, strategies=names, anneal_steps=3, **{f'{knob}_end': ENDS[f'{knob}_end']})
    for strategy in (*names, 'supervised'):
        cell, there = cell_config(cfg, strategy, 0), knob in HAS[strategy]
        assert cell.schedule.ends == ({knob: ENDS[f'{knob}_end']} if there else {})
        assert cell.schedule.anneal_steps == (3 if there else None)


def test_a_comparison_without_such_a_row_is_refused(capsys, tmp_path):
    args = ['compare', '--out', str(tmp_path/'run'), '--strategies', 'simclr', 'oracle', '--tau-plus-end', '.3']
    assert main(args) == 2
    assert 'tau_plus_end must be None with simclr and oracle, which have no tau_plus, got 0.3' in capsys.readouterr().err
    assert not (tmp_path/'run').exists()


def test_the_reference_row_stays_simclr():
    "Before: debiased from the second step on, 1.99 in place of 2.76."
    cfg = comparison(**SMALL, tau_plus_end=.3)
    run = set_up(cell_config(cfg, 'simclr', 0))
    assert run.start == {} and assign_schedules(run, 7).keys() == {'lr'}
    z1, z2 = torch.randn(2, 16, 8, generator=torch.Generator().manual_seed(0))
    assert read(run.criterion, 'tau_plus') == 0
    assert run.criterion(z1, z2) == NTXentLoss(.5)(z1, z2)


def test_all_rows_of_a_scheduled_comparison_train(capsys, tmp_path):
    "Before: the oracle's row died in mid-run."
    args = ['compare', '--out', str(tmp_path/'c'), '--strategies', 'simclr', 'debiased', 'oracle', '--tau-plus-end', '.3', '--seeds', '1', '--no-supervised',
            '--limit', '64', '--batch-size', '32', '--epochs', '1', '--timed-steps', '0', '--log-every', '1', '--precision', '32-true']
    assert main(args) == 0
    logged = {s: json.loads((tmp_path/'c'/f'{s}-seed0'/'log.jsonl').read_text().splitlines()[-1]) for s in ('simclr', 'debiased', 'oracle')}
    assert logged['debiased']['tau_plus'] == .3 and 'tau_plus' not in logged['simclr'] | logged['oracle']


def test_a_loss_of_your_own_moves_what_it_has(monkeypatch):
    "A strategy may make another loss than its weights would."
    own = dict(
        own=Strategy(Uniform, '1', 'a test', 0.05, lambda c: DebiasedNTXentLoss(c.loss.temperature, 0.05)),
        plain=Strategy(Uniform, '1', 'a test', None),
        learned=Strategy(Uniform, '1', 'a test', None, lambda c: NTXentLoss(LearnedTemperature(0.5)), has_temperature=False),
    )
    for name, s in own.items():
        monkeypatch.setitem(STRATEGIES, name, s)
    assert set_up(run_of(**SMALL, strategy='own', tau_plus_end=0.2)).start == {'tau_plus': 0.05}
    for name, knob in (('own', 'beta'), ('plain', 'tau_plus'), ('learned', 'temperature')):
        refused = f'{knob}_end must be None with {name}, which has no {knob}'
        with pytest.raises(ValueError, match=refused):
            run_of(**SMALL, strategy=name, **{f'{knob}_end': 0.1})


def test_a_way_of_a_million_plateaus_is_looked_at_in_a_thousand(monkeypatch):
    "Else a configuration would take seconds, each time that it is read."
    from unremix import config
    seen, real = [], config.assign_all
    monkeypatch.setattr(config, 'assign_all', lambda *given: seen.append(1) or real(*given))
    config.TrainConfig.of({'strategy': 'hcl', 'beta_end': 0.0, 'anneal_steps': 10**6})
    assert 100 < len(seen) <= 1001
