"The queue, slot by slot, against a loop that writes one key after the other."

import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from configs import run_of
from unremix.config import TrainConfig
from unremix import ContrastiveLoss, DebiasedNTXentLoss, HCLLoss, KeyQueue
from unremix import NTXentLoss, UnReMixLoss, across, follow
from unremix.embeddings import EMPTY, EXTERNAL, MEMORY, places
from unremix.gradient_norm import gradient_scale
from unremix.hard_negatives import uniform
from unremix.queue import NO_ID, QUEUE_IDS
from unremix.run_parts import make_criterion, set_up
from unremix.steps import epoch_steps

SEQUENCES = [1] * 7, [3, 3, 3], [5, 5], [12, 2], [4, 13, 3], [2, 5, 1], [5, 0, 2]


def keys_from(first, count):
    """Key number n points towards the angle n and has the length n+1.

    Its hidden input and its ids tell the number too.
    """
    n = torch.arange(first, first + count, dtype=torch.float64)
    z = torch.stack([n.cos(), n.sin()], 1) * (n + 1)[:, None]
    ids = {name: 1000 * i + n.long() for i, name in enumerate(QUEUE_IDS)}
    return z, torch.stack([n, n + 2], 1), ids


def filled(count, size=5, **kwargs):
    queue = KeyQueue(size, 2, stores_hidden=True, **kwargs).double()
    z, hidden, ids = keys_from(0, count)
    queue.push(z, hidden, **ids)
    return queue


def reads_all(c):
    "Uniform weights that do not say which extras they read."
    return uniform(c)


def against(z1, z2, queue, temperature=0.2, **kwargs):
    "Queries and their keys against a queue, with all that is known."
    loss = ContrastiveLoss(reads_all, temperature=temperature)
    return loss.contrast(z1, z2, queue=queue, **kwargs)


# ---------------------------------------------------------------- pushing
@pytest.mark.parametrize('sizes', SEQUENCES, ids=str)
def test_every_slot(sizes):
    queue = KeyQueue(5, 2, stores_hidden=True).double()
    slots, at, first = [None] * 5, 0, 0
    for count in sizes:
        z, hidden, ids = keys_from(first, count)
        queue.push(z, hidden, **ids)
        for n in range(first, first + count):
            slots[at] = n
            at = (at + 1) % 5
        first += count
        assert (queue.pointer, queue.valid) == (at, min(first, 5))
        for slot, n in enumerate(slots):
            if n is None:
                assert (queue.z[slot] == 0).all() and queue.square[slot] == 0
                assert (queue.ids[:, slot] == NO_ID).all()
                continue
            assert_close(queue.z[slot].tolist(), [math.cos(n), math.sin(n)])
            assert_close(queue.norm[slot].item(), n + 1.0)
            assert_close(queue.square[slot].item(), n**2 + (n + 2.0) ** 2)
            assert queue.ids[:, slot].tolist() == [n, 1000 + n, 2000 + n]


def test_what_is_not_given_is_unknown():
    queue = KeyQueue(4, 2)
    queue.push(torch.ones(2, 2), torch.ones(2, 3), sample_ids=torch.tensor([5, 6]))
    nothing = [NO_ID] * 4
    assert queue.ids.tolist() == [nothing, [5, 6, NO_ID, NO_ID], nothing]
    assert NO_ID < 0
    assert (queue.square == 0).all()  # of a queue that stores none
    queue.push(torch.ones(4, 2))  # and what was known of the old ones is forgotten
    assert (queue.ids == NO_ID).all()


def test_a_push_keeps_no_graph():
    queue, keys = KeyQueue(4, 2), torch.ones(2, 2, requires_grad=True)
    queue.push(keys * 2, keys * 3)
    assert not any(x.requires_grad for x in queue.state_dict().values())
    assert not any(True for _ in queue.parameters())


HALF = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@pytest.mark.parametrize('dtype', HALF, ids=str)
def test_half_precision_keys_are_normalised_in_full(dtype):
    queue = KeyQueue(4, 2)
    queue.push(torch.tensor([[3.0, 4.0], [30.0, 40.0]]).to(dtype))
    assert queue.z.dtype == torch.float32
    assert_close(queue.z[:2], torch.tensor([[0.6, 0.8]] * 2))
    assert_close(queue.norm, torch.tensor([5.0, 50.0, 0.0, 0.0]))


