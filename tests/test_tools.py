"Tools write over no file that is there, and say what they lack, before the work."

import io
import json
import sys

import check_gpu
import graph_study
import judge_encoders
import judge_leads
import judge_readings
import make_cifar10_npz
import numpy as np
import pytest
import torch
import untrained_scores

import audit_precision
import text_study
from benchmarks.losses import bench, BenchConfig
from benchmarks.scale import ScaleConfig
from PIL import Image


@pytest.fixture
def started(monkeypatch, capsys):
    "Call the `main` of a tool with such words; its exit status, and what it said."

    def start(tool, *words):
        monkeypatch.setattr(sys, 'argv', [tool.__name__, *map(str, words)])
        try:
            status = tool.main()
        except SystemExit as e:
            status = e.code
        return status, capsys.readouterr()

    return start


def fails(*_, **__):
    raise AssertionError('nothing was to be computed')


def file_of(folder, *lines):
    path = folder / 'there.jsonl'
    path.write_text(''.join(json.dumps(line) + '\n' for line in lines))
    return path, path.read_text()


def test_facts_do_not_replace_the_runs(tmp_path, started, monkeypatch):
    monkeypatch.setattr(graph_study, 'load_graphs', fails)
    path, before = file_of(tmp_path, {'set': 'mutag'})
    status, said = started(graph_study, tmp_path, path, '--facts', '--sets', 'mutag')
    assert status == 2 and 'needs a new file' in said.err
    assert path.read_text() == before


GRID = """
experiment = "few"
seeds = 2
[base]
limit = 64
[cells]
simclr = {strategy = "simclr"}
"""


def test_a_cell_that_is_not_there_empties_no_file(tmp_path, monkeypatch):
    grid = tmp_path / 'few.toml'
    grid.write_text(GRID)
    path, before = file_of(tmp_path, {'cell': 'untrained'})
    with pytest.raises(ValueError, match=r"one of \['simclr'\], got 'SimCLR'"):
        untrained_scores.main(grid, 'SimCLR', path)
    assert path.read_text() == before

    scores = {'scores': {'linear': 0.1, 'knn10': 0.2, 'knn200': 0.3, 'rank': 4}}
    monkeypatch.setattr(untrained_scores, 'untrained_scores', lambda cfg: scores)
    untrained_scores.main(grid, 'simclr', path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line['seed'] for line in lines] == [0, 1]
    assert lines[0] == {
        'cell': 'untrained',
        'seed': 0,
        'linear': 0.1,
        'knn10': 0.2,
        'knn200': 0.3,
    }


def test_parts_of_two_devices_do_not_share_a_file(tmp_path, monkeypatch):
    path = tmp_path / 'gpu.json'
    monkeypatch.setattr(check_gpu, 'RESULT', path)
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda: 'small')
    check_gpu.save(speed=[1])
    check_gpu.save(checks={'one': 1})
    check_gpu.save(checks={'two': 2})
    found = json.loads(path.read_text())
    assert found['device'] == 'small' and found['torch'] == torch.__version__
    assert found['speed'] == [1] and found['checks'] == {'one': 1, 'two': 2}

    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda: 'large')
    with pytest.raises(SystemExit, match='move it away first'):
        check_gpu.save(checks={'one': 3})
    assert json.loads(path.read_text()) == found


def test_the_audit_measures_no_seed_twice(tmp_path, started, monkeypatch):
    monkeypatch.setattr(audit_precision, 'train', fails)
    path, before = file_of(tmp_path, {'set': 'fashion_mini', 'seed': 0, 'images': 2000})
    words = audit_precision, 'fashion_mini', 0, '--out', path, '--runs', tmp_path
    status, said = started(*words)
    assert not status and 'has fashion_mini, seed 0' in said.out
    status, said = started(*words, '--images', 5000)
    assert status == 2 and 'name another file' in said.err
    assert path.read_text() == before


