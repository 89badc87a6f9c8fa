"What `unremix.data` promises, in closed forms and tiny exact cases: no training, no trained number."
import gzip
from dataclasses import replace
from types import SimpleNamespace

import kornia.augmentation as K
import numpy as np
import pytest
import torch
import torchvision.datasets as tv
from PIL import Image
from torch.testing import assert_close
from configs import run_of
from unremix import data, image_sets
from unremix.data import choose, describe, hold_out, labelled, load_dataset, resize
from unremix.data import why_unscored
from unremix.evaluate import test_images as images_to_score
from unremix.grid import run_key
from unremix.image_files import read_square
from unremix.image_sets import Images, fingerprint_of, from_torchvision, rank_in_class
from unremix.image_sets import read_idx, to_images
from unremix.image_task import load_images
from unremix.run_folder import scored_images, split_images
from unremix.augmentation import COLOUR, RECIPES, Augment, Recipe, augmentations, two_views

def images(x, y=None, name='cifar10'):
    x = torch.as_tensor(x)
    return Images(x, torch.zeros(len(x)).long() if y is None else torch.as_tensor(y), ('a', 'b'), name)

def numbered(y): # each image is known by its pixel
    return images(torch.arange(len(y), dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 8, 8).contiguous(), y)

def which(images): return images.x[:, 0, 0, 0].tolist()

# tensors of bytes

def test_colours_come_last_in_files_and_first_here():
    x = np.arange(2*2*3*3, dtype=np.uint8).reshape(2, 2, 3, 3)
    got = to_images(x, [1, 0], ['a', 'b'], 'pets')
    assert got.x.shape == (2, 3, 2, 3) and got.x.is_contiguous() and got.y.dtype == torch.int64
    assert all(got.x[n, c, i, j] == x[n, i, j, c] for n in range(2) for c in range(3) for i in range(2) for j in range(3))
    assert to_images(x[..., 0], [1, 0], ['a', 'b'], 'pets').x.shape == (2, 1, 2, 3) and got.classes == ('a', 'b')

def test_fingerprints_see_every_byte():
    x, y = torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1, 1])
    prints = [fingerprint_of(x, y), fingerprint_of(x, y.flip(0)), fingerprint_of(x.reshape(3, 1, 1, 4), y), fingerprint_of(x[:2], y[:2])]
    for at in np.ndindex(*x.shape):
        other = x.clone(); other[at] = 1
        prints.append(fingerprint_of(other, y))
    assert len(set(prints)) == len(prints) and fingerprint_of(x.clone(), y.clone()) == prints[0]
    assert fingerprint_of(x.transpose(2, 3), y) == prints[0] # layout in memory is no content

def test_rank_in_class_counts_those_before():
    y = torch.tensor([3, -1, 3, 0, -5, 3, 0, -2])
    assert rank_in_class(y).tolist() == [0, 0, 1, 0, 1, 2, 1, 2]

def test_a_limit_takes_classes_in_turns(monkeypatch):
    monkeypatch.setitem(data.DATASETS, 'digits', lambda split, root: numbered([0, 0, 0, 1, 1, 0]))
    assert which(load_dataset('digits', limit=4)) == [0, 3, 1, 4] and load_dataset('digits', limit=4).y.tolist() == [0, 1, 0, 1]
    assert which(load_dataset('digits')) == [0, 1, 2, 3, 4, 5] and load_dataset('digits', image_size=16).x.shape == (6, 1, 16, 16)

def test_choosing_keeps_labels_with_pixels():
    part = choose(numbered([0, 1, 0, 1]), torch.tensor([3, 0]))
    assert which(part) == [3, 0] and part.y.tolist() == [1, 0]
    some = numbered([0, -1, 1, -2])
    assert which(labelled(some)) == [0, 2] and labelled(some).y.tolist() == [0, 1]

def test_held_out_images_are_spread_and_never_trained_on():
    y = [1]*10 + [0]*10 + [-1, -2]
    rest, held = hold_out(numbered(y), 4) # sorted by class: 10…19, 0…9
    assert which(held) == [12, 17, 2, 7] and held.y.tolist() == [0, 0, 1, 1]
    assert sorted(which(rest) + which(held)) == list(range(22)) and (rest.y < 0).sum() == 2
    for n in (0, 20, 2.):
        with pytest.raises(ValueError, match='validation must be a whole number from 1 to 19'): hold_out(numbered(y), n)
    rest, held = hold_out(numbered([-1, -2, -3, -4]), 2)
    assert which(held) == [1, 3] and which(rest) == [0, 2]

