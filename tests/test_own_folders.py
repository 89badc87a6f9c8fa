"Somebody's own folders, tables, embeddings, texts and graphs: what was moved, misspelt, stored as bytes, or written by Excel."

import csv
import io
import os
import sys
from types import ModuleType

import networkx as nx
import numpy as np
import pytest
import torch
from PIL import Image

from configs import run_of
from unremix import graph_encoder, own_images
from unremix.audit import audit, audit_page
from unremix.audit_lists import Audited, audit_lists, image_table
from unremix.data import load_dataset
from unremix.decoded_images import load_decoded
from unremix.embed_folder import embed_folder
from unremix.embedding_files import list_images, load_embeddings
from unremix.findings import doubt
from unremix.graph_data import from_networkx, graph_set, load_graphs, pack
from unremix.image_files import DatasetMissing
from unremix.image_folder import read_part
from unremix.image_parts import survey
from unremix.image_sets import load_npz, to_images
from unremix.kept_encoder import load_encoder
from unremix.own_images import ImageFiles, fingerprint_of_files, load_imagefolder
from unremix.run_folder import split_samples
from unremix.suspects import nearest_others
from unremix.text_data import TextPairs, words_of
from unremix.text_task import own_sentences
from unremix.train import train


def photos(folder, count, seed=0, size=16):
    "Noise, no two alike."
    draw = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        pixels = draw.integers(0, 255, (size, size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f'{i:02}.png')
    return folder


# ---------------------------------------------------------------- a folder that moved


def page_of(out):
    return (out / 'audit.html').read_text(encoding='utf-8')


@pytest.fixture
def with_copy(tmp_path):
    "Twenty pictures, and the first of them stored again with less quality."
    folder = photos(tmp_path / 'photos', 20)
    Image.open(folder / '00.png').save(folder / 'copy.jpeg', quality=95)
    return folder


def test_an_audit_looks_at_the_folder_that_it_is_given(with_copy, tmp_path):
    "Also where it was audited under another path, and where others lie there now."
    out, moved = tmp_path / 'out', tmp_path / 'elsewhere'
    ask = lambda folder: audit(folder, out, model='pretrained', progress=False)
    assert ask(with_copy)['copies'] == 1
    first = (out / 'pairs.csv').read_bytes(), page_of(out)
    with_copy.rename(moved)
    for others in (False, True):
        if others:
            photos(with_copy, 20, seed=1)
            photos(with_copy, 1, seed=2)
            (with_copy / '00.png').rename(with_copy / 'copy.jpeg')
        assert ask(moved)['copies'] == 1
        now = (out / 'pairs.csv').read_bytes(), page_of(out)
        assert now[0] == first[0] and 'data:image/' in now[1]
        assert now[1].replace('elsewhere', 'photos') == first[1]


def folder_of(path):
    return load_embeddings(path)['about']['folder']


@pytest.mark.parametrize('ending', ('npz', 'parquet'))
def test_embeddings_follow_their_folder(ending, with_copy, tmp_path):
    if ending == 'parquet':
        pytest.importorskip('pyarrow', reason='pyarrow is not installed')
    file, moved = tmp_path / f'e.{ending}', tmp_path / 'elsewhere'
    embed_folder('pretrained', with_copy, file, progress=False)
    before = load_embeddings(file)
    with_copy.rename(moved)
    about = embed_folder('pretrained', moved, file, progress=False)
    assert about['folder'] == folder_of(file) == str(moved.resolve())
    assert about == before.pop('about') | {'folder': str(moved.resolve())}
    after = load_embeddings(file)
    assert all(np.array_equal(after[k], x) for k, x in before.items())
    audit(file, tmp_path / 'out')
    assert 'data:image/' in page_of(tmp_path / 'out')


def test_a_source_that_is_not_there_is_named(tmp_path):
    for model in ('pretrained', None):
        with pytest.raises(ValueError, match="^source must be a folder of .*'phtos'$"):
            audit('phtos', tmp_path / 'out', model=model)
    np.save(tmp_path / 'e.npy', np.eye(4))
    with pytest.raises(ValueError, match="^model must be None for a file of embedd"):
        audit(tmp_path / 'e.npy', tmp_path / 'out', model='pretrained')
    assert not (tmp_path / 'out').exists()


def test_a_picture_may_be_there_many_times(tmp_path):
    "Of thirteen files with the same bytes, most pairs were called false negatives."
    photos(tmp_path / 'train', 39, seed=1)
    source = photos(tmp_path / 'source', 1) / '00.png'
    for part, count in (('train', 9), ('test', 4)):
        (tmp_path / part).mkdir(exist_ok=True)
        for i in range(count):
            (tmp_path / part / f'same{i}.png').write_bytes(source.read_bytes())
    source.unlink()
    found = audit(tmp_path, tmp_path / 'out', model='pretrained', progress=False)
    assert found['copies'] == 78 and found['copies across parts'] == 36
    with open(tmp_path / 'out' / 'pairs.csv', newline='') as f:
        same = [row for row in csv.DictReader(f) if row['kind'] == 'same']
    assert not [x for x in same if 'same' in x['name_a'] and 'same' in x['name_b']]


# ---------------------------------------------------------------- told before decoding


@pytest.fixture
def unread(tmp_path, monkeypatch):
    "Twelve images of two classes that nobody may open."
    for name in ('cat', 'dog'):
        photos(tmp_path / 'photos' / 'train' / name, 6)
        photos(tmp_path / 'photos' / 'test' / name, 2)
    monkeypatch.setattr(own_images, 'read_square', lambda *a: pytest.fail('opened'))
    return tmp_path


TABLES = {
    'columns name and id': 'image,id\ntrain/cat/00.png,1\n',
    'names images of data_root': 'name,id\ncat/00.png,1\n',
    'in UTF-8': b'name,id\ncaf\xe9.png,1\n',
}


@pytest.mark.parametrize('words', TABLES)
@pytest.mark.parametrize('kept', (True, False), ids=('on disk', 'in memory'))
def test_a_table_of_ids_is_read_before_the_images(words, kept, unread):
    text = TABLES[words]
    table = unread / 't.csv'
    table.write_bytes(text if isinstance(text, bytes) else text.encode())
    cfg = run_of(
        dataset='imagefolder',
        data_root=str(unread / 'photos'),
        sample_ids=str(table),
        decode_to=str(unread / 'scratch') if kept else None,
    )
    with pytest.raises(ValueError, match=f'^sample_ids must be .*{words}'):
        split_samples(cfg)
    table.unlink()
    with pytest.raises(ValueError, match='^sample_ids must be a .csv or .parquet'):
        split_samples(cfg)
    assert not (unread / 'scratch').exists()


def test_missing_pyarrow_is_told_before_the_images(unread, monkeypatch):
    monkeypatch.setitem(sys.modules, 'pyarrow.parquet', None)
    (unread / 't.parquet').write_bytes(b'PAR1')
    folder = dict(dataset='imagefolder', data_root=str(unread / 'photos'))
    with pytest.raises(ValueError, match='parquet needs pyarrow'):
        split_samples(run_of(**folder, sample_ids=str(unread / 't.parquet')))


def test_too_many_held_out_are_told_before_the_images(unread):
    folder = dict(dataset='imagefolder', data_root=str(unread / 'photos'))
    words = '^validation must be a whole number from 1 to 11, .* got 12$'
    with pytest.raises(ValueError, match=words):
        split_samples(run_of(**folder, validation=12))


def test_what_fits_is_read_as_before(unread, monkeypatch):
    monkeypatch.undo()
    table = unread / 't.csv'
    table.write_text('name,id\ntrain/cat/00.png,1\ntrain/dog/05.png,1\n')
    folder = dict(dataset='imagefolder', data_root=str(unread / 'photos'))
    cfg = run_of(**folder, image_size=8, sample_ids=str(table), validation=2)
    rest, held = split_samples(cfg)
    assert len(rest) == 10 and len(held) == 2
    assert len(split_samples(cfg.but({'validation': None}))[0].ids.unique()) == 11


# ---------------------------------------------------------------- names of parts


@pytest.mark.parametrize('train, test', [('Train', 'Test'), ('TRAIN', 'Val')])
def test_parts_in_any_case_of_letters(train, test, tmp_path):
    for name in ('cat', 'dog'):
        photos(tmp_path / train / name, 4)
        photos(tmp_path / test / name, 2)
    found = survey(tmp_path)
    assert found.classes == ('cat', 'dog') and not found.notes
    assert len(found.train) == 8 and len(found.test) == 4
    listed = list_images(tmp_path)
    assert {*listed.parts} == {'train', test.lower()}
    assert {*listed.labels} == {'cat', 'dog'}


def test_a_test_part_in_capitals_is_scored(tmp_path):
    photos(tmp_path / 'train' / 'cat', 4)
    photos(tmp_path / 'Test' / 'cat', 2)
    assert survey(tmp_path).test.folder == tmp_path / 'Test'


def test_a_train_beside_cars_is_a_class(tmp_path):
    for name in ('Bus', 'Car', 'Train'):
        photos(tmp_path / name, 4)
    assert survey(tmp_path).classes == ('Bus', 'Car', 'Train')
    assert {*list_images(tmp_path).labels} == {'Bus', 'Car', 'Train'}


def test_of_two_spellings_the_small_one_counts(tmp_path):
    if os.path.exists(str(photos(tmp_path / 'train' / 'cat', 4)).replace('tr', 'Tr')):
        pytest.skip('this system has no case of letters')
    photos(tmp_path / 'Train' / 'cat', 2)
    photos(tmp_path / 'test' / 'cat', 2)
    found = survey(tmp_path)
    assert len(found.train) == 4
    assert [n for n in found.notes if n.endswith('are left out: Train (2)')]
    listed = list_images(tmp_path)
    assert {p: listed.parts.count(p) for p in listed.parts} == (
        {'train': 4, 'test': 2, 'Train': 2}
    )


def test_parts_without_train_are_parts(tmp_path):
    for part in ('val', 'test'):
        photos(tmp_path / part / 'cat', 2)
    photos(tmp_path / 'test' / 'images', 1)  # says nothing
    photos(tmp_path / 'unlabeled', 1)
    Image.new('L', (9, 9)).save(tmp_path / 'own.png')
    found = list_images(tmp_path)
    told = [*zip(found.names, found.labels, found.parts, strict=True)]
    assert sorted(told) == [
        ('own.png', '', ''),
        ('test/cat/00.png', 'cat', 'test'),
        ('test/cat/01.png', 'cat', 'test'),
        ('test/images/00.png', '', 'test'),
        ('unlabeled/00.png', '', 'unlabeled'),
        ('val/cat/00.png', 'cat', 'val'),
        ('val/cat/01.png', 'cat', 'val'),
    ]


@pytest.mark.parametrize(
    'train, test', [('Training', 'Testing'), ('training', 'val'), ('train', 'TESTING')]
)
def test_training_and_testing_are_parts(train, test, tmp_path):
    "As many downloads have them; they had become the two classes."
    for name in ('cat', 'dog'):
        photos(tmp_path / train / name, 4)
        photos(tmp_path / test / name, 2)
    found = survey(tmp_path)
    assert found.classes == ('cat', 'dog') and not found.notes
    assert len(found.train) == 8 and len(found.test) == 4
    listed = list_images(tmp_path)
    assert {*listed.parts} == {'train', 'val' if test == 'val' else 'test'}
    assert {*listed.labels} == {'cat', 'dog'}


@pytest.mark.parametrize('names', [('training', 'match'), ('running', 'testing')])
def test_training_or_testing_alone_is_a_class(names, tmp_path):
    for name in names:
        photos(tmp_path / name, 4)
    assert {*survey(tmp_path).classes} == {*names} == {*list_images(tmp_path).labels}
    assert {*list_images(tmp_path).parts} == {''}


def test_of_train_and_training_the_first_counts(tmp_path):
    for name in ('train', 'Training', 'Test', 'Testing'):
        photos(tmp_path / name / 'cat', 2)
    found = survey(tmp_path)
    assert found.train.folder.name == 'train' and found.test.folder.name == 'Test'
    assert [x for x in found.notes if x.endswith(': Testing (2), Training (2)')]


def test_classes_with_the_same_folders_are_told(tmp_path):
    "A folder one level too high; classes with one folder `images` each are usual."
    high, usual = tmp_path / 'high', tmp_path / 'usual'
    for top in ('A', 'B'):
        for name in ('cat', 'dog'):
            photos(high / top / name, 4)
        photos(usual / 'train' / top / 'images', 4)
    told = lambda root: [x for x in survey(root).notes if 'same folders' in x]
    assert told(high) == [
        f'{high} has 2 classes (A, B), each with the same folders, '
        'which are no classes: cat, dog'
    ]
    assert not told(usual)
    photos(high / 'B', 1)
    assert not told(high)


# ---------------------------------------------------------------- who is scored


def linked(folder, to, names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).symlink_to(to / name)


@pytest.mark.parametrize('way', ('links', 'one link', 'hard links'))
def test_test_images_that_all_train_are_refused(way, tmp_path):
    train = photos(tmp_path / 'train' / 'cat', 8)
    names = sorted(path.name for path in train.iterdir())
    if way == 'one link':
        (tmp_path / 'test').symlink_to(tmp_path / 'train')
    elif way == 'links':
        linked(tmp_path / 'test' / 'cat', train, names)
    else:
        (tmp_path / 'test' / 'cat').mkdir(parents=True)
        for name in names:
            os.link(train / name, tmp_path / 'test' / 'cat' / name)
    with pytest.raises(ValueError, match='test: all 8 test images are training images'):
        survey(tmp_path)


def test_test_images_that_train_are_counted(tmp_path):
    train = photos(tmp_path / 'train' / 'cat', 8)
    photos(tmp_path / 'test' / 'cat', 3)
    (tmp_path / 'test' / 'cat' / '00.png').unlink()
    linked(tmp_path / 'test' / 'cat', train, ['00.png', '05.png'])
    [note] = [x for x in survey(tmp_path).notes if 'test images' in x]
    assert note == f'{tmp_path}/test: 2 of 4 test images are training images'


def test_a_second_test_part_is_told(tmp_path):
    for part, count in (('train', 8), ('test', 4), ('val', 3)):
        photos(tmp_path / part / 'cat', count)
    note = f'{tmp_path}/val: 3 images neither train nor score'
    note += f', since {tmp_path}/test is scored'
    assert note in survey(tmp_path).notes


def test_second_test_parts_without_labels_are_told(tmp_path):
    for part in ('test', 'val'):
        photos(tmp_path / part, 4)
    photos(tmp_path / 'train' / 'cat', 40)
    (tmp_path / 'train' / 'dog').mkdir()
    both = f'{tmp_path}/test, {tmp_path}/val have no labels: 4 of 40 training'
    assert [x for x in survey(tmp_path).notes if x.startswith(both)]
    for path in (tmp_path / 'train' / 'cat').iterdir():
        path.rename(tmp_path / 'train' / path.name)
    (tmp_path / 'train' / 'cat').rmdir()
    assert [x for x in survey(tmp_path).notes if 'val: 4 images neither' in x]


def test_classes_beside_a_test_part_are_not_passed_over(tmp_path):
    for name in ('cat', 'dog', 'test'):
        photos(tmp_path / name, 4)
    words = r'has no folder train beside test, only cat \(4\), dog \(4\): imagefolder'
    with pytest.raises(ValueError, match=words):
        survey(tmp_path)


def test_unlabelled_images_train_once(tmp_path, capsys):
    "And what is left out beside them is counted."
    train = photos(tmp_path / 'train' / 'cat', 8)
    photos(tmp_path / 'test' / 'cat', 2)
    photos(tmp_path / 'unlabeled', 3)
    for name in ('1.heic', '2.heic'):
        (tmp_path / 'unlabeled' / name).write_bytes(b'x')
    linked(tmp_path / 'unlabeled', train, ['05.png', '06.png'])
    os.link(train / '07.png', tmp_path / 'unlabeled' / '07.png')
    found = survey(tmp_path)
    assert len(found.train) == 11 and found.train.labels.count(None) == 3
    [note] = [x for x in found.notes if x.startswith('left out of')]
    assert '2 no image (../unlabeled/1.heic, ../unlabeled/2.heic)' in note
    assert '3 linked twice (' in note and '../unlabeled/05.png' in note
    assert len(list_images(tmp_path)) == 13
    assert capsys.readouterr().err.count('1.heic') == 1


# ---------------------------------------------------------------- what embed leaves out


def of_phones(folder):
    "Three photographs, and four files that are left out."
    photos(folder, 3)
    (folder / 'a.heic').write_bytes(b'x')
    (folder / '.b.png').write_bytes(b'x')
    (folder / 'c.png').symlink_to(folder / 'nothing')
    (folder / 'd.png').symlink_to(folder / '00.png')


LEFT = '1 no image (a.heic)', '1 hidden (.b.png)', '1 link to nothing (c.png)'


def test_an_embedding_tells_what_it_leaves_out(tmp_path, capsys):
    of_phones(tmp_path / 'flat')
    assert len(list_images(tmp_path / 'flat')) == 3
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f'unremix: left out of {tmp_path}/flat: ')
    assert all(words in line for words in (*LEFT, '1 linked twice (d.png)'))


