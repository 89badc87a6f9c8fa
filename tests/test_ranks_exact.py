"Gathering, number by number: threads play the ranks, and one process with all images says what is right."
import math, warnings

import pytest
import torch
from torch.testing import assert_close

from threads import Threads
from unremix import DebiasedNTXentLoss, HCLLoss, NTXentLoss, UnReMixLoss
from unremix.pairs import pair_views
from unremix.queues import KeyQueue
from unremix.ranks import Ranks, all_gather, all_sum, gather_cost, gathered, in_order, rank_and_size, require_alike, warn_alone

SIZES = 2, 3
every_size = pytest.mark.parametrize('size', SIZES)
CPU = torch.device('cpu')


def tensors(seed, *shape): return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def part(x, rank, size): return x.chunk(size)[rank]


def test_alone_nothing_is_gathered():
    assert rank_and_size() == (0, 1)
    pairing = pair_views(*tensors(0, 2, 3, 4))
    assert gathered(pairing) is pairing
    z = tensors(0, 2, 3, 4)
    assert NTXentLoss(gather_distributed=True)(*z) == NTXentLoss()(*z)


@every_size
def test_the_collectives(size):
    def work(rank):
        x = torch.tensor([[1., 2.], [3., 4.]])*(rank+1)
        return all_gather(x), all_sum(x.clone()), rank_and_size()
    factors = torch.arange(1., size+1)
    for rank, (stacked, total, me) in enumerate(Threads(size).run(work)):
        assert stacked.equal(factors[:,None,None]*torch.tensor([[1., 2.], [3., 4.]]))
        assert total.equal(factors.sum()*torch.tensor([[1., 2.], [3., 4.]])) and me == (rank, size)


def test_order_of_columns():
    "Rank 0 has views 0 1 | 10 11 and negatives 20 21 22; rank 1 a hundred more."
    mine = torch.tensor([0, 1, 10, 11, 20, 21, 22])
    wanted = [0, 1, 100, 101, 10, 11, 110, 111, 20, 21, 22, 120, 121, 122]
    assert in_order(torch.stack([mine, mine+100]), 2).tolist() == wanted


@pytest.mark.parametrize('size, b, m', ((2, 2, 3), (3, 4, 0), (3, 1, 2)))
def test_which_columns_are_whose(size, b, m):
    "Every column has one owner, and an owner finds in `own` what it put there."
    def work(rank):
        ranks = Ranks(b, m, CPU)
        mine = torch.arange(2*b+m) + 100*rank
        return ranks, ranks.join(mine.double()), mine
    found = Threads(size).run(work)
    whole = found[0][1]
    for rank, (ranks, joined, mine) in enumerate(found):
        assert joined.equal(whole) and joined[ranks.own].equal(mine.double())
        assert ranks.anchors.tolist() == [*range(rank*b, rank*b+b), *range(size*b+rank*b, size*b+rank*b+b)]
        assert ranks.positives.equal(ranks.anchors.roll(b)) and (ranks.rank, ranks.size) == (rank, size)
    owners = torch.cat([ranks.own for ranks, _, _ in found])
    assert owners.sort().values.tolist() == list(range(size*(2*b+m)))


@every_size
def test_what_is_joined_sends_gradient_back_to_everybody(size):
    "Column c has the coefficient c+1 on rank 0, twice that on rank 1, and so on: the owner gets the sum."
    b, m, common = 2, 1, 2
    def work(rank):
        ranks = Ranks(b, m, CPU)
        x = torch.arange(2*b+m+common, dtype=torch.float64).requires_grad_()
        joined = ranks.join(x)
        coefficients = (1.+torch.arange(len(joined), dtype=torch.float64))*(rank+1)
        grad, = torch.autograd.grad((joined*coefficients).sum(), x)
        return ranks.own, joined, grad, coefficients
    everybody = sum(range(1, size+1))
    for rank, (own, joined, grad, coefficients) in enumerate(Threads(size).run(work)):
        assert joined[-common:].tolist() == [5., 6.] and len(joined) == size*5 + common
        assert grad[:5].equal((1.+own.double())*everybody)
        assert grad[5:].equal(coefficients[-common:]) # what all have needs no sum: the rest of the job adds it


def test_what_is_not_contiguous_is_joined_all_the_same():
    x = torch.arange(15.).reshape(3, 5).T
    for joined in Threads(2).run(lambda rank: Ranks(2, 1, CPU).join(x)): assert joined[[0, 1, 4, 5, 8]].equal(x)
    for joined in Threads(2).run(lambda rank: Ranks(2, 3, CPU).join_ids(torch.arange(10).reshape(5, 2)[:,1])): assert joined[:2].tolist() == [1, 3]


