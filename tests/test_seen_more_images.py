"Reading and naming images; each was first missed by a mutant."
import os
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from test_data_exact import images, numbered
from test_seen_images import dot
from unremix import image_folder, image_sets
from unremix.augmentation import Augment, Recipe, augmentations
from unremix.config_groups import DataConfig
from unremix.data import DATASETS, load_dataset
from unremix.encoders import Model, ProjectionHead, make_encoder
from unremix.image_files import as_seen, grey_range, on_white
from unremix.image_folder import Part, Walk, is_hidden
from unremix.image_parts import find_parts, spread, survey
from unremix.image_sets import fingerprint_of, from_torchvision, load_digits, load_fashion_mnist
from unremix.image_task import count_images
from unremix.own_images import ImageFiles, keep_images


# files

@pytest.mark.parametrize('bits, white', [((12,), 4095), ((10,), 1023), ((16,), 65535), ((32,), 65535), (None, 65535)], ids=str)
def test_white_of_fewer_bits(bits, white):
    "As cameras write them: a 12-bit TIFF is stored in 16."
    tags = {} if bits is None else {258: bits}
    assert grey_range(SimpleNamespace(mode='I;16', format='TIFF', tag_v2=tags), np.zeros(1)) == (0, white)


def test_a_palette_with_an_opacity():
    image = Image.new('P', (2, 1))
    image.putpalette([10, 20, 30, 255, 0, 0, 0, 0], 'RGBA')
    image.putpixel((1, 0), 1)
    assert [as_seen(image).getpixel((x, 0)) for x in (0, 1)] == [(10, 20, 30), (255, 255, 255)]


def test_greys_that_are_multiplied_by_their_opacity():
    "Half of a light grey on white, not half of a darker one."
    ink = Image.new('LA', (1, 1), (200, 128))
    assert max(abs(a - b) for a, b in zip(on_white(ink.convert('La')).getpixel((0, 0)), on_white(ink).getpixel((0, 0)))) <= 2


# folders

@pytest.mark.parametrize('name', ['.DS_Store', '__MACOSX', '@eaDir', 'Thumbs.db', 'ehthumbs.db', 'desktop.ini', '$RECYCLE.BIN'])
def test_what_file_managers_leave(name): assert is_hidden(name) and not is_hidden(name[1:] + 'x')


def test_a_folder_that_nobody_may_read_is_told(tmp_path, monkeypatch):
    dot(tmp_path/'a'/'0.png'); dot(tmp_path/'b'/'0.png')
    real = image_folder.os.scandir
    def scandir(folder):
        if str(folder).endswith('b'): raise PermissionError(13, 'Permission denied')
        return real(folder)
    monkeypatch.setattr(image_folder.os, 'scandir', scandir)
    walk = Walk(tmp_path)
    assert len(walk.found) == 1 and walk.skipped == {'not allowed to read': ['b']}


def test_a_part_of_a_part_has_notes_of_its_own(tmp_path):
    whole = Part(tmp_path, ['a', 'b'], ['x', None], {'hidden': ['c']})
    some = whole.only([1])
    some.skipped['damaged'] = ['b']
    assert whole.skipped == {'hidden': ['c']} and (some.paths, some.labels) == (['b'], [None]) and whole.without_labels().labels == [None, None]


def test_how_many_are_held_out():
    "Two of four, a tenth of twenty or more, in the middles of as many stretches."
    places = {n: sorted(spread(list(range(n)))) for n in (0, 3, 4, 10, 24, 26, 40)}
    assert places == {0: [], 3: [], 4: [1, 3], 10: [2, 7], 24: [6, 18], 26: [4, 13, 21], 40: [5, 15, 25, 35]}


def test_an_empty_test_part_is_none(tmp_path):
    for i in range(4): dot(tmp_path/'train'/f'{i}.png', 20*i)
    (tmp_path/'test').mkdir()
    found = survey(tmp_path)
    assert (len(found.train), len(found.test)) == (2, 2) and f'{tmp_path}/test has no images: 2 of 4 training images are held out and scored' in found.notes


def test_two_names_of_one_unlabelled_image(tmp_path):
    for i in range(4): dot(tmp_path/'train'/'cat'/f'{i}.png', 20*i)
    dot(tmp_path/'unlabeled'/'a.png', 200)
    os.link(tmp_path/'unlabeled'/'a.png', tmp_path/'unlabeled'/'b.png')
    train, _ = find_parts(tmp_path)
    assert len(train) == 5 and train.labels[4] is None and train.skipped == {'linked twice': ['../unlabeled/b.png']}


def test_two_folders_are_held_apart(tmp_path):
    for name, count in (('one', 4), ('two', 6)):
        for part in ('train', 'test'):
            for i in range(count): dot(tmp_path/name/part/'cat'/f'{i}.png')
    with keep_images():
        assert [len(ImageFiles('train', tmp_path/name)) for name in ('one', 'two', 'one')] == [4, 6, 4]


