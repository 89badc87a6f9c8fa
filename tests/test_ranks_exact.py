"Gathering, number by number: threads are ranks, one process with all images is right."

import math
import warnings
from dataclasses import fields, replace

import pytest
import torch
from torch.testing import assert_close

from threads import Threads
from unremix import ContrastiveLoss, DebiasedNTXentLoss, HCLLoss, KeyQueue
from unremix import NTXentLoss, OutsideBatch, UnReMixLoss, Without
from unremix.contrast import Comparison, compare, prepared_for
from unremix.embeddings import EMPTY, IDS, MEMORY, UNKNOWN, Embeddings, embed
from unremix.embeddings import from_views, places, stack
from unremix.false_negatives import GloFNDLoss
from unremix.gather import Shared, all_gather, all_sum, gather_cost, gathered, in_order
from unremix.gather import rank_and_size, require_alike, warn_alone
from unremix.hard_negatives import uniform
from unremix.queue import slots_of
from unremix.rules import views
from unremix.solved_weights import Transport
from unremix.unremix import UnReMix

SIZES = 2, 3
every_size = pytest.mark.parametrize('size', SIZES)
CPU = torch.device('cpu')


def tensors(seed, *shape):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def part(x, rank, size):
    return x.chunk(size)[rank]


def numbered(b, m, rank=0):
    "Two views of b images and m further candidates; row i of rank r is 100r + i."
    e = stack(from_views([tensors(rank, b, 4)] * 2), embed(tensors(rank + 9, m, 4)))
    number = torch.arange(len(e)) + 100 * rank
    return replace(e, extra={'number': number})


def shared(e):
    "The same embeddings, as every process has them."
    return Shared(**{f.name: getattr(e, f.name) for f in fields(e)})


# ---------------------------------------------------------------- what is sent
def test_alone_nothing_is_gathered():
    assert rank_and_size() == (0, 1)
    z = tensors(0, 2, 3, 4)
    comparison = NTXentLoss(gather_distributed=True).comparison(*z)
    assert comparison.anchors is comparison.candidates
    assert type(comparison.candidates) is Embeddings
    assert NTXentLoss(gather_distributed=True)(*z) == NTXentLoss()(*z)


@every_size
def test_the_collectives(size):
    table = torch.tensor([[1.0, 2.0], [3.0, 4.0]])

    def work(rank):
        x = table * (rank + 1)
        return all_gather(x), all_sum(x.clone()), rank_and_size()

    factors = torch.arange(1.0, size + 1)
    for rank, (stacked, total, me) in enumerate(Threads(size).run(work)):
        assert stacked.equal(factors[:, None, None] * table)
        assert total.equal(factors.sum() * table)
        assert me == (rank, size)


def test_what_is_sent_is_contiguous(monkeypatch):
    "gloo and NCCL refuse anything else."
    sent = []

    def collective(x):
        sent.append(x.is_contiguous())
        return x[None]

    for name in ('all_gather', 'all_sum'):
        monkeypatch.setattr(f'unremix.gather.{name}', collective)
    z = tensors(0, 4, 3).T.requires_grad_()
    ids = torch.arange(6).reshape(3, 2)[:, 1]
    extra = {'hidden': tensors(1, 5, 3).T}
    e = Embeddings(z, ids, ids, ids, ids, extra, batch=(1, 3))
    _, candidates = gathered(e, {'something else': 1})
    candidates.z.backward(tensors(2, 4, 3).T)
    candidates.each(lambda rows: tensors(3, 2, 3).T[rows], 2)
    # the numbers to agree on, z, ids, hidden; gradient of z; what is computed
    assert sent == [True] * 6


def test_what_is_not_contiguous_is_gathered_all_the_same():
    z, ids = torch.arange(15.0).reshape(3, 5).T, torch.arange(10).reshape(5, 2)[:, 1]
    e = Embeddings(z, ids, ids, ids, ids, {'norm': z[:, 1]}, batch=(2, 2))
    for _, candidates in Threads(2).run(lambda rank: gathered(e)):
        own = [0, 1, 4, 5, 8]
        assert candidates.z[own].equal(z)
        assert candidates.label[own].equal(ids)
        assert candidates.extra['norm'][own].equal(z[:, 1])


