"""What every weighting must satisfy, checked for all of them: see 'Invariants' in the pages 02 to 06."""
import math
from itertools import product

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing import assert_close

from unremix import DebiasedNTXentLoss, HCLLoss, NTXentLoss, UnReMixLoss, WeightedNTXentLoss
from unremix.importance import NORMALIZERS
from unremix.losses import contrastive_loss, uniform
from unremix.pairs import from_views
from unremix.uncertainty import UNCERTAINTIES


def first_half(contrast):
    "A user's own weighting: only the candidates in the first half of the columns, all alike."
    few = contrast.negative & (torch.arange(contrast.logits.shape[1], device=contrast.logits.device) < contrast.n_views//2)
    few = torch.where(few.any(1, keepdim=True), few, contrast.negative)
    share = few/few.sum(1, keepdim=True).clamp_min(1)
    return (share*contrast.k[:,None]).log().masked_fill(~few, -math.inf)


LOSSES = dict(
    ntxent=NTXentLoss, debiased=DebiasedNTXentLoss, hcl=HCLLoss, hcl_detached=lambda t: HCLLoss(t, detach_weights=True),
    unremix_attached=lambda t: UnReMixLoss(t, detach_weights=False), unremix_debiased=lambda t: UnReMixLoss(t, tau_plus=.1),
    unremix_euclidean=lambda t: UnReMixLoss(t, distance='euclidean'), similarity_only=lambda t: UnReMixLoss(t, mix=(0, 1, 0)),
    top=lambda t: UnReMixLoss(t, select='top', k_keep=3), own=lambda t: WeightedNTXentLoss(first_half, t),
    **{f'{u}_{n}': lambda t, u=u, n=n: UnReMixLoss(t, uncertainty=u, normalize=n) for u, n in product(UNCERTAINTIES, NORMALIZERS)},
    **{f'{u}_log': lambda t, u=u: UnReMixLoss(t, uncertainty=u, pool='log', uncertainty_temperature=.1) for u in UNCERTAINTIES})
SELECTING = {'top', 'own'}
every_loss = pytest.mark.parametrize('name', LOSSES)


def views(b=6, d=8, f=5, dtype=torch.float64, seed=0):
    g = torch.Generator().manual_seed(seed)
    z1, z2 = torch.randn(2, b, d, generator=g, dtype=torch.float64)
    hidden = torch.randn(2, b, f, generator=g, dtype=torch.float64)
    return [x.to(dtype) for x in (z1, z1 + .7*z2)], tuple(h.to(dtype) for h in hidden)


def edge_cases():
    "Inputs on which naive code divides by zero, overflows or compares rounding errors."
    (z1, z2), _ = views(dtype=torch.float32)
    eye, zero, same = torch.eye(6, 8), torch.zeros(6, 8), torch.ones(6, 8)
    outlier = z1.clone(); outlier[0] /= 20
    one_zero = z1.clone(); one_zero[2] = 0
    return dict(duplicated=(z1[[0, 0, 1, 1, 2, 2]], z2), collapsed=(same, same), orthogonal=(eye, eye), all_zero=(zero, zero), one_zero=(one_zero, z2),
                near_collapse=(same + 1e-3*z1, same + 1e-3*z2), outlier=(outlier, z2), one_image=(z1[:1], z2[:1]), two_images=(z1[:2], z2[:2]))


def hidden_like(z1): return tuple(x[:len(z1)].to(z1.dtype) for x in views()[1])


@every_loss
def test_mean_one_and_nothing_off_the_negatives(name):
    (z1, z2), hidden = views()
    loss = LOSSES[name](.5)
    for kwargs in (dict(hidden=hidden), {}, dict(sample_ids=torch.tensor([0, 1, 2, 0, 1, 3])), dict(labels=torch.tensor([0, 0, 1, 1, 2, 2])),
                   dict(negatives=torch.flip(z1, (1,)))):
        contrast = loss.contrast(z1, z2, **kwargs)
        log_w = loss.log_weights(contrast)
        assert_close(log_w.exp().sum(1)/contrast.k, torch.ones(12, dtype=torch.float64))
        assert (log_w[~contrast.negative] == -math.inf).all()
        if name not in SELECTING: assert log_w[contrast.negative].isfinite().all()


@every_loss
def test_permutation_and_view_swap(name):
    if name == 'own': pytest.skip('the example depends on the order by design')
    (z1, z2), h = views()
    loss = LOSSES[name](.5)
    log_w = loss.log_weights(loss.contrast(z1, z2, hidden=h))
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    moved = loss.log_weights(loss.contrast(z1[order], z2[order], hidden=(h[0][order], h[1][order])))
    both = torch.cat([order, order+6])
    assert_close(moved, log_w[both][:,both])
    swapped, roll = loss.log_weights(loss.contrast(z2, z1, hidden=h[::-1])), torch.arange(12).roll(6)
    assert_close(swapped, log_w[roll][:,roll])


@every_loss
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_finite_values_and_gradients(name, dtype):
    for (case, (z1, z2)), t in product(edge_cases().items(), (.5, .01)):
        labels = [None, torch.zeros(len(z1), dtype=torch.long)] # the second leaves no negative at all
        for y in labels:
            if y is not None and 'debiased' in name or y is not None and name.startswith('hcl'): continue # labels exclude tau_plus
            a, b = (z.to(dtype, copy=True).requires_grad_() for z in (z1, z2))
            value = LOSSES[name](t)(a, b, hidden=hidden_like(a), labels=y)
            value.backward()
            assert value.isfinite() and a.grad.isfinite().all() and b.grad.isfinite().all(), f'{case} at t={t}, labels={y is not None}'
            assert a.grad.dtype == dtype
            if y is not None or len(z1) == 1: assert value == 0 and (a.grad == 0).all()


def near(name, case):
    "Promised except where a weighting is discontinuous: a range that is itself rounding noise, or which of two equals is kept."
    return name != 'top'


@every_loss
def test_float32_log_weights_near_float64(name):
    for (case, (z1, z2)), t in product(edge_cases().items(), (.5, .1, .01)):
        loss = LOSSES[name](t)
        both = []
        for dtype in (torch.float32, torch.float64):
            contrast = loss.contrast(z1.to(dtype), z2.to(dtype), hidden=hidden_like(z1.to(dtype)))
            both.append(loss.log_weights(contrast).double())
        if near(name, case): assert_close(*both, rtol=0, atol=.02, msg=lambda m: f'{case} at t={t}: {m}')


@every_loss
def test_equal_scores_are_uniform(name):
    if name in SELECTING: pytest.skip('a selecting weighting is never uniform')
    z = torch.ones(5, 8, dtype=torch.float64)
    loss = LOSSES[name](.5)
    contrast = loss.contrast(z, z)
    assert_close(loss.log_weights(contrast), uniform(contrast))
    if not loss.tau_plus: assert_close(loss(z, z), torch.tensor(math.log(9), dtype=torch.float64))


@every_loss
def test_blocks_of_rows_give_the_same_rows(name):
    (z1, z2), hidden = views()
    loss = LOSSES[name](.5)
    for kwargs in (dict(hidden=hidden), dict(sample_ids=torch.tensor([0, 1, 2, 0, 1, 3])), dict(negatives=z1.flip(1), in_batch=False)):
        whole = loss.log_weights(from_views(z1, z2, .5, **kwargs))
        parts = [loss.log_weights(from_views(z1, z2, .5, rows=slice(lo, lo+5), **kwargs)) for lo in (0, 5, 10)]
        assert_close(torch.cat(parts), whole)


@every_loss
def test_compiles_without_a_break(name):
    (z1, z2), hidden = views(dtype=torch.float32)
    loss = LOSSES[name](.5)
    torch._dynamo.reset()
    results = []
    for f in (loss, torch.compile(loss, fullgraph=True, backend='aot_eager')):
        a, b = z1.clone().requires_grad_(), z2.clone().requires_grad_()
        value = f(a, b, hidden=hidden); value.backward()
        results.append((value.detach(), a.grad, b.grad))
    assert_close(*results)


def fake_tensors_can_be_indexed():
    "PyTorch 2.8 asks for a CUDA driver when a fake tensor of a GPU is indexed."
    with FakeTensorMode():
        try: return torch.empty(2, device='cuda')[:,None].shape == (2, 1)
        except RuntimeError: return False


@pytest.mark.skipif(not fake_tensors_can_be_indexed(), reason='this PyTorch cannot index fake tensors of a GPU without a driver')
@every_loss
def test_everything_stays_on_the_device(name):
    with FakeTensorMode():
        z1, z2, h1, h2 = (torch.empty(6, n, device='cuda') for n in (8, 8, 5, 5))
        ids = torch.empty(6, dtype=torch.long, device='cuda')
        loss = LOSSES[name](.5)
        for kwargs, loss.chunk_size in product((dict(hidden=(h1, h2)), dict(sample_ids=ids), dict(negatives=torch.empty(3, 8, device='cuda'))), (None, 4)):
            value, stats = loss(z1, z2, true_labels=ids, return_stats=True, **kwargs)
            assert value.device.type == 'cuda' and {x.device.type for x in stats.values()} == {'cuda'}


@every_loss
def test_bfloat16_autocast_is_float32_of_rounded_inputs(name):
    (z1, z2), h = views(dtype=torch.bfloat16)
    with torch.autocast('cpu', torch.bfloat16): low = LOSSES[name](.5)(z1, z2, hidden=h)
    full = LOSSES[name](.5)(z1.float(), z2.float(), hidden=tuple(x.float() for x in h))
    assert low.dtype == torch.float32; assert_close(low, full, rtol=1e-6, atol=1e-6)


def test_labels_are_read_by_no_weighting():
    (z1, z2), hidden = views()
    y = torch.tensor([0, 0, 1, 1, 2, 2])
    for name, make in LOSSES.items():
        value, stats = make(.5)(z1, z2, hidden=hidden, true_labels=y, return_stats=True)
        assert value == make(.5)(z1, z2, hidden=hidden), name
        assert all(x.ndim == 0 and x.dtype == torch.float32 and not x.requires_grad for x in stats.values())


def test_constant_weights_pass_gradcheck():
    (z1, z2), _ = views(b=3)
    log_w = torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    def f(a, b): c = from_views(a, b, .5); return contrastive_loss(c, log_w.masked_fill(~c.negative, -math.inf), .05)
    assert torch.autograd.gradcheck(f, [z1.requires_grad_(), z2.requires_grad_()])
