"What the files of a run folder hold, and in which order they are written."
import dataclasses, json, math, os, re, shutil, subprocess, types, warnings
from dataclasses import dataclass

import pytest
import torch
from lightning_fabric import Fabric
from torch import nn
from torch.testing import assert_close

from configs import run_of
import unremix
from unremix.checkpoint import before, load_checkpoint, newest_good, restore, save_checkpoint
from unremix.devices import first_not_finite, on_first
from unremix.loggers import kept_lines
from unremix.report import losses_in
from unremix.run_folder import check_folder, claim_folder, cut_log, disagreement, recorded
from unremix.safe_files import HELD, FolderInUse, read_json, write_atomic, write_json
from unremix.train import code_version

same = lambda a, b: assert_close(a, b, rtol=0, atol=0)


@dataclass(frozen=True)
class Cfg:
    lr:float = .1
    kappa:tuple = (1., 2.)
    precision:str = '32-true'
    log_every:int = 10
    epochs:int = 2

    def as_json(self): return dataclasses.asdict(self)
    def fields(self): return dataclasses.asdict(self)
    def usual(self): return dataclasses.asdict(type(self)())


class Keys(nn.Module):
    "A part with a state of its own, like a queue."
    def __init__(self, value):
        super().__init__()
        self.register_buffer('z', torch.full((2,), value))


def tiny(cfg=Cfg(), extras=True, seed=0):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    run = types.SimpleNamespace(model=model, optimizer=torch.optim.Adam(model.parameters(), .1), fabric=Fabric(accelerator='cpu'), cfg=cfg)
    if extras: run.queue, run.follower, run.criterion = Keys(1. + seed), nn.Linear(2, 2), Keys(5. + seed)
    return run


def step(run):
    run.optimizer.zero_grad()
    run.model(torch.randn(8, 3)).square().mean().backward()
    run.optimizer.step()


# Writing

def test_bytes_are_on_the_disk_before_the_name_is(tmp_path, monkeypatch):
    "Whole content, flushed, synced, then the old file aside, then the new one in its place."
    path, keep, calls = tmp_path/'x', tmp_path/'old', []
    path.write_text('before')
    sync, replace = os.fsync, os.replace
    def seen_sync(fd):
        calls.append(('sync', os.fstat(fd).st_size))
        sync(fd)
    def seen_replace(a, b):
        calls.append(('replace', os.path.basename(b), open(a).read()))
        replace(a, b)
    monkeypatch.setattr(os, 'fsync', seen_sync)
    monkeypatch.setattr(os, 'replace', seen_replace)
    write_atomic(path, lambda f: f.write(b'after the cut'), keep)
    assert calls == [('sync', 13), ('replace', 'old', 'before'), ('replace', 'x', 'after the cut')]
    assert sorted(p.name for p in tmp_path.iterdir()) == ['old', 'x']


def test_nothing_is_kept_unless_asked(tmp_path):
    for text in (b'1', b'2'): write_atomic(tmp_path/'x', lambda f: f.write(text))
    write_atomic(tmp_path/'y', lambda f: f.write(b'3'), tmp_path/'kept') # there was none
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {'x': b'2', 'y': b'3'}


def test_files_have_the_usual_rights(tmp_path):
    "As `open` makes them: others of the group may read a result."
    (tmp_path/'plain').write_text('')
    write_atomic(tmp_path/'x', lambda f: f.write(b''))
    assert (tmp_path/'x').stat().st_mode == (tmp_path/'plain').stat().st_mode


def test_json_files(tmp_path):
    write_json(tmp_path/'x', {'a': (1, 2.5), 'b': None})
    assert (tmp_path/'x').read_text() == json.dumps({'a': [1, 2.5], 'b': None}, indent=1) + '\n'
    for text in ('[1]', '{"a": ', '', '3'):
        (tmp_path/'x').write_text(text)
        with pytest.raises(ValueError, match='x. is not a json object'): read_json(tmp_path/'x')


# Claiming

def test_states_of_a_folder(tmp_path):
    out = tmp_path/'a'/'run'
    assert check_folder(out, Cfg()) is None and not out.parent.exists()
    assert claim_folder(out, Cfg(lr=.3)) == out and read_json(out/'config.json') == {'lr': .3, 'kappa': [1., 2.], 'precision': '32-true', 'log_every': 10, 'epochs': 2}
    assert check_folder(out, Cfg(lr=.3)) is None
    claim_folder(out, Cfg(lr=.4)) # the first one stays
    assert read_json(out/'config.json')['lr'] == .3
    write_json(out/'result.json', {'loss': 1.})
    assert check_folder(str(out), Cfg(lr=.3)) == {'loss': 1.}


