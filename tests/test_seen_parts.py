"Queues, processes, selection and encoders in tiny exact cases; several processes are threads that meet at a barrier."
import math, threading

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close
from unremix import losses, queues, ranks, selection
from unremix.importance import Knobs, UnReMixLoss, mixture, opinions
from unremix.losses import NTXentLoss
from unremix.models import Model, ProjectionHead, Residual, conv, make_encoder
from unremix.pairs import from_views, pair_views
from unremix.queues import KeyQueue, follow, from_queue, with_queue
from unremix.uncertainty import Indicator
from unremix.weights import HCLLoss, hcl

def draw(*shape, seed=0): return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))

B, D, T = 4, 3, .4
Z1, Z2, MORE = draw(B, D), draw(B, D, seed=1), draw(6, D, seed=2)
H1, H2 = draw(B, 5, seed=3), draw(B, 5, seed=4)
CLASSES = torch.tensor([0, 0, 1, 1])

# processes

class Threads:
    "A process group whose processes are threads."
    def __init__(self, size):
        self.size, self.local = size, threading.local()
        self.sent, self.barrier = [None]*size, threading.Barrier(size, timeout=20)

    def rank_and_size(self): return self.local.rank, self.size

    def all_gather(self, x):
        self.sent[self.local.rank] = x.detach()
        self.barrier.wait()
        found = torch.stack(self.sent)
        self.barrier.wait()
        return found

    def all_sum(self, x): return self.all_gather(x).sum(0)

    def run(self, job):
        "What `job(rank)` gives on each rank, or the exception it raised."
        found = [None]*self.size
        def one(rank):
            self.local.rank = rank
            try: found[rank] = job(rank)
            except Exception as e: found[rank] = e
        threads = [threading.Thread(target=one, args=(r,)) for r in range(self.size)]
        for t in threads: t.start()
        for t in threads: t.join()
        return found

@pytest.fixture
def group(monkeypatch):
    def of(size):
        threads = Threads(size)
        for module in (ranks, queues, losses):
            for name in ('rank_and_size', 'all_gather', 'all_sum'):
                if hasattr(module, name): monkeypatch.setattr(module, name, getattr(threads, name))
        return threads
    return of

@pytest.mark.parametrize('make, given', [
    (lambda **k: NTXentLoss(T, **k), ()), (lambda **k: HCLLoss(T, .1, 1.7, **k), ('negatives',)),
    (lambda **k: HCLLoss(T, 0., 1.7, **k), ('labels', 'negatives')), (lambda **k: NTXentLoss(T, in_batch=False, **k), ('negatives', 'sample_ids')),
    (lambda **k: UnReMixLoss(T, detach_weights=False, uncertainty='influence', **k), ('hidden', 'labels')),
    (lambda **k: UnReMixLoss(T, chunk_size=1, **k), ('hidden',)), (lambda **k: HCLLoss(T, 0., 1.7, **k), ('queue', 'hidden', 'labels')),
    (lambda **k: UnReMixLoss(T, **k), ('queue', 'hidden'))])
def test_two_processes_are_one(make, given, group):
    "Losses, statistics and gradients of two ranks are those of one process with all images."
    ids = torch.cat([CLASSES, torch.tensor([0, 1, 2, 0, 1, 2])])

    def loss_of(own, more, **knobs):
        inputs = [x.clone().requires_grad_() for x in (Z1[own], Z2[own], MORE[more])]
        known = dict(true_labels=torch.cat([CLASSES[own], ids[B:][more]]) if 'negatives' in given else CLASSES[own])
        if 'hidden' in given: known['hidden'] = H1[own], H2[own]
        if 'negatives' in given: known['negatives'] = inputs[2]
        if 'labels' in given: known['labels'] = torch.cat([CLASSES[own], ids[B:][more]]) if 'negatives' in given else CLASSES[own]
        if 'sample_ids' in given: known['sample_ids'] = torch.cat([CLASSES[own], ids[B:][more]])
        if 'queue' in given:
            known['queue'] = KeyQueue(12, D, stores_hidden=True).double()
            known['queue'].push(Z2[own] + 1, H2[own], labels=CLASSES[own], true_labels=CLASSES[own])
        loss, stats = make(**knobs)(*inputs[:2], **known, return_stats=True)
        loss.backward()
        grads = [torch.zeros_like(x) if x.grad is None else x.grad for x in inputs]
        return loss.detach(), stats, grads

    loss, stats, grads = loss_of(slice(None), slice(None))
    found = group(2).run(lambda r: loss_of(slice(2*r, 2*r+2), slice(3*r, 3*r+3), gather_distributed=True))
    assert_close(sum(f[0] for f in found)/2, loss)
    for name in stats: assert_close(sum(f[1][name] for f in found)/2, stats[name], msg=name)
    for i, wanted in enumerate(grads): assert_close(torch.cat([f[2][i] for f in found])/2, wanted)

