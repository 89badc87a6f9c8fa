"""Every limit that the library states.

One sentence naming what is wrong and what is allowed, and nothing done.
"""

import math

import pytest
import torch

from benchmarks.losses import BenchConfig
from unremix import ContrastiveLoss, DebiasedNTXentLoss, HCLLoss, LearnedTemperature
from unremix import NTXentLoss, UnReMixLoss
from unremix.data import load_dataset
from unremix.encoders import ProjectionHead, make_encoder
from unremix.hard_negatives import HCL, uniform
from unremix.image_files import DatasetMissing
from unremix.info_nce import InfoNCE
from unremix.knobs import Knobs
from unremix.queue import KeyQueue
from unremix.rules import OutsideBatch, views
from unremix.augmentation import Augment

z = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
y = torch.arange(4)


def call(**kwargs):
    return lambda: NTXentLoss()(z, z, **kwargs)


def later(loss, **attributes):
    "What a training loop does that assigns a schedule."
    for name, value in attributes.items():
        setattr(loss, name, value)
    return loss(z, z)


NUMBER = 'must be a number'
IDS = 'must be of shape (4)'
WHOLE = 'must be a whole number ≥ 1'
UNCERTAINTIES = (
    "['norm', 'influence', 'entropy', 'overlap', 'image_overlap', "
    "'image_similarity', 'boundary', 'candidate_gradient']"
)
DRAWS = "not random with chunk_size and reduction='none', which draw twice"
CASES = {
    'temperature zero': (
        lambda: NTXentLoss(0),
        f'temperature {NUMBER} > 0, got 0',
    ),
    'temperature nan': (
        lambda: NTXentLoss(math.nan),
        f'temperature {NUMBER} > 0, got nan',
    ),
    'temperature text': (
        lambda: NTXentLoss('0.5'),
        f"temperature {NUMBER} > 0, got '0.5'",
    ),
    'temperature assigned later': (
        lambda: later(NTXentLoss(), temperature=-1.0),
        f'temperature {NUMBER} > 0, got -1.0',
    ),
    'learned temperature too low': (
        lambda: LearnedTemperature(0.07, lowest=0.07),
        'lowest must be between 0 and `initial`, got 0.07',
    ),
    'learned temperature too high': (
        lambda: LearnedTemperature(2),
        'highest must be above `initial`, got 1.0',
    ),
    'learned temperature text': (
        lambda: LearnedTemperature('warm'),
        f"initial {NUMBER}, got 'warm'",
    ),
    'tau_plus one': (
        lambda: DebiasedNTXentLoss(tau_plus=1),
        f'tau_plus {NUMBER} in [0, 1), got 1',
    ),
    'tau_plus negative': (
        lambda: HCLLoss(tau_plus=-0.1),
        f'tau_plus {NUMBER} in [0, 1), got -0.1',
    ),
    'tau_plus assigned later': (
        lambda: later(UnReMixLoss(), tau_plus=1.5),
        f'tau_plus {NUMBER} in [0, 1), got 1.5',
    ),
    'tau_plus of a part': (
        lambda: InfoNCE(math.nan),
        f'tau_plus {NUMBER} in [0, 1), got nan',
    ),
    'tau_plus with labels': (
        lambda: HCLLoss()(z, z, labels=y),
        'tau_plus must be 0 with labels: '
        'labels already remove what tau_plus corrects for, got 0.1',
    ),
    'beta negative': (
        lambda: HCLLoss(beta=-1),
        f'beta {NUMBER} ≥ 0, got -1',
    ),
    'beta infinite': (
        lambda: UnReMixLoss(beta=math.inf),
        f'beta {NUMBER} ≥ 0, got inf',
    ),
    'beta assigned later': (
        lambda: later(HCLLoss(), beta=-2.0),
        f'beta {NUMBER} ≥ 0, got -2.0',
    ),
    'beta of a part': (
        lambda: HCL(-1),
        f'beta {NUMBER} ≥ 0, got -1',
    ),
    'mix sum': (
        lambda: UnReMixLoss(mix=(0.5, 0.5, 0.5)),
        'mix must be three numbers ≥ 0 that sum to 1, got (0.5, 0.5, 0.5)',
    ),
    'mix negative': (
        lambda: UnReMixLoss(mix=(-0.5, 1.0, 0.5)),
        'mix must be three numbers ≥ 0 that sum to 1',
    ),
    'mix length': (
        lambda: UnReMixLoss(mix=(0.5, 0.5)),
        'mix must be three numbers ≥ 0 that sum to 1, got (0.5, 0.5)',
    ),
    'kappa': (
        lambda: UnReMixLoss(kappa=(1.0, -1.0)),
        'kappa must be two numbers ≥ 0, got (1.0, -1.0)',
    ),
    'uncertainty': (
        lambda: UnReMixLoss(uncertainty='doubt'),
        f"uncertainty must be one of {UNCERTAINTIES}, got 'doubt'",
    ),
    'uncertainty_temperature': (
        lambda: UnReMixLoss(uncertainty_temperature=0.0),
        'uncertainty_temperature must be None or a number > 0, got 0.0',
    ),
    'distance': (
        lambda: UnReMixLoss(distance='l1'),
        "distance must be one of ['cosine', 'euclidean'], got 'l1'",
    ),
    'normalize': (
        lambda: UnReMixLoss(normalize='max'),
        "normalize must be one of ['softmax', 'sum', 'minmax'], got 'max'",
    ),
    'pool': (
        lambda: UnReMixLoss(pool='mean'),
        "pool must be one of ['linear', 'log', 'score'], got 'mean'",
    ),
    'pool and normalize': (
        lambda: Knobs(pool='log', normalize='sum'),
        "normalize must be 'softmax' with pool='log', got 'sum'",
    ),
    'pool assigned after normalize': (
        lambda: later(UnReMixLoss(normalize='sum'), pool='log'),
        "normalize must be 'softmax' with pool='log', got 'sum'",
    ),
    'pool of scores and kappa': (
        lambda: UnReMixLoss(pool='score', kappa=(1.0, 2.0)),
        "kappa must be left at (1.0, 1.0) with pool='score'",
    ),
    'pool of scores and bars': (
        lambda: UnReMixLoss(pool='score', normalize='minmax'),
        "normalize must be 'softmax' with pool='score', got 'minmax'",
    ),
    'pseudo_label': (
        lambda: UnReMixLoss(pseudo_label='truth'),
        "pseudo_label must be one of ['argmax', 'positive'], got 'truth'",
    ),
    'pseudo_label that nobody reads': (
        lambda: UnReMixLoss(uncertainty='entropy', pseudo_label='positive'),
        "pseudo_label must be left at argmax with uncertainty='entropy'",
    ),
    'select': (
        lambda: UnReMixLoss(select='best'),
        "select must be one of [None, 'top', 'sample'], got 'best'",
    ),
    'k_keep missing': (
        lambda: UnReMixLoss(select='top'),
        f'k_keep {WHOLE} with select, got None',
    ),
    'k_keep zero': (
        lambda: UnReMixLoss(select='top', k_keep=0),
        f'k_keep {WHOLE} with select, got 0',
    ),
    'k_keep alone': (
        lambda: UnReMixLoss(k_keep=3),
        'k_keep must be None without select, got 3',
    ),
    'weights': (
        lambda: ContrastiveLoss('hcl'),
        "weights must be a function from a Contrast to log weights, got 'hcl'",
    ),
    'weights assigned later': (
        lambda: later(ContrastiveLoss(), weights=None),
        'weights must be a function from a Contrast to log weights, got None',
    ),
    'weights of another shape': (
        lambda: ContrastiveLoss(lambda c: c.k)(z, z),
        'what the weighting returns must be of shape (8, 8), got (8,)',
    ),
    'pairs': (
        lambda: NTXentLoss(pairs='supervised'),
        "pairs must be None or a function, got 'supervised'",
    ),
    'what a rule returns': (
        lambda: NTXentLoss(pairs=lambda a, c: (a.sample, c.sample))(z, z),
        'what the rule returns must be two bool tables of shape (8, 8), got (8,)',
    ),
    'synthesis': (
        lambda: ContrastiveLoss(synthesis=3),
        'synthesis must be None or a function, got 3',
    ),
    'loss': (
        lambda: ContrastiveLoss(loss=0.1),
        'loss must be a function from a Contrast and log weights to losses, got 0.1',
    ),
    'reduction': (
        lambda: NTXentLoss(reduction='max'),
        "reduction must be one of ['mean', 'sum', 'none'], got 'max'",
    ),
    'chunk_size': (
        lambda: NTXentLoss(chunk_size=0),
        'chunk_size must be None or a whole number ≥ 1, got 0',
    ),
    'sample in blocks': (
        lambda: UnReMixLoss(select='sample', k_keep=2, chunk_size=4, reduction='none'),
        f'weights must be {DRAWS}, got UnReMix(',
    ),
    'queue and three views': (
        lambda: NTXentLoss()(z, z, z, queue=KeyQueue(4, 8)),
        'z3 must be left out where a queue is given, got 3',
    ),
    'no queue': (
        call(queue=z),
        'queue must be None or a KeyQueue, got ',
    ),
    'queue of another size': (
        call(queue=KeyQueue(4, 3)),
        'queue must be of embeddings of size 8, got 3',
    ),
    'queue of nothing': (
        lambda: KeyQueue(0, 8),
        f'size {WHOLE}, got 0',
    ),
    'keys of another size': (
        lambda: KeyQueue(4, 8).push(z[:, :3]),
        'keys must be of shape (b 8), got (4, 3)',
    ),
    'keys without hidden': (
        lambda: KeyQueue(4, 8, stores_hidden=True).push(z),
        'hidden must be given to a queue that stores it, got None',
    ),
    'gather_distributed': (
        lambda: NTXentLoss(gather_distributed=2),
        'gather_distributed must be True or False, got 2',
    ),
    'integer embeddings': (
        lambda: NTXentLoss()(z.long(), z.long()),
        'z1 must be a floating point tensor, got torch.int64',
    ),
    'no tensor': (
        lambda: NTXentLoss()([1.0], z),
        "z1 must be a floating point tensor, got 'list'",
    ),
    'one dimension': (
        lambda: NTXentLoss()(z[0], z[0]),
        'z1 must be of shape (b d) with b, d ≥ 1, got (8,)',
    ),
    'empty batch': (
        lambda: NTXentLoss()(z[:0], z[:0]),
        'z1 must be of shape (b d) with b, d ≥ 1, got (0, 8)',
    ),
    'other batch': (
        lambda: NTXentLoss()(z, z[:3]),
        'z2 must be of the shape of z1, (4, 8), got (3, 8)',
    ),
    'other batch of a third view': (
        lambda: NTXentLoss()(z, z, z[:3]),
        'z3 must be of the shape of z1, (4, 8), got (3, 8)',
    ),
    'other dtype': (
        lambda: NTXentLoss()(z, z.double()),
        'z2 must be torch.float32 on cpu like z1',
    ),
    'hidden no pair': (
        call(hidden=z),
        "hidden must be a pair (h1, h2), got 'Tensor'",
    ),
    'hidden of two of three views': (
        lambda: NTXentLoss()(z, z, z, hidden=(z, z)),
        "hidden must be a tuple (h1, h2, h3), got 'tuple'",
    ),
    'hidden rows': (
        call(hidden=(z[:3], z[:3])),
        'hidden must be two floating point tensors of shape (4 f)',
    ),
    'labels length': (
        call(labels=y[:3]),
        f'labels {IDS}, got (3,)',
    ),
    'sample_ids shape': (
        call(sample_ids=y[:, None]),
        f'sample_ids {IDS}, got (4, 1)',
    ),
    'true_labels length': (
        call(true_labels=y[:2], return_stats=True),
        f'true_labels {IDS}, got (2,)',
    ),
    'labels with negatives': (
        call(labels=y[:3], negatives=z),
        'labels must be of shape (4) or (8), got (3,)',
    ),
    'labels no tensor': (
        call(labels=[0, 1, 2, 3]),
        "labels must be a tensor, got 'list'",
    ),
    'negatives dimension': (
        call(negatives=torch.randn(3, 5)),
        'negatives must be a floating point tensor of shape (m 8) with m ≥ 1',
    ),
    'negatives none': (
        call(negatives=z[:0]),
        'negatives must be a floating point tensor of shape (m 8) with m ≥ 1',
    ),
    'not in batch': (
        lambda: NTXentLoss(pairs=OutsideBatch(views))(z, z),
        'negatives must be given, or a queue, where no view of the batch is a '
        'negative, got None',
    ),
    'dataset': (
        lambda: load_dataset('imagenet'),
        'dataset must be one of',
    ),
    'split': (
        lambda: load_dataset(split='val'),
        "split must be one of ['train', 'test'], got 'val'",
    ),
    'limit': (
        lambda: load_dataset(limit=0),
        'limit must be None or a whole number ≥ 1, got 0',
    ),
    'image_size data': (
        lambda: load_dataset(image_size=4),
        'image_size must be None or a whole number of pixels ≥ 8, got 4',
    ),
    'data_root': (
        lambda: load_dataset('cifar10'),
        'data_root must be a folder for cifar10',
    ),
    'strength': (
        lambda: Augment(8, torch.zeros(1), torch.ones(1), strength=-1),
        f'strength {NUMBER} ≥ 0, got -1',
    ),
    'encoder': (
        lambda: make_encoder('vit'),
        "encoder must be one of ['small', 'resnet18', 'resnet50', 'timm:NAME'], got 'vit'",
    ),
    'image_size encoder': (
        lambda: make_encoder(image_size=4),
        'image_size must be a whole number of pixels ≥ 8, got 4',
    ),
    'head': (
        lambda: ProjectionHead(8, 0),
        f'hidden_dim {WHOLE}, got 0',
    ),
}
BENCH = dict(batch=1, dim=0, hidden=0, rounds=0, repeats=0, steps=-1, threads=-1)
for name, bad in BENCH.items():
    CASES[f'bench {name}'] = (
        lambda name=name, bad=bad: BenchConfig(**{name: bad}),
        f'{name} must be a whole number ≥ {bad + 1}, got {bad}',
    )