def test_half_precision_hidden_inputs_are_squared_in_full():
    "300² is infinite as float16."
    queue = KeyQueue(4, 2, stores_hidden=True)
    queue.push(torch.ones(2, 2).half(), torch.full((2, 3), 300.0).half())
    assert queue.square.tolist() == [270000.0, 270000.0, 0.0, 0.0]


def test_hidden_of_half_precision_is_squared_in_full():
    "300² is more than half precision holds."
    queue = KeyQueue(2, 2, stores_hidden=True)
    queue.push(torch.ones(1, 2), torch.tensor([[300.0, 400.0]]).half())
    assert queue.square[0] == 250_000


def test_a_key_of_zeros_is_near_nobody():
    queue = KeyQueue(2, 2).double()
    queue.push(torch.tensor([[0.0, 0.0], [0.0, 3.0]]))
    c = against(*torch.ones(2, 1, 2, dtype=torch.float64), queue, 0.5)
    assert c.candidates.extra['norm'].tolist()[2:] == [math.inf, 3.0]
    assert c.logits[0, 2] == 0 and c.k.tolist() == [2.0]


def push(*args, **ids):
    return lambda queue: queue.push(*args, **ids)


ones = torch.ones
BAD = {
    'two dimensions': (push(ones(2)), 'keys must be of shape (b 2), got (2,)'),
    'size': (push(ones(3, 4)), 'keys must be of shape (b 2), got (3, 4)'),
    'whole numbers': (
        push(ones(3, 2).long()),
        'keys must be a floating point tensor, got torch.int64',
    ),
    'list': (push([[1.0, 2.0]]), "keys must be a floating point tensor, got 'list'"),
    'few ids': (
        push(ones(3, 2), ones(3, 2), labels=torch.arange(2)),
        'labels must be of shape (3), got (2,)',
    ),
    'columns of ids': (
        push(ones(3, 2), ones(3, 2), labels=torch.zeros(3, 1).long()),
        'labels must be of shape (3), got (3, 1)',
    ),
    'no hidden': (
        push(ones(3, 2)),
        'hidden must be given to a queue that stores it, got None',
    ),
    'few hidden': (
        push(ones(3, 2), ones(2, 2)),
        'hidden must be of shape (3 f), got (2, 2)',
    ),
    'true size': (
        lambda q: KeyQueue(True, 2),
        'size must be a whole number ≥ 1, got True',
    ),
    'half a dimension': (
        lambda q: KeyQueue(2, 2.5),
        'dim must be a whole number ≥ 1, got 2.5',
    ),
    'other size': (
        lambda q: NTXentLoss()(*ones(2, 3, 4), queue=q),
        'queue must be of embeddings of size 4, got 2',
    ),
    'three views': (
        lambda q: NTXentLoss()(*ones(3, 3, 2), queue=q),
        'z3 must be left out where a queue is given, got 3',
    ),
    'no queue': (
        lambda q: NTXentLoss()(*ones(2, 3, 2), queue=q.z),
        'queue must be None or a KeyQueue, got (',
    ),
    'momentum': (
        lambda q: follow(nn.Linear(1, 1), nn.Linear(1, 1), 1.0),
        'momentum must be a number in [0, 1), got 1.0',
    ),
}


def unchanged(do, error):
    "The sentence of the error, after which a queue holds what it held."
    queue = filled(3)
    before = {k: v.clone() for k, v in queue.state_dict().items()}
    with pytest.raises(error) as e:
        do(queue)
    assert_close(dict(queue.state_dict()), before, rtol=0, atol=0)
    return str(e.value)


@pytest.mark.parametrize('case', BAD)
def test_refused_before_anything_is_written(case):
    do, sentence = BAD[case]
    assert sentence in unchanged(do, ValueError)


def test_an_id_of_another_name_is_refused():
    said = unchanged(push(ones(3, 2), ones(3, 2), ids=torch.arange(3)), TypeError)
    assert "'ids'" in said