def test_copies_of_held_out_images_do_not_train():
    y = [1]*10 + [0]*10
    ids = torch.arange(20)
    ids[[3, 12, 15]], ids[[7, 8]], ids[[17, 18]] = 12, 7, -1 # −1 is unknown: equal to nobody's
    rest, held = hold_out(replace(numbered(y), ids=ids), 4)
    assert which(held) == [12, 17, 2, 7] # as many as asked, and those of before
    assert sorted(which(rest)) == sorted({*range(20)} - {12, 17, 2, 7, 3, 15, 8})
    assert not torch.isin(rest.ids, held.ids[held.ids >= 0]).any()
    apart, _ = hold_out(replace(numbered(y), ids=torch.arange(20)), 4)
    assert which(apart) == which(hold_out(numbered(y), 4)[0])
    with pytest.warns(UserWarning, match='^every image shares an id with one held out$'):
        hold_out(replace(numbered(y), ids=torch.zeros(20).long()), 4)

def test_names_stay_with_their_images(tmp_path):
    "Ids by name were those of other rows, or an error."
    y = [0, 1, 0, 1, -1, 0]
    images = replace(numbered(y), names=tuple('abcdef'))
    (tmp_path/'t.csv').write_text('name,id\nc,1\nf,1\nb,2\nd,2\n')
    assert labelled(images).names == tuple('abcdf') and choose(images, torch.tensor([5, 0])).names == ('f', 'a')
    rest, held = hold_out(images, 2)
    for part in (rest, held): assert ''.join(part.names) == ''.join('abcdef'[i] for i in which(part))
    assert data.ids_by_name(labelled(images), tmp_path/'t.csv').tolist() == [0, 1, 2, 1, 2]
    assert choose(numbered(y), torch.tensor([1])).names == ()

def test_validation_scores_what_was_held_out():
    cfg = run_of(dataset='digits', validation=50, limit=100)
    seen, held = split_images(cfg)
    bag = lambda d: {x.numpy().tobytes() for x in d.x}
    scored = images_to_score(cfg, 'cpu')
    assert bag(scored) == bag(held) == bag(scored_images(cfg)) and not bag(scored) & bag(seen) and len(seen) == 100
    assert not bag(scored) & bag(load_dataset('digits', 'test'))
    assert bag(images_to_score(replace_config(cfg, validation=None), 'cpu')) == bag(load_dataset('digits', 'test', limit=100))

def replace_config(cfg, **fields):
    import dataclasses
    return cfg.but(dict(**fields))

def test_what_a_run_folder_keeps():
    assert describe(replace(numbered([0, 1, -1]), fingerprint='f')) == {'images': 3, 'labelled': 2, 'classes': ['a', 'b'], 'fingerprint': 'f'}
    cases = {('no training image has a label'): ([-1, -2], [0, 1]), ('the labelled training images are of one class'): ([1, 1, -1], [0, 1]),
             ('no test image has a label'): ([0, 1], [-1, -2]), None: ([0, 1, -1], [0, 0])}
    for why, (train, test) in cases.items(): assert why_unscored(numbered(train), numbered(test)) == why
    assert why_unscored(numbered([0, 1]), numbered([0, -1])) is None

# data sets

def test_digits_are_every_fifth_for_testing_and_on_the_full_scale():
    from sklearn.datasets import load_digits
    x, y = load_digits(return_X_y=True)
    train, test = (load_dataset('digits', s) for s in ('train', 'test'))
    nth = rank_in_class(torch.as_tensor(y))
    assert test.y.equal(torch.as_tensor(y)[nth % 5 == 0]) and train.y.equal(torch.as_tensor(y)[nth % 5 != 0])
    corners = torch.as_tensor(x.reshape(-1, 8, 8)/16*255)[nth % 5 == 0][:, ::7, ::7].round()
    assert (test.x[:, 0, ::27, ::27] - corners).abs().max() <= 1 and test.x.max() == 255 and test.classes == tuple('0123456789')

