"One run per folder, one process per run, and a run that goes on where and how its user asks."
import dataclasses, json, os, signal, subprocess, sys, time, warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.testing import assert_close

from configs import run_of
import unremix.checkpoint, unremix.machine, unremix.run_parts, unremix.safe_files, unremix.train
from kills import Job
from unremix.checkpoint import random_of
from unremix.cli import main
from unremix.devices import first_not_finite
from unremix.evaluate import evaluate, load_run
from unremix.machine import stopping
from unremix.run_folder import NOT_OF_THE_RUN, check_folder, claim_folder
from unremix.run_parts import resolve, set_up
from unremix.safe_files import HELD, FolderInUse, hold_folder, read_json, require_free, write_atomic, write_json
from unremix.train import train

SMALL = dict(limit=32, batch_size=16, epochs=2, log_every=1, precision='32-true', accelerator='cpu', channels_last=False)
UNREMIX = Path(sys.executable).with_name('unremix')
ARGS = '--limit 64 --batch-size 16 --log-every 1 --precision 32-true --accelerator cpu'.split()


def lines(out): return [json.loads(l) for l in (out/'log.jsonl').read_text().splitlines()]


def stopped(cfg, out, after, monkeypatch):
    "The run as it is when it was told to stop after so many steps."
    steps = []
    with monkeypatch.context() as m:
        m.setattr(unremix.train, 'asked_of_all', lambda run, asked: steps.append(1) or (signal.SIGTERM if len(steps) == after else 0))
        with pytest.raises(SystemExit) as end: train(cfg, out, progress=False)
    assert end.value.code == 143 and not (out/'result.json').exists()


# Who it is

OTHER = {'log_every': 3, 'save_every': 1, 'data_root': 'elsewhere', 'accelerator': 'auto', 'devices': 2, 'num_nodes': 2}


@pytest.mark.parametrize('field', [f for f in NOT_OF_THE_RUN if f != 'decode_to']) # that one asks for a folder: test_decoded_images
def test_how_and_where_are_not_what(field, tmp_path):
    "Folder and checkpoint agree; before, the folder refused what the list of the checkpoint allowed."
    cfg = run_of(**SMALL)
    train(cfg, tmp_path, progress=False)
    other = cfg.but(dict(**{field: OTHER[field]}))
    assert check_folder(tmp_path, other) == read_json(tmp_path/'result.json')
    saved = torch.load(tmp_path/'checkpoint.pt', weights_only=True)
    assert unremix.checkpoint.belongs(saved, tmp_path, other) is saved


@pytest.mark.parametrize('field,value', [('lr', .5), ('batch_size', 8), ('micro_batch', 4), ('channels_last', True), ('precision', 'bf16-mixed'), ('gather_distributed', False)])
def test_what_is_refused_by_both(field, value, tmp_path):
    cfg = run_of(**SMALL)
    train(cfg, tmp_path, progress=False)
    other = cfg.but(dict(**{field: value}))
    with pytest.raises(ValueError, match=f'holds a run with other settings: {field} '): check_folder(tmp_path, other)
    saved = torch.load(tmp_path/'checkpoint.pt', weights_only=True)
    with pytest.raises(ValueError, match=rf'is of a run with other settings \({field}\)'): unremix.checkpoint.belongs(saved, tmp_path, other)


@pytest.mark.parametrize('fields', [dict(log_every=2), dict(save_every=1), dict(data_root='./d')], ids=str)
def test_goes_on_with_other_habits(fields, tmp_path, monkeypatch):
    "Stopped, then continued: the same weights as an untouched run."
    cfg = run_of(**SMALL)
    train(cfg, tmp_path/'whole', progress=False)
    stopped(cfg, tmp_path/'run', 1, monkeypatch)
    assert train(cfg.but(dict(**fields)), tmp_path/'run', progress=False)['steps'] == 4
    models = [torch.load(tmp_path/p/'checkpoint.pt', weights_only=True)['model'] for p in ('whole', 'run')]
    assert_close(*models, rtol=0, atol=0)


