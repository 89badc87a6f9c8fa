"""Every limit that the library states: one sentence naming what is wrong and what is allowed, and nothing done."""
import math

import pytest
import torch

from unremix import DebiasedNTXentLoss, HCLLoss, NTXentLoss, UnReMixLoss, WeightedNTXentLoss
from unremix.bench import BenchConfig
from unremix.data import Augment, DatasetMissing, Images, load_dataset
from unremix.importance import Knobs
from unremix.losses import uniform
from unremix.models import ProjectionHead, make_encoder
from unremix.queues import KeyQueue

z, y = torch.randn(4, 8, generator=torch.Generator().manual_seed(0)), torch.arange(4)


def call(**kwargs): return lambda: NTXentLoss()(z, z, **kwargs)


CASES = {
    'temperature zero': (lambda: NTXentLoss(0), 'temperature must be a number > 0, got 0'),
    'temperature nan': (lambda: NTXentLoss(math.nan), 'temperature must be a number > 0, got nan'),
    'temperature text': (lambda: NTXentLoss('0.5'), "temperature must be a number > 0, got '0.5'"),
    'temperature assigned later': (lambda: later(NTXentLoss(), temperature=-1.), 'temperature must be a number > 0, got -1.0'),
    'tau_plus one': (lambda: DebiasedNTXentLoss(tau_plus=1), 'tau_plus must be a number in [0, 1), got 1'),
    'tau_plus negative': (lambda: HCLLoss(tau_plus=-.1), 'tau_plus must be a number in [0, 1), got -0.1'),
    'tau_plus with labels': (lambda: HCLLoss()(z, z, labels=y), 'tau_plus must be 0 with labels: labels already remove what tau_plus corrects for, got 0.1'),
    'beta negative': (lambda: HCLLoss(beta=-1), 'beta must be a number ≥ 0, got -1'),
    'beta infinite': (lambda: UnReMixLoss(beta=math.inf), 'beta must be a number ≥ 0, got inf'),
    'beta assigned later': (lambda: later(HCLLoss(), beta=-2.), 'beta must be a number ≥ 0, got -2.0'),
    'mix sum': (lambda: UnReMixLoss(mix=(.5, .5, .5)), 'mix must be three numbers ≥ 0 that sum to 1, got (0.5, 0.5, 0.5)'),
    'mix negative': (lambda: UnReMixLoss(mix=(-.5, 1., .5)), 'mix must be three numbers ≥ 0 that sum to 1'),
    'mix length': (lambda: UnReMixLoss(mix=(.5, .5)), 'mix must be three numbers ≥ 0 that sum to 1, got (0.5, 0.5)'),
    'kappa': (lambda: UnReMixLoss(kappa=(1., -1.)), 'kappa must be two numbers ≥ 0, got (1.0, -1.0)'),
    'uncertainty': (lambda: UnReMixLoss(uncertainty='doubt'), "uncertainty must be one of ['norm', 'influence', 'entropy', 'overlap', 'image_overlap', 'image_similarity', 'boundary'], got 'doubt'"),
    'uncertainty_temperature': (lambda: UnReMixLoss(uncertainty_temperature=0.), 'uncertainty_temperature must be None or a number > 0, got 0.0'),
    'distance': (lambda: UnReMixLoss(distance='l1'), "distance must be one of ['cosine', 'euclidean'], got 'l1'"),
    'normalize': (lambda: UnReMixLoss(normalize='max'), "normalize must be one of ['softmax', 'sum', 'minmax'], got 'max'"),
    'pool': (lambda: UnReMixLoss(pool='mean'), "pool must be one of ['linear', 'log'], got 'mean'"),
    'pool and normalize': (lambda: Knobs(pool='log', normalize='sum'), "normalize must be 'softmax' with pool='log', got 'sum'"),
    'select': (lambda: UnReMixLoss(select='best'), "select must be one of [None, 'top', 'sample'], got 'best'"),
    'k_keep missing': (lambda: UnReMixLoss(select='top'), 'k_keep must be a whole number ≥ 1 with select, got None'),
    'k_keep zero': (lambda: UnReMixLoss(select='top', k_keep=0), 'k_keep must be a whole number ≥ 1 with select, got 0'),
    'k_keep alone': (lambda: UnReMixLoss(k_keep=3), 'k_keep must be None without select, got 3'),
    'weighting': (lambda: WeightedNTXentLoss('hcl'), "weighting must be a function from a Contrast to log weights, got 'hcl'"),
    'reduction': (lambda: NTXentLoss(reduction='max'), "reduction must be one of ['mean', 'sum', 'none'], got 'max'"),
    'chunk_size': (lambda: NTXentLoss(chunk_size=0), 'chunk_size must be None or a whole number ≥ 1, got 0'),
    'sample in blocks': (lambda: UnReMixLoss(select='sample', k_keep=2, chunk_size=4, reduction='none'), "select must be None or 'top' with chunk_size and reduction='none', which draw each block twice, got 'sample'"),
    'queue and negatives': (lambda: NTXentLoss()(z, z, queue=KeyQueue(4, 8), negatives=z), 'negatives must be None, with in_batch=True, where a queue is given'),
    'queue of nothing': (lambda: KeyQueue(0, 8), 'size must be a whole number ≥ 1, got 0'),
    'keys of another size': (lambda: KeyQueue(4, 8).push(z[:,:3]), 'keys must be of shape (b 8), got (4, 3)'),
    'keys without hidden': (lambda: KeyQueue(4, 8, stores_hidden=True).push(z), 'hidden must be given to a queue that stores it, got None'),
    'gather_distributed': (lambda: NTXentLoss(gather_distributed=2), 'gather_distributed must be True or False, got 2'),
    'integer embeddings': (lambda: NTXentLoss()(z.long(), z.long()), 'z1 must be a floating point tensor, got torch.int64'),
    'no tensor': (lambda: NTXentLoss()([1.], z), "z1 must be a floating point tensor, got 'list'"),
    'one dimension': (lambda: NTXentLoss()(z[0], z[0]), 'z1 must be of shape (b d) with b, d ≥ 1, got (8,)'),
    'empty batch': (lambda: NTXentLoss()(z[:0], z[:0]), 'z1 must be of shape (b d) with b, d ≥ 1, got (0, 8)'),
    'other batch': (lambda: NTXentLoss()(z, z[:3]), 'z2 must be of the shape of z1, (4, 8), got (3, 8)'),
    'other dtype': (lambda: NTXentLoss()(z, z.double()), 'z2 must be torch.float32 on cpu like z1'),
    'hidden no pair': (call(hidden=z), "hidden must be a pair (h1, h2), got 'Tensor'"),
    'hidden rows': (call(hidden=(z[:3], z[:3])), 'hidden must be two floating point tensors of shape (4 f)'),
    'labels length': (call(labels=y[:3]), 'labels must be of shape (4), got (3,)'),
    'sample_ids shape': (call(sample_ids=y[:,None]), 'sample_ids must be of shape (4), got (4, 1)'),
    'true_labels length': (call(true_labels=y[:2], return_stats=True), 'true_labels must be of shape (4), got (2,)'),
    'labels no tensor': (call(labels=[0, 1, 2, 3]), "labels must be a tensor, got 'list'"),
    'negatives dimension': (call(negatives=torch.randn(3, 5)), 'negatives must be a floating point tensor of shape (m 8) with m ≥ 1'),
    'negatives none': (call(negatives=z[:0]), 'negatives must be a floating point tensor of shape (m 8) with m ≥ 1'),
    'not in batch': (lambda: NTXentLoss(in_batch=False)(z, z), 'negatives must be given when in_batch=False, got None'),
    'dataset': (lambda: load_dataset('imagenet'), 'dataset must be one of'),
    'split': (lambda: load_dataset(split='val'), "split must be one of ['train', 'test'], got 'val'"),
    'limit': (lambda: load_dataset(limit=0), 'limit must be None or a whole number ≥ 1, got 0'),
    'image_size data': (lambda: load_dataset(image_size=4), 'image_size must be None or a whole number of pixels ≥ 8, got 4'),
    'data_root': (lambda: load_dataset('cifar10'), 'data_root must be a folder for cifar10'),
    'strength': (lambda: Augment(8, torch.zeros(1), torch.ones(1), strength=-1), 'strength must be a number ≥ 0, got -1'),
    'encoder': (lambda: make_encoder('vit'), "encoder must be one of ['small', 'resnet18', 'resnet50'], got 'vit'"),
    'image_size encoder': (lambda: make_encoder(image_size=4), 'image_size must be a whole number of pixels ≥ 8, got 4'),
    'head': (lambda: ProjectionHead(8, 0), 'hidden_dim must be a whole number ≥ 1, got 0'),
    **{f'bench {k}': (lambda k=k, v=v: BenchConfig(**{k: v}), f'{k} must be a whole number ≥ {v+1}, got {v}') for k, v in dict(batch=1, dim=0, hidden=0, rounds=0, repeats=0, steps=-1, threads=-1).items()},
}