@pytest.mark.parametrize('names,free', [([], True), ([HELD], True), (['config.json.part'], True), (['config.json.1a2b3c4d.part', HELD], True),
    (['log.jsonl'], False), (['config.json.txt'], False), (['checkpoint.pt.1a2b3c4d.part'], False)], ids=str)
def test_what_a_killed_claim_leaves(names, free, tmp_path):
    for name in names: (tmp_path/name).write_text('{"l')
    if free: assert check_folder(tmp_path, Cfg()) is None
    else:
        with pytest.raises(ValueError, match='has files but no config.json'): check_folder(tmp_path, Cfg())


def test_fields_that_differ_are_named(tmp_path):
    claim_folder(tmp_path, Cfg())
    with pytest.raises(ValueError, match=r"other settings: lr \(0.1, asked 0.2\), kappa \(\[1.0, 2.0\], asked \[1.0, 3.0\]\); give another"): check_folder(tmp_path, Cfg(lr=.2, kappa=(1., 3.)))
    assert disagreement(read_json(tmp_path/'config.json'), Cfg(log_every=3, precision='auto')) == {}


def test_fields_of_other_releases(tmp_path):
    "One that was not there yet had its default; one that is gone is another run."
    write_json(tmp_path/'config.json', {'lr': .1})
    assert check_folder(tmp_path, Cfg()) is None
    with pytest.raises(ValueError, match=r'epochs \(2, asked 3\)'): check_folder(tmp_path, Cfg(epochs=3))
    write_json(tmp_path/'config.json', {'lr': .1, 'dropout': .5})
    with pytest.raises(ValueError, match=r'dropout \(0.5, asked None\)'): check_folder(tmp_path, Cfg())


def test_what_is_recorded(tmp_path):
    assert recorded(tmp_path, 'lr') is None
    claim_folder(tmp_path, Cfg())
    assert recorded(str(tmp_path), 'lr') == .1 and recorded(tmp_path, 'dropout') is None


def test_log_before_a_step(tmp_path):
    path = tmp_path/'log.jsonl'
    cut_log(path, 3)
    assert path.read_text() == ''
    path.write_text('{"step": 0}\n{"step": 2}\n{"step": 3}\n{"step": 4}\n{"st')
    cut_log(path, 4)
    assert path.read_text() == '{"step": 0}\n{"step": 2}\n{"step": 3}\n'
    path.write_bytes(b'{"step": 0}\n' + bytes(20) + b'\n{"st\n[3]\n{"loss": 1}\n\xff\n{"step": 2}\n{"step": 4}') # as a disk may have it
    assert [step for _, step in kept_lines(path)] == [0, 2, 4] and losses_in(path) == ([], [])
    cut_log(path, 4)
    assert path.read_text() == '{"step": 0}\n{"step": 2}\n'


FOREIGN = {'a strategy without a name': {'strategy': {'lr': 1}}, 'one of another program': {'strategy': 'ddp', 'lr': .1}, 'a schedule that is none': {'schedule': 3}, 'a list': {'train': [1]}}


@pytest.mark.parametrize('case', FOREIGN)
def test_a_foreign_configuration_is_named(case, tmp_path):
    write_json(tmp_path/'config.json', FOREIGN[case])
    for asked in (lambda: check_folder(tmp_path, Cfg()), lambda: recorded(tmp_path, 'lr')):
        with pytest.raises(ValueError, match=r"^'.*config.json' is no configuration of unremix \(.*\): give another folder$"): asked()


# Checkpoints

def test_everything_comes_back(tmp_path):
    "Weights, statistics, moments, queue, copy, loss and the generator: the next step has the same bits."
    run, path = tiny(), tmp_path/'checkpoint.pt'
    torch.manual_seed(3)
    for _ in range(2): step(run)
    save_checkpoint(path, run, epoch=1, done=2, seconds=4., loss=.5)
    drawn = torch.get_rng_state()
    other = tiny(seed=1)
    where = restore(other, path)
    assert {k: where[k] for k in ('epoch', 'done', 'seconds', 'loss')} == {'epoch': 1, 'done': 2, 'seconds': 4., 'loss': .5}
    for name in ('model', 'queue', 'follower', 'criterion'): same(getattr(other, name).state_dict(), getattr(run, name).state_dict())
    same(where['random'][0], drawn)
    for r in (run, other):
        torch.set_rng_state(drawn)
        step(r)
    same(other.model.state_dict(), run.model.state_dict())
    same([v for m in other.optimizer.state.values() for v in m.values()], [v for m in run.optimizer.state.values() for v in m.values()])


