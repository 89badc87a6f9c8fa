"The queue, slot by slot, against a loop that writes one key after the other."
import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from unremix import DebiasedNTXentLoss, HCLLoss, NTXentLoss, UnReMixLoss
from unremix.pairs import pair_views
from unremix.queues import IDS, NO_ID, KeyQueue, follow, from_queue, with_queue
from unremix.train import TrainConfig, epoch_steps, make_criterion, set_up
from unremix.uncertainty import gradient_scale

SEQUENCES = [1]*7, [3, 3, 3], [5, 5], [12, 2], [4, 13, 3], [2, 5, 1], [5, 0, 2]


def keys_from(first, count):
    "Key number n points towards the angle n and has the length n+1; its hidden input, its ids tell the number too."
    n = torch.arange(first, first+count, dtype=torch.float64)
    z = torch.stack([n.cos(), n.sin()], 1)*(n+1)[:,None]
    return z, torch.stack([n, n+2], 1), {name: 1000*i + n.long() for i, name in enumerate(IDS)}


def filled(count, size=5, **kwargs):
    queue = KeyQueue(size, 2, stores_hidden=True, **kwargs).double()
    z, hidden, ids = keys_from(0, count)
    queue.push(z, hidden, **ids)
    return queue


@pytest.mark.parametrize('sizes', SEQUENCES, ids=str)
def test_every_slot(sizes):
    queue, slots, at, first = KeyQueue(5, 2, stores_hidden=True).double(), [None]*5, 0, 0
    for count in sizes:
        z, hidden, ids = keys_from(first, count)
        queue.push(z, hidden, **ids)
        for n in range(first, first+count): slots[at], at = n, (at+1)%5
        first += count
        assert (queue.pointer, queue.valid) == (at, min(first, 5))
        for slot, n in enumerate(slots):
            if n is None:
                assert (queue.z[slot] == 0).all() and queue.square[slot] == 0 and (queue.ids[:,slot] == NO_ID).all()
                continue
            assert_close(queue.z[slot], torch.tensor([math.cos(n), math.sin(n)], dtype=torch.float64))
            assert_close(queue.norm[slot].item(), n+1.); assert_close(queue.square[slot].item(), n**2 + (n+2.)**2)
            assert queue.ids[:,slot].tolist() == [n, 1000+n, 2000+n]


def test_what_is_not_given_is_unknown():
    queue = KeyQueue(4, 2)
    queue.push(torch.ones(2, 2), torch.ones(2, 3), sample_ids=torch.tensor([5, 6]))
    assert queue.ids.tolist() == [[NO_ID]*4, [5, 6, NO_ID, NO_ID], [NO_ID]*4] and NO_ID < 0
    assert (queue.square == 0).all() # of a queue that stores none
    queue.push(torch.ones(4, 2)) # and what was known of the old ones is forgotten
    assert (queue.ids == NO_ID).all()


def test_a_push_keeps_no_graph():
    queue, keys = KeyQueue(4, 2), torch.ones(2, 2, requires_grad=True)
    queue.push(keys*2, (keys*3))
    assert not any(x.requires_grad for x in queue.state_dict().values()) and not any(True for _ in queue.parameters())


@pytest.mark.parametrize('dtype', (torch.float16, torch.bfloat16, torch.float32, torch.float64), ids=str)
def test_half_precision_keys_are_normalised_in_full(dtype):
    queue = KeyQueue(4, 2)
    queue.push(torch.tensor([[3., 4.], [30., 40.]]).to(dtype))
    assert queue.z.dtype == torch.float32; assert_close(queue.z[:2], torch.tensor([[.6, .8]]*2))
    assert_close(queue.norm, torch.tensor([5., 50., 0., 0.]))


def test_half_precision_hidden_inputs_are_squared_in_full():
    "300² is infinite as float16."
    queue = KeyQueue(4, 2, stores_hidden=True)
    queue.push(torch.ones(2, 2).half(), torch.full((2, 3), 300.).half())
    assert queue.square.tolist() == [270000., 270000., 0., 0.]


def test_a_key_of_zeros_is_near_nobody():
    queue = KeyQueue(2, 2).double()
    queue.push(torch.tensor([[0., 0.], [0., 3.]]))
    contrast = from_queue(*torch.ones(2, 1, 2, dtype=torch.float64), queue, .5)
    assert contrast.columns.norm.tolist()[2:] == [math.inf, 3.]
    assert contrast.logits[0, 2] == 0 and contrast.k.tolist() == [2.]


