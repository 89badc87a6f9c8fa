"One step by hand, and what a frozen encoder is scored on: tiny exact cases, nothing that is trained."
import dataclasses, math
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close
from configs import run_of
from unremix import evaluate as scoring, features
from unremix.config import criterion_of, read
from unremix.config_groups import OPTIMIZERS, RENAMED
from unremix.contrastive_loss import ContrastiveLoss
from unremix.data import load_dataset
from unremix.devices import FirstBad
from unremix.image_sets import Images
from unremix.info_nce import InfoNCE
from unremix.losses import HCLLoss, NTXentLoss
from unremix.run_folder import split_images
from unremix.run_parts import make_criterion, make_model, set_up
from unremix.selection import Placebo
from unremix.steps import assign_schedules, epoch_steps, lr_at, order_of, scheduled
from unremix.steps import share_of

SMALL = dict(limit=40, batch_size=8, epochs=2, precision='32-true', head_hidden=6, head_out=4, accelerator='cpu', channels_last=False, log_every=1, seed=3)

def config(**fields): return run_of(**SMALL | fields)

# schedules and optimisers

def test_learning_rate_by_the_formula():
    assert [lr_at(s, 12, .4, 4) for s in range(4)] == pytest.approx([.1, .2, .3, .4])
    assert [lr_at(s, 12, .4, 4) for s in (4, 8, 11)] == pytest.approx([.4, .2, .2*(1 + math.cos(math.pi*7/8))])
    assert [lr_at(s, 12, .4, 4, 'constant') for s in (0, 3, 4, 11)] == pytest.approx([.1, .4, .4, .4])
    assert lr_at(0, 12, .4) == .4

def test_schedule_by_the_formula():
    assert [scheduled(1., 3., p) for p in (0, .25, 1)] == [1, 1.5, 3] and scheduled(1., None, .7) == 1
    assert [scheduled(0., 1., i/8, 2) for i in range(9)] == [0, 0, 0, .5, .5, .5, 1, 1, 1]

@pytest.mark.parametrize('name', ('temperature', 'beta', 'tau_plus'))
def test_schedules_begin_and_end_where_they_should(name):
    run = set_up(config(strategy='hcl', beta=2., temperature=.4, tau_plus=.2, lr=.3, warmup_epochs=.4, **{f'{name}_end': .7}))
    start = read(run.criterion, name)
    assert start == dict(temperature=.4, beta=2., tau_plus=.2)[name]
    seen = []
    for step in range(10):
        now = assign_schedules(run, step)
        assert run.optimizer.param_groups[0]['lr'] == now['lr'] == pytest.approx(lr_at(step, 10, .3, 2))
        seen.append(read(run.criterion, name))
        assert now[name] == seen[-1]
    assert seen[0] == start and seen[-1] == .7 and seen[3] == pytest.approx(start + (.7-start)/3)

def by_hand(name, w, grads, lr, decay):
    m, v = torch.zeros_like(w), torch.zeros_like(w)
    for t, g in enumerate(grads, 1):
        if name != 'adamw': g = g + decay*w
        if name == 'sgd':
            m = .9*m + g
            w = w - lr*m
            continue
        m, v = .9*m + .1*g, .999*v + .001*g*g
        if name == 'adamw': w = w*(1 - lr*decay)
        w = w - lr*(m/(1 - .9**t))/((v/(1 - .999**t)).sqrt() + 1e-8)
    return w

@pytest.mark.parametrize('name', ('sgd', 'adam', 'adamw'))
def test_optimizer_by_the_formula(name):
    w = nn.Parameter(torch.tensor([1., -2]))
    optimizer = OPTIMIZERS[name]([w], config(lr=.1, weight_decay=.3, optimizer=name).optim)
    grads = torch.tensor([[1., .5], [-.2, .1], [.3, .3]])
    wanted = by_hand(name, w.detach().clone(), grads, .1, .3)
    for g in grads: w.grad = g.clone(); optimizer.step()
    assert_close(w.detach(), wanted)

