"""Ids of every whole-number type, beside others of another type, and unknown ones.

Also ids that say that nothing is known.
"""

import math
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from unremix import HCLLoss, NTXentLoss, UnReMixLoss
from unremix.contrast import compare
from unremix.controls import OracleLoss
from unremix.embeddings import EMPTY, MEMORY, embed, from_views, stack
from unremix.queue import KeyQueue, slots_of
from unremix.rules import Filled, OutsideBatch, Without, across, equal, supervised
from unremix.rules import views

WHOLE = [
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.uint16,
    torch.int16,
    torch.uint32,
    torch.int32,
    torch.int64,
]
OTHER = [
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.complex64,
    torch.uint64,
]
SIGNED = [x for x in WHOLE if x.is_signed]
NAMES = 'labels', 'sample_ids', 'true_labels'
NOT_WHOLE = 'must be a tensor of whole numbers that int64 holds'
every_type = pytest.mark.parametrize('dtype', WHOLE, ids=str)
every_other = pytest.mark.parametrize('dtype', OTHER, ids=str)
every_signed = pytest.mark.parametrize('dtype', SIGNED, ids=str)
generator = torch.Generator().manual_seed(0)
z1, z2, more = torch.randn(3, 4, 6, dtype=torch.float64, generator=generator)
TWO = torch.tensor([0, 1, 1, 0])  # fits every type, also bool
EXACT = dict(rtol=0, atol=0)


def value(loss=NTXentLoss(), z=(z1, z2), **kwargs):
    return loss(*z, **kwargs)


def stats(**kwargs):
    return NTXentLoss()(z1, z2, return_stats=True, **kwargs)[1]


def filled(dtype=torch.int64, size=6, names=NAMES, ids=TWO):
    "Four of six slots hold keys."
    queue = KeyQueue(size, 6).double()
    queue.push(more, **{name: ids.to(dtype) for name in names})
    return queue


@every_type
@pytest.mark.parametrize('name', ('labels', 'sample_ids'))
def test_any_type_in_the_batch(name, dtype):
    narrow, wide = {name: TWO.to(dtype)}, {name: TWO}
    assert_close(value(**narrow), value(**wide), **EXACT)
    assert value(**wide) != value()
    three = z1, z2, more
    assert_close(value(z=three, **narrow), value(z=three, **wide), **EXACT)
    longer = torch.cat([TWO, TWO[1:]])
    for chunk_size in (None, 3):
        loss = NTXentLoss(chunk_size=chunk_size)
        found = value(loss, negatives=more[:3], **{name: longer.to(dtype)})
        assert_close(found, value(negatives=more[:3], **{name: longer}))


@every_type
def test_any_type_under_supervised(dtype):
    loss = NTXentLoss(pairs=supervised)
    assert_close(value(loss, labels=TWO.to(dtype)), value(loss, labels=TWO), **EXACT)
    assert value(loss, labels=TWO) != value(labels=TWO)


@every_type
def test_any_type_in_statistics(dtype):
    assert stats(true_labels=TWO.to(dtype)) == stats(true_labels=TWO)
    oracle = value(OracleLoss(), true_labels=TWO)
    assert value(OracleLoss(), true_labels=TWO.to(dtype)) == oracle
    assert oracle != value(HCLLoss(tau_plus=0.0))


@every_type
@pytest.mark.parametrize('pushed', WHOLE, ids=str)
@pytest.mark.parametrize('name', ('labels', 'sample_ids'))
def test_any_type_in_the_queue(name, dtype, pushed):
    "Also where the batch's type is not the queue's."
    ids, kept = TWO.to(dtype), filled(pushed)
    c = NTXentLoss().contrast(z1, z2, queue=kept, **{name: ids})
    nobody = torch.zeros(4, 2, dtype=torch.bool)
    assert c.negative[:, 8:].equal(torch.cat([TWO[:, None] != TWO, nobody], 1))
    found = value(queue=kept, **{name: ids})
    assert found == value(queue=filled(), **{name: TWO})
    assert found != value(queue=filled())


@every_type
def test_the_mark_for_no_id_survives(dtype):
    "Keys without an id are lost to no id of the batch, least of all to 0."
    nameless = filled(names=())
    for name in ('labels', 'sample_ids'):
        for ids in (TWO, torch.zeros(4), torch.ones(4)):
            found = value(queue=nameless, **{name: ids.to(dtype)})
            assert_close(found, value(queue=nameless), **EXACT)
    given = stats(queue=nameless, true_labels=TWO.to(dtype))
    without = stats(queue=nameless)
    assert all(given[k] == without[k] for k in without)
    assert given['false_negative_mass'] == 0