@pytest.mark.parametrize('parts', [('train', 'test'), ('train',), ('val',)])
def test_an_embedding_tells_it_of_each_part_and_beside(parts, tmp_path, capsys):
    for name in (*parts, 'train'):
        photos(tmp_path / name / 'cat', 3)
    for name in (*parts, 'extra'):
        of_phones(tmp_path / name)
    (tmp_path / 'notes.txt').write_text('x')
    list_images(tmp_path)
    lines = capsys.readouterr().err.splitlines()
    tops = [tmp_path / name for name in parts] + [tmp_path]
    for top in tops:
        [line] = [x for x in lines if x.startswith(f'unremix: left out of {top}: ')]
        assert 'no image (' in line and 'a.heic' in line
    assert len(lines) == len(tops) and 'notes.txt' in '\n'.join(lines)


def test_no_image_at_all_is_explained(tmp_path):
    (tmp_path / 'a.heic').write_bytes(b'x')
    for look in (survey, list_images):
        with pytest.raises(ValueError, match=r'1 no image \(a.heic\)'):
            look(tmp_path)


def test_classes_called_like_a_part_are_classes(tmp_path):
    for name in ('invalid', 'valid'):
        photos(tmp_path / name, 2)
    found = list_images(tmp_path)
    assert {*found.labels} == {'invalid', 'valid'} and {*found.parts} == {''}


