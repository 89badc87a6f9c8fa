"The weights of a lead beyond the paper, against loops and against the script that judged it."
import math

import pytest
import torch
from judge_leads import without
from left_out import LeftOut
from torch.testing import assert_close

from unremix.contrast import compare
from unremix.embeddings import from_views
from unremix.rules import views
from unremix.selection import shares


@pytest.fixture
def contrast():
    generator = torch.Generator().manual_seed(3)
    z = torch.randn(2, 14, 6, generator=generator, dtype=torch.float64)
    e = from_views(list(z))
    return compare(e, e, views, temperature=0.5)


def by_hand(c, share, beta):
    "One anchor and one image after the other: who is far enough gets e^(β logit)."
    n = c.anchors.z.shape[0]
    images = [c.anchors.z[i] + c.anchors.z[i + n // 2] for i in range(n // 2)]
    images = [x / x.norm() for x in images]
    weights = torch.zeros(n, n, dtype=torch.float64)
    for i in range(n):
        negatives = [j for j in range(n) if j % (n // 2) != i % (n // 2)]
        cosine = {j: float(images[i % (n // 2)] @ images[j % (n // 2)]) for j in negatives}
        far = sorted(negatives, key=cosine.get)[: len(negatives) - round(share * len(negatives))]
        for j in far:
            weights[i, j] = math.exp(beta * c.logits[i, j])
        weights[i] *= len(negatives) / weights[i].sum()
    return weights


@pytest.mark.parametrize('share', [0.0, 2 / 26, 8 / 26])  # views of an image go together
@pytest.mark.parametrize('beta', [0.0, 1.0, 2.28])
def test_weights_are_those_of_loops(contrast, share, beta):
    weights = LeftOut(share, beta)(contrast).exp()
    assert_close(weights, by_hand(contrast, share, beta))
    assert_close(weights.sum(1), contrast.k)
    assert not weights.requires_grad


@pytest.mark.parametrize('kind', ['score', 'permuted'])
def test_force_is_the_one_that_was_judged(contrast, kind):
    own = torch.zeros_like(contrast.negative)
    force = shares(contrast, LeftOut(0.15, 2.0, kind == 'permuted')(contrast))
    assert_close(force, without(contrast, own, 0.15, kind, 2.0))


def test_placebo_leaves_out_others(contrast):
    out = [LeftOut(0.1, 1.0, permuted)(contrast) == -math.inf for permuted in (False, True)]
    assert torch.equal(out[0].sum(1), out[1].sum(1)) and not torch.equal(*out)


def test_nothing_left_out_is_hcl(contrast):
    assert_close(LeftOut(0.0, 1.0)(contrast), LeftOut(0.0, 1.0, True)(contrast))
