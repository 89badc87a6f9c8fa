"""Queues, processes, selection and encoders in tiny exact cases.

Several processes are threads that meet at a barrier.
"""

import math
import threading
from dataclasses import fields

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close
from unremix import call, gather, selection
from unremix import queue as queues
from unremix.contrast import compare
from unremix.embeddings import embed, from_views, places, stack
from unremix.encoders import Model, ProjectionHead, Residual, conv, make_encoder
from unremix.gradient_norm import hidden_square
from unremix.hard_negatives import HCL
from unremix.info_nce import InfoNCE
from unremix.knobs import Knobs
from unremix.losses import HCLLoss, NTXentLoss, UnReMixLoss
from unremix.queue import KeyQueue, follow, slots_of
from unremix.rules import OutsideBatch, Without, views as other_views
from unremix.uncertainty import Indicator
from unremix.unremix import UnReMix, mixture


def draw(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


B, D, T = 4, 3, 0.4
Z1, Z2, MORE = draw(B, D), draw(B, D, seed=1), draw(6, D, seed=2)
H1, H2 = draw(B, 5, seed=3), draw(B, 5, seed=4)
Z, H = (Z1, Z2, draw(B, D, seed=5)), (H1, H2, draw(B, 5, seed=6))
CLASSES = torch.tensor([0, 0, 1, 1])

# processes


class Threads:
    "A process group whose processes are threads."

    def __init__(self, size):
        self.size, self.local = size, threading.local()
        self.sent, self.barrier = [None] * size, threading.Barrier(size, timeout=20)

    def rank_and_size(self):
        return self.local.rank, self.size

    def all_gather(self, x):
        self.sent[self.local.rank] = x.detach()
        self.barrier.wait()
        found = torch.stack(self.sent)
        self.barrier.wait()
        return found

    def all_sum(self, x):
        return self.all_gather(x).sum(0)

    def run(self, job):
        "What `job(rank)` gives on each rank, or the exception it raised."
        found = [None] * self.size

        def one(rank):
            self.local.rank = rank
            try:
                found[rank] = job(rank)
            except Exception as e:
                found[rank] = e

        threads = [threading.Thread(target=one, args=(r,)) for r in range(self.size)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        return found


@pytest.fixture
def group(monkeypatch):
    def of(size):
        threads = Threads(size)
        for module in (gather, queues, call):
            for name in ('rank_and_size', 'all_gather', 'all_sum'):
                if hasattr(module, name):
                    monkeypatch.setattr(module, name, getattr(threads, name))
        return threads

    return of


def simclr(**k):
    return NTXentLoss(T, **k)


def debiased_hcl(**k):
    return HCLLoss(T, 0.1, 1.7, **k)


def hcl(**k):
    return HCLLoss(T, 0.0, 1.7, **k)


def others_only(**k):
    return NTXentLoss(T, pairs=OutsideBatch(other_views), **k)


def influence(**k):
    return UnReMixLoss(T, detach_weights=False, uncertainty='influence', **k)


def in_blocks(**k):
    return UnReMixLoss(T, chunk_size=1, **k)


def unremix(**k):
    return UnReMixLoss(T, **k)


IDS = torch.cat([CLASSES, torch.tensor([0, 1, 2, 0, 1, 2])])
CASES = [
    (2, simclr, ()),
    (3, simclr, ()),
    (2, debiased_hcl, ('negatives',)),
    (3, debiased_hcl, ('negatives',)),
    (2, hcl, ('labels', 'negatives')),
    (3, hcl, ('labels', 'negatives')),
    (2, others_only, ('negatives', 'sample_ids')),
    (3, others_only, ('negatives', 'sample_ids')),
    (2, influence, ('hidden', 'labels')),
    (3, influence, ('hidden', 'labels')),
    (2, in_blocks, ('hidden',)),
    (3, in_blocks, ('hidden',)),
    (2, hcl, ('queue', 'hidden', 'labels')),
    (2, unremix, ('queue', 'hidden')),
    (2, unremix, ('queue', 'negatives', 'sample_ids')),
]


def known_of(own, more, given, negatives, count):
    "What goes with the views of a process: its images and its further negatives."
    both = torch.cat([CLASSES[own], IDS[B:][more]])
    ids = both if 'negatives' in given else CLASSES[own]
    known = dict(true_labels=ids)
    if 'hidden' in given:
        known['hidden'] = tuple(h[own] for h in H[:count])
    if 'negatives' in given:
        known['negatives'] = negatives
    for name in ('labels', 'sample_ids'):
        if name in given:
            known[name] = ids
    if 'queue' in given:
        known['queue'] = KeyQueue(12, D, stores_hidden=True).double()
        of_keys = dict(labels=CLASSES[own], true_labels=CLASSES[own])
        known['queue'].push(Z2[own] + 1, H2[own], **of_keys)
    return known


@pytest.mark.parametrize('count, make, given', CASES)
def test_two_processes_are_one(count, make, given, group):
    "Losses, statistics and gradients of two ranks are those of one with all images."

    def loss_of(own, more, **knobs):
        leaves = *(z[own] for z in Z[:count]), MORE[more]
        *views, negatives = inputs = [x.clone().requires_grad_() for x in leaves]
        known = known_of(own, more, given, negatives, count)
        loss, stats = make(**knobs)(*views, **known, return_stats=True)
        loss.backward()
        grads = [torch.zeros_like(x) if x.grad is None else x.grad for x in inputs]
        return loss.detach(), stats, grads

    def half(rank):
        own, more = slice(2 * rank, 2 * rank + 2), slice(3 * rank, 3 * rank + 3)
        return loss_of(own, more, gather_distributed=True)

    loss, stats, grads = loss_of(slice(None), slice(None))
    found = group(2).run(half)
    assert_close(sum(f[0] for f in found) / 2, loss)
    for name in stats:
        assert_close(sum(f[1][name] for f in found) / 2, stats[name], msg=name)
    for i, wanted in enumerate(grads):
        assert_close(torch.cat([f[2][i] for f in found]) / 2, wanted)


COLUMNS = {  # places of the anchors of two ranks, and of their positives
    2: (
        ([0, 1, 4, 5], [[4], [5], [0], [1]]),
        ([2, 3, 6, 7], [[6], [7], [2], [3]]),
    ),
    3: (
        ([0, 1, 4, 5, 8, 9], [[4, 8], [5, 9], [0, 8], [1, 9], [0, 4], [1, 5]]),
        ([2, 3, 6, 7, 10, 11], [[6, 10], [7, 11], [2, 10], [3, 11], [2, 6], [3, 7]]),
    ),
}


@pytest.mark.parametrize('count', (2, 3))
def test_columns_of_a_rank(count, group):
    """View by view of all ranks, then explicit negatives, then a queue's slots.

    What is computed for each of them is shared out among the ranks.
    """

    def job(rank):
        own = slice(2 * rank, 2 * rank + 2)
        hidden = [h[own] for h in H[:count]]
        batch = from_views([z[own] for z in Z[:count]], hidden)
        further = embed(MORE[rank : rank + 1], hidden=H1[:1])
        anchors, candidates = gather.gathered(stack(batch, further))
        c = compare(anchors, candidates)
        positives = [row.nonzero().flatten().tolist() for row in c.positive]
        wide = stack(candidates, slots_of(KeyQueue(4, D).double(), candidates.z))
        number, asked = torch.arange(len(wide)), []

        def compute(rows):
            asked.append(number[rows])
            return number[rows]

        found = wide.each(compute, 3)
        assert found.tolist() == number.tolist()
        assert 'hidden' in candidates.extra and 'hidden' not in wide.extra
        at = places(anchors, candidates).tolist()
        return (at, positives), torch.cat(asked).tolist()

    columns, asked = zip(*group(2).run(job), strict=True)
    assert columns == COLUMNS[count]
    n = 4 * count + 2 + 4
    assert asked == (list(range(n // 2)), list(range(n // 2, n)))


@pytest.mark.parametrize('count', (1, 5, 7, 13))
def test_parts_of_a_number_that_does_not_divide(count, group):
    "Nobody is left out, and a rank without a part of its own repeats the last row."

    def job(rank):
        number = torch.arange(count)
        e = embed(draw(count, D))
        shared = gather.Shared(**{f.name: getattr(e, f.name) for f in fields(e)})
        return shared.each(lambda rows: number[rows], 3).tolist()

    assert group(2).run(job) == [list(range(count))] * 2


def test_order_of_what_is_joined(group):
    def job(rank):
        mine = torch.tensor([0, 1, 2, 3, 4]) + 10 * rank
        parts = gather.all_gather(mine)
        two_views = gather.in_order(parts, 2, 2).tolist()
        four_views = gather.in_order(parts, 4, 1).tolist()
        return two_views, four_views, gather.in_order(parts[:, :4], 1, 4).tolist()

    for found in group(2).run(job):
        assert found == (
            [0, 1, 10, 11, 2, 3, 12, 13, 4, 14],
            [0, 10, 1, 11, 2, 12, 3, 13, 4, 14],
            [0, 1, 2, 3, 10, 11, 12, 13],
        )


def test_ids_of_what_is_joined(group):
    "Those of the images view by view, then those of the explicit negatives."

    def job(rank):
        views = [z[2 * rank : 2 * rank + 2] for z in Z[:2]]
        mine = torch.tensor([0, 1]) + 10 * rank
        batch = from_views(views, labels=mine, copies=mine + 100)
        further = embed(MORE[rank : rank + 1], label=10 * rank + 4)
        _, found = gather.gathered(stack(batch, further))
        return {name: getattr(found, name).tolist() for name in gather.IDS}

    images, further = [0, 1, 10, 11] * 2, [4, 14]
    for found in group(2).run(job):
        assert found == dict(
            sample=[0, 1, 2, 3] * 2 + [-1, -1],
            view=[0] * 4 + [1] * 4 + [-1, -1],
            label=images + further,
            copy=[x + 100 for x in images] + [-1, -1],
        )


def test_ids_of_images_alone_are_unknown_of_the_negatives(group):
    "One rank knows ids of its further negatives, another one does not."

    def of(ranks_ids):
        def job(rank):
            own = slice(2 * rank, 2 * rank + 2)
            known = dict(negatives=MORE[:2], sample_ids=ranks_ids[rank])
            loss = NTXentLoss(T, gather_distributed=True)
            return loss(Z1[own], Z2[own], **known)

        return group(2).run(job)

    both, images, unknown = (torch.tensor(x) for x in ([0, 1, 0, 1], [0, 2], [-1, -1]))
    assert_close(of((both, images)), of((both, torch.cat([images, unknown]))))


def differing(what, other):
    "Views and companions of one rank, of which the other one has other `what`."
    b = 3 if other and what == 'images' else 2
    count = 3 if other and what == 'views' else 2
    known = dict(hidden=tuple(h[:b] for h in H[:count]), true_labels=torch.arange(b))
    if what == 'negatives':
        known |= dict(negatives=MORE[: 2 + other], hidden=None)
    if what == 'size of hidden' and other:
        known['hidden'] = tuple(h[:, 1:] for h in known['hidden'])
    if what == 'size of an embedding':
        return [torch.cat([z[:b], z[:b, :other]], 1) for z in Z[:count]], known
    if what == 'kinds of ids':
        known['labels'] = torch.arange(b)
    if what == 'kinds of ids' and other:
        known['sample_ids'] = torch.arange(b)
    if what == 'true labels' and other:
        known['true_labels'] = None
    if what == 'extras' and other:
        known['hidden'] = None
    return [z[:b] for z in Z[:count]], known


NAMED = {
    'views': 'the number of views',
    'images': 'the number of images',
    'negatives': 'the number of negatives',
    'size of an embedding': 'the size of an embedding',
    'size of hidden': 'the size of hidden',
    'kinds of ids': 'whether sample_ids are given',
    'true labels': 'the number of true labels',
    'extras': 'the size of hidden',
}


@pytest.mark.parametrize('what', NAMED)
def test_what_differs_between_ranks_is_named(what, group):
    def job(rank):
        views, known = differing(what, rank == 1)
        loss = UnReMixLoss(T, uncertainty='influence', gather_distributed=True)
        return loss(*views, **known, return_stats=True)

    for found in group(2).run(job):
        assert isinstance(found, ValueError)
        for words in ('on every rank', 'on rank 1', NAMED[what]):
            assert words in str(found)


def test_keys_of_all_ranks_in_one_order(group):
    def job(rank):
        queue, own = KeyQueue(5, D), slice(2 * rank, 2 * rank + 2)
        labels = torch.tensor([rank, rank])
        queue.push(Z1[own], sample_ids=CLASSES[own] + 4, labels=labels)
        return queue

    alone = KeyQueue(5, D)
    with torch.no_grad():
        alone.z[:B] = F.normalize(Z1)
    for queue in group(2).run(job):
        assert_close(queue.z, alone.z)
        assert queue.ids[0, :4].tolist() == [0, 0, 1, 1]
        assert queue.ids[1, :4].tolist() == [4, 4, 5, 5]
        assert queue.valid == 4 and queue.pointer == 4


def test_cost_of_gathering():
    """4 ranks of 2 images with 3 numbers per embedding: 12 rows of others come in.

    Of each come the embedding, one number beside it and four ids of 8 bytes.
    """
    assert gather.gather_cost(4, 2, 3) == dict(
        ranks=4,
        n=16,
        forward_bytes=12 * (4 * (3 + 1) + 8 * 4),
        backward_bytes=2 * 4 * 12 * 3,
        block_bytes=4 * 4 * 16,
        operations=12 * 2 * 16 * 3,
    )
    assert gather.gather_cost(1, 2, 3)['backward_bytes'] == 0
    assert gather.gather_cost(4, 2, 3, chunk=1)['block_bytes'] == 4 * 16


# queues


def test_new_keys_replace_the_oldest():
    queue = KeyQueue(4, 2, stores_hidden=True)
    keys = torch.tensor([[2.0, 0], [0, 3], [-4, 0], [0, -5], [6, 0], [3, 4]])
    for i, part in enumerate(keys.split((3, 2, 1))):
        ids = torch.arange(len(part)) + 10 * (i + 1)
        queue.push(part, part, sample_ids=ids, labels=ids + 100)
    assert_close(queue.z, torch.tensor([[1.0, 0], [0.6, 0.8], [-1, 0], [0, -1]]))
    assert queue.norm.tolist() == [6, 5, 4, 5]
    assert queue.square.tolist() == [36, 25, 16, 25]
    unknown = [queues.NO_ID] * 4
    assert queue.ids.tolist() == [[121, 130, 112, 120], [21, 30, 12, 20], unknown]
    assert (queue.pointer, queue.valid) == (2, 4)


@pytest.mark.parametrize('before', (0, 1, 2))
def test_more_keys_than_slots(before):
    "The last ones stay, where they would lie had they come one by one."
    at_once, one_by_one = KeyQueue(3, 1), KeyQueue(3, 1)
    keys = torch.arange(1.0, 9)[:, None]
    if before:
        for queue in (at_once, one_by_one):
            queue.push(keys[:before])
    at_once.push(keys[before:], sample_ids=torch.arange(before, 8))
    for i in range(before, 8):
        one_by_one.push(keys[i : i + 1], sample_ids=torch.tensor([i]))
    for name, buffer in one_by_one.named_buffers():
        assert_close(getattr(at_once, name), buffer)
    assert sorted(at_once.norm.tolist()) == [6, 7, 8]


def test_empty_slots_have_no_direction():
    queue = KeyQueue(2, D).double()
    slots = slots_of(queue, Z1)
    assert (slots.extra['norm'] == math.inf).all() and (slots.z == 0).all()
    assert queue.norm.isfinite().all()  # so that an average of buffers is
    assert (queue.z == 0).all() and (queue.ids == queues.NO_ID).all()


def half_full():
    queue = KeyQueue(5, D).double()
    ids = dict(sample_ids=torch.tensor([7, 8, 9]), labels=torch.tensor([0, 1, 1]))
    queue.push(MORE[:3], **ids)
    return queue


def against(queue, q=Z1, k=Z2, **known):
    return NTXentLoss(0.2).contrast(q, k, queue=queue, **known)


def test_slots_are_the_only_negatives():
    c = against(half_full())
    assert c.temperature == 0.2 and c.logits.shape == (B, 2 * B + 5)
    row = [False] * 2 * B + [True] * 3 + [False] * 2
    assert c.negative.tolist() == [row] * B
    assert c.k.tolist() == [3] * B
    q, k, slots = (F.normalize(x) for x in (Z1, Z2, MORE[:3]))
    assert_close(c.logits[:, 2 * B : 2 * B + 3], q @ slots.T / 0.2)
    assert_close(c.logits[c.positive], (q * k).sum(1) / 0.2)
    assert places(c.anchors, c.candidates).tolist() == list(range(B))
    its_key = torch.eye(2 * B + 5, dtype=torch.bool)[B : 2 * B]
    assert c.positive.tolist() == its_key.tolist()


def test_gradient_flows_into_queries_only():
    q, k = (z.clone().requires_grad_() for z in (Z1, Z2))
    against(half_full(), q, k).logits.sum().backward()
    assert q.grad.abs().max() > 0 and k.grad is None


def test_ids_of_slots():
    ids, labels = torch.tensor([1, 2, 8, 3]), torch.tensor([0, 1, 2, 1])
    c = against(half_full(), sample_ids=ids, labels=labels)
    first, second = [False, True, True], [True, False, False]
    wanted = [first, second, [True, False, True], second]
    assert c.negative[:, 2 * B : 2 * B + 3].tolist() == wanted


def test_full_queue_has_no_empty_slot():
    queue = half_full()
    queue.push(MORE[3:5])
    assert against(queue).k.tolist() == [5] * B


def test_loss_against_a_queue():
    "Infonce by hand, and the statistics' labels are the queue's."
    queue = half_full()
    queue.push(MORE[3:4], true_labels=torch.tensor([1]))
    known = dict(queue=queue, true_labels=CLASSES)
    loss, stats = NTXentLoss(T)(Z1, Z2, **known, return_stats=True)
    q, k, m = (F.normalize(x) for x in (Z1, Z2, MORE[:4]))
    logits = torch.cat([(q * k).sum(1, keepdim=True), q @ m.T], 1) / T
    first = torch.zeros(B, dtype=torch.long)
    assert_close(loss, F.cross_entropy(logits, first))
    # two of four anchors, a quarter each
    assert_close(stats['false_negative_mass'], torch.tensor(0.125))


def test_norms_and_hidden_of_slots():
    queue = KeyQueue(3, D, stores_hidden=True).double()
    queue.push(MORE[:2], H1[:2])
    c = UnReMixLoss(T).contrast(Z1, Z2, hidden=(H1, H2), queue=queue)
    norm = c.candidates.extra['norm'][2 * B : 2 * B + 2]
    assert_close(norm, MORE[:2].norm(dim=1), rtol=1e-6, atol=0)
    hidden = torch.cat([H1, H2, H1[:2], torch.zeros(1, 5)])
    assert_close(hidden_square(c.candidates), hidden.square().sum(1))


def test_momentum_encoder_follows():
    encoder, copy = nn.Linear(2, 2), nn.Linear(2, 2)
    pairs = zip(copy.parameters(), encoder.parameters(), strict=True)
    wanted = [0.9 * c.detach() + 0.1 * e.detach() for c, e in pairs]
    kept = [e.clone() for e in encoder.parameters()]
    follow(copy, encoder, 0.9)
    assert_close([p.detach() for p in copy.parameters()], wanted)
    assert_close(list(encoder.parameters()), kept)


def test_queue_needs_what_it_stores():
    with pytest.raises(ValueError, match='hidden'):
        KeyQueue(4, D, stores_hidden=True).push(Z1)
    with pytest.raises(ValueError, match='keys'):
        KeyQueue(4, D + 1).push(Z1)
    with pytest.raises(TypeError, match='names'):
        KeyQueue(4, D).push(Z1, names=CLASSES)
    with pytest.raises(ValueError, match='sample_ids'):
        KeyQueue(4, D).push(Z1, sample_ids=CLASSES[:3])


# selection


def negatives_of(i, count=2):
    return [j for j in range(count * B) if j % B != i % B]


def batch(seed=0, count=2):
    seeds = range(seed, seed + 10 * count, 10)
    return from_views([draw(B, D, seed=s) for s in seeds], labels=CLASSES)


def views(seed=0, count=2):
    e = batch(seed, count)
    return compare(e, e, other_views, T)


def same_class(count=2):
    classes = CLASSES.repeat(count)
    return classes[:, None] == classes


SAME = same_class()
both_counts = pytest.mark.parametrize('count', (2, 3))


@both_counts
@pytest.mark.parametrize('measure, power', (('weight', 0), ('push', 1)))
def test_hardness_and_mass_by_loops(measure, power, count):
    batches = [views(seed, count) for seed in (0, 5)]
    same, hard, mass = same_class(count), [], []
    for c in batches:
        for i in range(count * B):
            neg = negatives_of(i, count)
            cos = c.logits[i, neg] * T
            p = ((1.7 + power) * cos / T).softmax(0)
            hard.append((p * cos).sum())
            mass.append(p[same[i, neg]].sum())
    found = selection.hardness_and_mass(batches, [same] * 2, HCL(1.7), measure)
    wanted = [torch.stack(x).mean().item() for x in (hard, mass)]
    assert_close(list(found), wanted)


@both_counts
def test_shares_are_of_the_push_by_default(count):
    c = views(count=count)
    p = selection.shares(c, HCL(1.7)(c))
    assert_close(p.sum(1), torch.ones(count * B, dtype=torch.float64))
    assert not p[~c.negative].any()
    assert_close(p, HCL(2.7)(c).exp() / (count * B - count))


def two_batches(count=2):
    return [views(seed, count) for seed in (0, 5)], [same_class(count)] * 2


@both_counts
def test_yardstick_recognises_hcl(count):
    "HCL lies on its own curve, at its own β, by both measures."
    batches, same = two_batches(count)
    stick = selection.Yardstick(batches, same)
    for measure in ('weight', 'push'):
        found = stick.judge(HCL(1.7), measure)
        assert abs(found['beta'] - 1.7) < 2e-3 and abs(found['excess']) < 1e-4
        wanted = selection.hardness_and_mass(batches, same, HCL(1.7), measure)
        assert (found['hardness'], found['mass']) == wanted
    easy = stick.judge(lambda c: selection.tilt(c, -2.0), 'weight')
    assert abs(easy['beta'] + 2) < 2e-3 and abs(easy['excess']) < 1e-4


def test_excess_is_mass_beyond_hcl():
    "Weight taken from same-label negatives of equal cosine is an excess below 0."
    batches, same = two_batches()
    stick = selection.Yardstick(batches, same)

    def knowing(c):
        return HCL(1.7)(c) - 3 * SAME

    hard, mass = selection.hardness_and_mass(batches, same, knowing)
    found, at = stick.judge(knowing), stick.match(HCL, hard)
    assert abs(at['hardness'] - hard) < 1e-3
    assert abs(found['excess'] - (mass - at['mass'])) < 1e-3
    assert found['excess'] < -0.1
    assert abs(at['own_beta'] - found['beta']) < 1e-2


@pytest.mark.parametrize('measure', ('weight', 'push'))
def test_match_by_each_measure(measure):
    batches, same = two_batches()
    stick = selection.Yardstick(batches, same)
    hard, mass = selection.hardness_and_mass(batches, same, HCL(1.7), measure)
    found = stick.match(HCL, hard, measure)
    wanted = dict(own_beta=1.7, hardness=hard, mass=mass, beta=1.7, excess=0.0)
    for name in wanted:
        assert abs(found[name] - wanted[name]) < 5e-3, name


def test_no_match_is_nan():
    stick = selection.Yardstick([views()], [SAME])
    for wanted in (-2.0, 2.0):
        assert all(math.isnan(x) for x in stick.match(HCL, wanted).values())


@both_counts
def test_profile_of_ranks_by_loops(count):
    c, same, n = views(count=count), same_class(count), count * B

    def weighting(c):
        return HCL(1.7)(c) - 2 * same

    p = selection.shares(c, weighting(c))
    order = []
    for row, i in zip(c.logits.tolist(), range(n), strict=True):
        order.append(sorted(negatives_of(i, count), key=lambda j: -row[j]))
    found = selection.rank_profile(c, p)
    for rank in range(n - count):
        mean = sum(p[i, order[i][rank]] for i in range(n)) / n
        for i in range(n):
            assert_close(found[i, order[i][rank]], mean)
    known = selection.knowledge([c, c], [same, same], weighting)
    assert_close(known['knowledge'], ((p - found) * same).sum(1).mean().item())
    assert_close(known['rank_hardness'], (found * c.logits * T).sum(1).mean().item())


@both_counts
def test_oracle_removes_the_anchors_class(count):
    "It is HCL under another rule, and the loss makes that rule of labels."
    e, z = batch(count=count), [draw(B, D, seed=s) for s in range(0, 10 * count, 10)]
    c = compare(e, e, Without(other_views, 'label'), T)
    assert selection.hardness_and_mass([c], [same_class(count)], HCL(1.7))[1] == 0
    known = dict(labels=CLASSES, true_labels=CLASSES, return_stats=True)
    loss, stats = HCLLoss(T, 0.0, 1.7)(*z, **known)
    assert_close(loss, InfoNCE()(c, HCL(1.7)(c)).mean())
    assert stats['false_negative_mass'] == 0


@both_counts
def test_placebo_permutes_candidates(count):
    "One permutation for all anchors; who has no score passes the mean on."
    c, n = views(count=count), count * B
    value = draw(n, n, seed=9)
    found = selection.swap_candidates(Indicator(value, low=-5.0), c)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0)).tolist()
    assert order != list(range(n)) and found.low == -5
    for i in range(n):
        neg = negatives_of(i, count)
        for j in range(n):
            wanted = value[i, order[j]] if order[j] in neg else value[i, neg].mean()
            assert_close(found.value[i, j], wanted)


@both_counts
def test_what_each_placebo_swaps(count):
    c = views(count=count)
    known = [opinion() for opinion in UnReMix().opinions(c)]
    u, r = (x.value for x in known)
    other_u, other_r = (selection.swap_candidates(x, c).value for x in known)
    assert not torch.equal(other_u, u.expand_as(other_u))
    assert not torch.equal(other_r, r)
    for swap, wanted in (('u', (other_u, r)), ('ur', (other_u, other_r))):
        placebo = selection.Placebo(swap=swap)
        assert_close(tuple(f().value for f in placebo.opinions(c)), wanted)
        swapped = [Indicator(x, i.low, i.unit, i.floor) for x, i in zip(wanted, known)]
        by_hand = mixture(c, Knobs(), *(lambda i=i: i for i in swapped))
        assert_close(placebo(c), by_hand)
    assert selection.Placebo() == selection.Placebo(swap='u')


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
    from unremix import data, image_sets
    plain = data.Images(torch.zeros(1, 1, 2, 2, dtype=torch.uint8), torch.zeros(1, dtype=torch.long), ('T-shirt/top',), 'fashion_mnist')
    monkeypatch.setattr(image_sets, 'from_torchvision', lambda *args: plain)
    assert data.load_dataset('fashion_mnist', 'test', tmp_path).classes == image_sets.CLOTHES

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
