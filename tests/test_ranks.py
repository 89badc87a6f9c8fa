"Several processes give one process's gradient: gloo, launched as subprocesses."

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

import parity

HERE = Path(__file__).parent


def started(rank, size, folder):
    command = [sys.executable, HERE / 'parity.py', str(rank), str(size), folder]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope='module', params=(2, 3))
def ranks(request, tmp_path_factory):
    "What every rank found."
    folder, size = tmp_path_factory.mktemp('ranks'), request.param
    jobs = [started(rank, size, folder) for rank in range(size)]
    for job in jobs:
        errors = job.communicate(timeout=240)[1]
        assert job.returncode == 0, errors[-2000:]
    files = [folder / f'rank{rank}of{size}.pt' for rank in range(size)]
    return [torch.load(file, weights_only=True) for file in files]


def averaged(ranks, name):
    "Data-parallel training averages the gradients of the ranks' means."
    return 1 if name == 'sum' else len(ranks)


@pytest.mark.parametrize('name', parity.CASES)
def test_gradient_is_that_of_one_process(ranks, name):
    share, whole = averaged(ranks, name), parity.gradients(name, 0, 1)
    largest = max(g.abs().max() for g in whole['grads'])
    assert largest > 1e-6
    for i, wanted in enumerate(whole['grads']):
        got = torch.cat([found[name]['grads'][i] for found in ranks]) / share
        assert (got - wanted).abs().max() <= 1e-6 * largest
    values = torch.stack([found[name]['value'] for found in ranks])
    value = values.sum() if name == 'sum' else values.mean()
    assert_close(value, whole['value'])
    for k, wanted in whole['stats'].items():
        mean = torch.stack([found[name]['stats'][k] for found in ranks]).mean()
        assert_close({k: mean}, {k: wanted}, rtol=1e-5, atol=1e-6)


LEARNED = [name for name in parity.CASES if 'learned' in name]


@pytest.mark.parametrize('name', LEARNED)
def test_gradient_of_a_learned_temperature_is_the_mean_over_ranks(ranks, name):
    "As data-parallel training averages it."
    (wanted,) = parity.gradients(name, 0, 1)['shared']
    found = torch.stack([found[name]['shared'][0] for found in ranks])
    assert wanted.abs() > 1e-6
    assert_close(found.mean(), wanted, rtol=1e-6, atol=0)
    # the ranks ask about different images, so that a rank's own is another
    assert (found - wanted).abs().max() > 1e-3 * wanted.abs()


def test_gradient_without_gathering_differs(ranks):
    "The check above can fail: without gathering each process has its own negatives."
    whole = parity.gradients('simclr', 0, 1)['grads'][0]
    got = torch.cat([found['alone'][0]['grads'][0] for found in ranks]) / len(ranks)
    assert (got - whole).abs().max() > 0.01 * whole.abs().max()


STEPS = (('five steps', {}), ('five steps in chunks', dict(chunk_size=3)))


@pytest.mark.parametrize('name, kwargs', STEPS)
def test_parameters_after_five_steps(ranks, name, kwargs):
    wanted = parity.five_steps(0, 1, **kwargs)
    for found in ranks:
        assert_close(found[name], wanted, rtol=1e-9, atol=1e-9)


def test_one_warning_without_gathering(ranks):
    for found in ranks:
        (said,) = found['alone'][1]
        assert 'each process contrasts its own images only' in said


def test_uneven_batch_is_refused_on_every_rank(ranks):
    for found in ranks:
        said = found['uneven']
        assert 'the number of images must be the same on every rank' in said
        assert 'drop an uneven last batch' in said
