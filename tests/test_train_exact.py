"What a training step does, by closed forms and by a loop without the library's parts."
import dataclasses, json, math, re, types

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

import configs
from unremix.controls import Supervised
import unremix.train as T
from unremix.config_groups import LR_SCHEDULES, OPTIMIZERS
from unremix.devices import FirstBad, auto_precision, available
from unremix.losses import NTXentLoss
from unremix.run_folder import split_images
from unremix.run_parts import Classifier, make_model, resolve, set_up
from unremix.steps import Log, assign_schedules, embed_with_keys, epoch_steps, lr_at
from unremix.steps import order_of, scheduled, share_of
from unremix.train import train
from unremix.augmentation import Augment

SMALL = dict(limit=48, batch_size=16, epochs=2, log_every=1, precision='32-true', accelerator='cpu', channels_last=False)
same = lambda a, b: assert_close(a, b, rtol=0, atol=0)


@pytest.fixture
def run_of():
    "A run of the small configuration with other fields."
    return lambda **fields: set_up(configs.run_of(**SMALL | fields))


def parameters(run): return {k: v.clone() for k, v in run.model.module.state_dict().items()}


def on_rank(run, rank, size=2): return dataclasses.replace(run, fabric=types.SimpleNamespace(world_size=size, global_rank=rank))


# Optimisers and schedules

def steps_of(name, grads, lr=.5, weight_decay=0.):
    "Where a weight that starts at 1 goes."
    w = nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer, path = OPTIMIZERS[name]([w], types.SimpleNamespace(lr=lr, weight_decay=weight_decay)), []
    for g in grads:
        w.grad = torch.tensor([g], dtype=torch.float64)
        optimizer.step()
        path.append(w.item())
    return path


def test_sgd_has_momentum():
    "Velocities 1 and 1.9; the decay is part of the gradient."
    assert_close(steps_of('sgd', [1., 1.]), [.5, .5 - .95])
    assert_close(steps_of('sgd', [1.], weight_decay=.2), [1 - .5*1.2])


def test_adam_and_adamw():
    "A first step has length lr whatever the gradient; adamw's decay is beside it, adam's within."
    for name in ('adam', 'adamw'): assert_close(steps_of(name, [7.]), [.5])
    assert_close(steps_of('adam', [7.], weight_decay=.2), [.5])
    assert_close(steps_of('adamw', [7.], weight_decay=.2), [1 - .5*.2 - .5])


def test_learning_rates():
    "Rise to the peak in the last step of the warm-up, then half a cosine that would reach 0 one step after the last."
    assert_close([lr_at(s, 6, 8., 2) for s in range(6)], [4., 8., 8., 8*(1 + math.cos(math.pi/4))/2, 4., 8*(1 + math.cos(3*math.pi/4))/2])
    assert [lr_at(s, 6, 8., 2, 'constant') for s in range(6)] == [4., 8., 8., 8., 8., 8.]
    assert LR_SCHEDULES['cosine'](3., 0, 0) == 3. # a run that is all warm-up


def test_paths_of_knobs():
    assert [scheduled(1., 3., p) for p in (0., .25, 1.)] == [1., 1.5, 3.] and scheduled(.1, .7, 1.) == .7
    assert [scheduled(0., 1., p/12, 2) for p in range(13)] == [0.]*4 + [.5]*4 + [1.]*5
    assert scheduled(.3, None, .5) == .3


def test_a_run_ends_at_the_end(run_of):
    "The last of six steps has the last value, the first one the first; every group gets the rate."
    run = run_of(strategy='hcl', beta=2., beta_end=.5, temperature_end=.1, lr=.4, warmup_epochs=1., anneal_steps=None)
    run.optimizer.add_param_group({'params': [nn.Parameter(torch.ones(1))]})
    seen = []
    for step in range(6):
        now = assign_schedules(run, step)
        assert {g['lr'] for g in run.optimizer.param_groups} == {now['lr']}
        assert (run.criterion.weights.beta, run.criterion.temperature, run.criterion.loss.tau_plus) == (now['beta'], now['temperature'], .1)
        seen.append((now['lr'], now['beta']))
    assert_close([b for _, b in seen], [2., 1.7, 1.4, 1.1, .8, .5])
    assert seen[-1][1] == .5 and now['temperature'] == .1
    assert_close([lr for lr, _ in seen], [.4/3, .8/3, .4, .4, .4*(1 + math.cos(math.pi/3))/2, .4*(1 + math.cos(2*math.pi/3))/2])