def test_columns_of_a_rank(group):
    "Views 1 of all ranks, views 2 of all, then explicit negatives; the queue's are shared by hand-out."
    def job(rank):
        r = ranks.Ranks(2, 1, torch.device('cpu'), H1)
        more = r.followed_by(4)
        return r.anchors.tolist(), r.positives.tolist(), r.own.tolist(), more.own.tolist(), more.hidden
    first, second = group(2).run(job)
    assert first == ([0, 1, 4, 5], [4, 5, 0, 1], [0, 1, 4, 5, 8], [0, 1, 4, 5, 8, 10, 11, 12, 13], None)
    assert second == ([2, 3, 6, 7], [6, 7, 2, 3], [2, 3, 6, 7, 9], [2, 3, 6, 7, 9, 10, 11, 12, 13], None)

def test_order_of_what_is_joined(group):
    def job(rank):
        r = ranks.Ranks(2, 1, torch.device('cpu'))
        mine = torch.tensor([0, 1, 2, 3, 4]) + 10*rank
        return r.join(torch.cat([mine, torch.tensor([7, 8])])).tolist(), r.join_ids(mine[:3]).tolist(), r.join_ids(mine[:2]).tolist()
    for found in group(2).run(job):
        assert found == ([0, 1, 10, 11, 2, 3, 12, 13, 4, 14, 7, 8], [0, 1, 10, 11, 2, 12], [0, 1, 10, 11])

@pytest.mark.parametrize('what', ('the number of images', 'the number of negatives', 'the size of hidden', 'the number of ids', 'the number of kinds of ids', 'the number of true labels'))
def test_what_differs_between_ranks_is_named(what, group):
    def job(rank):
        other = rank == 1
        z = Z1[:3 if other and what == 'the number of images' else 2]
        known = dict(hidden=(H1[:len(z)], H2[:len(z)]), sample_ids=torch.arange(len(z)))
        if what == 'the number of negatives': known['negatives'] = MORE[:2+other]
        if what == 'the size of hidden' and other: known['hidden'] = tuple(h[:,1:] for h in known['hidden'])
        if what == 'the number of ids': known |= dict(negatives=MORE[:2], sample_ids=torch.arange(4 if other else 2))
        if what == 'the number of kinds of ids': known |= dict(negatives=MORE[:2]) | (dict(sample_ids=torch.arange(4)) if other else dict(labels=torch.arange(2)))
        more = 3 if other and what == 'the number of true labels' else 2
        return ranks.gathered(pair_views(z, z, T, **known), more)
    for found in group(2).run(job): assert isinstance(found, ValueError) and 'on every rank' in str(found) and 'on rank 1' in str(found) and what.rsplit(' ', 1)[0] in str(found)

def test_keys_of_all_ranks_in_one_order(group):
    def job(rank):
        queue = KeyQueue(5, D)
        queue.push(Z1[2*rank:2*rank+2], sample_ids=CLASSES[2*rank:2*rank+2] + 4, labels=torch.tensor([rank, rank]))
        return queue
    alone = KeyQueue(5, D)
    with torch.no_grad(): alone.z[:B] = F.normalize(Z1)
    for queue in group(2).run(job):
        assert_close(queue.z, alone.z)
        assert queue.ids[0,:4].tolist() == [0, 0, 1, 1] and queue.ids[1,:4].tolist() == [4, 4, 5, 5]
        assert queue.valid == 4 and queue.pointer == 4

