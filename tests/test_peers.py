"""What lightly asks of its NT-Xent, asked of the class that stands in for it.

The cases are those of lightly's own tests. The one with a negative temperature is left
out, since we refuse it, and so is the one about a PyTorch without processes.
"""

import json
import math
from itertools import product
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close
from unremix import KeyQueue, NTXentLoss

PAGE = Path(__file__).resolve().parents[1] / 'nbs' / 'coming_from.ipynb'


def class_of_the_page():
    "As a reader would copy it."
    cells = json.loads(PAGE.read_text(encoding='utf-8'))['cells']
    sources = [''.join(cell['source']) for cell in cells]
    (source,) = [s for s in sources if 'class LikeLightly' in s]
    names = {'NTXentLoss': NTXentLoss, 'KeyQueue': KeyQueue}
    exec(source.split('like_lightly =')[0], names)
    return names['LikeLightly']


LikeLightly = class_of_the_page()
SIZES = list(product((1, 2, 8, 16), (0, 1, 2, 8, 15, 16, 17)))


def draw(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def by_loops(z1, z2, t):
    "Algorithm 1 of SimCLR's paper, in double precision."
    z = torch.nn.functional.normalize(torch.cat([z1, z2]).double(), dim=1)
    n, found = len(z), []
    for i in range(n):
        weight = [math.exp(z[i] @ z[j] / t) for j in range(n)]
        others = sum(weight) - weight[i]
        found.append(-math.log(weight[(i + n // 2) % n] / others))
    return sum(found) / n


@pytest.mark.parametrize('gather', (False, True))
@pytest.mark.parametrize('n, dim', list(product((1, 2, 4), (1, 2, 16, 64))))
@pytest.mark.parametrize('t', (0.1, 1, 10))
def test_values(n, dim, t, gather):
    z1, z2 = draw(2, n, dim)
    loss = LikeLightly(t, gather_distributed=gather)
    wanted = by_loops(z1, z2, t)
    assert loss(z1, z2).item() == pytest.approx(wanted, abs=1e-5)
    assert loss(z2, z1).item() == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize('gather', (False, True))
@pytest.mark.parametrize('n, size', SIZES)
@pytest.mark.parametrize('t', (0.1, 1, 7))
def test_all_on_one_line(n, size, t, gather):
    "Every candidate is as near as every other, so the loss is a logarithm."
    z1, z2 = (draw(n, 2).abs()[:, :1] * torch.tensor([[1.0, 2.0]]) for _ in range(2))
    z1.requires_grad_()
    loss = LikeLightly(t, (size, 2) if size else 0, gather)
    for _ in range(size // n + 2):  # the bank is filled in several rounds
        value = loss(z1, z2)
    candidates = size + 1 if size else 2 * n - 1
    assert value.item() == pytest.approx(math.log(candidates), rel=1e-6, abs=1e-6)
    value.backward()
    assert z1.grad.isfinite().all()


@pytest.mark.parametrize('dim', (1, 32))
def test_views_may_be_swapped(dim):
    loss = LikeLightly()
    for n in range(1, 20):
        z1, z2 = draw(2, n, dim)
        assert_close(loss(z1, z2), loss(z2, z1))


def test_batches_of_all_sizes_with_one_bank():
    loss = LikeLightly(memory_bank_size=(64, 32))
    for n in range(1, 20):
        assert loss(*draw(2, n, 32).requires_grad_()).isfinite()


def test_a_bank_is_constant_without_gradient_and_loads_from_a_file():
    loss, fresh = (LikeLightly(memory_bank_size=(64, 32)) for _ in range(2))
    loss(*draw(2, 8, 32).requires_grad_())
    kept = {name: x.clone() for name, x in loss.state_dict().items()}
    assert kept['queue.valid'] == 8
    loss(*draw(2, 4, 32))  # a test batch
    fresh.load_state_dict(loss.state_dict())
    for name, x in kept.items():
        assert torch.equal(fresh.state_dict()[name], x)