# ---------------------------------------------------------------- files that stand in


def test_files_that_stand_in_for_damaged_ones_are_in_the_fingerprint(tmp_path):
    "Whatever of them changes is another run; without damaged files nothing is new."
    root = tmp_path / 'photos'
    photos(root / 'cat', 20)

    def prints(limit):
        here = load_imagefolder('train', root, 8, limit)
        kept = load_decoded('train', root, tmp_path / 'scratch', 8, limit)
        assert here.fingerprint == kept.fingerprint and here.names == kept.names
        return here.fingerprint

    def of_first(limit):
        return fingerprint_of_files(ImageFiles('train', root), places[:limit], root)

    places = torch.arange(len(ImageFiles('train', root)))
    assert prints(10) == of_first(10) and prints(None) == of_first(None)
    first = load_imagefolder('train', root, 8, 1).names[0]
    (root / first).write_bytes(b'no image')
    assert prints(None) == of_first(None)
    assert prints(10) == of_first(11)
    stands_in = load_imagefolder('train', root, 8, 10).names[-1]
    before = prints(10)
    Image.new('L', (9, 9), 200).save(root / stands_in)
    assert prints(10) == of_first(11) != before


# ---------------------------------------------------------------- parquet with gaps


@pytest.mark.parametrize(
    'h, row',
    (
        ([[1.0, 2, 3], [4.0, 5, 6], None], 2),
        ([[1.0, 2, 3], [4.0, 5, 6, 7, 8]], 1),
        ([None, [1.0, 2]], 0),
        ([[], [1.0, 2]], 0),
    ),
    ids=str,
)
@pytest.mark.parametrize('fixed', (False, True))
def test_rows_of_unequal_length_are_refused(h, row, fixed, tmp_path):
    pa = pytest.importorskip('pyarrow', reason='pyarrow is not installed')
    import pyarrow.parquet as pq

    column = pa.array(h, pa.list_(pa.float64()))
    lengths = {len(x) for x in h if x is not None}
    if fixed and len(lengths) > 1:
        pytest.skip('all rows of this type are as long')
    if fixed:
        column = pa.array(h, pa.list_(pa.float64(), lengths.pop()))
    names = [str(i) for i in range(len(h))]
    pq.write_table(pa.table({'h': column, 'names': names}), tmp_path / 'e.parquet')
    words = f"h must be as many floats in every row, got .* in row {row}'"
    with pytest.raises(ValueError, match=words):
        load_embeddings(tmp_path / 'e.parquet')


