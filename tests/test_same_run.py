"What makes two runs the same: their images, ids and knobs, in a folder or a sweep."

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from configs import run_of
from unremix.config import criterion_of, read
from unremix.controls import LabelledLoss, Supervised
from unremix.data import load_dataset
from unremix.evaluate import evaluate, score
from unremix.registry import known
from unremix.grid import Grid, images_of, read_grid, run_key
from unremix.run_folder import check_data, claim_data, claim_folder, in_result
from unremix.run_folder import look, why_not
from unremix import sweep as module
from unremix.safe_files import FolderInUse, write_json
from unremix.sweep import finish_run, sweep
from unremix.train import train

HERE = dict(precision='32-true', accelerator='cpu')


# which strategies need labels


def test_every_loss_that_takes_labels_needs_them():
    "Also one that the library does not know."
    images = load_dataset('fashion_mini', limit=40)
    bare = replace(images, y=-1 - torch.arange(40))
    one_class = replace(images, y=torch.zeros_like(images.y))
    partly = replace(images, y=torch.where(images.y > 1, images.y, -1))
    refused, refused_partly = set(), set()
    for name, strategy in known().items():
        if strategy.of_pieces:  # which images have not
            assert why_not(name, bare) is None
            continue
        loss = criterion_of(run_of(strategy=name))
        needs = isinstance(loss, LabelledLoss | Supervised)
        told = 'the training images show less than two classes' if needs else None
        assert [why_not(name, some) for some in (bare, one_class)] == [told] * 2
        assert why_not(name, images) is None
        refused |= {name} if needs else set()
        refused_partly |= {name} if why_not(name, partly) else set()
    assert refused == {'supervised', 'oracle', 'supcon', 'h-scl'}
    assert refused_partly == {'supervised'}


# a table of ids that is written again


@pytest.fixture
def audited(tmp_path):
    "A run on 40 photos with a table of ids, and what writes that table."
    names = [f'{i:02}.png' for i in range(40)]
    (tmp_path / 'photos').mkdir()
    draw = np.random.default_rng(0)
    for name in names:
        pixels = draw.integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / 'photos' / name)
    table = tmp_path / 'ids.csv'

    def write(id_of):
        lines = [f'{name},{id_of(i)}\n' for i, name in enumerate(names)]
        table.write_text('name,id\n' + ''.join(lines))

    write(lambda i: i)
    where = dict(data_root=str(tmp_path / 'photos'), sample_ids=str(table))
    small = dict(image_size=8, batch_size=8, epochs=1, head_hidden=8, head_out=4)
    return run_of(dataset='imagefolder', **where, **small, **HERE), write


def test_another_table_of_ids_is_another_run(audited, tmp_path):
    cfg, write = audited
    claim_data(claim_folder(tmp_path / 'run', cfg), look(cfg))
    write(lambda i: f'photo {39 - i}')  # other numbers, but the same photos are alike
    check_data(tmp_path / 'run', look(cfg))
    write(lambda i: i % 2)
    changed = look(cfg)
    assert changed['sample_ids'] == in_result(changed)['sample_ids']
    with pytest.raises(ValueError, match='made with other ids under sample_ids: bring'):
        check_data(tmp_path / 'run', changed)
    with pytest.raises(ValueError, match='made with other ids under sample_ids: bring'):
        train(cfg, tmp_path / 'run', progress=False)


def test_runs_that_kept_no_digest_of_their_ids_go_on(audited, tmp_path):
    cfg, write = audited
    was = look(cfg)
    kept = {k: x for k, x in was.items() if k != 'sample_ids'}
    write_json(tmp_path / 'data.json', kept)
    write(lambda i: i % 2)
    check_data(tmp_path, look(cfg))
    assert 'sample_ids' not in look(cfg.but({'sample_ids': None}))
    assert 'sample_ids' not in look(run_of(limit=64, batch_size=64))