def test_jumps_and_level_rates(run_of):
    run = run_of(strategy='hcl', beta=1., beta_end=0., anneal_steps=2, lr_schedule='constant', warmup_epochs=0., lr=.3)
    assert [assign_schedules(run, s)['beta'] for s in range(6)] == [1., 1., .5, .5, 0., 0.]
    assert {assign_schedules(run, s)['lr'] for s in range(6)} == {.3}


def test_a_run_of_one_step(run_of):
    assert assign_schedules(run_of(limit=16, epochs=1, strategy='hcl', beta_end=0.), 0)['beta'] == 1.


# The loop

def naive(cfg, images, strategy=None):
    "Weights and losses of the loop that anybody would write."
    model, augment = make_model(cfg, images), Augment.for_images(images, cfg.data.augment_strength)
    optimizer = torch.optim.SGD(model.parameters(), lr=1., momentum=.9, weight_decay=cfg.optim.weight_decay)
    losses, step, steps = [], 0, len(images.x)//cfg.optim.batch_size
    for epoch in range(cfg.optim.epochs):
        torch.manual_seed(cfg.run.seed*1_000_003 + epoch + 1)
        for idx in torch.randperm(len(images.x))[:steps*cfg.optim.batch_size].split(cfg.optim.batch_size):
            for group in optimizer.param_groups: group['lr'] = lr_at(step, steps*cfg.optim.epochs, cfg.optim.lr, round(cfg.optim.warmup_epochs*steps))
            x = images.x[idx]
            z, hidden = model(augment(torch.cat([x, x])))
            loss = NTXentLoss(cfg.loss.temperature)(*z.chunk(2))
            model.zero_grad()
            loss.backward()
            if cfg.optim.clip_grad: nn.utils.clip_grad_norm_(model.parameters(), cfg.optim.clip_grad)
            optimizer.step()
            losses.append(loss.item())
            step += 1
    return model.state_dict(), losses


@pytest.mark.parametrize('fields', [{}, dict(clip_grad=.01), dict(limit=40, seed=3, augment_strength=.5), dict(weight_decay=.1, temperature=.2)], ids=str)
def test_two_epochs_by_hand(fields, run_of):
    "Seeds, order, both views in one batch, rates, decay, clipping: the same bits."
    run = run_of(optimizer='sgd', lr=.1, **fields)
    by_hand, losses = naive(run.cfg, run.images)
    ours = [loss.item() for epoch in range(2) for _, loss, _ in epoch_steps(run, epoch)]
    same(ours, losses)
    same(parameters(run), by_hand)


def test_clipped_step_has_the_asked_length(run_of):
    "The first step of SGD without decay is lr times the gradient."
    run = run_of(optimizer='sgd', lr=.1, lr_schedule='constant', warmup_epochs=0., weight_decay=0., clip_grad=.01)
    before = [p.detach().clone() for p in run.model.parameters()]
    next(epoch_steps(run, 0))
    moved = torch.cat([(p - q).detach().flatten() for p, q in zip(run.model.parameters(), before)]).norm()
    assert_close(moved.item(), .1*.01, rtol=1e-3, atol=0)


def test_steps_are_counted_over_epochs(run_of):
    run = run_of()
    assert run.steps == 3 and [s for e in range(2) for s, *_ in epoch_steps(run, e)] == list(range(6))
    assert [s for s, *_ in epoch_steps(run, 1, done=2)] == [5]