# ---------------------------------------------------------------- nobody votes


@pytest.fixture(scope='module')
def far():
    "Eighty images with a right label, and eighty far away without."
    draw = np.random.default_rng(0)
    h = np.eye(2, 8).repeat(80, 0) + 0.01 * draw.normal(size=(160, 8))
    h[:80, 2] += 0.2 * np.repeat([-1, 1], 40)
    labels = np.array(['ant'] * 40 + ['bee'] * 40 + [''] * 80)
    return {'h': h.astype(np.float32), 'labels': labels}


def test_nobody_who_votes_suggests_nothing(far):
    y = torch.tensor([0] * 40 + [1] * 40 + [-1] * 80)
    near = nearest_others(torch.from_numpy(far['h']), 30)
    against, instead = doubt(near, y)
    assert instead.tolist() == y.tolist()
    assert against[80:].isnan().all() and (against[:80] == 0).all()


def test_an_audit_suggests_and_lists_what_somebody_votes_for(far):
    audited = Audited.of(far)
    table = image_table(audited, audit_lists(audited, neighbours=30))
    assert table['suggestion'] == far['labels'].tolist()
    for wrong in ([], [7, 50]):
        labels = far['labels'].copy()
        labels[wrong] = 'cow'
        audited = Audited.of(far | {'labels': labels})
        lists = audit_lists(audited, neighbours=30)
        *_, section = audit_page(audited, lists, 'x', None).sections
        assert section.title == 'Doubtful labels'
        doubts = [card.numbers[0] for card in section.grid.cards]
        assert all(x > 0 for x in doubts) and len(doubts) < 81
        worst = [card.words for card in section.grid.cards[: len(wrong)]]
        assert worst == [f'{i} [cow] → {far["labels"][i]}' for i in wrong]
        assert wrong or not doubts