def test_a_folder_has_many_names(tmp_path, monkeypatch):
    "`d`, `./d` and its whole path; from another working directory."
    monkeypatch.chdir(tmp_path)
    cfg = run_of(**SMALL)
    result = train(cfg, 'd', progress=False)
    for name in ('./d', tmp_path/'d', 'd/../d'): assert train(cfg, name, progress=False) == result


@pytest.mark.parametrize('here', ['32-true', 'bf16-mixed'])
def test_auto_precision_is_chosen_once(here, tmp_path, monkeypatch):
    "On a processor that would choose otherwise the run goes on as it began."
    there = {'32-true': 'bf16-mixed', 'bf16-mixed': '32-true'}[here]
    cfg = run_of(**SMALL | {'precision': 'auto'})
    monkeypatch.setattr(unremix.run_parts, 'auto_precision', lambda device: here)
    stopped(cfg, tmp_path, 1, monkeypatch)
    monkeypatch.setattr(unremix.run_parts, 'auto_precision', lambda device: there)
    assert resolve(cfg).run.precision == there and resolve(cfg, tmp_path).run.precision == here
    assert train(cfg, tmp_path, progress=False) == check_folder(tmp_path, cfg)
    assert read_json(tmp_path/'config.json')['run']['precision'] == torch.load(tmp_path/'checkpoint.pt', weights_only=True)['config']['run']['precision'] == here
    with pytest.raises(ValueError, match='precision'): check_folder(tmp_path, cfg.but(dict(precision=there)))
    assert main(['train', '--out', str(tmp_path), *'--limit 32 --batch-size 16 --epochs 2 --log-every 1 --accelerator cpu --no-channels-last'.split()]) == 0


# Whose it is

@pytest.mark.parametrize('command', ['train', 'compare'])
def test_two_starts_one_works(command, tmp_path):
    "Within .3 s, as two terminals would; one of them says who has the folder, the other works until it is told to stop."
    out, rest = tmp_path/'run', [] if command == 'train' else '--seeds 1 --no-supervised --timed-steps 0 --strategies simclr'.split()
    starts = []
    for _ in range(2):
        starts.append(subprocess.Popen([UNREMIX, command, '--out', out, *ARGS, '--epochs', '5000', *rest], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True))
        time.sleep(.2)
    log = (out if command == 'train' else out/'simclr-seed0')/'log.jsonl'
    while all(p.poll() is None for p in starts): time.sleep(.05)
    refused, works = sorted(starts, key=lambda p: p.poll() is None)
    while not (log.exists() and len(log.read_text().splitlines()) > 8): time.sleep(.05)
    error = refused.communicate()[1]
    assert refused.returncode == 2 and works.poll() is None
    assert f'is in use: process {works.pid} on ' in error and 'works in it since 20' in error and error.count('\n') == 1, error
    works.terminate()
    works.communicate()
    assert works.returncode == 143 and not list(out.rglob('*.part')) and not list(out.rglob(HELD))
    steps = [l['step'] for l in lines(log.parent)]
    assert steps == list(range(len(steps)))


def test_the_lock_dies_with_its_process(tmp_path):
    "SIGKILL leaves the file and not the lock."
    code = f'import time, sys; from pathlib import Path; from unremix.safe_files import hold_folder\nwith hold_folder(Path({str(tmp_path/"run")!r})): print("held", flush=True); time.sleep(60)'
    process = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == 'held\n'
    with pytest.raises(FolderInUse, match=f'process {process.pid} on'): require_free(tmp_path/'run')
    with pytest.raises(FolderInUse, match=f'process {process.pid} on'): train(run_of(**SMALL), tmp_path/'run', progress=False)
    process.kill(); process.wait()
    assert (tmp_path/'run'/HELD).exists()
    assert train(run_of(**SMALL), tmp_path/'run', progress=False)['steps'] == 4
    assert not (tmp_path/'run'/HELD).exists()