def test_statistics_on_logged_steps_only(run_of):
    logged = [set(values) for _, _, values in epoch_steps(run_of(log_every=2), 0)]
    assert logged[0] == logged[2] > logged[1] == {'lr'} and 'effective_negatives' in logged[0]


def test_order_of_batches(run_of):
    "A permutation, another one in each epoch and for each seed, the whole batches of it."
    run, other = run_of(limit=40), run_of(limit=40, seed=1)
    orders = [order_of(run, 0), order_of(run, 1), order_of(other, 0)]
    assert all(len(o) == 32 == len(set(o.tolist())) and set(o.tolist()) <= set(range(40)) for o in orders)
    assert not any(a.equal(b) for a, b in ((orders[0], orders[1]), (orders[0], orders[2]), (orders[1], orders[2])))
    same(order_of(run, 0), orders[0])


def test_processes_share_the_order_and_nothing_random(run_of):
    "Rank 0 draws what a single process would."
    run, orders, draws = run_of(), [], []
    for other in (run, *(on_rank(run, r, 3) for r in range(3))):
        orders.append(order_of(other, 1))
        draws.append(torch.rand(3).tolist())
    assert all(o.equal(orders[0]) for o in orders) and draws[0] == draws[1]
    assert len({tuple(d) for d in draws[1:]}) == 3
    order_of(on_rank(run, 1, 3), 0)
    assert torch.rand(3).tolist() not in draws # another epoch


def test_shares_of_a_batch(run_of):
    run, idx = run_of(), torch.arange(6)
    assert [share_of(on_rank(run, r, 3), idx).tolist() for r in range(3)] == [[0, 1], [2, 3], [4, 5]]


def test_the_loss_gets_what_it_asks_for(run_of, monkeypatch):
    "Embeddings of the two views, their hidden inputs, the labels of these images."
    run, calls = run_of(weight_decay=0.), []
    class Spy(nn.Module):
        def forward(self, z1, z2, **given):
            calls.append((z1, z2, given))
            return z1.sum()*0, {}
    run = dataclasses.replace(run, criterion=Spy())
    next(epoch_steps(run, 0))
    (z1, z2, given), idx = calls[0], order_of(run, 0)[:16]
    assert set(given) == {'hidden', 'true_labels', 'return_stats'} and z1.shape == z2.shape == (16, 128)
    same(given['true_labels'], run.images.y[idx])
    last = run.model.module.head.last
    with torch.no_grad(): # the weights have not moved: the gradient was 0
        assert_close(torch.cat([z1, z2]), last(torch.cat(given['hidden'])))


@pytest.mark.parametrize('fields', [dict(chunk_size=5), dict(gather_distributed=False)], ids=str)
def test_fields_that_reach_the_loss(fields, run_of):
    criterion = run_of(**fields).criterion
    assert {k: getattr(criterion, k) for k in ('chunk_size', 'gather_distributed')} == {'chunk_size': None, 'gather_distributed': True} | fields


def test_micro_batches_are_of_that_size(run_of, monkeypatch):
    sizes = []
    with pytest.warns(UserWarning, match='micro_batch=12'): run = run_of(micro_batch=12)
    run.model.register_forward_pre_hook(lambda m, x: sizes.append(len(x[0])))
    next(epoch_steps(run, 0))
    assert sizes == [12, 12, 8]*2


# Queue

def test_a_step_with_a_queue(run_of):
    "Second views through the slow copy as it was, into the queue after the loss; then the copy moves."
    run = run_of(queue_size=24, momentum=.75, strategy='hcl', lr=.05, warmup_epochs=0.)
    idx, old, calls = order_of(run, 0)[:16], {k: v.clone() for k, v in run.follower.state_dict().items()}, []
    same(old, parameters(run))
    real = run.criterion
    class Spy(nn.Module):
        def forward(self, z1, z2, **given):
            calls.append((z2, given, given['queue'].valid.item()))
            return real(z1, z2, **given)
    run = dataclasses.replace(run, criterion=Spy())
    first = dict(run.follower.named_parameters())
    start = {k: p.detach().clone() for k, p in first.items()}
    next(epoch_steps(run, 0))
    z2, given, filled = calls[0]
    assert filled == 0 and given['queue'] is run.queue
    same(given['sample_ids'], idx)
    assert run.queue.valid == 16 == run.queue.pointer
    assert_close(run.queue.z[:16], F.normalize(z2.detach()))
    assert_close(run.queue.square[:16], given['hidden'][1].detach().square().sum(1))
    names = ('labels', 'sample_ids', 'true_labels')
    same(run.queue.ids[:,:16], torch.stack([{'sample_ids': idx}.get(n, run.images.y[idx]) for n in names]))
    for name, p in run.model.module.named_parameters():
        assert_close(first[name].detach(), .75*start[name] + .25*p.detach())
    assert not torch.equal(next(iter(first.values())), next(iter(start.values())))


