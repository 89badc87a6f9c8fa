"What the command says and how it ends, in this process; nothing is trained."
import os, sys

import pytest

from configs import run_of
from unremix.registry import known
from unremix.config import TrainConfig
from unremix import cli as module, command_runs
from unremix.cli import main
from unremix.command_runs import scores_text
from unremix.commands import TrainCommand
from unremix.parsing import parse, sentence, wide_console
from unremix.presets import PRESETS, QUICK, preset_fields


LONG = 'no/' + 'very-long-folder-name/'*20 + 'run'
WRONG = [ # arguments, the whole sentence
    (['train', '--temperature', '-1'], 'temperature must be a number > 0, got -1.0'),
    (['train', '--epochs', 'ten'], "Error parsing --epochs: invalid literal for int() with base 10: 'ten'; expected --epochs INT passes over the training images, 1 or more (default: 6)"),
    (['train', '--no-such-thing', '1'], 'no_such_thing is no knob of simclr, which has temperature'),
    (['train', '--epoch', '1'], 'epoch is no field of a training run; perhaps epochs'),
    (['train', '--strategy', 'unremix', '--mix', '1', '0'], "Missing value for argument '--mix'. Expected 3 values."),
    (['evaluate'], 'Missing from unremix evaluate: PATH folder of a finished run (required)'),
    (['evaluate', LONG], f'run must be the folder of a finished run, with a result.json, got {LONG!r}'),
    (['compare', '--strategies', 'best'], f"row 'best': strategy must be one of {', '.join(known())}, or module:Name, got 'best'"),
    (['dance'], "command must be one of train, compare, sweep, evaluate, embed, audit, export, strategies, doctor, got 'dance'")]

@pytest.mark.parametrize('args, said', WRONG, ids=lambda x: ' '.join(x)[:40] if isinstance(x, list) else '')
@pytest.mark.parametrize('columns', ('40', '200'))
def test_sentence_in_any_console(args, said, columns, capsys, monkeypatch):
    "The same words wherever tyro believes to be: colours and boxes of both kinds."
    monkeypatch.setenv('COLUMNS', columns)
    for colour in (False, True):
        monkeypatch.setattr('tyro._fmtlib._FORCE_ANSI', colour, raising=False)
        for frame in (False, True):
            monkeypatch.setattr('tyro._fmtlib._FORCE_UTF8_BOXES', frame, raising=False)
            assert main(args) == 2
            assert capsys.readouterr().err == f'unremix: error: {said}\n'

def test_a_path_is_not_broken(capsys):
    "A folder with blanks in its name, longer than any terminal."
    assert main(['train', '--dataset', 'imagefolder', '--data-root', LONG]) == 2
    assert LONG in capsys.readouterr().err


def test_columns_come_back(monkeypatch):
    for value in None, '70':
        monkeypatch.delenv('COLUMNS', raising=False) if value is None else monkeypatch.setenv('COLUMNS', value)
        with pytest.raises(KeyError), wide_console(): raise KeyError
        assert os.environ.get('COLUMNS') == value


def test_help_has_the_width_of_the_terminal(capsys, monkeypatch):
    monkeypatch.setenv('COLUMNS', '60')
    with pytest.raises(SystemExit) as stop: main(['train', '--help'])
    lines = capsys.readouterr().out.splitlines()
    assert not stop.value.code and len(lines) > 50 and max(map(len, lines[4:])) <= 60 # after the description


BOXES = { # what it says: a box
    'a must be 1': '╭─ Value error ─╮\n│ Error parsing config: a must be 1 │\n│ ─── │\n│ For full helptext, see x │\n╰───╯',
    'a must be 2': ' Value error \n ----------- \n  Error parsing config: a   \n  must be 2  \n  ----------- \n  For full helptext, run:\n      x --help  \n              ',
    'a must be 3; expected --a INT': '\x1b[31m╭─\x1b[0m Value error\x1b[0m ─╮\n\x1b[31m│\x1b[0m \x1b[91;1ma must\x1b[0m be 3 │\n│ \x1b[31m───\x1b[0m │\n│ Argument helptext: │\n│     --a INT │\n╰─╯',
    '- must be a number': '╭─ Value error ─╮\n│ - must be a number │\n╰───╯'}