# ---------------------------------------------------------------- an encoder alone


def test_an_encoder_needs_no_strategy(tmp_path):
    "Neither its module nor a knob of it that this release lacks."
    run = tmp_path / 'run'
    fields = dict(limit=32, batch_size=16, epochs=1, precision='32-true')
    train(run_of(**fields, accelerator='cpu'), run, progress=False)
    x = load_dataset('fashion_mini', 'test', limit=4).x
    before = load_encoder(run).features(x)
    state = torch.load(run / 'checkpoint.pt', weights_only=True)
    for strategy in ({'name': 'mine_is_gone:Ring', 'width': 3}, {'name': 'hlc'}):
        state['config']['strategy'] = strategy
        torch.save(state, run / 'checkpoint.pt')
        assert load_encoder(run).features(x).equal(before)


# ---------------------------------------------------------------- masks of pairs


def test_pairs_are_chosen_by_places_and_by_masks():
    pairs = TextPairs(tuple('abc'), tuple('ABC'), tuple('xyz'))
    mask = [True, False, True]
    for asked in (mask, np.array(mask), torch.tensor(mask), [0, 2], np.array([0, 2])):
        assert pairs[asked].first == ('a', 'c') and pairs[asked].source == ('x', 'z')
    assert pairs[torch.tensor([2, 0, 2])].second == ('C', 'A', 'C')
    assert pairs[range(0, 3, 2)].first == ('a', 'c') and pairs[[-1]].first == ('c',)
    assert len(pairs[[]]) == len(pairs[torch.zeros(3, dtype=torch.bool)]) == 0
    with pytest.raises(IndexError):
        pairs[[True, False]]