def test_keys_are_the_slow_copys(run_of):
    "No gradient into them, of second views only."
    run = run_of(queue_size=8)
    with torch.no_grad():
        for p in run.follower.parameters(): p.mul_(1.5)
    views = torch.rand(8, 1, 28, 28)
    z, hidden, _ = embed_with_keys(run, views)
    with torch.no_grad(): k, h = run.follower(views[4:])
    same(z[4:], k)
    same(hidden[4:], h)
    z[4:].sum().backward()
    assert all(p.grad is None for p in run.follower.parameters()) and all(p.grad is None or not p.grad.any() for p in run.model.parameters())


@pytest.mark.parametrize('precision,dtype', [('32-true', torch.float32), ('bf16-mixed', torch.bfloat16)])
def test_keys_have_the_precision_of_queries(precision, dtype, run_of):
    run, seen = run_of(queue_size=8, precision=precision), {}
    for name, m in (('keys', run.follower), ('queries', run.model.module)):
        m.head.last.register_forward_hook(lambda m, x, y, name=name: seen.update({name: y.dtype}))
    embed_with_keys(run, torch.rand(8, 1, 28, 28))
    assert seen == {'keys': dtype, 'queries': dtype}


# Its parts

def test_supervised_loss_and_accuracy():
    "The mean over both views; right where the largest logit is the label's."
    z1, z2, y = torch.tensor([[2., 0.], [0., 1.]]), torch.tensor([[0., 3.], [1., 2.]]), torch.tensor([0, 1])
    loss, stats = Supervised()(z1, z2, true_labels=y, return_stats=True)
    terms = [math.log(1 + math.exp(-2)), math.log(1 + math.exp(-1)), math.log(1 + math.exp(3)), math.log(1 + math.exp(-1))]
    assert_close(loss.item(), sum(terms)/4)
    assert stats['accuracy'] == .75


def test_models_of_a_seed(run_of):
    "Encoder first, so that it is the same under every head; sizes as asked."
    images = run_of().images
    model = lambda **fields: make_model(configs.run_of(**SMALL | fields), images)
    a, b, c = model(), model(head_hidden=64, head_out=32), model(strategy='supervised')
    for other in (b, c): same(a.encoder.state_dict(), other.encoder.state_dict())
    assert b.head.first[0].weight.shape == (64, 512) and b.head.last.weight.shape == (32, 64)
    assert c.head.weight.shape == (10, 512) and isinstance(c.head, Classifier)
    h = torch.randn(2, 512)
    same(c.head(h)[1], h)
    assert not torch.equal(next(model(seed=1).parameters()), next(a.parameters()))
    same(a.state_dict(), model().state_dict())


def test_what_is_set_up(run_of):
    run = run_of(limit=47, strategy='hcl', temperature_end=.2, optimizer='sgd')
    assert run.steps == 2 and run.start == {'temperature': .5} and run.queue is None is run.follower
    assert type(run.optimizer).__mro__[2].__name__ == 'SGD' or isinstance(run.optimizer, torch.optim.SGD)
    queue = run_of(queue_size=9, head_out=8).queue
    assert queue.z.shape == (9, 8) and queue.stores_hidden


