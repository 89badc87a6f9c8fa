"A folder of images without labels: trained on, embedded, audited, trained on again; what a browser makes of the page; exported encoders."
import csv, json, os, shutil, signal, subprocess, sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from unremix.audit import audit
from unremix.cli import COMMANDS, main
from unremix.data import load_dataset
from unremix.embedding_files import load_embeddings
from unremix.export import FORMATS, export_encoder
from unremix.kept_encoder import Encoder, load_encoder
from unremix.run_parts import set_up
from unremix.config import TrainConfig
from unremix.steps import loss_of
from unremix.tasks import but

ROOT = Path(__file__).resolve().parents[1]
SMALL = ['--limit', '240', '--batch-size', '80', '--epochs', '1', '--image-size', '24', '--precision', '32-true', '--log-every', '1']


def picture(x): return Image.fromarray(x[0].numpy())


@pytest.fixture(scope='module')
def home(tmp_path_factory):
    "A flat folder of 300 images, four of them copied; a run, its features, its audit: three commands."
    here = tmp_path_factory.mktemp('audit')
    photos = here/'photos'
    photos.mkdir()
    images = load_dataset('fashion_mini', 'test', limit=296).x
    for i, x in enumerate(images): picture(x).save(photos/f'{i:03d}.png')
    for i in range(0, 80, 20): picture(images[i]).save(photos/f'copy of {i:03d}.jpg', quality=80)
    run, features, out = map(str, (here/'run', here/'photos.npz', here/'audit'))
    assert main(['train', '--dataset', 'imagefolder', '--data-root', str(photos), '--out', run, *SMALL]) == 0
    assert main(['embed', run, str(photos), '--out', features, '--batch-size', '64']) == 0
    assert main(['audit', features, '--out', out, '--pairs', '60']) == 0
    return here


def rows_of(path):
    with open(path, newline='') as f: return list(csv.DictReader(f))


def test_copies_share_an_id(home):
    images = {r['name']: r for r in rows_of(home/'audit'/'audit.csv')}
    assert len(images) == 300 and {r['label'] for r in images.values()} == {''}
    for i in range(0, 80, 20): assert images[f'{i:03d}.png']['id'] == images[f'copy of {i:03d}.jpg']['id']
    copies = {(r['name_a'], r['name_b']) for r in rows_of(home/'audit'/'pairs.csv') if r['kind'] == 'copy'}
    assert all((f'{i:03d}.png', f'copy of {i:03d}.jpg') in copies for i in range(0, 80, 20))


def test_train_on_with_the_ids(home):
    table = str(home/'audit'/'audit.csv')
    folder = ['--dataset', 'imagefolder', '--data-root', str(home/'photos'), '--sample-ids', table]
    assert main(['train', *folder, '--out', str(home/'again'), *SMALL]) == 0
    assert json.loads((home/'again'/'config.json').read_text())['data']['sample_ids'] == table
    losses = [json.loads((home/name/'log.jsonl').read_text().splitlines()[0])['loss'] for name in ('run', 'again')]
    assert losses[0] != losses[1] # fewer negatives


def test_images_of_one_id_are_no_negatives(home, tmp_path):
    "All images one: nothing is left to push, and the loss of the only positive is 0. By parquet, too."
    names = sorted(p.name for p in (home/'photos').iterdir())
    table = tmp_path/'ids.csv'
    table.write_text('name,id\n' + ''.join(f'{n},0\n' for n in names))
    fields = {'dataset': 'imagefolder', 'data_root': str(home/'photos'), 'image_size': 24, 'batch_size': 16, 'precision': '32-true'}
    run = set_up(TrainConfig.of(fields | {'sample_ids': str(table)}))
    idx = torch.arange(16)
    assert run.samples.ids[idx].tolist() == [0]*16
    z, hidden = torch.randn(32, 8), torch.randn(32, 4)
    assert loss_of(run, z, hidden, run.samples.ids[idx], run.images.y[idx], False)[0] == 0
    run.samples = but(run.samples, ids=None)
    assert loss_of(run, z, hidden, idx, run.images.y[idx], False)[0] > 1
    pa = pytest.importorskip('pyarrow', reason='pyarrow is not installed')
    import pyarrow.parquet as pq
    pq.write_table(pa.table({'name': names, 'id': [5]*len(names)}), tmp_path/'ids.parquet')
    assert set_up(TrainConfig.of(fields | {'sample_ids': str(tmp_path/'ids.parquet')})).samples.ids.unique().tolist() == [0]


