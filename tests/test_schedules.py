"A schedule moves only what a strategy has as a knob; a knob that nothing would read is refused before anything is written."
import json

import pytest
import torch
from torch.testing import assert_close

from unremix.cli import STRATEGY_TABLE, main
from unremix.compare import CompareConfig, cell_config
from unremix.contrastive_loss import ContrastiveLoss, LearnedTemperature
from unremix.losses import DebiasedNTXentLoss, NTXentLoss
from unremix.train import KNOBS, SCHEDULED, STRATEGIES, TrainConfig, assign_schedules, epoch_steps, make_criterion, set_up

SMALL = dict(limit=64, batch_size=16, epochs=2, log_every=1, precision='32-true', accelerator='cpu')
ENDS = {'temperature_end': .2, 'tau_plus_end': .3, 'beta_end': 0.}
HAS = { # by hand, from the papers
    'simclr': {'temperature'}, 'debiased': {'temperature', 'tau_plus'}, 'hcl': {'temperature', 'tau_plus', 'beta'},
    'unremix': {'temperature', 'tau_plus', 'beta'}, 'placebo-u': {'temperature', 'tau_plus', 'beta'},
    'placebo-ur': {'temperature', 'tau_plus', 'beta'}, 'oracle': {'temperature', 'beta'}, 'supervised': set()}
PAIRS = [(s, k) for s in HAS for k in SCHEDULED]


def test_every_strategy_has_its_knobs_in_the_table():
    assert set(KNOBS) == set(STRATEGIES) == set(HAS)
    assert {s: set(k) & set(SCHEDULED) for s, k in KNOBS.items()} == HAS


@pytest.mark.parametrize('strategy', STRATEGIES)
def test_what_the_command_tells_is_the_table(strategy):
    "`unremix strategies` names no knob that is not there."
    told = next(row[2] for row in STRATEGY_TABLE if row[0] == strategy)
    named = {k.strip() for k in told.split(',')} & set(SCHEDULED)
    assert named <= set(KNOBS[strategy])


@pytest.mark.parametrize('strategy', STRATEGIES)
def test_the_loss_is_made_from_its_knobs(strategy):
    "Each knob of the table reaches the loss; each other field leaves it as it is."
    fields = {'temperature': .7, 'tau_plus': .25, 'beta': 2.5, 'detach_weights': True}
    criterion = make_criterion(TrainConfig(strategy=strategy, **fields))
    plain = make_criterion(TrainConfig(strategy=strategy))
    for name, value in fields.items():
        expected = value if name in KNOBS[strategy] else getattr(plain, name, None)
        assert getattr(criterion, name, None) == expected, name


@pytest.mark.parametrize('strategy,knob', [p for p in PAIRS if p[1] in HAS[p[0]]])
def test_a_knob_moves(strategy, knob):
    "From its own start to the asked end, in the loss that computes the steps."
    end = ENDS[f'{knob}_end']
    run = set_up(TrainConfig(**SMALL, strategy=strategy, **{f'{knob}_end': end}))
    start, seen = getattr(run.criterion, knob), []
    for epoch in range(2):
        for _ in epoch_steps(run, epoch): seen.append(getattr(run.criterion, knob))
    assert_close(seen, torch.linspace(start, end, 8, dtype=torch.float64).tolist())


@pytest.mark.parametrize('strategy,knob', [p for p in PAIRS if p[1] not in HAS[p[0]]])
def test_a_knob_that_is_not_there_is_refused(strategy, knob, capsys, tmp_path):
    value = str(ENDS[f'{knob}_end'])
    args = ['train', '--out', str(tmp_path/'run'), '--strategy', strategy, '--limit', '64', f'--{knob.replace("_", "-")}-end', value]
    assert main(args) == 2
    assert f'{knob}_end must be None with {strategy}, which has no {knob}, got {float(value)}' in capsys.readouterr().err
    assert not (tmp_path/'run').exists()