def test_torchvision_is_asked_for_the_right_part(monkeypatch):
    asked = []
    def stand_in(root, **options):
        asked.append(options)
        n = 3 if options.get('split') == 'unlabeled' else 2
        return SimpleNamespace(data=np.arange(n*3*4*5, dtype=np.uint8).reshape(n, 3, 4, 5), labels=[0, 1, 0][:n], targets=[0, 1], classes=['x', 'y'])
    for cls in ('STL10', 'CIFAR10'): monkeypatch.setattr(tv, cls, stand_in)
    stl, cifar = (from_torchvision(cls, cls.lower(), 'test', 'somewhere') for cls in ('STL10', 'CIFAR10'))
    assert asked == [dict(download=True, split='test'), dict(download=True, train=False)]
    assert stl.x.shape == (2, 3, 4, 5) and stl.x.flatten().tolist() == list(range(120)) and cifar.x.shape == (2, 5, 3, 4)
    both = load_dataset('stl10_all', 'train', 'somewhere')
    assert both.y.tolist() == [0, 1, -1, -2, -3] and len(both.x) == 5 and both.name == 'stl10' and asked[-1]['split'] == 'unlabeled'
    assert from_torchvision('CIFAR10', 'cifar10', 'train', 'x') and asked[-1]['train'] is True
    assert len({both.fingerprint, stl.fingerprint, load_dataset('stl10', 'train', 'somewhere').fingerprint}) == 2

def npz(path, **changed):
    x = np.arange(5*8*8*3, dtype=np.uint8).reshape(5, 8, 8, 3)
    np.savez(path, **(dict(train_images=x, train_labels=np.array([[1], [0], [3], [0], [1]]), test_images=x[::2], test_labels=np.array([2, 0, 1]), val_images=x[:1]) | changed))
    return path

def test_a_file_of_arrays(tmp_path):
    path = npz(tmp_path/'some.npz')
    train, test = (load_dataset('npz', split, path) for split in ('train', 'test'))
    assert train.x.shape == (5, 3, 8, 8) and train.x[4, 2, 7, 6] == (4*192 + 7*24 + 6*3 + 2) % 256 and test.x.equal(train.x[::2])
    assert train.y.tolist() == [1, 0, 3, 0, 1] and test.y.tolist() == [2, 0, 1] and train.name == 'npz'
    assert train.classes == test.classes == tuple('0123') # of both parts: labels mean the same in both
    assert load_dataset('npz', 'test', npz(tmp_path/'b.npz', classes=['a', 'b', 'c', 'd'])).classes == tuple('abcd')
    grey = load_dataset('npz', 'train', npz(tmp_path/'grey.npz', train_images=np.zeros((5, 8, 8, 1), np.uint8)))
    assert grey.x.shape == (5, 1, 8, 8) and grey.fingerprint != train.fingerprint

@pytest.mark.parametrize(('changed', 'sentence'), [
    (dict(train_images=np.zeros((5, 8, 8))), 'train_images must be bytes'), (dict(train_images=np.zeros((5, 8, 9), np.uint8)), 'train_images must be bytes'),
    (dict(train_images=np.zeros((5, 3, 8, 8), np.uint8)), 'train_images must be bytes'), (dict(train_images=np.zeros((5, 8, 8, 8), np.uint8)), 'train_images must be bytes'), (dict(train_labels=np.zeros((5, 2), int)), 'train_labels must be 5 whole'),
    (dict(train_labels=np.zeros(4, int)), 'train_labels must be 5 whole'), (dict(train_labels=np.zeros(5)), 'train_labels must be 5 whole'),
    (dict(train_labels=np.array([0, 1, 2, 0, -1])), 'train_labels must be 5 whole'), (dict(classes=['a', 'b', 'c']), 'classes must be 4 or more names'),
    (dict(train_images=np.array([None]*5)), 'data_root must be a .npz file')])
def test_what_is_no_file_of_images_is_one_sentence(tmp_path, changed, sentence):
    with pytest.raises(ValueError, match=sentence) as e: load_dataset('npz', 'train', npz(tmp_path/'some.npz', **changed))
    assert '\n' not in str(e.value)