def test_held_within_one_process_too(tmp_path):
    with hold_folder(tmp_path):
        with pytest.raises(FolderInUse, match=f'process {os.getpid()} '): hold_folder(tmp_path).__enter__()
        (tmp_path/HELD).write_text('')
        with pytest.raises(FolderInUse, match='another process works in it'): require_free(tmp_path)
    with hold_folder(tmp_path): pass


def test_a_finished_folder_needs_no_lock(tmp_path):
    result = train(run_of(**SMALL), tmp_path, progress=False)
    with hold_folder(tmp_path): assert train(run_of(**SMALL), tmp_path, progress=False) == result


def test_finished_by_another_meanwhile(tmp_path, monkeypatch):
    "Between the first look and the lock."
    cfg = run_of(**SMALL)
    def slow(cfg):
        run = set_up(cfg)
        claim_folder(tmp_path, cfg)
        write_json(tmp_path/'result.json', {'loss': 1.})
        return run
    monkeypatch.setattr(unremix.train, 'set_up', slow)
    assert train(cfg, tmp_path, progress=False) == {'loss': 1.} and not (tmp_path/'log.jsonl').exists()


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch):
    def refuse(file): raise OSError(95, 'Operation not supported')
    monkeypatch.setattr(unremix.safe_files, 'lock', refuse)
    with pytest.warns(UserWarning, match='without locks .*do not start a second process'):
        with hold_folder(tmp_path): pass


def test_windows_locks_a_byte_beyond_the_file(tmp_path, monkeypatch):
    "What is locked there cannot be read, and the sentence has to be."
    from types import SimpleNamespace
    calls = []
    fake = SimpleNamespace(LK_NBLCK=2, locking=lambda fd, mode, n: calls.append((os.lseek(fd, 0, os.SEEK_CUR), mode, n)))
    monkeypatch.setitem(sys.modules, 'msvcrt', fake)
    with open(tmp_path/'x', 'a+b') as f:
        monkeypatch.setattr(unremix.safe_files.os, 'name', 'nt')
        unremix.safe_files.lock(f)
        monkeypatch.undo()
    assert calls == [(unremix.safe_files.FAR, 2, 1)]


def test_parts_have_names_of_their_own(tmp_path):
    "Two writers of one file: each whole, the last one stays."
    def inner(f):
        write_atomic(tmp_path/'x', lambda g: g.write(b'inner'))
        f.write(b'outer')
    write_atomic(tmp_path/'x', inner)
    assert (tmp_path/'x').read_bytes() == b'outer' and [p.name for p in tmp_path.iterdir()] == ['x']


# How it ends

def fill(out, limit):
    code = f"import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); from unremix.cli import main; sys.exit(main(sys.argv[1:]))"
    return subprocess.run([sys.executable, '-c', code, 'train', '--out', str(out), *ARGS, '--epochs', '1'], capture_output=True, text=True)


def test_full_disk_while_a_checkpoint_is_written(tmp_path, monkeypatch):
    "The kernel refuses the bytes; one sentence, and the state before stays."
    cfg = run_of(limit=64, batch_size=16, log_every=1, precision='32-true', accelerator='cpu', epochs=1, warmup_epochs=.5)
    stopped(cfg, tmp_path, 2, monkeypatch)
    before = (tmp_path/'checkpoint.pt').read_bytes()
    r = fill(tmp_path, 100_000)
    assert r.returncode == 2 and 'Traceback' not in r.stderr
    error = r.stderr.splitlines()[-1]
    assert error.startswith('unremix: error:') and "checkpoint.pt' cannot be written (File too large)" in error
    assert (tmp_path/'checkpoint.pt').read_bytes() == before and not list(tmp_path.glob('*.part')) and not (tmp_path/HELD).exists()
    assert main(['train', '--out', str(tmp_path), *ARGS, '--epochs', '1']) == 0