@pytest.mark.parametrize('said', BOXES)
def test_boxes(said): assert sentence(BOXES[said]) == said


# streams that nobody reads

def broken(**kwargs):
    "A stream whose reader is gone."
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, 'w', **kwargs)


@pytest.mark.parametrize('args', (['--help'], ['strategies'], ['train', '--help']), ids=' '.join)
@pytest.mark.parametrize('buffering', (1, -1))
def test_reader_of_stdout_is_gone(args, buffering, monkeypatch, capsys):
    stream = broken(buffering=buffering)
    monkeypatch.setattr(sys, 'stdout', stream)
    assert main(args) == 141
    stream.close() # as at the end of the process: nothing is left to be written
    assert capsys.readouterr().err == ''


def test_reader_of_stderr_is_gone(monkeypatch):
    stream = broken(buffering=1)
    monkeypatch.setattr(sys, 'stderr', stream)
    assert main(['dance']) == 141
    stream.close()


@pytest.mark.parametrize('args, status', ((['strategies'], 0), (['dance'], 2), (['train', '--temperature', '0'], 2)), ids=str)
def test_streams_that_were_closed(args, status, monkeypatch):
    for name in 'stdout', 'stderr': monkeypatch.setattr(sys, name, None)
    assert main(args) == status


@pytest.mark.parametrize('error, status, told', ((KeyboardInterrupt(), 130, 'unremix: interrupted; the same command continues.'), (OSError('no\nroom'), 2, 'unremix: error: no room'),
    (FloatingPointError('loss'), 2, 'unremix: error: loss')), ids=lambda e: type(e).__name__)
def test_one_way_out(error, status, told, monkeypatch, capsys):
    def stop(args): raise error
    monkeypatch.setitem(module.COMMANDS, 'strategies', stop)
    assert main(['strategies']) == status and capsys.readouterr().err == told + '\n'


def test_mistakes_of_ours_are_tracebacks(monkeypatch):
    def stop(args): raise RuntimeError
    monkeypatch.setitem(module.COMMANDS, 'strategies', stop)
    with pytest.raises(RuntimeError): main(['strategies'])


# what reaches what

def test_sweep_passes_everything_on(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(command_runs, 'read_grid', lambda path: path)
    monkeypatch.setattr('unremix.sweep.sweep', lambda *args: asked.append(args) or [])
    asked = []
    assert main(['sweep', 'g.toml', '--out', 'o', '--runs', 'r', '--workers', '3', '--threads', '2']) == 0
    assert [str(a) if i < 3 else a for i, a in enumerate(asked[0])] == ['g.toml', 'o', 'r', 3, 2]
    assert main(['sweep', 'g.toml']) == 0 and asked[1][3:] == (1, 1)


def test_presets_and_quick():
    "--quick wins over a preset, other arguments over both; of two presets the later."
    name = 'cifar10-r18-200ep'
    fields = preset_fields(['--preset', name, '--quick'])
    assert fields == PRESETS[name] | QUICK and preset_fields([f'--preset={name}']) == PRESETS[name]
    assert preset_fields(['--preset', 'imagenet100-r50-200ep'], TrainConfig).keys().isdisjoint({'timed_steps'})
    assert preset_fields(['--preset', name, '--preset', 'quick'])['epochs'] == 1
    quick = TrainCommand(TrainConfig.of(preset_fields(['--quick'], TrainConfig)))
    command = parse(TrainCommand, ['--quick', '--epochs', '3'], 'x', quick)
    assert (command.config.optim.epochs, command.config.data.limit) == (3, QUICK['limit'])
    with pytest.raises(ValueError, match='preset must be one of'): preset_fields(['--preset'])


def test_scores_in_a_terminal():
    assert scores_text({'linear': .12345, 'uniformity': None, 'correct': '01'}) == 'linear      0.123\nuniformity      –'