def test_ids_of_all():
    "Those of all images, then those of all explicit negatives."
    ids = torch.tensor([0, 1, 20, 21, 22])
    for joined in Threads(2).run(lambda rank: Ranks(2, 3, CPU).join_ids(ids + 100*rank)):
        assert joined.tolist() == [0, 1, 100, 101, 20, 21, 22, 120, 121, 122]
    for joined in Threads(3).run(lambda rank: Ranks(2, 3, CPU).join_ids(ids[:2] + 100*rank)):
        assert joined.tolist() == [0, 1, 100, 101, 200, 201]


def test_columns_that_all_have():
    def work(rank):
        before = Ranks(2, 3, CPU, hidden=torch.ones(4, 5))
        return before, before.followed_by(4)
    for rank, (before, after) in enumerate(Threads(2).run(work)):
        assert len(before.own) == 7 and before.hidden is not None # untouched
        assert after.own.tolist() == before.own.tolist() + [14, 15, 16, 17]
        assert after.hidden is None and after.all_hidden() is None and after.rank == rank


@every_size
def test_a_gathered_pairing(size):
    z1, z2 = tensors(0, 2, 2*size, 4)
    h1, h2 = tensors(1, 2, 2*size, 3)
    more, ids = tensors(2, 2*size, 4), torch.arange(2*size)
    whole = pair_views(z1, z2, .3, hidden=(h1, h2), sample_ids=ids)
    with_more = pair_views(z1, z2, .3, negatives=more, labels=ids, in_batch=False)
    def work(rank):
        own1, own2, g1, g2, own_more, own_ids = (part(x, rank, size) for x in (z1, z2, h1, h2, more, ids))
        return gathered(pair_views(own1, own2, .3, hidden=(g1, g2), sample_ids=own_ids)), gathered(pair_views(own1, own2, .3, negatives=own_more, labels=own_ids, in_batch=False))
    for rank, (a, b) in enumerate(Threads(size).run(work)):
        own = [*range(2*rank, 2*rank+2), *range(2*size+2*rank, 2*size+2*rank+2)]
        for got, wanted in ((a, whole), (b, with_more)):
            assert_close(got.columns.z, wanted.columns.z)
            assert_close(got.columns.norm, wanted.columns.norm)
            assert got.anchor_idx.tolist() == own and got.positive_idx.equal(wanted.positive_idx[own])
            assert (got.n_views, got.temperature, got.in_batch) == (wanted.n_views, .3, wanted.in_batch)
            assert [x.tolist() for x in got.ids] == [x.tolist() for x in wanted.ids]
            assert_close(got.contrast().logits, wanted.contrast(own).logits)
            assert got.contrast().negative.equal(wanted.contrast(own).negative)
            assert_close(got.contrast().k, wanted.contrast(own).k)
        assert_close(a.columns.hidden_square(), whole.columns.hidden_square())
        assert a.columns.hidden is None and b.columns.hidden_square() is None


LOSSES = dict(ntxent=NTXentLoss, debiased=DebiasedNTXentLoss, hcl=lambda **kw: HCLLoss(tau_plus=0., **kw), unremix=UnReMixLoss, influence=lambda **kw: UnReMixLoss(uncertainty='influence', **kw),
              euclidean=lambda **kw: UnReMixLoss(distance='euclidean', **kw), overlap=lambda **kw: UnReMixLoss(uncertainty='image_overlap', **kw))
GIVEN = {
    'nothing': (), 'hidden': ('hidden',), 'labels': ('labels',), 'sample ids': ('sample_ids',), 'negatives': ('negatives',),
    'labels of negatives': ('negatives', 'long_labels'), 'queue': ('queue', 'sample_ids'), 'queue with hidden': ('queue', 'hidden', 'labels')}


