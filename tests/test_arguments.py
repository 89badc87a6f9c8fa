"""Every argument of every loss, given what it is not, or given NumPy's numbers.

The first is one `ValueError` before any work, the second is as Python's numbers.
"""

import inspect
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from unremix import ContrastiveLoss, DebiasedNTXentLoss, HCLLoss, LearnedTemperature
from unremix import NTXentLoss, UnReMixLoss
from unremix.arguments import shape_of
from unremix.hard_negatives import HCL, uniform
from unremix.queue import KeyQueue
from unremix.rules import views

b, d = 4, 8
z1, z2 = torch.randn(2, b, d, generator=torch.Generator().manual_seed(0))
h = torch.randn(2, b, 5, generator=torch.Generator().manual_seed(1))
MAKES = dict(
    contrastive=ContrastiveLoss,
    ntxent=NTXentLoss,
    debiased=DebiasedNTXentLoss,
    hcl=HCLLoss,
    unremix=UnReMixLoss,
)
SELECTED = dict(select='top', k_keep=2)

no_number = (
    None,
    '0.5',
    True,
    False,
    math.nan,
    math.inf,
    -math.inf,
    [0.5],
    (0.5,),
    {},
    object(),
    1j,
    10**400,
    torch.tensor(0.5),
    nn.Parameter(torch.tensor(0.5)),
    np.array([0.5]),
    np.bool_(True),
    -1,
)
no_count = (
    0,
    -1,
    2.5,
    4.0,
    True,
    False,
    '4',
    [4],
    np.float32(4),
    np.bool_(True),
    torch.tensor(4),
    math.nan,
    {},
    object(),
)
no_switch = (None, 0, 1, 'yes', [], 2.0, torch.tensor(True), object())
no_name = (
    'best',
    '',
    1,
    2.5,
    True,
    ['norm'],
    {'norm'},
    {},
    torch.ones(2),
    object(),
)
no_mix = (
    None,
    0.5,
    'abc',
    {},
    (1, 0),
    (1, 0, 0, 0),
    (0.5, 0.5, 0.5),
    (-0.5, 1.0, 0.5),
    (math.nan, 0, 1),
    (True, False, False),
    ('1', 0, 0),
    torch.tensor([1.0, 0.0, 0.0]),
    (None,) * 3,
    object(),
    np.array(1.0),
)
no_kappa = (
    *no_mix[:4],
    (1,),
    (1, 1, 1),
    (1, -1),
    (1, math.inf),
    ('1', 1),
    (True, 1),
    torch.ones(2),
    object(),
)
no_function = ('hcl', 1, 0.5, True, [uniform], (views,), {}, torch.ones(2), object())
WRONG = dict(
    weights=(None, *no_function),
    pairs=no_function,
    synthesis=no_function,
    loss=(None, *no_function),
    temperature=(0, *no_number),
    tau_plus=(1, 1.5, *no_number),
    beta=no_number,
    chunk_size=no_count,
    k_keep=(None, *no_count),
    reduction=(None, *no_name),
    uncertainty=(None, *no_name),
    distance=(None, *no_name),
    normalize=(None, *no_name),
    pool=(None, *no_name),
    select=no_name,
    uncertainty_temperature=(0, *no_number[1:]),
    mix=no_mix,
    kappa=no_kappa,
    gather_distributed=no_switch,
    pairs_once=no_switch,
    detach_weights=no_switch,
    pseudo_label=(None, *no_name),
)


def arguments(make):
    return list(inspect.signature(make).parameters)


def one_sentence(e, *names):
    "It starts with one of the names, and no line breaks before the value itself."
    said = str(e.value)
    starts = tuple(f'{name} must be ' for name in names)
    return said.startswith(starts) and '\n' not in said.split(', got ')[0]


@pytest.mark.parametrize('kind', MAKES)
def test_every_argument_of_the_constructor(kind):
    make = MAKES[kind]
    assert set(arguments(make)) <= set(WRONG), 'an argument nobody thought of'
    for name in arguments(make):
        more = SELECTED if name == 'k_keep' else {}
        for value in WRONG[name]:
            with pytest.raises(ValueError) as e:
                make(**{**more, name: value})
            assert one_sentence(e, name), (name, value)


@pytest.mark.parametrize('kind', MAKES)
def test_every_argument_assigned_later(kind):
    "What a schedule does; told when it is assigned, or else before any work."
    for name in arguments(MAKES[kind]):
        for value in WRONG[name]:
            loss = MAKES[kind](**(SELECTED if name == 'k_keep' else {}))
            with pytest.raises(ValueError, match=f'^{name} must be '):
                setattr(loss, name, value)
                loss(z1, z2)