@pytest.mark.parametrize(('changed', 'sentence'), [
    (dict(train_labels=np.array([0, 1, 2, 0, -1])), 'train_labels must be 5 whole numbers from 0 to 1048575, one per image, got [-1]'),
    (dict(train_labels=np.array([0, 1, 2, 0, 2**20])), 'train_labels must be 5 whole numbers from 0 to 1048575, one per image, got [1048576]'),
    (dict(test_labels=np.array(list('abc'))), "test_labels must be 3 whole numbers from 0 to 1048575, one per image, got '<U1 (3,)'"),
    (dict(test_labels=np.array([0, 1, 2**40])), 'test_labels must be 3 whole numbers from 0 to 1048575, one per image, got [1099511627776]')])
def test_labels_that_are_no_classes_are_named(tmp_path, changed, sentence):
    "Of either part: words were a traceback, and a large number took all of the memory for names."
    with pytest.raises(ValueError) as e: load_dataset('npz', 'train', npz(tmp_path/'some.npz', **changed))
    assert str(e.value) == sentence

def test_classes_that_only_the_test_images_have_are_told(tmp_path, capsys):
    "They count as wrong whatever an encoder does."
    path = npz(tmp_path/'some.npz', test_labels=np.array([2, 0, 2]), classes=list('abcd'))
    load_dataset('npz', 'train', path)
    assert capsys.readouterr().err == ''
    load_dataset('npz', 'test', path)
    assert capsys.readouterr().err == f'unremix: {path}: 2 of 3 test images are of classes that none trains: c\n'
    load_dataset('npz', 'test', npz(tmp_path/'b.npz', test_labels=np.array([[3], [0], [1]])))
    assert capsys.readouterr().err == ''

SMALL = np.zeros((5, 8, 8), np.uint8)

@pytest.mark.parametrize(('changed', 'sentence'), [
    (dict(test_images=SMALL[:3]), "^images must be of as many pixels and channels in both parts, got {'train': .8, 8, 3., 'test': .8, 8, 1.}$"),
    (dict(train_images=SMALL, test_images=np.zeros((3, 16, 16), np.uint8)), '^images must be of as many pixels'),
    (dict(test_images=SMALL[:0], test_labels=np.zeros(0, int)), '^test_images must be one image or more, unless validation is given, got 0$')])
@pytest.mark.parametrize('split', ['train', 'test'])
def test_parts_of_a_file_that_do_not_fit_are_told_before_training(split, tmp_path, changed, sentence):
    path = str(npz(tmp_path/'some.npz', **changed))
    if split == 'test' and not len(changed['test_images']): sentence = 'test_images must be bytes'
    with pytest.raises(ValueError, match=sentence): load_images(run_of(dataset='npz', data_root=path).data, split, None)
    held = run_of(dataset='npz', data_root=path, validation=2)
    assert len(load_images(held.data, 'train', None)) == 5 # nobody reads the test part

def test_the_other_part_of_a_file_is_not_read(tmp_path, monkeypatch):
    "Its shape is, and sizes may differ where all images get one."
    two = npz(tmp_path/'two.npz', train_images=SMALL, test_images=np.zeros((3, 16, 16, 1), np.uint8))
    sized = run_of(dataset='npz', data_root=str(two), image_size=8).data
    assert [load_images(sized, part, None).x.shape for part in ('train', 'test')] == [(5, 1, 8, 8), (3, 1, 8, 8)]
    asked, real = [], np.lib.npyio.NpzFile.__getitem__
    monkeypatch.setattr(np.lib.npyio.NpzFile, '__getitem__', lambda file, name: asked.append(name) or real(file, name))
    load_images(run_of(dataset='npz', data_root=str(npz(tmp_path/'a.npz'))).data, 'train', None)
    assert 'train_images' in asked and 'test_images' not in asked
    lacks = tmp_path/'lacks.npz'
    np.savez(lacks, train_images=SMALL, train_labels=np.zeros(5, int), test_labels=np.zeros(3, int))
    with pytest.raises(ValueError, match='^data_root must be a .npz file with train_images.*lacks.npz: '): load_images(run_of(dataset='npz', data_root=str(lacks)).data, 'train', None)

