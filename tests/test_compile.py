"""`torch.compile` and `torch.export`.

Every companion in one piece, schedules without compiling again and again, any batch
size.
"""

import subprocess
import sys

import pytest
import torch
import torch._dynamo.testing
from torch.export import Dim, export
from torch.testing import assert_close

from test_weightings import LOSSES, farther_samples, tau_plus, third_view, views
from unremix import ContrastiveLoss, DebiasedNTXentLoss, HCLLoss, LearnedTemperature
from unremix import NTXentLoss, UnReMixLoss
from unremix.hard_negatives import HCL
from unremix.queue import KeyQueue
from unremix.rules import across, supervised
from unremix.synthesis import MoCHi

(z1, z2), hidden = views(dtype=torch.float32)
z3, h3 = third_view(dtype=torch.float32)
y, ids = torch.tensor([0, 0, 1, 1, 2, 3]), torch.tensor([0, 1, 2, 0, 1, 3])
RELEASE = tuple(int(x) for x in torch.__version__.split('.')[:2])
MAKES = dict(
    ntxent=NTXentLoss, debiased=DebiasedNTXentLoss, hcl=HCLLoss, unremix=UnReMixLoss
)


def queue():
    keys = KeyQueue(4, 8)
    keys.push(z1[:3], sample_ids=ids[:3], labels=y[:3])
    return keys


GIVEN = dict(
    labels=dict(labels=y),
    sample_ids=dict(sample_ids=ids),
    both=dict(labels=y, sample_ids=ids),
    negatives=dict(negatives=z1.flip(1)),
    labelled_negatives=dict(negatives=z1.flip(1), labels=torch.arange(12) % 3),
    statistics=dict(true_labels=y, return_stats=True),
)
# further views, what else is given, the rule
CASES = dict(
    three_views=((z3,), dict(hidden=(*hidden, h3)), None),
    several_positives=((z3,), dict(labels=y), supervised),
    across=((z3,), {}, across),
    own_rule=((), dict(hidden=hidden), farther_samples),
    queue_and_negatives=((), dict(queue=queue(), negatives=z1.flip(1)), None),
)


def compiled(loss, backend='eager', dynamic=None):
    "As one graph. 'eager' traces and runs it, 'aot_eager' traces the gradient as well."
    torch._dynamo.reset()
    return torch.compile(loss, fullgraph=True, backend=backend, dynamic=dynamic)


def value_and_gradient(f, *more, learned=(), **given):
    leaves = [z.clone().requires_grad_() for z in (z1, z2)]
    out = f(*leaves, *more, **given)
    loss, stats = out if isinstance(out, tuple) else (out, {})
    inputs = (*leaves, *learned)  # with a queue, the keys are constants
    gradient = torch.autograd.grad(loss.sum(), inputs, materialize_grads=True)
    return [loss.detach(), *gradient, *stats.values()]


def without_debiasing(loss):
    "Labels exclude it."
    if tau_plus(loss):
        loss.tau_plus = 0.0
    return loss


@pytest.mark.parametrize('given', GIVEN)
@pytest.mark.parametrize('kind', MAKES)
def test_companions_break_no_graph(kind, given):
    loss = MAKES[kind]()
    if 'labels' in GIVEN[given]:
        loss = without_debiasing(loss)
    expected = value_and_gradient(loss, **GIVEN[given])
    assert_close(value_and_gradient(compiled(loss), **GIVEN[given]), expected)


@pytest.mark.parametrize('kind', MAKES)
def test_the_gradient_is_traced_too(kind):
    loss, given = MAKES[kind](LearnedTemperature(0.2)), dict(hidden=hidden)
    given |= dict(learned=tuple(loss.parameters()), **GIVEN['sample_ids'])
    expected = value_and_gradient(loss, **given)
    found = value_and_gradient(compiled(loss, 'aot_eager'), **given)
    assert_close(found, expected)