@pytest.mark.parametrize('amx,bf16,expected', [(False, False, '32-true'), (True, False, 'bf16-mixed'), (False, True, 'bf16-mixed')])
def test_precision_of_a_cpu(amx, bf16, expected, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, 'get_cpu_capability', lambda: 'AVX512')
    monkeypatch.setattr(torch.cpu, '_is_amx_tile_supported', lambda: amx, raising=False)
    monkeypatch.setattr(torch.cpu, '_is_avx512_bf16_supported', lambda: bf16, raising=False)
    assert auto_precision(torch.device('cpu')) == expected and auto_precision(torch.device('mps')) == '32-true'
    assert resolve(configs.run_of(**SMALL | {'precision': 'auto'})).run.precision == expected
    assert resolve(configs.run_of(**SMALL | {'precision': 'bf16-mixed'})).run.precision == 'bf16-mixed'
    monkeypatch.setattr(torch.backends.cpu, 'get_cpu_capability', lambda: 'DEFAULT')
    assert auto_precision(torch.device('cpu')) == '32-true'


def test_held_out_images(run_of):
    seen, held = split_images(configs.run_of(**SMALL, validation=20))
    assert len(seen) == 48 and held.y.bincount().tolist() == [2]*10
    assert not {x.numpy().tobytes() for x in seen.x} & {x.numpy().tobytes() for x in held.x}


def test_a_line_of_the_log(run_of, tmp_path, monkeypatch):
    clock, bar = iter([10., 12., 13.]), types.SimpleNamespace(n=4, set_postfix_str=lambda text: told.append(text))
    monkeypatch.setattr(T.time, 'perf_counter', lambda: next(clock))
    log, told, run = Log(tmp_path/'log.jsonl', bar), [], run_of()
    log(run, 5, 1.5, {'lr': .1, 'clamped_fraction': 0., 'hardness': float('nan')}) # two steps of 16 images in 2 s
    log(run, 8, 1.25, {'lr': .2, 'effective_negatives': float('nan')})
    assert [json.loads(l) for l in (tmp_path/'log.jsonl').read_text().splitlines()] == [
        {'step': 5, 'epoch': 1, 'loss': 1.5, 'images_per_s': 16, 'lr': .1, 'clamped_fraction': 0., 'hardness': None},
        {'step': 8, 'epoch': 2, 'loss': 1.25, 'images_per_s': 48, 'lr': .2, 'effective_negatives': None}]
    assert told == ['loss 1.5, img/s 16, clamped 0', 'loss 1.25, img/s 48']


@pytest.mark.parametrize('losses,first', [((1., math.nan, 2., math.inf), 1), ((math.inf, 1.), 0), ((-math.inf,), 0), ((1., 2.), -1)], ids=str)
def test_the_first_bad_step(losses, first):
    bad = FirstBad(torch.device('cpu'))
    for step, loss in enumerate(losses): bad.see(step, torch.tensor(loss))
    assert bad.step == first


@pytest.mark.parametrize('save_every,saved', [(None, [(1, 0), (2, 0)]), (2, [(0, 2), (1, 0), (1, 1), (2, 0)]), (3, [(1, 0), (2, 0)])])
def test_when_it_saves_and_logs(save_every, saved, tmp_path, monkeypatch):
    "Six steps in two epochs; the state that is returned is the last one saved."
    states, real = [], T.save_checkpoint
    monkeypatch.setattr(T, 'save_checkpoint', lambda path, run, **state: states.append(state) or real(path, run, **state))
    result = train(configs.run_of(**SMALL | {'log_every': 4}, save_every=save_every), tmp_path, lambda run: {'steps_of': run.steps}, progress=False)
    assert [(s['epoch'], s['done']) for s in states] == saved and [s['seconds'] for s in states] == sorted(s['seconds'] for s in states)
    assert [json.loads(l)['step'] for l in (tmp_path/'log.jsonl').read_text().splitlines()] == [0, 4]
    assert (result['steps'], result['steps_of'], result['loss'], result['seed'], result['strategy']) == (6, 3, states[-1]['loss'], 0, 'simclr')
    assert result == json.loads((tmp_path/'result.json').read_text())


