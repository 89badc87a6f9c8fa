"No image, pixel or tensor is passed over without a word, and a damaged file is one sentence."

import hashlib
import io

import numpy as np
import PIL
import pytest
import torch
from PIL import Image

from unremix.augmentation import Augment
from unremix.decoded_images import load_decoded
from unremix.embed_folder import encoder_of, gather_shards
from unremix.embedding_files import list_images, load_embeddings, save_shard
from unremix.encoders import make_encoder
from unremix.image_parts import survey
from unremix.image_sets import Images, load_npz
from unremix.own_images import load_imagefolder


def picture(path, grey=90):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', (8, 8), (grey,) * 3).save(path)


def pictures(folder, count):
    for i in range(count):
        picture(folder / f'{i:02}.png', i)


# ------------------------------------------------- mean and standard deviation


class Shape(torch.Tensor):
    "A tensor that takes itself for a larger one, so that a share of it is taken."

    times = 8

    def numel(self):
        return 2**25 * self.times


def statistics(x):
    augment = Augment.for_images(Images(x, torch.zeros(len(x)), (), 'npz'))
    return augment.mean.flatten(), augment.std.flatten()


@pytest.mark.parametrize('classes', (2, 4, 8, 10))
def test_statistics_are_of_all_classes_where_they_take_turns(classes):
    "As after `limit` and `validation`: dark, less dark, …, bright, dark, …"
    grey = torch.linspace(0, 255, classes).byte()
    turns = grey[torch.arange(8000) % classes][:, None, None, None].repeat(1, 3, 2, 2)
    mean, std = statistics(turns.as_subclass(Shape))
    whole = turns.float() / 255
    assert (mean - whole.mean()).abs().max() < 0.05
    assert (std - whole.std()).abs().max() < 0.05


def test_statistics_are_the_same_each_time_and_of_an_eighth():
    seen = []

    class Seen(Shape):
        def __getitem__(self, places):
            seen.append(places)
            return self.as_subclass(torch.Tensor)[places]

    torch.manual_seed(0)
    x = torch.randint(0, 256, (800, 1, 2, 2)).byte()
    before = torch.random.get_rng_state()
    first = statistics(x.as_subclass(Seen))
    torch.manual_seed(1)
    second = statistics(x.as_subclass(Seen))
    assert all(a.equal(b) for a, b in zip(first, second))
    torch.manual_seed(0)
    torch.randint(0, 256, (800, 1, 2, 2))
    statistics(x.as_subclass(Seen))
    assert torch.random.get_rng_state().equal(before)  # no number of others is used
    places = seen[0].tolist()
    assert len(places) == 100 and places == sorted({*places})


def test_statistics_of_few_large_images(monkeypatch):
    "Even where a share would be less than one image."
    monkeypatch.setattr(Shape, 'times', 9)
    x = torch.arange(48).byte().view(4, 3, 2, 2)
    assert statistics(x.as_subclass(Shape))[0].isfinite().all()


# ------------------------------------------------------------- decoded images


def same_images(disk, held):
    assert disk.names == held.names and disk.y.equal(held.y)
    assert disk.x[:].equal(held.x) and disk.fingerprint == held.fingerprint


@pytest.mark.parametrize('limit', (20, 7))
def test_files_outside_the_limit_come_and_go(limit, tmp_path):
    root, kept = tmp_path / 'photos', tmp_path / 'kept'
    for part, count in {'train': 15, 'test': 2}.items():
        for name, grey in {'a': 10, 'b': 150}.items():
            for i in range(count):
                picture(root / part / name / f'{i:02}.png', grey + i)
    (root / 'train' / 'b' / '02.png').write_bytes(b'no image')

    def look():
        disk = load_decoded('train', root, kept, 8, limit)
        same_images(disk, load_imagefolder('train', root, 8, limit))
        return disk.x.path.stat().st_mtime_ns

    made = look()
    for i in range(90, 96):
        picture(root / 'train' / 'a' / f'{i}.png')
        assert look() == made  # the same images: nothing is decoded again
    (root / 'train' / 'a' / '14.png').unlink()
    assert look() == made


