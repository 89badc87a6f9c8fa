"The encoder in the package is the run that it says it is, under one name everywhere."

import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import ship_encoder
import torch
from PIL import Image
from torch.testing import assert_close

import unremix.export as export
import unremix.pretrained as pretrained
from unremix.audit import audit
from unremix.checkpoint import load_checkpoint
from unremix.cli import main
from unremix.config import TrainConfig
from unremix.data import load_dataset
from unremix.embed_folder import encoder_of
from unremix.embedding_files import load_embeddings
from unremix.export import export_encoder
from unremix.image_files import DatasetMissing
from unremix.image_parts import tell
from unremix.image_sets import DEBIAN_FASHION_MNIST
from unremix.kept_encoder import is_ours, load_encoder
from unremix.presets import preset_fields
from unremix.pretrained import about_pretrained, beside, facts_of_shipped, is_name
from unremix.pretrained import place_of, shipped
from unremix.run_parts import set_up, start_model
from unremix.starting_weights import fingerprint_of_start
from unremix.train import train

ROOT = Path(__file__).resolve().parents[1]
FILES = {'checkpoint.pt', 'config.json', 'data.json', 'result.json', 'shipped.json'}
SMALL = dict(
    limit=64, batch_size=16, epochs=1, log_every=1, precision='32-true', accelerator='cpu'
)


def in_package():
    "{file: digest} of the shipped folder."
    return {
        p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in shipped().iterdir()
    }


@pytest.fixture
def here(tmp_path, monkeypatch):
    "The current folder, with images below it; the package is as it was afterwards."
    before = in_package()
    monkeypatch.chdir(tmp_path)
    tell.cache_clear()
    (tmp_path / 'photos').mkdir()
    for i, pixels in enumerate(load_dataset('fashion_mini', 'test', limit=40).x):
        Image.fromarray(pixels[0].numpy()).save(tmp_path / 'photos' / f'{i:02d}.png')
    yield tmp_path
    assert in_package() == before


def test_features_are_those_of_the_run():
    "Numbers that the run gave, and those of its weights in 16 bits."
    kept = json.loads((ROOT / 'tests' / 'pretrained.json').read_text())
    x = load_dataset('fashion_mini', 'test').x[kept['images']]
    h = load_encoder('pretrained').features(x)
    assert h.dtype == torch.float32 and h.isfinite().all()
    of_run, of_shipped = (torch.tensor(kept[k]) for k in ('run', 'shipped'))
    assert_close(h[:, :: kept['every']], of_shipped, rtol=1e-4, atol=1e-4)
    largest = facts_of_shipped()['shipped']['largest_difference']
    assert 0 < (of_run - of_shipped).abs().max() <= largest + 1e-5
    assert largest < 0.005 * facts_of_shipped()['shipped']['largest_feature']


def test_the_file_holds_the_encoder_alone_in_16_bits():
    state = load_checkpoint(shipped() / 'checkpoint.pt')
    assert all(name.startswith('encoder.') for name in state['model'])
    kinds = {x.dtype for x in state['model'].values()}
    assert kinds == {torch.float16, torch.int64} and state['optimizer'] == {}
    encoder = load_encoder('pretrained')
    assert {x.dtype for x in encoder.parameters()} == {torch.float32}
    for name, x in encoder.net.state_dict().items():
        assert_close(x, state['model']['encoder.' + name].to(x.dtype), rtol=0, atol=0)


def test_the_preset_is_the_run():
    facts = facts_of_shipped()
    fields = preset_fields(['--preset', 'fashion-small-10ep'], TrainConfig)
    assert TrainConfig.from_json(facts['config']) == TrainConfig.of(fields)
    assert load_checkpoint(shipped() / 'checkpoint.pt')['config'] == facts['config']
    cfg, steps = TrainConfig.of(fields), facts['result']['steps']
    assert steps == facts['data']['train']['images'] // 128 * cfg.optim.epochs
    assert load_checkpoint(shipped() / 'checkpoint.pt')['epoch'] == cfg.optim.epochs


