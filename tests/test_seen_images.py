"Reading, decoding and holding images; each was first missed by a mutant."
import pytest
import torch
from PIL import Image

from test_decoded_images import here, photos  # noqa: F401
from unremix import decoded_images, image_parts, machine
from unremix.data import load_dataset, resize
from unremix.decoded_images import load_decoded
from unremix.image_folder import read_part
from unremix.image_parts import survey
from unremix.image_sets import Images
from unremix.image_task import pixels_of
from unremix.own_images import keep_images
from unremix.safe_files import FolderInUse


# ---- tests/test_decoded_images.py

def test_another_process_may_decode_for_hours(here, monkeypatch):
    "It is waited for: a day at least, a twentieth of a second at a time."
    root, kept = here
    asked, real = [], decoded_images.hold
    def hold(path, what, *tries):
        asked.append(tries)
        if len(asked) == 1: raise FolderInUse('held')
        return real(path, what)
    monkeypatch.setattr(decoded_images, 'hold', hold)
    load_decoded('train', root, kept, 8)
    assert asked[0] == () and asked[1][0]*.05 > 24*3600


def test_what_others_are_writing_is_left(here):
    "A process that decodes other images into the same folder."
    root, kept = here
    kept.mkdir()
    theirs = kept/'0123456789abcdef.pixels.0123.part'
    theirs.write_bytes(b'half')
    load_decoded('train', root, kept, 8)
    assert theirs.read_bytes() == b'half'


# ---- tests/test_image_files.py

def dot(path, grey=90):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('L', (8, 8), grey).save(path)


def test_images_are_in_the_order_of_class_folder_and_name(tmp_path):
    "The files of a folder, then those of the folders in it: the fingerprints of older runs are of this order."
    for name in ('b/0.png', 'a/z.png', 'a/in/a.png', 'a/b.png', 'c.png', 'a/in/deep/0.png', 'a.b/0.png'): dot(tmp_path/name)
    found = [path.removeprefix(f'{tmp_path}/') for path in read_part(tmp_path).paths]
    assert found == ['a/b.png', 'a/z.png', 'a/in/a.png', 'a/in/deep/0.png', 'a.b/0.png', 'b/0.png', 'c.png']


def test_of_two_links_the_first_one_counts(tmp_path):
    "And with it the class of the image; links to folders as well as to files."
    for name in ('0.png', 'more/1.png'): dot(tmp_path/'pool'/name)
    for name in 'ab':
        (tmp_path/'train'/name).mkdir(parents=True)
        (tmp_path/'train'/name/'0.png').symlink_to(tmp_path/'pool'/'0.png')
        (tmp_path/'train'/name/'more').symlink_to(tmp_path/'pool'/'more')
    part = read_part(tmp_path/'train')
    assert part.labels == ['a', 'a'] and part.skipped == {'linked twice': ['b/0.png', 'b/more']}


# ---- tests/test_folders.py

def test_of_two_parts_with_labels_test_is_scored(tmp_path):
    for part, count in {'train': 4, 'validation': 2, 'valid': 2, 'val': 2, 'test': 3}.items():
        for i in range(count): dot(tmp_path/part/'cat'/f'{i}.png')
        assert part == 'train' or survey(tmp_path).test.folder == tmp_path/part


@pytest.mark.parametrize('environ, says', [({}, True), (dict(RANK='0', LOCAL_RANK='0'), True), (dict(RANK='2', LOCAL_RANK='0'), False), (dict(LOCAL_RANK='1'), False)], ids=str)
def test_the_first_process_of_all_machines_says_it(environ, says, monkeypatch, capsys):
    for name in ('RANK', 'LOCAL_RANK'): monkeypatch.delenv(name, raising=False)
    for name, value in environ.items(): monkeypatch.setenv(name, value)
    image_parts.tell.cache_clear()
    image_parts.tell('a note')
    assert capsys.readouterr().err == 'unremix: a note\n'*says


def test_that_nothing_will_be_scored_is_told_at_the_start(tmp_path, capsys):
    from configs import run_of
    from unremix.run_folder import look
    for i in range(8): dot(tmp_path/f'{i}.png', 9*i)
    image_parts.tell.cache_clear()
    look(run_of(dataset='imagefolder', data_root=str(tmp_path), image_size=8, batch_size=2))
    assert 'unremix: no training image has a label: accuracies and false negatives are left out' in capsys.readouterr().err.splitlines()


# ---- tests/test_data_exact.py

def test_colours_need_three_times_the_memory(monkeypatch):
    three, one = (Images(torch.zeros(2, c, 8, 8, dtype=torch.uint8), torch.zeros(2).long(), (), 'x') for c in (3, 1))
    monkeypatch.setattr(machine, 'free_memory', lambda: 2*3*64**2 - 1)
    assert len(resize(one, 64)) == 2
    with pytest.raises(ValueError, match='2 images at image_size=64 need'): resize(three, 64)


def test_what_is_held_is_what_was_asked_for(tmp_path):
    "Whatever argument differs, others are read."
    with keep_images():
        digits = load_dataset('digits', 'test', None, 20)
        assert load_dataset('digits', 'test', None, 20) is digits
        assert load_dataset('digits', 'test', None, 20, 16).x.shape[-1] == 16
        assert len(load_dataset('digits', 'test', None, 30)) == 30 and len(load_dataset('digits', 'train', None, 20).x) == 20
        root = photos(tmp_path/'photos', 2)
        held = load_dataset('imagefolder', 'train', root, None, 8)
        assert isinstance(held.x, torch.Tensor) and not isinstance(load_dataset('imagefolder', 'train', root, None, 8, tmp_path/'kept').x, torch.Tensor)


def test_raw_pixels_are_at_most_32_a_side():
    for size, side in ((16, 16), (32, 32), (33, 32), (64, 32)):
        images = Images(torch.zeros(2, 3, size, size, dtype=torch.uint8), torch.zeros(2).long(), (), 'x')
        assert pixels_of(images).shape == (2, 3*side**2)