# ---------------------------------------------------------------- where it stands
def test_order_of_columns():
    "Rank 0 has views 0 1 | 10 11 and negatives 20 21 22; rank 1 a hundred more."
    mine = torch.tensor([0, 1, 10, 11, 20, 21, 22])
    first, second = [0, 1, 100, 101], [10, 11, 110, 111]
    behind = [20, 21, 22, 120, 121, 122]
    found = in_order(torch.stack([mine, mine + 100]), 2, 2)
    assert found.tolist() == first + second + behind


def test_order_of_columns_of_three_views():
    mine = torch.tensor([0, 1, 10, 11, 20, 21, 30])
    found = in_order(torch.stack([mine, mine + 100]), 3, 2)
    batch = [[x, x + 1, x + 100, x + 101] for x in (0, 10, 20)]
    assert found.tolist() == sum(batch, []) + [30, 130]


@pytest.mark.parametrize('size, b, m', ((2, 2, 3), (3, 4, 0), (3, 1, 2)))
def test_which_columns_are_whose(size, b, m):
    "Every column has one owner, who finds there what it has put in."

    def work(rank):
        mine = numbered(b, m, rank)
        return mine, *gathered(mine)

    found = Threads(size).run(work)
    _, _, whole = found[0]
    owned = []
    for rank, (mine, anchors, candidates) in enumerate(found):
        assert candidates.z.equal(whole.z)
        assert candidates.extra['number'].equal(whole.extra['number'])
        assert candidates.batch == (2, size * b) and len(anchors) == 2 * b
        first = [*range(rank * b, rank * b + b)]
        place = places(anchors, candidates)
        assert place.tolist() == first + [size * b + i for i in first]
        behind = 2 * size * b + rank * m + torch.arange(m)
        own = torch.cat([place, behind])
        assert candidates.z[own].equal(mine.z)
        assert candidates.extra['number'][own].equal(mine.extra['number'])
        positive = views(anchors, candidates).positive
        assert positive.nonzero()[:, 1].equal(place.roll(b))
        owned.append(own)
    assert torch.cat(owned).sort().values.tolist() == list(range(size * (2 * b + m)))


@every_size
def test_what_is_gathered_sends_gradient_back_to_everybody(size):
    """The owner of a column gets the sum of what comes back from all ranks.

    Column c has the coefficient c+1 on rank 0, twice that on rank 1, and so on.
    """
    everybody = sum(range(1, size + 1))

    def work(rank):
        mine = numbered(2, 1, rank)
        mine = replace(mine, z=mine.z.requires_grad_())
        anchors, candidates = gathered(mine)
        common = numbered(1, 0)
        common = replace(common, z=common.z.requires_grad_())
        joined = stack(candidates, common).z
        coefficients = 1.0 + torch.arange(len(joined), dtype=torch.float64)
        coefficients = coefficients[:, None] * (rank + 1)
        total = (joined * coefficients).sum()
        grads = torch.autograd.grad(total, (mine.z, common.z))
        place = places(anchors, candidates)
        return torch.cat([place, torch.tensor([4 * size + rank])]), *grads

    for rank, (own, grad, of_common) in enumerate(Threads(size).run(work)):
        wanted = (1.0 + own.double()) * everybody
        assert grad.equal(wanted[:, None].expand(5, 4))
        # what all have needs no sum: the rest of the job adds it
        wanted = (5 * size + torch.tensor([1.0, 2.0]).double()) * (rank + 1)
        assert of_common.equal(wanted[:, None].expand(2, 4))