def test_data_that_are_not_named(tmp_path, started, monkeypatch):
    monkeypatch.setattr(audit_precision, 'train', fails)
    out = '--out', tmp_path / 'new.jsonl'
    status, said = started(audit_precision, 'cifar10_jpeg', 0, *out)
    assert status == 2 and 'needs --data' in said.err
    for study in ('ordered', 'scifact', 'probes'):
        status, said = started(text_study, study, tmp_path / 'new.jsonl')
        assert status == 2 and f'{study} needs --data' in said.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('tool', (judge_encoders, judge_readings, judge_leads))
def test_runs_that_are_not_there_are_told(tool, tmp_path, started):
    line = {'cell': 'simclr', 'strategy': 'simclr', 'seed': 80, 'key': 'abc'}
    path, _ = file_of(tmp_path, line | {'dataset': 'digits', 'knobs': {}})
    out = tmp_path / 'out.jsonl'
    words = [path, '--runs', tmp_path / 'runs', '--out', out]
    if tool is judge_encoders:
        words += ['--dataset', 'digits']
    status, _ = started(tool, *words)
    assert 'of the runs are not there' in status and 'abc' in status
    assert not out.exists()


def test_a_part_of_a_benchmark_has_a_file_of_its_own(tmp_path):
    out = tmp_path / 'part.json'
    for part in ({'variants': ('ntxent',)}, {'largest': 512}):
        with pytest.raises(ValueError, match='^out must be another file than'):
            ScaleConfig(**part)
        assert ScaleConfig(out, **part).out == out
    with pytest.raises(ValueError, match='^out must be another file than'):
        bench(BenchConfig(steps=0))
    assert ScaleConfig(rounds=1).out == ScaleConfig().out != out


def test_a_part_of_cifar(tmp_path, started):
    "Groups of classes, and training images spread over them; image i is of grey i."
    classes, arrays = ['cat', 'dog', 'ship'], {'header': np.zeros(0, np.uint8)}
    for split, count in (('train', 12), ('test', 6)):
        scans = []
        for grey in range(count):
            file = io.BytesIO()
            Image.new('RGB', (32, 32), (10 * grey,) * 3).save(file, 'JPEG', quality=95)
            scans.append(file.getvalue())
        arrays[f'{split}_scans'] = np.frombuffer(b''.join(scans), np.uint8)
        arrays[f'{split}_sizes'] = np.array([len(scan) for scan in scans])
        arrays[f'{split}_labels'] = np.arange(count) % 3
    np.savez(tmp_path/'scans.npz', **arrays, classes=np.array(classes))

    def made(*asked):
        assert not started(make_cifar10_npz, tmp_path/'scans.npz', tmp_path/'out.npz', *asked)[0]
        with np.load(tmp_path/'out.npz') as file:
            return dict(file)

    whole = made()
    assert whole['classes'].tolist() == classes and len(whole['train_images']) == 12
    assert whole['train_labels'].tolist() == [0, 1, 2] * 4

    found = made('--groups', 'ship', 'cat+dog', '--train', 6)
    assert found['classes'].tolist() == ['ship', 'cat+dog']
    assert np.bincount(found['train_labels']).tolist() == [2, 4]  # as in all of them
    assert found['test_labels'].tolist() == [1, 1, 0] * 2  # and none is left out
    for split in ('train', 'test'):
        grey = (found[f'{split}_images'].mean((1, 2, 3)) / 10).round().astype(int)
        assert (found[f'{split}_labels'] == (grey % 3 != 2)).all()

    only = made('--groups', 'dog')
    assert (only['train_images'].mean((1, 2, 3)) / 10).round().tolist() == [1, 4, 7, 10]
    for asked, words in (
        (('--groups', 'cow'), "not 'cow'"),
        (('--groups', 'cat', 'cat+dog'), "not 'cat' twice"),
        (('--train', 13), 'from 1 to 12, not 13'),
    ):
        words_of = started(make_cifar10_npz, tmp_path/'scans.npz', tmp_path/'no.npz', *asked)
        assert words in str(words_of[0])
    assert not (tmp_path/'no.npz').exists()