@pytest.mark.parametrize('args, said', (
    (['--sample-ids', 'x.csv'], 'sample_ids must be None with fashion_mini, whose images have no names'),
    (['--sample-ids', 'x.csv', '--dataset', 'imagefolder', '--data-root', 'photos', '--strategy', 'supervised'], 'sample_ids must be None with supervised'),
    (['--sample-ids', 'no.csv', '--dataset', 'imagefolder', '--data-root', 'photos'], 'sample_ids must be a .csv or .parquet file'),
), ids=lambda x: x[-1] if isinstance(x, list) else '')
def test_ids_that_cannot_be_used(args, said, home, capsys, monkeypatch):
    monkeypatch.chdir(home)
    assert main(['train', *args, '--out', 'refused', *SMALL]) == 2 and said in capsys.readouterr().err
    assert not (home/'refused').exists()


def test_a_killed_embedding_goes_on(home, tmp_path):
    code = f'''if True:
        import os, signal, sys
        import unremix.embed_folder as m
        m.SHARD = 64
        whole = m.embed_places
        def embed_places(encoder, images, places, *how):
            if places.start == 128 and sys.argv[1] == 'kill': os.kill(os.getpid(), signal.SIGKILL)
            print(places.start)
            return whole(encoder, images, places, *how)
        m.embed_places = embed_places
        m.embed_folder({str(home/'run')!r}, {str(home/'photos')!r}, {str(tmp_path/'a.npz')!r}, progress=False)'''
    start = lambda word: subprocess.run([sys.executable, '-c', code, word], capture_output=True, text=True)
    killed = start('kill')
    assert killed.returncode == -signal.SIGKILL and not (tmp_path/'a.npz').exists()
    (tmp_path/'a.npz.0a1b2c3d.part').write_bytes(b'PK') # another was killed while it wrote the file
    done = start('go')
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ['128', '192', '256']
    wanted, found = load_embeddings(home/'photos.npz'), load_embeddings(tmp_path/'a.npz')
    assert (wanted['names'] == found['names']).all()
    np.testing.assert_allclose(found['h'], wanted['h'], atol=1e-5)
    assert sorted(p.name for p in tmp_path.iterdir()) == ['a.npz']


def test_an_audit_clears_what_a_killed_one_left(home, tmp_path):
    (tmp_path/'audit.html.0a1b2c3d.part').write_bytes(b'<')
    audit(home/'photos.npz', tmp_path, progress=False)
    names = {p.name for p in tmp_path.iterdir()}
    assert {'audit.html', 'audit.csv', 'pairs.csv'} <= names and not [x for x in names if x.endswith(('.part', '.json'))]


def test_an_encoder_without_its_images(home, tmp_path):
    "Trained on a folder that is deleted then; prepared as in training."
    shutil.copytree(home/'photos', tmp_path/'photos')
    assert main(['train', '--dataset', 'imagefolder', '--data-root', str(tmp_path/'photos'), '--out', str(tmp_path/'run'), *SMALL]) == 0
    path = tmp_path/'photos'/'000.png'
    fields = {'dataset': 'imagefolder', 'data_root': str(tmp_path/'photos'), 'image_size': 24, 'limit': 240, 'batch_size': 80, 'precision': '32-true'}
    run = set_up(TrainConfig.of(fields))
    encoder = load_encoder(tmp_path/'run')
    x = encoder.read(path)[None]
    assert_close(encoder.prepare(x), run.augment.plain(x))
    before = encoder.features(x)
    shutil.rmtree(tmp_path/'photos')
    assert torch.equal(load_encoder(tmp_path/'run').features(x), before)


NEEDS = {'safetensors': ('safetensors',), 'onnx': ('onnx', 'onnxscript', 'onnxruntime'), 'torchscript': (), 'timm': ('timm', 'safetensors')}

