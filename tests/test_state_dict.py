"""Losses have no state of their own.

A model that holds one is saved and loaded as if it held none. Only what learns is
saved: a temperature that is a module, and parameters of the parts.
"""

import copy
import io

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from configs import run_of
import unremix.train
from unremix import ContrastiveLoss, DebiasedNTXentLoss, HCLLoss, LearnedTemperature
from unremix import NTXentLoss, UnReMixLoss
from unremix.contrastive_loss import ContrastiveLoss
from unremix.controls import OracleLoss, PlaceboOfUncertainty
from unremix.hard_negatives import HCL, uniform
from unremix.info_nce import decoupled
from unremix.queue import KeyQueue
from unremix.rules import OutsideBatch, supervised, views

LOSSES = dict(
    ntxent=NTXentLoss,
    debiased=DebiasedNTXentLoss,
    hcl=HCLLoss,
    unremix=UnReMixLoss,
    oracle=OracleLoss,
    placebo=lambda: ContrastiveLoss(PlaceboOfUncertainty()),
    top=lambda: UnReMixLoss(select='top', k_keep=3),
    sample=lambda: UnReMixLoss(select='sample', k_keep=3),
    log=lambda: UnReMixLoss(pool='log'),
    own=lambda: ContrastiveLoss(uniform),
    decoupled=lambda: ContrastiveLoss(HCL(), pairs=supervised, loss=decoupled),
)
every_loss = pytest.mark.parametrize('name', LOSSES)


class Holder(nn.Module):
    "An encoder that brings its loss along."

    def __init__(self, loss):
        super().__init__()
        torch.manual_seed(0)
        self.body, self.loss = nn.Linear(3, 4), loss

    def forward(self, x1, x2):
        given = {}
        if isinstance(self.loss, OracleLoss):
            given = dict(true_labels=torch.arange(len(x1)))
        return self.loss(self.body(x1), self.body(x2), **given)


def used(name):
    "Also what a loss might make at its first call is there."
    model = Holder(LOSSES[name]())
    model(*torch.randn(2, 6, 3)).backward()
    return model


@every_loss
def test_nothing_of_the_loss_is_saved(name):
    assert list(used(name).state_dict()) == ['body.weight', 'body.bias']
    assert not used(name).loss.state_dict()


@every_loss
@pytest.mark.parametrize('other', ('ntxent', 'unremix', 'sample'))
def test_strict_loading_between_losses(name, other):
    there, back = used(name), used(other)
    back.load_state_dict(there.state_dict())
    there.load_state_dict(back.state_dict())


GENERATOR = torch.Generator().get_state()


@every_loss
@pytest.mark.parametrize('extra', (None, GENERATOR), ids=('none', 'generator'))
def test_what_older_versions_saved_still_loads(name, extra):
    model, alone = used(name), LOSSES[name]()
    assert alone.load_state_dict({'_extra_state': extra}) == ([], [])
    old = dict(model.state_dict()) | {'loss._extra_state': extra}
    assert model.load_state_dict(old) == ([], [])
    assert 'loss._extra_state' in old  # the caller's dict is not touched
    with pytest.raises(RuntimeError, match='Unexpected key.*loss.other'):
        model.load_state_dict(old | {'loss.other': torch.ones(1)})


@every_loss
def test_a_used_loss_can_be_copied_and_pickled(name):
    model, buffer = used(name), io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    images = torch.randn(2, 6, 3)
    torch.manual_seed(1)
    wanted = model(*images)
    for again in (copy.deepcopy(model), torch.load(buffer, weights_only=False)):
        torch.manual_seed(1)
        assert again(*images) == wanted


@pytest.mark.parametrize('extra', (None, GENERATOR), ids=('none', 'generator'))
@pytest.mark.parametrize('make', (NTXentLoss, UnReMixLoss), ids=lambda f: f.__name__)
def test_a_temperature_that_learns_is_saved(make, extra):
    "And an older checkpoint, which holds none, is not loaded without a word."
    model, again = (Holder(make(LearnedTemperature(t))) for t in (0.2, 0.5))
    model(*torch.randn(2, 6, 3)).backward()
    state = model.state_dict()
    assert list(state) == ['body.weight', 'body.bias', 'loss.temperature.x']
    again.load_state_dict(state)
    assert_close(again.loss.temperature(), torch.tensor(0.2))
    images = torch.randn(2, 6, 3)
    for same in (again, copy.deepcopy(model)):
        assert same(*images) == model(*images)
    old = dict(Holder(make()).state_dict()) | {'loss._extra_state': extra}
    with pytest.raises(RuntimeError, match='Missing key.*loss.temperature.x'):
        again.load_state_dict(old)


def test_what_is_assigned_belongs_to_the_loss_that_it_was_assigned_to():
    "Parts are shared between losses as long as they are the same, and frozen."
    first, second = HCLLoss(), HCLLoss(pairs=OutsideBatch(views))
    third = copy.deepcopy(first)
    first.beta, first.tau_plus = 3.0, 0.3
    for other in (second, third, HCLLoss()):
        assert (other.beta, other.tau_plus) == (1.0, 0.1)
    assert (first.beta, first.tau_plus) == (3.0, 0.3)


def test_a_queue_saves_tensors_only():
    queue = KeyQueue(5, 3, stores_hidden=True)
    labels = torch.arange(7, dtype=torch.int16)
    queue.push(torch.randn(7, 3), torch.randn(7, 2), labels=labels)
    state = queue.state_dict()
    assert set(state) == {'z', 'norm', 'square', 'ids', 'pointer', 'valid'}
    assert all(isinstance(x, torch.Tensor) for x in state.values())
    again = KeyQueue(5, 3, stores_hidden=True)
    assert again.load_state_dict(state) == ([], [])
    for x in (queue, again):
        x.push(torch.ones(2, 3), torch.ones(2, 2))
    assert_close(queue.state_dict(), again.state_dict(), rtol=0, atol=0)


SAVED = dict(now={}, none={'_extra_state': None}, generator={'_extra_state': GENERATOR})


@pytest.mark.parametrize('saved', SAVED)
def test_a_run_of_an_older_version_goes_on(saved, tmp_path):
    "Its checkpoint carries the loss's generator."
    loss = dict(strategy='unremix', select='sample', k_keep=3)
    machine = dict(precision='32-true', accelerator='cpu')
    size = dict(limit=32, batch_size=16, epochs=2)
    cfg = run_of(**size, **loss, **machine)
    whole = unremix.train.train(cfg, tmp_path, progress=False)
    (tmp_path / 'result.json').unlink()
    # after the first epoch
    (tmp_path / 'checkpoint_before.pt').replace(tmp_path / 'checkpoint.pt')
    state = torch.load(tmp_path / 'checkpoint.pt', weights_only=True)
    assert state['epoch'] == 1 and state['criterion'] == {}
    torch.save(state | {'criterion': SAVED[saved]}, tmp_path / 'checkpoint.pt')
    again = unremix.train.train(cfg, tmp_path, progress=False)
    assert again['loss'] == whole['loss']