def test_ids_of_all():
    "Those of all images, then those of all further candidates, each with its own."
    label, copy = torch.tensor([0, -1]), torch.tensor([7, 8])
    batch = from_views(tensors(0, 2, 2, 4).unbind(), labels=label, copies=copy)
    more = embed(
        tensors(1, 3, 4),
        label=torch.tensor([20, 21, -1]),
        copy=torch.tensor([5, -1, 6]),
    )
    mine = stack(batch, more)

    def work(rank):
        unknown = mine.label < 0
        far = torch.where(unknown, -1, mine.label + 100 * rank)
        return gathered(replace(mine, label=far))

    for rank, (anchors, candidates) in enumerate(Threads(2).run(work)):
        of_batch = [0, -1, 100, -1]
        assert candidates.label.tolist() == of_batch * 2 + [20, 21, -1, 120, 121, -1]
        assert candidates.copy.tolist() == [7, 8] * 4 + [5, -1, 6] * 2
        assert candidates.sample.tolist() == [0, 1, 2, 3] * 2 + [-1] * 6
        assert candidates.view.tolist() == [0] * 4 + [1] * 4 + [-1] * 6
        assert anchors.sample.tolist() == [2 * rank, 2 * rank + 1] * 2
        assert anchors.label.tolist() == [100 * rank, -1] * 2


def test_columns_that_all_have():
    "Slots of a queue stand behind everything, and hidden inputs of theirs are unknown."
    queue = KeyQueue(4, 4, stores_hidden=True).double()
    queue.push(tensors(5, 3, 4), tensors(6, 3, 7))
    mine = numbered(2, 3)
    known = dict(norm=torch.ones(7), hidden=torch.ones(7, 5), square=torch.ones(7))
    mine = replace(mine, extra=known)

    def work(rank):
        _, before = gathered(mine)
        after = stack(before, slots_of(queue, before.z))
        return before, after, after.each(lambda rows: torch.arange(18)[rows], 2)

    for before, after, numbers in Threads(2).run(work):
        assert len(before) == 14 and 'hidden' in before.extra  # untouched
        assert len(after) == 18 and after.batch == before.batch == (2, 4)
        assert after.z[:14].equal(before.z) and after.z[14:].equal(queue.z)
        assert after.view[14:].tolist() == [MEMORY] * 3 + [EMPTY]
        assert sorted(after.extra) == ['norm', 'square']
        assert numbers.tolist() == list(range(18))  # shared out with the others


# ---------------------------------------------------------------- work is shared out
@pytest.mark.parametrize('n, ranks', ((7, 2), (7, 3), (4, 3), (2, 3), (1, 2), (6, 3)))
def test_every_row_is_computed_once(n, ranks):
    "In parts of two; a rank without a share of its own computes the last row again."
    e, asked = numbered(0, n), {rank: [] for rank in range(ranks)}

    def work(rank):
        def compute(rows):
            assert rows.stop - rows.start <= 2
            asked[rank] += range(n)[rows]
            return torch.stack([torch.arange(n)[rows], 10 * torch.arange(n)[rows]], 1)

        return shared(e).each(compute, 2)

    for found in Threads(ranks).run(work):
        assert found.tolist() == [[i, 10 * i] for i in range(n)]
    share = math.ceil(n / ranks)
    for rank, rows in asked.items():
        own = [*range(n)[rank * share : (rank + 1) * share]]
        assert rows == (own or [n - 1])


def test_what_some_have_computed_all_have():
    "Each rank's own numbers travel, of every type, and nobody computes another's."
    e = numbered(0, 5)

    def work(rank):
        def of_type(dtype):
            one = torch.full((5, 2), rank + 1)
            return shared(e).each(lambda rows: one[rows].to(dtype), 3)

        return [of_type(t) for t in (torch.float32, torch.float64, torch.int64)]

    for found in Threads(2).run(work):
        for x in found:
            assert x[:, 0].tolist() == [1, 1, 1, 2, 2]


def plan_of_all(anchors, candidates, rule, temperature):
    "Something per candidate that all anchors have a part in."
    if isinstance(candidates, Shared):
        count, samples = candidates.batch
        anchors = candidates[: count * samples]
    _, negative = rule(anchors, candidates)

    def of_some(rows):
        cosine = anchors.z @ candidates.z[rows].T
        return torch.where(negative[:, rows], cosine, 0.0).sum(0)

    return candidates.each(of_some, 3)