@pytest.mark.parametrize('to', FORMATS)
def test_export(home, to, tmp_path, capsys):
    for name in NEEDS[to]: pytest.importorskip(name, reason=f'{name} is not installed')
    source = home/'run'
    if to == 'timm':
        assert main(['export', str(source), '--to', 'timm']) == 2 and 'which is no model of timm' in capsys.readouterr().err
        from unremix.encoders import make_encoder
        from unremix.export import write_safetensors
        torch.manual_seed(0)
        net = make_encoder('resnet18', 3, 96) # timm's own stem
        net(torch.randn(4, 3, 96, 96))
        source = tmp_path/'r.safetensors'
        encoder = Encoder(net, 'resnet18', {'channels': 3, 'size': 96, 'mean': [.5]*3, 'std': [.25]*3}).eval()
        write_safetensors(encoder, source)
    path, difference = export_encoder(source, to, tmp_path/'out'/f'a.{to}')
    print(f'{to}: largest difference {difference:.1e}')
    assert path.is_file() and difference < 1e-4
    if to == 'timm':
        import timm
        model = timm.create_model('resnet18', num_classes=0, checkpoint_path=str(shutil.copy(path, tmp_path/'timm.safetensors'))).eval()
        x = torch.randint(256, (2, 3, 96, 96), dtype=torch.uint8)
        with torch.no_grad(): assert_close(model(encoder.prepare(x)), encoder.features(x))


def test_timm_by_name(home, tmp_path, capsys):
    timm = pytest.importorskip('timm', reason='timm is not installed')
    torch.manual_seed(0)
    torch.save(timm.create_model('resnet10t', num_classes=0).state_dict(), tmp_path/'w.pth')
    few = tmp_path/'few'
    few.mkdir()
    for name in ('000.png', '001.png'): shutil.copy(home/'photos'/name, few)
    assert main(['embed', 'resnet10t', str(few), '--weights', str(tmp_path/'w.pth'), '--out', str(tmp_path/'e.npz')]) == 0
    assert load_embeddings(tmp_path/'e.npz')['h'].shape == (2, 512)
    other = timm.create_model('mobilenetv3_small_050', num_classes=0)  # its `num_features` are others
    torch.save(other.state_dict(), tmp_path/'m.pth')
    assert main(['embed', 'mobilenetv3_small_050', str(few), '--weights', str(tmp_path/'m.pth'), '--out', str(tmp_path/'m.npz')]) == 0
    assert load_embeddings(tmp_path/'m.npz')['h'].shape == (2, 1024) and other.num_features == 288
    assert main(['embed', 'no_such_model', str(few), '--out', str(tmp_path/'n.npz')]) == 2
    assert 'a name that timm knows' in capsys.readouterr().err


# ---------------------------------------------------------------- the terminal

def test_the_help_loads_no_pytorch():
    code = 'import sys; from unremix.cli import main; main(sys.argv[1:]); print("torch" in sys.modules, "numpy" in sys.modules)'
    for words in (['--help'], ['--version'], []):
        done = subprocess.run([sys.executable, '-c', code, *words], capture_output=True, text=True)
        assert done.stdout.splitlines()[-1] == 'False False'


def test_version_and_groups(capsys):
    from unremix import __version__
    assert main(['--version']) == 0 and capsys.readouterr().out == f'unremix {__version__}\n'
    assert main(['--help']) == 0
    told = capsys.readouterr().out
    assert all(f'  {name} ' in told for name in COMMANDS) and max(map(len, told.splitlines())) <= 80


# ---------------------------------------------------------------- in a browser

BROWSER = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)

@pytest.fixture(scope='module')
def window(home):
    "A page of a browser with the audit; fails on any request and on anything said on the console."
    playwright = pytest.importorskip('playwright.sync_api', reason='playwright is not installed')
    if BROWSER is None:
        say = pytest.fail if os.environ.get('BROWSER_TESTS') == 'required' else pytest.skip
        say('no Chromium: `make browser` installs it')
    complaints = []
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=BROWSER, args=['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking'])
        page = browser.new_page(viewport={'width': 1280, 'height': 900})
        address = (home/'audit'/'audit.html').as_uri()
        page.on('request', lambda r: complaints.append(r.url) if r.url != address and not r.url.startswith('data:') else None)
        page.on('console', lambda m: complaints.append(m.text) if m.type in ('error', 'warning') else None)
        page.on('pageerror', lambda e: complaints.append(str(e)))
        page.goto(address)
        yield page
        assert not complaints
        browser.close()