BAD = {
    'two dimensions': (lambda q: q.push(torch.ones(2)), 'keys must be of shape (b 2), got (2,)'),
    'size': (lambda q: q.push(torch.ones(3, 4)), 'keys must be of shape (b 2), got (3, 4)'),
    'whole numbers': (lambda q: q.push(torch.ones(3, 2).long()), 'keys must be a floating point tensor, got torch.int64'),
    'list': (lambda q: q.push([[1., 2.]]), "keys must be a floating point tensor, got 'list'"),
    'name': (lambda q: q.push(torch.ones(3, 2), torch.ones(3, 2), ids=torch.arange(3)), "the name of ids must be one of ('labels', 'sample_ids', 'true_labels'), got 'ids'"),
    'few ids': (lambda q: q.push(torch.ones(3, 2), torch.ones(3, 2), labels=torch.arange(2)), 'labels must be of shape (3), got (2,)'),
    'columns of ids': (lambda q: q.push(torch.ones(3, 2), torch.ones(3, 2), labels=torch.zeros(3, 1).long()), 'labels must be of shape (3), got (3, 1)'),
    'no hidden': (lambda q: q.push(torch.ones(3, 2)), 'hidden must be given to a queue that stores it, got None'),
    'few hidden': (lambda q: q.push(torch.ones(3, 2), torch.ones(2, 2)), 'hidden must be of shape (3 f), got (2, 2)'),
    'true size': (lambda q: KeyQueue(True, 2), 'size must be a whole number ≥ 1, got True'),
    'half a dimension': (lambda q: KeyQueue(2, 2.5), 'dim must be a whole number ≥ 1, got 2.5'),
    'other size': (lambda q: NTXentLoss()(*torch.ones(2, 3, 4), queue=q), 'queue must be of embeddings of size 4, got 2'),
    'names': (lambda q: with_queue(pair_views(*torch.ones(2, 3, 2), labels=torch.arange(3), sample_ids=torch.arange(3)), q), "names must be 2 names of ids, got ('sample_ids',)"),
    'momentum': (lambda q: follow(nn.Linear(1, 1), nn.Linear(1, 1), 1.), 'momentum must be a number in [0, 1), got 1.0')}


@pytest.mark.parametrize('case', BAD)
def test_refused_before_anything_is_written(case):
    do, sentence = BAD[case]
    queue = filled(3)
    before = {k: v.clone() for k, v in queue.state_dict().items()}
    with pytest.raises(ValueError) as e: do(queue)
    assert sentence in str(e.value)
    assert_close(dict(queue.state_dict()), before, rtol=0, atol=0)


def batch(): return tuple(x.to(torch.float64) for x in (torch.tensor([[2., 0.], [0., 3.]]), torch.tensor([[1., 1.], [-1., 1.]])))


def test_columns_and_masks():
    "Two queries, their keys, five slots of which three are filled."
    queries, keys = batch()
    hidden = torch.ones(2, 4, dtype=torch.float64), 2*torch.ones(2, 4, dtype=torch.float64)
    pairing = with_queue(pair_views(queries, keys, .2, hidden=hidden), filled(3))
    c = pairing.contrast()
    assert c.logits.shape == (2, 9) and c.n_views == 4 and c.temperature == .2 and not c.all_others
    assert c.anchor_idx.tolist() == [0, 1] and c.positive_idx.tolist() == [2, 3]
    assert c.negative.tolist() == [[False]*4 + [True]*3 + [False]*2]*2 and c.k.tolist() == [3., 3.]
    half = math.sqrt(.5)
    wanted = torch.tensor([[1., 0.], [0., 1.], [half, half], [-half, half], *([math.cos(n), math.sin(n)] for n in range(3)), [0., 0.], [0., 0.]], dtype=torch.float64)
    assert_close(c.columns.z, wanted); assert_close(c.rows.z, wanted[:2])
    assert_close(c.logits, wanted[:2] @ wanted.T/.2)
    assert_close(c.columns.norm.tolist(), [2., 3., 2**.5, 2**.5, 1., 2., 3., math.inf, math.inf])
    assert_close(c.columns.hidden_square().tolist(), [4., 4., 16., 16., 4., 10., 20., 0., 0.]) and c.columns.hidden is None
    assert_close(gradient_scale(c, .2)[4:7], torch.tensor([5.**.5/(1*.2), 11.**.5/(2*.2), 21.**.5/(3*.2)], dtype=torch.float64))


def test_without_hidden_in_the_queue_there_is_none():
    queue = KeyQueue(3, 2).double(); queue.push(keys_from(0, 2)[0])
    h = torch.ones(2, 4, dtype=torch.float64)
    assert with_queue(pair_views(*batch(), hidden=(h, h)), queue).columns.hidden_square() is None