def plan_of_own(anchors, candidates, rule, temperature):
    c = compare(anchors, candidates, rule)
    return torch.where(c.negative, c.cosine, 0.0).sum(0)


class Planned:
    "Weights that depend on what was planned for each candidate."

    def __init__(self, prepare):
        self.prepare = prepare

    def __call__(self, c):
        plan = prepared_for(c, self.prepare)
        return torch.where(c.negative, plan.expand_as(c.logits), -math.inf)


@every_size
@pytest.mark.parametrize('chunk_size', (None, 2))
def test_a_weighting_that_needs_all_anchors(size, chunk_size):
    "They are the first candidates. Own anchors alone give another loss."
    z = tensors(0, 2, 6, 4)

    def mean(prepare):
        loss = ContrastiveLoss(
            Planned(prepare), chunk_size=chunk_size, gather_distributed=True
        )
        ranks = Threads(size).run(lambda rank: loss(*(part(x, rank, size) for x in z)))
        return torch.stack(ranks).mean()

    wanted = ContrastiveLoss(Planned(plan_of_all))(*z)
    assert_close(wanted, ContrastiveLoss(Planned(plan_of_own))(*z))
    assert_close(mean(plan_of_all), wanted)
    assert (mean(plan_of_own) - wanted).abs() > 1e-3


def test_blocks_send_nothing():
    "All messages are sent before the first block and after the last."
    z, h = tensors(0, 2, 6, 4), tensors(1, 2, 6, 3)

    def messages(chunk_size):
        threads = Threads(2)

        def work(rank):
            mine = [part(x, rank, 2).clone().requires_grad_() for x in z]
            loss = UnReMixLoss(chunk_size=chunk_size, gather_distributed=True)
            hidden = tuple(part(x, rank, 2) for x in h)
            loss(*mine, hidden=hidden).backward()

        threads.run(work)
        return threads.sent

    assert messages(None) == messages(1) == messages(4) > 0


# ---------------------------------------------------------------- a whole comparison
RULES = Without(views, 'copy'), OutsideBatch(Without(views, 'label'))


@every_size
def test_a_gathered_comparison(size):
    z1, z2 = tensors(0, 2, 2 * size, 4)
    h1, h2 = tensors(1, 2, 2 * size, 3)
    more, ids = tensors(2, 2 * size, 4), torch.arange(2 * size)

    def with_copies(rank, size):
        a, b, g1, g2, own = (part(x, rank, size) for x in (z1, z2, h1, h2, ids))
        return from_views([a, b], [g1, g2], copies=own)

    def with_more(rank, size):
        a, b, own_more, own = (part(x, rank, size) for x in (z1, z2, more, ids))
        batch = from_views([a, b], labels=own)
        return stack(batch, embed(own_more, label=own))

    def work(rank):
        return gathered(with_copies(rank, size)), gathered(with_more(rank, size))

    wholes = with_copies(0, 1), with_more(0, 1)
    for rank, found in enumerate(Threads(size).run(work)):
        first = [*range(2 * rank, 2 * rank + 2)]
        own = first + [2 * size + i for i in first]
        triples = zip(RULES, found, wholes, strict=True)
        for rule, (anchors, candidates), whole in triples:
            assert_close(candidates.z, whole.z)
            assert candidates.batch == whole.batch == (2, 2 * size)
            assert places(anchors, candidates).tolist() == own
            for name in IDS:
                assert getattr(candidates, name).equal(getattr(whole, name))
            assert candidates.extra.keys() == whole.extra.keys()
            for name, x in whole.extra.items():
                assert_close(candidates.extra[name], x)
            got = Comparison(anchors, candidates, rule, 0.3).contrast()
            wanted = Comparison(whole[own], whole, rule, 0.3).contrast()
            assert got.temperature == 0.3
            assert_close(got.logits, wanted.logits)
            assert got.positive.equal(wanted.positive)
            assert got.negative.equal(wanted.negative)
            assert_close(got.k, wanted.k)
            # ids alone say the same as where the rows stand
            by_id = rule(replace(anchors, promise=None), candidates)
            assert got.positive.equal(by_id.positive)
            assert got.negative.equal(by_id.negative)