@every_type
@pytest.mark.parametrize('name', ('label', 'copy'))
def test_a_comparison_made_by_hand(name, dtype):
    "Its ids may be of any type too."
    zeros = {f'{"copies" if name == "copy" else "labels"}': torch.zeros(4).to(dtype)}
    batch = from_views([z1, z2.detach()], **zeros)
    rule = Without(Filled(OutsideBatch(views)), name)
    for queue, k in ((filled(names=()), 4.0), (filled(), 2.0)):
        candidates = stack(batch, slots_of(queue, batch.z))
        assert compare(batch[:4], candidates, rule).k.tolist() == [k] * 4


@every_type
def test_what_a_queue_keeps(dtype):
    queue = KeyQueue(6, 6)
    largest = 1 if dtype == torch.bool else torch.iinfo(dtype).max
    ids = torch.tensor([0, 1, 1, largest], dtype=torch.int64)
    queue.push(more.float(), sample_ids=ids.to(dtype))
    assert queue.ids[1, :4].equal(ids)
    assert (queue.ids[[0, 2]] < 0).all() and (queue.ids[1, 4:] < 0).all()
    assert queue.ids.dtype == torch.int64


@every_other
@pytest.mark.parametrize('name', NAMES)
def test_other_types_are_refused(name, dtype):
    given = {name: torch.zeros(4).to(dtype)}
    calls = [
        lambda: NTXentLoss()(z1, z2, return_stats=True, **given),
        lambda: NTXentLoss()(z1, z2, queue=filled(), **given),
        lambda: KeyQueue(6, 6).push(more, **given),
    ]
    if name != 'true_labels':
        calls.append(lambda: NTXentLoss().comparison(z1, z2, **given))
        calls.append(lambda: NTXentLoss().contrast(z1, z2, queue=filled(), **given))
    for call in calls:
        with pytest.raises(ValueError) as e:
            call()
        # a batch calls `copies` what a loss calls `sample_ids`
        said = str(e.value).replace('copies', 'sample_ids')
        assert f'{name} {NOT_WHOLE}, got {dtype}' in said


@every_other
@pytest.mark.parametrize('name', ('sample', 'view', 'label', 'copy'))
def test_other_types_are_not_compared_either(name, dtype):
    ids = {name: torch.zeros(4).to(dtype)}
    with pytest.raises(ValueError, match=f'{name} {NOT_WHOLE}, got torch'):
        embed(z1, **ids)


UNKNOWN = ([-1, -1, -1, -1], [-1, -2, -2, -3])


@every_signed
@pytest.mark.parametrize('name', ('labels', 'sample_ids'))
@pytest.mark.parametrize('unknown', UNKNOWN, ids=str)
def test_unknown_is_equal_to_nobody(name, dtype, unknown):
    "A batch of which nothing is known is a batch without ids."
    ids = {name: torch.tensor(unknown).to(dtype)}
    assert_close(value(**ids), value(), **EXACT)
    assert_close(value(z=(z1, z2, more), **ids), value(z=(z1, z2, more)), **EXACT)
    assert_close(value(NTXentLoss(chunk_size=3), **ids), value())
    plain = value(NTXentLoss(pairs_once=False))
    assert_close(value(NTXentLoss(pairs=supervised), **ids), plain, **EXACT)
    outside = NTXentLoss(pairs=OutsideBatch(views))
    both = {name: torch.cat([ids[name]] * 2)}
    found = value(outside, negatives=more, **both)
    assert_close(found, value(outside, negatives=more))
    nameless = filled(ids=torch.tensor(unknown))
    assert_close(value(queue=nameless, **ids), value(queue=filled()), **EXACT)


@every_signed
def test_unknown_in_statistics(dtype):
    labels = torch.tensor([-1] * 4).to(dtype)
    unknown, distinct = stats(true_labels=labels), stats(true_labels=torch.arange(4))
    assert unknown == distinct and unknown['false_negative_mass'] == 0
    assert value(OracleLoss(), true_labels=labels) == value(HCLLoss(tau_plus=0.0))


def test_partly_known():
    "Images 0 and 2 are of class 5, nothing is known of 1 and 3."
    ids, distinct = torch.tensor([5, -1, 5, -1]), torch.tensor([5, 6, 5, 7])
    given, wanted = (NTXentLoss().contrast(z1, z2, labels=x) for x in (ids, distinct))
    assert given.negative.equal(wanted.negative)
    found = value(UnReMixLoss(), labels=ids)
    assert found == value(UnReMixLoss(), labels=distinct) != value(UnReMixLoss())
    assert stats(true_labels=ids) == stats(true_labels=distinct)
    loss = NTXentLoss(pairs=supervised)
    assert value(loss, labels=ids) == value(loss, labels=distinct)


