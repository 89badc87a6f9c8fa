"Every preset trains, goes on after a kill, and scores: two steps at batch 4 on generated images of the right shape."
import json, math, shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision.datasets
from configs import run_of
import unremix.train
from PIL import Image
from unremix.checkpoint import save_checkpoint
from unremix.cli import main
from unremix.presets import OF_COMPARE, PRESETS
from unremix.run_parts import set_up
from unremix.steps import assign_schedules
from unremix.augmentation import COLOUR, RECIPES

COUNT = {'train': 6, 'unlabeled': 1, 'test': 4}

def noise(*shape): return np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)

def cifar(root, train, download):
    n = COUNT['train' if train else 'test']
    return SimpleNamespace(data=noise(n, 32, 32, 3), targets=[i % 2 for i in range(n)], classes=['a', 'b'])

def fashion(root, train, download):
    n = COUNT['train' if train else 'test']
    return SimpleNamespace(data=noise(n, 28, 28), targets=[i % 2 for i in range(n)], classes=['a', 'b'])

def stl10(root, split, download):
    n = COUNT[split]
    labels = np.full(n, -1) if split == 'unlabeled' else np.arange(n) % 2
    return SimpleNamespace(data=noise(n, 3, 96, 96), labels=labels, classes=['a', 'b'])

@pytest.fixture
def images(monkeypatch, tmp_path):
    "Stand-ins for what torchvision downloads, and a folder of images."
    for name, stored in dict(CIFAR10=cifar, CIFAR100=cifar, STL10=stl10, FashionMNIST=fashion).items(): monkeypatch.setattr(torchvision.datasets, name, stored)
    for split, n in (('train', 6), ('val', 4)):
        for i, pixels in enumerate(noise(n, 224, 224, 3)):
            path = tmp_path/'images'/split/'ab'[i % 2]/f'{i}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    yield tmp_path/'images'
    shutil.rmtree(tmp_path) # checkpoints of ResNet-50 are 300 MB

def checkpoint(out): return torch.load(out/'checkpoint.pt', weights_only=True, mmap=True)

@pytest.mark.parametrize('name', PRESETS)
def test_trains_continues_and_scores(name, images, tmp_path, monkeypatch, capsys):
    short = ['--limit', '140', '--batch-size', '128'] if name == 'quick' else ['--data-root', str(images), '--batch-size', '4']
    command = ['train', '--preset', name, '--strategy', 'hcl', *short, '--epochs', '2', '--warmup-epochs', '0', '--log-every', '1', '--precision', '32-true', '--accelerator', 'cpu']
    whole, cut = tmp_path/'whole', tmp_path/'cut'
    def save(path, run, **state):
        save_checkpoint(path, run, **state)
        if state['epoch'] == 1: shutil.copytree(path.parent, cut) # what a kill at this moment would leave
    with monkeypatch.context() as m:
        m.setattr(unremix.train, 'save_checkpoint', save)
        assert main([*command, '--out', str(whole)]) == 0
    assert checkpoint(cut)['epoch'] == 1 and not (cut/'result.json').exists()
    assert main([*command, '--out', str(cut)]) == 0

    ours, expected = checkpoint(cut)['model'], checkpoint(whole)['model']
    assert ours.keys() == expected.keys() and all(torch.equal(v, expected[k]) for k, v in ours.items())
    a, b = (json.loads((out/'result.json').read_text()) for out in (whole, cut))
    losses = [json.loads(line)['loss'] for line in (whole/'log.jsonl').read_text().splitlines()]
    assert a['steps'] == len(losses) == 2 and all(map(math.isfinite, losses))
    assert a['scores'] == b['scores'] and len(a['scores']) > 6
    assert all(math.isfinite(v) for k, v in a['scores'].items() if k != 'correct') and 0 <= a['scores']['linear'] <= 1

SIDES = {'cifar10': 32, 'cifar100': 32, 'stl10': 32, 'tinyimagenet': 64, 'imagenet100': 224} # pixels

@pytest.mark.parametrize('name', sorted(PRESETS.keys() - {'quick', 'fashion-small-10ep'}))
def test_is_what_its_name_says(name, images):
    data, encoder, epochs = name.split('-')
    fields = {k: v for k, v in PRESETS[name].items() if k not in OF_COMPARE} | {'encoder': 'small', 'data_root': str(images), 'batch_size': 4}
    run = set_up(run_of(**fields, precision='32-true', accelerator='cpu'))
    assert (PRESETS[name]['encoder'], fields['epochs']) == (f'resnet{encoder[1:]}', int(epochs.removesuffix('ep')))
    assert run.images.x.shape[1:] == (3, SIDES[data], SIDES[data]) and RECIPES[run.images.name] == COLOUR
    last = assign_schedules(run, run.steps*fields['epochs'] - 1)['lr']
    assert last == fields['lr'] if '400ep' in name else last < fields['lr']/100

def test_the_run_that_is_shipped_is_what_its_name_says():
    cfg = run_of(**PRESETS['fashion-small-10ep'])
    data, encoder, epochs = 'fashion-small-10ep'.split('-')
    assert cfg.data.dataset.startswith(data) and cfg.model.encoder == encoder and cfg.optim.epochs == int(epochs.removesuffix('ep'))
    assert (cfg.strategy, cfg.run.precision, cfg.data.data_root) == ('simclr', '32-true', None)

@pytest.mark.parametrize('name', ['cifar100-r18-200ep', 'stl10-r50-400ep', 'imagenet100-r50-200ep']) # one of each kind of data; the small encoder saves time
def test_compares(name, images, tmp_path, capsys):
    command = ['compare', '--preset', name, '--data-root', str(images), '--encoder', 'small', '--batch-size', '4', '--epochs', '1', '--warmup-epochs', '0', '--seeds', '1']
    assert main([*command, *(['--timed-steps', '1'] if 'imagenet' not in name else []), '--precision', '32-true', '--accelerator', 'cpu', '--out', str(tmp_path/'out')]) == 0
    rows = json.loads((tmp_path/'out'/'result.json').read_text())['rows']
    assert {'simclr', 'debiased', 'hcl', 'unremix'} <= rows.keys() and ('supervised' in rows) == ('stl10' not in name)
    assert ('overhead' in rows['hcl']) == ('imagenet' not in name)