def made(kind, **knobs):
    return lambda **kwargs: kind(**knobs, **kwargs)


LOSSES = dict(
    ntxent=NTXentLoss,
    debiased=DebiasedNTXentLoss,
    hcl=made(HCLLoss, tau_plus=0.0),
    unremix=UnReMixLoss,
    influence=made(UnReMixLoss, uncertainty='influence'),
    euclidean=made(UnReMixLoss, distance='euclidean'),
    overlap=made(UnReMixLoss, uncertainty='image_overlap'),
    candidate=made(UnReMixLoss, uncertainty='candidate_gradient'),
    partner=made(UnReMixLoss, pseudo_label='positive', pool='score'),
)
GIVEN = {
    'nothing': (),
    'hidden': ('hidden',),
    'labels': ('labels',),
    'sample ids': ('sample_ids',),
    'negatives': ('negatives',),
    'labels of negatives': ('negatives', 'long_labels'),
    'queue': ('queue', 'sample_ids'),
    'queue with hidden': ('queue', 'hidden', 'labels'),
    'queue and negatives': ('queue', 'negatives', 'sample_ids'),
}
SHAPES = dict(
    z1=(6, 4), z2=(6, 4), h1=(6, 3), h2=(6, 3), more=(6, 4), kept=(12, 4), h=(12, 3)
)
LABELS = torch.tensor([0, 1, 2, 0, 1, -1])


def filled(own, rank, size):
    "A queue of this rank's keys; within a group, of everybody's."
    queue = KeyQueue(14, 4, stores_hidden=True).double()
    known = part(torch.arange(12) % 5, rank, size)
    ids = dict(labels=known, sample_ids=known, true_labels=known)
    queue.push(own['kept'], own['h'], **ids)
    return queue


def job(rank, size, make, given, **kwargs):
    "Loss, gradients and statistics of a rank's share; a whole job's for rank 0 of 1."
    drawn = {k: tensors(seed, *SHAPES[k]) for seed, k in enumerate(SHAPES)}
    own = {k: part(x, rank, size) for k, x in drawn.items()}
    labels = part(LABELS, rank, size)
    leaves = [own[k].clone().requires_grad_() for k in ('z1', 'z2', 'more')]
    companions = dict(true_labels=labels)
    if 'hidden' in given:
        companions['hidden'] = own['h1'], own['h2']
    if 'labels' in given:
        companions['labels'] = labels
    if 'sample_ids' in given:
        companions['sample_ids'] = part(torch.tensor([0, 1, 2, 3, 0, 4]), rank, size)
    if 'negatives' in given:
        companions['negatives'] = leaves[2]
    if 'long_labels' in given:
        both = torch.cat([labels, labels.flip(0)])
        companions['labels'] = companions['true_labels'] = both
    if 'queue' in given:
        companions['queue'] = filled(own, rank, size)
    criterion = make(gather_distributed=size > 1, **kwargs)
    loss, stats = criterion(*leaves[:2], return_stats=True, **companions)
    grads = torch.autograd.grad(loss, leaves, allow_unused=True)
    return loss.detach(), grads, stats


def job_whole(name, given, asked, size, chunked):
    if given != 'labels of negatives':
        return job(0, 1, LOSSES[name], asked, **chunked)
    # behind the images' labels stand those of rank 0's negatives, then rank 1's
    z1, z2, more = (tensors(seed, 6, 4).requires_grad_() for seed in (0, 1, 4))
    behind = [x.flip(0) for x in LABELS.chunk(size)]
    labels = torch.cat([LABELS, *behind])
    known = dict(negatives=more, labels=labels, true_labels=labels)
    criterion = LOSSES[name](**chunked)
    loss, stats = criterion(z1, z2, return_stats=True, **known)
    return loss.detach(), torch.autograd.grad(loss, (z1, z2, more)), stats


