"A mistake is told before the work begins, by its own name, and nothing is written."

import csv
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from configs import comparison, run_of
from unremix import audit as auditing
from unremix import compare as comparing
from unremix import embed_folder as embedding
from unremix import evaluate as scoring
from unremix import export as exporting
from unremix import image_task, run_folder
from unremix import train as training
from unremix.audit import audit
from unremix.compare import compare
from unremix.compare_config import rehearse_rows
from unremix.config import TrainConfig
from unremix.data import hold_out, load_dataset
from unremix.grid import Grid
from unremix.report import as_markdown, cells_of, scores_csv
from unremix.run_folder import split_samples
from unremix.several_runs import rehearse
from unremix.sweep import sweep

SMALL = dict(
    limit=32, batch_size=16, epochs=1, precision='32-true', accelerator='cpu', seed=0
)
ROWS = dict(strategies=('simclr',), supervised=False, timed_steps=0)


# a comparison and a sweep


def refused(fields, words, tmp_path, seeds=1):
    "Both refuse it before they write anything."
    before = sorted(tmp_path.rglob('*'))
    with pytest.raises(ValueError, match=words):
        cfg = comparison(**SMALL | ROWS | fields | {'seeds': seeds})
        compare(cfg, tmp_path / 'compare', progress=False)
    base = {k: v for k, v in (SMALL | fields).items() if k != 'seed'}
    grid = Grid('x', {'a': base}, seed=fields.get('seed', 0), seeds=seeds)
    with pytest.raises(ValueError, match=words):
        sweep(grid, tmp_path / 'x.jsonl', tmp_path / 'runs', progress=False)
    assert sorted(tmp_path.rglob('*')) == before


def test_weights_that_do_not_fit(tmp_path):
    path = tmp_path / 'other.pth'
    torch.save({'encoder.0.0.weight': torch.zeros(3)}, path)
    refused({'start_from': str(path)}, 'does not hold this encoder', tmp_path)


def test_weights_that_fit_or_are_downloaded_are_not_refused(tmp_path):
    cfg = TrainConfig.of(SMALL)
    samples, _ = split_samples(cfg)
    encoder = image_task.TASK.make_encoder(cfg, samples)
    torch.save(encoder.state_dict(), tmp_path / 'own.pth')
    rehearse(cfg.but({'start_from': str(tmp_path / 'own.pth')}), samples)
    rehearse(cfg.but({'encoder': 'resnet18', 'start_from': 'published'}), samples)


def test_samples_are_loaded_once_for_all_rows_and_nobody_draws_others(monkeypatch):
    cfg = comparison(**SMALL | ROWS)
    samples, _ = split_samples(cfg.train)
    monkeypatch.setattr(run_folder, 'load_part', None)  # whoever loads again fails
    before = torch.get_rng_state()
    rehearse_rows(cfg, samples)
    assert torch.get_rng_state().equal(before)


def test_a_network_that_cannot_be_made(tmp_path, monkeypatch):
    def lacks(*asked):
        raise ValueError('a network for 1 channels cannot be had')

    monkeypatch.setattr(image_task, 'make_encoder', lacks)
    refused({}, 'cannot be had', tmp_path)


def test_a_last_seed_that_is_too_large(tmp_path):
    last = 2**31 - 1
    assert comparison(**SMALL | ROWS | {'seed': last, 'seeds': 1}).seeds == 1
    refused(
        {'seed': last}, r'seed must be .*2\*\*31.* got 2147483648', tmp_path, seeds=2
    )


# where results go


def works(*asked, **named):
    pytest.fail('the work has begun')


PLACES = ['afile', 'afile/run', 'afile/deep/run']
if Path('/proc/self').exists():
    PLACES.append('/proc/run')


@pytest.mark.parametrize('place', PLACES)
def test_a_folder_that_cannot_be_made(place, tmp_path, monkeypatch):
    (tmp_path / 'afile').write_text('a file')
    out = tmp_path / place
    monkeypatch.setattr(training, 'look', works)
    monkeypatch.setattr(comparing, 'look_at_all', works)
    words = f'out={str(out)!r} (cannot be written .*: give another folder|is a file)'
    for begin in (
        lambda: training.train(run_of(**SMALL), out, progress=False),
        lambda: compare(comparison(**SMALL | ROWS), out, progress=False),
    ):
        with pytest.raises((OSError, ValueError), match=f'^{words}'):
            begin()
    assert [p.name for p in tmp_path.iterdir()] == ['afile']


def test_files_of_embed_and_export(photos, tmp_path, monkeypatch):
    (tmp_path / 'afile').write_text('a file')
    monkeypatch.setattr(embedding, 'encoder_of', works)
    monkeypatch.setattr(exporting, 'load_encoder', works)
    out = tmp_path / 'afile' / 'x.npz'
    words = f'^out={str(out)!r} cannot be written .Not a directory.: give another'
    with pytest.raises(OSError, match=words):
        embedding.embed_folder('pretrained', photos, out)
    with pytest.raises(OSError, match=words):
        exporting.export_encoder('pretrained', 'torchscript', out)