def test_full_disk_while_the_log_is_written(tmp_path):
    r = fill(tmp_path/'run', 3000) # room for config.json
    error = r.stderr.splitlines()[-1]
    assert r.returncode == 2 and 'Traceback' not in r.stderr and 'cannot be written (File too large)' in error and str(tmp_path/'run') in error


@pytest.mark.parametrize('error', [OSError(28, 'No space left on device'), OSError(5, 'Input/output error')], ids=str)
def test_an_error_inside_of_a_library_is_found(error, tmp_path):
    def write(f):
        f.write(b'half')
        try: raise error
        except OSError: raise RuntimeError('unexpected pos 896 vs 790')
    (tmp_path/'x').write_text('old')
    with pytest.raises(OSError, match=f'x. cannot be written .{error.strerror}.: what was there is intact'): write_atomic(tmp_path/'x', write)
    with pytest.raises(ZeroDivisionError): write_atomic(tmp_path/'x', lambda f: 1/0)
    assert (tmp_path/'x').read_text() == 'old' and [p.name for p in tmp_path.iterdir()] == ['x']


def test_json_has_no_nan(tmp_path):
    write_json(tmp_path/'x', {'a': float('nan'), 'b': [1., float('inf'), {'c': -float('inf')}], 'd': 'NaN', 'e': True, 'f': None})
    assert (tmp_path/'x').read_text().lower().count('nan') == 1
    assert read_json(tmp_path/'x') == {'a': None, 'b': [1., None, {'c': None}], 'd': 'NaN', 'e': True, 'f': None}


def spoil(run, where):
    if where == 'weight': next(run.model.parameters()).data.view(-1)[3] = float('nan')
    elif where == 'statistics': next(b for n, b in run.model.named_buffers() if 'running_var' in n)[0] = float('inf')
    elif where == 'moment': next(iter(run.optimizer.state.values()))['exp_avg'].view(-1)[0] = float('nan')
    elif where == 'key': run.queue.z[1] = float('nan')
    else: next(run.follower.parameters()).data.view(-1)[0] = float('nan')


@pytest.mark.parametrize('where', ['weight', 'statistics', 'moment', 'key', 'follower'])
def test_the_last_good_state_holds_no_nan(where, tmp_path, monkeypatch):
    "The last step leaves a NaN behind a finite loss: before, that was a finished run."
    cfg, real, steps = run_of(**SMALL, queue_size=20), unremix.train.epoch_steps, []
    def spoilt(run, *args):
        for out in real(run, *args):
            steps.append(1)
            if len(steps) == 4: spoil(run, where)
            yield out
    monkeypatch.setattr(unremix.train, 'epoch_steps', spoilt)
    with pytest.raises(FloatingPointError, match=r".+ is not finite after step 3 \(seen last: lr .*; the last good state is '.*checkpoint.pt'"): train(cfg, tmp_path, progress=False)
    assert not (tmp_path/'result.json').exists()
    run = set_up(cfg)
    unremix.checkpoint.restore(run, tmp_path/'checkpoint.pt')
    assert first_not_finite(run) is None


@pytest.mark.parametrize('fields,words', [(dict(lr=1e30, optimizer='sgd', warmup_epochs=0), r'because of lr=1e\+30; .*lower lr$'), (dict(temperature=1e-42), 'because of temperature=1e-42; .*raise temperature'),
    (dict(weight_decay=1e38, optimizer='sgd'), r'because of weight_decay=1e\+38; .*lower weight_decay')], ids=str)
def test_a_diverged_run_names_the_knob(fields, words, tmp_path):
    with pytest.raises(FloatingPointError, match=words): train(run_of(**SMALL | fields), tmp_path, progress=False)


