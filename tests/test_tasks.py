"A task that the library does not know: everything that trains images trains it too."

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from configs import comparison, run_of
from vectors import TASK, Vectors

from unremix.cli import main
from unremix.compare import compare
from unremix.config import DataConfig, TrainConfig
from unremix.evaluate import evaluate, load_run, score
from unremix.grid import Grid, run_key
from unremix.run_folder import check_folder
from unremix.run_parts import set_up
from unremix.safe_files import read_json
from unremix.steps import epoch_steps
from unremix.sweep import sweep
from unremix.table import table
from unremix.tasks import TASKS, find_task
from unremix import train as training
from unremix.train import train

SMALL = {'modality': 'vectors:TASK', 'limit': 60, 'batch_size': 20, 'epochs': 3}
SMALL |= {'precision': '32-true', 'log_every': 1}


def scored(run):
    return {'scores': score(run)}


def state(out):
    saved = torch.load(out / 'checkpoint.pt', weights_only=True)
    return {k: saved.get(k) for k in ('model', 'optimizer', 'queue', 'epoch', 'loss')}


def log_of(out):
    lines = map(json.loads, (out / 'log.jsonl').read_text().splitlines())
    return [{k: v for k, v in line.items() if k != 'vectors_per_s'} for line in lines]


@pytest.mark.parametrize('more', ({}, {'queue_size': 20}, {'micro_batch': 8}), ids=str)
def test_it_goes_on_after_a_kill(more, tmp_path, monkeypatch):
    "Stopped before any of its steps, the run ends at the same bits."
    cfg = run_of(**SMALL, **more, strategy='hcl', beta_end=0.0, save_every=2)
    whole = train(cfg, tmp_path / 'whole', scored, progress=False)
    assert whole['steps'] == 9
    real, seen = training.epoch_steps, []

    def dies(run, *args):
        for values in real(run, *args):
            if values[0] == 5 and not seen:
                seen.append(1)
                raise KeyboardInterrupt
            yield values

    monkeypatch.setattr(training, 'epoch_steps', dies)
    with pytest.raises(KeyboardInterrupt):
        train(cfg, tmp_path / 'cut', scored, progress=False)
    again = train(cfg, tmp_path / 'cut', scored, progress=False)
    assert again['scores'] == whole['scores']
    assert_close(state(tmp_path / 'cut'), state(tmp_path / 'whole'), rtol=0, atol=0)
    assert log_of(tmp_path / 'cut') == log_of(tmp_path / 'whole')
    assert [line['step'] for line in log_of(tmp_path / 'cut')] == list(range(9))


def test_a_finished_run_is_scored_again(tmp_path):
    cfg = run_of(**SMALL)
    result = train(cfg, tmp_path / 'run', scored, progress=False)
    assert evaluate(tmp_path / 'run')['scores'] == result['scores']
    run = load_run(tmp_path / 'run')
    assert isinstance(run.samples, Vectors) and run.task is TASK and run.steps == 3
    assert result['scores']['mean_norm'] > 0
    held = read_json(tmp_path / 'run' / 'data.json')
    assert held['train']['vectors'] == 60 and 'images' not in held['train']
    other = dataclasses.replace(cfg, data=dataclasses.replace(cfg.data, limit=40))
    with pytest.raises(ValueError, match='limit'):
        check_folder(tmp_path / 'run', other)


def test_other_samples_are_noticed(tmp_path, monkeypatch):
    train(run_of(**SMALL), tmp_path / 'run', progress=False)
    (tmp_path / 'run' / 'result.json').unlink()
    other = dataclasses.replace(
        TASK, load=lambda *a: dataclasses.replace(TASK.load(*a), fingerprint='f' * 16)
    )
    monkeypatch.setitem(TASKS, 'vectors:TASK', other)
    told = 'with other vectors: train has as many vectors and classes, but not the same'
    with pytest.raises(ValueError, match=told):
        train(run_of(**SMALL), tmp_path / 'run', progress=False)


