"""`torch.compile` and `torch.export`: every companion in one piece, schedules without compiling again and again, any batch size."""
import subprocess
import sys

import pytest
import torch
import torch._dynamo.testing
from torch.export import Dim, export
from torch.testing import assert_close

from test_weightings import LOSSES, views
from unremix import DebiasedNTXentLoss, HCLLoss, NTXentLoss, UnReMixLoss
from unremix.queues import KeyQueue

(z1, z2), hidden = views(dtype=torch.float32)
y, ids = torch.tensor([0, 0, 1, 1, 2, 3]), torch.tensor([0, 1, 2, 0, 1, 3])
MAKES = dict(ntxent=NTXentLoss, debiased=DebiasedNTXentLoss, hcl=HCLLoss, unremix=UnReMixLoss)


def queue():
    keys = KeyQueue(4, 8)
    keys.push(z1[:3], sample_ids=ids[:3], labels=y[:3])
    return keys


GIVEN = dict(labels=dict(labels=y), sample_ids=dict(sample_ids=ids), both=dict(labels=y, sample_ids=ids), negatives=dict(negatives=z1.flip(1)),
             labelled_negatives=dict(negatives=z1.flip(1), labels=torch.arange(12) % 3), statistics=dict(true_labels=y, return_stats=True))


def compiled(loss, **kwargs):
    torch._dynamo.reset()
    return torch.compile(loss, fullgraph=True, **dict(backend='aot_eager') | kwargs)


def value_and_gradient(f, **given):
    a, c = (z.clone().requires_grad_() for z in (z1, z2))
    out = f(a, c, **given)
    loss, stats = out if isinstance(out, tuple) else (out, {})
    return [loss.detach(), *torch.autograd.grad(loss.sum(), (a, c)), *stats.values()]


@pytest.mark.parametrize('given', GIVEN)
@pytest.mark.parametrize('kind', MAKES)
def test_companions_break_no_graph(kind, given):
    loss = MAKES[kind]()
    if 'labels' in GIVEN[given]: loss.tau_plus = 0.
    assert_close(value_and_gradient(compiled(loss), **GIVEN[given]), value_and_gradient(loss, **GIVEN[given]))


@pytest.mark.parametrize('kind', MAKES)
def test_a_queue_with_ids_breaks_no_graph(kind):
    loss, keys = MAKES[kind](reduction='none'), queue()
    f = compiled(lambda a, c: loss(a, c, queue=keys, sample_ids=ids))
    assert_close(f(z1, z2), loss(z1, z2, queue=keys, sample_ids=ids))


SCHEDULES = [(kind, name) for kind, make in MAKES.items() for name in ('temperature', 'tau_plus', 'beta', 'uncertainty_temperature') if hasattr(make(), name)]


@pytest.mark.parametrize('kind, name', SCHEDULES)
def test_a_schedule_compiles_twice_at_most(kind, name):
    "Once for the first number, once for any."
    counter, loss = torch._dynamo.testing.CompileCounter(), MAKES[kind]()
    f = compiled(loss, backend=counter)
    for step in range(6):
        setattr(loss, name, .05 + .1*step)
        assert_close(f(z1, z2), loss(z1, z2))
    assert counter.frame_count <= 2


def test_a_schedule_in_all_knobs_with_gradient():
    "However many steps: every knob turns from a constant into a variable once."
    loss = HCLLoss()
    f = compiled(loss)
    with torch._dynamo.config.patch(error_on_recompile=False, recompile_limit=3):
        for step in range(12):
            loss.temperature, loss.tau_plus, loss.beta = .5 - .02*step, .02*step + .01, 2. - .1*step
            assert_close(value_and_gradient(f), value_and_gradient(loss))


def test_a_number_out_of_range_is_still_refused():
    loss = HCLLoss()
    f = torch.compile(loss, backend='eager')
    f(z1, z2)
    for name, bad in (('temperature', -1.), ('tau_plus', 1.), ('beta', -.5)):
        good = getattr(loss, name)
        setattr(loss, name, bad)
        with pytest.raises(ValueError, match=f'{name} must be'): f(z1, z2)
        setattr(loss, name, good)


@pytest.mark.parametrize('reduction', ('mean', 'none'))
@pytest.mark.parametrize('kind', ('hcl', 'unremix'))
def test_blocks_run_beside_the_compiler(kind, reduction):
    loss = MAKES[kind](chunk_size=5, reduction=reduction)
    torch._dynamo.reset()
    f = torch.compile(lambda a, c: 2*loss(3*a, c), backend='aot_eager')
    assert_close(value_and_gradient(f), value_and_gradient(lambda a, c: 2*loss(3*a, c)))
    with torch.no_grad(): assert_close(f(z1, z2), 2*loss(3*z1, z2))
    with pytest.raises(torch._dynamo.exc.Unsupported): compiled(loss)(z1, z2)


BATCH = Dim('batch', min=2, max=100_000)


@pytest.mark.parametrize('strict', (True, False), ids=('strict', 'non_strict'))
@pytest.mark.parametrize('name', ('ntxent', 'debiased', 'hcl', 'hcl_detached', 'unremix_attached', 'unremix_euclidean', 'similarity_only', 'top', 'influence_softmax', 'overlap_log',
                                  'norm_minmax', 'image_similarity_sum'))
def test_exports_for_any_batch(name, strict):
    loss = LOSSES[name](.5)
    program = export(loss, (z1, z2), dict(hidden=hidden), dynamic_shapes=dict(z1={0: BATCH}, z2={0: BATCH}, hidden=({0: BATCH}, {0: BATCH})), strict=strict)
    for b in (2, 6, 9, 300):
        (a, c), h = views(b=b, dtype=torch.float32)
        assert_close(program.module()(a, c, hidden=h), loss(a, c, hidden=h))


@pytest.mark.parametrize('strict', (True, False), ids=('strict', 'non_strict'))
def test_exports_with_companions_of_any_length(strict):
    loss, m = NTXentLoss(reduction='none'), Dim('m', min=1, max=1000)
    shapes = dict(z1={0: BATCH}, z2={0: BATCH}, sample_ids={0: BATCH}, negatives={0: m})
    program = export(loss, (z1, z2), dict(sample_ids=ids, negatives=z1[:3].flip(1)), dynamic_shapes=shapes, strict=strict)
    for b, n in ((6, 3), (9, 5), (4, 1)):
        (a, c), _ = views(b=b, dtype=torch.float32)
        given = dict(sample_ids=torch.arange(b) % 3, negatives=torch.ones(n, 8))
        assert_close(program.module()(a, c, **given), loss(a, c, **given))


def test_one_compilation_for_all_batches():
    counter, loss = torch._dynamo.testing.CompileCounter(), UnReMixLoss()
    f = compiled(loss, backend=counter, dynamic=True)
    for b in (4, 7, 12):
        (a, c), h = views(b=b, dtype=torch.float32)
        assert_close(f(a, c, hidden=h), loss(a, c, hidden=h))
    assert counter.frame_count == 1


def test_importing_and_calling_does_not_load_the_compiler():
    "It takes seconds."
    code = '''import sys, torch, unremix
z = torch.randn(4, 8, requires_grad=True)
for chunk_size in (None, 3): unremix.UnReMixLoss(chunk_size=chunk_size)(z, z).backward()
sys.exit('torch._dynamo' in sys.modules)'''
    subprocess.run([sys.executable, '-c', code], check=True)
