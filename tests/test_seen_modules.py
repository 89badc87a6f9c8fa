"Judging, queues, encoders that are kept; each was first missed by a mutant."
from urllib.error import URLError

import pytest
import torch

from configs import run_of
from test_selection_exact import contrast_of, own, toy
from unremix import KeyQueue
from unremix.encoders import make_encoder, published_weights
from unremix.hard_negatives import uniform
from unremix.kept_encoder import Encoder, of_run
from unremix.selection import hardness_and_mass, knowledge


# ---- tests/test_selection_exact.py

def alone():
    "A last batch of a single image."
    z = torch.ones(2, 1, 2, dtype=torch.float64)
    return contrast_of(*z)


def test_a_batch_without_negatives_is_in_no_mean():
    last, c = alone(), toy()
    nothing = torch.zeros_like(last.negative)
    for measure in ('weight', 'push'):
        assert hardness_and_mass([c, last], [own(c), nothing], uniform, measure) == hardness_and_mass([c], [own(c)], uniform, measure)
        assert knowledge([last, c], [nothing, own(c)], uniform, measure) == knowledge([c], [own(c)], uniform, measure)
    assert hardness_and_mass([last], [nothing], uniform) == (0., 0.)
    assert knowledge([last], [nothing], uniform) == {'knowledge': 0., 'rank_hardness': 0.}


# ---- tests/test_queue_exact.py

def test_the_state_of_a_queue_is_finite():
    "Processes average buffers: an infinite norm of one of them would be everybody's."
    queue = KeyQueue(3, 2)
    queue.push(torch.tensor([[0., 0.], [3., 4.]]))
    assert all(x.isfinite().all() for x in queue.state_dict().values()) and queue.norm.tolist() == [0., 5., 0.]


def test_what_a_queue_says_of_itself():
    assert repr(KeyQueue(3, 2)) == 'KeyQueue(size=3, dim=2)'
    assert repr(KeyQueue(3, 2, stores_hidden=True)) == 'KeyQueue(size=3, dim=2, stores_hidden=True)'


# ---- tests/test_starting_weights.py

@pytest.mark.parametrize('error', (URLError('no network'), RuntimeError('invalid hash value'), OSError(28, 'No space left on device')), ids=str)
def test_published_weights_that_cannot_be_had(error, monkeypatch):
    from torchvision.models._api import WeightsEnum
    def fail(self, *given, **more): raise error
    monkeypatch.setattr(WeightsEnum, 'get_state_dict', fail)
    with pytest.raises(ValueError, match="^the published weights of 'resnet18' cannot be had .*: give a file of them as start_from$"): published_weights('resnet18', 3, 96)


# ---- tests/test_pretrained.py or test_audit_exact.py

HALF = {'channels': 1, 'size': 28, 'mean': [.5], 'std': [.25]}


def test_features_leave_the_mode_as_it_was():
    encoder, x = Encoder(make_encoder('small'), 'small', HALF), torch.zeros(2, 1, 28, 28, dtype=torch.uint8)
    for mode in (True, False):
        encoder.train(mode)
        assert not encoder.features(x).requires_grad and encoder.training == encoder.net.training == mode


def test_a_digest_changes_with_weights_and_preparation():
    net = make_encoder('small')
    digest = lambda **other: Encoder(net, 'small', HALF | other).digest()
    prints = {digest(), digest(mean=[.25]), digest(std=[.5]), digest(size=32)}
    with torch.no_grad(): net[0][0].weight[0, 0, 0, 0] += 1
    assert len(prints | {digest()}) == 5 and digest() == digest()


def test_a_run_on_texts_has_no_encoder_of_images(tmp_path):
    cfg = run_of(modality='text')
    state = dict.fromkeys(('epoch', 'seconds', 'loss', 'optimizer', 'precision'), 0) | {'model': {}, 'config': cfg.as_json()}
    torch.save(state, tmp_path/'checkpoint.pt')
    with pytest.raises(ValueError, match="run must be one on images, got \"one on modality 'text'\""): of_run(tmp_path)