def test_a_full_queue_has_no_empty_slot():
    assert from_queue(*batch(), filled(7)).k.tolist() == [5., 5.]
    assert from_queue(*batch(), filled(5)).k.tolist() == [5., 5.]
    assert from_queue(*batch(), filled(1)).negative[:,4:].tolist() == [[True] + [False]*4]*2


def test_an_empty_queue_gives_no_loss():
    queries = batch()[0].requires_grad_()
    loss = NTXentLoss()(queries, batch()[1], queue=KeyQueue(5, 2).double())
    loss.backward()
    assert loss == 0 and (queries.grad == 0).all()


@pytest.mark.parametrize('name, own', (('labels', 0), ('sample_ids', 1000)))
def test_who_shares_an_id_is_no_negative(name, own):
    "The ids of the three names differ: each is compared with its own."
    for other in (0, 1000, 2000):
        ids = torch.tensor([2, 99]) + other
        wanted = [[True, True, other != own], [True, True, True]]
        assert from_queue(*batch(), filled(3), **{name: ids}).negative[:,4:7].tolist() == wanted
    both = dict(labels=torch.tensor([0, 1]), sample_ids=torch.tensor([1001, 1001]))
    assert from_queue(*batch(), filled(3), **both).negative[:,4:7].tolist() == [[False, False, True], [True, False, True]]


@pytest.mark.parametrize('chunk_size', (None, 1))
def test_loss_in_closed_form(chunk_size):
    "MoCo's: the key against the slots, and nobody of the batch."
    queries, keys = batch()
    queries.requires_grad_(); keys.requires_grad_()
    losses = NTXentLoss(.3, reduction='none', chunk_size=chunk_size)(queries, keys, queue=filled(3))
    angles, positive = (0., math.pi/2), math.cos(math.pi/4)
    wanted = [math.log1p(sum(math.exp((math.cos(a-n) - positive)/.3) for n in range(3))) for a in angles]
    assert_close(losses.tolist(), wanted)
    losses.sum().backward()
    assert keys.grad is None and queries.grad.abs().sum(1).min() > 0


def test_keys_are_constants():
    queries, keys = (x.requires_grad_() for x in batch())
    contrast = from_queue(queries, keys, filled(3))
    contrast.logits.sum().backward()
    assert keys.grad is None and queries.grad is not None and contrast.temperature == .2
    hot = from_queue(queries, keys, filled(3), .5)
    assert hot.temperature == .5; assert_close(hot.logits*.5, contrast.logits*.2)


def test_weights_and_debiasing_see_the_slots_only():
    queries, keys = batch()
    s = torch.tensor([[math.cos(a-n)/.5 for n in range(3)] for a in (0., math.pi/2)], dtype=torch.float64)
    positive = torch.full((2,), math.cos(math.pi/4)/.5, dtype=torch.float64)
    tilt = 3*(2*s).softmax(1)
    assert_close(HCLLoss(.5, 0., beta=2.)(queries, keys, queue=filled(3)), torch.log1p((tilt*s.exp()).sum(1)/positive.exp()).mean())
    g = ((s.exp().mean(1) - .1*positive.exp())/.9).clamp(min=math.exp(-2))
    assert_close(DebiasedNTXentLoss(.5, .1)(queries, keys, queue=filled(3)), torch.log1p(3*g/positive.exp()).mean())


def test_statistics_count_the_slots():
    "Of three slots, one shows the first query's class and two the second's."
    queue = KeyQueue(5, 2).double()
    queue.push(keys_from(0, 3)[0], true_labels=torch.tensor([7, 8, 8]), labels=torch.tensor([0, 0, 0]))
    stats = NTXentLoss()(*batch(), queue=queue, true_labels=torch.tensor([7, 8]), return_stats=True)[1]
    assert_close(stats['false_negative_mass'].item(), (1/3 + 2/3)/2)
    assert_close(stats['effective_negatives'].item(), 3.)


def test_uncertainty_of_a_slot_uses_what_was_kept():
    "A key of half the length is twice as uncertain; a longer hidden input makes it more so."
    def weight_of_the_first(length, hidden):
        queue = KeyQueue(3, 2, stores_hidden=True).double()
        z, h, _ = keys_from(0, 3)
        z[0] *= length; h[0] = hidden
        queue.push(z, h)
        loss = UnReMixLoss(mix=(1., 0., 0.), uncertainty_temperature=.1)
        both = (torch.ones(2, 2, dtype=torch.float64),)*2
        return loss.log_weights(loss.contrast(*batch(), queue=queue, hidden=both))[0, 4]
    assert weight_of_the_first(.2, 1.) > weight_of_the_first(1., 1.) < weight_of_the_first(1., 9.)