def test_what_an_earlier_release_says_is_not_read(tmp_path):
    "Its json has places in the list of the folder under the same word."
    pictures(tmp_path / 'train', 5)
    pictures(tmp_path / 'test', 2)
    path = load_decoded('train', tmp_path, tmp_path / 'kept', 8).x.path
    stored = load_imagefolder('train', tmp_path, 8).fingerprint
    whole = f'{stored} 8 Pillow {PIL.__version__}'
    assert path.stem != hashlib.sha256(whole.encode()).hexdigest()[:16]


# ------------------------------------------------------------ whole patches


@pytest.mark.parametrize(
    'name,size,patch',
    [
        ('vit_tiny_patch16_224', 28, 16),
        ('vit_tiny_patch16_224', 40, 16),
        ('convmixer_768_32', 32, 7),
        ('convnext_atto', 45, 4),
        ('pit_ti_224', 28, 8),
    ],
)
def test_a_rest_that_no_patch_holds_is_refused(name, size, patch):
    pytest.importorskip('timm', reason='timm is not installed')
    words = f"image_size must be a multiple of {patch} for 'timm:{name}', got {size}"
    with pytest.raises(ValueError, match=words):
        make_encoder('timm:' + name, 1, size)


@pytest.mark.parametrize(
    'name,size',
    [
        ('vit_tiny_patch16_224', 32),
        ('convnext_atto', 48),
        ('pit_ti_224', 24),
        ('resnet10t', 29),
        ('pvt_v2_b0', 32),
    ],
)
def test_every_pixel_is_seen(name, size):
    pytest.importorskip('timm', reason='timm is not installed')
    torch.manual_seed(0)
    net = make_encoder('timm:' + name, 1, size).eval()
    x = torch.rand(2, 1, size, size, requires_grad=True)
    net(x).square().sum().backward()
    assert (x.grad.abs().sum((0, 1)) > 0).all()


# ------------------------------------------------ what is beside the parts


def test_a_folder_of_classes_with_one_called_train(tmp_path):
    for name in ('bus', 'car', 'train'):
        pictures(tmp_path / name, 3)
    found = list_images(tmp_path)
    assert len(found) == 9 and set(found.parts) == {''}
    assert found.labels == [name.split('/')[0] for name in found.names]
    assert set(list_images(tmp_path, labels=False).labels) == {''}


def test_folders_beside_the_parts_are_listed(tmp_path):
    for where in ('train/cat', 'train/dog', 'test/cat', 'extra/cat', 'more'):
        pictures(tmp_path / where, 2)
    pictures(tmp_path / 'unlabeled', 2)
    picture(tmp_path / 'own.png')
    found = list_images(tmp_path)
    told = set(zip(found.names, found.labels, found.parts, strict=True))
    assert len(found) == 13 == len(set(found.names))
    assert ('extra/cat/01.png', 'cat', 'extra') in told
    assert ('more/00.png', '', 'more') in told
    assert ('own.png', '', '') in told
    assert ('unlabeled/00.png', '', 'train') in told
    assert ('test/cat/00.png', 'cat', 'test') in told


def test_what_does_not_train_is_told(tmp_path):
    for name in ('bus', 'car', 'train'):
        pictures(tmp_path / name, 4)
    picture(tmp_path / 'own.png')
    notes = survey(tmp_path).notes
    words = f'{tmp_path}: images beside train are left out: bus (4), car (4), . (1)'
    assert [note for note in notes if 'beside train' in note] == [words]


def test_many_folders_beside_the_parts_are_one_line(tmp_path):
    for name in ('train', *'abcdefgh'):
        pictures(tmp_path / name, 4)
    (note,) = [note for note in survey(tmp_path).notes if 'beside train' in note]
    assert note.endswith(': a (4), b (4), c (4), d (4), e (4), …')


def test_an_image_is_not_beside_itself(tmp_path):
    "Folders without images, hidden ones, and other ways to the images of a part."
    pictures(tmp_path / 'all', 4)
    (tmp_path / 'train').mkdir()
    for path in (tmp_path / 'all').iterdir():
        (tmp_path / 'train' / path.name).symlink_to(path)
    pictures(tmp_path / 'test', 2)
    pictures(tmp_path / 'unlabeled', 2)
    pictures(tmp_path / '.cache', 2)
    (tmp_path / 'latest').symlink_to(tmp_path / 'train')
    (tmp_path / 'lists').mkdir()
    (tmp_path / 'lists' / 'a.txt').write_text('x')
    assert len(list_images(tmp_path)) == 8
    assert not [note for note in survey(tmp_path).notes if 'beside train' in note]