def test_cost_of_gathering():
    "4 ranks, 2 images each, 3 numbers per embedding and 2 beside it: 12 rows of others come in."
    assert ranks.gather_cost(4, 2, 3) == dict(ranks=4, n=16, forward_bytes=4*12*5, backward_bytes=2*4*16*3, block_bytes=4*4*16, operations=12*2*16*3)
    assert ranks.gather_cost(1, 2, 3)['backward_bytes'] == 0 and ranks.gather_cost(4, 2, 3, chunk=1)['block_bytes'] == 4*16

# queues

def test_new_keys_replace_the_oldest():
    queue = KeyQueue(4, 2, stores_hidden=True)
    keys = torch.tensor([[2., 0], [0, 3], [-4, 0], [0, -5], [6, 0], [3, 4]])
    for i, part in enumerate(keys.split((3, 2, 1))):
        ids = torch.arange(len(part)) + 10*(i+1)
        queue.push(part, part, sample_ids=ids, labels=ids+100)
    assert_close(queue.z, torch.tensor([[1., 0], [.6, .8], [-1, 0], [0, -1]]))
    assert queue.norm.tolist() == [6, 5, 4, 5] and queue.square.tolist() == [36, 25, 16, 25]
    assert queue.ids.tolist() == [[121, 130, 112, 120], [21, 30, 12, 20], [queues.NO_ID]*4]
    assert (queue.pointer, queue.valid) == (2, 4)

@pytest.mark.parametrize('before', (0, 1, 2))
def test_more_keys_than_slots(before):
    "The last ones stay, where they would lie had they come one by one."
    at_once, one_by_one = KeyQueue(3, 1), KeyQueue(3, 1)
    keys = torch.arange(1., 9)[:,None]
    for queue in (at_once, one_by_one)[:2*bool(before)]: queue.push(keys[:before])
    at_once.push(keys[before:], sample_ids=torch.arange(before, 8))
    for i in range(before, 8): one_by_one.push(keys[i:i+1], sample_ids=torch.tensor([i]))
    for name, buffer in one_by_one.named_buffers(): assert_close(getattr(at_once, name), buffer)
    assert sorted(at_once.norm.tolist()) == [6, 7, 8]

def test_empty_slots_have_no_direction():
    queue = KeyQueue(2, D).double()
    columns = with_queue(pair_views(Z1, Z2, T), queue).columns
    assert (columns.norm[2*B:] == math.inf).all() and (columns.z[2*B:] == 0).all()
    assert queue.norm.isfinite().all() # so that an average of buffers is
    assert (queue.z == 0).all() and (queue.ids == queues.NO_ID).all()

def half_full():
    queue = KeyQueue(5, D).double()
    queue.push(MORE[:3], sample_ids=torch.tensor([7, 8, 9]), labels=torch.tensor([0, 1, 1]))
    return queue

def test_slots_are_the_only_negatives():
    c = from_queue(Z1, Z2, half_full())
    assert c.temperature == .2 and c.logits.shape == (B, 2*B+5)
    assert c.negative.tolist() == [[False]*2*B + [True]*3 + [False]*2]*B
    assert c.k.tolist() == [3]*B
    assert_close(c.logits[:,2*B:2*B+3], F.normalize(Z1) @ F.normalize(MORE[:3]).T/.2)
    assert_close(c.positive_logit, (F.normalize(Z1)*F.normalize(Z2)).sum(1)/.2)
    assert c.anchor_idx.tolist() == list(range(B)) and c.positive_idx.tolist() == list(range(B, 2*B))

def test_gradient_flows_into_queries_only():
    q, k = (z.clone().requires_grad_() for z in (Z1, Z2))
    c = from_queue(q, k, half_full())
    (c.logits.sum() + c.positive_logit.sum()).backward()
    assert q.grad.abs().max() > 0 and k.grad is None

