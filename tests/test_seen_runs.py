"What a run does beside its numbers, seen on tiny runs; each was first missed by a mutant."
import dataclasses, errno, os, signal
from types import SimpleNamespace

import pytest
import torch

import configs
from configs import run_of
import unremix.checkpoint, unremix.devices, unremix.run_parts, unremix.safe_files, unremix.train
from test_run_folder import SMALL, stopped
from unremix.checkpoint import random_of
from unremix.devices import first_not_finite
from unremix.evaluate import load_run
from unremix.loggers import told
from unremix.run_folder import look
from unremix.run_parts import require_device, sampler_of, set_up
from unremix.safe_files import HELD, FolderInUse, hold_folder, open_locked, read_json, write_json
from unremix.steps import assign_schedules, epoch_steps
from unremix.train import facts, train, train_in


# ---- tests/test_run_folder.py

def test_a_run_that_goes_on_counts_what_came_before(tmp_path, monkeypatch):
    "Its seconds are those of all parts; its bar, and so the images per second of its first line, begin where it does."
    cfg, bars, real = run_of(**SMALL), [], unremix.train.Log
    stopped(cfg, tmp_path, 1, monkeypatch)
    saved = torch.load(tmp_path/'checkpoint.pt', weights_only=True)
    torch.save(saved | {'seconds': 1000.}, tmp_path/'checkpoint.pt')
    monkeypatch.setattr(unremix.train, 'Log', lambda path, bar, tell: bars.append((bar.n, bar.total)) or real(path, bar, tell))
    assert 1000 < train(cfg, tmp_path, progress=False)['seconds'] < 1500
    assert torch.load(tmp_path/'checkpoint.pt', weights_only=True)['seconds'] > 1000 and bars == [(1, 4)]


def test_the_step_after_which_it_stopped_is_told(tmp_path, monkeypatch, capsys):
    "In the middle, and where the signal comes while the last state is saved."
    cfg, save = run_of(**SMALL), unremix.train.save_checkpoint
    stopped(cfg, tmp_path, 2, monkeypatch)
    def sends_while_saving(path, run, **where):
        save(path, run, **where)
        if where['epoch'] == 2: os.kill(os.getpid(), signal.SIGTERM)
    monkeypatch.setattr(unremix.train, 'save_checkpoint', sends_while_saving)
    with pytest.raises(SystemExit): train(cfg, tmp_path, progress=False)
    goes_on = f'the same command goes on from {str(tmp_path/"checkpoint.pt")!r}'
    assert capsys.readouterr().err.splitlines() == [f'unremix: stopped after step {s}; {goes_on}' for s in (1, 3)]


@pytest.mark.parametrize('progress, disable', [(True, None), (False, True)])
def test_a_bar_is_shown_where_it_was_asked_for(progress, disable, tmp_path, monkeypatch):
    "None: in a terminal."
    seen, real = [], unremix.train.tqdm
    monkeypatch.setattr(unremix.train, 'tqdm', lambda **asked: seen.append(asked['disable']) or real(**asked))
    train(run_of(**SMALL), tmp_path, progress=progress)
    assert seen == [disable]


def test_a_finished_run_is_read_on_any_machine(tmp_path, monkeypatch):
    result = train(run_of(**SMALL), tmp_path, progress=False)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    elsewhere = run_of(**SMALL | {'accelerator': 'cuda'})
    assert train(elsewhere, tmp_path, progress=False) == result
    with pytest.raises(ValueError, match='accelerator must be'): train(elsewhere, tmp_path/'new', progress=False)


def test_a_folder_in_use_is_told_before_the_images_are_read(tmp_path, monkeypatch):
    from unremix import compare as comparing
    monkeypatch.setattr(unremix.train, 'look', lambda cfg: pytest.fail('images were read'))
    monkeypatch.setattr(comparing, 'look_at_all', lambda cfg, out: pytest.fail('images were read'))
    with hold_folder(tmp_path):
        with pytest.raises(FolderInUse): train(run_of(**SMALL), tmp_path, progress=False)
        with pytest.raises(FolderInUse): comparing.compare(configs.comparison(**SMALL, strategies=('simclr',)), tmp_path, progress=False)