@every_size
@pytest.mark.parametrize('given', GIVEN)
@pytest.mark.parametrize('name', LOSSES)
def test_value_and_gradient_of_one_process(name, given, size):
    asked = GIVEN[given]
    if name == 'debiased' and {'labels', 'long_labels'} & set(asked):
        pytest.skip('labels exclude tau_plus')
    if size == 3 and given == 'labels of negatives':
        size = 2  # the flips above are pairwise
    chunked = dict(chunk_size=2) if name in ('ntxent', 'unremix') else {}
    loss, grads, stats = job_whole(name, given, asked, size, chunked)
    found = Threads(size).run(
        lambda rank: job(rank, size, LOSSES[name], asked, **chunked)
    )
    values, gradients, statistics = zip(*found, strict=True)
    assert_close(torch.stack(values).mean(), loss)
    for i, wanted in enumerate(grads):
        if wanted is not None:
            got = torch.cat([g[i] for g in gradients]) / size
            assert_close(got, wanted, rtol=1e-9, atol=1e-12)
    for k, wanted in stats.items():
        mean = torch.stack([s[k] for s in statistics]).mean()
        assert_close({k: mean}, {k: wanted}, rtol=1e-5, atol=1e-6)


@every_size
def test_a_gathered_push(size):
    "All ranks hold the queue that all keys pushed by one process would have made."
    for pushes in ((6, 6), (12, 6), (6, 12)):
        keys = [tensors(i, n, 4) for i, n in enumerate(pushes)]
        ids = [torch.arange(n) + 100 * i for i, n in enumerate(pushes)]

        def fill(rank, size, keys=keys, ids=ids):
            queue = KeyQueue(7, 4, stores_hidden=True).double()
            for z, y in zip(keys, ids, strict=True):
                queue.push(
                    part(z, rank, size),
                    part(z[:, :2], rank, size),
                    labels=part(y, rank, size).int(),
                    true_labels=part(-y, rank, size),
                )
            return queue.state_dict()

        wanted = fill(0, 1)
        for state in Threads(size).run(lambda rank: fill(rank, size)):
            assert_close(state, wanted)


# ---------------------------------------------------------------- ranks that differ
def mean_of_two(work):
    return torch.stack(Threads(2).run(work)).mean()


def of_two_ranks():
    return torch.cat([tensors(0, 2, 3, 4), tensors(1, 2, 3, 4)], 1)


def test_ids_of_other_types_on_other_ranks():
    types = torch.int32, torch.int64

    def work(rank):
        y = torch.tensor([0, 1, 1]).to(types[rank])
        known = dict(labels=y, true_labels=y)
        loss = NTXentLoss(gather_distributed=True)
        return loss(*tensors(rank, 2, 3, 4), return_stats=True, **known)[0]

    wanted = NTXentLoss()(*of_two_ranks(), labels=torch.tensor([0, 1, 1, 0, 1, 1]))
    assert_close(mean_of_two(work), wanted)


def test_ids_of_negatives_on_one_rank_only():
    "Those of the other rank's negatives are unknown, as one process would have it."
    more = tensors(2, 4, 4)
    y = torch.tensor([0, 1, 1])

    def work(rank):
        labels = torch.cat([y, torch.tensor([0, 1])]) if rank else y
        loss = NTXentLoss(gather_distributed=True)
        mine = dict(negatives=part(more, rank, 2), labels=labels)
        return loss(*tensors(rank, 2, 3, 4), **mine)

    labels = torch.cat([y, y, torch.tensor([UNKNOWN, UNKNOWN, 0, 1])])
    wanted = NTXentLoss()(*of_two_ranks(), negatives=more, labels=labels)
    assert_close(mean_of_two(work), wanted)


z, h = tensors(0, 2, 4, 5), tensors(1, 2, 4, 3)


