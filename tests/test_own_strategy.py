"""Commands as a user starts them: a wrong knob is one sentence, a strategy of one's own is one dataclass."""

import contextlib
import json
import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from unremix.safe_files import read_json

ROOT = Path(__file__).resolve().parents[1]


WRONG = {
    'unused': (['train', '--beta', '5'], 'beta is no knob of simclr, which has temperature'),
    'misspelt': (['train', '--strategy', 'hcl', '--bta', '5'], 'bta is no knob of hcl, which has temperature, tau_plus, beta, detach; perhaps beta'),
    'choice': (['train', '--strategy', 'unremix', '--pool', 'cubic'], "pool must be one of .*linear.*log.*, got 'cubic'"),
    'strategy': (['train', '--strategy', 'hlc'], "strategy must be one of simclr, debiased, hcl, unremix, .*got 'hlc'"),
    'unused in a row': (['compare', '--strategies', 'simclr', 'hcl(mix=1)'], "row 'hcl.mix=1.': mix is no knob of hcl"),
    'unused by all rows': (['compare', '--strategies', 'simclr', '--beta', '2'], 'beta must be None with simclr, which has no beta, got 2'),
}


@pytest.mark.parametrize('case', WRONG)
@pytest.mark.parametrize('terminal', (False, True), ids=('pipe', 'terminal'))
def test_one_sentence(case, terminal, tmp_path):
    "What is allowed, in a pipe and in a terminal with colours, and no folder."
    args, sentence = WRONG[case]
    command = [sys.executable, '-m', 'unremix', *args, '--out', str(tmp_path / 'run')]
    env = os.environ | {'TERM': 'xterm-256color', 'COLUMNS': '40', 'FORCE_COLOR': '1'}
    if terminal:
        reading, writing = pty.openpty()
        status = subprocess.run(command, stdout=writing, stderr=writing, env=env).returncode
        os.close(writing)
        said = b''
        with contextlib.suppress(OSError):  # the other end is closed
            while part := os.read(reading, 4096):
                said += part
        os.close(reading)
        said = said.decode()
    else:
        done = subprocess.run(command, capture_output=True, text=True)
        status, said = done.returncode, done.stderr
    assert status == 2 and not (tmp_path / 'run').exists()
    assert '\x1b' not in said and len(said.strip().splitlines()) == 1
    assert re.match(f'unremix: error: .*{sentence}', said.strip())


OWN = '''
from dataclasses import dataclass
from unremix.arguments import require
from unremix.hard_negatives import log_share, mean_one

@dataclass(frozen=True)
class Ring:
    "Negatives at a cosine of `at` count most."

    at: float = 0.5  # -1 to 1

    def __post_init__(self):
        require(-1 <= self.at <= 1, 'at', 'between -1 and 1', self.at)

    def __call__(self, c):
        distance = c.cosine.detach() - self.at
        return mean_one(log_share(-distance**2, c.negative, c.k), c.k)
'''


def call(*args, cwd, **env):
    command = [sys.executable, '-m', 'unremix', *map(str, args)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=os.environ | env)


QUICK = '--limit 64 --batch-size 16 --epochs 1 --precision 32-true --log-every 1'.split()


def test_weights_of_ones_own(tmp_path):
    "`module:Name` is trained, continued, compared and scored again from the folder."
    (tmp_path / 'mine.py').write_text(OWN)
    train_it = ('train', '--strategy', 'mine:Ring', '--at', '.3', *QUICK, '--out', 'run')
    done = call(*train_it, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert read_json(tmp_path / 'run' / 'config.json')['strategy'] == {'name': 'mine:Ring', 'at': 0.3}
    assert 'is finished' in call(*train_it, cwd=tmp_path).stdout
    assert call('evaluate', 'run', cwd=tmp_path).returncode == 0
    rows = '--strategies', 'simclr', 'mine:Ring(at=.1)', '--seeds', '1', '--no-supervised'
    done = call('compare', *rows, *QUICK, '--timed-steps', '0', '--out', 'c', cwd=tmp_path)
    assert done.returncode == 0 and 'mine:Ring(at=.1)' in done.stdout, done.stderr
    for args, what in (
        (('--at', '2'), 'at must be between -1 and 1, got 2.0'),
        (('--width', '2'), 'width is no knob of mine:Ring, which has temperature, tau_plus, at'),
    ):
        done = call('train', '--strategy', 'mine:Ring', *args, '--out', 'no', cwd=tmp_path)
        assert done.returncode == 2 and what in done.stderr
    command = [str(Path(sys.executable).with_name('unremix')), *'train --strategy mine:Ring --at 2 --out no'.split()]
    clean = {'PYTHONPATH': os.environ.get('PYTHONPATH', '').strip(os.pathsep)}  # an empty part is the current folder
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=os.environ | clean)
    assert done.returncode == 2 and 'at must be between' in done.stderr
    done = call('train', '--strategy', 'mine:Rong', '--out', 'no', cwd=tmp_path)
    assert done.returncode == 2 and "strategy='mine:Rong' cannot be imported" in done.stderr