class Second:
    "A fabric as the second process has it."
    is_global_zero = False
    def __init__(self, fabric): self.fabric = fabric
    def __getattr__(self, name): return getattr(self.fabric, name)


def test_only_the_first_process_writes(tmp_path):
    "Above all no result without the scores, which only the first one has."
    run = set_up(run_of(**SMALL))
    run = dataclasses.replace(run, fabric=Second(run.fabric))
    result = train_in(run, tmp_path, look(run.cfg), lambda run: pytest.fail('it scores'), False, told(run, tmp_path, (), None))
    assert result['steps'] == 4 and not list(tmp_path.iterdir())


def test_the_one_that_is_furthest_off_is_blamed():
    blamed = lambda **fields: unremix.checkpoint.likely_knob(run_of(**SMALL).but(fields), {})[0]
    for optimizer, usual in (('sgd', 2.), ('adam', .02), ('adamw', .02)):
        assert blamed(optimizer=optimizer, lr=usual) == '' and f'lr={1.1*usual}' in blamed(optimizer=optimizer, lr=1.1*usual)
    assert 'precision=' in blamed(precision='16-mixed', lr=.02) and 'lr=0.04' in blamed(precision='16-mixed', lr=.04)


def test_moved_runs_of_several_processes_draw_numbers_of_their_own(monkeypatch):
    run, found = SimpleNamespace(fabric=SimpleNamespace(device=torch.device('cpu')), cfg=run_of(**SMALL)), set()
    for rank in range(3):
        monkeypatch.setattr(unremix.checkpoint, 'rank_and_size', lambda: (rank, 3))
        with pytest.warns(UserWarning, match='goes on with 3 × cpu'):
            found.add(random_of({'random': [], 'config': {}, 'epoch': 0, 'done': 1}, run)[0].numpy().tobytes())
    assert len(found) == 3


@pytest.mark.parametrize('number', ('EAGAIN', 'EACCES', 'EDEADLK'))
def test_each_answer_to_a_taken_lock(number, tmp_path, monkeypatch):
    "Linux gives the first one, Windows the others; none of them means a file system without locks."
    def taken(file): raise OSError(getattr(errno, number), 'taken')
    monkeypatch.setattr(unremix.safe_files, 'lock', taken)
    monkeypatch.setattr(unremix.safe_files.time, 'sleep', lambda seconds: None)
    with pytest.raises(FolderInUse): hold_folder(tmp_path).__enter__()


def test_who_only_looks_stops_nobody(tmp_path, monkeypatch):
    "The lock is free at the sixth try, a quarter of a second later."
    real, tries, waits = unremix.safe_files.lock, [], []
    def lock(file):
        tries.append(file)
        if len(tries) < 6: raise OSError(errno.EAGAIN, 'taken')
        real(file)
    monkeypatch.setattr(unremix.safe_files, 'lock', lock)
    monkeypatch.setattr(unremix.safe_files.time, 'sleep', waits.append)
    with hold_folder(tmp_path): assert waits == [.05]*5


def test_a_lock_on_a_file_that_is_gone_is_none(tmp_path, monkeypatch):
    "Opened before its holder removed it, locked after: the next one would lock another file of the same name."
    real, files = unremix.safe_files.lock, []
    def lock(file):
        if not files: (tmp_path/HELD).unlink()
        files.append(file)
        real(file)
    monkeypatch.setattr(unremix.safe_files, 'lock', lock)
    monkeypatch.setattr(unremix.safe_files.time, 'sleep', lambda seconds: None)
    with hold_folder(tmp_path):
        assert len(files) == 2 and unremix.safe_files.is_at(files[1], tmp_path/HELD)


# ---- tests/test_faults.py

def spoilt_at(step, monkeypatch):
    "The loss is NaN at one step; a list that has an entry per step."
    calls, real = [], unremix.run_parts.make_criterion
    class Spoilt(torch.nn.Module):
        def __init__(self, loss):
            super().__init__()
            self.loss = loss
        def forward(self, *z, return_stats, **known):
            calls.append(1)
            loss, stats = self.loss(*z, return_stats=True, **known)
            if len(calls) == step + 1: loss = loss*float('nan')
            return (loss, stats) if return_stats else loss
    monkeypatch.setattr(unremix.run_parts, 'make_criterion', lambda cfg: Spoilt(real(cfg)))
    return calls


