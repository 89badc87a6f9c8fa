"Several processes give one process's gradient: gloo, launched as subprocesses."
import subprocess, sys
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

import parity

HERE = Path(__file__).parent


@pytest.fixture(scope='module', params=(2, 3))
def ranks(request, tmp_path_factory):
    "What every rank found."
    folder, size = tmp_path_factory.mktemp('ranks'), request.param
    jobs = [subprocess.Popen([sys.executable, HERE/'parity.py', str(r), str(size), folder], stderr=subprocess.PIPE, text=True) for r in range(size)]
    for job in jobs:
        errors = job.communicate(timeout=240)[1]
        assert job.returncode == 0, errors[-2000:]
    return [torch.load(folder/f'rank{r}of{size}.pt', weights_only=True) for r in range(size)]


@pytest.mark.parametrize('name', parity.CASES)
def test_gradient_is_that_of_one_process(ranks, name):
    size, whole = len(ranks), parity.gradients(name, 0, 1)
    share = 1 if name == 'sum' else size # data-parallel training averages the ranks' gradients of their means
    largest = max(g.abs().max() for g in whole['grads'])
    assert largest > 1e-6
    for i, wanted in enumerate(whole['grads']):
        got = torch.cat([found[name]['grads'][i] for found in ranks])/share
        assert (got - wanted).abs().max() <= 1e-6*largest
    values = torch.stack([found[name]['value'] for found in ranks])
    assert_close(values.sum() if name == 'sum' else values.mean(), whole['value'])
    for k, wanted in whole['stats'].items(): assert_close(torch.stack([found[name]['stats'][k] for found in ranks]).mean(), wanted, rtol=1e-5, atol=1e-6, msg=lambda m: f'{k}: {m}')


def test_gradient_without_gathering_differs(ranks):
    "The check above can fail: without gathering each process has its own negatives only."
    whole = parity.gradients('simclr', 0, 1)['grads'][0]
    got = torch.cat([found['alone'][0]['grads'][0] for found in ranks])/len(ranks)
    assert (got - whole).abs().max() > .01*whole.abs().max()


@pytest.mark.parametrize('name, kwargs', (('five steps', {}), ('five steps in chunks', dict(chunk_size=3))))
def test_parameters_after_five_steps(ranks, name, kwargs):
    wanted = parity.five_steps(0, 1, **kwargs)
    for found in ranks:
        for a, b in zip(found[name], wanted): assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_one_warning_without_gathering(ranks):
    for found in ranks: assert len(found['alone'][1]) == 1 and 'each process contrasts its own images only' in found['alone'][1][0]


def test_uneven_batch_is_refused_on_every_rank(ranks):
    for found in ranks: assert 'the number of images must be the same on every rank' in found['uneven'] and 'drop an uneven last batch' in found['uneven']