def with_ids(rank):
    known = dict(labels=torch.arange(4))
    if not rank:
        known['sample_ids'] = torch.arange(4)
    return NTXentLoss(gather_distributed=True)(*z, **known)


UNLIKE = {  # what differs: (what rank r does, its number on rank 0, on rank 1)
    'the number of images': (lambda r: gathered(from_views([*z[:, r:]])), 4, 3),
    'the number of views': (lambda r: gathered(from_views([*z[r:]])), 2, 1),
    'the number of negatives': (
        lambda r: gathered(stack(from_views([*z]), embed(z[0, r:]))),
        4,
        3,
    ),
    'the size of an embedding': (lambda r: gathered(from_views([*z[:, :, r:]])), 5, 4),
    'the size of hidden': (
        lambda r: gathered(from_views([*z], [*h[:, :, r:]])),
        3,
        2,
    ),
    'whether sample_ids are given': (with_ids, 1, 0),
}


@pytest.mark.parametrize('what', UNLIKE)
def test_what_differs_is_named(what):
    work, here, there = UNLIKE[what]
    with pytest.raises(ValueError) as e:
        Threads(2).run(work)
    asked = f'with gather_distributed, {what} must be the same on every rank'
    until = 'drop an uneven last batch'
    assert str(e.value) in (
        f'{asked}, got {here} on rank 0 and {there} on rank 1: {until}',
        f'{asked}, got {there} on rank 1 and {here} on rank 0: {until}',
    )


def test_hidden_on_one_rank_only():
    what = 'the size of hidden must be the same on every rank, got (-1|3)'
    with pytest.raises(ValueError, match=what):
        Threads(2).run(lambda rank: gathered(from_views([*z], [*h] if rank else None)))


def test_hidden_on_one_rank_only_of_a_loss():
    "Refused where the loss reads it, and of no effect where it does not."

    def work(make):
        given = dict(hidden=tuple(h))
        loss = make(gather_distributed=True)
        return lambda rank: loss(*z, **(given if rank else {}))

    with pytest.raises(ValueError, match='must be the same on every rank'):
        Threads(2).run(work(UnReMixLoss))
    first, second = Threads(2).run(work(NTXentLoss))
    assert first == second


def test_statistics_on_one_rank_only():
    def work(rank):
        loss = NTXentLoss(gather_distributed=True)
        return loss(*z, true_labels=torch.arange(4), return_stats=rank == 0)

    what = 'true labels for statistics must be the same on every rank, got (8|0)'
    with pytest.raises(ValueError, match=what):
        Threads(2).run(work)


def test_other_kinds_of_ids_on_other_ranks():
    "One kind each, and not the same: they must not be taken for each other."

    def work(rank):
        known = {('labels', 'sample_ids')[rank]: torch.arange(4)}
        return NTXentLoss(gather_distributed=True)(*z, **known)

    with pytest.raises(ValueError, match='must be the same on every rank'):
        Threads(2).run(work)


def test_alike_says_nothing():
    same = {'a': 1, 'b': 2}
    assert Threads(3).run(lambda rank: require_alike(same, CPU)) == [None] * 3


# ---------------------------------------------------------------- without gathering
def test_one_warning_to_who_forgot():
    "Each process would contrast its own images only."
    warn_alone.cache_clear()

    def said(size, gather):
        loss = NTXentLoss(gather_distributed=gather)
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter('always')
            for _ in range(2):
                Threads(size).run(lambda rank: loss(*z))
        return [str(w.message) for w in seen]

    assert said(2, gather=True) == said(1, gather=False) == []
    forgot = said(2, gather=False)
    assert len(forgot) in (1, 2)
    what = 'gather_distributed is False: each process contrasts its own images only'
    assert what in forgot[0]
    assert said(2, gather=False) == []  # said once
    warn_alone.cache_clear()