def test_steps_of_nothing_are_refused():
    with pytest.raises(ValueError, match='anneal_steps must be None without temperature_end, tau_plus_end or beta_end, got 8'): TrainConfig(strategy='hcl', anneal_steps=8)
    with pytest.raises(ValueError, match='anneal_steps must be None without'): CompareConfig(anneal_steps=8)


@pytest.mark.parametrize('knob', SCHEDULED)
def test_a_comparison_moves_it_where_it_is(knob):
    "All rows share one configuration; each gets what its strategy has."
    names = tuple(s for s in STRATEGIES if s != 'supervised')
    cfg = CompareConfig(**SMALL, strategies=names, anneal_steps=3, **{f'{knob}_end': ENDS[f'{knob}_end']})
    for strategy in (*names, 'supervised'):
        cell, there = cell_config(cfg, strategy, 0), knob in HAS[strategy]
        assert getattr(cell, f'{knob}_end') == (ENDS[f'{knob}_end'] if there else None)
        assert cell.anneal_steps == (3 if there else None)


def test_a_comparison_without_such_a_row_is_refused(capsys, tmp_path):
    args = ['compare', '--out', str(tmp_path/'run'), '--strategies', 'simclr', 'oracle', '--tau-plus-end', '.3']
    assert main(args) == 2
    assert 'tau_plus_end must be None with simclr and oracle, which have no tau_plus, got 0.3' in capsys.readouterr().err
    assert not (tmp_path/'run').exists()


def test_the_reference_row_stays_simclr():
    "Before: debiased from the second step on, 1.99 in place of 2.76."
    cfg = CompareConfig(**SMALL, tau_plus_end=.3)
    run = set_up(cell_config(cfg, 'simclr', 0))
    assert run.start == {} and assign_schedules(run, 7).keys() == {'lr'}
    z1, z2 = torch.randn(2, 16, 8, generator=torch.Generator().manual_seed(0))
    assert not hasattr(run.criterion, 'tau_plus')
    assert run.criterion(z1, z2) == NTXentLoss(.5)(z1, z2)


def test_all_rows_of_a_scheduled_comparison_train(capsys, tmp_path):
    "Before: the oracle's row died in mid-run."
    args = ['compare', '--out', str(tmp_path/'c'), '--strategies', 'simclr', 'debiased', 'oracle', '--tau-plus-end', '.3', '--seeds', '1', '--no-supervised',
            '--limit', '64', '--batch-size', '32', '--epochs', '1', '--timed-steps', '0', '--log-every', '1', '--precision', '32-true']
    assert main(args) == 0
    logged = {s: json.loads((tmp_path/'c'/f'{s}-seed0'/'log.jsonl').read_text().splitlines()[-1]) for s in ('simclr', 'debiased', 'oracle')}
    assert logged['debiased']['tau_plus'] == .3 and 'tau_plus' not in logged['simclr'] | logged['oracle']


def test_a_strategy_of_your_own_moves_what_its_loss_has(monkeypatch):
    "`STRATEGIES` may be extended without touching the table."
    own = dict(
        own=lambda c: DebiasedNTXentLoss(c.temperature, 0.05),
        plain=lambda c: ContrastiveLoss(temperature=c.temperature),
        learned=lambda c: DebiasedNTXentLoss(LearnedTemperature(c.temperature)),
    )
    for name, make in own.items():
        monkeypatch.setitem(STRATEGIES, name, make)
    cfg = TrainConfig(**SMALL, strategy='own', tau_plus_end=0.2)
    assert set_up(cfg).start == {'tau_plus': 0.05}
    for name, knob in (('own', 'beta'), ('plain', 'tau_plus'), ('learned', 'temperature')):
        refused = f'{knob}_end must be None with {name}, which has no {knob}'
        with pytest.raises(ValueError, match=refused):
            TrainConfig(**SMALL, strategy=name, **{f'{knob}_end': 0.1})