def test_unknown_carries_not_even_its_own_id():
    ids = torch.tensor([-1, 3, -1])
    wanted = torch.zeros(3, 4, dtype=torch.bool)
    wanted[1, 1] = True
    assert equal(ids, torch.tensor([-1, 3, -1, -2])).equal(wanted)
    # nor is what a queue marks as nobody's the same as unknown
    assert not equal(torch.tensor([-1, -2, -3]), filled(names=()).ids[0]).any()


def test_small_types_do_not_wrap():
    "300 images: what int16 cannot hold is lost to nobody."
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(2, 300, 3, generator=generator)
    queue = KeyQueue(600, 3)
    queue.push(z[0], sample_ids=torch.arange(300) + 2**40)  # 2**40 is 0 as int16
    ids = torch.arange(300, dtype=torch.int16)
    loss = NTXentLoss()(*z, queue=queue, sample_ids=ids)
    assert_close(loss, NTXentLoss()(*z, queue=queue), **EXACT)
    assert math.isfinite(loss)


RULES = dict(
    views=views,
    across=across,
    supervised=supervised,
    without_label=Without(views, 'label'),
    without_copy=Without(across, 'copy'),
    outside=OutsideBatch(views),
    filled=Filled(OutsideBatch(views)),
)


def roles_by_loops(name, anchors, candidates):
    "Positives and negatives as the rules' first lines say them."

    def same(key, i, j):
        own = getattr(anchors, key)[i].item()
        return own >= 0 and own == getattr(candidates, key)[j].item()

    shape = len(anchors), len(candidates)
    positive, negative = torch.zeros(2, *shape, dtype=torch.bool).unbind()
    for i in range(shape[0]):
        for j in range(shape[1]):
            sample, view = same('sample', i, j), candidates.view[j].item()
            other_view = anchors.view[i].item() != view
            of_class = name == 'supervised' and same('label', i, j) and not sample
            positive[i, j] = sample and other_view or of_class
            negative[i, j] = not sample and not of_class
            if name in ('across', 'without_copy'):
                negative[i, j] &= other_view
            if name == 'without_label':
                negative[i, j] &= not same('label', i, j)
            if name == 'without_copy':
                negative[i, j] &= not same('copy', i, j)
            if name in ('outside', 'filled'):
                negative[i, j] &= view < 0
            if name == 'filled':
                positive[i, j] &= view != EMPTY
                negative[i, j] &= view != EMPTY
    return positive, negative


def batches():
    "Anchors and candidates: a batch, others behind it, ids changed, rows in disorder."
    labels, copies = torch.tensor([0, 1, 0, -1]), torch.tensor([-1, 7, 8, 7])
    batch = from_views([z1, z2, more], labels=labels, copies=copies)
    marks = torch.tensor([MEMORY, MEMORY, EMPTY, EMPTY])
    slots = embed(more.flip(1), view=marks, label=labels, copy=copies)
    behind = stack(batch, slots)
    known = replace(slots, sample=torch.tensor([0, -1, 2, 3]))
    duplicates = replace(batch, sample=torch.tensor([0, 0, 1, 2]).repeat(3))
    numbered = replace(batch, sample=torch.tensor([9, 5, 7, 3]).repeat(3))
    unknown = replace(batch, view=torch.full_like(batch.view, -1))
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    return dict(
        batch=(batch, batch),
        some_anchors=(batch[3:7], batch),
        behind=(batch, behind),
        queries=(batch[:4], behind),
        behind_of_a_sample=(batch, stack(batch, known)),
        anchors_behind=(behind[8:14], behind),
        duplicates=(duplicates, duplicates),
        numbered=(numbered, numbered),
        anchors_numbered=(numbered, batch),
        candidates_numbered=(batch, numbered),
        no_views=(unknown, unknown),
        disorder=(batch[order], batch[order]),
        candidates_in_disorder=(batch, batch[order]),
        fewer_views=(from_views([z1, z2]), batch),
        further_views=(batch, from_views([z1, z2])),
        fewer_samples=(from_views([z1[:3], z2[:3]]), from_views([z1, z2])),
        further_samples=(from_views([z1, z2]), from_views([z1[:3], z2[:3]])),
    )


BATCHES = batches()


@pytest.mark.parametrize('batch', BATCHES)
@pytest.mark.parametrize('rule', RULES)
def test_roles_are_what_the_ids_say(rule, batch):
    "Whatever shortcut a rule may take where a batch lies view by view."
    anchors, candidates = BATCHES[batch]
    c = compare(anchors, candidates, RULES[rule])
    positive, negative = roles_by_loops(rule, anchors, candidates)
    assert c.positive.equal(positive) and c.negative.equal(negative)
    assert c.k.tolist() == negative.sum(1).tolist()