def test_facts_are_told():
    about = about_pretrained()
    scores = facts_of_shipped()['result']['scores']
    assert f'linear {scores["linear"]:.1%}' in about['scores']
    assert '10000 test images' in about['scores'] and about['seeds'] == '1 (seed 0)'
    assert about['images'] == '60000 of fashion_mnist, without their labels'
    assert '10 epochs' in about['training'] and 'simclr' in about['training']
    assert 'MIT' in about['licence'] and 'Apache-2.0' in about['licence']
    assert re.search(r'\+[0-9a-f]{7,}$', about['code'].split(',')[0])  # a clean commit


def test_nothing_of_a_machine_and_small():
    assert set(in_package()) == FILES
    texts = [p.read_text() for p in shipped().glob('*.json')]
    assert not any(re.search(r'/\w+/\w+/', text) for text in texts)
    assert sum(p.stat().st_size for p in shipped().iterdir()) < 2**20
    assert facts_of_shipped()['config']['data']['data_root'] is None


@pytest.mark.skipif(not DEBIAN_FASHION_MNIST.exists(), reason='needs all of the images')
def test_no_test_image_was_trained_on():
    facts = facts_of_shipped()['data']
    parts = {part: load_dataset('fashion_mnist', part) for part in ('train', 'test')}
    for part, images in parts.items():
        assert facts[part]['fingerprint'] == images.fingerprint
    as_set = lambda images: {x.tobytes() for x in images.x.numpy()}
    seen, never = map(as_set, parts.values())
    assert not seen & never
    assert as_set(load_dataset('fashion_mini', 'test')) <= never
    assert as_set(load_dataset('fashion_mini', 'train')) <= seen


def test_embed_and_audit_by_name(here, capsys):
    assert main(['embed', 'pretrained', 'photos', '--out', 'of.npz']) == 0
    found = load_embeddings(here / 'of.npz')
    x = load_dataset('fashion_mini', 'test', limit=40).x
    wanted = load_encoder('pretrained').features(x).numpy()
    np.testing.assert_allclose(found['h'], wanted, rtol=1e-4, atol=1e-4)
    args = ['audit', 'photos', '--model', 'pretrained', '--out', 'audit']
    assert main([*args, '--pairs', '5']) == 0
    audit(here / 'of.npz', here / 'again', pairs=5, progress=False)
    read = lambda folder: (here / folder / 'pairs.csv').read_bytes()
    assert read('audit') == read('again')
    assert '40 images' in capsys.readouterr().out


def test_a_folder_as_out_is_refused_before_an_export(here, monkeypatch):
    (here / 'there').mkdir()
    monkeypatch.setattr(export, 'load_encoder', lambda source: pytest.fail('loaded'))
    words = "^out must be a file, not a folder, got 'there'$"
    with pytest.raises(ValueError, match=words):
        export_encoder('pretrained', 'safetensors', 'there')
    assert not [*(here / 'there').iterdir()]


def test_export_by_name_goes_into_the_current_folder(here, capsys):
    (here / 'pretrained').mkdir()  # of the same name, and not meant
    assert main(['export', 'pretrained', '--to', 'torchscript']) == 0
    assert (here / 'encoder.torchscript.pt').is_file()
    assert not list((here / 'pretrained').iterdir())
    path, difference = export_encoder('pretrained', 'torchscript', here / 'mine.pt')
    x = load_dataset('fashion_mini', 'test', limit=4).x
    wanted = load_encoder('pretrained').features(x)
    assert_close(torch.jit.load(path)(x), wanted, rtol=1e-4, atol=1e-4)


def test_a_run_begins_with_it(here):
    run = set_up(TrainConfig.of(SMALL | {'start_from': 'pretrained'}))
    start_model(run)
    wanted = load_encoder('pretrained').net.state_dict()
    for name, x in run.model.module.encoder.state_dict().items():
        assert_close(x, wanted[name], rtol=0, atol=0)
    result = train(
        TrainConfig.of(SMALL | {'start_from': 'pretrained'}), here / 'run', progress=False
    )
    assert result['start'] == in_package()['checkpoint.pt'][:16]
    assert result['start'] == fingerprint_of_start('pretrained')