@pytest.mark.parametrize('case', CASES)
@pytest.mark.parametrize('kind', MAKES)
def test_views_rules_and_a_learned_temperature_break_no_graph(kind, case):
    more, given, rule = CASES[case]
    loss = without_debiasing(MAKES[kind](LearnedTemperature(0.2), pairs=rule))
    given = given | dict(learned=tuple(loss.parameters()))
    expected = value_and_gradient(loss, *more, **given)
    assert_close(value_and_gradient(compiled(loss), *more, **given), expected)


@pytest.mark.parametrize('kind', MAKES)
def test_a_queue_with_ids_breaks_no_graph(kind):
    loss, keys = MAKES[kind](reduction='none'), queue()
    f = compiled(lambda a, c: loss(a, c, queue=keys, sample_ids=ids))
    assert_close(f(z1, z2), loss(z1, z2, queue=keys, sample_ids=ids))


def test_a_synthesis_breaks_no_graph():
    loss = ContrastiveLoss(HCL(), synthesis=MoCHi(hardest=3, count=2))
    found = []
    for f in (loss, compiled(loss)):
        torch.manual_seed(0)  # it draws
        found.append(value_and_gradient(f))
    assert_close(*found)


SCHEDULED = 'temperature', 'tau_plus', 'beta', 'uncertainty_temperature'
SCHEDULES = [
    (kind, name)
    for kind, make in MAKES.items()
    for name in SCHEDULED
    if hasattr(make(), name)
]


@pytest.mark.parametrize('kind, name', SCHEDULES)
def test_a_schedule_compiles_twice_at_most(kind, name):
    "Once for the first number, once for any."
    counter, loss = torch._dynamo.testing.CompileCounter(), MAKES[kind]()
    f = compiled(loss, counter)
    for step in range(6):
        setattr(loss, name, 0.05 + 0.1 * step)
        assert_close(f(z1, z2), loss(z1, z2))
    assert counter.frame_count <= 2


def test_a_schedule_in_all_knobs_with_gradient():
    "However many steps: every knob turns from a constant into a variable once."
    loss = HCLLoss()
    f = compiled(loss)
    config = dict(error_on_recompile=False, recompile_limit=3)
    with torch._dynamo.config.patch(**config):
        for step in range(12):
            loss.temperature = 0.5 - 0.02 * step
            loss.tau_plus = 0.02 * step + 0.01
            loss.beta = 2.0 - 0.1 * step
            assert_close(value_and_gradient(f), value_and_gradient(loss))


def test_a_learned_temperature_compiles_once():
    "It is a tensor, so a step of the optimiser changes no constant of the program."
    counter, t = torch._dynamo.testing.CompileCounter(), LearnedTemperature(0.2)
    loss = UnReMixLoss(t)
    f = compiled(loss, counter)
    for _ in range(4):
        assert_close(f(z1, z2), loss(z1, z2))
        with torch.no_grad():
            t.x += 0.5
    assert counter.frame_count == 1


def test_a_number_out_of_range_is_still_refused():
    loss = HCLLoss()
    f = torch.compile(loss, backend='eager')
    f(z1, z2)
    for name, bad in (('temperature', -1.0), ('tau_plus', 1.0), ('beta', -0.5)):
        good = getattr(loss, name)
        with pytest.raises(ValueError, match=f'{name} must be'):
            setattr(loss, name, bad)  # a part refuses here what is one of its fields,
            f(z1, z2)  # the loss its own temperature at the next call
        setattr(loss, name, good)
        assert_close(f(z1, z2), loss(z1, z2))


@pytest.mark.parametrize('reduction', ('mean', 'none'))
@pytest.mark.parametrize('kind', ('hcl', 'unremix'))
def test_blocks_run_beside_the_compiler(kind, reduction):
    loss = MAKES[kind](LearnedTemperature(0.2), chunk_size=5, reduction=reduction)
    learned = tuple(loss.parameters())
    torch._dynamo.reset()
    f = torch.compile(lambda a, c: 2 * loss(3 * a, c), backend='aot_eager')
    expected = value_and_gradient(lambda a, c: 2 * loss(3 * a, c), learned=learned)
    assert_close(value_and_gradient(f, learned=learned), expected)
    with torch.no_grad():
        assert_close(f(z1, z2), 2 * loss(3 * z1, z2))
    with pytest.raises(torch._dynamo.exc.Unsupported):
        compiled(loss)(z1, z2)


