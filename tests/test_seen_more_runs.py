"Runs, their checkpoints and folders, devices; each was first missed by a mutant."
import contextlib, dataclasses, errno, json, math, os, threading
from types import SimpleNamespace

import pytest
import torch
from torch import distributed as dist

from configs import run_of
from test_runs_exact import tiny
from unremix import checkpoint, devices, machine, run_folder, run_parts, safe_files, steps
from unremix.checkpoint import check_finite, diverged, likely_knob, restore, save_checkpoint
from unremix.devices import FirstBad, asked_of_all, auto_precision
from unremix.loggers import told
from unremix.run_folder import NOT_OF_THE_RUN, check_data, in_result, split_samples
from unremix.run_parts import require_device, set_up, start_fabric
from unremix.safe_files import holder, require_free, write_atomic, write_json
from unremix.train import facts, train_in

SMALL = dict(limit=32, batch_size=16, epochs=1, precision='32-true', accelerator='cpu', head_hidden=8, head_out=4)


# parts of a run

def test_what_a_queue_asks_of_memory(monkeypatch):
    "All that it keeps of each key: embedding, norm, square and three ids."
    asked = []
    monkeypatch.setattr(run_parts, 'require_memory', lambda *given: asked.append(given[0]))
    run = set_up(run_of(**SMALL | {'queue_size': 10, 'head_out': 6}))
    assert asked == [sum(x.nbytes for x in (run.queue.z, run.queue.norm, run.queue.square, run.queue.ids))]


def test_the_layout_of_memory_that_was_asked_for():
    for asked in (True, False):
        run = set_up(run_of(**SMALL | {'channels_last': asked}))
        kernels = [p for p in run.model.parameters() if p.ndim == 4 and p.shape[1] > 1 and p.shape[-1] > 1]
        assert kernels and all(p.is_contiguous(memory_format=torch.channels_last) == asked for p in kernels)


class Fabric:
    "What is asked of it."
    world_size, asked = 6, {}
    def __init__(self, **asked): type(self).asked = asked
    def launch(self): pass


def test_what_fabric_is_asked_for(monkeypatch):
    monkeypatch.setattr('lightning_fabric.Fabric', Fabric)
    cfg = run_of(batch_size=24, devices=3, num_nodes=2, accelerator='cpu', precision='bf16-mixed')
    start_fabric(cfg)
    assert Fabric.asked == {'accelerator': 'cpu', 'devices': 3, 'num_nodes': 2, 'precision': 'bf16-mixed'}
    for other in (dict(devices=6), dict(num_nodes=1)):
        with pytest.raises(ValueError, match='^devices × num_nodes must be the 6 processes that were started, got (12|3)$'): start_fabric(cfg.but(other))


@pytest.mark.parametrize('here, kind', [('cuda mps', 'cuda'), ('cuda', 'cuda'), ('mps', 'mps'), ('', 'cpu')])
def test_the_device_of_auto(here, kind, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: 'cuda' in here)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 1)
    monkeypatch.setattr(torch.backends.mps, 'is_available', lambda: 'mps' in here)
    assert require_device(run_of(accelerator='auto')) == kind
    synced = run_of(accelerator='auto', sync_batchnorm=True)
    if kind == 'cuda': assert require_device(synced) == 'cuda'
    else:
        with pytest.raises(ValueError, match=f'^sync_batchnorm must be False on {kind}, since it needs CUDA'): require_device(synced)


@pytest.fixture(scope='module')
def run(): return set_up(run_of(**SMALL))


@pytest.mark.parametrize('micro', (None, 8))
def test_every_gradient_comes_from_fabric(micro, run, monkeypatch):
    "Which scales it in 16 bits."
    calls, views = [], torch.rand(16, 1, 28, 28)
    monkeypatch.setattr(run.fabric, 'backward', lambda loss: calls.append(loss) or loss.backward())
    other = dataclasses.replace(run, cfg=run.cfg.but({'micro_batch': micro}))
    z, _, backward = steps.embed(other, views)
    backward(z.square().sum())
    run.optimizer.zero_grad()
    assert len(calls) == (1 if micro is None else 2)


def test_what_a_step_gives_has_no_graph(run):
    "Whoever keeps losses keeps no activations."
    _, loss, values = next(steps.epoch_steps(run, 0))
    assert not loss.requires_grad and all(isinstance(x, float) for x in values.values())


# its result

def test_facts_of_a_result(run):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        found = facts(run, 12.3456, .25)
    finally: torch.set_num_threads(before)
    assert {k: found[k] for k in ('strategy', 'seed', 'steps', 'loss', 'seconds', 'device', 'threads')} == dict(strategy='simclr', seed=0, steps=2, loss=.25, seconds=12.35, device='cpu', threads=3)