def test_colours_are_refused(here, capsys):
    args = ['--dataset', 'imagefolder', '--data-root', 'photos', '--batch-size', '8']
    for path in (here / 'photos').iterdir():
        Image.open(path).convert('RGB').save(path)
    pixels = np.random.default_rng(0).integers(256, size=(28, 28, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(here / 'photos' / '00.png')
    start = ['--start-from', 'pretrained', '--epochs', '1', '--out', 'run']
    assert main(['train', *args, *start]) == 2
    assert '(32, 1, 5, 5) there and (32, 3, 5, 5)' in capsys.readouterr().err


def test_the_name_wins_and_says_so(here, capsys):
    train(TrainConfig.of(SMALL | {'seed': 3}), here / 'pretrained', progress=False)
    of_name = load_encoder('pretrained').digest()
    assert "is './pretrained'" in capsys.readouterr().err
    assert encoder_of('pretrained').digest() == of_name
    assert capsys.readouterr().err == ''  # once
    of_mine = load_encoder(here / 'pretrained').digest()
    assert of_mine != of_name
    for mine in ('./pretrained', Path('pretrained')):
        assert load_encoder(mine).digest() == encoder_of(mine).digest() == of_mine
        assert fingerprint_of_start(str(here / 'pretrained')) != fingerprint_of_start(
            'pretrained'
        )
    assert beside('./pretrained') == Path('pretrained') and beside('pretrained') == Path()


def test_names_and_paths():
    assert is_name('pretrained') and not is_name(Path('pretrained'))
    assert not any(map(is_name, ('./pretrained', 'Pretrained', 'published', '')))
    assert place_of('pretrained') == shipped() and place_of('a/b') == Path('a/b')
    assert beside('a/b.safetensors') == Path('a') and beside(ROOT) == ROOT
    assert beside('pretrained') == Path()
    assert is_ours('pretrained') and is_ours('x.safetensors') and is_ours(ROOT)
    assert not is_ours('resnet18')


WRONG = {
    'embed': ['embed', 'pretraned', 'photos', '--out', 'a.npz'],
    'audit': ['audit', 'photos', '--model', 'pretraned', '--out', 'audit'],
    'no model': ['audit', 'photos', '--out', 'audit'],
    'export': ['export', 'pretraned', '--to', 'torchscript'],
    'train': ['train', '--start-from', 'pretraned', '--out', 'run'],
}


@pytest.mark.parametrize('case', WRONG)
def test_a_wrong_name_is_one_sentence(case, here, capsys):
    assert main(WRONG[case]) == 2
    [told] = capsys.readouterr().err.strip().splitlines()
    assert 'pretrained' in told and 'run folder' in told
    assert not [p for p in here.rglob('*') if p.is_file() and p.suffix != '.png']


def test_weights_beside_the_name_are_refused(here, capsys):
    args = ['embed', 'pretrained', 'photos', '--weights', 'w.pth', '--out', 'a.npz']
    assert main(args) == 2
    assert 'weights must be None for a run' in capsys.readouterr().err


def test_an_installation_without_it(monkeypatch, tmp_path):
    monkeypatch.setattr(pretrained, 'files', lambda package: tmp_path)
    with pytest.raises(DatasetMissing, match='missing from this installation'):
        load_encoder('pretrained')


def test_shipping_a_run(tmp_path):
    "What the tool writes loads like the run, and its difference is the one it tells."
    run, out = tmp_path / 'run', tmp_path / 'out'
    train(TrainConfig.of(SMALL), run, progress=False)
    told = ship_encoder.ship(run, out, tmp_path / 'known.json')
    assert {p.name for p in out.iterdir()} == FILES
    x = load_dataset('fashion_mini', 'test').x
    before, after = (load_encoder(folder).features(x) for folder in (run, out))
    assert_close(told[0], (before - after).abs().max().item())
    assert 0 < told[0] < 0.01 * told[1]
    known = json.loads((tmp_path / 'known.json').read_text())
    some = before[known['images'], :: known['every']]
    assert_close(torch.tensor(known['run']), some, rtol=0, atol=1e-6)


def test_numbers_too_large_for_16_bits_are_not_shipped(tmp_path):
    run = tmp_path / 'run'
    train(TrainConfig.of(SMALL), run, progress=False)
    state = load_checkpoint(run / 'checkpoint.pt')
    state['model']['encoder.0.1.running_var'] += 1e6
    with pytest.raises(ArithmeticError, match='too large for float16'):
        ship_encoder.slim(state)
    shutil.rmtree(run)