def job(rank, size, make, given, **kwargs):
    "Loss, gradients and statistics of a rank's share; a whole job's for rank 0 of 1."
    own = {k: part(x, rank, size) for k, x in dict(z1=tensors(0, 6, 4), z2=tensors(1, 6, 4), h1=tensors(2, 6, 3), h2=tensors(3, 6, 3), more=tensors(4, 6, 4), kept=tensors(5, 12, 4), h=tensors(6, 12, 3)).items()}
    labels, ids = (part(torch.tensor(x), rank, size) for x in ([0, 1, 2, 0, 1, -1], [0, 1, 2, 3, 0, 4]))
    leaves = [own[k].clone().requires_grad_() for k in ('z1', 'z2', 'more')]
    companions = dict(true_labels=labels)
    if 'hidden' in given: companions['hidden'] = own['h1'], own['h2']
    if 'labels' in given: companions['labels'] = labels
    if 'sample_ids' in given: companions['sample_ids'] = ids
    if 'negatives' in given: companions['negatives'] = leaves[2]
    if 'long_labels' in given:
        companions['labels'] = companions['true_labels'] = torch.cat([labels, labels.flip(0)])
    if 'queue' in given:
        companions['queue'] = KeyQueue(14, 4, stores_hidden=True).double()
        known = part(torch.arange(12) % 5, rank, size)
        companions['queue'].push(own['kept'], own['h'], labels=known, sample_ids=known, true_labels=known)
    loss, stats = make(gather_distributed=size > 1, **kwargs)(*leaves[:2], return_stats=True, **companions)
    grads = torch.autograd.grad(loss, leaves, allow_unused=True)
    return loss.detach(), grads, stats


@every_size
@pytest.mark.parametrize('given', GIVEN)
@pytest.mark.parametrize('name', LOSSES)
def test_value_and_gradient_of_one_process(name, given, size):
    asked = GIVEN[given]
    if name == 'debiased' and {'labels', 'long_labels'} & set(asked): pytest.skip('labels exclude tau_plus')
    if size == 3 and given == 'labels of negatives': size = 2 # the flips below are pairwise
    chunked = dict(chunk_size=2) if name in ('ntxent', 'unremix') else {}
    loss, grads, stats = job_whole(name, given, asked, size, chunked)
    found = Threads(size).run(lambda rank: job(rank, size, LOSSES[name], asked, **chunked))
    assert_close(torch.stack([value for value, _, _ in found]).mean(), loss)
    for i, wanted in enumerate(grads):
        if wanted is not None: assert_close(torch.cat([g[i] for _, g, _ in found])/size, wanted, rtol=1e-9, atol=1e-12)
    for k, wanted in stats.items():
        assert_close(torch.stack([s[k] for _, _, s in found]).mean(), wanted, rtol=1e-5, atol=1e-6, msg=lambda m: f'{k}: {m}')


def job_whole(name, given, asked, size, chunked):
    if given != 'labels of negatives': return job(0, 1, LOSSES[name], asked, **chunked)
    # behind the images' labels stand those of rank 0's explicit negatives, then rank 1's
    z1, z2, more = (tensors(seed, 6, 4).requires_grad_() for seed in (0, 1, 4))
    labels = torch.tensor([0, 1, 2, 0, 1, -1])
    labels = torch.cat([labels, *(x.flip(0) for x in labels.chunk(size))])
    loss, stats = LOSSES[name](**chunked)(z1, z2, negatives=more, labels=labels, true_labels=labels, return_stats=True)
    return loss.detach(), torch.autograd.grad(loss, (z1, z2, more)), stats


@every_size
def test_a_gathered_push(size):
    "All ranks hold the same queue, the one that all keys pushed by one process would have made."
    for pushes in ((6, 6), (12, 6), (6, 12)):
        keys = [tensors(i, n, 4) for i, n in enumerate(pushes)]
        ids = [torch.arange(n) + 100*i for i, n in enumerate(pushes)]
        def fill(rank, size):
            queue = KeyQueue(7, 4, stores_hidden=True).double()
            for z, y in zip(keys, ids): queue.push(part(z, rank, size), part(z[:,:2], rank, size), labels=part(y, rank, size).int(), true_labels=part(-y, rank, size))
            return queue.state_dict()
        wanted = fill(0, 1)
        for state in Threads(size).run(lambda rank: fill(rank, size)): assert_close(state, wanted)


def test_ids_of_other_types_on_other_ranks():
    types = torch.int32, torch.int64
    def work(rank):
        z = tensors(rank, 2, 3, 4)
        y = torch.tensor([0, 1, 1]).to(types[rank])
        return NTXentLoss(gather_distributed=True)(*z, labels=y, true_labels=y, return_stats=True)[0]
    z = torch.cat([tensors(0, 2, 3, 4), tensors(1, 2, 3, 4)], 1)
    wanted = NTXentLoss()(*z, labels=torch.tensor([0, 1, 1, 0, 1, 1]))
    assert_close(torch.stack(Threads(2).run(work)).mean(), wanted)


