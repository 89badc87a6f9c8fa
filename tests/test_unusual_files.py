"What people's own tables, folders and labels hold: unknown ids, odd names, files that nobody may read."

import os
from functools import partial
from math import inf, log, nan
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from unremix import features
from unremix.audit import audit
from unremix.audit_lists import Audited, audit_lists
from unremix.data import ids_by_name, load_dataset
from unremix.embedding_files import list_images, load_embeddings, save_embeddings
from unremix.evaluate import QUALITY, negative_quality, score
from unremix.features import knn, linear_probe, uniformity, vote
from unremix.image_folder import Part, file_digest, fingerprint, read_part
from unremix.image_parts import hold_out_files, survey
from unremix.image_sets import Images
from unremix.losses import HCLLoss

LATIN = b'caf\xe9.png'  # no UTF-8


def photos(folder, count, size=16):
    draw = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        pixels = draw.integers(0, 255, (size, size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f'{i:02}.png')


# ---------------------------------------------------------------- ids of images


def named(names):
    n = len(names)
    x, y = torch.zeros(n, 1, 8, 8), torch.zeros(n).long()
    return Images(x, y, (), 'imagefolder', names=tuple(names))


@pytest.mark.parametrize('unknown', (',', '', ',-1', ', ', ',-1.0', ',nan'))
def test_an_unknown_id_is_nobodys(unknown, tmp_path):
    "c and d are two images of which nobody says anything, not one."
    table = tmp_path / 't.csv'
    table.write_text(f'name,id\na,7\nb,7\nc{unknown}\nd{unknown}\n')
    assert ids_by_name(named('abcd'), table).tolist() == [0, 0, 2, 3]


@pytest.mark.parametrize('ids', ([7, 7, None, None], [7.0, 7.0, nan, nan]), ids=str)
def test_an_unknown_id_of_parquet(ids, tmp_path):
    pa = pytest.importorskip('pyarrow', reason='pyarrow is not installed')
    import pyarrow.parquet as pq

    pq.write_table(pa.table({'name': list('abcd'), 'id': ids}), tmp_path / 't.parquet')
    found = ids_by_name(named('abcd'), tmp_path / 't.parquet')
    assert found.tolist() == [0, 0, 2, 3]


def test_words_are_ids_and_excel_writes_a_mark_first(tmp_path):
    table = tmp_path / 't.csv'
    table.write_text('name,id\na,-x\nb,0\nc,-x\nd,0\n', encoding='utf-8-sig')
    assert ids_by_name(named('abcd'), table).tolist() == [0, 1, 0, 1]
    table.write_text('name,id\na,-1\nb,\n')
    with pytest.raises(
        ValueError, match='a table that names images of data_root and has ids'
    ):
        ids_by_name(named('abcd'), table)


def test_a_list_of_labels_with_a_mark_first(tmp_path):
    photos(tmp_path / 'val' / 'images', 2)
    listed = '00.png\tcat\n01.png\tdog\n'
    path = tmp_path / 'val' / 'val_annotations.txt'
    path.write_text(listed, encoding='utf-8-sig')
    assert read_part(tmp_path / 'val').labels == ['cat', 'dog']


# ---------------------------------------------------------------- unknown labels


@pytest.fixture(scope='module')
def clusters():
    "Two clusters of twenty; five of each have a label, and all are right."
    draw = np.random.default_rng(0)
    h = np.eye(2, 8).repeat(20, 0) + 0.1 * draw.normal(size=(40, 8))
    y = np.full(40, -1)
    y[:5], y[20:25] = 0, 1
    return h.astype(np.float32), y


def test_unknown_labels_are_no_class_of_an_audit(clusters, tmp_path):
    h, y = clusters
    np.savez(tmp_path / 'e.npz', h=h, labels=y)
    words = [None if i < 0 else f'class {i}' for i in y]
    numbers = [nan if i < 0 else float(i) for i in y]
    found = [load_embeddings(tmp_path / 'e.npz')]
    found += [{'h': h, 'labels': np.array(x)} for x in (words, numbers)]
    for arrays in found:
        audited = Audited.of(arrays)
        assert audited.labels.count('') == 30 and len(audited.classes()[1]) == 2
        assert not (audit_lists(audited).doubt.nan_to_num() > 0.5).any()


def test_null_in_parquet_is_no_label(clusters, tmp_path):
    pa = pytest.importorskip('pyarrow', reason='pyarrow is not installed')
    import pyarrow.parquet as pq

    h = clusters[0][:3]
    columns = {
        'names': ['a', None, 'c'],
        'labels': ['x', None, '-1'],
        'parts': [None] * 3,
    }
    pq.write_table(pa.table({'h': h.tolist(), **columns}), tmp_path / 'e.parquet')
    audited = Audited.of(load_embeddings(tmp_path / 'e.parquet'))
    assert audited.names == ['a', '1', 'c'] and audited.parts == [''] * 3
    assert audited.labels == ['x', '', '-1']  # a word is a word


@pytest.mark.parametrize(
    'probe', (linear_probe, partial(knn, k=3)), ids=['linear', 'knn']
)
def test_probes_want_known_classes(probe, clusters):
    h, y = map(torch.from_numpy, clusters)
    with pytest.raises(ValueError, match='y_train must be .* got '):
        probe(h, y, h)
    with pytest.raises(ValueError, match='y_train must be '):
        probe(h, y.clamp_min(0)[1:], h)
    with pytest.raises(ValueError, match='y_train must be '):
        probe(h, y.clamp_min(0).double(), h)
    known = y >= 0
    wanted = probe(h[known], y[known], h)
    assert wanted.tolist() == [0] * 20 + [1] * 20
    for dtype in (torch.uint8, torch.int32, torch.bool):
        found = probe(h[known], y[known].to(dtype), h)
        assert found.dtype == torch.int64 and found.equal(wanted)


def test_votes_of_small_whole_numbers():
    near = torch.tensor([[0.9, 0.8, 0.7]]), torch.tensor([[2, 0, 1]])
    y = torch.tensor([1, 1, 0], dtype=torch.uint8)
    assert vote(*near, y, 1).tolist() == [0] and vote(*near, y, 3).tolist() == [1]


# ---------------------------------------------------------------- names


def with_latin(folder, count=5):
    photos(folder, count)
    source = (folder / '00.png').read_bytes()
    Path(os.path.join(os.fsdecode(folder), os.fsdecode(LATIN))).write_bytes(source)
    return folder


linux = pytest.mark.skipif(os.name == 'nt', reason='names are UTF-16')


@linux
def test_names_that_are_no_utf8_are_left_out(tmp_path, capsys):
    try:
        top = with_latin(tmp_path / 'photos')
    except OSError:
        pytest.skip('the file system takes no such name')
    part = read_part(top)
    assert len(part) == 5 and part.skipped == {'not named in UTF-8': ['caf\udce9.png']}
    [note] = [x for x in survey(top).notes if 'UTF-8' in x]
    assert "1 not named in UTF-8 ('caf\\udce9.png')" in note
    assert len(list_images(top)) == 5
    assert '1 not named in UTF-8' in capsys.readouterr().err
    moved = tmp_path / 'caf\udce9'  # the folder itself may be called so
    top.rename(moved)
    names = list_images(moved).names
    h = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    about = {'folder': str(moved)}
    odd = tmp_path / 'e\udce9.npz'
    save_embeddings(odd, {'h': h, 'names': np.array(names)}, about)
    audit(odd, tmp_path / 'audit')
    text = (tmp_path / 'audit' / 'audit.html').read_text(encoding='utf-8')
    assert 'udce9' in text
    for path in moved.iterdir():
        if path.name != os.fsdecode(LATIN):
            path.unlink()
    for look in (survey, list_images):  # no image is left, and it is said why
        with pytest.raises(ValueError, match='1 not named in UTF-8'):
            look(moved)


@linux
@pytest.mark.parametrize('column', ('names', 'labels', 'parts'))
def test_an_audit_refuses_words_that_it_cannot_write(column):
    arrays = {'h': np.eye(3, dtype=np.float32), column: np.array(['a', 'b\udce9', 'c'])}
    with pytest.raises(ValueError, match=rf"{column} must be .*UTF-8.*'b\\udce9'"):
        Audited.of(arrays)


# ---------------------------------------------------------------- geometry


def pairwise(h, t=2.0):
    "Over all pairs at once."
    distances = torch.pdist(F.normalize(h.double()))
    return (-t * distances.square()).logsumexp(0).item() - log(len(distances))


@pytest.mark.parametrize('cells', (1, 7, 60, 2**22))
def test_uniformity_by_blocks(cells, monkeypatch):
    h = torch.randn(23, 5, generator=torch.Generator().manual_seed(0)).double()
    h[3] = 2 * h[11]  # at one place
    monkeypatch.setattr(features, 'PAIRS', cells)
    for t in (2.0, 0.5, 2000.0):  # at the last one all potentials are 0 in doubles
        assert uniformity(h, t) == pytest.approx(pairwise(h, t), abs=1e-10)
    apart = h[[0, 1, 2]]
    assert -inf < uniformity(apart, 2000.0) == pytest.approx(pairwise(apart, 2000.0))
    assert uniformity(h[:2]) == pytest.approx(pairwise(h[:2]), abs=1e-10)
    assert uniformity(torch.ones(9, 3)) == pytest.approx(0, abs=1e-12)


def test_uniformity_never_holds_all_pairs(monkeypatch):
    monkeypatch.setattr(features, 'PAIRS', 300)
    largest = []

    class Seen(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            made = func(*args, **(kwargs or {}))
            if isinstance(made, torch.Tensor):
                largest.append(made.numel())
            return made

    with Seen():
        uniformity(torch.randn(100, 2))
    assert max(largest) <= 300


# ---------------------------------------------------------------- files


def refuse_to_read(monkeypatch, path):
    "The system lists this file and does not give its bytes."
    whole = open

    def opened(file, *args, **kwargs):
        if os.fspath(file) == os.fspath(path):
            raise PermissionError(13, 'Permission denied', str(path))
        return whole(file, *args, **kwargs)

    monkeypatch.setattr('builtins.open', opened)


def test_a_file_that_nobody_may_read(tmp_path, monkeypatch, capsys):
    photos(tmp_path, 20)
    part = read_part(tmp_path)
    before = fingerprint(part, tmp_path)
    refuse_to_read(monkeypatch, tmp_path / '19.png')
    images = load_dataset('imagefolder', 'train', tmp_path, image_size=8)
    told = capsys.readouterr().err
    assert '19.png' not in images.names and '1 damaged (19.png)' in told
    refused = fingerprint(part, tmp_path)
    assert refused == fingerprint(part, tmp_path) != before
    with pytest.raises(PermissionError):  # no such word for a file of weights
        file_digest(str(tmp_path / '19.png'))


# ---------------------------------------------------------------- held out


def part_of(labels):
    return Part(Path('.'), [str(i) for i in range(len(labels))], labels)


@pytest.mark.parametrize(
    'labels, count',
    (
        ([f'product {i:03}' for i in range(200)], 20),
        (['a', 'b', 'c', 'c', 'c'], 2),
        (['a', 'b', 'c', *[None] * 97], 10),
        (['a', *[None] * 3], 2),
    ),
    ids=['one image each', 'almost', 'three labels', 'one label'],
)
def test_small_classes_are_held_out_as_if_unlabelled(labels, count):
    rest, held = hold_out_files(part_of(labels))
    flat_rest, flat_held = hold_out_files(part_of([None] * len(labels)))
    assert held.paths == flat_held.paths and rest.paths == flat_rest.paths
    assert held.labels == [None] * count
    assert rest.labels == [labels[int(i)] for i in rest.paths]  # these keep theirs


def test_too_few_are_not_held_out():
    for labels in (['a', 'b', 'c'], [None] * 3, []):
        rest, held = hold_out_files(part_of(labels))
        assert rest.labels == labels and not len(held)


def test_classes_of_one_image_train(tmp_path):
    for i in range(40):
        photos(tmp_path / f'product {i:02}', 1, 8)
    train, test = (
        load_dataset('imagefolder', part, tmp_path, image_size=8)
        for part in ('train', 'test')
    )
    assert len(train) == 36 and len(test) == 4 and (test.y < 0).all()
    [note] = [x for x in survey(tmp_path).notes if 'held out' in x]
    assert 'without labels' in note
    assert not [x for x in survey(tmp_path).notes if 'folders without images' in x]


# ---------------------------------------------------------------- pictures


@pytest.fixture(scope='module')
def clip(tmp_path_factory):
    "Twenty photographs, the second is the first again, and features of somebody."
    here = tmp_path_factory.mktemp('clip')
    photos(here / 'photos', 20)
    (here / 'photos' / '01.png').write_bytes((here / 'photos' / '00.png').read_bytes())
    h = np.random.default_rng(0).normal(size=(20, 16)).astype(np.float32)
    h[1] = h[0]
    names = np.array(sorted(path.name for path in (here / 'photos').iterdir()))
    np.savez(here / 'e.npz', h=h, names=names)
    save_embeddings(here / 'moved.npz', {'h': h, 'names': names}, {'folder': str(here)})
    (here / 'elsewhere').mkdir()
    (here / 'some').mkdir()
    for name in names[:13]:
        (here / 'some' / name).write_bytes((here / 'photos' / name).read_bytes())
    return here


def page_of(out):
    return (out / 'audit.html').read_text(encoding='utf-8')


@pytest.mark.parametrize('where', ('elsewhere', 'nowhere', 'e.npz'))
def test_a_folder_without_the_pictures_is_refused(where, clip, tmp_path):
    with pytest.raises(ValueError, match='images must be None, or a folder for embedd'):
        audit(clip / 'e.npz', tmp_path / 'out', images=clip / where)
    assert not (tmp_path / 'out' / 'pairs.csv').exists()


def test_a_stored_folder_that_has_moved_counts_as_none(clip, tmp_path):
    assert audit(clip / 'moved.npz', tmp_path / 'a')['copies'] == 1
    page = page_of(tmp_path / 'a')
    assert 'data:image/' not in page and 'grey' not in page
    assert (
        audit(clip / 'moved.npz', tmp_path / 'b', images=clip / 'photos')['copies'] == 1
    )
    assert 'data:image/' in page_of(tmp_path / 'b') and 'grey' not in page_of(
        tmp_path / 'b'
    )


def test_the_page_counts_missing_pictures(clip, tmp_path):
    assert audit(clip / 'e.npz', tmp_path / 'a', images=clip / 'some')['copies'] == 1
    assert '7 of 20 pictures are missing' in page_of(tmp_path / 'a')


# ---------------------------------------------------------------- negatives


def test_twins_are_no_negatives_of_a_score():
    "As many statistics as `HCLLoss` gives of the same rows with the same ids."
    draw = torch.Generator().manual_seed(0)
    z1, z2, h1, h2 = (torch.randn(12, 3, generator=draw) for _ in range(4))
    y, ids, loss = torch.arange(12) % 3, torch.arange(12) // 3, HCLLoss(0.5, 0.1)
    found = negative_quality(z1, z2, (h1, h2), y, loss, 6, ids)
    parts = []
    for rows in (slice(0, 6), slice(6, 12)):
        known = dict(hidden=(h1[rows], h2[rows]), true_labels=y[rows])
        known |= dict(sample_ids=ids[rows], return_stats=True)
        parts.append(loss(z1[rows], z2[rows], **known)[1])
    mean = {k: (parts[0][k] + parts[1][k]).item() / 2 for k in QUALITY}
    assert found == pytest.approx(mean)
    without = negative_quality(z1, z2, (h1, h2), y, loss, 6)
    assert without['effective_negatives'] > found['effective_negatives']
    assert without == negative_quality(z1, z2, (h1, h2), y, loss, 6, None)


@pytest.mark.parametrize('strategy, wanted', (('simclr', True), ('glofnd', False)))
def test_a_score_tells_the_loss_what_training_tells(strategy, wanted, tmp_path):
    "Also of images; thresholds of training images are nothing to others' numbers."
    from unremix.config import TrainConfig
    from unremix.run_parts import set_up

    photos(tmp_path / 'photos', 40)
    twins = ''.join(f'{i:02}.png,{i // 4}\n' for i in range(40))
    (tmp_path / 'ids.csv').write_text('name,id\n' + twins)
    fields = dict(dataset='imagefolder', data_root=str(tmp_path / 'photos'))
    fields |= dict(sample_ids=str(tmp_path / 'ids.csv'), validation=12, image_size=8)
    fields |= dict(batch_size=8, accelerator='cpu', precision='32-true')
    run = set_up(TrainConfig.of(fields | dict(strategy=strategy)))
    given, real = [], run.criterion.forward

    def forward(*z, **known):
        given.append(known.get('sample_ids'))
        return real(*z, **known)

    run.criterion.forward = forward
    said = score(run)
    assert len(given) == 1 and (given[0] is not None) == wanted
    assert (said['effective_negatives'] < 13.9) == wanted