def test_a_run_that_cannot_be_scored_again(tmp_path, monkeypatch):
    monkeypatch.setattr(scoring, 'load_run', lambda out: None)
    monkeypatch.setattr(scoring, 'score', works)
    (tmp_path / 'afile').write_text('a file')
    with pytest.raises(OSError, match='^run=.* cannot be written .Not a directory.'):
        scoring.evaluate(tmp_path / 'afile')


# a run


def test_weights_that_are_none(tmp_path, monkeypatch):
    (tmp_path / 'bad.pth').write_bytes(b'hello')
    monkeypatch.setattr(run_folder, 'load_part', works)
    cfg = run_of(**SMALL, start_from=str(tmp_path / 'bad.pth'))
    with pytest.raises(ValueError, match='^start_from=.* is no file of tensors'):
        training.train(cfg, tmp_path / 'run', progress=False)
    assert not (tmp_path / 'run').exists()


def test_weights_of_another_encoder_leave_no_folder(tmp_path):
    torch.save({'encoder.0.0.weight': torch.zeros(3)}, tmp_path / 'other.pth')
    cfg = run_of(**SMALL, start_from=str(tmp_path / 'other.pth'))
    with pytest.raises(ValueError, match='does not hold this encoder'):
        training.train(cfg, tmp_path / 'run', progress=False)
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('held, most', ((None, 3), (1, 2)))
def test_a_batch_that_is_larger_than_the_folder(held, most, tmp_path, monkeypatch):
    for part, count in (('train', 3), ('test', 1)):
        for i in range(count):
            (tmp_path / part / 'cat').mkdir(parents=True, exist_ok=True)
            image = Image.fromarray(np.zeros((8, 8, 3), np.uint8))
            image.save(tmp_path / part / 'cat' / f'{i}.png')
    monkeypatch.setattr(run_folder, 'load_part', works)
    folder = {'dataset': 'imagefolder', 'data_root': str(tmp_path), 'limit': None}
    asked = SMALL | folder | {'batch_size': 4, 'validation': held}
    words = f'^batch_size must be at most the {most} training images, got 4$'
    with pytest.raises(ValueError, match=words):
        training.train(run_of(**asked), tmp_path / 'run', progress=False)
    assert not (tmp_path / 'run').exists()


# an audit


@pytest.fixture
def photos(tmp_path):
    (tmp_path / 'photos').mkdir()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / 'photos' / 'a.png')
    return tmp_path / 'photos'


@pytest.mark.parametrize('value', [0, 1.5, True, None])
@pytest.mark.parametrize('name', ['pairs', 'neighbours', 'largest'])
def test_numbers_of_an_audit(name, value, photos, monkeypatch):
    monkeypatch.setattr(auditing, 'embed_folder', lambda *a, **k: pytest.fail('works'))
    out = photos.with_name('audit')
    with pytest.raises(ValueError, match=f'^{name} must be a whole number ≥ 1, got '):
        audit(photos, out, model='pretrained', **{name: value})
    assert not out.exists()


def test_images_of_an_audit(photos, monkeypatch):
    began = []
    monkeypatch.setattr(auditing, 'embed_folder', lambda *a, **k: began.append(a))
    out, empty = photos.with_name('audit'), photos.with_name('empty')
    empty.mkdir()
    for images in (empty, photos.with_name('none')):
        with pytest.raises(ValueError, match='^images must be None, or a folder'):
            audit(photos, out, model='pretrained', images=images)
    assert not out.exists() and not began


# what is held out


def test_validation_is_called_by_its_name():
    images = load_dataset('fashion_mini', limit=40)
    words = '^validation must be a whole number from 1 to 39, .* got 40$'
    with pytest.raises(ValueError, match=words):
        hold_out(images, 40)
    with pytest.raises(
        ValueError, match='^validation must be a whole number from 1 to '
    ):
        split_samples(run_of(validation=10_000))


# the files of a comparison


def spread(mean):
    return {'mean': mean, 'sd': None, 'values': [mean]}


def test_every_score_is_in_the_files():
    "Also one that only this task has, and that some rows lack."
    rows = {
        'a': {'n': 1, 'linear': spread(0.5), 'mrr@10': spread(0.25)},
        'b': {'n': 1, 'linear': spread(0.5), 'own': spread(None), 'failed': 'seed 1'},
    }
    lines = list(csv.DictReader(io.StringIO(scores_csv(rows))))
    told = {(line['row'], line['score']): line['mean'] for line in lines}
    linear = {('a', 'linear'): '0.5', ('b', 'linear'): '0.5'}
    assert told == linear | {('a', 'mrr@10'): '0.25', ('b', 'own'): ''}
    head, cells = cells_of({'rows': rows, 'config': {'reference': 'a'}})
    assert head[-3:] == ['effective neg.', 'mrr@10', 'own']
    assert [line[-2:] for line in cells] == [['0.250', '–'], ['–', '–']]
    assert {len(line) for line in cells} == {len(head)}
    assert '| 0.250 | – |' in as_markdown(head, cells)