ROWS = {'strategies': ('simclr', 'hcl', 'batchsampler(every=2)'), 'timed_steps': 1}


def test_compared(tmp_path, capsys):
    "Also with two workers, which have to find the task themselves."
    cfg = comparison(**SMALL, **ROWS)
    result = compare(cfg, tmp_path / 'one', progress=False)
    names = list(result['rows'])
    assert names[:3] == ['norm and sum', 'untrained', 'supervised']
    assert (tmp_path / 'one' / 'sum' / 'result.json').exists()
    for name, row in result['rows'].items():
        assert row['mean_norm']['mean'] > 0 and 0 <= row['linear']['mean'] <= 1
    two = dataclasses.replace(cfg, workers=2)
    again = compare(two, tmp_path / 'two', progress=False)
    one = compare(dataclasses.replace(cfg, threads=1), tmp_path / 'three', False)
    for name, row in one['rows'].items():
        assert again['rows'][name]['linear'] == row['linear']
    shown = table(result)
    assert 'mean_norm' in shown and 'norm and sum' in shown
    assert f"{result['rows']['norm and sum']['mean_norm']['mean']:.3f}" in shown


def test_from_the_command_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(Path(__file__).parent)
    out, words = str(tmp_path / 'c'), '--modality vectors:TASK --quick --seeds 1'.split()
    rows = '--strategies simclr hcl --timed-steps 0'.split()
    assert main(['compare', *words, *rows, '--out', out]) == 0
    assert 'norm and sum' in capsys.readouterr().out
    saved = read_json(tmp_path / 'c' / 'config.json')['train']
    assert saved['data']['dataset'] == 'gauss' and saved['model']['encoder'] == 'line'
    assert saved['optim']['batch_size'] == 30 and saved['data']['limit'] == 90
    assert main(['compare', *words, *rows, '--out', out]) == 0
    assert 'nothing to do' in capsys.readouterr().out
    words = '--modality=vectors:TASK --quick --batch-size 45'.split()
    assert main(['train', *words, '--out', str(tmp_path / 't')]) == 0
    assert read_json(tmp_path / 't' / 'result.json')['steps'] == 2
    assert main(['evaluate', str(tmp_path / 't')]) == 0
    assert main(['train', *words, '--image-size', '32', '--out', out + 'x']) != 0
    told = capsys.readouterr().err
    assert 'image_size must be left at None with modality vectors:TASK' in told


def test_swept(tmp_path):
    base = SMALL | {'epochs': 1}
    cells = {'a': {'strategy': 'simclr'}, 'b': {'strategy': 'hcl'}}
    grid = Grid('vectors', cells, base, seeds=1)
    lines = sweep(grid, tmp_path / 'x.jsonl', tmp_path / 'runs', progress=False)
    assert [line['dataset'] for line in lines] == ['gauss', 'gauss']
    assert lines[0]['knobs']['modality'] == 'vectors:TASK' and lines[0]['mean_norm'] > 0
    before = (tmp_path / 'x.jsonl').read_bytes()
    sweep(grid, tmp_path / 'x.jsonl', tmp_path / 'runs', progress=False)
    assert (tmp_path / 'x.jsonl').read_bytes() == before