BROKEN = {  # a module's text: what its user is told
    'import sys; sys.exit(3)': 'SystemExit 3',
    'raise ValueError': 'ValueError',
    "{}['key']": "KeyError 'key'",
    'x = (': 'never closed',
}


@pytest.mark.parametrize('text', BROKEN, ids=BROKEN.values())
def test_modules_that_cannot_be_imported(text, tmp_path, monkeypatch):
    "One that ends the process, too, as a script without a main guard may."
    from unremix.registry import find
    from unremix.tasks import find_task

    name = f'broken_{len(text)}'
    (tmp_path / f'{name}.py').write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    for look in (find, find_task):
        with pytest.raises(ValueError, match=f"{name}:It' cannot be .*{BROKEN[text]}"):
            look(f'{name}:It')


@pytest.mark.parametrize('name', ('out', 'loggers', 'seeds', 'threads', 'reference'))
def test_knobs_that_are_called_like_an_option(name):
    "They ended in a traceback, or could not be set."
    from dataclasses import make_dataclass

    from unremix.config import TrainConfig
    from unremix.registry import STRATEGIES, strategy

    call = {'__call__': lambda self, contrast: contrast.logits}
    kind = make_dataclass('Own', [(name, float, 1.0)], frozen=True, namespace=call)
    strategy('own', weight='1', source='a test')(kind)
    try:
        with pytest.raises(ValueError, match=f'knob of own must be .*{name!r}'):
            TrainConfig.of({'strategy': 'own'})
    finally:
        del STRATEGIES['own']


ADDED = '''
#| exports
@strategy('bell', weight='a bell around a cosine', source='a test')
@dataclass(frozen=True)
class Bell:
    "Negatives at a cosine of `at` count most."

    at: float = 0.5  # -1 to 1

    def __call__(self, c: Contrast) -> Tensor:
        distance = c.cosine.detach() - self.at
        return mean_one(log_share(-(distance**2), c.negative, c.k), c.k)
'''


def test_one_dataclass_and_one_entry_add_a_strategy(tmp_path):
    "To Python, the command line, compare, the table and the invariants: in a copy."
    pytest.importorskip('nbdev', reason='nbdev is not installed')
    for name in ('nbs', 'unremix', 'tests', 'tools'):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns('__pycache__'))
    for name in ('settings.ini', 'pytest.ini'):
        shutil.copy(ROOT / name, tmp_path)
    [page] = (tmp_path / 'nbs' / 'library').glob('*_hard_negatives.ipynb')
    notebook = json.loads(page.read_text())
    cell = {'cell_type': 'code', 'id': 'added', 'metadata': {}, 'outputs': []}
    cell |= {'execution_count': None, 'source': ADDED.strip().splitlines(keepends=True)}
    notebook['cells'].insert(-1, cell)
    page.write_text(json.dumps(notebook))
    export = 'from nbdev.doclinks import nbdev_export; nbdev_export.__wrapped__()'
    env = {'PYTHONPATH': str(tmp_path)}
    here = dict(cwd=tmp_path, env=os.environ | env, capture_output=True, text=True)
    subprocess.run([sys.executable, '-c', export], check=True, **here)
    python = 'from unremix.hard_negatives import Bell; import unremix; print(Bell(at=.2), unremix.__file__)'
    told = subprocess.run([sys.executable, '-c', python], check=True, **here).stdout
    assert 'Bell(at=0.2)' in told and str(tmp_path) in told
    done = call('train', '--strategy', 'bell', '--at', '.2', *QUICK, '--out', 'run', cwd=tmp_path, **env)
    assert done.returncode == 0, done.stderr
    rows = '--strategies', 'simclr', 'bell', 'bell(at=.1)', '--seeds', '1', '--no-supervised'
    done = call('compare', *rows, *QUICK, '--timed-steps', '0', '--out', 'c', cwd=tmp_path, **env)
    assert done.returncode == 0 and 'bell(at=.1)' in done.stdout, done.stderr
    assert 'a bell around a cosine' in call('strategies', cwd=tmp_path, **env).stdout
    tests = [sys.executable, '-m', 'pytest', '-q', 'tests/test_weightings.py', '-k', 'bell', '-p', 'no:cacheprovider']
    done = subprocess.run(tests, **here)
    assert done.returncode == 0 and int(re.search(r'(\d+) passed', done.stdout)[1]) > 20, done.stdout