def test_words_are_those_that_the_page_says():
    assert words_of('Größe') == ['gr', 'öß', 'e'] and words_of('Мир') == ['мир']


# ---------------------------------------------------------------- tables by Excel


@pytest.mark.parametrize(
    'content',
    (
        'name,id\ncafé.png,3\n'.encode('cp1252'),
        b'name,id\n"5in.png,3\nb.png,3\n',
        b'name,id\n"' + b'x' * 200_000 + b'\n',
    ),
    ids=('cp1252', 'quote', 'long'),
)
def test_a_table_that_is_no_csv_is_one_sentence(content, unread, monkeypatch):
    path = unread / 't.csv'
    path.write_bytes(content)
    cfg = run_of(
        dataset='imagefolder', data_root=str(unread / 'photos'), sample_ids=str(path)
    )
    with pytest.raises(ValueError, match=r'^sample_ids must be in UTF-8, .*t\.csv: .'):
        split_samples(cfg)


def test_quotes_that_csv_writes_are_read(unread, monkeypatch):
    monkeypatch.undo()
    old = unread / 'photos' / 'train' / 'cat' / '00.png'
    old.rename(old.with_name('5" a, b.png'))
    written = io.StringIO()
    rows = csv.writer(written)
    rows.writerows([['name', 'id'], ['train/cat/5" a, b.png', 1]])
    rows.writerow(['train/cat/01.png', 1])
    (unread / 't.csv').write_text(written.getvalue(), newline='')
    folder = dict(dataset='imagefolder', data_root=str(unread / 'photos'))
    cfg = run_of(**folder, image_size=8, sample_ids=str(unread / 't.csv'))
    assert len(split_samples(cfg)[0].ids.unique()) == 11


def test_a_list_of_labels_in_latin_1_is_named(tmp_path):
    photos(tmp_path / 'val' / 'images', 2)
    path = tmp_path / 'val' / 'val_annotations.txt'
    path.write_bytes('00.png\tcafé\n'.encode('latin-1'))
    words = r"^labels must be in UTF-8, got .*val_annotations\.txt'$"
    with pytest.raises(ValueError, match=words):
        read_part(tmp_path / 'val')


# ---------------------------------------------------------------- bytes


def test_names_and_labels_of_bytes_are_texts(tmp_path):
    folder = photos(tmp_path / 'photos', 12)
    (folder / '11.png').rename(folder / 'ü.png')
    names = sorted(path.name for path in folder.iterdir())
    h = np.random.default_rng(0).normal(size=(12, 8)).astype(np.float32)
    as_bytes = lambda texts: np.array([text.encode() for text in texts])
    labels, parts = as_bytes(['ä', ''] * 6), as_bytes(['train'] * 6 + ['test'] * 6)
    columns = {'names': as_bytes(names), 'labels': labels, 'parts': parts}
    np.savez(tmp_path / 'e.npz', h=h, **columns)
    audit(tmp_path / 'e.npz', tmp_path / 'out', images=folder)
    with open(tmp_path / 'out' / 'audit.csv', newline='', encoding='utf-8') as f:
        rows = [*csv.DictReader(f)]
    assert [row['name'] for row in rows] == names and 'ü.png' in names
    assert {row['label'] for row in rows} == {'ä', ''}
    assert {row['part'] for row in rows} == {'train', 'test'}
    assert 'data:image/' in page_of(tmp_path / 'out')
    latin = np.array([b'caf\xe9'] * 12)
    with pytest.raises(ValueError, match='names must be texts that UTF-8 can hold'):
        Audited.of({'h': h, 'names': latin})