def test_a_folder_says_how_many_train(tmp_path):
    for part, count in {'train': 10, 'test': 2}.items():
        for i in range(count): dot(tmp_path/part/'cat'/f'{i}.png')
    asked = lambda **fields: count_images(DataConfig(dataset='imagefolder', data_root=str(tmp_path), **fields))
    assert [asked(), asked(limit=3), asked(limit=30), asked(validation=4), asked(validation=4, limit=7), asked(validation=10)] == [10, 3, 10, 6, 6, None]
    assert (count_images(DataConfig(limit=5)), count_images(DataConfig())) == (5, None)


# data sets

def test_what_torchvision_calls_them(tmp_path):
    "Its class, and the name by which a recipe is chosen."
    found = {name: load.args for name, load in DATASETS.items() if isinstance(load, partial)}
    assert found == {'mnist': ('MNIST', 'mnist'), 'cifar10': ('CIFAR10', 'cifar10'), 'cifar100': ('CIFAR100', 'cifar100'), 'stl10': ('STL10', 'stl10')}
    with pytest.raises(ValueError, match=r'^data_root must be a folder for mnist \(it is downloaded there unless present\), got None$'): from_torchvision('MNIST', 'mnist', 'train', None)


def test_a_folder_that_is_given_comes_before_debians(tmp_path, monkeypatch):
    monkeypatch.setattr(image_sets, 'DEBIAN_FASHION_MNIST', tmp_path)
    monkeypatch.setattr(image_sets, 'from_torchvision', lambda *asked: numbered([0]) if asked == ('FashionMNIST', 'fashion_mnist', 'test', 'x') else None)
    assert load_fashion_mnist('test', 'x').classes == image_sets.CLOTHES


def test_fingerprints_of_digits_are_of_what_is_stored():
    "Enlarged pixels would round differently on another machine."
    from sklearn.datasets import load_digits as load
    x, y = load(return_X_y=True)
    test = image_sets.rank_in_class(torch.as_tensor(y)) % 5 == 0
    stored = torch.as_tensor(x.reshape(-1, 1, 8, 8)/16*255, dtype=torch.float32)[test]
    assert load_digits('test').fingerprint == fingerprint_of(stored, torch.as_tensor(y)[test])


@pytest.mark.parametrize('asked, words', [
    (dict(image_size=7), r'image_size must be None or a whole number of pixels ≥ 8, got 7'), (dict(limit=0), 'limit must be None or a whole number ≥ 1, got 0'),
    (dict(split='unlabeled'), r"split must be one of \['train', 'test'\], got 'unlabeled'"), (dict(name='stl10', split='val'), r"split must be one of \['train', 'test', 'unlabeled'\]")], ids=str)
def test_the_least_that_can_be_asked(asked, words):
    with pytest.raises(ValueError, match=f'^{words}'): load_dataset(**{'name': 'digits', **asked})
    assert load_dataset('digits', 'test', limit=1, image_size=8).x.shape == (1, 1, 8, 8)


# views and networks

def test_an_augmentation_has_no_state():
    "Mean and deviation are of the images: weights of a run do not hold them."
    assert not {'mean', 'std'} & set(Augment.for_images(images(torch.zeros(2, 1, 8, 8, dtype=torch.uint8))).state_dict())


def test_strong_changes_stay_within_their_ranges():
    "Twice a strong recipe: no factor below 0, no hue beyond half a turn, no probability beyond 1."
    grey, colour = (augmentations(8, channels, Recipe(jitter=.6, hue=.4, grey=.8, blur=.7), 2.) for channels in (1, 3))
    assert [tuple(float(x) for x in op.brightness) for op in grey if hasattr(op, 'brightness')] == [pytest.approx((.05, 1.95))]
    assert [op.p for op in colour if type(op).__name__ in ('RandomGrayscale', 'RandomGaussianBlur')] == [1., 1.]


def test_a_network_of_timm_is_ready_to_train():
    "After it was asked for its size in evaluation mode."
    pytest.importorskip('timm', reason='timm is not installed')
    net = make_encoder('timm:resnet10t', 1, 32)
    assert net.training and all(m.training for m in net.modules()) and net.out_dim == 512


def test_sizes_of_the_head():
    head = ProjectionHead(7)
    assert (head.first[0].in_features, head.last.in_features, head.last.out_features) == (7, 512, 128)
    for name in ('in_dim', 'hidden_dim', 'out_dim'):
        with pytest.raises(ValueError, match=f'^{name} must be a whole number ≥ 1, got 0$'): ProjectionHead(**{'in_dim': 1} | {name: 0})
    net = Model(torch.nn.Flatten(), ProjectionHead(4, 3, 2))
    assert [x.shape[1] for x in net(torch.zeros(2, 1, 2, 2))] == [2, 3]