def test_a_knob_is_blamed_only_if_the_strategy_has_it():
    blamed = lambda **fields: unremix.checkpoint.likely_knob(run_of(**SMALL, **fields), {})[0]
    assert blamed() == '' and 'beta=1000000.0' in blamed(beta=1e6, strategy='hcl')
    assert 'kappa' in blamed(strategy='unremix', kappa=(1., 1e9)) and 'uncertainty_temperature' in blamed(strategy='unremix', uncertainty_temperature=1e-9)
    sixteen = run_of(**SMALL).but({'precision': '16-mixed'})
    assert 'precision=16-mixed' in unremix.checkpoint.likely_knob(sixteen, {})[0] and '' == unremix.checkpoint.likely_knob(run_of(**SMALL, lr=.02), {})[0]
    assert 'temperature=1e-09' in unremix.checkpoint.likely_knob(run_of(**SMALL, temperature_end=1e-9), {'temperature': 1e-9})[0]


@pytest.mark.parametrize('knobs', [dict(kappa=2.), dict(kappa=None, beta=None), dict(beta=(1., 2.), kappa='x'), dict(temperature=(.5, .1), kappa=()), dict(kappa=(1., None)), dict(beta=True, temperature=None)], ids=str)
def test_knobs_of_ones_own_may_be_anything(knobs):
    optim = SimpleNamespace(lr=1e30, optimizer='sgd', weight_decay=0.)
    cfg = SimpleNamespace(fields=lambda: {'lr': 1e30} | knobs, optim=optim, run=SimpleNamespace(precision='32-true'))
    assert unremix.checkpoint.likely_knob(cfg, {}) == (', most likely because of lr=1e+30', 'lower lr')
    optim.lr = .01
    assert unremix.checkpoint.likely_knob(cfg, {})[0] == ''
    cfg.fields = lambda: {'kappa': 1e9}
    assert 'kappa=1000000000.0' in unremix.checkpoint.likely_knob(cfg, {})[0]


# Signals

SIGNALS = [n for n in ('SIGHUP', 'SIGUSR1', 'SIGUSR2', 'SIGTERM', 'SIGINT') if hasattr(signal, n)]


@pytest.mark.parametrize('name', SIGNALS)
def test_every_signal_finishes_the_step(name, tmp_path, monkeypatch):
    "Sent by the run to itself while it computes a step: that step is the last one, and it is saved."
    cfg, real, number = run_of(**SMALL), unremix.train.epoch_steps, getattr(signal, name)
    # whoever started the tests may ignore a signal, as nohup does
    before = signal.default_int_handler if name == 'SIGINT' else signal.SIG_DFL
    inherited = signal.signal(number, before)
    def sends(run, *args):
        for step, *rest in real(run, *args):
            if step == 0: os.kill(os.getpid(), number)
            yield step, *rest
    monkeypatch.setattr(unremix.train, 'epoch_steps', sends)
    with pytest.raises(SystemExit) as end: train(cfg, tmp_path, progress=False)
    saved = torch.load(tmp_path/'checkpoint.pt', weights_only=True)
    assert end.value.code == 128 + number and (saved['epoch'], saved['done']) == (0, 1)
    assert signal.getsignal(number) == before and not (tmp_path/HELD).exists()
    signal.signal(number, inherited)