def test_without_gathering_each_has_its_own():
    warn_alone.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        ranks = Threads(2)
        found = ranks.run(lambda rank: NTXentLoss()(*z[:, 2 * rank : 2 * rank + 2]))
    warn_alone.cache_clear()
    assert ranks.sent == 0
    assert_close(found[1], NTXentLoss()(*z[:, 2:]))


@pytest.mark.parametrize('ranks, chunk', ((1, None), (8, None), (8, 64), (2, 4096)))
def test_cost_in_closed_form(ranks, chunk):
    b, d = 256, 128
    n, rows = 2 * b * ranks, 2 * b if chunk in (None, 4096) else chunk
    others = n - 2 * b
    cost = gather_cost(ranks, b, d, chunk)
    assert cost == dict(
        ranks=ranks,
        n=n,
        forward_bytes=others * (4 * (d + 1) + 8 * 4),
        backward_bytes=8 * others * d,
        block_bytes=4 * rows * n,
        operations=3 * 2 * (2 * b) * n * d,
    )
    assert math.isclose(gather_cost(ranks)['operations'], cost['operations'])


OF_ALL = {
    'transport': Transport(),
    'candidate gradient': UnReMix(mix=(1, 0, 0), uncertainty='candidate_gradient'),
}


def of_all(name):
    if name == 'transport':
        pytest.importorskip('ot')
    return OF_ALL[name]


@pytest.mark.parametrize('name', OF_ALL)
def test_what_needs_the_roles_of_all_is_prepared_by_the_loss(name):
    "What a process knows are its own anchors' roles."
    weighting, z = of_all(name), tensors(0, 2, 8, 4)
    gathers = dict(gather_distributed=True)

    plain = ContrastiveLoss(lambda c: uniform(c), **gathers)  # carries all extras

    def looked_at(rank):
        return weighting(plain.contrast(*(part(x, rank, 2) for x in z)))

    def called(rank):
        mine = [part(x, rank, 2) for x in z]
        return ContrastiveLoss(lambda c: weighting(c), **gathers)(*mine)

    def given(rank):
        mine = [part(x, rank, 2) for x in z]
        loss = ContrastiveLoss(weighting, **gathers)
        return loss(*mine), loss.log_weights(loss.contrast(*mine))

    for work in (looked_at, called):
        with pytest.raises(ValueError, match="these weights must be the loss's own"):
            Threads(2).run(work)
    whole = ContrastiveLoss(weighting)
    losses, weights = zip(*Threads(2).run(given))
    assert_close(torch.stack(losses).mean(), whole(*z))
    asked = whole.log_weights(whole.contrast(*z))
    assert_close(weights[1][0], asked[4])
    assert_close(weighting(plain.contrast(*z)), asked)  # there are no others


@pytest.mark.parametrize('name', OF_ALL)
def test_what_is_prepared_knows_the_thresholds_of_all(name):
    "A rule may read extras of the anchors that candidates have not."
    z, ids = tensors(0, 2, 8, 4), torch.arange(8)
    weighting = of_all(name)

    def loss_of(rank, size):
        loss = GloFNDLoss(weighting, images=8, gather_distributed=True).eval()
        loss.threshold.copy_(torch.linspace(-0.5, 0.5, 8))
        loss.visits.fill_(9)
        z1, z2, own = (part(x, rank, size) for x in (*z, ids))
        return loss(z1, z2, sample_ids=own)

    found = torch.stack(Threads(2).run(lambda rank: loss_of(rank, 2))).mean()
    assert_close(found, loss_of(0, 1))
    assert not torch.isclose(found, ContrastiveLoss(weighting)(*z))


def test_a_further_candidate_may_show_an_image():
    "Each rank has one of its second image, which is no negative of that image."

    def work(rank):
        z = tensors(rank, 2, 2, 4)
        shown = embed(tensors(9, 1, 4), sample=torch.tensor([1]))
        anchors, candidates = gathered(stack(from_views([*z]), shown))
        return views(anchors, candidates).negative[:, 8:].tolist()

    first, second = Threads(2).run(work)
    assert first == [[True, True], [False, True]] * 2
    assert second == [[True, True], [True, False]] * 2