def test_twins_are_never_negatives():
    "Samples of one number: the loss of a batch is that with their ids, not without."
    cfg = run_of(**SMALL | {'dataset': 'twins'})
    run = set_up(cfg)
    assert run.samples.ids.tolist() == [i // 2 for i in range(60)]
    kept = []
    real = run.criterion.forward
    run.criterion.forward = lambda *z, **given: (
        kept.append(given.get('sample_ids')) or real(*z, **given)
    )
    for _ in epoch_steps(run, 0):
        pass
    assert all(ids is not None for ids in kept)
    assert torch.cat(kept).bincount().max() == 2 and len(torch.cat(kept)) == 60
    plain = set_up(run_of(**SMALL))
    assert getattr(plain.samples, 'ids', None) is None


def test_defaults_follow_the_modality():
    cfg = TrainConfig.of({'modality': 'vectors:TASK'})
    assert (cfg.data.dataset, cfg.model.encoder) == ('gauss', 'line')
    assert cfg.optim.batch_size == 30 and cfg.usual() == cfg.fields()
    assert TrainConfig.of({'modality': 'vectors:TASK', 'batch_size': 5}) == cfg.but(
        {'batch_size': 5}
    )
    assert TrainConfig.of({'epochs': 3}).but({'modality': 'vectors:TASK'}) == cfg.but(
        {'epochs': 3}
    )
    assert cfg.but({'modality': 'image'}) == TrainConfig()
    assert TrainConfig.from_json(cfg.as_json()) == cfg


def test_runs_of_images_keep_their_names():
    "A configuration of an older release, without the field, is of images."
    cfg = TrainConfig.of({'strategy': 'hcl', 'beta': 2.0})
    saved = cfg.as_json()
    del saved['data']['modality']
    assert TrainConfig.from_json(saved) == cfg and cfg.data.modality == 'image'
    assert run_key(TrainConfig()) == '44136fa355b3'  # of release 0.1.0: of no field
    assert run_key(run_of(modality='vectors:TASK')) != run_key(TrainConfig())


@pytest.mark.parametrize(
    'fields, told',
    (
        ({'modality': 'sound'}, 'modality must be one of image, text, graph, or module'),
        ({'modality': 3}, 'modality must be one of image'),
        ({'modality': 'vectors:NONE'}, "'vectors:NONE' cannot be imported"),
        ({'modality': 'vectors:Vectors'}, "modality 'vectors:Vectors' must be a Task"),
        ({**SMALL, 'dataset': 'digits'}, r"dataset must be one of \['gauss', 'twins'\]"),
        ({**SMALL, 'encoder': 'small'}, r"encoder must be one of \['line'\] with modal"),
        ({'dataset': 'gauss'}, r"dataset must be one of \['fashion_mini'"),
        ({'encoder': 'line'}, r"encoder must be one of \['small', 'resnet18'"),
        ({**SMALL, 'augment_strength': 0.5}, 'augment_strength must be left at 1.0 with'),
    ),
    ids=str,
)
def test_refused(fields, told):
    with pytest.raises(ValueError, match=told):
        TrainConfig.of(fields)


def test_groups_have_to_name_data_set_and_encoder():
    with pytest.raises(ValueError, match='dataset must be one of'):
        TrainConfig(data=DataConfig(modality='vectors:TASK'))


def test_a_missing_library_is_one_sentence(monkeypatch):
    absent = dataclasses.replace(TASK, needs=('torch', 'no_such_lib'), extra='sound')
    monkeypatch.setitem(TASKS, 'sound', absent)
    with pytest.raises(ValueError) as e:
        find_task('sound')
    told = "modality='sound' needs no_such_lib: pip install 'unremix[sound]'"
    assert str(e.value) == told


def test_without_labels(tmp_path, monkeypatch):
    count = lambda h_train, y_train, h_test, y_test: {'learnt_from': len(h_train)}
    bare = dataclasses.replace(
        TASK, load=lambda *a: unlabelled(TASK.load(*a)), probe=count
    )
    monkeypatch.setitem(TASKS, 'bare', bare)
    cfg = comparison(**SMALL | {'modality': 'bare'}, **ROWS | {'timed_steps': 0})
    result = compare(cfg, tmp_path / 'bare', progress=False)
    assert result['unscored'] == 'no training vector has a label'
    told = 'the training vectors show less than two classes'
    assert result['left_out'] == {'supervised': told}
    assert result['rows']['hcl']['mean_norm']['mean'] > 0
    assert 'linear' not in result['rows']['hcl']
    assert result['rows']['hcl']['learnt_from']['values'] == [0, 0]


def unlabelled(samples):
    return dataclasses.replace(samples, y=-1 - torch.arange(len(samples)))
