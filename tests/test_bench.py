"`unremix bench` as a user runs it, in the smallest form: it measures every variant, prints a table and writes the result."
import json
import subprocess
import sys
from pathlib import Path

from unremix.scale import measure_loop


def test_bench_command(tmp_path):
    out = tmp_path/'bench.json'
    command = [str(Path(sys.executable).parent/'unremix'), 'bench', '--quick', '--batch', '32', '--out', str(out)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    assert {v['variant'] for v in result['variants']} == {'products', 'recipe', 'ntxent', 'debiased', 'hcl', 'unremix', 'unremix_log'}
    assert result['rows'] == 64 and all(v['seconds'] > 0 for v in result['variants'])
    assert 'time/recipe' in done.stdout and str(out) in done.stdout


def test_bench_refuses_in_one_sentence(tmp_path):
    done = subprocess.run([str(Path(sys.executable).parent/'unremix'), 'bench', '--rounds', '0'], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == 2 and 'rounds must be a whole number ≥ 1, got 0' in done.stderr and 'Traceback' not in done.stderr
    assert not list(tmp_path.iterdir())


def test_bench_at_scale(tmp_path):
    out = tmp_path/'scale.json'
    command = [str(Path(sys.executable).parent/'unremix'), 'bench', 'scale', '--quick', '--variants', 'products', 'unremix in blocks', '--out', str(out)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr
    assert [(r['variant'], r['n']) for r in json.loads(out.read_text())['rows']] == [('products', 512), ('unremix in blocks', 512)] and 'time/products' in done.stdout


def test_loops_take_steps():
    ours, theirs = (measure_loop(name, 1) for name in ('unremix', 'lightly'))
    assert ours['images_per_s'] > 0 and theirs['images_per_s'] > 0 and abs(sum(ours['share'].values()) - 1) < 1e-9 and min(ours['share'].values()) > 0
