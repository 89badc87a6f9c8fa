"""Every argument of every loss, given what it is not: one `ValueError` before any work; given NumPy's numbers: as Python's."""
import inspect
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from unremix import DebiasedNTXentLoss, HCLLoss, NTXentLoss, UnReMixLoss, WeightedNTXentLoss
from unremix.losses import uniform
from unremix.queues import KeyQueue

b, d = 4, 8
z1, z2 = torch.randn(2, b, d, generator=torch.Generator().manual_seed(0))
h = torch.randn(2, b, 5, generator=torch.Generator().manual_seed(1))
MAKES = dict(weighted=lambda **k: WeightedNTXentLoss(**dict(weighting=uniform) | k), ntxent=NTXentLoss, debiased=DebiasedNTXentLoss, hcl=HCLLoss, unremix=UnReMixLoss)
SELECTED = dict(select='top', k_keep=2)

no_number = (None, '0.5', True, False, math.nan, math.inf, -math.inf, [.5], (.5,), {}, object(), 1j, 10**400, torch.tensor(.5), torch.nn.Parameter(torch.tensor(.5)), np.array([.5]), np.bool_(True), -1)
no_count = (0, -1, 2.5, 4., True, False, '4', [4], np.float32(4), np.bool_(True), torch.tensor(4), math.nan, {}, object())
no_switch = (None, 0, 1, 'yes', [], 2., torch.tensor(True), object())
no_name = ('best', '', 1, 2.5, True, ['norm'], {'norm'}, {}, torch.ones(2), object())
no_mix = (None, .5, 'abc', {}, (1, 0), (1, 0, 0, 0), (.5, .5, .5), (-.5, 1., .5), (math.nan, 0, 1), (True, False, False), ('1', 0, 0), torch.tensor([1., 0., 0.]), (None,)*3, object(), np.array(1.))
WRONG = dict(
    temperature=(0, *no_number), tau_plus=(1, 1.5, *no_number), beta=no_number, chunk_size=no_count, k_keep=(None, *no_count), weighting=(None, 'hcl', 1, torch.ones(2)),
    reduction=(None, *no_name), uncertainty=(None, *no_name), distance=(None, *no_name), normalize=(None, *no_name), pool=(None, *no_name), select=no_name,
    uncertainty_temperature=(0, *no_number[1:]), mix=no_mix, kappa=(*no_mix[:4], (1,), (1, 1, 1), (1, -1), (1, math.inf), ('1', 1), (True, 1), torch.ones(2), object()),
    in_batch=no_switch, gather_distributed=no_switch, detach_weights=no_switch)


def arguments(make): return [name for name in dict.fromkeys([*inspect.signature(make).parameters, *inspect.signature(WeightedNTXentLoss).parameters]) if name not in ('k', 'kwargs')]


@pytest.mark.parametrize('kind', MAKES)
def test_every_argument_of_the_constructor(kind):
    make, known = MAKES[kind], arguments(MAKES[kind])
    if kind != 'weighted': known.remove('weighting')
    assert set(known) <= set(WRONG), 'an argument nobody thought of'
    for name in known:
        for value in WRONG[name]:
            more = SELECTED if name == 'k_keep' else {}
            with pytest.raises(ValueError) as e: make(**{**more, name: value})
            assert str(e.value).startswith(f'{name} must be ') and '\n' not in str(e.value).split(', got ')[0], (name, value)


@pytest.mark.parametrize('kind', MAKES)
def test_every_argument_assigned_later(kind):
    "What a schedule does; told before any work."
    for name in arguments(MAKES[kind]):
        if name == 'weighting': continue
        for value in WRONG[name]:
            loss = MAKES[kind](**(SELECTED if name == 'k_keep' else {}))
            setattr(loss, name, value)
            with pytest.raises(ValueError, match=f'{name} must be '): loss(z1, z2)


no_tensor = (1, 'z', [1.], (1.,), {}, np.ones((b, d)), object())
no_embeddings = (None, *no_tensor, torch.ones(b, d).long(), torch.ones(b, d).bool(), torch.ones(b, d, dtype=torch.complex64), torch.ones(d), torch.ones(b, d, 1), torch.ones(0, d), torch.ones(b, 0))
no_hidden = (*no_tensor, h, h[0], (h[0],), (h[0], h[1], h[0]), ([1], [2]), (h[0], None), (None, None), ('h', 'h'), (h[0].numpy(), h[1].numpy()), (h[0], h[1].long()), (h[0], h[1][:,:2]), (h[0][:3], h[1][:3]), (h[0][0], h[1][0]),
             (h[0].to('meta'), h[1].to('meta')))