def test_what_is_scored_has_the_last_values(tmp_path, monkeypatch):
    "Of a run that was stopped between its last step and its result."
    monkeypatch.setattr('unremix.train.fit', lambda *given: {'seconds': 0., 'loss': 1.})
    run = set_up(run_of(**SMALL | dict(strategy='hcl', beta=2., beta_end=.5)))
    result = train_in(run, tmp_path, run_folder.look(run.cfg), lambda run: {'beta': run.criterion.weights.beta}, False, told(run, tmp_path, (), None))
    assert result['beta'] == .5


# checkpoints

def bad_at(step):
    bad = FirstBad(torch.device('cpu'))
    bad.see(step, torch.tensor(math.nan))
    return bad


def test_a_loss_that_is_bad_at_once(tmp_path):
    check_finite(FirstBad(torch.device('cpu')), run_of(**SMALL), {}, tmp_path/'c.pt')
    for step in (0, 7):
        with pytest.raises(FloatingPointError, match=f'^loss is not finite at step {step} .seen last: lr 0.1.'): check_finite(bad_at(step), run_of(**SMALL), {'lr': .1}, tmp_path/'c.pt')


def test_a_loss_that_is_bad_on_another_process(tmp_path, monkeypatch):
    def all_reduce(step, op): step.copy_({dist.ReduceOp.MAX: torch.maximum, dist.ReduceOp.MIN: torch.minimum}[op](step, torch.tensor(5)))
    monkeypatch.setattr(checkpoint, 'rank_and_size', lambda: (0, 2))
    monkeypatch.setattr(dist, 'all_reduce', all_reduce)
    with pytest.raises(FloatingPointError, match='^loss is not finite at step 5 '): check_finite(FirstBad(torch.device('cpu')), run_of(**SMALL), {}, tmp_path/'c.pt')


def test_how_a_diverged_run_ends(tmp_path):
    cfg, path = run_of(**SMALL), tmp_path/'checkpoint.pt'
    say = lambda: str(diverged('loss is odd', cfg, {'lr': .12345, 'hardness': 1/3}, path))
    remedy = 'lower lr, raise temperature or clip the gradient'
    assert say() == f'loss is odd (seen last: lr 0.123, hardness 0.333); there is no checkpoint yet: {remedy}'
    path.touch()
    assert say() == f'loss is odd (seen last: lr 0.123, hardness 0.333); the last good state is {str(path)!r}: {remedy}'


USUAL = {'weight_decay': (1., 1.1), 'beta': (100., 101.), 'kappa': ((100., 1.), (1., 101.)), 'temperature': (.02, .019), 'uncertainty_temperature': (.02, .019)}


@pytest.mark.parametrize('name', USUAL)
def test_where_a_knob_becomes_unusual(name):
    usual, odd = USUAL[name]
    asked = lambda value: likely_knob(run_of(**SMALL, strategy='unremix', **{name: value} | ({'optimizer': 'sgd'} if name == 'weight_decay' else {})), {})
    assert asked(usual)[0] == ''
    blame, remedy = asked(odd)
    assert blame == f', most likely because of {name}={odd}' and remedy == ('raise ' if 'temperature' in name else 'lower ') + name


def test_generators_of_all_processes_are_saved(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, 'gather_objects', lambda mine: [mine, 'theirs'])
    save_checkpoint(tmp_path/'c.pt', tiny(), epoch=1, seconds=0., loss=0.)
    assert torch.load(tmp_path/'c.pt', weights_only=True)['random'][1] == 'theirs'


def test_the_scale_of_sixteen_bits_comes_back(tmp_path, monkeypatch):
    loaded = []
    class Precision:
        def state_dict(self): return {'scale': 4.}
        def load_state_dict(self, state): loaded.append(state)
    def scaled():
        run = tiny()
        run.fabric = SimpleNamespace(device=torch.device('cpu'), strategy=SimpleNamespace(precision=Precision()), is_global_zero=True, broadcast=lambda x: x)
        return run
    save_checkpoint(tmp_path/'c.pt', scaled(), epoch=1, seconds=0., loss=0.)
    restore(scaled(), tmp_path/'c.pt')
    assert loaded == [{'scale': 4.}]


def test_a_loss_of_an_older_release_had_a_generator(tmp_path):
    "A queue with something that nobody knows is not read."
    run, path = tiny(), tmp_path/'c.pt'
    save_checkpoint(path, run, epoch=1, seconds=0., loss=0.)
    saved = torch.load(path, weights_only=True)
    more = {'generator': torch.zeros(2)}
    torch.save(saved | {'criterion': saved['criterion'] | more}, path)
    assert restore(tiny(), path)['epoch'] == 1
    torch.save(saved | {'queue': saved['queue'] | more}, path)
    with pytest.raises(RuntimeError, match='generator'): restore(tiny(), path)


# folders

def test_what_is_held_out_leaves_classes_in_turns(monkeypatch):
    from test_data_exact import numbered, which
    monkeypatch.setattr(run_folder, 'load_part', lambda cfg, part, limit: numbered([0]*6 + [1]*6))
    seen, held = split_samples(run_of(limit=4, validation=2, batch_size=2))
    assert which(held) == [3, 9] and which(seen) == [0, 6, 1, 7] and seen.y.tolist() == [0, 1, 0, 1]