def test_beside_the_parts_of_the_folder_that_one_is_in(tmp_path, monkeypatch):
    pictures(tmp_path / 'train' / 'cat', 4)
    pictures(tmp_path / 'extra', 4)
    monkeypatch.chdir(tmp_path)
    for root in ('.', '../' + tmp_path.name):
        assert len(list_images(root)) == 8
        assert [n for n in survey(root).notes if n.endswith('left out: extra (4)')]


# --------------------------------------------------- weights of a timm model


@pytest.fixture
def published():
    timm = pytest.importorskip('timm', reason='timm is not installed')
    torch.manual_seed(0)
    return timm.create_model('resnet10t').state_dict()  # with its 1,000 classes


def test_published_weights_may_hold_the_classifier(published, tmp_path):
    path = tmp_path / 'w.pth'
    for whole in (
        published,
        {'state_dict': {'module.' + k: x for k, x in published.items()}},
    ):
        torch.save(whole, path)
        encoder = encoder_of('resnet10t', path)
        assert encoder.out_dim == 512
        for name, x in encoder.net.state_dict().items():
            assert x.equal(published[name])


def test_weights_that_are_refused_name_the_argument(published, tmp_path):
    path = tmp_path / 'w.pth'
    begin = f'^weights={str(path)!r} '
    some = {k: x for k, x in published.items() if k != 'layer1.0.conv1.weight'}
    torch.save(some, path)
    with pytest.raises(ValueError, match=begin + 'does not hold this encoder'):
        encoder_of('resnet10t', path)
    nan = published | {'conv1.0.weight': published['conv1.0.weight'] * float('nan')}
    torch.save(nan, path)
    with pytest.raises(ValueError, match=begin + 'has numbers .* not finite'):
        encoder_of('resnet10t', path)
    torch.save({'a.' + k: x for k, x in published.items()} | published, path)
    with pytest.raises(ValueError, match='^weights must be a file with one such'):
        encoder_of('resnet10t', path)
    path.write_bytes(b'')
    with pytest.raises(ValueError, match=begin + 'could not be had .*another file'):
        encoder_of('resnet10t', path)


# ------------------------------------------------------------- damaged files


def damaged(raw):
    "The file cut at many places, and with one byte changed at many places."
    yield b''
    for i in range(0, len(raw), 3):
        yield raw[:i]
        for byte in (0, 255, raw[i] ^ 1):
            yield raw[:i] + bytes([byte]) + raw[i + 1 :]


def in_file(save, **arrays):
    file = io.BytesIO()
    save(file, **arrays) if arrays else save(file)
    return file.getvalue()


def refused(path, raw, load):
    "How many damaged forms of a file are refused; none in another way."
    count = 0
    for form in damaged(raw):
        path.write_bytes(form)
        try:
            load(path)
        except ValueError as e:
            assert str(e).strip()[-1] != ':'  # it says why
            count += 1
    return count


H = np.ones((3, 2), np.float32)


@pytest.mark.parametrize('save', (np.savez, np.savez_compressed))
def test_damaged_embeddings(save, tmp_path):
    raw = in_file(save, h=H)
    assert refused(tmp_path / 'a.npz', raw, load_embeddings) > 50


def test_damaged_plain_embeddings(tmp_path):
    raw = in_file(lambda file: np.save(file, H))
    assert refused(tmp_path / 'a.npy', raw, load_embeddings) > 50


def test_damaged_images_in_npz(tmp_path):
    x, y = np.zeros((2, 8, 8), np.uint8), np.arange(2)
    parts = dict(train_images=x, train_labels=y, test_images=x, test_labels=y)
    raw = in_file(np.savez_compressed, **parts)
    count = refused(tmp_path / 'a.npz', raw, lambda path: load_npz('train', path))
    assert count > 50


def test_a_damaged_shard(tmp_path):
    pictures(tmp_path / 'flat', 2)
    images, path = list_images(tmp_path / 'flat'), tmp_path / '000000.npz'
    save_shard(path, H[:2], [0, 1])
    assert gather_shards(images, tmp_path)['h'].tolist() == H[:2].tolist()
    for form in (b'', path.read_bytes()[:100]):
        path.write_bytes(form)
        words = r"000000.npz' cannot be read .*remove it, and start the same command"
        with pytest.raises(ValueError, match=words):
            gather_shards(images, tmp_path)
