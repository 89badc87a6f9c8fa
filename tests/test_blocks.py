"Rows in blocks give the whole matrix's value, gradient and statistics, for every loss."

from contextlib import nullcontext
from unittest.mock import patch

import pytest
import torch
from torch.testing import assert_close

from test_weightings import LOSSES, tau_plus, third_view, views
from unremix import ContrastiveLoss, LearnedTemperature, NTXentLoss, UnReMixLoss
from unremix.hard_negatives import HCL, log_share, mean_one
from unremix.queue import KeyQueue
from unremix.rules import across, supervised, views as usual
from unremix.synthesis import MoCHi

ATTACHED = dict(detach_weights=False)
BLOCKS = LOSSES | dict(
    minmax_attached=lambda t: UnReMixLoss(t, normalize='minmax', **ATTACHED),
    sum=lambda t: UnReMixLoss(t, reduction='sum'),
    none=lambda t: UnReMixLoss(t, reduction='none', tau_plus=0.1),
    none_attached=lambda t: UnReMixLoss(t, reduction='none', **ATTACHED),
    synthesis=lambda t: ContrastiveLoss(
        HCL(), synthesis=MoCHi(hardest=8, count=3, seed=0), temperature=t
    ),
)
SOME = (
    'hcl',
    'decoupled',
    'unremix_euclidean',
    'norm_softmax',
    'influence_log',
    'overlap_log',
    'image_similarity_log',
    'norm_minmax',
    'none',
    'own_prepared',
)
double = torch.float64


def numbers(*shape, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=double)


def queue():
    "Six of nine slots hold keys."
    kept = KeyQueue(9, 8, stores_hidden=True).double()
    ids = torch.arange(6)
    kept.push(numbers(6, 8, seed=2), numbers(6, 5, seed=3), sample_ids=ids, labels=ids)
    return kept


z3, h3 = third_view(b=150)
labels, ids = torch.arange(150) % 9, torch.arange(150) % 80
negatives = numbers(7, 8, seed=1)
# further views, what else is given, the rule
GIVEN = dict(
    labels=((), dict(labels=labels), None),
    ids=((), dict(sample_ids=ids), None),
    negatives=((), dict(negatives=negatives), None),
    queue=((), dict(queue=queue(), sample_ids=ids), None),
    queue_and_batch=((), dict(queue=queue(), negatives=negatives), usual),
    three_views=((z3,), {}, None),
    several_positives=((), dict(labels=labels), supervised),
    three_and_several=((z3,), dict(labels=labels), supervised),
    across=((z3,), dict(sample_ids=ids), across),
)


def in_parts(chunk_size):
    "16 rows at once, so that every block is taken in parts."
    if chunk_size is None:
        return nullcontext()
    return patch('unremix.tiles.CACHE_CELLS', 1)


def value_and_gradient(loss, dtype, chunk_size, more=(), given={}):
    "Of 300 anchors, or more, by embeddings, negatives and a temperature that learns."
    (z1, z2), hidden = views(b=150, dtype=dtype)
    z = [x.clone().to(dtype) for x in (z1, z2, *more)]
    leaves = [x.requires_grad_() for x in z]
    hidden = (*hidden, h3.to(dtype))[: len(z)]
    if 'negatives' in given:  # whose hidden inputs nobody knows
        hidden = None
    if 'negatives' in given:
        negatives = given['negatives'].clone().to(dtype).requires_grad_()
        given = given | dict(negatives=negatives)
        leaves.append(negatives)
    t = LearnedTemperature(0.5).to(dtype)
    loss = loss(t)
    loss.chunk_size = chunk_size
    asked = dict(hidden=hidden, true_labels=torch.arange(150) % 5, return_stats=True)
    with in_parts(chunk_size):
        value, stats = loss(*z, **asked, **given)
        weights = torch.linspace(-1, 1, value.numel(), dtype=dtype) if value.ndim else 1
        total, inputs = (value * weights).sum(), [*leaves, *t.parameters()]
        found = torch.autograd.grad(total, inputs, materialize_grads=True)
    *gradient, by_temperature = found
    return value.detach(), torch.cat(gradient), by_temperature, stats


