"`python -m benchmarks` in its smallest form: every variant, a table, the result."

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.loop import measure_loop

ROOT = Path(__file__).resolve().parents[1]


def run(*args):
    command = [sys.executable, '-m', 'benchmarks', *map(str, args)]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, timeout=600
    )


def test_losses(tmp_path):
    out = tmp_path / 'bench.json'
    done = run('--quick', '--batch', 32, '--out', out)
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    names = 'products recipe ntxent debiased hcl unremix unremix_log'.split()
    assert [v['variant'] for v in result['variants']] == names
    assert result['rows'] == 64 and all(v['seconds'] > 0 for v in result['variants'])
    assert 'time/recipe' in done.stdout and str(out) in done.stdout
    assert 'round 1 of 1' in done.stdout


@pytest.mark.parametrize('name', ([], ['losses'], ['scale'], ['loop']), ids=str)
def test_refuses_in_one_sentence(name, tmp_path):
    done = run(*name, '--rounds', 0, '--out', tmp_path / 'bench.json')
    assert done.returncode == 2 and done.stderr.startswith('unremix: error: ')
    assert done.stderr.endswith('rounds must be a whole number ≥ 1, got 0\n')
    assert done.stderr.count('\n') == 1
    assert not list(tmp_path.iterdir())


def test_scale(tmp_path):
    out = tmp_path / 'scale.json'
    names = 'products', 'unremix in blocks'
    done = run('scale', '--quick', '--variants', *names, '--out', out)
    assert done.returncode == 0, done.stderr
    rows = json.loads(out.read_text())['rows']
    assert [(r['variant'], r['n']) for r in rows] == [(name, 512) for name in names]
    assert 'time/products' in done.stdout


def test_loops_take_steps():
    ours, theirs = (measure_loop(name, 1) for name in ('unremix', 'lightly'))
    assert ours['images_per_s'] > 0 and theirs['images_per_s'] > 0
    shares = ours['share'].values()
    assert abs(sum(shares) - 1) < 1e-9 and min(shares) > 0
