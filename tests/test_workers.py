"Several runs at a time: the same numbers, whoever trains them; what is stopped or killed goes on; nobody outlives the command."

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from configs import comparison

from unremix import compare as module
from unremix import several_runs
from unremix.cli import main
from unremix.commands import compare_command
from unremix.compare import compare, paced, run_cells
from unremix.run_folder import check_folder
from unremix.safe_files import HELD
from unremix.several_runs import as_finished, limited, usual_workers, with_threads

SMALL = {'limit': 64, 'batch_size': 16, 'epochs': 1, 'log_every': 1}
SMALL |= {'precision': '32-true', 'accelerator': 'cpu', 'timed_steps': 0}
TWO = SMALL | {'strategies': ('simclr', 'hcl'), 'seeds': 1, 'supervised': False}
UNREMIX = Path(sys.executable).with_name('unremix')


def command(out, *more, epochs='1'):
    "`unremix compare` of two rows and one seed, with two workers."
    args = '--limit 64 --batch-size 16 --log-every 1 --precision 32-true --seeds 1'
    args += f' --accelerator cpu --timed-steps 0 --no-supervised --epochs {epochs}'
    words = [*args.split(), '--strategies', 'simclr', 'hcl', '--workers', '2', *more]
    return [UNREMIX, 'compare', '--out', str(out), *words]


def start(*args, **options):
    pipes = {'stdout': subprocess.DEVNULL, 'stderr': subprocess.PIPE, 'text': True}
    return subprocess.Popen(command(*args, **options), start_new_session=True, **pipes)


def steps(folder):
    path = folder / 'log.jsonl'
    if not path.exists():
        return []
    lines = path.read_text().splitlines(keepends=True)
    return [json.loads(line)['step'] for line in lines if line.endswith('}\n')]


def wait_until(condition, seconds=300):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def children(pid):
    "Processes that a process has started, with their command lines."
    found = {}
    for path in Path('/proc').glob('[0-9]*'):
        try:
            parent = int((path / 'stat').read_text().rsplit(')', 1)[1].split()[1])
            line = (path / 'cmdline').read_text()
        except (OSError, IndexError):
            continue
        if parent == pid:
            found[int(path.name)] = line
    return found


def workers_of(pid):
    return [child for child, line in children(pid).items() if 'spawn_main' in line]


def numbers(result):
    "What must not depend on who trained."
    rows = {name: dict(row) for name, row in result['rows'].items()}
    return json.dumps(rows, sort_keys=True)


def refuse(*args, **options):
    pytest.fail('it was called')


# The same numbers


@pytest.fixture(scope='module')
def alone(tmp_path_factory):
    "One run after the other, with one thread."
    out = tmp_path_factory.mktemp('alone') / 'run'
    cfg = comparison(**TWO, threads=1)
    return out, cfg, compare(cfg, out, progress=False)


def test_workers_change_no_number(alone, tmp_path, capfd):
    _, cfg, one = alone
    two = compare(cfg.but({'workers': 2, 'threads': None}), tmp_path / 'run')
    assert numbers(two) == numbers(one) and list(two['rows']) == list(one['rows'])
    assert (one['workers'], two['workers']) == (1, 2)
    assert one['threads'] == two['threads'] == 1
    said = capfd.readouterr().err.splitlines()
    assert said[0] == '4 results, 2 at a time; a line for each run'
    ends = [line.split(':')[0] for line in said if 'linear probe' in line]
    assert sorted(ends) == ['hcl seed 0', 'simclr seed 0']


def test_a_folder_goes_on_with_others(alone, tmp_path, monkeypatch):
    "What is there is not computed again; no file says how many workers there were."
    out, cfg, whole = alone
    found = check_folder(out, cfg.but({'workers': 7, 'threads': 3}))
    assert numbers(found) == numbers(whole)
    config = (out / 'config.json').read_text()
    assert 'workers' not in config and 'threads' not in config
    for path in [out / 'result.json', *out.glob('*-seed0/result.json')]:
        path.unlink()
    again = compare(cfg.but({'workers': 2}), out, progress=False)
    assert numbers(again) == numbers(whole)
    (out / 'result.json').unlink()
    monkeypatch.setattr(several_runs, 'ProcessPoolExecutor', refuse)
    assert numbers(compare(cfg, out, progress=False)) == numbers(whole)