# a step

class Spy(nn.Module):
    "Remembers how a loss was called."
    def __init__(self, loss): super().__init__(); self.loss, self.calls = loss, []
    def forward(self, *args, **kwargs): self.calls.append((args, kwargs)); return self.loss(*args, **kwargs)

def hand_step(run, twin, loss_of, clip=None):
    "Gradient of the first step, made without `epoch_steps`."
    batch = order_of(run, 0)[:run.cfg.optim.batch_size]
    x = run.images.x[batch]
    z, hidden = twin(run.augment(torch.cat([x, x])))
    loss = loss_of(*z.chunk(2), hidden.chunk(2))
    grads = torch.autograd.grad(loss, list(twin.parameters()), allow_unused=True)
    norm = torch.stack([g.norm() for g in grads if g is not None]).norm()
    factor = 1. if clip is None or norm <= clip else clip/norm
    return loss.detach(), batch, [None if g is None else factor*g for g in grads]

@pytest.mark.parametrize('fields', (dict(), dict(clip_grad=.01), dict(clip_grad=1e6), dict(chunk_size=3), dict(strategy='hcl', tau_plus=.05, beta=3., detach_weights=True)), ids=str)
def test_a_step_by_hand(fields):
    run = set_up(config(optimizer='sgd', lr=.1, weight_decay=0., warmup_epochs=1., **fields))
    twin = deepcopy(run.model.module)
    assert run.model.training
    criterion = HCLLoss(.5, .05, 3., detach_weights=True) if 'strategy' in fields else NTXentLoss(.5)
    loss, batch, grads = hand_step(run, twin, lambda a, b, h: criterion(a, b), fields.get('clip_grad'))
    step, found, values = next(epoch_steps(run, 0))
    assert step == 0 and values['lr'] == pytest.approx(.1/5)
    assert_close(found, loss)
    for p, q, g in zip(run.model.module.parameters(), twin.parameters(), grads): assert_close(p, q if g is None else q - .02*g, rtol=1e-4, atol=1e-6)
    assert not run.model.training or all(p.grad is None or not p.grad.any() for p in run.model.parameters())

def test_what_a_step_tells_the_loss():
    run = set_up(config(log_every=2))
    spy = run.criterion = Spy(run.criterion)
    steps = list(epoch_steps(run, 1))
    assert [s for s, _, _ in steps] == list(range(5, 10))
    assert [kwargs['return_stats'] for _, kwargs in spy.calls] == [False, True, False, True, False]
    assert ['positive_similarity' in values for _, _, values in steps] == [False, True, False, True, False]
    seen = torch.cat([kwargs['true_labels'] for _, kwargs in spy.calls])
    assert_close(seen, run.images.y[order_of(run, 1)])
    for (z1, z2), kwargs in spy.calls: assert z1.shape == z2.shape == (8, 4) and [h.shape for h in kwargs['hidden']] == [(8, 6)]*2 and not torch.equal(z1, z2)

def test_steps_go_on_where_they_stopped():
    run = set_up(config())
    assert [s for s, _, _ in epoch_steps(run, 1, done=3)] == [8, 9]

def test_orders_of_epochs_seeds_and_processes():
    run = set_up(config())
    first, second, other = order_of(run, 0), order_of(run, 1), order_of(set_up(config(seed=4)), 0)
    assert sorted(first.tolist()) == list(range(40)) == sorted(second.tolist())
    assert not first.equal(second) and not first.equal(other) and first.equal(order_of(run, 0))
    drawn = []
    for rank in range(3):
        fabric = type('Fabric', (), dict(global_rank=rank, world_size=3))()
        mine = dataclasses.replace(run, fabric=fabric)
        assert order_of(mine, 0).equal(first) # all processes share a batch …
        drawn.append(torch.rand(1).item())    # … and draw views of their own
        assert share_of(mine, torch.arange(9)).tolist() == [3*rank, 3*rank+1, 3*rank+2]
    assert len(set(drawn)) == 3