no_tensor = (1, 'z', [1.0], (1.0,), {}, np.ones((b, d)), object())
no_embeddings = (
    None,
    *no_tensor,
    torch.ones(b, d).long(),
    torch.ones(b, d).bool(),
    torch.ones(b, d, dtype=torch.complex64),
    torch.ones(d),
    torch.ones(b, d, 1),
    torch.ones(0, d),
    torch.ones(b, 0),
)
no_other_view = (
    *no_embeddings,
    torch.ones(b + 1, d),
    torch.ones(b, d + 1),
    z2.double(),
    z2.half(),
    z2.to('meta'),
)
no_hidden = (
    *no_tensor,
    h,
    h[0],
    (h[0],),
    (h[0], h[1], h[0]),
    ([1], [2]),
    (h[0], None),
    (None, None),
    ('h', 'h'),
    (h[0].numpy(), h[1].numpy()),
    (h[0], h[1].long()),
    (h[0], h[1][:, :2]),
    (h[0][:3], h[1][:3]),
    (h[0][0], h[1][0]),
    (h[0].to('meta'), h[1].to('meta')),
)
no_ids = (
    *no_tensor,
    torch.ones(b - 1),
    torch.ones(b + 1),
    torch.ones(b, 1),
    torch.tensor(1),
    torch.ones(0),
    torch.ones(b, device='meta'),
)
no_negatives = (
    *no_tensor,
    torch.ones(2, d).long(),
    torch.ones(2, d + 1),
    torch.ones(d),
    torch.ones(0, d),
    torch.ones(2, d, device='meta'),
)
CALLS = dict(
    z1=no_embeddings,
    z2=no_other_view,
    more_views=no_other_view,
    hidden=no_hidden,
    labels=no_ids,
    sample_ids=no_ids,
    true_labels=no_ids,
    negatives=no_negatives,
    queue=(*no_tensor, torch.ones(3, d), KeyQueue, KeyQueue(3, d + 1)),
    return_stats=no_switch,
)


@pytest.mark.parametrize('chunk_size', (None, 3))
@pytest.mark.parametrize('kind', MAKES)
def test_every_argument_of_a_call(kind, chunk_size):
    loss = MAKES[kind](chunk_size=chunk_size)
    if hasattr(loss, 'tau_plus'):
        loss.tau_plus = 0.0  # labels exclude it
    known = set(inspect.signature(loss.forward).parameters)
    assert known == set(CALLS), 'an argument nobody thought of'
    for name, values in CALLS.items():
        # a first view of another shape is told of the second
        names = {'z1': ('z1', 'z2'), 'more_views': ('z3',)}.get(name, (name,))
        for value in values:
            with pytest.raises(ValueError) as e:
                if name == 'more_views':
                    loss(z1, z2, value)
                else:
                    loss(**dict(z1=z1, z2=z2) | {name: value})
            assert one_sentence(e, *names), (name, value, str(e.value))


CASTS = pytest.mark.parametrize(
    'cast', (np.float32, np.float64, np.float16, Fraction), ids=lambda c: c.__name__
)
SCHEDULED = dict(temperature=0.5, tau_plus=0.125, beta=2.0)


def value_and_gradient(loss):
    leaves = [z.clone().requires_grad_() for z in (z1, z2)]
    value = loss(*leaves)
    assert value.dtype == torch.float32
    return [value, *torch.autograd.grad(value, leaves)]


@CASTS
@pytest.mark.parametrize('kind', MAKES)
def test_numbers_of_numpy_are_numbers(kind, cast):
    make = MAKES[kind]
    for name, value in SCHEDULED.items():
        if name not in arguments(make):
            continue
        for chunk_size in (None, 3):
            mine = make(chunk_size=chunk_size, **{name: value})
            given = make(chunk_size=chunk_size, **{name: cast(value)})
            later = make(chunk_size=chunk_size)
            setattr(later, name, cast(value))
            for loss in (given, later):
                assert_close(value_and_gradient(loss), value_and_gradient(mine))
                doubled = z1.double(), z2.double()
                assert_close(loss(*doubled), mine(*doubled))