def test_a_file_of_arrays_is_asked_for(tmp_path):
    np.savez(tmp_path/'others.npz', images=np.zeros(3))
    np.save(tmp_path/'one.npy', np.zeros(3))
    for path in (None, tmp_path, tmp_path/'none.npz', tmp_path/'others.npz', tmp_path/'one.npy'):
        with pytest.raises(ValueError, match='data_root must be a .npz file with train_images'): load_dataset('npz', 'train', path)

def test_runs_on_two_files_of_arrays_are_two_runs():
    a, b = (run_of(dataset='npz', data_root=path) for path in ('a.npz', 'b.npz'))
    assert run_key(a) != run_key(b) and run_key(run_of(data_root='a')) == run_key(run_of(data_root='b'))

def test_debians_files(monkeypatch, tmp_path):
    def idx(values, shape): return gzip.compress(bytes([0, 0, 8, len(shape)]) + b''.join(n.to_bytes(4, 'big') for n in shape) + bytes(values))
    for part, n in (('train', 3), ('t10k', 2)):
        (tmp_path/f'{part}-images-idx3-ubyte.gz').write_bytes(idx(range(n*6), (n, 2, 3)))
        (tmp_path/f'{part}-labels-idx1-ubyte.gz').write_bytes(idx(range(n), (n,)))
    assert read_idx(tmp_path/'t10k-images-idx3-ubyte.gz').tolist() == [[[0, 1, 2], [3, 4, 5]], [[6, 7, 8], [9, 10, 11]]]
    monkeypatch.setattr(image_sets, 'DEBIAN_FASHION_MNIST', tmp_path)
    train, test = (load_dataset('fashion_mnist', s) for s in ('train', 'test'))
    assert train.y.tolist() == [0, 1, 2] and test.x[1, 0].tolist() == [[6, 7, 8], [9, 10, 11]] and train.classes == image_sets.CLOTHES

# sizes

def test_shrinking_averages():
    "A chessboard becomes grey, not a sample of its fields; edges do not move."
    board = ((torch.arange(32)[:, None] + torch.arange(32)) % 2*255).byte().expand(2, 1, -1, -1)
    small = resize(images(board), 8).x
    assert small.shape == (2, 1, 8, 8) and (small.int() - 127).abs().max() <= 3
    half = torch.zeros(1, 1, 32, 32, dtype=torch.uint8); half[..., 16:] = 200
    assert resize(images(half), 8).x[0, 0, 0, [0, 2, 5, 7]].tolist() == [0, 0, 200, 200]
    assert resize(images(half), 32).x.equal(half) and resize(images(half.expand(2300, -1, -1, -1)), 8).x.shape[0] == 2300

def test_shrinking_rounds():
    "The mean of 254 and 255 over halves is 254.5: never 253."
    x = torch.full((1, 1, 16, 16), 255, dtype=torch.uint8)
    x[..., ::2] = 254
    assert set(resize(images(x), 8).x.unique().tolist()) <= {254, 255}

def test_a_file_is_cut_in_the_middle_and_shrunk_by_averaging(tmp_path):
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, :10, 0] = wide[:, 10:20, 1] = wide[:, 20:, 2] = 255
    for name, stored in (('wide', wide), ('high', wide.transpose(1, 0, 2))):
        Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path/f'{name}.png')
        assert (read_square(tmp_path/f'{name}.png', 10) == [0, 255, 0]).all()
    board = (np.indices((32, 32)).sum(0) % 2*255).astype(np.uint8)
    Image.fromarray(board).save(tmp_path/'board.png')
    assert np.abs(read_square(tmp_path/'board.png', 8)[1:-1, 1:-1].astype(int) - 127).max() <= 2
    ramp = np.broadcast_to(np.arange(0, 256, 32, dtype=np.uint8), (8, 8))
    Image.fromarray(np.ascontiguousarray(ramp)).save(tmp_path/'ramp.png')
    assert read_square(tmp_path/'ramp.png', 16)[8, 1:15, 0].tolist() == pytest.approx([32*((i + .5)/2 - .5) for i in range(1, 15)], abs=1) # bilinear

# views

def only(**changes):
    "A recipe of one change."
    still = dict(crop=1., flip=False, jitter=0., hue=0., grey=0., blur=0.)
    return Recipe(**still | changes)

def view(x, recipe, strength=1., seed=0):
    torch.manual_seed(seed)
    x = torch.as_tensor(x, dtype=torch.float32)
    return torch.nn.Sequential(*augmentations(x.shape[-1], x.shape[1], recipe, strength))(x)