def test_how_and_where_a_run_is_computed():
    assert set(NOT_OF_THE_RUN) == {'log_every', 'save_every', 'data_root', 'decode_to', 'accelerator', 'devices', 'num_nodes'}


def test_the_images_of_a_result():
    "Lines of earlier releases have them in this order."
    looked = {'train': {'fingerprint': 'ab'}, 'test': {'fingerprint': 'cd'}, 'unscored': None, 'start': 'ef', 'preparation': {}}
    assert in_result(looked) == {'data': 'abcd', 'start': 'ef'}
    assert in_result(looked | {'unscored': 'why', 'sample_ids': 'gh'}) == {'data': 'abcd', 'unscored': 'why', 'start': 'ef', 'sample_ids': 'gh'}


@pytest.mark.parametrize('then, now, told', [('a', 'a', None), (None, 'b', None), ('a', None, None), ('a', 'b', 'weights under start_from: bring')], ids=str)
def test_weights_that_both_name(then, now, told, tmp_path):
    write_json(tmp_path/'data.json', {'start': then} if then else {})
    looked = {'train': {}, 'test': {}} | ({'start': now} if now else {})
    with pytest.raises(ValueError, match=f'made with other {told} those back') if told else contextlib.nullcontext(): check_data(tmp_path, looked)


def test_numbers_in_a_tuple_are_plain_too(tmp_path):
    write_json(tmp_path/'x', {'a': (1., math.nan, (math.inf,))})
    assert json.loads((tmp_path/'x').read_text()) == {'a': [1., None, [None]]}


def test_a_lock_file_says_one_thing(tmp_path):
    "Whatever a killed process, whose line was longer, has left in it."
    path = tmp_path/'in_use.json'
    path.write_text('x'*999)
    with safe_files.hold(path, 'it'): assert holder(path).startswith(f'process {os.getpid()} on ') and json.loads(path.read_text())['pid'] == os.getpid()
    assert holder(path) == 'another process works in it'  # which has just removed it
    path.write_text('half')
    assert holder(path) == 'another process works in it'


def test_an_error_that_is_not_the_systems_stays_as_it_is(tmp_path):
    def write(file): raise OSError('image file is truncated')
    with pytest.raises(OSError, match='^image file is truncated$'): write_atomic(tmp_path/'x', write)


def test_a_full_disk_keeps_no_name_but_the_lock(tmp_path, monkeypatch):
    def full(number, text): raise OSError(errno.ENOSPC, 'No space left on device')
    monkeypatch.setattr(safe_files.os, 'write', full)
    with safe_files.hold(tmp_path/'in_use.json', 'it'):
        with pytest.raises(safe_files.FolderInUse, match='^it is in use: another process works in it; wait'): safe_files.hold(tmp_path/'in_use.json', 'it', 1).__enter__()


def test_a_lock_file_that_nobody_may_write_is_told_later(tmp_path, monkeypatch):
    (tmp_path/safe_files.HELD).touch()
    def refuse(path, what): raise PermissionError(errno.EACCES, 'Permission denied')
    monkeypatch.setattr(safe_files, 'hold', refuse)
    require_free(tmp_path)


# devices and machines

def test_bfloat16_that_is_emulated_is_not_fast(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda including_emulation=True: including_emulation)
    assert auto_precision(torch.device('cuda')) == '32-true'
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda including_emulation=True: True)
    assert auto_precision(torch.device('cuda')) == 'bf16-mixed'


def test_one_signal_for_two_processes(monkeypatch):
    def all_reduce(number, op): number.copy_({dist.ReduceOp.MAX: max, dist.ReduceOp.SUM: lambda a, b: a + b, dist.ReduceOp.MIN: min}[op](number, torch.tensor(15)))
    monkeypatch.setattr(dist, 'all_reduce', all_reduce)
    run = SimpleNamespace(fabric=SimpleNamespace(world_size=2, device=torch.device('cpu')))
    assert asked_of_all(run, [15]) == asked_of_all(run, []) == 15 and devices.gather_objects('mine') == ['mine']


def test_a_thread_beside_the_main_one_waits_for_no_signal():
    found = []
    def work():
        with machine.stop_signals() as asked: found.append(asked)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [[]]


def test_what_just_fits_into_memory_fits(monkeypatch):
    monkeypatch.setattr(machine, 'free_memory', lambda: 5*10**9)
    machine.require_memory(5*10**9, 'they', 'less')
    with pytest.raises(ValueError, match='^they need 6 GB of memory, and 5 GB are free: less$'): machine.require_memory(6*10**9, 'they', 'less')


def test_letters_that_a_terminal_lacks():
    signs = {'≤': '<=', '≥': '>=', '−': '-', '±': '+-', '→': '->', 'κ': 'kappa', 'λ': 'lambda', 'α': 'alpha', 'ü': 'u', '漢': '\\u6f22'}
    assert {x: machine.spelt(x) for x in signs} == signs