# ---------------------------------------------------------------- comparing
def batch():
    queries = torch.tensor([[2.0, 0.0], [0.0, 3.0]], dtype=torch.float64)
    return queries, torch.tensor([[1.0, 1.0], [-1.0, 1.0]], dtype=torch.float64)


def test_columns_and_masks():
    "Two queries, their keys, five slots of which three are filled."
    one = torch.ones(2, 4, dtype=torch.float64)
    c = against(*batch(), filled(3), hidden=(one, 2 * one))
    assert c.logits.shape == (2, 9) and c.candidates.batch == (2, 2)
    assert c.temperature == 0.2
    views = [0, 0, 1, 1, *[MEMORY] * 3, *[EMPTY] * 2]
    assert c.candidates.view.tolist() == views
    assert places(c.anchors, c.candidates).tolist() == [0, 1]
    assert c.positive.nonzero().tolist() == [[0, 2], [1, 3]]
    negatives = [False] * 4 + [True] * 3 + [False] * 2
    assert c.negative.tolist() == [negatives] * 2 and c.k.tolist() == [3.0, 3.0]
    half = math.sqrt(0.5)
    keys = [[half, half], [-half, half]]
    slots = [[math.cos(n), math.sin(n)] for n in range(3)]
    wanted = [[1.0, 0.0], [0.0, 1.0], *keys, *slots, [0.0, 0.0], [0.0, 0.0]]
    wanted = torch.tensor(wanted, dtype=torch.float64)
    assert_close(c.candidates.z, wanted)
    assert_close(c.anchors.z, wanted[:2])
    assert_close(c.logits, wanted[:2] @ wanted.T / 0.2)
    norms = [2.0, 3.0, 2**0.5, 2**0.5, 1.0, 2.0, 3.0, math.inf, math.inf]
    assert_close(c.candidates.extra['norm'].tolist(), norms)
    squares = [4.0, 4.0, 16.0, 16.0, 4.0, 10.0, 20.0, 0.0, 0.0]
    assert_close(c.candidates.extra['square'].tolist(), squares)
    assert 'hidden' not in c.candidates.extra
    scales = [5.0**0.5 / (1 * 0.2), 11.0**0.5 / (2 * 0.2), 21.0**0.5 / (3 * 0.2)]
    assert_close(gradient_scale(c.candidates, 0.2)[4:7].tolist(), scales)


def test_without_hidden_in_the_queue_there_is_none():
    queue = KeyQueue(3, 2).double()
    queue.push(keys_from(0, 2)[0])
    h = torch.ones(2, 4, dtype=torch.float64)
    extra = against(*batch(), queue, hidden=(h, h)).candidates.extra
    assert 'square' not in extra and 'hidden' not in extra


def test_a_full_queue_has_no_empty_slot():
    assert against(*batch(), filled(7)).k.tolist() == [5.0, 5.0]
    assert against(*batch(), filled(5)).k.tolist() == [5.0, 5.0]
    one = [True] + [False] * 4
    assert against(*batch(), filled(1)).negative[:, 4:].tolist() == [one] * 2


def test_an_empty_queue_gives_no_loss():
    queries = batch()[0].requires_grad_()
    loss = NTXentLoss()(queries, batch()[1], queue=KeyQueue(5, 2).double())
    loss.backward()
    assert loss == 0 and (queries.grad == 0).all()


@pytest.mark.parametrize('name, own', (('labels', 0), ('sample_ids', 1000)))
def test_who_shares_an_id_is_no_negative(name, own):
    "The ids of the three names differ: each is compared with its own."

    def negatives(**ids):
        return against(*batch(), filled(3), **ids).negative[:, 4:7].tolist()

    for other in (0, 1000, 2000):
        ids = torch.tensor([2, 99]) + other
        wanted = [[True, True, other != own], [True, True, True]]
        assert negatives(**{name: ids}) == wanted
    labels, sample_ids = torch.tensor([0, 1]), torch.tensor([1001, 1001])
    wanted = [[False, False, True], [True, False, True]]
    assert negatives(labels=labels, sample_ids=sample_ids) == wanted


