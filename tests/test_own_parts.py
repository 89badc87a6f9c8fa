"""Parts, networks and settings of somebody's own: what fits works, the rest is told."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from unremix import ContrastiveLoss
from unremix.bands import TopK
from unremix.cacr import CACR
from unremix.gradient_cache import MicroBatches
from unremix.hard_negatives import HCL
from unremix.info_nce import InfoNCE
from unremix.jensen_shannon import JensenShannon
from unremix.mixtures import SynCo
from unremix.one_class import MiOC
from unremix.rules import supervised
from unremix.selection import Placebo
from unremix.synthesis import MoCHi
from unremix.unremix import UnReMix
from unremix.with_labels import HSCL, SupCon

z1, z2 = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0))
y = torch.arange(6) % 2


def by_distance(c, offset: float = 0.0) -> Tensor:
    "Log weights whose average is not 1."
    return torch.where(c.negative, c.cosine.detach() + offset, -math.inf)


@pytest.mark.parametrize('offset', [-300.0, -90.0, 90.0, 300.0])
def test_statistics_of_weights_that_do_not_average_one(offset):
    def of(offset):
        loss = ContrastiveLoss(lambda c: by_distance(c, offset))
        return loss(z1, z2, true_labels=y, return_stats=True)[1]

    assert_close(of(offset), of(0.0), rtol=1e-3, atol=1e-3)


def test_statistics_of_nan_weights_are_nan():
    loss = ContrastiveLoss(lambda c: by_distance(c, math.nan))
    _, stats = loss(z1, z2, true_labels=y, return_stats=True)
    assert stats['effective_negatives'].isnan()
    assert stats['false_negative_mass'].isnan()


@pytest.mark.parametrize('dtype', [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize('chunk_size', [None, 4])
@pytest.mark.parametrize('part', [InfoNCE(0.1), CACR(), JensenShannon()])
def test_log_weights_of_another_dtype(dtype, chunk_size, part):
    x = z1.clone().requires_grad_()
    weigh = lambda c: by_distance(c).to(dtype)
    loss = ContrastiveLoss(weigh, loss=part, chunk_size=chunk_size)(x, z2)
    loss.backward()
    expected = ContrastiveLoss(lambda c: weigh(c).float(), loss=part)(z1, z2)
    assert_close(loss.detach(), expected)
    assert x.grad.isfinite().all()


def test_log_weights_of_another_dtype_by_hand():
    for pairs, labels in ((None, None), (supervised, y)):
        c = ContrastiveLoss(pairs=pairs).contrast(z1, z2, labels=labels)
        log_w = by_distance(c)
        assert_close(InfoNCE()(c, log_w.double()), InfoNCE()(c, log_w))


@pytest.mark.parametrize(
    'name, part',
    [('weights', x) for x in (HCL, UnReMix, HSCL, TopK)]
    + [('pairs', SupCon), ('loss', InfoNCE), ('loss', CACR), ('synthesis', MoCHi)],
)
def test_a_class_is_no_part(name, part):
    with pytest.raises(ValueError, match=f'^{name} must be .*such as {part.__name__}'):
        ContrastiveLoss(**{name: part})


@pytest.mark.parametrize(
    'part',
    [
        dict(synthesis=MoCHi(seed=1)),
        dict(synthesis=SynCo(seed=1)),
        dict(synthesis=MiOC(seed=1)),
        dict(weights=Placebo()),
    ],
)
def test_seeds_with_another_default_device(part):
    expected = ContrastiveLoss(**part)(z1, z2)
    with torch.device('meta'):  # as `torch.set_default_device('cuda')` does
        found = ContrastiveLoss(**part)(z1, z2)
    assert_close(found, expected)


def test_seeds_with_another_default_dtype():
    expected = ContrastiveLoss(synthesis=MoCHi(seed=1))(z1, z2)
    torch.set_default_dtype(torch.float64)
    try:
        found = ContrastiveLoss(synthesis=MoCHi(seed=1))(z1, z2)
    finally:
        torch.set_default_dtype(torch.float32)
    assert_close(found, expected)


def test_micro_batches_of_a_model_without_hidden():
    for size in (2, 3):  # two rows of a matrix are no pair
        with pytest.raises(ValueError, match='what the model returns .*a pair'):
            MicroBatches(lambda x: x, z1, size)
    with pytest.raises(ValueError, match='what the model returns .*NoneType'):
        MicroBatches(lambda x: (x, None), z1, 2)


@pytest.mark.parametrize('views', [(z1, z2), [[1, 2]], [{'text': torch.arange(3)}]])
def test_micro_batches_of_what_has_no_rows(views):
    with pytest.raises(ValueError, match='^views must be one tensor, or dictionaries'):
        MicroBatches(lambda x: (x, x), views, 2)


def test_anomaly_detection_of_anchors_without_negatives():
    x = z1.clone().requires_grad_()
    weights = UnReMix(mix=(0, 1, 0), normalize='minmax', detach=False)
    with torch.autograd.set_detect_anomaly(True):
        ContrastiveLoss(weights)(x, z2, sample_ids=torch.zeros_like(y)).backward()
    assert_close(x.grad, torch.zeros_like(x))
