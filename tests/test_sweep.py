"A sweep loses nothing when it is killed and repeats nothing when it is started again."
import json, signal, subprocess, sys, time
from pathlib import Path

import pytest
from configs import NOT_RUN
from unremix.cli import main
from unremix.grid import read_grid, run_key, runs_of
from unremix.sweep import by_cell, read_lines, sweep


ROOT = Path(__file__).resolve().parents[1]
GRID = """
experiment = "test"
seeds = 2
base = {limit = 128, batch_size = 32, epochs = 1, precision = "32-true"}
[cells]
simclr = {strategy = "simclr"}
"hcl τ⁺=0" = {strategy = "hcl", tau_plus = 0.0, seeds = 3}
"""
TIMES = {'seconds', 'peak_memory_mb'}

def start(folder, *args): return subprocess.Popen([Path(sys.executable).with_name('unremix'), 'sweep', folder/'grid.toml', '--out', folder/'lines.jsonl', '--runs', folder/'runs', *args],
                                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

def bare(lines): return sorted((json.dumps({k: v for k, v in l.items() if k not in TIMES}, sort_keys=True) for l in lines))

@pytest.fixture(scope='module')
def swept(tmp_path_factory):
    "One sweep with two workers, undisturbed; another on one worker, killed after its second line and started again."
    a, b = tmp_path_factory.mktemp('whole'), tmp_path_factory.mktemp('killed')
    for folder in (a, b): (folder/'grid.toml').write_text(GRID)
    assert start(a, '--workers', '2').wait() == 0
    process = start(b, '--workers', '2')
    while process.poll() is None and len(read_lines(b/'lines.jsonl')) < 2: time.sleep(.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait() != 0, 'it ended before it could be killed'
    at_kill = read_lines(b/'lines.jsonl')
    again = start(b, '--workers', '2')
    assert again.wait() == 0
    return a, b, at_kill, again.stderr.read()

def test_killed_is_as_undisturbed(swept):
    a, b, at_kill, _ = swept
    assert 2 <= len(at_kill) < 5
    assert bare(read_lines(a/'lines.jsonl')) == bare(read_lines(b/'lines.jsonl')) and len(read_lines(a/'lines.jsonl')) == 5

def test_finished_runs_are_not_repeated(swept):
    _, b, at_kill, told = swept
    assert f'/{5-len(at_kill)} ' in told # runs left, of the progress lines
    assert read_lines(b/'lines.jsonl')[:len(at_kill)] == at_kill

def test_line_holds_what_the_results_need(swept):
    line = read_lines(swept[0]/'lines.jsonl')[0]
    wanted = 'experiment dataset strategy knobs seed epochs linear knn10 knn200 false_negative_rate hardness seconds code scored_on'
    assert not set(wanted.split()) - set(line)
    assert {l['cell']: l['knobs'] for l in read_lines(swept[0]/'lines.jsonl')}['hcl τ⁺=0']['tau_plus'] == 0

@pytest.mark.parametrize('text,words', [('experiment = "x"', ['cells']), ('experiment = "x"\n[cells]\na = {strategie = "hcl"}', ['strategie', "'a'"]), ('cells = [', ['TOML']),
    ('experiment = "x"\n[cells]\na = {temperature = -1.0}', ['temperature']), ('experiment = "x"\nseedz = 3\n[cells]', ['seedz'])], ids=str)
def test_bad_grids_are_refused(text, words, tmp_path, capsys):
    (tmp_path/'grid.toml').write_text(text)
    assert main(['sweep', str(tmp_path/'grid.toml'), '--out', str(tmp_path/'lines.jsonl')]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith('unremix: error: ') and all(w in error for w in words), error
    assert not (tmp_path/'lines.jsonl').exists()

GRIDS = sorted((ROOT/'results'/'grids').glob('*.toml'))

def test_a_grid_of_a_windows_editor(tmp_path):
    "Notepad and PowerShell put a mark before the text."
    plain, marked = tmp_path/'plain.toml', tmp_path/'marked.toml'
    plain.write_text(GRID)
    marked.write_bytes(b'\xef\xbb\xbf' + GRID.replace('\n', '\r\n').encode())
    assert read_grid(marked) == read_grid(plain)


def test_what_was_not_run_is_said():
    "No line stands beside such a grid, and the log names it in its budget as declared."
    budget = (ROOT/'nbs'/'experiments'/'LOG.md').read_text(encoding='utf-8').split('\n## ')[1:]
    told = '\n'.join(part for part in budget if 'declared' in part.lower())
    for name in NOT_RUN:
        assert f'`{name}`' in told and not (ROOT/'results'/'sweeps'/f'{name}.jsonl').exists()
        assert runs_of(read_grid(ROOT/'results'/'grids'/f'{name}.toml'))

@pytest.mark.parametrize('path', [p for p in GRIDS if p.stem not in NOT_RUN], ids=lambda p: p.stem)
def test_declared_grids_are_finished(path):
    "Every line that a declared grid asks for is there, once."
    lines, wanted = read_lines(ROOT/'results'/'sweeps'/f'{path.stem}.jsonl'), runs_of(read_grid(path))
    assert sorted((name, cfg.run.seed, run_key(cfg)) for name, cfg in wanted) == sorted((l['cell'], l['seed'], l['key']) for l in lines)

@pytest.mark.parametrize('path', sorted((ROOT/'results').glob('*/*.jsonl')), ids=lambda p: p.stem)
def test_committed_cells_are_of_one_setting(path):
    "Each score that stands in a file of cells is one that `by_cell` returns."
    lines = [line for line in read_lines(path) if 'cell' in line]
    assert sum(map(len, by_cell(lines).values())) == sum(line.get('linear') is not None for line in lines)

def test_validation_never_sees_test_images():
    for path in (ROOT/'results'/'grids').glob('*.toml'):
        scored = {cfg.data.validation is None for _, cfg in runs_of(read_grid(path))}
        assert len(scored) == 1 # one experiment is scored on one set

def test_workers_change_no_number(swept, tmp_path):
    "One after the other in this process, whose torch has two threads, or two at a time."
    lines = sweep(read_grid(swept[0]/'grid.toml'), tmp_path/'lines.jsonl', tmp_path/'runs', workers=1, progress=False)
    assert bare(lines) == bare(read_lines(swept[0]/'lines.jsonl')) and {l['threads'] for l in lines} == {1}
