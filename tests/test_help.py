"The help of `train` and `compare`: for a reader at a terminal of 80 columns who does not write Python."
import re

import pytest

from unremix.cli import main
from unremix.config_groups import GROUPS
from unremix.commands import TrainCommand, train_command
from unremix.config import TrainConfig
from unremix.parsing import kinds_in
from unremix.presets import PRESETS
from unremix.registry import known


def help_of(capsys, monkeypatch, *args, columns=80):
    monkeypatch.setenv('COLUMNS', str(columns))
    with pytest.raises(SystemExit) as end: main([*args, '--help'])
    assert not end.value.code
    return re.sub(r'\x1b\[[0-9;]*m', '', capsys.readouterr().out)


HEADINGS = {'train': ['options', *(f'{g} options' for g in 'strategy data model loss schedule optimiser memory run'.split())],
            'compare': ['options', *(f'{g} options' for g in 'rows data model loss optimiser memory run'.split())]}


@pytest.mark.parametrize('command', HEADINGS)
def test_groups(command, capsys, monkeypatch):
    text = help_of(capsys, monkeypatch, command)
    assert re.findall(r'^\W+ ((?:\w+ )?options) ', text, re.M) == HEADINGS[command]
    assert max(map(len, text.splitlines())) <= 80
    for odd in '>>>', '{None}', '(default: None)', '(default: False)', '(default: True)', '(default: )', 'config.', 'Raises': assert odd not in text


def boxes(text): return ' '.join(re.sub(r'[│╭╮╰╯─]', ' ', text).split())


def test_choices_and_presets(capsys, monkeypatch):
    text = boxes(help_of(capsys, monkeypatch, 'train'))
    assert ', '.join(known()) + ', or module:Name' in text
    for name, fields in PRESETS.items():
        told = [fields[k] for k in ('dataset', 'encoder') if k in fields]
        assert f'{name}: ' + ', '.join(told) in text and f'epochs {fields["epochs"]}' in text
    assert 'small, resnet18, resnet50, or timm:NAME (default: small)' in text
    assert '--no-channels-last memory layout that convolutions like (on; this switches it off)' in text
    assert '--limit INT' in text and '--clip-grad FLOAT' in text and "--sync-batchnorm BatchNorm sees all processes' views (GPUs only) --seed" in text


def test_knobs_stand_with_their_strategy(capsys, monkeypatch):
    text = help_of(capsys, monkeypatch, 'train', '--strategy', 'hcl')
    box = text[text.index('strategy options'):text.index('data options')]
    assert '--strategy STR' in box and '--beta FLOAT' in box and '(default: hcl)' in box


def options(text): return re.findall(r'(--[a-z][a-z-]*)', text)


def test_every_field_has_its_option(capsys, monkeypatch):
    "As it was: the names of fields, `--no-` before a switch that is on."
    words = set(options(help_of(capsys, monkeypatch, 'train')))
    for group in GROUPS:
        for name, value in vars(getattr(TrainConfig(), group)).items():
            option = name.replace('_', '-')
            assert f'--no-{option}' in words if value is True else f'--{option}' in words, name


def test_nothing_stays_behind(capsys, monkeypatch):
    "Errors have tyro's own words, before the help and after it."
    bad = ['train', '--epochs', 'ten']
    kinds = {base for kind in kinds_in(TrainCommand(TrainConfig())) for base in kind.__mro__}
    types = {kind: dict(vars(kind).get('__annotations__', {})) for kind in kinds}
    assert main(bad) == 2
    before = capsys.readouterr().err
    help_of(capsys, monkeypatch, 'train'), help_of(capsys, monkeypatch, 'compare')
    assert main(bad) == 2 and capsys.readouterr().err == before and 'ten' in before
    assert {kind: dict(vars(kind).get('__annotations__', {})) for kind in kinds} == types
    assert train_command(['--image-size', 'None', '--no-channels-last']).config.run.channels_last is False


@pytest.mark.parametrize('command', ['embed', 'audit', 'export', 'sweep', 'evaluate'])
def test_boxes_of_the_others_fit_the_terminal(command, capsys, monkeypatch):
    for columns in 80, 100:
        text = help_of(capsys, monkeypatch, command, columns=columns)
        boxed = [len(line) for line in text.splitlines() if line[:1] in '│╭╰']
        assert boxed and max(boxed) <= columns