@pytest.mark.parametrize('case', CASES)
def test_one_clear_sentence(case):
    do, sentence = CASES[case]
    with pytest.raises(ValueError) as e:
        do()
    said = str(e.value)
    assert sentence in said and '\n' not in said


def test_a_refused_number_changes_nothing():
    loss, whole = HCLLoss(tau_plus=0.2, beta=2.0), UnReMixLoss(select='top', k_keep=2)
    wrong = (loss, 'beta', -1), (loss, 'tau_plus', 1), (whole, 'mix', 3)
    for of, name, value in (*wrong, (whole, 'select', 'best'), (whole, 'k_keep', None)):
        before = getattr(of, name), of(z, z)
        with pytest.raises(ValueError, match=' must be '):
            setattr(of, name, value)
        assert (getattr(of, name), of(z, z)) == before


def test_missing_and_broken_image_folders(tmp_path):
    train = tmp_path / 'train'
    broken = train / 'cat' / 'broken.png'
    for make, sentence in (
        (lambda: None, 'has no folder train'),
        (lambda: train.mkdir(), 'one folder of images per class'),
        (lambda: (train / 'cat').mkdir(), 'one folder of images per class'),
        (lambda: broken.write_text('no image'), 'cannot be read'),
    ):
        make()
        with pytest.raises(DatasetMissing) as e:
            load_dataset('imagefolder', data_root=tmp_path)
        assert sentence in str(e.value) and '\n' not in str(e.value)


def test_no_network_is_one_sentence(tmp_path, monkeypatch):
    import socket

    def refuse(*args, **kwargs):
        raise OSError('no network')

    monkeypatch.setattr(socket.socket, 'connect', refuse)
    for name in ('mnist', 'fashion_mnist', 'cifar10', 'cifar100', 'stl10'):
        sentence = f'{name} is not in .* and could not be downloaded'
        with pytest.raises(DatasetMissing, match=sentence):
            load_dataset(name, data_root=tmp_path)


def test_not_finite_embeddings_are_seen_in_the_loss():
    bad = z.clone()
    bad[0, 0] = math.nan
    own = ContrastiveLoss(uniform)
    kinds = NTXentLoss(), DebiasedNTXentLoss(), HCLLoss(), UnReMixLoss()
    for loss in (*kinds, UnReMixLoss(pool='log'), own):
        assert not loss(bad, z).isfinite()