def test_incomplete_batches_are_dropped():
    run = set_up(config(limit=43))
    assert run.steps == 5 and len(order_of(run, 0)) == 40

@pytest.mark.parametrize('precision', ('32-true', 'bf16-mixed'))
def test_keys_of_the_momentum_encoder(precision):
    run = set_up(config(queue_size=12, momentum=.75, precision=precision, optimizer='sgd', lr=.1, warmup_epochs=0.))
    spy = run.criterion = Spy(run.criterion)
    before, seen = [p.detach().clone() for p in run.follower.parameters()], []
    def watch(module, args, out): seen.append((torch.is_autocast_enabled('cpu'), torch.is_grad_enabled(), args[0], [o.detach().float().clone() for o in out]))
    run.follower.register_forward_hook(watch)
    batch = order_of(run, 0)[:8]
    second = run.augment(run.images.x[batch].repeat(2, 1, 1, 1)).chunk(2)[1]
    next(epoch_steps(run, 0))
    autocast, gradient, shown, (key, hidden) = seen[0]
    assert shown.equal(second)
    assert autocast == (precision != '32-true') and not gradient
    for p, q, e in zip(run.follower.parameters(), before, run.model.module.parameters()): assert_close(p.detach(), .75*q + .25*e.detach())
    assert any(not torch.equal(p, q) for p, q in zip(run.follower.parameters(), before))
    (_, z2), known = spy.calls[0]
    assert_close(z2.float(), key, rtol=1e-2, atol=1e-2)
    assert known['queue'] is run.queue and known['sample_ids'].equal(batch)
    assert_close(run.queue.z[:8], F.normalize(key), rtol=1e-2, atol=1e-2)
    assert_close(run.queue.square[:8], hidden.square().sum(1), rtol=1e-2, atol=1e-2)
    y = run.images.y[batch]
    assert run.queue.ids[:,:8].tolist() == [y.tolist(), batch.tolist(), y.tolist()] and run.queue.valid == 8

def test_micro_batches_give_the_same_step():
    def after(**fields):
        run = set_up(config(optimizer='sgd', lr=.1, warmup_epochs=0., **fields))
        for module in run.model.modules(): # statistics of a part are not those of the whole
            if isinstance(module, nn.modules.batchnorm._BatchNorm): module.eval()
        loss = next(epoch_steps(run, 0))[1]
        return [loss, *(p.detach() for p in run.model.parameters())]
    assert_close(after(micro_batch=4), after(), rtol=1e-3, atol=1e-5)

# what a configuration becomes

def test_first_weights_depend_on_the_seed_alone():
    def weights(**fields):
        cfg = config(**fields)
        return torch.cat([p.flatten() for p in make_model(cfg, IMAGES).encoder.parameters()])
    assert weights().equal(weights(strategy='unremix')) and weights().equal(weights(strategy='supervised'))
    assert not weights().equal(weights(seed=4))

