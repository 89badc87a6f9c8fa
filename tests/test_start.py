"A command begins with what it needs: drawing, statistics and Fabric come later."

import subprocess
import sys

from unremix import command_runs
from unremix.cli import main

HEAVY = 'lightning_fabric', 'seaborn', 'pandas', 'scipy.stats', 'sklearn', 'matplotlib'
LOADED = f"""
import sys
from unremix.cli import main
refused = {{
    'train': ['--beta', '5'],
    'compare': ['--strategies', 'simclr', '--beta', '5'],
    'evaluate': ['no_such_folder'],
    'sweep': ['--no-such-option'],
}}
for name, options in refused.items():
    assert main([name, *options]) == 2, name
    print(name, [x for x in {HEAVY} if x in sys.modules])
assert main(['strategies']) == 0
print('strategies', [x for x in {HEAVY} if x in sys.modules])
"""


def test_a_refused_command_loads_nothing_that_only_a_run_needs():
    "Each line names the commands before it too: they are of one process."
    asked = sys.executable, '-c', LOADED
    done = subprocess.run(asked, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stdout.splitlines() if line.endswith(']')]
    names = 'train', 'compare', 'evaluate', 'sweep', 'strategies'
    assert [line for line in told if line.split()[0] in names] == [
        f'{name} []' for name in names
    ], done.stdout
    assert 'beta is no knob of simclr' in done.stderr, done.stderr


def test_a_sweep_passes_everything_on(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(command_runs, 'read_grid', lambda path: path)
    monkeypatch.setattr('unremix.sweep.sweep', lambda *given: asked.append(given) or [])
    options = '--out', 'o', '--runs', 'r', '--workers', '3', '--threads', '2'
    assert main(['sweep', 'g.toml', *options]) == 0
    assert [str(a) for a in asked[0][:3]] == ['g.toml', 'o', 'r']
    assert asked[0][3:] == (3, 2)
    assert 'lines: o' in capsys.readouterr().out


FABRIC = """
import sys
from pathlib import Path
from unremix.loggers import to_csv
assert 'lightning_fabric' not in sys.modules
logger = to_csv(Path(sys.argv[1]), {})
logger.log_metrics({'loss': 1.5}, 0)
logger.finalize('success')
print('torchmetrics' in sys.modules)
"""


def test_a_logger_of_fabric_does_not_load_torchmetrics(tmp_path):
    "That takes seconds, and Fabric only asks for its version."
    asked = sys.executable, '-c', FABRIC, str(tmp_path)
    done = subprocess.run(asked, capture_output=True, text=True, timeout=300)
    assert done.stdout.split() == ['False'], done.stderr
    head, row = (tmp_path / 'csv' / 'metrics.csv').read_text().split()
    assert set(head.split(',')) == {'loss', 'step'} and '1.5' in row
