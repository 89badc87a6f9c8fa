"Losses have no state of their own: a model that holds one is saved and loaded as if it held none."
import copy, io

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import unremix.train
from unremix import DebiasedNTXentLoss, HCLLoss, NTXentLoss, UnReMixLoss, WeightedNTXentLoss
from unremix.losses import uniform
from unremix.queues import KeyQueue
from unremix.selection import OracleLoss, PlaceboLoss

LOSSES = dict(
    ntxent=NTXentLoss, debiased=DebiasedNTXentLoss, hcl=HCLLoss, unremix=UnReMixLoss, oracle=OracleLoss, placebo=PlaceboLoss,
    top=lambda: UnReMixLoss(select='top', k_keep=3), sample=lambda: UnReMixLoss(select='sample', k_keep=3),
    log=lambda: UnReMixLoss(pool='log'), own=lambda: WeightedNTXentLoss(uniform))
every_loss = pytest.mark.parametrize('name', LOSSES)


class Holder(nn.Module):
    "An encoder that brings its loss along."
    def __init__(self, loss):
        super().__init__()
        torch.manual_seed(0)
        self.body, self.loss = nn.Linear(3, 4), loss

    def forward(self, x1, x2):
        given = dict(true_labels=torch.arange(len(x1))) if isinstance(self.loss, OracleLoss) else {}
        return self.loss(self.body(x1), self.body(x2), **given)


def used(name):
    "Also what a loss might make at its first call is there."
    model = Holder(LOSSES[name]())
    model(*torch.randn(2, 6, 3)).backward()
    return model


@every_loss
def test_nothing_of_the_loss_is_saved(name):
    assert list(used(name).state_dict()) == ['body.weight', 'body.bias'] and not used(name).loss.state_dict()


@every_loss
@pytest.mark.parametrize('other', ('ntxent', 'unremix', 'sample'))
def test_strict_loading_between_losses(name, other):
    there, back = used(name), used(other)
    back.load_state_dict(there.state_dict())
    there.load_state_dict(back.state_dict())


@every_loss
@pytest.mark.parametrize('extra', (None, torch.Generator().get_state()), ids=('none', 'generator'))
def test_what_older_versions_saved_still_loads(name, extra):
    model, alone = used(name), LOSSES[name]()
    assert alone.load_state_dict({'_extra_state': extra}) == ([], [])
    old = dict(model.state_dict()) | {'loss._extra_state': extra}
    assert model.load_state_dict(old) == ([], [])
    assert 'loss._extra_state' in old # the caller's dict is not touched
    with pytest.raises(RuntimeError, match='Unexpected key.*loss.other'): model.load_state_dict(old | {'loss.other': torch.ones(1)})


@every_loss
def test_a_used_loss_can_be_copied_and_pickled(name):
    model, buffer = used(name), io.BytesIO()
    torch.save(model, buffer); buffer.seek(0)
    views = torch.randn(2, 6, 3)
    torch.manual_seed(1); wanted = model(*views)
    for again in (copy.deepcopy(model), torch.load(buffer, weights_only=False)):
        torch.manual_seed(1); assert again(*views) == wanted


def test_a_queue_saves_tensors_only():
    queue = KeyQueue(5, 3, stores_hidden=True)
    queue.push(torch.randn(7, 3), torch.randn(7, 2), labels=torch.arange(7, dtype=torch.int16))
    state = queue.state_dict()
    assert set(state) == {'z', 'norm', 'square', 'ids', 'pointer', 'valid'}
    assert all(isinstance(x, torch.Tensor) for x in state.values())
    again = KeyQueue(5, 3, stores_hidden=True)
    assert again.load_state_dict(state) == ([], [])
    for x in (queue, again): x.push(torch.ones(2, 3), torch.ones(2, 2))
    assert_close(queue.state_dict(), again.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize('saved', ({}, {'_extra_state': None}, {'_extra_state': torch.Generator().get_state()}), ids=('now', 'none', 'generator'))
def test_a_run_of_an_older_version_goes_on(saved, tmp_path):
    "Its checkpoint carries the loss's generator."
    cfg = unremix.train.TrainConfig(limit=32, batch_size=16, epochs=2, strategy='unremix', select='sample', k_keep=3, precision='32-true', accelerator='cpu')
    whole = unremix.train.train(cfg, tmp_path, progress=False)
    (tmp_path/'result.json').unlink()
    (tmp_path/'checkpoint_before.pt').replace(tmp_path/'checkpoint.pt') # after the first epoch
    state = torch.load(tmp_path/'checkpoint.pt', weights_only=True)
    assert state['epoch'] == 1 and state['criterion'] == {}
    torch.save(state | {'criterion': saved}, tmp_path/'checkpoint.pt')
    assert unremix.train.train(cfg, tmp_path, progress=False)['loss'] == whole['loss']