def test_ids_of_slots():
    known = dict(sample_ids=torch.tensor([1, 2, 8, 3]), labels=torch.tensor([0, 1, 2, 1]))
    slots = from_queue(Z1, Z2, half_full(), **known).negative[:,2*B:2*B+3].tolist()
    assert slots == [[False, True, True], [True, False, False], [True, False, True], [True, False, False]]

def test_full_queue_has_no_empty_slot():
    queue = half_full()
    queue.push(MORE[3:5])
    assert from_queue(Z1, Z2, queue).k.tolist() == [5]*B

def test_loss_against_a_queue():
    "Infonce by hand, and the statistics' labels are the queue's."
    queue = half_full()
    queue.push(MORE[3:4], true_labels=torch.tensor([1]))
    loss, stats = NTXentLoss(T)(Z1, Z2, queue=queue, true_labels=CLASSES, return_stats=True)
    q, k, m = (F.normalize(x) for x in (Z1, Z2, MORE[:4]))
    logits = torch.cat([(q*k).sum(1, keepdim=True), q @ m.T], 1)/T
    assert_close(loss, F.cross_entropy(logits, torch.zeros(B, dtype=torch.long)))
    assert_close(stats['false_negative_mass'], torch.tensor(.125)) # two of four anchors, a quarter each

def test_norms_and_hidden_of_slots():
    queue = KeyQueue(3, D, stores_hidden=True).double()
    queue.push(MORE[:2], H1[:2])
    columns = with_queue(pair_views(Z1, Z2, T, hidden=(H1, H2)), queue).columns
    assert_close(columns.norm[2*B:2*B+2], MORE[:2].norm(dim=1), rtol=1e-6, atol=0)
    assert_close(columns.hidden_square(), torch.cat([H1, H2, H1[:2], torch.zeros(1, 5)]).square().sum(1))

def test_momentum_encoder_follows():
    encoder, copy = nn.Linear(2, 2), nn.Linear(2, 2)
    wanted = [.9*c.detach() + .1*e.detach() for c, e in zip(copy.parameters(), encoder.parameters())]
    kept = [e.clone() for e in encoder.parameters()]
    follow(copy, encoder, .9)
    assert_close([p.detach() for p in copy.parameters()], wanted)
    assert_close([p for p in encoder.parameters()], kept)

def test_queue_needs_what_it_stores():
    with pytest.raises(ValueError, match='hidden'): KeyQueue(4, D, stores_hidden=True).push(Z1)
    with pytest.raises(ValueError, match='keys'): KeyQueue(4, D+1).push(Z1)
    with pytest.raises(ValueError, match='one of'): KeyQueue(4, D).push(Z1, names=CLASSES)
    with pytest.raises(ValueError, match='sample_ids'): KeyQueue(4, D).push(Z1, sample_ids=CLASSES[:3])

# selection

def negatives_of(i): return [j for j in range(2*B) if j not in (i, (i+B) % (2*B))]

def views(seed=0): return from_views(draw(B, D, seed=seed), draw(B, D, seed=seed+10), T)

SAME = (CLASSES.repeat(2)[:,None] == CLASSES.repeat(2))

@pytest.mark.parametrize('measure, power', (('weight', 0), ('push', 1)))
def test_hardness_and_mass_by_loops(measure, power):
    batches, weighting = [views(), views(5)], lambda c: hcl(c, 1.7)
    hard, mass = [], []
    for c in batches:
        for i in range(2*B):
            neg = negatives_of(i)
            cos = c.logits[i,neg]*T
            p = ((1.7 + power)*cos/T).softmax(0)
            hard.append((p*cos).sum()); mass.append(p[SAME[i,neg]].sum())
    found = selection.hardness_and_mass(batches, [SAME]*2, weighting, measure)
    assert_close(torch.tensor(found, dtype=torch.float64), torch.stack([torch.stack(x).mean() for x in (hard, mass)]))