def grid(page, title): return page.locator('section', has=page.get_by_role('heading', name=title, exact=True))


def test_grids_are_filled(window):
    window.set_viewport_size({'width': 1280, 'height': 900})
    copies = grid(window, 'Copies')
    assert copies.locator('li').count() >= 4 and copies.locator('li').first.locator('img').count() == 2
    assert window.evaluate('[...document.images].every(i => i.complete && i.naturalWidth > 0)')
    assert all(window.evaluate('[...document.images].map(i => i.alt)'))


def test_sort_and_filter(window):
    same = grid(window, 'Likely false negatives')
    facts = lambda: [float(t.split(',')[0].split()[1]) for t in same.locator('.facts').all_inner_texts()]
    assert facts() == sorted(facts(), reverse=True)
    same.locator('select').select_option(label='score, low first')
    assert facts() == sorted(facts())
    same.locator('select').select_option('')
    first = same.locator('.words').first.inner_text().split(' | ')[0]
    same.locator('input').fill(first)
    assert all(first in words for words in same.locator('.words').all_inner_texts())
    assert same.locator('output').inner_text() == f'{same.locator("li").count()} of 60'
    same.locator('input').fill('nothing is called so')
    assert same.locator('li').count() == 0 and same.locator('output').inner_text() == '0 of 60'
    same.locator('input').press('Escape')
    assert same.locator('output').inner_text() == '60 of 60'
    same.locator('button').click()
    assert same.locator('li').count() == 60 and same.locator('button').is_hidden()


def test_keyboard(window):
    "From section to section, into the grid, through it, and to the filter and back, without a mouse."
    window.evaluate('() => { document.activeElement.blur(); scrollTo(0, 0) }')
    focus = lambda: window.evaluate('document.activeElement.textContent')
    window.keyboard.press('n')
    assert focus() == 'Likely false negatives'
    window.keyboard.press('n')
    assert focus() == 'Copies'
    window.keyboard.press('g')
    at = lambda: window.evaluate('[...document.activeElement.parentElement.children].indexOf(document.activeElement)')
    assert at() == 0
    window.keyboard.press('ArrowRight')
    assert at() == 1
    window.keyboard.press('End')
    assert at() == grid(window, 'Copies').locator('li').count() - 1
    window.keyboard.press('Home')
    assert at() == 0
    window.keyboard.press('/')
    window.keyboard.type('copy of 000')
    copies = grid(window, 'Copies')
    few = copies.locator('.words').all_inner_texts()
    assert few and all('copy' in words and '000' in words for words in few)
    window.keyboard.press('Escape')
    assert copies.locator('li').count() > len(few) and at() == 0
    window.keyboard.press('p')
    assert focus() == 'Likely false negatives'


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_narrow_dark_and_accessible(window, scheme):
    Axe = pytest.importorskip('axe_playwright_python.sync_playwright', reason='axe is not installed').Axe
    window.set_viewport_size({'width': 390, 'height': 844})
    window.emulate_media(color_scheme=scheme)
    assert window.evaluate('document.documentElement.scrollWidth') <= 390
    background = window.evaluate('getComputedStyle(document.body).backgroundColor')
    assert background == ('rgb(255, 255, 255)' if scheme == 'light' else 'rgb(22, 24, 26)')
    found = Axe().run(window, options={'resultTypes': ['violations']}).response['violations']
    assert not [(v['id'], v['nodes'][0]['html'][:200]) for v in found if v['impact'] in ('serious', 'critical')]


def test_the_file_forbids_requests(home):
    text = (home/'audit'/'audit.html').read_text(encoding='utf-8')
    assert "default-src 'none'" in text and 'http://' not in text and 'https://' not in text