def test_names_of_classes_may_be_bytes(tmp_path):
    x, y = np.zeros((2, 8, 8), np.uint8), np.arange(2)
    arrays = dict(train_images=x, train_labels=y, test_images=x, test_labels=y)
    for classes in (['ear', 'ö'], np.array(['ear'.encode(), 'ö'.encode()])):
        np.savez(tmp_path / 'a.npz', **arrays, classes=np.array(classes))
        assert load_npz('train', tmp_path / 'a.npz').classes == ('ear', 'ö')
    np.savez(tmp_path / 'a.npz', **arrays, classes=np.array([b'ear', b'\xe9']))
    with pytest.raises(ValueError, match='data_root must be a .npz file'):
        load_npz('train', tmp_path / 'a.npz')


# ---------------------------------------------------------------- whole numbers


@pytest.mark.parametrize('bad', (0.2, float('nan'), float('inf')))
def test_kinds_of_nodes_are_whole_numbers(bad):
    path = nx.path_graph(3)
    words = r'^tags must be whole numbers, got \['
    for dtype in (torch.float16, torch.float32, torch.float64):
        with pytest.raises(ValueError, match=words):
            from_networkx([path], tags=torch.tensor([1, bad, 2], dtype=dtype))
        whole = from_networkx([path], tags=torch.tensor([1, 0, 2], dtype=dtype))
        assert whole.tag.tolist() == [1, 0, 2] and whole.tag.dtype == torch.int64
    with pytest.raises(ValueError, match='^edges must be whole numbers'):
        pack([3], [1], [[0.0, bad]], [0, 0, 0])


@pytest.mark.parametrize('part', ('labels', 'tags', 'edges', 'sizes', 'edge_counts'))
def test_arrays_of_graphs_are_whole_numbers(part, tmp_path):
    arrays = dict(labels=[0, 1], sizes=[2, 2], edge_counts=[1, 1])
    arrays |= dict(edges=[[0, 1]] * 2, tags=[0, 1, 0, 1])
    save = lambda given: np.savez(
        tmp_path / 'graphs.npz', **{f'MUTAG_{k}': np.array(x) for k, x in given.items()}
    )
    save(arrays)
    before = load_graphs('mutag', tmp_path)
    for dtype in (np.uint8, '>i2', np.uint64, np.float32):
        save(arrays | {part: np.array(arrays[part]).astype(dtype)})
        now = load_graphs('mutag', tmp_path)
        assert now.fingerprint == before.fingerprint and now.classes == before.classes
    save(arrays | {part: np.array(arrays[part]) + 0.25})
    with pytest.raises(ValueError, match=f'^MUTAG_{part} must be whole numbers, got'):
        load_graphs('mutag', tmp_path)
    save(arrays | {part: np.array(arrays[part]).astype(str)})
    with pytest.raises(ValueError, match='data_root must hold a whole graphs.npz'):
        load_graphs('mutag', tmp_path)


def test_a_class_is_a_whole_number_with_a_name():
    graphs = from_networkx([nx.path_graph(2)] * 2)
    with pytest.raises(ValueError, match='^y must be whole numbers, got'):
        graph_set(graphs, torch.tensor([0.0, 0.5]), ('a', 'b'), 'mine')
    with pytest.raises(ValueError, match='^classes must be names of all y'):
        graph_set(graphs, torch.tensor([0, 2]), ('a', 'b'), 'mine')
    made = graph_set(graphs, torch.tensor([0.0, -1.0]), ('a',), 'mine')
    assert made.y.tolist() == [0, -1] and made.y.dtype == torch.int64
    with pytest.raises(ValueError, match='^y must be whole numbers, got'):
        to_images(np.zeros((2, 8, 8), np.uint8), [0, 0.5], ('a', 'b'), 'mine')


# ---------------------------------------------------------------- no network


@pytest.mark.parametrize('error', (OSError('no network'), RuntimeError('no zip')))
def test_graphs_that_cannot_be_downloaded_are_one_sentence(error, tmp_path, monkeypatch):
    def refuse(*args):
        raise error

    stand_in = ModuleType('torch_geometric.datasets')
    stand_in.TUDataset = refuse
    monkeypatch.setitem(sys.modules, 'torch_geometric', ModuleType('torch_geometric'))
    monkeypatch.setitem(sys.modules, 'torch_geometric.datasets', stand_in)
    words = '^mutag is not in .* and could not be downloaded .*graphs.npz there'
    with pytest.raises(DatasetMissing, match=words):
        graph_encoder.load_tu('mutag', tmp_path)


# ---- folders that are no data, or not what they seem

def dots(folder, *names):
    for i, name in enumerate(names):
        (folder/name).parent.mkdir(parents=True, exist_ok=True)
        Image.new('L', (8, 8), 10*i).save(folder/name)