def test_threads_of_a_run(monkeypatch, tmp_path):
    "Those of the process where nobody says; as asked; one with several workers."
    seen = []

    def train(cfg, out, finish, progress):
        seen.append(torch.get_num_threads())
        return {'seconds': 1.0, 'scores': {'linear': 1.0, 'correct': '1'}}

    monkeypatch.setattr(module, 'train', train)
    monkeypatch.setattr(module, 'untrained_scores', lambda cfg: {'scores': {}})
    monkeypatch.setattr(module, 'baseline_scores', lambda cfg: {'scores': {}})
    before = torch.get_num_threads()
    for threads in (None, 1, 3):
        cfg = comparison(**TWO, threads=threads)
        run_cells(cfg, tmp_path, progress=False)
    assert seen == [before, before, 1, 1, 3, 3] and torch.get_num_threads() == before
    asked = [paced(comparison(**TWO, workers=w), 'cpu').threads for w in (1, 2)]
    assert asked == [None, 1]
    assert paced(comparison(**TWO, workers=2, threads=3), 'cpu').threads == 3


# How many


def test_usual_number(monkeypatch):
    "One where there is little to do or a device to share, else one per thread."
    monkeypatch.setattr(several_runs, 'free_memory', lambda: 10 * 10**9)
    with limited(4):
        assert usual_workers(10, 100, 'cpu') == 4
        assert usual_workers(3, 1000, 'cpu') == 3
        assert usual_workers(1, 10**6, 'cpu') == 1
        assert usual_workers(10, 99, 'cpu') == 1
        assert usual_workers(10, 1000, 'cuda') == usual_workers(9, 999, 'mps') == 1
        assert usual_workers(10, 100, 'cpu', images=4 * 10**9) == 2
        assert usual_workers(10, 100, 'cpu', images=10**11) == 1
        monkeypatch.setattr(several_runs, 'free_memory', lambda: None)
        assert usual_workers(10, 100, 'cpu', images=10**11) == 4


def test_the_command_asks_for_the_usual_number(monkeypatch):
    assert comparison().workers == 1
    assert compare_command([]).config.workers is None
    assert compare_command(['--workers', '3']).config.workers == 3
    assert compare_command(['--quick']).config.but({'seeds': 3}).workers is None
    monkeypatch.setattr(several_runs, 'free_memory', lambda: None)
    with limited(2):
        main_job, quick = (compare_command(a).config for a in ([], ['--quick']))
        found = [
            (c.workers, c.threads)
            for c in (paced(main_job, 'cpu'), paced(quick, 'cpu'))
        ]
    assert found == [(2, 1), (1, None)]