BATCH = Dim('batch', min=2, max=100_000)
strict_or_not = pytest.mark.parametrize(
    'strict', (True, False), ids=('strict', 'non_strict')
)
EXPORTED = (
    'ntxent',
    'debiased',
    'hcl',
    'hcl_detached',
    'unremix_attached',
    'unremix_euclidean',
    'similarity_only',
    'top',
    'decoupled',
    'own_prepared',
    'influence_softmax',
    'overlap_log',
    'norm_minmax',
    'image_similarity_sum',
)


@strict_or_not
@pytest.mark.parametrize('name', EXPORTED)
def test_exports_for_any_batch(name, strict):
    loss = LOSSES[name](0.5)
    rows = {0: BATCH}
    shapes = dict(z1=rows, z2=rows, hidden=(rows, rows))
    program = export(
        loss, (z1, z2), dict(hidden=hidden), dynamic_shapes=shapes, strict=strict
    )
    for b in (2, 6, 9, 300):
        (a, c), h = views(b=b, dtype=torch.float32)
        assert_close(program.module()(a, c, hidden=h), loss(a, c, hidden=h))


@strict_or_not
def test_exports_with_companions_of_any_length(strict):
    loss, m = NTXentLoss(reduction='none'), Dim('m', min=1, max=1000)
    rows = {0: BATCH}
    shapes = dict(z1=rows, z2=rows, sample_ids=rows, negatives={0: m})
    given = dict(sample_ids=ids, negatives=z1[:3].flip(1))
    program = export(loss, (z1, z2), given, dynamic_shapes=shapes, strict=strict)
    for b, n in ((6, 3), (9, 5), (4, 1)):
        (a, c), _ = views(b=b, dtype=torch.float32)
        given = dict(sample_ids=torch.arange(b) % 3, negatives=torch.ones(n, 8))
        assert_close(program.module()(a, c, **given), loss(a, c, **given))


@strict_or_not
@pytest.mark.parametrize('kind', ('ntxent', 'unremix'))
def test_exports_three_views_with_several_positives(kind, strict):
    "And with a temperature that learns, which is a parameter of the program."
    if not strict and RELEASE < (2, 9):
        pytest.skip('the non-strict export of PyTorch 2.8 loses the value that is returned')
    loss = MAKES[kind](LearnedTemperature(0.2), pairs=supervised)
    rows = {0: BATCH}
    shapes = dict(z1=rows, z2=rows, more_views=(rows,), labels=rows)
    given = dict(labels=y)
    program = export(loss, (z1, z2, z3), given, dynamic_shapes=shapes, strict=strict)
    assert 'temperature.x' in program.state_dict
    for b in (2, 6, 9):
        (a, c), _ = views(b=b, dtype=torch.float32)
        e, _ = third_view(b=b, dtype=torch.float32)
        given = dict(labels=torch.arange(b) % 3)
        assert_close(program.module()(a, c, e, **given), loss(a, c, e, **given))


def test_one_compilation_for_all_batches():
    counter, loss = torch._dynamo.testing.CompileCounter(), UnReMixLoss()
    f = compiled(loss, counter, dynamic=True)
    for b in (4, 7, 12):
        (a, c), h = views(b=b, dtype=torch.float32)
        assert_close(f(a, c, hidden=h), loss(a, c, hidden=h))
    assert counter.frame_count == 1


def test_importing_and_calling_does_not_load_the_compiler():
    "It takes seconds."
    code = """if True:
        import sys, torch, unremix
        z = torch.randn(4, 8, requires_grad=True)
        for chunk_size in (None, 3):
            unremix.UnReMixLoss(chunk_size=chunk_size)(z, z).backward()
        sys.exit('torch._dynamo' in sys.modules)"""
    subprocess.run([sys.executable, '-c', code], check=True)