def test_a_cpu_stops_at_the_bad_step_and_tells_the_last_statistics(tmp_path, monkeypatch):
    "Neither the next line nor the next checkpoint is waited for; what was seen last is of the last line."
    calls = spoilt_at(3, monkeypatch)
    cfg = run_of(limit=96, batch_size=16, epochs=1, log_every=100, precision='32-true', accelerator='cpu')
    with pytest.raises(FloatingPointError, match=r'not finite at step 3 \(seen last: lr .*positive_similarity '): train(cfg, tmp_path, progress=False)
    assert len(calls) == 4


# ---- tests/test_train_exact.py

def small(**fields): return set_up(run_of(**SMALL | fields))


def test_peak_memory_is_told_in_mebibytes(monkeypatch):
    monkeypatch.setattr(unremix.train, 'peak_of_process', lambda: 5*2**20)
    assert facts(small(), 1., .5)['peak_memory_mb'] == 5


def test_knobs_stay_at_their_end():
    "A comparison times steps, epoch after epoch, also of rows that have fewer."
    run = small(strategy='hcl', beta=2., beta_end=.5, temperature_end=.1)
    for step in (3, 4, 99):  # of four
        now = assign_schedules(run, step)
        assert (now['beta'], now['temperature']) == (.5, .1) == (run.criterion.weights.beta, run.criterion.temperature)


def test_one_mac_has_one_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(torch.backends.mps, 'is_available', lambda: True)
    assert require_device(run_of(**SMALL | {'accelerator': 'mps'})) == 'mps'
    with pytest.raises(ValueError, match='devices must be at most the 1 of this machine, got 2'): require_device(run_of(**SMALL | {'accelerator': 'mps', 'devices': 2}))


# ---- tests/test_relatives_pairs.py

def test_graphs_of_a_run_have_seeds_of_their_own():
    "Of the run, and of the step."
    cfg = run_of(**SMALL | dict(strategy='batchsampler', every=1, candidates=4, neighbours=2, seed=7))
    assert sampler_of(cfg, 32).seed == 7
    run, steps = set_up(cfg), []
    rebuild = run.sampler.rebuild
    run.sampler.rebuild = lambda z, step=None: steps.append(step) or rebuild(z, step)
    for epoch in range(2): list(epoch_steps(run, epoch))
    assert steps == [1, 2, 3]


# ---- tests/test_runs_exact.py

def test_a_tensor_that_is_bad_on_another_process_is_bad(monkeypatch):
    from test_runs_exact import tiny
    from torch import distributed as dist
    run, asked = tiny(), []
    names = [name for name, x in unremix.devices.tensors_of(run) if x.is_floating_point()]
    def all_reduce(good, op):
        theirs = torch.ones_like(good)
        theirs[names.index('keys of the queue')] = 0
        good.copy_({dist.ReduceOp.MIN: torch.minimum, dist.ReduceOp.MAX: torch.maximum}[op](good, theirs))
    monkeypatch.setattr(unremix.devices, 'rank_and_size', lambda: (0, 2))
    monkeypatch.setattr(dist, 'all_reduce', all_reduce)
    assert first_not_finite(run) == 'keys of the queue'


# ---- tests/test_run_folder.py, of evaluate

def test_a_run_of_several_processes_is_scored_by_one(tmp_path, monkeypatch):
    import unremix.evaluate as scoring
    train(run_of(**SMALL), tmp_path, progress=False)
    config = read_json(tmp_path/'config.json')
    config['run'] |= {'devices': 4, 'num_nodes': 2}
    write_json(tmp_path/'config.json', config)
    asked, real = [], scoring.set_up
    monkeypatch.setattr(scoring, 'set_up', lambda cfg: asked.append((cfg.run.devices, cfg.run.num_nodes)) or real(cfg.but({'devices': 1, 'num_nodes': 1})))
    load_run(tmp_path)
    assert asked == [(1, 1)]


def test_only_the_last_state_is_scored(tmp_path):
    train(run_of(**SMALL), tmp_path, progress=False)
    (tmp_path/'checkpoint_before.pt').replace(tmp_path/'checkpoint.pt')
    with pytest.raises(ValueError, match=r'checkpoint.pt must be of the last epoch \(2\), got 1'): load_run(tmp_path)