@pytest.mark.parametrize('chunk_size', (None, 1))
def test_loss_in_closed_form(chunk_size):
    "MoCo's: the key against the slots, and nobody of the batch."
    queries, keys = (x.requires_grad_() for x in batch())
    loss = NTXentLoss(0.3, reduction='none', chunk_size=chunk_size)
    losses = loss(queries, keys, queue=filled(3))
    angles, positive = (0.0, math.pi / 2), math.cos(math.pi / 4)

    def wanted(a):
        push = [math.exp((math.cos(a - n) - positive) / 0.3) for n in range(3)]
        return math.log1p(sum(push))

    assert_close(losses.tolist(), [wanted(a) for a in angles])
    losses.sum().backward()
    assert keys.grad is None and queries.grad.abs().sum(1).min() > 0


@pytest.mark.parametrize('chunk_size', (None, 1))
def test_loss_of_queue_and_batch_in_closed_form(chunk_size):
    "With `across`, the other query's key is a negative beside the slots."
    queries, keys = (x.requires_grad_() for x in batch())
    loss = NTXentLoss(0.3, pairs=across, reduction='none', chunk_size=chunk_size)
    losses = loss(queries, keys, queue=filled(3))
    positive, angles = math.cos(math.pi / 4), (0.0, math.pi / 2)
    key_of_the_other = (math.cos(3 * math.pi / 4), math.cos(math.pi / 4))

    def wanted(a, other):
        cosines = [other, *(math.cos(a - n) for n in range(3))]
        return math.log1p(sum(math.exp((x - positive) / 0.3) for x in cosines))

    pairs = zip(angles, key_of_the_other, strict=True)
    assert_close(losses.tolist(), [wanted(*pair) for pair in pairs])
    losses.sum().backward()
    assert keys.grad is None and queries.grad.abs().sum(1).min() > 0


def test_explicit_negatives_beside_the_slots():
    "They stand between batch and slots, and gradient flows into them."
    more = torch.tensor([[-5.0, 0.0]], dtype=torch.float64, requires_grad=True)
    c = against(*batch(), filled(3), negatives=more)
    views = [0, 0, 1, 1, EXTERNAL, *[MEMORY] * 3, *[EMPTY] * 2]
    assert c.candidates.view.tolist() == views
    assert c.k.tolist() == [4.0, 4.0]
    assert_close(c.logits[:, 4].tolist(), [-5.0, 0.0])
    c.logits[:, 4].sum().backward()
    assert more.grad.abs().sum() > 0


def test_keys_are_constants():
    queries, keys = (x.requires_grad_() for x in batch())
    c = against(queries, keys, filled(3))
    c.logits.sum().backward()
    assert keys.grad is None and queries.grad is not None and c.temperature == 0.2
    hot = against(queries, keys, filled(3), 0.5)
    assert hot.temperature == 0.5
    assert_close(hot.logits * 0.5, c.logits * 0.2)


def test_weights_and_debiasing_see_the_slots_only():
    queries, keys = batch()
    cosines = [[math.cos(a - n) for n in range(3)] for a in (0.0, math.pi / 2)]
    s = torch.tensor(cosines, dtype=torch.float64) / 0.5
    positive = torch.full((2,), math.cos(math.pi / 4) / 0.5, dtype=torch.float64)
    hcl = HCLLoss(0.5, 0.0, beta=2.0)(queries, keys, queue=filled(3))
    push = (3 * (2 * s).softmax(1) * s.exp()).sum(1)
    assert_close(hcl, torch.log1p(push / positive.exp()).mean())
    debiased = DebiasedNTXentLoss(0.5, 0.1)(queries, keys, queue=filled(3))
    g = (s.exp().mean(1) - 0.1 * positive.exp()) / 0.9
    g = g.clamp(min=math.exp(-2))
    assert_close(debiased, torch.log1p(3 * g / positive.exp()).mean())


def test_statistics_count_the_slots():
    "Of three slots, one shows the first query's class and two the second's."
    queue = KeyQueue(5, 2).double()
    keys, same = keys_from(0, 3)[0], torch.tensor([0, 0, 0])
    queue.push(keys, true_labels=torch.tensor([7, 8, 8]), labels=same)
    known = dict(true_labels=torch.tensor([7, 8]), return_stats=True)
    stats = NTXentLoss()(*batch(), queue=queue, **known)[1]
    assert_close(stats['false_negative_mass'].item(), (1 / 3 + 2 / 3) / 2)
    assert_close(stats['effective_negatives'].item(), 3.0)