def test_shares_are_of_the_push_by_default():
    c = views()
    p = selection.shares(c, hcl(c, 1.7))
    assert_close(p.sum(1), torch.ones(2*B, dtype=torch.float64)) and not p[~c.negative].any()
    assert_close(p, hcl(c, 2.7).exp()/(2*B-2))

def test_yardstick_recognises_hcl():
    "HCL lies on its own curve, at its own β, by both measures."
    batches = [views(), views(5)]
    stick = selection.Yardstick(batches, [SAME]*2)
    for measure in ('weight', 'push'):
        found = stick.judge(lambda c: hcl(c, 1.7), measure)
        assert abs(found['beta'] - 1.7) < 2e-3 and abs(found['excess']) < 1e-4
        assert (found['hardness'], found['mass']) == selection.hardness_and_mass(batches, [SAME]*2, lambda c: hcl(c, 1.7), measure)
    easy = stick.judge(lambda c: selection.tilt(c, -2.), 'weight')
    assert abs(easy['beta'] + 2) < 2e-3 and abs(easy['excess']) < 1e-4

def test_excess_is_mass_beyond_hcl():
    "Weight taken from same-label negatives of equal cosine is an excess below 0."
    stick = selection.Yardstick([views(), views(5)], [SAME]*2)
    def knowing(c): return hcl(c, 1.7) - 3*SAME
    hard, mass = selection.hardness_and_mass(stick.contrasts, [SAME]*2, knowing)
    found = stick.judge(knowing)
    at = stick.match(lambda b: lambda c: hcl(c, b), hard)
    assert abs(at['hardness'] - hard) < 1e-3 and abs(found['excess'] - (mass - at['mass'])) < 1e-3 and found['excess'] < -.1
    assert abs(at['own_beta'] - found['beta']) < 1e-2

def test_match_by_each_measure():
    stick = selection.Yardstick([views(), views(5)], [SAME]*2)
    for measure in ('weight', 'push'):
        hard, mass = selection.hardness_and_mass(stick.contrasts, [SAME]*2, lambda c: hcl(c, 1.7), measure)
        found = stick.match(lambda b: lambda c: hcl(c, b), hard, measure)
        wanted = dict(own_beta=1.7, hardness=hard, mass=mass, beta=1.7, excess=0.)
        for name in wanted: assert abs(found[name] - wanted[name]) < 5e-3, (measure, name)

def test_no_match_is_nan():
    stick = selection.Yardstick([views()], [SAME])
    for wanted in (-2., 2.): assert all(math.isnan(x) for x in stick.match(lambda b: lambda c: hcl(c, b), wanted).values())

def test_profile_of_ranks_by_loops():
    c = views()
    p = selection.shares(c, hcl(c, 1.7) - 2*SAME)
    order = [sorted(negatives_of(i), key=lambda j: -c.logits[i,j]) for i in range(2*B)]
    mean = [sum(p[i,order[i][rank]] for i in range(2*B))/(2*B) for rank in range(2*B-2)]
    found = selection.rank_profile(c, p)
    for i in range(2*B):
        for rank, j in enumerate(order[i]): assert_close(found[i,j], mean[rank])
    known = selection.knowledge([c, c], [SAME, SAME], lambda c: hcl(c, 1.7) - 2*SAME)
    assert_close(known['knowledge'], ((p - found)*SAME).sum(1).mean().item())
    assert_close(known['rank_hardness'], (found*c.logits*T).sum(1).mean().item())

def test_oracle_removes_the_anchors_class():
    found = selection.OracleLoss(T, 1.7)(Z1, Z2, true_labels=CLASSES)
    assert_close(found, HCLLoss(T, 0., 1.7)(Z1, Z2, labels=CLASSES))
    _, stats = selection.OracleLoss(T, 1.7)(Z1, Z2, true_labels=CLASSES, return_stats=True)
    assert stats['false_negative_mass'] == 0 and selection.OracleLoss(T).tau_plus == 0