def assert_same(found, expected, bound):
    for x, y in zip(found[:3], expected[:3], strict=True):
        assert (x - y).abs().max() <= bound * y.abs().max()
    assert found[3].keys() == expected[3].keys()
    for name, x in found[3].items():
        assert_close(x, expected[3][name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    'dtype, bound', ((torch.float64, 1e-10), (torch.float32, 1e-6))
)
@pytest.mark.parametrize('name', BLOCKS)
def test_blocks_give_the_whole(name, dtype, bound):
    whole = value_and_gradient(BLOCKS[name], dtype, None)
    assert whole[1].abs().max() > 0 and whole[2].abs() > 0
    for chunk_size in (64, 299):
        found = value_and_gradient(BLOCKS[name], dtype, chunk_size)
        assert_same(found, whole, bound)


@pytest.mark.parametrize('given', GIVEN)
@pytest.mark.parametrize('name', SOME)
def test_blocks_with_companions(name, given):
    more, kwargs, rule = GIVEN[given]

    def make(t):
        loss = BLOCKS[name](t)
        loss.pairs = rule
        if 'labels' in kwargs and tau_plus(loss):
            loss.tau_plus = 0.0
        return loss

    whole = value_and_gradient(make, double, None, more, kwargs)
    assert_same(value_and_gradient(make, double, 7, more, kwargs), whole, 1e-10)


class Learned(torch.nn.Module):
    "HCL whose β is a parameter."

    def __init__(self):
        super().__init__()
        self.beta = torch.nn.Parameter(torch.tensor(0.7, dtype=double))

    def forward(self, c):
        return mean_one(log_share(self.beta * c.logits, c.negative, c.k), c.k)


def test_a_learned_weighting_gets_its_gradient():
    "Beside a temperature, which the weights read as well."
    found = []
    for chunk_size in (None, 5):
        (z1, z2), _ = views()
        weighting, t = Learned(), LearnedTemperature(0.5).double()
        loss = ContrastiveLoss(weighting, temperature=t, chunk_size=chunk_size)
        loss(z1.requires_grad_(), z2).backward()
        found.append([weighting.beta.grad, t.x.grad, z1.grad])
    assert_close(found[1], found[0])
    assert all(x.abs().max() > 1e-3 for x in found[0])


def test_without_gradient_and_half_precision():
    (z1, z2), hidden = views(dtype=torch.bfloat16)
    with torch.no_grad():
        blocks = UnReMixLoss(chunk_size=5)(z1, z2, hidden=hidden)
        whole = UnReMixLoss()(z1, z2, hidden=hidden)
        assert_close(blocks, whole, rtol=1e-6, atol=1e-6)
    found = []
    with torch.autocast('cpu', torch.bfloat16):
        for chunk_size in (None, 5):
            z = z1.clone().requires_grad_()
            UnReMixLoss(chunk_size=chunk_size)(z, z2, hidden=hidden).backward()
            assert z.grad.dtype == torch.bfloat16
            found.append(z.grad)
    # rounded to bfloat16 once, in either case
    whole, blocks = found
    assert (blocks - whole).abs().max() <= 2**-7 * whole.abs().max()


def test_a_queue_wraps_and_comes_back_from_a_checkpoint():
    (z1, z2), hidden = views(dtype=torch.float32)
    kept, copy = (KeyQueue(10, 8, stores_hidden=True) for _ in range(2))
    for step in range(4):
        keys, ids = z2.roll(step, 0)[:4], torch.arange(4) + step
        kept.push(keys, hidden[1][:4], sample_ids=ids)
        copy.load_state_dict({k: v.clone() for k, v in kept.state_dict().items()})
        given = dict(hidden=hidden, sample_ids=torch.arange(6), return_stats=True)
        first, second = (UnReMixLoss()(z1, z2, queue=q, **given) for q in (kept, copy))
        assert_close(first, second)
        assert first[0].isfinite()
        k = NTXentLoss().contrast(z1, z2, queue=kept).k
        assert (k == min(10, 4 * step + 4)).all()
