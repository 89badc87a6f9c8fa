"Thresholds of images that have a batch to themselves or no number; who takes a suspect's place."

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from unremix import ContrastiveLoss, KeyQueue, Without
from unremix.false_negatives import FNC, GloFND, GloFNDLoss
from unremix.rules import Filled, OutsideBatch
from unremix.sentence_loss import QueryDocumentLoss


def views_of(n=9):
    g = torch.Generator().manual_seed(0)
    z1, z2 = torch.randn(2, n, 16, generator=g)
    return z1, z1 + 0.3 * z2, torch.arange(n)


@pytest.mark.parametrize('chunk_size', [None, 4])
def test_a_step_without_negatives_says_nothing(chunk_size):
    "Neither the first step of an image nor a later one."
    z1, z2, idx = views_of()
    loss, other = (GloFNDLoss(images=9, chunk_size=chunk_size) for _ in range(2))
    for step in range(4):
        before = loss.threshold.clone(), loss.visits.clone()
        loss(z1[8:], z2[8:], sample_ids=idx[8:])
        assert torch.equal(loss.threshold, before[0]), step
        assert torch.equal(loss.visits, before[1]), step
        for one in (loss, other):
            one(z1, z2, sample_ids=idx)
        assert torch.equal(loss.threshold, other.threshold)
        assert loss.visits.tolist() == [step + 1] * 9


def test_an_image_that_is_twice_in_a_batch_is_no_negative_of_its_own():
    "A batch of one image, drawn several times, has no negative either."
    z1, z2, idx = views_of()
    loss = GloFNDLoss(images=9, pairs=GloFND(alpha=0.2, rate=0.1))
    loss(z1[:3], z2[:3], sample_ids=torch.zeros(3, dtype=torch.long))
    assert torch.equal(loss.threshold, torch.ones(9)) and not loss.visits.any()
    loss(z1, z2, sample_ids=idx)
    assert (loss.threshold < 1).all() and (loss.visits == 1).all()


# ------------------------------------------------------------------- unknown images
@pytest.mark.parametrize('chunk_size', (None, 4))
def test_an_image_without_a_number_has_no_threshold_and_moves_none(chunk_size):
    z1, z2, idx = views_of()
    rule = GloFND(alpha=0.2, warmup=1)
    loss = GloFNDLoss(images=9, pairs=rule, chunk_size=chunk_size, reduction='none')
    for _ in range(3):
        loss(z1, z2, sample_ids=idx)
    before = loss.threshold.clone(), loss.visits.clone()
    unknown = torch.full((9,), -1)
    plain = ContrastiveLoss(reduction='none')(z1, z2)
    with pytest.raises(AssertionError):
        assert_close(loss.eval()(z1, z2, sample_ids=idx), plain)
    for mode in (False, True):
        assert_close(loss.train(mode)(z1, z2, sample_ids=unknown), plain)
        assert loss.threshold.equal(before[0]) and loss.visits.equal(before[1])
    some = torch.where(idx < 6, idx, -1)
    known = loss.eval()(z1, z2, sample_ids=idx).view(2, 9)
    found = loss(z1, z2, sample_ids=some).view(2, 9)
    assert_close(found[:, :6], known[:, :6])
    assert_close(found[:, 6:], plain.view(2, 9)[:, 6:])
    loss.train()(z1, z2, sample_ids=some)
    assert loss.visits.tolist() == [4] * 6 + [3] * 3
    assert loss.threshold[6:].equal(before[0][6:])
    assert (loss.threshold[:6] != before[0][:6]).all()


@pytest.mark.parametrize('training', (True, False))
def test_an_image_that_nobody_has_is_refused(training):
    "Told in one sentence, before a threshold moves; numbers of any type are read."
    z1, z2, idx = views_of()
    loss = GloFNDLoss(images=9).train(training)
    for bad in (9, 100):
        wrong = torch.where(idx == 3, bad, idx)
        with pytest.raises(ValueError, match=f'^sample_ids must be from 0 to 8, got {bad}'):
            loss(z1, z2, sample_ids=wrong)
    assert torch.equal(loss.threshold, torch.ones(9)) and not loss.visits.any()
    for kind in (torch.uint8, torch.uint16, torch.int32):
        assert loss(z1, z2, sample_ids=idx.to(kind)).isfinite()