def test_figures_of_a_run_are_no_images(tmp_path):
    "Whoever works inside the folder of the images has `runs` there, with figures: they had become a class."
    dots(tmp_path, *(f'{c}/{i}.png' for c in ('cat', 'dog') for i in range(6)), 'runs/compare/figures/compare.png', 'runs/mine.png')
    for name in ('config.json', 'result.json'): (tmp_path/'runs'/'compare'/name).write_text('{}')
    part = read_part(tmp_path)
    assert part.class_names() == {'cat', 'dog', 'runs'} and len(part) == 13
    assert part.skipped == {'of a run': ['runs/compare']}
    (tmp_path/'runs'/'compare'/'result.json').unlink() # any other program's
    assert len(read_part(tmp_path)) == 14
    for name in ('config.json', 'result.json'): (tmp_path/name).write_text('{}')
    assert len(read_part(tmp_path)) == 14 # the folder itself is asked for


@pytest.mark.parametrize('names,words', [
    ((), ['test has no images: 2 of 8 training images are held out and scored']),
    (('cat/1.dcm', 'dog/2.dcm'), ['test has no images: 2 of 8', 'left out of', 'test: 2 no image (cat/1.dcm, dog/2.dcm)'])], ids=str)
def test_a_test_part_without_images_is_told(names, words, tmp_path):
    "It had been said that there was none, and its files were not counted."
    dots(tmp_path/'train', *(f'{c}/{i}.png' for c in ('cat', 'dog') for i in range(4)))
    (tmp_path/'test').mkdir()
    for name in names:
        (tmp_path/'test'/name).parent.mkdir()
        (tmp_path/'test'/name).write_text('no image')
    said = '\n'.join(survey(tmp_path).notes)
    assert all(word in said for word in words), said
    assert len(survey(tmp_path).notes) == 1 + bool(names)


def test_an_empty_part_beside_a_good_one(tmp_path):
    dots(tmp_path, *(f'{part}/{c}/{i}.png' for part in ('train', 'val') for c in ('cat', 'dog') for i in range(4)))
    (tmp_path/'test').mkdir()
    assert survey(tmp_path).notes == () and len(survey(tmp_path).test) == 8


@pytest.mark.parametrize('names,words', [
    (('seg_train/seg_train/cat', 'seg_test/seg_test/cat', 'seg_pred/seg_pred'), 'classes called like parts (seg_test, seg_train), which are read from train/ and test/'),
    (('training_set/cat', 'test_set'), 'classes called like parts (test_set, training_set)'),
    (('Train_A', 'dev'), 'classes called like parts (Train_A, dev)'),
    (('Train Images', 'Valid Images'), 'classes called like parts (Train Images, Valid Images)'),
    (('photos/train/cat', 'photos/val/cat'), 'one class (photos): there is nothing to tell apart, nor are its folders classes: train, val')], ids=str)
def test_parts_that_became_classes_are_told(names, words, tmp_path):
    "As they come out of public archives."
    dots(tmp_path, *(f'{name}/{i}.png' for name in names for i in range(3)))
    assert words in '\n'.join(survey(tmp_path).notes)


@pytest.mark.parametrize('names', [('train', 'bus'), ('strain', 'testa'), ('contest', 'training'), ('intrain', 'value')], ids=str)
def test_classes_that_only_sound_like_parts(names, tmp_path):
    dots(tmp_path/'train', *(f'{name}/{i}.png' for name in names for i in range(3)))
    dots(tmp_path/'test', *(f'{name}/{i}.png' for name in names for i in range(3)))
    assert survey(tmp_path).notes == ()


@pytest.mark.parametrize('kind', ['nothing', 'a file'])
def test_no_folder_at_all_is_called_so(kind, tmp_path):
    "It was said not to be allowed to be read."
    if kind == 'a file': (tmp_path/'x').write_text('mine')
    with pytest.raises(DatasetMissing) as e: list_images(tmp_path/'x')
    assert str(e.value) == f'{tmp_path/"x"} is no folder'


# ---- graphs and texts that are none

@pytest.mark.parametrize('changed,sentence', [
    (dict(sizes=[2, 0], edge_counts=[1, 0]), 'sizes must be whole numbers ≥ 1, got [0]'), (dict(sizes=[2, -1], edge_counts=[1, 0]), 'sizes must be whole numbers ≥ 1, got [-1]'),
    (dict(tags=[0]), 'tags must be of shape (2), got (1,)'), (dict(edges=[0, 1]), 'edges must be of shape (1 2), got (2,)')], ids=str)
def test_graphs_without_nodes_are_refused(changed, sentence):
    "A traceback without any node, and an odd shape where a size is below 0."
    with pytest.raises(ValueError) as e: pack(**(dict(sizes=[2], edge_counts=[1], edges=[[0, 1]], tags=[0, 0]) | changed))
    assert str(e.value) == sentence


def test_one_text_file_is_too_few_and_is_told_so(tmp_path):
    (tmp_path/'one.txt').write_text('a sentence of five words\n'*9)
    with pytest.raises(ValueError, match='with a sentence per line, two or more, got'): own_sentences(tmp_path)