def later(loss, **attributes):
    "What a training loop does that assigns a schedule."
    for name, value in attributes.items(): setattr(loss, name, value)
    return loss(z, z)


@pytest.mark.parametrize('case', CASES)
def test_one_clear_sentence(case):
    do, sentence = CASES[case]
    with pytest.raises(ValueError) as e: do()
    assert sentence in str(e.value) and '\n' not in str(e.value)


def test_missing_and_broken_image_folders(tmp_path):
    for make, sentence in ((lambda: None, 'has no folder train'),
                           (lambda: (tmp_path/'train').mkdir(), 'one folder of images per class'),
                           (lambda: (tmp_path/'train'/'cat').mkdir(), 'one folder of images per class'),
                           (lambda: (tmp_path/'train'/'cat'/'broken.png').write_text('no image'), 'cannot be read')):
        make()
        with pytest.raises(DatasetMissing) as e: load_dataset('imagefolder', data_root=tmp_path)
        assert sentence in str(e.value) and '\n' not in str(e.value)


def test_no_network_is_one_sentence(tmp_path, monkeypatch):
    import socket
    def refuse(*args, **kwargs): raise OSError('no network')
    monkeypatch.setattr(socket.socket, 'connect', refuse)
    for name in ('mnist', 'fashion_mnist', 'cifar10', 'cifar100', 'stl10'):
        with pytest.raises(DatasetMissing, match=f'{name} is not in .* and could not be downloaded'): load_dataset(name, data_root=tmp_path)


def test_not_finite_embeddings_are_seen_in_the_loss():
    bad = z.clone(); bad[0, 0] = math.nan
    for loss in (NTXentLoss(), DebiasedNTXentLoss(), HCLLoss(), UnReMixLoss(), UnReMixLoss(pool='log'), WeightedNTXentLoss(uniform)):
        assert not loss(bad, z).isfinite()