@CASTS
def test_numbers_of_numpy_in_the_knobs_of_unremix(cast):
    mix = 0.5, 0.25, 0.25
    cast_mix = tuple(map(cast, mix))
    knobs = dict(mix=mix, kappa=(2.0, 0.5), uncertainty_temperature=0.25)
    casts = dict(mix=cast_mix, kappa=(cast(2), cast(0.5)))
    casts |= dict(uncertainty_temperature=cast(0.25), pool='linear')
    expected = UnReMixLoss(**knobs)(z1, z2, hidden=h.unbind())
    assert_close(UnReMixLoss(**casts)(z1, z2, hidden=h.unbind()), expected)
    for normalize in ('sum', 'minmax'):
        loss = UnReMixLoss(mix=cast_mix, normalize=normalize, uncertainty='overlap')
        same = UnReMixLoss(mix=mix, normalize=normalize, uncertainty='overlap')
        assert_close(loss(z1, z2), same(z1, z2))
    given = dict(kappa=(cast(2), cast(0.5)), tau_plus=cast(0.125))
    expected = UnReMixLoss(pool='log', kappa=(2, 0.5), tau_plus=0.125)(z1, z2)
    assert_close(UnReMixLoss(pool='log', **given)(z1, z2), expected)


def test_sequences_of_three():
    expected = UnReMixLoss(mix=(0.5, 0.25, 0.25), kappa=(1.0, 2.0))(z1, z2)
    for cast in (list, np.array, lambda x: np.array(x, dtype=np.float32)):
        loss = UnReMixLoss(mix=cast([0.5, 0.25, 0.25]), kappa=cast([1.0, 2.0]))
        assert_close(loss(z1, z2), expected)


@pytest.mark.parametrize(
    'cast', (np.int64, np.int32, np.uint8), ids=lambda c: c.__name__
)
def test_whole_numbers_of_numpy(cast):
    for make in MAKES.values():
        expected = make(chunk_size=3)(z1, z2)
        assert_close(make(chunk_size=cast(3))(z1, z2), expected)
    expected = UnReMixLoss(select='top', k_keep=3)(z1, z2)
    assert_close(UnReMixLoss(select='top', k_keep=cast(3))(z1, z2), expected)
    expected = NTXentLoss(temperature=1)(z1, z2)
    assert_close(NTXentLoss(temperature=cast(1))(z1, z2), expected)


def in_words(x):
    return str(shape_of(x))


chunk_sizes = pytest.mark.parametrize('chunk_size', (None, 3))
a = 2 * b
not_a_matrix = (
    0.0,
    None,
    torch.zeros(a),
    torch.zeros(a, 1),
    torch.zeros(1, a),
    torch.zeros(a, a - 2),
)


@chunk_sizes
@pytest.mark.parametrize('returned', not_a_matrix, ids=in_words)
def test_what_a_weighting_returns(returned, chunk_size):
    loss = ContrastiveLoss(lambda c: returned, chunk_size=chunk_size)
    with pytest.raises(ValueError, match='what the weighting returns must be of shape'):
        loss(z1, z2)


table = torch.zeros(a, a, dtype=torch.bool)
not_two_tables = dict(
    none=None,
    one_table=table,
    one_of_two=(table,),
    no_tables=(None, None),
    numbers=(table.float(), table.float()),
    small=(table[:3], table[:3]),
    narrow=(table, table[:, :3]),
)


@chunk_sizes
@pytest.mark.parametrize('returned', not_two_tables)
def test_what_a_rule_returns(returned, chunk_size):
    tables = not_two_tables[returned]
    loss = ContrastiveLoss(pairs=lambda *both: tables, chunk_size=chunk_size)
    sentence = '^what the rule returns must be two bool tables'
    with pytest.raises(ValueError, match=sentence):
        loss(z1, z2)


@chunk_sizes
@pytest.mark.parametrize(
    'returned', (0.0, None, torch.zeros(()), torch.zeros(a, a)), ids=in_words
)
def test_what_a_loss_returns(returned, chunk_size):
    loss = ContrastiveLoss(loss=lambda *both: returned, chunk_size=chunk_size)
    with pytest.raises(ValueError, match='^what the loss returns must be of shape'):
        loss(z1, z2)


def test_parts_may_change_their_kind():
    "From a module to a function or a number and back, as schedules may want."

    class Uniform(nn.Module):
        def forward(self, c):
            return uniform(c)

    loss, expected = NTXentLoss(0.5), HCLLoss(0.5, 0.0, 2.0)(z1, z2)
    for weights in (Uniform(), HCL(2.0)):
        for temperature in (LearnedTemperature(0.3), 0.5):
            loss.weights, loss.temperature = weights, temperature
            assert loss(z1, z2).isfinite()
    assert_close(loss(z1, z2), expected)
    assert not list(loss.parameters())