def test_a_finished_run_is_scored_without_its_table(audited, tmp_path):
    "Its ids are of training images, unless some of those are held out and scored."
    cfg, write = audited
    scored = lambda run: {'scores': score(run)}
    of_test = train(cfg, tmp_path / 'run', scored, progress=False)
    held = cfg.but({'validation': 8})
    of_held = train(held, tmp_path / 'held', scored, progress=False)
    assert evaluate(tmp_path / 'held')['scores'] == of_held['scores']
    write(lambda i: i // 2)
    with pytest.raises(ValueError, match='made with other ids under sample_ids: bring'):
        evaluate(tmp_path / 'held')
    assert evaluate(tmp_path / 'run')['scores'] == of_test['scores']
    Path(cfg.data.sample_ids).unlink()
    assert evaluate(tmp_path / 'run')['scores'] == of_test['scores']
    with pytest.raises(ValueError, match='sample_ids must be a .csv or .parquet file'):
        evaluate(tmp_path / 'held')


def test_cells_with_other_tables_are_looked_at_one_by_one(audited):
    cfg, _ = audited
    assert images_of(cfg) == images_of(cfg.but({'seed': 3, 'temperature': 0.2}))
    assert images_of(cfg) != images_of(cfg.but({'sample_ids': None}))


SCORED = {'seconds': 1.0, 'scores': {'linear': 0.5}}


@pytest.mark.parametrize('what', ['sample_ids', 'start'])
def test_lines_of_other_ids_or_weights_are_not_continued(
    what, audited, tmp_path, monkeypatch
):
    "Another seed would join lines that were made with something else."
    cfg, _ = audited
    fields = {k: v for k, v in cfg.fields().items() if k != 'seed'}
    looked = look(cfg) | {what: 'a0'}
    monkeypatch.setattr(module, 'look', lambda cfg: looked)
    played = lambda cfg, out, finish, progress: SCORED | in_result(looked)
    monkeypatch.setattr(module, 'train', played)
    grids = [Grid('x', {'a': fields}, seeds=n) for n in (1, 2)]
    where = tmp_path / 'lines.jsonl', tmp_path / 'runs'
    [line] = sweep(grids[0], *where, progress=False)
    assert line[what] == 'a0'
    looked = looked | {what: 'a1'}
    words = (
        f"lines of 'a' are of other .* under {'start_from' * (what == 'start') or what}"
    )
    with pytest.raises(ValueError, match=words):
        sweep(grids[1], *where, progress=False)
    looked = looked | {what: 'a0'}
    assert len(sweep(grids[1], *where, progress=False)) == 2


# where the data lie


@pytest.mark.parametrize(
    'fields',
    [
        dict(dataset='imagefolder'),
        dict(dataset='npz'),
        dict(modality='text', dataset='sentences'),
        dict(modality='text', dataset='library'),
        dict(modality='graph', dataset='mutag'),
        dict(modality='own_vectors:TASK', dataset='cifar10'),
    ],
    ids=lambda fields: ' '.join(fields.values()),
)
def test_other_folders_of_data_are_other_runs(fields, tmp_path, monkeypatch):
    lines = [
        'from dataclasses import replace',
        'from unremix.image_task import TASK as IMAGES',
        "TASK = replace(IMAGES, name='own', datasets=('cifar10',))",
    ]
    (tmp_path / 'own_vectors.py').write_text('\n'.join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    if fields.get('modality') == 'graph':
        pytest.importorskip('torch_geometric')
    keys = {run_key(run_of(**fields, data_root=root)) for root in 'ab'}
    assert len(keys) == 2


@pytest.mark.parametrize(
    'fields',
    [
        *(dict(dataset=name) for name in ('fashion_mini', 'fashion_mnist', 'digits')),
        *(dict(dataset=name) for name in ('mnist', 'cifar10', 'cifar100', 'stl10')),
        dict(dataset='stl10_all'),
        dict(modality='text', dataset='docstrings'),
        dict(modality='text', dataset='twice'),
    ],
    ids=lambda fields: fields['dataset'],
)
def test_published_data_are_the_same_anywhere(fields):
    keys = {run_key(run_of(**fields, **where)) for where in ({}, dict(data_root='a'))}
    assert len(keys) == 1


# before a sweep begins to work


FOREIGN = {
    'another program': b'{"step": 3, "loss": 1.5}\n',
    'a grid': b'experiment = "x"\nbase = {lr = 0.1}\n',
    'a text': b'bought milk',
    'no text': b'\xff\xfe\x00\n',
    'a list': b'[1, 2]\n',
}


@pytest.mark.parametrize('name', FOREIGN)
def test_a_file_that_no_sweep_wrote_is_left_alone(name, tmp_path):
    out = tmp_path / 'lines.jsonl'
    out.write_bytes(FOREIGN[name])
    grid = Grid('x', {'a': {'limit': 64, 'batch_size': 16}}, seeds=1)
    words = 'out must be a new file, or the lines of a sweep, got '
    with pytest.raises(ValueError, match=words):
        sweep(grid, out, tmp_path / 'runs', progress=False)
    with pytest.raises(ValueError, match=words):
        sweep(grid, tmp_path, tmp_path / 'runs', progress=False)
    assert out.read_bytes() == FOREIGN[name] and [*tmp_path.iterdir()] == [out]


NOTHING = {
    '[cells]': 'cells must be a table of one cell or more, got {}',
    '[cells]\na = {}\n[vary]\nlr = []': "vary 'lr' must be one value or more, got []",
}


@pytest.mark.parametrize('text', NOTHING)
def test_a_grid_without_runs_is_refused(text, tmp_path):
    path = tmp_path / 'grid.toml'
    path.write_text(f'experiment = "x"\n{text}')
    with pytest.raises(ValueError) as error:
        read_grid(path)
    assert str(error.value) == NOTHING[text]
    empty = Grid('x', {'a': {}}, vary={'lr': []})
    with pytest.raises(ValueError, match="vary 'lr' must be one value or more"):
        sweep(empty, tmp_path / 'lines.jsonl', tmp_path / 'runs')


def test_another_sweep_is_waited_for_as_long_as_it_takes(tmp_path, monkeypatch):
    waits = []

    def played(cfg, out, finish, progress):
        if len(waits) < 2000:
            raise FolderInUse('held')
        return SCORED

    monkeypatch.setattr(module, 'train', played)
    monkeypatch.setattr(module.time, 'sleep', waits.append)
    result = finish_run(run_of(limit=64), tmp_path / 'run')
    assert result == SCORED | {'precision': None} and waits == [1] * 2000


# a run that is killed while it is scored


def test_the_last_values_of_schedules_are_scored(tmp_path):
    "Also where no step was left to take."
    small = dict(limit=32, batch_size=16, epochs=1, **HERE)
    cfg = run_of(strategy='hcl', beta=3.0, beta_end=0.0, **small)
    seen = lambda run: {'beta': read(run.criterion, 'beta')}

    def killed(run):
        raise KeyboardInterrupt

    assert train(cfg, tmp_path / 'whole', seen, progress=False)['beta'] == 0.0
    with pytest.raises(KeyboardInterrupt):
        train(cfg, tmp_path / 'cut', killed, progress=False)
    assert train(cfg, tmp_path / 'cut', seen, progress=False)['beta'] == 0.0