def test_placebo_permutes_candidates():
    "One permutation for all anchors; who has no score passes the mean on."
    c = views()
    value = draw(2*B, 2*B, seed=9)
    found = selection.swap_candidates(Indicator(value, low=-5.), c)
    order = torch.randperm(2*B, generator=torch.Generator().manual_seed(0))
    assert (order != torch.arange(2*B)).any() and found.low == -5
    for i in range(2*B):
        neg = negatives_of(i)
        for j in range(2*B): assert_close(found.value[i,j], value[i,order[j]] if order[j].item() in neg else value[i,neg].mean())

def test_what_each_placebo_swaps():
    c, knobs = views(), Knobs()
    u, r = (f() for f in opinions(c, knobs))
    swapped = [selection.swap_candidates(x, c).value for x in (u, r)]
    only_u, both = (tuple(f().value for f in swap(c, knobs)) for swap in (selection.swap_u, selection.swap_both))
    assert_close(only_u, (swapped[0], r.value))
    assert_close(both, tuple(swapped))
    for ask in (selection.swap_u, selection.swap_both): assert_close(selection.PlaceboLoss(T, ask=ask).log_weights(c), mixture(c, knobs, ask=ask))
    assert_close(selection.PlaceboLoss(T).log_weights(c), mixture(c, knobs, ask=selection.swap_u))

# encoders

def test_convolution():
    net = conv(2, 3, 5, 2)
    assert net[0].weight.shape == (3, 2, 5, 5) and net[0].bias is None and isinstance(net[1], nn.BatchNorm2d)
    assert net(torch.randn(2, 2, 9, 9)).shape == (2, 3, 5, 5) # same size at stride 1: padded by half of it

def test_residual_without_branch_is_its_input():
    "Every second pixel, new channels behind with 0, then ReLU."
    layer = Residual(2, 3).eval()
    nn.init.zeros_(layer.branch[0].weight)
    x = torch.randn(2, 2, 6, 6)
    assert_close(layer(x), F.pad(x[:,:,::2,::2], (0, 0, 0, 0, 0, 1)).relu())

def test_residual_adds_its_branch():
    layer, x = Residual(2, 3).eval(), torch.randn(2, 2, 6, 6)
    shortcut = torch.cat([x[:,:,::2,::2], torch.zeros(2, 1, 3, 3)], 1)
    assert_close(layer(x), (layer.branch(x) + shortcut).relu())

def test_small_encoder_layer_by_layer():
    net, x = make_encoder('small', 1, 28).eval(), torch.randn(2, 1, 28, 28)
    first, _, second, _, third = list(net.children())[:5]
    assert [m.stride for m in (first[0], second[0], third.branch[0])] == [(2, 2)]*3
    h = third(second(first(x).relu()).relu())
    assert h.shape == (2, 128, 4, 4)
    pooled = torch.stack([h[:,:,i:i+2,j:j+2].mean((2, 3)) for i in (0, 2) for j in (0, 2)], 2)
    assert_close(net(x), pooled.flatten(1))
    assert net.out_dim == 512 and sum(p.numel() for p in net.parameters()) == 93408

