"A mistake is told before the work begins, by its own name, and nothing is written."

import csv
import io

import numpy as np
import pytest
import torch
from PIL import Image

from configs import comparison, run_of
from unremix import audit as auditing
from unremix import image_task, run_folder
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