def test_slots_take_the_type_of_the_batch():
    queue = KeyQueue(3, 2); queue.push(torch.ones(2, 2))
    assert from_queue(*batch(), queue).logits.dtype == torch.float64
    assert NTXentLoss()(*(x.to(torch.bfloat16) for x in batch()), queue=queue).dtype == torch.float32


@pytest.mark.parametrize('momentum', (0., .25, .99))
def test_follow(momentum):
    copy, encoder = (nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)) for _ in range(2))
    encoder(torch.randn(4, 2))
    before = [[x.detach().clone() for x in m.parameters()] for m in (copy, encoder)]
    follow(copy, encoder, momentum)
    for now, old, leader in zip(copy.parameters(), *before): assert_close(now.detach(), momentum*old + (1-momentum)*leader)
    for now, old in zip(encoder.parameters(), before[1]): assert now.equal(old)
    assert copy[1].num_batches_tracked == 0 and (copy[1].running_mean == 0).all() # statistics are its own


@pytest.fixture(scope='module')
def stepped():
    "A run with a queue, before and after its first two steps; the follower's outputs are written down."
    run = set_up(TrainConfig(limit=32, batch_size=8, strategy='hcl', queue_size=20, momentum=.75, precision='32-true', accelerator='cpu', head_out=4, log_every=1))
    seen, given, leaders, followers = [], [], [], []
    run.follower.register_forward_hook(lambda m, args, out: seen.append((args[0].clone(), *(x.clone() for x in out))))
    run.criterion.register_forward_pre_hook(lambda m, args, kwargs: given.append((args, kwargs)), with_kwargs=True)
    record = lambda: (leaders.append([p.detach().clone() for p in run.model.module.parameters()]), followers.append([p.detach().clone() for p in run.follower.parameters()]))
    record()
    steps = epoch_steps(run, 0)
    for _ in range(2): next(steps); record()
    steps.close()
    return run, seen, given, leaders, followers


def test_the_momentum_encoder_follows(stepped):
    run, _, _, leaders, followers = stepped
    for old, new, leader in zip(followers[0], followers[1], leaders[1]): assert_close(new, .75*old + .25*leader)
    assert any(not a.equal(b) for a, b in zip(followers[0], followers[1])) and all(a.equal(b) for a, b in zip(leaders[0], followers[0]))
    assert not any(p.grad is not None for p in run.follower.parameters())


def test_the_follower_makes_the_keys(stepped):
    run, seen, given, _, _ = stepped
    for step, (views, z, h) in enumerate(seen):
        assert len(views) == 8 # second views only
        args, kwargs = given[step]
        assert_close(args[1], z) and not args[1].requires_grad
        slots = slice(8*step, 8*step+8)
        assert_close(run.queue.z[slots], z/z.norm(dim=1, keepdim=True)); assert_close(run.queue.norm[slots], z.norm(dim=1))
        assert_close(run.queue.square[slots], h.square().sum(1))
        assert_close(kwargs['hidden'][1], h) and kwargs['queue'] is run.queue


def test_keys_carry_their_ids(stepped):
    "Which image it was, and its class; the loss is asked about the same images."
    run, _, given, _, _ = stepped
    for step, (_, kwargs) in enumerate(given):
        ids, slots = kwargs['sample_ids'], slice(8*step, 8*step+8)
        assert len(ids.unique()) == 8 and run.queue.ids[IDS.index('sample_ids'), slots].equal(ids)
        for name in ('labels', 'true_labels'): assert run.queue.ids[IDS.index(name), slots].equal(run.images.y[ids])
        assert kwargs['true_labels'].equal(run.images.y[ids])
    assert run.queue.valid == 16 and run.queue.pointer == 16


def test_what_the_configuration_says_reaches_the_loss():
    criterion = make_criterion(TrainConfig(strategy='hcl', chunk_size=7, gather_distributed=False))
    assert (criterion.chunk_size, criterion.gather_distributed) == (7, False)
    assert make_criterion(TrainConfig()).chunk_size is None and make_criterion(TrainConfig()).gather_distributed


def test_hidden_of_half_precision_is_squared_in_full():
    "300² is more than half precision holds."
    queue = KeyQueue(2, 2, stores_hidden=True)
    queue.push(torch.ones(1, 2), torch.tensor([[300., 400.]]).half())
    assert queue.square[0] == 250_000


@pytest.mark.parametrize('temperature', (.2, .7))
def test_temperature_of_queries_against_a_queue(temperature):
    queue = KeyQueue(2, 2).double()
    queue.push(torch.eye(2).double())
    c = from_queue(*batch(), queue, temperature)
    assert c.temperature == temperature
    assert_close(c.logits[:,-2:], torch.eye(2).double()/temperature)