def test_nothing_changes_without_changes():
    x = torch.rand(8, 3, 9, 9)
    assert_close(view(x, only()), x, atol=2e-3, rtol=0)
    assert_close(view(x[:, :1], only()), x[:, :1], atol=1e-5, rtol=0)

def test_flips_are_half_and_left_to_right():
    x = torch.rand(1, 1, 9, 9).expand(400, -1, -1, -1)
    seen = view(x, only(flip=True))
    mirrored = (seen - x.flip(3)).abs().amax((1, 2, 3)) < 1e-5
    assert ((seen - x).abs().amax((1, 2, 3)) < 1e-5).logical_or(mirrored).all() and .4 < mirrored.float().mean() < .6

@pytest.mark.parametrize('crop,strength,smallest', [(.5, 1., .5), (.08, 1., .08), (.5, .5, .75), (.08, 2., .05), (.08, 0., 1.)])
def test_crops_keep_the_share_that_the_recipe_says(crop, strength, smallest):
    "On two ramps, the first and last values of a crop tell where it lies."
    n, size = 500, 65
    ramp = torch.linspace(0, 1, size)
    x = torch.stack([ramp.expand(size, -1), ramp[:, None].expand(-1, size), ramp.expand(size, -1)]).expand(n, -1, -1, -1)
    seen = view(x, only(crop=crop), strength)
    width, height = ((seen[:, c].amax((1, 2)) - seen[:, c].amin((1, 2))) for c in (0, 1))
    area = width*height
    centre = torch.stack([seen[:, c].mean((1, 2)) for c in (0, 1)])
    assert area.min() > smallest*.85 - .02 and area.max() > .85
    if smallest == 1: return assert_close(seen, x, atol=2e-3, rtol=0)
    assert area.min() < smallest + .15 and (centre.mean(1) - .5).abs().max() < .03 and centre.std(1).min() > .03 # anywhere, not in the middle
    assert (width/height).log().std() > .1 # of other proportions too

@pytest.mark.parametrize('strength', [.5, 1.])
def test_brightness_and_contrast_of_one_channel(strength):
    "On a plain grey, brightness adds and contrast multiplies; a fifth each is left alone."
    j, plain = .4*strength, torch.full((1000, 1, 4, 4), .5)
    by_kind = {type(op): op for op in augmentations(4, 1, only(jitter=.4), strength)}
    torch.manual_seed(0)
    for kind, low, high in ((K.RandomBrightness, .5 - j, .5 + j), (K.RandomContrast, .5*(1 - j), .5*(1 + j))):
        seen = by_kind[kind](plain)[:, 0, 0, 0]
        same = ((seen - .5).abs() < 1e-6).float().mean()
        assert .15 < same < .25 and low - 1e-5 <= seen.min() < low + .03 and high - .03 < seen.max() <= high + 1e-5

def test_jitter_of_colours():
    grey = torch.full((1000, 3, 4, 4), .5)
    seen = view(grey, only(jitter=.4))[:, 0, 0, 0]
    assert .15 < ((seen - .5).abs() < 1e-3).float().mean() < .25 # .8 of them
    assert .299 < seen.min() < .32 and .68 < seen.max() < .701 # brightness multiplies; contrast leaves a plain grey
    tones = torch.full((1000, 3, 4, 4), .3); tones[..., ::2] = .5
    seen = view(tones, only(jitter=.4))[:, 0, 0]
    contrast = (seen[:, 0] - seen[:, 1])/seen.mean(1)*2 # brightness cancels
    assert .59 < contrast.min() < .65 and 1.35 < contrast.max() < 1.41
    pale = torch.tensor([.5, .4, .4])[:, None, None].expand(1000, -1, 4, 4)
    seen = view(pale, only(jitter=.4)).amax((2, 3))
    saturation = 1 - seen.amin(1)/seen.amax(1) # contrast alone: .13 to .27
    assert saturation.min() < .11 and saturation.max() > .31
    red = torch.tensor([.8, .2, .2])[:, None, None].expand(1000, -1, 4, 4)
    turned = view(red, only(hue=.1))[:, :, 0, 0]
    assert .15 < ((turned - red[:, :, 0, 0]).abs().amax(1) < 1e-3).float().mean() < .25 and (turned.amax(1) - .8).abs().max() < 1e-3
    assert .25 < (turned[:, 1] - turned[:, 2]).max() < .4 # a tenth of a turn is .6 of the way to yellow
    assert (view(red, only(hue=.1), 0.) - red).abs().max() < 1e-3