def test_what_a_checkpoint_holds(tmp_path):
    run, path = tiny(extras=False), tmp_path/'checkpoint.pt'
    save_checkpoint(path, run, epoch=1, seconds=4., loss=.5)
    saved = load_checkpoint(path)
    assert set(saved) == {'epoch', 'seconds', 'loss', 'model', 'optimizer', 'precision', 'random', 'config', 'torch'}
    assert saved['config'] == {'lr': .1, 'kappa': (1., 2.), 'precision': '32-true', 'log_every': 10, 'epochs': 2} and saved['torch'] == torch.__version__
    assert len(saved['random']) == 1 and restore(tiny(extras=False), path)['random'] is None # the next epoch seeds it


def test_without_one_it_is_at_the_start(tmp_path):
    where = restore(tiny(), tmp_path/'checkpoint.pt')
    assert math.isnan(where.pop('loss')) and where == {'epoch': 0, 'done': 0, 'seconds': 0.}


def test_the_one_before_is_kept(tmp_path):
    path, run = tmp_path/'checkpoint.pt', tiny()
    assert before(path) == tmp_path/'checkpoint_before.pt'
    for epoch in (1, 2, 3): save_checkpoint(path, run, epoch=epoch, seconds=0., loss=0.)
    assert [load_checkpoint(p)['epoch'] for p in (path, before(path))] == [3, 2]
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert newest_good(path, run.cfg)['epoch'] == 3
    path.unlink()
    assert newest_good(path, run.cfg)['epoch'] == 2


def test_another_model_is_refused(tmp_path):
    save_checkpoint(tmp_path/'c.pt', tiny(), epoch=1, seconds=0., loss=0.)
    run = tiny()
    run.model = nn.Linear(3, 1)
    with pytest.raises(ValueError, match='holds another model'): restore(run, tmp_path/'c.pt')


@pytest.mark.parametrize('missing', ['epoch', 'seconds', 'loss', 'model', 'optimizer', 'precision', 'config'])
def test_a_foreign_file_is_named(missing, tmp_path):
    save_checkpoint(tmp_path/'c.pt', tiny(), epoch=1, seconds=0., loss=0.)
    saved = torch.load(tmp_path/'c.pt', weights_only=True)
    del saved[missing]
    torch.save(saved, tmp_path/'c.pt')
    with pytest.raises(ValueError, match=f'lacks {missing}: it was not written by unremix'): load_checkpoint(tmp_path/'c.pt')
    with pytest.raises(FileNotFoundError): load_checkpoint(tmp_path/'none.pt')


@pytest.mark.parametrize('error, why', [(PermissionError(13, 'Permission denied'), 'Permission denied'), (OSError(5, 'Input/output error'), 'Input/output error'), (MemoryError(), 'MemoryError')], ids=str)
def test_what_the_system_says_is_no_damage(error, why, tmp_path, monkeypatch):
    "Nobody is told to delete a good file, and the one before does not take its place."
    path, run = tmp_path/'checkpoint.pt', tiny()
    for epoch in (1, 2): save_checkpoint(path, run, epoch=epoch, seconds=0., loss=0.)
    real = torch.load
    def load(file, **how):
        if file == path: raise error
        return real(file, **how)
    monkeypatch.setattr(torch, 'load', load)
    for read in (load_checkpoint, lambda p: newest_good(p, run.cfg), lambda p: restore(run, p)):
        with pytest.raises(OSError, match=f'checkpoint.pt. cannot be read .{why}.: the same command goes on once it can') as e: read(path)
        assert 'delete' not in str(e.value)