def test_room_for_three_checkpoints(run_of, tmp_path, monkeypatch):
    run = run_of(queue_size=10)
    size = lambda state: sum(x.numel()*x.element_size() for x in state.values())
    one = 3*size(run.model.state_dict()) + size(run.queue.state_dict()) + size(run.follower.state_dict())
    for there, files in enumerate(([], ['checkpoint.pt'], ['checkpoint_before.pt'])):
        for name in files: (tmp_path/name).touch()
        need = (3 - there)*one + 2**20
        for free in (need, need-1):
            monkeypatch.setattr(T.shutil, 'disk_usage', lambda path: types.SimpleNamespace(free=free))
            if free == need: T.require_space(run, tmp_path)
            else:
                with pytest.raises(OSError, match='make room'): T.require_space(run, tmp_path)


def asked_for(run, out, monkeypatch):
    "How many bytes a run asks for."
    monkeypatch.setattr(T.shutil, 'disk_usage', lambda path: types.SimpleNamespace(free=0))
    with pytest.raises(OSError) as e: T.require_space(run, out)
    return float(re.search(r'need (\d+) MB', str(e.value))[1])*2**20


@pytest.mark.parametrize('fields', ({}, {'queue_size': 32}, {'strategy': 'glofnd'}), ids=str)
def test_a_checkpoint_is_not_larger_than_was_asked_for(fields, run_of, tmp_path, monkeypatch):
    run = run_of(**fields)
    for _ in epoch_steps(run, 0): pass
    T.save_checkpoint(tmp_path/'c.pt', run, epoch=1, seconds=0., loss=0.)
    size, asked = (tmp_path/'c.pt').stat().st_size, asked_for(run, tmp_path, monkeypatch)
    assert 3*size <= asked + 2**19 and asked <= 3*size + 3*2**20


def test_room_for_a_graph_that_is_not_there_yet(run_of, tmp_path, monkeypatch):
    "A million images with a hundred neighbours each are 400 MB in every checkpoint."
    run = run_of(strategy='batchsampler')
    before = asked_for(run, tmp_path, monkeypatch)
    run.sampler.n = 10**6
    assert abs(asked_for(run, tmp_path, monkeypatch) - before - 12e8) < 2**21
    run.sampler.graph = torch.zeros(10**6, 100, dtype=torch.int32) # there, and counted once
    assert abs(asked_for(run, tmp_path, monkeypatch) - before - 12e8) < 2**21


def test_a_run_without_steps_needs_no_room(tmp_path, monkeypatch):
    "All that it lacks is its result, or its scores."
    cfg = configs.run_of(**SMALL)
    train(cfg, tmp_path, progress=False)
    (tmp_path/'result.json').unlink()
    monkeypatch.setattr(T.shutil, 'disk_usage', lambda path: types.SimpleNamespace(free=0))
    assert train(cfg, tmp_path, progress=False)['steps'] == 6
    with pytest.raises(OSError, match='make room'): train(cfg, tmp_path/'other', progress=False)


def test_the_accelerator_that_is_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(torch.backends.mps, 'is_available', lambda: True)
    assert [available(a) for a in ('cuda', 'mps', 'cpu', 'auto', None)] == ['auto', 'mps', 'cpu', 'auto', 'auto']


def test_a_loss_with_parameters_is_refused(monkeypatch):
    "The loop's optimiser holds the encoder only: a learned temperature would never learn."
    from unremix import LearnedTemperature, NTXentLoss
    from unremix.run_parts import make_criterion
    from unremix.hard_negatives import Uniform
    from unremix.registry import STRATEGIES, Strategy

    def learns(cfg): return NTXentLoss(LearnedTemperature(0.5))
    monkeypatch.setitem(STRATEGIES, 'learns', Strategy(Uniform, '1', 'a test', None, learns))
    with pytest.raises(ValueError, match='the loss of a strategy must be without parameters'):
        make_criterion(configs.run_of(strategy='learns'))