@pytest.mark.parametrize('when', ('in the last step', 'while the last state is saved'))
def test_a_signal_at_the_end_ends_the_process(when, tmp_path, monkeypatch):
    "It was swallowed, so that a comparison went on with its next run. The same command scores this one."
    cfg, steps, save = run_of(**SMALL), unremix.train.epoch_steps, unremix.train.save_checkpoint
    def sends(run, *args):
        for step, *rest in steps(run, *args):
            if step == 3: os.kill(os.getpid(), signal.SIGTERM)
            yield step, *rest
    def sends_while_saving(path, run, **where):
        save(path, run, **where)
        if where['epoch'] == 2: os.kill(os.getpid(), signal.SIGTERM)
    name, stub = ('epoch_steps', sends) if when == 'in the last step' else ('save_checkpoint', sends_while_saving)
    with monkeypatch.context() as m:
        m.setattr(unremix.train, name, stub)
        with pytest.raises(SystemExit) as end: train(cfg, tmp_path, progress=False)
    assert end.value.code == 143 and torch.load(tmp_path/'checkpoint.pt', weights_only=True)['epoch'] == 2
    assert not (tmp_path/'result.json').exists() and train(cfg, tmp_path, lambda run: {'scored': 1}, progress=False)['scored'] == 1


def test_a_second_signal_of_another_kind_is_obeyed():
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    with unremix.machine.stop_signals() as asked:
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt): signal.raise_signal(signal.SIGINT)
    assert asked == [signal.SIGTERM]
    signal.signal(signal.SIGINT, inherited)


def test_signals_that_somebody_has_taken_are_left(monkeypatch):
    "`nohup` ignores SIGHUP; a scheduler's library may wait for SIGUSR1."
    monkeypatch.setattr(unremix.machine.signal, 'getsignal', lambda n: {signal.SIGHUP: signal.SIG_IGN, signal.SIGUSR1: print}.get(n, signal.SIG_DFL))
    assert not {signal.SIGHUP, signal.SIGUSR1} & set(stopping()) and {signal.SIGINT, signal.SIGTERM, signal.SIGUSR2} <= set(stopping())


def test_a_system_without_these_signals(tmp_path, monkeypatch):
    "Windows has SIGINT and SIGTERM."
    for name in ('SIGHUP', 'SIGUSR1', 'SIGUSR2'): monkeypatch.delattr(signal, name)
    assert stopping() == [signal.SIGINT, signal.SIGTERM]
    assert train(run_of(**SMALL), tmp_path, progress=False)['steps'] == 4


# Parts that leave one view

VIEWS = [(16, 1, 0), (16, 31, 0), (17, 3, 0), (16, 15, 8), (16, 5, 8), (16, 3, 8)]


@pytest.mark.parametrize('batch,micro,queue', VIEWS)
def test_a_part_of_one_view_is_refused(batch, micro, queue, capsys, tmp_path):
    args = ['train', '--out', str(tmp_path/'run'), '--limit', '64', '--batch-size', str(batch), '--micro-batch', str(micro), '--queue-size', str(queue)]
    assert main(args) == 2
    assert 'micro_batch must be ' in (error := capsys.readouterr().err) and error.count('\n') == 1 and not (tmp_path/'run').exists()