@pytest.mark.parametrize(
    'words, told',
    (
        ('--workers 0', 'workers must be 1 or more, or None, got 0'),
        ('--workers two', '--workers'),
        ('--workers 1.5', '--workers'),
        ('--threads 0', 'threads must be 1 or more, or None, got 0'),
        ('--threads 99999999999', 'threads must be 1024 or fewer, got 9999'),
    ),
)
def test_bad_numbers(words, told, tmp_path, capsys):
    assert main(['compare', '--out', str(tmp_path / 'run'), *words.split()]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count('\n') == 1 and not (tmp_path / 'run').exists()


@pytest.mark.parametrize('kind', ('cuda', 'mps'))
def test_one_device_has_one_worker(kind, monkeypatch, tmp_path):
    monkeypatch.setattr(module, 'require_device', lambda cfg: kind)
    monkeypatch.setattr(module, 'rehearse_rows', lambda cfg, images: None)
    allowed = f'workers must be 1 on {kind}, where runs would have to share the device'
    with pytest.raises(ValueError, match=f'^{allowed}, got 2$'):
        compare(comparison(**TWO, workers=2), tmp_path / 'run', progress=False)
    assert not (tmp_path / 'run').exists()
    assert paced(comparison(**TWO, workers=None), kind).workers == 1


# Calls


def test_one_after_the_other_in_order():
    calls = {n: partial(pow, 2, n) for n in (3, 1, 2)}
    assert list(as_finished(calls, 1)) == [(3, 8), (1, 2), (2, 4)]
    assert list(as_finished({}, 2)) == []
    assert with_threads(None, partial(max, 1, 2)) == 2


def test_an_error_stops_the_others():
    "It is raised as it is; none is begun after it, and no worker stays."
    calls = {'bad': partial(int, 'x'), 'slow': partial(time.sleep, 600)}
    calls |= {n: partial(pow, 2, n) for n in range(9)}
    begun = time.monotonic()
    with pytest.raises(ValueError, match="invalid literal for int.*'x'"):
        for _ in as_finished(calls, 2):
            pass
    assert time.monotonic() - begun < 300 and not workers_of(os.getpid())


# How it ends


@pytest.fixture(scope='module')
def stopped(tmp_path_factory):
    "Told to stop while both workers train; what it said, its folder, its workers."
    found = {}
    for number in (signal.SIGTERM, signal.SIGINT):
        out = tmp_path_factory.mktemp(number.name) / 'run'
        process = start(out, epochs='4000')
        cells = [out / 'simclr-seed0', out / 'hcl-seed0']
        wait_until(lambda: all(len(steps(cell)) > 4 for cell in cells))
        workers = workers_of(process.pid)
        if number == signal.SIGINT:  # a terminal tells the whole group
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        error = process.communicate()[1]
        found[number] = process.returncode, error, out, cells, workers
    return found


@pytest.mark.parametrize('number', (signal.SIGTERM, signal.SIGINT))
def test_told_to_stop(number, stopped):
    "Every worker finishes its step and saves it; nothing is left half-written."
    status, error, out, cells, workers = stopped[number]
    assert status == 128 + number and 'Traceback' not in error
    assert error.count('unremix: stopped after step') == 2, error
    assert ('interrupted; the same command' in error) == (number == signal.SIGINT)
    assert all(map(is_saved, cells))
    assert not list(out.rglob('*.part')) and not list(out.rglob(HELD))
    assert len(workers) == 2 and not any(map(is_alive, workers))


def is_saved(cell):
    "Whether every step of the log is in the checkpoint."
    saved = torch.load(cell / 'checkpoint.pt', weights_only=True)
    return steps(cell) == list(range(saved['epoch'] * 4 + saved['done']))


def is_alive(pid):
    try:
        return 'spawn_main' in Path(f'/proc/{pid}/cmdline').read_text()
    except OSError:
        return False


def test_a_killed_worker(tmp_path):
    "One sentence; the other one saves its step; the same command goes on."
    out = tmp_path / 'run'
    process = start(out, epochs='4000')
    cells = [out / 'simclr-seed0', out / 'hcl-seed0']
    wait_until(lambda: all(len(steps(cell)) > 4 for cell in cells))
    os.kill(workers_of(process.pid)[0], signal.SIGKILL)
    error = process.communicate(timeout=300)[1]
    assert process.returncode == 2 and 'Traceback' not in error
    assert 'a worker was killed, perhaps because memory ran out' in error
    assert error.count('unremix: stopped after step') == 1, error
    assert any(map(is_saved, cells)) # the killed one may have saved its last step too
    before = [len(steps(cell)) for cell in cells]
    again = start(out, epochs='4000')
    wait_until(lambda: all(len(steps(c)) > n + 2 for c, n in zip(cells, before)))
    again.terminate()
    again.communicate(timeout=300)
    assert again.returncode == 143 and all(map(is_saved, cells))


def test_a_signal_after_the_last_result_is_not_lost():
    "It comes while the caller still looks at that result."
    calls = {name: partial(int, name) for name in '01'}
    with pytest.raises(SystemExit) as end:
        for done, _ in enumerate(as_finished(calls, 2), 1):
            if done == 2:
                signal.raise_signal(signal.SIGTERM)
    assert end.value.code == 143


def test_workers_end_with_a_killed_command(tmp_path):
    out = tmp_path / 'run'
    process = start(out, epochs='4000')
    wait_until(lambda: len(steps(out / 'hcl-seed0')) > 2)
    workers = workers_of(process.pid)
    process.kill()
    process.wait()
    wait_until(lambda: not any(map(is_alive, workers)))


@pytest.mark.skipif(os.name == 'nt', reason='Windows has no such masks')
def test_ctrl_c_is_seen_again_after_an_error():
    "A worker that cannot be started must not leave a process that nobody can stop."
    masked = lambda: signal.pthread_sigmask(signal.SIG_BLOCK, [])
    before = masked()
    with (
        pytest.raises(OSError, match='no more processes'),
        several_runs.without_ctrl_c(),
    ):
        assert signal.SIGINT in masked()
        raise OSError('no more processes')
    try:
        assert masked() == before
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_a_script_without_a_main_guard_is_named(monkeypatch):
    "Its workers run it anew and end at once; that memory ran out was all it was told."
    from concurrent.futures.process import BrokenProcessPool

    def submit(*args):
        raise BrokenProcessPool

    monkeypatch.setattr(several_runs.ProcessPoolExecutor, 'submit', submit)
    with pytest.raises(OSError, match="memory ran out, or .* `if __name__ == '__main__':`"):
        list(several_runs.as_finished({1: int, 2: int}, 2))