@pytest.mark.parametrize('size, stride, kernel, pools', ((32, 1, 3, False), (47, 1, 3, False), (48, 2, 3, False), (64, 2, 3, False), (95, 2, 3, False), (96, 2, 7, True), (224, 2, 7, True)))
@pytest.mark.parametrize('channels', (1, 3))
def test_stem_of_resnet(size, stride, kernel, pools, channels):
    net = make_encoder('resnet18', channels, size)
    stem = net.conv1
    assert (stem.in_channels, stem.stride[0], stem.kernel_size[0], stem.padding[0], stem.bias) == (channels, stride, kernel, kernel//2, None)
    assert isinstance(net.maxpool, nn.MaxPool2d if pools else nn.Identity)
    assert isinstance(net.fc, nn.Identity) and net.out_dim == 512

def test_initialisation_of_the_stem():
    "Kaiming, fan out: as torchvision initialises its own convolutions."
    torch.manual_seed(0)
    weight = make_encoder('resnet18', 3, 32).conv1.weight
    assert abs(weight.std().item()/math.sqrt(2/(64*9)) - 1) < .1

def test_resnet_is_torchvisions():
    import torchvision
    torch.manual_seed(0)
    ours, theirs = make_encoder('resnet18', 3, 96).eval(), torchvision.models.resnet18(weights=None).eval()
    theirs.fc = nn.Identity()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(1, 3, 96, 96)
    assert_close(ours(x), theirs(x))
    assert make_encoder('resnet50', 3, 96).out_dim == 2048

def test_head_hands_out_the_last_layers_input():
    head = ProjectionHead(6, 5, 3)
    h = torch.randn(8, 6)
    z, hidden = head(h)
    by_hand = head.first[0](h)
    by_hand = (by_hand - by_hand.mean(0))/(by_hand.var(0, correction=0) + 1e-5).sqrt()
    assert_close(hidden, by_hand.relu())
    assert_close(z, hidden @ head.last.weight.T + head.last.bias)
    assert head.first[0].bias is None and ProjectionHead(6).last.weight.shape == (128, 512)

def test_model_is_head_after_encoder():
    model = Model(make_encoder('small', 1, 28), ProjectionHead(512, 8, 3)).eval()
    x = torch.randn(2, 1, 28, 28)
    assert_close(model(x), model.head(model.encoder(x)))

@pytest.mark.parametrize('make', (lambda: make_encoder('tiny'), lambda: make_encoder('small', 1, 7), lambda: make_encoder('small', 1, 28.), lambda: ProjectionHead(0), lambda: ProjectionHead(4, 0), lambda: ProjectionHead(4, 4, 0)))
def test_bad_networks(make):
    with pytest.raises(ValueError): make()

# data sets

def test_digits_are_enlarged_bilinearly():
    "Each pixel's centre among the centres of 8×8 pixels, row by row and then column by column."
    import numpy as np
    from sklearn.datasets import load_digits
    from unremix.data import load_dataset
    small, at = load_digits().images/16*255, np.clip((np.arange(28) + .5)*8/28 - .5, 0, 7)
    def along(rows): return np.stack([np.interp(at, np.arange(8), row) for row in rows])
    first = load_dataset('digits', 'test').x[0,0].numpy().astype(float) # the first of each class is tested
    assert np.abs(first - along(along(small[0]).T).T).max() <= .51

def test_clothes_have_names(monkeypatch, tmp_path):
    from unremix import data
    plain = data.Images(torch.zeros(1, 1, 2, 2, dtype=torch.uint8), torch.zeros(1, dtype=torch.long), ('T-shirt/top',), 'fashion_mnist')
    monkeypatch.setattr(data, 'from_torchvision', lambda *args: plain)
    assert data.load_dataset('fashion_mnist', 'test', tmp_path).classes == data.CLOTHES

def test_folders_are_64_pixels_wide_and_others_made_square(tmp_path):
    from PIL import Image
    from unremix import data
    for part in ('train', 'test'):
        for name in 'ab':
            (tmp_path/part/name).mkdir(parents=True)
            Image.new('RGB', (80, 70), 'red').save(tmp_path/part/name/'0.png')
    assert data.load_dataset('imagefolder', 'train', tmp_path).x.shape == (2, 3, 64, 64)
    wide = data.Images(torch.zeros(2, 1, 10, 16, dtype=torch.uint8), torch.zeros(2, dtype=torch.long), ('a',), 'x')
    assert data.resize(wide, 16).x.shape == (2, 1, 16, 16) and data.resize(data.resize(wide, 16), 16).x.shape == (2, 1, 16, 16)

def test_strength_of_the_views_of_a_data_set():
    from unremix import data
    images = data.Images(torch.randint(0, 256, (6, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)), torch.zeros(6, dtype=torch.long), ('a',), 'digits')
    still = data.Augment.for_images(images, 0.) # digits are not mirrored
    assert_close(still(images.x), still.plain(images.x), rtol=1e-3, atol=1e-3)
    assert (data.Augment.for_images(images)(images.x) - still.plain(images.x)).abs().max() > .1