IMAGES = Images(torch.randint(0, 256, (12, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 3, ('a', 'b', 'c'), 'digits')

def test_networks_of_a_configuration():
    model = make_model(config(), IMAGES)
    assert model.head.first[0].weight.shape == (6, 512) and model.head.last.weight.shape == (4, 6)
    head = make_model(config(strategy='supervised'), IMAGES).head
    h = torch.randn(2, 512)
    logits, hidden = head(h)
    assert logits.shape == (2, 3) and hidden is h

KNOBS = dict(temperature=.3, tau_plus=.07, beta=1.9, mix=(.2, .3, .5), kappa=(.4, .6), uncertainty='entropy', uncertainty_temperature=.8, distance='euclidean',
             normalize='softmax', pool='linear', select='top', k_keep=3, detach_weights=True, chunk_size=5, gather_distributed=False)

@pytest.mark.parametrize('strategy, knobs', [('simclr', 'temperature'), ('debiased', 'temperature tau_plus'), ('hcl', 'temperature tau_plus beta detach_weights'),
    ('oracle', 'temperature beta detach_weights'), *((s, ' '.join(list(KNOBS)[:13])) for s in ('unremix', 'placebo-u', 'placebo-ur'))])
def test_knobs_reach_the_loss(strategy, knobs):
    fields = {k: KNOBS[k] for k in (*knobs.split(), 'chunk_size', 'gather_distributed')}
    criterion = make_criterion(config(strategy=strategy, **fields))
    homes = {'temperature': criterion, 'chunk_size': criterion, 'gather_distributed': criterion, 'tau_plus': criterion.loss}
    for name, value in fields.items():
        home = homes.get(name, criterion.weights)
        assert getattr(home, RENAMED.get(name, name)) == value, name
    assert make_criterion(config(strategy=strategy)).gather_distributed is True
    swaps = {'placebo-u': 'u', 'placebo-ur': 'ur'}
    assert getattr(criterion.weights, 'swap', None) == swaps.get(strategy)

def two_views():
    generator = torch.Generator().manual_seed(0)
    z1, z2 = torch.randn(2, 6, 4, generator=generator).unbind()
    return z1, z2, torch.tensor([0, 1, 0, 1, 2, -1])

def test_the_oracle_reads_the_labels():
    z1, z2, y = two_views()
    fields = dict(temperature=.3, beta=2., chunk_size=5)
    criterion = make_criterion(config(strategy='oracle', **fields))
    loss, stats = criterion(z1, z2, true_labels=y, return_stats=True)
    assert_close(loss, HCLLoss(.3, 0., 2.)(z1, z2, labels=y))
    assert stats['false_negative_mass'] == 0 and 'false_negative_rate' in stats
    usual = make_criterion(config(strategy='oracle'))
    assert (usual.temperature, usual.beta, usual.tau_plus) == (.5, 1., 0.)
    with pytest.raises(ValueError, match='true_labels must be given'):
        criterion(z1, z2)

@pytest.mark.parametrize('swap', ('u', 'ur'))
def test_placebos_are_asked_about_others(swap):
    z1, z2, y = two_views()
    knobs = dict(mix=(.2, .3, .5), beta=1.9, kappa=(.4, .6), uncertainty='entropy')
    fields = dict(temperature=.3, tau_plus=.07)
    criterion = make_criterion(config(strategy=f'placebo-{swap}', **knobs, **fields))
    weights, loss = Placebo(**knobs, swap=swap), InfoNCE(.07)
    by_hand = ContrastiveLoss(weights, loss=loss, temperature=.3)
    assert_close(criterion(z1, z2, true_labels=y), by_hand(z1, z2))

def test_unset_knobs_are_the_losses_own():
    defaults = {s: make_criterion(config(strategy=s)) for s in ('debiased', 'hcl', 'unremix')}
    assert [read(c, 'tau_plus') for c in defaults.values()] == [.1, .1, 0.]
    assert (defaults['hcl'].weights.detach, defaults['unremix'].weights.detach) == (False, True)

def test_supervised_loss_is_the_cross_entropy_of_both_views():
    z1, z2, y = torch.tensor([[2., 0], [0, 1]]), torch.tensor([[0., 3], [0, 1]]), torch.tensor([0, 1])
    loss, stats = criterion_of(run_of(strategy='supervised'))(z1, z2, hidden=None, true_labels=y, return_stats=True)
    wanted = [math.log(1 + math.exp(-d)) for d in (2., 1., -3., 1.)]
    assert_close(loss.item(), sum(wanted)/4) and stats['accuracy'] == .75

def test_held_out_images_are_not_trained_on():
    whole = split_images(config(limit=None))[0]
    rest, held = split_images(config(limit=50, validation=100))
    assert len(rest) == 50 and len(held) == 100 and rest.y.bincount().tolist() == [5]*10 == (held.y.bincount()//2).tolist()
    pixels = {x.numpy().tobytes() for x in rest.x}
    held_pixels = {x.numpy().tobytes() for x in held.x}
    assert not pixels & held_pixels and pixels | held_pixels <= {x.numpy().tobytes() for x in whole.x}

def test_first_bad_step_is_kept():
    bad = FirstBad(torch.device('cpu'))
    for step, loss in enumerate((1., math.inf, 2., math.nan)): bad.see(step, torch.tensor(loss))
    assert bad.step == 1

def test_too_few_images_for_a_batch():
    with pytest.raises(ValueError, match='batch_size must be at most the 40'): set_up(config(batch_size=64))

# scores

def test_features_of_a_frozen_encoder():
    "In evaluation mode, in parts; the mode afterwards is that before."
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(784, 5), nn.BatchNorm1d(5), nn.Dropout(.5))
    encoder[2].running_mean.fill_(.3)
    prepare = lambda x: x.float()/255
    for mode in (True, False):
        encoder.train(mode)
        h = scoring.embed(encoder, IMAGES.x, prepare, batch_size=5)
        assert encoder.training == mode == encoder[3].training and not h.requires_grad
        encoder.eval()
        assert_close(h, encoder(prepare(IMAGES.x)).detach())

def test_features_at_the_precision_of_the_training():
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(784, 5)).eval()
    seen = {}
    def watch(name):
        def prepare(x): seen[name] = torch.get_autocast_dtype('cpu') if torch.is_autocast_enabled('cpu') else None; return x.float()/255
        return prepare
    found = {p: scoring.embed(encoder, IMAGES.x, watch(p), p) for p in ('32-true', 'bf16-mixed', '16-mixed')}
    assert seen == {'32-true': None, 'bf16-mixed': torch.bfloat16, '16-mixed': torch.float16} and all(h.dtype == torch.float32 for h in found.values())

def test_an_encoder_that_changes_is_told():
    class Changing(nn.Module):
        def __init__(self): super().__init__(); self.register_buffer('seen', torch.zeros(())); self.fixed = nn.Linear(1, 1)
        def forward(self, x): self.seen += 1; return x.flatten(1)
    with pytest.raises(RuntimeError, match='changed'): scoring.embed(Changing(), IMAGES.x, lambda x: x.float())

def test_standardised_by_the_training_features():
    train, test = torch.tensor([[1., 7], [3, 7], [5, 7]]), torch.tensor([[5., 9]])
    a, b = features.standardize(train, test)
    assert_close(a, torch.tensor([[-1., 0], [0, 0], [1, 0]]))
    assert_close(b, torch.tensor([[1., 0]]))

class Probe:
    "Remembers what it is fitted on; its score is its penalty."
    def __init__(self, seen, c, x, y): self.seen, self.c, seen[c] = seen, c, dict(fit=x[:,0], classes=y)
    def score(self, x, y): self.seen[self.c]['held'] = x[:,0]; return -abs(self.c - 3)

def test_penalty_is_chosen_on_other_images_than_fitted():
    x, y, seen = torch.arange(50.)[:,None].numpy(), (torch.arange(50) % 5).numpy(), {}
    assert features.choose_penalty(x, y, (1, 3, 9), lambda c, a, b: Probe(seen, c, a, b)) == 3
    for found in seen.values():
        fit, held = set(found['fit'].tolist()), set(found['held'].tolist())
        assert len(fit) == 20 and len(held) == 10 and not fit & held
        assert sorted(v % 5 for v in held) == sorted(list(range(5))*2) # each class its share

def test_probe_uses_what_was_chosen(monkeypatch):
    from sklearn.linear_model import LogisticRegression
    g = torch.Generator().manual_seed(0)
    train, y, test = torch.randn(30, 4, generator=g), torch.arange(30) % 3, torch.randn(40, 4, generator=g)
    a, b = features.standardize(train, test)
    def wanted(c): return torch.from_numpy(LogisticRegression(C=c, tol=1e-3).fit(a.numpy(), y.numpy()).predict(b.numpy()))
    assert not wanted(1e-4).equal(wanted(50.))
    for chosen in (1e-4, 50.):
        monkeypatch.setattr(features, 'choose_penalty', lambda *args: chosen)
        assert features.linear_probe(train, y, test, (1e-4, 50.)).equal(wanted(chosen))
    monkeypatch.setattr(features, 'too_few', lambda y: True)
    assert features.linear_probe(train, y, test, (1e-4, 50.)).equal(wanted(1e-4))

def test_too_few_images_to_choose():
    assert features.too_few(torch.tensor([0]*9 + [1])) and not features.too_few(torch.tensor([0]*8 + [1]*2))
    assert features.too_few(torch.arange(4).repeat(2)) and not features.too_few(torch.arange(4).repeat(5))

COSINES = (.9, .8, .7, -.5)
TRAIN, TESTED = torch.tensor([[c, math.sqrt(1-c*c)] for c in COSINES])*torch.tensor([[1.], [9], [2], [30]]), torch.tensor([[2., 0], [-1, 0]])
CLASSES = torch.tensor([2, 0, 0, 1])

def test_neighbours_by_hand():
    "By cosine, whatever the lengths; the two of class 0 outvote the nearest unless weights are steep."
    cos, idx = features.nearest(TRAIN, TESTED, 3, block=1)
    assert_close(cos[0], torch.tensor([.9, .8, .7])) and idx[0].tolist() == [0, 1, 2] and idx[1,0] == 3
    assert features.knn(TRAIN, CLASSES, TESTED, k=3).tolist() == [0, 0]
    assert features.knn(TRAIN, CLASSES, TESTED, k=1).tolist() == [2, 1]
    assert features.knn(TRAIN, CLASSES, TESTED, k=3, temperature=.1).tolist() == [2, 1] # e⁹ > e⁸ + e⁷
    assert features.knn(TRAIN, CLASSES, TESTED, k=3, temperature=.3)[0] == 0 # e³ < e^2.67 + e^2.33
    near = features.nearest(TRAIN, TESTED, 4) # once for several votes
    assert [features.vote(*near, CLASSES, k).tolist() for k in (1, 3)] == [[2, 1], [0, 0]]
    assert features.knn(TRAIN, CLASSES, TESTED, k=99).tolist() == [0, 0] and scoring.VOTES == {'knn10': (10, None), 'knn200': (200, .1)}

def test_alignment_and_uniformity_by_hand():
    a, b = torch.tensor([[2., 0], [0, 5]]), torch.tensor([[0., 1], [0, 3]])
    assert features.alignment(a, b) == pytest.approx(1.)
    corners = torch.tensor([[1., 0], [0, 2], [-3, 0]])
    assert features.uniformity(corners) == pytest.approx(math.log((2*math.exp(-4) + math.exp(-8))/3), rel=1e-5)
    assert features.uniformity(corners, 1.) == pytest.approx(math.log((2*math.exp(-2) + math.exp(-4))/3), rel=1e-5)

def test_effective_rank_by_hand():
    spread = torch.tensor([[1., 0, 0], [-1, 0, 0], [0, 3, 0], [0, -3, 0]])
    p = torch.tensor([.25, .75])
    assert features.effective_rank(spread + 7) == pytest.approx(math.exp(-(p*p.log()).sum()), rel=1e-6)
    assert features.effective_rank(torch.ones(3, 2)) == pytest.approx(1)

def test_quality_is_a_mean_over_whole_batches():
    g = torch.Generator().manual_seed(0)
    z1, z2, h1, h2 = (torch.randn(10, 3, generator=g) for _ in range(4))
    y, criterion = torch.arange(10) % 2, Spy(HCLLoss(.5, .1))
    found = scoring.negative_quality(z1, z2, (h1, h2), y, criterion, 4)
    parts = [HCLLoss(.5, .1)(z1[s], z2[s], true_labels=y[s], return_stats=True)[1] for s in (slice(0, 4), slice(4, 8))]
    assert found == pytest.approx({k: (parts[0][k] + parts[1][k]).item()/2 for k in scoring.QUALITY})
    assert len(criterion.calls) == 2 and torch.equal(criterion.calls[1][1]['hidden'][1], h2[4:8])
    assert scoring.negative_quality(z1, z2, (h1, h2), y, HCLLoss(.5, .1), 99) == pytest.approx({k: v.item() for k, v in HCLLoss(.5, .1)(z1, z2, true_labels=y, return_stats=True)[1].items() if k in scoring.QUALITY})

def test_scores_of_features(monkeypatch):
    monkeypatch.setattr(scoring, 'linear_probe', lambda *args: torch.tensor([2, 0]))
    found = scoring.feature_scores(TRAIN, CLASSES, TESTED, torch.tensor([2, 1]))
    assert found['linear'] == .5 and found['correct'] == '10'
    assert found['knn10'] == 0 and found['knn200'] == 1 # the weighted vote finds the nearest
    assert found['effective_rank'] == features.effective_rank(TESTED)

def test_scored_images_keep_their_labels():
    cfg = config(limit=30)
    test = scoring.test_images(cfg, 'cpu')
    plain = load_dataset('fashion_mini', 'test', None, 30)
    known = {x.numpy().tobytes(): y for x, y in zip(plain.x, plain.y.tolist())}
    assert [known[x.numpy().tobytes()] for x in test.x] == test.y.tolist() and test.y.tolist() != plain.y.tolist()
    assert scoring.test_images(cfg, 'cpu').x.equal(test.x)
    cfg = config(limit=30, validation=20)
    held = split_images(cfg)[1]
    assert sorted(x.numpy().tobytes() for x in scoring.test_images(cfg, 'cpu').x) == sorted(x.numpy().tobytes() for x in held.x)

def test_what_is_scored(monkeypatch):
    "The probe sees unaugmented images of both parts, alignment two views and uniformity the features of the test images."
    run = set_up(config(validation=20, batch_size=10, uncertainty='norm', strategy='unremix'))
    seen, embedded = {}, []
    real = scoring.embed
    def embed(encoder, images, prepare, *rest):
        embedded.append((images, prepare, rest))
        return real(encoder, images, prepare, *rest)
    monkeypatch.setattr(scoring, 'embed', embed)
    monkeypatch.setattr(scoring, 'feature_scores', lambda a, y, b, u: seen.update(train=a, y=y, test=b, u=u) or {'linear': 1.})
    monkeypatch.setattr(scoring, 'uniformity', lambda h: seen.update(uniform=h) or 0.)
    monkeypatch.setattr(scoring, 'alignment', lambda a, b: seen.update(views=(a, b)) or 0.)
    def quality(z1, z2, hidden, y, criterion, batch_size, ids):
        seen.update(z=z1, hidden=hidden, quality=(y, criterion, batch_size))
        return dict.fromkeys(scoring.QUALITY, 0.)
    monkeypatch.setattr(scoring, 'negative_quality', quality)
    mode = run.model.training
    run.model.head.train()
    scores = scoring.score(run)
    held = scoring.test_images(run.cfg, 'cpu')
    assert [images.shape[0] for images, _, _ in embedded] == [40, 20, 20, 20]
    assert embedded[0][1] == run.views.plain == embedded[1][1]
    assert [(p.func, p.keywords['which']) for _, p, _ in embedded[2:]] == [(run.views.one, 0), (run.views.one, 1)]
    assert all(rest[0] == '32-true' for _, _, rest in embedded)
    assert seen['y'].equal(run.images.y) and seen['u'].equal(held.y) and embedded[1][0].equal(held.x)
    assert seen['uniform'] is seen['test'] and not seen['views'][0].equal(seen['views'][1])
    z, hidden = run.model.head.eval()(seen['views'][0])
    assert_close(seen['z'], z.detach()); assert_close(seen['hidden'][0], hidden.detach())
    assert seen['quality'][0].equal(held.y) and seen['quality'][1] is run.criterion and seen['quality'][2] == 10
    again = seen['views'][0]
    scoring.score(run)
    assert seen['views'][0].equal(again) # the views that are scored are the same every time
    assert set(scores) == {'linear', 'alignment', 'uniformity', *scoring.QUALITY}