def test_uncertainty_of_a_slot_uses_what_was_kept():
    "A key of half the length is twice as uncertain; a longer hidden input adds to it."

    def weight_of_the_first(length, hidden):
        queue = KeyQueue(3, 2, stores_hidden=True).double()
        z, h, _ = keys_from(0, 3)
        z[0] *= length
        h[0] = hidden
        queue.push(z, h)
        loss = UnReMixLoss(mix=(1.0, 0.0, 0.0), uncertainty_temperature=0.1)
        both = (torch.ones(2, 2, dtype=torch.float64),) * 2
        c = loss.contrast(*batch(), queue=queue, hidden=both)
        return loss.log_weights(c)[0, 4]

    usual = weight_of_the_first(1.0, 1.0)
    assert weight_of_the_first(0.2, 1.0) > usual < weight_of_the_first(1.0, 9.0)


def test_slots_take_the_type_of_the_batch():
    queue = KeyQueue(3, 2)
    queue.push(torch.ones(2, 2))
    assert against(*batch(), queue).logits.dtype == torch.float64
    half = (x.to(torch.bfloat16) for x in batch())
    assert NTXentLoss()(*half, queue=queue).dtype == torch.float32


@pytest.mark.parametrize('temperature', (0.2, 0.7))
def test_temperature_of_queries_against_a_queue(temperature):
    queue = KeyQueue(2, 2).double()
    queue.push(torch.eye(2).double())
    c = against(*batch(), queue, temperature)
    assert c.temperature == temperature
    assert_close(c.logits[:, -2:], torch.eye(2).double() / temperature)


# ---------------------------------------------------------------- following
@pytest.mark.parametrize('stores_hidden', ('no', None, 1))
def test_a_queue_is_told_whether_it_stores(stores_hidden):
    with pytest.raises(ValueError, match='^stores_hidden must be True or False, got'):
        KeyQueue(4, 8, stores_hidden=stores_hidden)


@pytest.mark.parametrize('stores_hidden', (True, False))
def test_hidden_rows_that_are_not_those_of_the_keys(stores_hidden):
    "Refused too where nothing of them is kept, and before anything is written."
    queue = KeyQueue(4, 8, stores_hidden=stores_hidden)
    keys = torch.randn(2, 8)
    for hidden in (torch.randn(3, 5), torch.randn(2), torch.ones(2, 5).long(), 'h'):
        with pytest.raises(ValueError, match=r'^hidden must be of shape \(2 f\), got'):
            queue.push(keys, hidden=hidden)
    assert queue.valid == 0
    queue.push(keys, hidden=torch.randn(2, 5))
    assert queue.valid == 2


@pytest.mark.parametrize('shapes', ((1, 3), (3, 1)))
def test_only_an_encoder_of_the_same_shape_is_followed(shapes):
    "PyTorch would broadcast one row over all."
    slow, encoder = (nn.Linear(4, n, bias=False) for n in shapes)
    before = slow.weight.clone()
    for other in (encoder, nn.Linear(4, shapes[0]), nn.ReLU()):
        with pytest.raises(ValueError, match='^the slow encoder must be of the same shapes'):
            follow(slow, other, 0.5)
    assert slow.weight.equal(before)


@pytest.mark.parametrize('momentum', (0.0, 0.25, 0.99))
def test_follow(momentum):
    def module():
        return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))

    copy, encoder = module(), module()
    encoder(torch.randn(4, 2))
    old, leader = (
        [x.detach().clone() for x in m.parameters()] for m in (copy, encoder)
    )
    follow(copy, encoder, momentum)
    pairs = zip(old, leader, strict=True)
    wanted = [momentum * a + (1 - momentum) * b for a, b in pairs]
    assert_close([x.detach() for x in copy.parameters()], wanted)
    for now, before in zip(encoder.parameters(), leader, strict=True):
        assert now.equal(before)
    # statistics are its own
    assert copy[1].num_batches_tracked == 0 and (copy[1].running_mean == 0).all()