def test_a_fifth_loses_its_colours():
    red = torch.tensor([.8, .2, .1])[:, None, None].expand(1000, -1, 4, 4)
    for strength, share in ((1., .2), (2., .4), (0., 0.)):
        lost = view(red, only(grey=.2), strength).std(1).amax((1, 2)) < 1e-3
        assert abs(lost.float().mean() - share) < .05

def test_blur_spreads_a_point_over_its_neighbours():
    point = torch.zeros(600, 3, 7, 7); point[:, :, 3, 3] = 1
    seen = view(point, only(blur=1.))
    assert_close(seen.sum((2, 3)), torch.ones(600, 3), atol=1e-3, rtol=0)
    inside = torch.zeros(7, 7, dtype=torch.bool); inside[2:5, 2:5] = True
    assert seen[..., ~inside].abs().max() < 1e-4 and seen[:, 0, 3, 3].min() < .2 and seen[:, 0, 3, 3].max() > .99 # sigma from .1 to 2
    for strength, share in ((1., .5), (.5, .25), (0., 0.)):
        touched = (view(point, only(blur=.5), strength)[:, 0, 3, 3] - 1).abs() > 1e-3
        assert abs(touched.float().mean() - share*.9) < .07 # a tenth is blurred too little to see

def test_recipes_are_those_of_the_methods():
    assert (COLOUR.crop, COLOUR.flip, COLOUR.jitter, COLOUR.hue, COLOUR.grey, COLOUR.blur) == (.08, True, .4, .1, .2, .5)
    assert Recipe() == Recipe(.5, True, .4, .1, .2, 0.)
    assert {k: RECIPES.get(k, Recipe()) for k in data.DATASETS} == dict(
        fashion_mini=Recipe(), fashion_mnist=Recipe(), digits=Recipe(flip=False), mnist=Recipe(flip=False), imagefolder=COLOUR, npz=COLOUR,
        cifar10=COLOUR, cifar100=COLOUR, stl10=COLOUR, stl10_all=Recipe())

def test_plain_images_are_normalised_by_their_own_statistics():
    x = torch.zeros(4, 3, 8, 8, dtype=torch.uint8); x[2:, 0] = 255; x[:, 1] = 51
    augment = Augment.for_images(images(x))
    assert_close(augment.mean.flatten(), torch.tensor([.5, .2, 0.]))
    assert_close(augment.std.flatten(), torch.tensor([.5*(256/255)**.5, 1e-3, 1e-3]), rtol=1e-3, atol=1e-6)
    assert_close(augment.plain(x)[0, 0], torch.full((8, 8), -.5/augment.std[0].item()))
    same = Augment(8, torch.tensor([.5]), torch.tensor([.25]), only())
    assert_close(same(x[:, :1]), same.plain(x[:, :1]), atol=1e-5, rtol=0)
    assert_close(same.plain(x[2:3, :1]), torch.full((1, 1, 8, 8), 2.))

def test_the_recipe_of_a_data_set_is_used():
    for name, flips, blurs in (('digits', 0, 0), ('cifar10', 1, 1), ('fashion_mini', 1, 0)):
        ops = list(Augment.for_images(images(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), name=name)).random)
        assert [sum(isinstance(op, kind) for op in ops) for kind in (K.RandomHorizontalFlip, K.RandomGaussianBlur)] == [flips, blurs]

def test_two_views_of_every_image_in_order():
    x = (torch.arange(6, dtype=torch.uint8)*40)[:, None, None, None].expand(-1, 1, 8, 8).contiguous()
    x[:, :, :, 4:] = 255
    augment = Augment(8, torch.zeros(1), torch.ones(1), only(flip=True))
    torch.manual_seed(0)
    a, b = two_views(x, augment)
    for seen in (a, b): assert_close(seen.amin((1, 2, 3))*255, torch.arange(6.)*40, atol=.01, rtol=0)
    assert (a != b).flatten(1).any(1).any() and a.shape == x.shape # independent