no_ids = (*no_tensor, torch.ones(b - 1), torch.ones(b + 1), torch.ones(b, 1), torch.tensor(1), torch.ones(0), torch.ones(b, device='meta'))
no_negatives = (*no_tensor, torch.ones(2, d).long(), torch.ones(2, d + 1), torch.ones(d), torch.ones(0, d), torch.ones(2, d, device='meta'))
CALLS = dict(z1=no_embeddings, z2=(*no_embeddings, torch.ones(b + 1, d), torch.ones(b, d + 1), z2.double(), z2.half(), z2.to('meta')), hidden=no_hidden, labels=no_ids, sample_ids=no_ids, true_labels=no_ids,
             negatives=no_negatives, queue=(*no_tensor, torch.ones(3, d), KeyQueue, KeyQueue(3, d + 1)), return_stats=no_switch)


@pytest.mark.parametrize('chunk_size', (None, 3))
@pytest.mark.parametrize('kind', MAKES)
def test_every_argument_of_a_call(kind, chunk_size):
    loss = MAKES[kind](chunk_size=chunk_size)
    loss.tau_plus = 0. # labels exclude it
    assert set(inspect.signature(loss.forward).parameters) == set(CALLS), 'an argument nobody thought of'
    for name, values in CALLS.items():
        for value in values:
            with pytest.raises(ValueError) as e: loss(**dict(z1=z1, z2=z2) | {name: value})
            said = str(e.value)
            assert said.startswith(f'{name} must be ') or name == 'z1' and said.startswith('z2 must be '), (name, value, said)


@pytest.mark.parametrize('cast', (np.float32, np.float64, np.float16, Fraction), ids=lambda c: c.__name__)
def test_numbers_of_numpy_are_numbers(cast):
    for name, value in dict(temperature=.5, tau_plus=.125, beta=2.).items():
        for kind, make in MAKES.items():
            if name not in arguments(make): continue
            for chunk_size in (None, 3):
                a, c = (z.clone().requires_grad_() for z in (z1, z2))
                mine, given = make(chunk_size=chunk_size, **{name: value}), make(chunk_size=chunk_size, **{name: cast(value)})
                first, second = mine(a, c), given(a, c)
                assert second.dtype == torch.float32
                assert_close((second, *torch.autograd.grad(second, (a, c))), (first, *torch.autograd.grad(first, (a, c))))
                assert_close(given(z1.double(), z2.double()), mine(z1.double(), z2.double()))
    given = UnReMixLoss(mix=(cast(.5), cast(.25), cast(.25)), kappa=(cast(2), cast(.5)), uncertainty_temperature=cast(.25), pool='linear')
    assert_close(given(z1, z2, hidden=h.unbind()), UnReMixLoss(mix=(.5, .25, .25), kappa=(2., .5), uncertainty_temperature=.25)(z1, z2, hidden=h.unbind()))
    for normalize in ('sum', 'minmax'): UnReMixLoss(mix=(cast(.5), cast(.25), cast(.25)), normalize=normalize, uncertainty='overlap')(z1, z2)
    assert_close(UnReMixLoss(pool='log', kappa=(cast(2), cast(.5)), tau_plus=cast(.125))(z1, z2), UnReMixLoss(pool='log', kappa=(2., .5), tau_plus=.125)(z1, z2))


def test_sequences_of_three():
    expected = UnReMixLoss(mix=(.5, .25, .25), kappa=(1., 2.))(z1, z2)
    for cast in (list, np.array, lambda x: np.array(x, dtype=np.float32)): assert_close(UnReMixLoss(mix=cast([.5, .25, .25]), kappa=cast([1., 2.]))(z1, z2), expected)


@pytest.mark.parametrize('cast', (np.int64, np.int32, np.uint8), ids=lambda c: c.__name__)
def test_whole_numbers_of_numpy(cast):
    for make in MAKES.values(): assert_close(make(chunk_size=cast(3))(z1, z2), make(chunk_size=3)(z1, z2))
    assert_close(UnReMixLoss(select='top', k_keep=cast(3))(z1, z2), UnReMixLoss(select='top', k_keep=3)(z1, z2))
    assert_close(NTXentLoss(temperature=cast(1))(z1, z2), NTXentLoss(temperature=1)(z1, z2))


@pytest.mark.parametrize('returned', (0., None, torch.zeros(2*b), torch.zeros(2*b, 1), torch.zeros(1, 2*b), torch.zeros(2*b, 2*b - 2)), ids=str)
def test_what_a_weighting_returns(returned):
    with pytest.raises(ValueError, match='what the weighting returns must be of shape'): WeightedNTXentLoss(lambda contrast: returned)(z1, z2)