def test_damage_that_leads_nowhere_is_damage(tmp_path):
    "A file whose numbers were overwritten makes torch seek to places that there are not, which the system calls an invalid argument."
    path, run = tmp_path/'checkpoint.pt', tiny()
    for epoch in (1, 2): save_checkpoint(path, run, epoch=epoch, seconds=0., loss=0.)
    whole, told = path.read_bytes(), set()
    for end in range(0, len(whole), len(whole)//30):
        path.write_bytes(whole[:end])
        with pytest.raises(ValueError, match='cannot be read .*: delete it to start the run again') as e: load_checkpoint(path)
        told.add(str(e.value))
        with pytest.warns(UserWarning, match='going on from'): assert newest_good(path, run.cfg)['epoch'] == 1
    assert any('(damaged)' in x for x in told) and any('(damaged)' not in x for x in told)


def test_how_a_finished_run_starts_again(tmp_path):
    "Its result has to go too: a folder with one is finished."
    path = tmp_path/'checkpoint.pt'
    path.write_bytes(b'no checkpoint')
    with pytest.raises(ValueError, match='delete it to start the run again'): load_checkpoint(path)
    (tmp_path/'result.json').write_text('{}')
    with pytest.raises(ValueError, match='delete it and result.json to start the run again'): load_checkpoint(path)


def test_the_file_with_another_model_is_named(tmp_path):
    path, run = tmp_path/'checkpoint.pt', tiny()
    for epoch in (1, 2): save_checkpoint(path, run, epoch=epoch, seconds=0., loss=0.)
    path.write_bytes(b'damaged')
    run.model = nn.Linear(3, 1)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        with pytest.raises(ValueError, match='checkpoint_before.pt. holds another model'): restore(run, path)


def test_no_run_goes_on_without_its_random_numbers(tmp_path):
    "A checkpoint that was made smaller can be read all the same."
    save_checkpoint(tmp_path/'c.pt', tiny(), epoch=1, seconds=0., loss=0.)
    saved = torch.load(tmp_path/'c.pt', weights_only=True)
    del saved['random']
    torch.save(saved, tmp_path/'c.pt')
    with pytest.raises(ValueError, match='c.pt. lacks random: delete it to start the run again'): restore(tiny(), tmp_path/'c.pt')
    assert load_checkpoint(tmp_path/'c.pt')['epoch'] == 1


def test_a_file_runs_no_code(tmp_path):
    class Evil:
        def __reduce__(self): return os.mkdir, (str(tmp_path/'owned'),)
    torch.save({'model': Evil()}, tmp_path/'c.pt')
    with pytest.raises(ValueError, match='cannot be read'): load_checkpoint(tmp_path/'c.pt')
    assert not (tmp_path/'owned').exists()


def test_first_tensor_that_is_no_number():
    run = tiny()
    step(run)
    assert first_not_finite(run) is None
    run.queue.z[0] = -math.inf
    assert first_not_finite(run) == 'keys of the queue'
    run.optimizer.state_dict()['state'][2]['exp_avg_sq'][0] = math.nan
    assert first_not_finite(run) == 'exp_avg_sq of parameter 2'
    run.model[1].running_mean[1] = math.inf
    assert first_not_finite(run) == '1.running_mean'


def test_rank_0_acts_for_all():
    done = []
    class Fabric:
        is_global_zero = False
        def broadcast(self, value): return ('theirs', None)
    run = types.SimpleNamespace(fabric=Fabric())
    assert on_first(run, lambda: done.append(1)) == 'theirs' and not done
    run.fabric.is_global_zero, run.fabric.broadcast = True, lambda value: value
    assert on_first(run, lambda: 'ours') == 'ours'
    def fail(): raise FolderInUse('held')
    with pytest.raises(FolderInUse, match='held'): on_first(run, fail)
    run.fabric.is_global_zero, run.fabric.broadcast = False, lambda value: (None, OSError('of rank 0'))
    with pytest.raises(OSError, match='of rank 0'): on_first(run, fail)


# Which code

def test_version_of_a_checkout(monkeypatch):
    def git(args, **kwargs):
        assert args[:2] == ['git', '-C'] and kwargs['check']
        return types.SimpleNamespace(stdout='abc1234-dirty\n')
    monkeypatch.setattr(subprocess, 'run', git)
    assert code_version() == f'{unremix.__version__}+abc1234-dirty'
    def none(args, **kwargs): raise subprocess.CalledProcessError(128, args)
    monkeypatch.setattr(subprocess, 'run', none)
    assert code_version() == unremix.__version__
    def missing(args, **kwargs): raise FileNotFoundError
    monkeypatch.setattr(subprocess, 'run', missing)
    assert code_version() == unremix.__version__


@pytest.mark.skipif(shutil.which('git') is None, reason='git is not installed')
def test_the_commit_of_somebody_elses_repository_is_not_ours(tmp_path, monkeypatch):
    "An installation inside a checkout of other work, whose git does not know the package; then one that does."
    def git(*args): subprocess.run(['git', '-C', str(tmp_path), '-c', 'user.name=a', '-c', 'user.email=a@b.c', *args], check=True, capture_output=True)
    inside = tmp_path/'site'/'__init__.py'
    inside.parent.mkdir()
    inside.write_text('')
    (tmp_path/'theirs.txt').write_text('x')
    git('init'); git('add', 'theirs.txt'); git('commit', '-m', 'theirs')
    monkeypatch.setattr(unremix, '__file__', str(inside))
    assert code_version() == unremix.__version__
    git('add', 'site'); git('commit', '-m', 'ours')
    assert re.fullmatch(re.escape(unremix.__version__) + r'\+[0-9a-f]{7,}', code_version())
    inside.write_text('# changed')
    assert code_version().endswith('-dirty')


def test_a_result_says_what_its_file_says(tmp_path):
    "A score that is no number is None in both."
    from unremix.train import train
    cfg = run_of(limit=32, batch_size=16, epochs=1, precision='32-true', accelerator='cpu')
    result = train(cfg, tmp_path, lambda run: {'scores': {'linear': .5, 'uniformity': math.nan}}, progress=False)
    assert result == train(cfg, tmp_path, progress=False) and result['scores'] == {'linear': .5, 'uniformity': None}