@pytest.mark.parametrize('batch,micro,queue', [(16, 2, 0), (16, 30, 0), (16, 32, 0), (16, 500, 0), (16, 14, 8), (17, 5, 8)])
def test_parts_of_two_views_train(batch, micro, queue, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        assert train(run_of(**SMALL | {'batch_size': batch, 'epochs': 1}, micro_batch=micro, queue_size=queue), tmp_path, progress=False)['steps'] == 32//batch


# Where it goes on

def as_from_a_gpu(out, done):
    "What a checkpoint of a GPU has and one of a CPU has not: the state of a second generator, another accelerator."
    saved = torch.load(out/'checkpoint.pt', weights_only=True)
    saved['random'] = [(cpu, torch.zeros(16, dtype=torch.uint8)) for cpu, _ in saved['random']]
    saved['config']['run']['accelerator'] = 'cuda'
    torch.save(saved, out/'checkpoint.pt')
    config = read_json(out/'config.json')
    config['run']['accelerator'] = 'cuda'
    write_json(out/'config.json', config)


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_a_run_from_a_gpu_is_scored_without_one(tmp_path):
    result = train(run_of(**SMALL, sync_batchnorm=False), tmp_path, progress=False)
    as_from_a_gpu(tmp_path, 0)
    with warnings.catch_warnings():
        warnings.simplefilter('error', UserWarning)
        assert load_run(tmp_path).fabric.device.type == 'cpu'
        scored = evaluate(tmp_path)
    assert scored['loss'] == result['loss'] and 0 <= scored['scores']['linear'] <= 1


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
@pytest.mark.parametrize('strategy', ['simclr', 'unremix'])
def test_a_run_from_a_gpu_goes_on_without_one(strategy, tmp_path, monkeypatch):
    "With a sentence that says what this costs."
    more = dict(select='sample', k_keep=4) if strategy == 'unremix' else {}
    cfg = run_of(**SMALL, strategy=strategy, **more)
    stopped(cfg, tmp_path, 1, monkeypatch)
    as_from_a_gpu(tmp_path, 1)
    with pytest.warns(UserWarning, match='goes on with 1 × cpu, other than before'): result = train(cfg, tmp_path, progress=False)
    assert result['steps'] == 4 and [l['step'] for l in lines(tmp_path)] == [0, 1, 2, 3]


def test_a_run_of_two_processes_goes_on_with_one(tmp_path, monkeypatch):
    cfg = run_of(**SMALL)
    stopped(cfg, tmp_path, 1, monkeypatch)
    saved = torch.load(tmp_path/'checkpoint.pt', weights_only=True)
    torch.save(saved | {'random': saved['random']*2, 'config': saved['config'] | {'devices': 2}}, tmp_path/'checkpoint.pt')
    with pytest.warns(UserWarning, match='goes on with 1 × cpu, other than before'): assert train(cfg, tmp_path, progress=False)['steps'] == 4


def test_moved_runs_of_other_seeds_places_or_ranks_draw_other_numbers():
    "Inside an epoch, where the generators of before cannot be had."
    found = set()
    for seed, epoch, done in ((0, 0, 1), (1, 0, 1), (2**31 - 1, 0, 1), (0, 1, 1), (0, 0, 2)):
        run = SimpleNamespace(fabric=SimpleNamespace(device=torch.device('cpu')), cfg=run_of(**SMALL, seed=seed))
        with pytest.warns(UserWarning, match='other than before'):
            cpu, _ = random_of({'random': [], 'config': {}, 'epoch': epoch, 'done': done}, run)
        found.add(cpu.numpy().tobytes())
    assert len(found) == 5


def test_two_processes_meet_a_held_folder(tmp_path):
    "Both end, neither waits for the other."
    with hold_folder(tmp_path):
        job = Job(run_of(**SMALL | {'devices': 2}), tmp_path)
        assert set(job.wait()) == {1}
    assert not (tmp_path/'config.json').exists()


def test_what_a_user_calls_part_stays(tmp_path):
    "Only what `write_atomic` left is removed, and only if it is a file."
    others = ['film.mkv.part', 'a.0a1b2c3.part', 'a.0A1B2C3D.part', 'a.0a1b2c3d.part.bak']
    for name in [*others, 'result.json.0a1b2c3d.part']: (tmp_path/name).touch()
    (tmp_path/'folder.0a1b2c3d.part').mkdir()
    with hold_folder(tmp_path): pass
    assert {p.name for p in tmp_path.iterdir()} == {*others, 'folder.0a1b2c3d.part'}


@pytest.mark.parametrize('leads', ('to a file', 'nowhere yet'))
def test_a_link_stays_a_link(leads, tmp_path):
    (tmp_path/'disk').mkdir()
    (tmp_path/'x').symlink_to('disk/x')
    if leads == 'to a file': (tmp_path/'disk'/'x').write_bytes(b'old')
    write_atomic(tmp_path/'x', lambda f: f.write(b'new'))
    assert (tmp_path/'x').is_symlink() and (tmp_path/'disk'/'x').read_bytes() == b'new'
    assert [p.name for p in (tmp_path/'disk').iterdir()] == ['x']
