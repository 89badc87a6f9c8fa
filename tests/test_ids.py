"Ids of every whole-number type, beside others of another type, and the ids that say that nothing is known."
import math
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from unremix import HCLLoss, NTXentLoss, UnReMixLoss
from unremix.pairs import from_views, pair_views, same_id
from unremix.queues import KeyQueue, from_queue, with_queue
from unremix.selection import OracleLoss

WHOLE = [torch.bool, torch.uint8, torch.int8, torch.uint16, torch.int16, torch.uint32, torch.int32, torch.int64]
OTHER = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.uint64]
NAMES = 'labels', 'sample_ids', 'true_labels'
every_type = pytest.mark.parametrize('dtype', WHOLE, ids=str)
z1, z2, more = torch.randn(3, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
TWO = torch.tensor([0, 1, 1, 0]) # fits every type, also bool
SIGNED = [x for x in WHOLE if x.is_signed]


def value(loss=NTXentLoss(), z=(z1, z2), **kwargs): return loss(*z, **kwargs)


def stats(**kwargs): return NTXentLoss()(z1, z2, return_stats=True, **kwargs)[1]


def filled(dtype=torch.int64, size=6, names=NAMES, ids=TWO):
    queue = KeyQueue(size, 6).double()
    queue.push(more, **{name: ids.to(dtype) for name in names})
    return queue


@every_type
@pytest.mark.parametrize('name', ('labels', 'sample_ids'))
def test_any_type_in_the_batch(name, dtype):
    assert_close(value(**{name: TWO.to(dtype)}), value(**{name: TWO}), rtol=0, atol=0)
    assert value(**{name: TWO}) != value()
    for chunk_size in (None, 3):
        with_more = dict(negatives=more[:3], **{name: torch.cat([TWO, TWO[1:]]).to(dtype)})
        wide = dict(negatives=more[:3], **{name: torch.cat([TWO, TWO[1:]])})
        assert_close(value(NTXentLoss(chunk_size=chunk_size), **with_more), value(**wide))


@every_type
def test_any_type_in_statistics(dtype):
    assert stats(true_labels=TWO.to(dtype)) == stats(true_labels=TWO)
    assert value(OracleLoss(), true_labels=TWO.to(dtype)) == value(OracleLoss(), true_labels=TWO) != value(HCLLoss(tau_plus=0.))


@every_type
@pytest.mark.parametrize('pushed', WHOLE, ids=str)
@pytest.mark.parametrize('name', ('labels', 'sample_ids'))
def test_any_type_in_the_queue(name, dtype, pushed):
    "Also where the batch's type is not the queue's."
    ids, kept = TWO.to(dtype), filled(pushed)
    got = from_queue(z1, z2, kept, **{name: ids}).negative[:,8:]
    wanted = torch.cat([TWO[:,None] != TWO, torch.zeros(4, 2, dtype=torch.bool)], 1)
    assert got.equal(wanted)
    assert value(queue=kept, **{name: ids}) == value(queue=filled(), **{name: TWO}) != value(queue=filled())


@every_type
def test_the_mark_for_no_id_survives(dtype):
    "A queue whose keys have no id loses no key to an id of the batch, least of all to 0."
    nameless = filled(names=())
    for name in ('labels', 'sample_ids'):
        for ids in (TWO, torch.zeros(4), torch.ones(4)):
            assert_close(value(queue=nameless, **{name: ids.to(dtype)}), value(queue=nameless), rtol=0, atol=0)
    got, wanted = (NTXentLoss()(z1, z2, queue=nameless, true_labels=y, return_stats=True)[1] for y in (TWO.to(dtype), None))
    assert all(got[k] == wanted[k] for k in wanted) and got['false_negative_mass'] == 0


@every_type
def test_a_pairing_made_by_hand(dtype):
    "Its ids may be of any type too."
    pairing = replace(pair_views(z1, z2), ids=(torch.zeros(4).to(dtype),))
    assert with_queue(pairing, filled(names=()), ('labels',)).contrast().k.tolist() == [4.]*4
    assert with_queue(pairing, filled(), ('labels',)).contrast().k.tolist() == [2.]*4


@every_type
def test_what_a_queue_keeps(dtype):
    queue, largest = KeyQueue(6, 6), 1 if dtype == torch.bool else torch.iinfo(dtype).max
    ids = torch.tensor([0, 1, 1, largest], dtype=torch.int64)
    queue.push(more.float(), sample_ids=ids.to(dtype))
    assert queue.ids[1,:4].equal(ids) and (queue.ids[[0, 2]] < 0).all() and (queue.ids[1,4:] < 0).all()
    assert queue.ids.dtype == torch.int64


@pytest.mark.parametrize('dtype', OTHER, ids=str)
@pytest.mark.parametrize('name', NAMES)
def test_other_types_are_refused(name, dtype):
    ids = torch.zeros(4).to(dtype)
    for call in (lambda: NTXentLoss()(z1, z2, return_stats=True, **{name: ids}), lambda: KeyQueue(6, 6).push(more, **{name: ids}),
                 *([] if name == 'true_labels' else [lambda: pair_views(z1, z2, **{name: ids}), lambda: from_queue(z1, z2, filled(), **{name: ids})])):
        with pytest.raises(ValueError) as e: call()
        assert f'{name} must be a tensor of whole numbers that int64 holds, got {dtype}' in str(e.value)


@pytest.mark.parametrize('dtype', OTHER, ids=str)
def test_other_types_are_not_compared_either(dtype):
    with pytest.raises(ValueError, match='ids must be a tensor of whole numbers that int64 holds, got torch'):
        same_id(torch.zeros(3).to(dtype), torch.arange(6), 3, 6)


@pytest.mark.parametrize('dtype', SIGNED, ids=str)
@pytest.mark.parametrize('name', ('labels', 'sample_ids'))
@pytest.mark.parametrize('unknown', ([-1, -1, -1, -1], [-1, -2, -2, -3]), ids=str)
def test_unknown_is_equal_to_nobody(name, dtype, unknown):
    "A batch of which nothing is known is a batch without ids."
    ids = {name: torch.tensor(unknown).to(dtype)}
    assert_close(value(**ids), value(), rtol=0, atol=0)
    assert_close(value(NTXentLoss(chunk_size=3), **ids), value())
    assert_close(value(NTXentLoss(in_batch=False), negatives=more, **{name: torch.cat([ids[name]]*2)}), value(NTXentLoss(in_batch=False), negatives=more))
    assert_close(value(queue=filled(ids=torch.tensor(unknown)), **ids), value(queue=filled()), rtol=0, atol=0)


@pytest.mark.parametrize('dtype', SIGNED, ids=str)
def test_unknown_in_statistics(dtype):
    unknown = stats(true_labels=torch.tensor([-1]*4).to(dtype))
    distinct = stats(true_labels=torch.arange(4))
    assert unknown == distinct and unknown['false_negative_mass'] == 0
    assert value(OracleLoss(), true_labels=torch.tensor([-1]*4).to(dtype)) == value(HCLLoss(tau_plus=0.))


def test_partly_known():
    "Images 0 and 2 are of class 5, nothing is known of 1 and 3."
    ids = torch.tensor([5, -1, 5, -1])
    wanted = torch.tensor([5, 6, 5, 7])
    assert from_views(z1, z2, labels=ids).negative.equal(from_views(z1, z2, labels=wanted).negative)
    assert value(UnReMixLoss(), labels=ids) == value(UnReMixLoss(), labels=wanted) != value(UnReMixLoss())
    assert stats(true_labels=ids) == stats(true_labels=wanted)


def test_unknown_carries_not_even_its_own_id():
    same = same_id(torch.tensor([-1, 3, -1]), torch.arange(6), 3, 7)
    wanted = torch.zeros(6, 7, dtype=torch.bool); wanted[[1, 1, 4, 4], [1, 4, 1, 4]] = True
    assert same.equal(wanted)


def test_small_types_do_not_wrap():
    "300 images: as uint8 their ids would be known to be equal where they are not; as int16 nothing may be lost."
    z = torch.randn(2, 300, 3, generator=torch.Generator().manual_seed(0))
    queue = KeyQueue(600, 3)
    queue.push(z[0], sample_ids=torch.arange(300) + 2**40)
    loss = NTXentLoss()(*z, queue=queue, sample_ids=torch.arange(300, dtype=torch.int16))
    assert_close(loss, NTXentLoss()(*z, queue=queue), rtol=0, atol=0) # 2**40 is 0 as int16
    assert math.isfinite(loss)