def test_what_a_loss_with_thresholds_refuses():
    z1, z2, idx = views_of()
    for wrong in (2.5, -1, None, True):
        with pytest.raises(ValueError, match='images must be a whole number ≥ 0, got'):
            GloFNDLoss(images=wrong)
    loss = GloFNDLoss()
    with pytest.raises(ValueError, match='images must be 1 or more to learn, got 0'):
        loss(z1, z2, sample_ids=idx)
    plain = ContrastiveLoss()(z1, z2)
    assert_close(loss.eval()(z1, z2, sample_ids=idx), plain)  # it has met nobody
    with pytest.raises(ValueError, match='pairs must be a GloFND, got FNC'):
        GloFNDLoss(images=9, pairs=FNC())
    loss.pairs = None
    with pytest.raises(ValueError, match='pairs must be a GloFND, got None'):
        loss(z1, z2)


# ----------------------------------------------------------- who is among the nearest
EAST, NEAR, FAR = [1.0, 0, 0], [0.9, 0.4, 0], [0.0, 0, 1]


def unit(*rows):
    return F.normalize(torch.tensor(rows), dim=1)


def test_a_copy_takes_no_place_among_the_nearest():
    z = unit(EAST, EAST, NEAR, FAR)
    ids = torch.tensor([0, 0, 1, 2])
    for rule in (FNC(top=2), Without(FNC(top=2), 'copy')):
        c = ContrastiveLoss(pairs=rule).contrast(z, z, sample_ids=ids)
        assert c.k.tolist()[:2] == [2, 2]  # neither the copy nor image 2, but image 3
    attracting = ContrastiveLoss(pairs=FNC(top=9, attract=True))
    c = attracting.contrast(z, z, sample_ids=ids)
    assert c.positive[0].tolist() == [False, False, True, False, True, False, True, False]


@pytest.mark.parametrize('attract', (False, True))
def test_old_keys_of_the_image_and_empty_slots_take_no_place(attract):
    z = unit(EAST, FAR)
    queue = KeyQueue(6, 3)
    queue.push(unit(EAST, NEAR, [-0.2, 0, -1]), sample_ids=torch.tensor([0, 5, 6]))
    loss = ContrastiveLoss(pairs=FNC(top=1, threshold=-0.1, attract=attract))
    c = loss.contrast(z, z, sample_ids=torch.tensor([0, 1]), queue=queue)
    in_queue = slice(4, 10)
    assert c.negative[0, in_queue].tolist() == [False, False, True, False, False, False]
    attracted = [False, attract, False, False, False, False]
    assert c.positive[0, in_queue].tolist() == attracted


def test_queries_take_no_place_among_documents():
    queries, documents = unit(EAST, EAST, FAR), unit(EAST, NEAR, FAR)
    c = QueryDocumentLoss(pairs=FNC(top=1)).contrast(queries, documents)
    assert c.negative[0].tolist() == [False] * 5 + [True]
    assert c.positive[0].tolist() == [False] * 3 + [True, False, False]


@pytest.mark.parametrize('chunk_size', (None, 4))
def test_a_rule_that_ranks_is_the_same_in_any_order_of_the_others(chunk_size):
    z1, z2, idx = views_of()
    rules = [
        Filled(Without(OutsideBatch(FNC(3, 0.0)), 'copy')),
        OutsideBatch(Filled(Without(FNC(3, 0.0), 'copy'))),
    ]
    queue = KeyQueue(20, 16)
    queue.push(z2 + 0.1, sample_ids=idx)
    given = dict(sample_ids=idx % 5, queue=queue)
    losses = [ContrastiveLoss(pairs=x, chunk_size=chunk_size) for x in rules]
    first, second = (loss(z1, z2, **given) for loss in losses)
    assert first == second
    c = losses[0].contrast(z1, z2, **given)
    left = ContrastiveLoss().contrast(z1, z2, **given)
    for i in range(9):
        negatives = left.negative[i].nonzero().flatten()
        z = left.candidates.z
        near = torch.maximum(z[i] @ z.T, z[i + 9] @ z.T)[negatives]
        taken = negatives[(near >= near.sort().values[-3]) & (near > 0)]
        assert not c.negative[i, taken].any() and len(taken)
        assert c.k[i] == left.k[i] - len(taken)