z, h = tensors(0, 2, 4, 5), tensors(1, 2, 4, 3)
UNLIKE = { # what differs: (what rank r does, its number on rank 0, on rank 1)
    'the number of images': (lambda r: pair_views(*z[:,r:]), 4, 3),
    'the number of negatives': (lambda r: pair_views(*z, negatives=z[0, r:]), 4, 3),
    'the size of an embedding': (lambda r: pair_views(*z[:,:,r:]), 5, 4),
    'the size of hidden': (lambda r: pair_views(*z, hidden=tuple(h[:,:,r:])), 3, 2),
    'the number of ids': (lambda r: pair_views(*z, negatives=z[0], labels=torch.arange(8)[:8-4*r]), 8, 4),
    'the number of kinds of ids': (lambda r: pair_views(*z, negatives=z[0], **(dict(labels=torch.arange(8)) if r else dict(labels=torch.arange(4), sample_ids=torch.arange(4)))), 2, 1)}


@pytest.mark.parametrize('what', UNLIKE)
def test_what_differs_is_named(what):
    make, here, there = UNLIKE[what]
    with pytest.raises(ValueError) as e: Threads(2).run(lambda rank: gathered(make(rank)))
    asked = f'with gather_distributed, {what} must be the same on every rank'
    sentences = [f'{asked}, got {here} on rank 0 and {there} on rank 1: drop an uneven last batch', f'{asked}, got {there} on rank 1 and {here} on rank 0: drop an uneven last batch']
    assert str(e.value) in sentences


def test_hidden_on_one_rank_only():
    with pytest.raises(ValueError, match='the size of hidden must be the same on every rank, got (-1|3)'):
        Threads(2).run(lambda rank: gathered(pair_views(*z, hidden=tuple(h) if rank else None)))


def test_statistics_on_one_rank_only():
    with pytest.raises(ValueError, match='true labels for statistics must be the same on every rank, got (4|0)'):
        Threads(2).run(lambda rank: NTXentLoss(gather_distributed=True)(*z, true_labels=torch.arange(4), return_stats=rank == 0))


def test_alike_says_nothing():
    assert Threads(3).run(lambda rank: require_alike({'a': 1, 'b': 2}, CPU)) == [None]*3


def test_one_warning_to_who_forgot():
    "Each process would contrast its own images only."
    warn_alone.cache_clear()
    def work(gather):
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter('always')
            for _ in range(2): Threads(1 if gather is None else 2).run(lambda rank: NTXentLoss(gather_distributed=bool(gather))(*z))
        return [str(w.message) for w in seen]
    assert work(True) == work(None) == []
    forgot = work(False)
    assert len(forgot) in (1, 2) and 'gather_distributed is False: each process contrasts its own images only' in forgot[0]
    assert work(False) == [] # said once
    warn_alone.cache_clear()


def test_without_gathering_each_has_its_own():
    warn_alone.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        found = Threads(2).run(lambda rank: NTXentLoss()(*z[:,2*rank:2*rank+2]))
    warn_alone.cache_clear()
    assert_close(found[1], NTXentLoss()(*z[:,2:]))


@pytest.mark.parametrize('ranks, chunk', ((1, None), (8, None), (8, 64), (2, 4096)))
def test_cost_in_closed_form(ranks, chunk):
    b, d = 256, 128
    cost = gather_cost(ranks, b, d, chunk)
    n, rows = 2*b*ranks, 2*b if chunk in (None, 4096) else chunk
    others = n - 2*b
    assert cost == dict(ranks=ranks, n=n, forward_bytes=4*others*(d+2), backward_bytes=0 if ranks == 1 else 8*n*d, block_bytes=4*rows*n, operations=3*2*(2*b)*n*d)
    assert math.isclose(gather_cost(ranks)['operations'], cost['operations'])


def test_what_is_sent_is_contiguous(monkeypatch):
    "gloo and NCCL refuse anything else; the threads above do not."
    sent = []
    def collective(x):
        sent.append(x.is_contiguous())
        return x[None]
    for name in ('all_gather', 'all_sum'): monkeypatch.setattr(f'unremix.ranks.{name}', collective)
    x = tensors(0, 3, 4).T.requires_grad_()
    ranks = Ranks(2, 0, CPU)
    joined = ranks.join(x)
    joined.backward(tensors(1, 3, 4).T)
    ranks.join_ids(torch.arange(4)[::2])
    assert sent == [True]*3