# ---------------------------------------------------------------- in a run
def weights_of(module):
    return [p.detach().clone() for p in module.parameters()]


@pytest.fixture(scope='module')
def stepped():
    """A run with a queue, before and after its first two steps.

    The follower's outputs and the loss's arguments are written down.
    """
    config = run_of(
        limit=32,
        batch_size=8,
        strategy='hcl',
        queue_size=20,
        momentum=0.75,
        precision='32-true',
        accelerator='cpu',
        head_out=4,
        log_every=1,
    )
    run = set_up(config)
    seen, given, leaders, followers = [], [], [], []

    def see(module, args, out):
        seen.append((args[0].clone(), *(x.clone() for x in out)))

    def hear(module, args, kwargs):
        given.append((args, kwargs))

    def record():
        leaders.append(weights_of(run.model.module))
        followers.append(weights_of(run.follower))

    run.follower.register_forward_hook(see)
    run.criterion.register_forward_pre_hook(hear, with_kwargs=True)
    record()
    steps = epoch_steps(run, 0)
    for _ in range(2):
        next(steps)
        record()
    steps.close()
    return run, seen, given, leaders, followers


def test_the_momentum_encoder_follows(stepped):
    run, _, _, leaders, followers = stepped
    triples = zip(followers[0], followers[1], leaders[1], strict=True)
    for old, new, leader in triples:
        assert_close(new, 0.75 * old + 0.25 * leader)

    def same(one, other):
        return all(a.equal(b) for a, b in zip(one, other, strict=True))

    assert not same(followers[0], followers[1]) and same(leaders[0], followers[0])
    assert not any(p.grad is not None for p in run.follower.parameters())


def test_the_follower_makes_the_keys(stepped):
    run, seen, given, _, _ = stepped
    for step, (views, z, h) in enumerate(seen):
        assert len(views) == 8  # second views only
        args, kwargs = given[step]
        assert_close(args[1], z)
        slots = slice(8 * step, 8 * step + 8)
        assert_close(run.queue.z[slots], z / z.norm(dim=1, keepdim=True))
        assert_close(run.queue.norm[slots], z.norm(dim=1))
        assert_close(run.queue.square[slots], h.square().sum(1))
        assert_close(kwargs['hidden'][1], h)
        assert kwargs['queue'] is run.queue


def test_keys_carry_their_ids(stepped):
    "Which image it was, and its class; the loss is asked about the same images."
    run, _, given, _, _ = stepped
    for step, (_, kwargs) in enumerate(given):
        ids, slots = kwargs['sample_ids'], slice(8 * step, 8 * step + 8)
        kept = dict(zip(QUEUE_IDS, run.queue.ids[:, slots], strict=True))
        assert len(ids.unique()) == 8 and kept['sample_ids'].equal(ids)
        for name in ('labels', 'true_labels'):
            assert kept[name].equal(run.images.y[ids])
        assert kwargs['true_labels'].equal(run.images.y[ids])
    assert run.queue.valid == 16 and run.queue.pointer == 16


def test_what_the_configuration_says_reaches_the_loss():
    config = run_of(strategy='hcl', chunk_size=7, gather_distributed=False)
    criterion = make_criterion(config)
    assert (criterion.chunk_size, criterion.gather_distributed) == (7, False)
    usual = make_criterion(TrainConfig())
    assert usual.chunk_size is None and usual.gather_distributed


def test_a_state_without_hidden_inputs_is_refused():
    queue, plain = KeyQueue(4, 2, stores_hidden=True), KeyQueue(4, 2)
    queue.load_state_dict(plain.state_dict())  # nothing is in it
    plain.push(torch.ones(1, 2))
    with pytest.raises(ValueError, match='^state_dict must be of a queue that stores hidden inputs, got'):
        torch.nn.ModuleDict(dict(q=queue)).load_state_dict({f'q.{k}': v for k, v in plain.state_dict().items()})
    assert queue.valid == 0
    again = KeyQueue(4, 2, stores_hidden=True)
    queue.push(torch.ones(1, 2), torch.ones(1, 3))
    again.load_state_dict(queue.state_dict())
    plain.load_state_dict(queue.state_dict())  # which stores less
    assert again.square[0] == 3 and plain.valid == 1
