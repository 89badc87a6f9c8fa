"A folder of images that stays on disk: the same numbers as in memory, in bounded memory, and never an old or half a file."
import json, os, random, shutil, signal, subprocess, sys, threading, time
from collections import namedtuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from configs import comparison, run_of
from kills import Job
from unremix import decoded_images, machine, own_images
from unremix.cli import main
from unremix.compare import compare
from unremix.data import load_dataset
from unremix.decoded_images import PixelsOnDisk, load_decoded
from unremix.grid import Grid, run_key
from unremix.image_files import DatasetMissing
from unremix.image_sets import Images
from unremix.image_task import pixel_features
from unremix.own_images import load_imagefolder
from unremix.safe_files import hold, read_json
from unremix.tasks import choose, in_parts, on_device
from unremix.sweep import sweep
from unremix.train import train

SMALL = dict(dataset='imagefolder', image_size=8, batch_size=8, epochs=2, log_every=1, head_hidden=8, head_out=4, precision='32-true', accelerator='cpu')
STRATEGIES = {'simclr': {}, 'queue': dict(strategy='hcl', queue_size=16), 'walks': dict(strategy='batchsampler')}

def photos(root, n=14, of=('cat', 'dog', 'owl')):
    "Noise of as many shades as there are classes."
    for part, count in {'train': n, 'test': n//2}.items():
        for c, name in enumerate(of):
            (root/part/name).mkdir(parents=True, exist_ok=True)
            for i in range(count):
                pixels = np.random.default_rng([c, i, count]).integers(60*c, 60*c + 99, (12, 10, 3))
                Image.fromarray(pixels.astype(np.uint8)).save(root/part/name/f'{i:02}.png')
    return root

def damage(root, *names):
    for name in names: (root/'train'/name).write_bytes(b'no image')

@pytest.fixture
def here(tmp_path): return photos(tmp_path/'photos'), tmp_path/'kept'

@pytest.fixture
def reads(monkeypatch):
    "Paths of the files that are decoded."
    seen, read = [], own_images.read_square
    monkeypatch.setattr(own_images, 'read_square', lambda path, size: (seen.append(str(path)), read(path, size))[1])
    return seen

def same_images(a, b):
    assert torch.equal(a.x[:], b.x[:]) and a.x[:].shape == b.x.shape and torch.equal(a.y, b.y)
    assert (a.classes, a.names, a.fingerprint, a.name) == (b.classes, b.names, b.fingerprint, b.name)

def told(run):
    "All that a run leaves and that another way of reading could change."
    lines = [json.loads(line) for line in (run/'log.jsonl').read_text().splitlines()]
    result = read_json(run/'result.json')
    return {k: result[k] for k in ('data', 'loss', 'scores', 'steps') if k in result}, [{k: v for k, v in l.items() if k != 'images_per_s'} for l in lines]

def weights(run): return torch.load(run/'checkpoint.pt', weights_only=True)['model']

# what a tensor gives

def test_every_way_of_asking_gives_what_a_tensor_gives(tmp_path):
    chance = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (17, 3, 8, 8), generator=chance).byte()
    (tmp_path/'x.pixels').write_bytes(x.numpy().tobytes())
    on_disk = PixelsOnDisk(tmp_path/'x.pixels', 8, torch.arange(17))
    for _ in range(20):
        places = torch.randint(-17, 17, (int(torch.randint(0, 40, (), generator=chance)),), generator=chance)
        some, of_x = on_disk.only(places), x[places]
        assert some.shape == of_x.shape and some.numel() == of_x.numel() and len(some) == len(of_x)
        more = torch.randperm(len(places), generator=chance)
        for asked in (slice(None), slice(1, None, 3), more, of_x.flatten(1).sum(1) % 2 == 0): assert torch.equal(some[asked], of_x[asked])
        assert torch.equal(some.only(more)[:], of_x[more]) and torch.equal(torch.cat([*in_parts(some, 4)]), of_x)
    assert torch.equal(on_disk[5], x[5]) and on_disk[5].is_contiguous() and on_disk[:].is_contiguous()

def test_choosing_and_moving_read_nothing(tmp_path):
    "There is no file; and the images that are read go to the device, one batch at a time."
    images = Images(PixelsOnDisk(tmp_path/'gone', 8, torch.arange(9)), torch.arange(9), (), 'imagefolder')
    moved = on_device(choose(choose(images, torch.arange(9) > 3), torch.tensor([4, 0])), 'meta')
    assert moved.x.rows.tolist() == [8, 4] and moved.x.device == moved.y.device and moved.x.rows.device.type == 'cpu'
    with pytest.raises(OSError, match=r"gone', the decoded images, cannot be read \(No such file .*start the same command again"): images.x[0]
    (tmp_path/'gone').write_bytes(bytes(9*192))
    assert moved.x[torch.tensor([1])].device.type == 'meta'
    (tmp_path/'gone').write_bytes(bytes(9*192 - 1))
    assert images.x[:8].shape == (8, 3, 8, 8)
    with pytest.raises(OSError, match='it is too short'): images.x[8]

# the same images

@pytest.mark.parametrize('part', [1, 200, 2**25]) # bytes at once: an image, an image, all
@pytest.mark.parametrize('limit', [None, 1, 7, 12, 42, 60])
def test_the_same_images_as_in_memory(limit, part, here, reads, monkeypatch):
    root, kept = here
    damage(root, 'cat/00.png', 'dog/01.png', 'owl/13.png')
    monkeypatch.setattr(decoded_images, 'PART', part)
    for split in ('train', 'test'):
        held = load_imagefolder(split, root, 8, limit)
        in_memory = sorted(reads); reads.clear()
        same_images(load_decoded(split, root, kept, 8, limit), held)
        assert sorted(reads) == in_memory; reads.clear() # no file more
        same_images(load_decoded(split, root, kept, 8, limit), held)
        assert not reads and {p.suffix for p in kept.iterdir()} == {'.pixels', '.json'}

def test_what_was_left_out_is_told_both_ways(here, capsys):
    root, kept = here
    damage(root, 'cat/00.png')
    machine_says = []
    for load in (lambda: load_imagefolder('train', root, 8), lambda: load_decoded('train', root, kept, 8), lambda: load_decoded('train', root, kept, 8)):
        decoded_images.tell.cache_clear(); capsys.readouterr()
        load()
        machine_says.append(capsys.readouterr().err.splitlines())
    memory, made, found = machine_says
    assert 'damaged (cat/00.png)' in memory[-1] and made[-1] == found[-1] == memory[-1]
    assert '42 images at image_size=8 are decoded once, into ' in made[0] and '41 images are read at each step from ' in made[1] == found[0]

def test_an_old_file_is_never_read(here):
    "Whatever changes: pixels, a label, the size, the limit, Pillow; also of an image that stands for a damaged one."
    root, kept = here
    load = lambda size=8, limit=None: load_decoded('train', root, kept, size, limit)
    seen = [load().x.path]
    def other(images):
        assert images.x.path not in seen
        seen.append(images.x.path); same_images(images, load_imagefolder('train', root, images.x.size, None if len(images) > 9 else 6))
    other(load(12)); other(load(8, 6))
    Image.new('RGB', (9, 9), 'red').save(root/'train'/'cat'/'03.png'); other(load())
    (root/'train'/'cat'/'04.png').rename(root/'train'/'dog'/'04b.png'); other(load())
    with pytest.MonkeyPatch.context() as m: m.setattr(decoded_images.PIL, '__version__', '0'); other(load())
    damage(root, 'dog/00.png'); other(load(8, 6)) # the seventh in line, cat/02, stands for it
    Image.new('RGB', (9, 9), 'blue').save(root/'train'/'cat'/'02.png')
    same_images(load(8, 6), load_imagefolder('train', root, 8, 6))
    assert load(8, 6).x.path in seen

def cut(path): path.write_bytes(path.read_bytes()[:-1])
def no_json(path): path.with_suffix('.json').unlink()
def no_pixels(path): path.unlink()

def test_a_new_file_takes_the_place_of_a_damaged_one(here):
    root, kept = here
    damage(root, 'dog/00.png')
    assert len(load_decoded('train', root, kept, 8, 42).x) == 41
    Image.new('RGB', (9, 9), 'blue').save(root/'train'/'owl'/'99.png') # the last in line
    same_images(load_decoded('train', root, kept, 8, 42), load_imagefolder('train', root, 8, 42))
    (root/'train'/'owl'/'99.png').unlink()
    same_images(load_decoded('train', root, kept, 8, 42), load_imagefolder('train', root, 8, 42))

@pytest.mark.parametrize('spoil', [cut, no_json, no_pixels], ids=lambda f: f.__name__)
def test_half_a_file_is_made_anew(spoil, here):
    root, kept = here
    spoil(load_decoded('train', root, kept, 8).x.path)
    same_images(load_decoded('train', root, kept, 8), load_imagefolder('train', root, 8))

def test_nothing_but_damaged_files(here):
    root, kept = here
    damage(root, *(str(p.relative_to(root/'train')) for p in (root/'train').glob('*/*')))
    for _ in range(2):
        with pytest.raises(DatasetMissing, match='cannot be read as an image'): load_decoded('train', root, kept, 8)
        assert not list(kept.iterdir())

# the same runs

@pytest.mark.parametrize('fields', [{}, {'limit': 30}, {'validation': 6}], ids=str)
@pytest.mark.parametrize('strategy', STRATEGIES)
def test_the_same_run_as_in_memory(strategy, fields, here, tmp_path, reads):
    "Log, scores and weights, bit for bit; and each file is decoded once for all runs."
    root, kept = here
    damage(root, 'cat/05.png')
    fields = {**SMALL, **STRATEGIES[strategy], **fields, 'data_root': root}
    for out, where in {'memory': {}, 'disk': {'decode_to': kept}, 'again': {'decode_to': kept}}.items():
        args = [w for k, v in (fields | where).items() for w in (f'--{k.replace("_", "-")}', str(v))]
        reads.clear()
        assert main(['train', *args, '--out', str(tmp_path/out)]) == 0
        assert len(reads) == len(set(reads)) and bool(reads) == (out != 'again')
        assert told(tmp_path/out) == told(tmp_path/'memory')
        assert_close(weights(tmp_path/out), weights(tmp_path/'memory'), rtol=0, atol=0)
    assert 'linear' in told(tmp_path/'disk')[0]['scores']
    before = read_json(tmp_path/'disk'/'result.json')['scores']
    assert main(['evaluate', str(tmp_path/'disk')]) == 0 and read_json(tmp_path/'disk'/'result.json')['scores'] == before

COSTS = 'step_seconds', 'overhead' # of a row

def test_the_same_comparison_as_in_memory(here, tmp_path):
    root, kept = here
    found = []
    for out, where in {'memory': None, 'disk': str(kept)}.items():
        cfg = comparison(strategies=('simclr', 'hcl'), seeds=2, timed_steps=1, data_root=str(root), decode_to=where, **SMALL)
        result = compare(cfg, tmp_path/out, progress=False)
        found.append({name: {k: v for k, v in row.items() if k not in COSTS} for name, row in result['rows'].items()})
    assert found[0] == found[1] and {'raw pixels', 'untrained', 'simclr', 'hcl'} <= set(found[0])

def test_where_images_lie_is_not_what_a_run_is(here, tmp_path, monkeypatch):
    "Begun in memory and stopped, it goes on from disk, and ends as one that was never touched."
    import unremix.train
    root, kept = here
    plain, on_disk = (run_of(data_root=str(root), decode_to=where, save_every=1, **SMALL) for where in (None, str(kept)))
    assert run_key(plain) == run_key(on_disk)
    train(plain, tmp_path/'whole', progress=False)
    steps = []
    with monkeypatch.context() as m:
        m.setattr(unremix.train, 'asked_of_all', lambda run, asked: steps.append(1) or (signal.SIGTERM if len(steps) == 3 else 0))
        with pytest.raises(SystemExit): train(plain, tmp_path/'run', progress=False)
    train(on_disk, tmp_path/'run', progress=False)
    assert len(steps) == 3 and told(tmp_path/'run') == told(tmp_path/'whole')
    assert_close(weights(tmp_path/'run'), weights(tmp_path/'whole'), rtol=0, atol=0)

@pytest.mark.skipif(not hasattr(signal, 'SIGKILL'), reason='no SIGKILL')
@pytest.mark.parametrize('devices', [1, 2])
def test_killed_and_gone_on(devices, here, tmp_path):
    "While it decodes and while it trains; two processes share one file."
    root, kept = here
    cfg, chance = run_of(data_root=str(root), decode_to=str(kept), devices=devices, save_every=1, **SMALL), random.Random(devices)
    for out in ('first', 'whole'): # the first one pays for starting the server
        shutil.rmtree(kept, ignore_errors=True)
        start = time.monotonic()
        assert set(Job(cfg, tmp_path/out).wait()) == {0}
        assert sorted(p.suffix for p in kept.iterdir()) == ['.json', '.json', '.pixels', '.pixels']
    whole = time.monotonic() - start
    for share in (.2, .4, .6, .8):
        shutil.rmtree(kept, ignore_errors=True) # in the middle of a run: it decodes again
        Job(cfg, tmp_path/'killed').killed_after(share*chance.uniform(.8, 1.2)*whole)
    assert set(Job(cfg, tmp_path/'killed').wait()) == {0}
    assert told(tmp_path/'killed') == told(tmp_path/'whole') and not list(kept.glob('*.part'))
    assert_close(weights(tmp_path/'killed'), weights(tmp_path/'whole'), rtol=0, atol=0)

# several at once

def test_one_decodes_and_the_others_wait(here, reads):
    root, kept = here
    found, start = [], threading.Barrier(4)
    def ask(): start.wait(); found.append(load_decoded('train', root, kept, 8))
    threads = [threading.Thread(target=ask) for _ in range(4)]
    for t in threads: t.start()
    for t in threads: t.join()
    assert len(reads) == len(set(reads)) == 42 and len(found) == 4
    for images in found: same_images(images, load_imagefolder('train', root, 8))

def test_waits_as_long_as_another_process_decodes(here, capsys):
    root, kept = here
    path = load_decoded('train', root, kept, 8).x.path
    no_json(path)
    (kept/f'{path.name}.01234567.part').write_bytes(b'half')
    found = []
    with hold(path.with_suffix('.lock'), 'test'):
        thread = threading.Thread(target=lambda: found.append(load_decoded('train', root, kept, 8)))
        thread.start()
        thread.join(1.)
        assert thread.is_alive() and list(kept.glob('*.part')) # that one may be writing it
    thread.join()
    same_images(found[0], load_imagefolder('train', root, 8))
    assert 'another process decodes these images, waiting for it' in capsys.readouterr().err and sorted(p.suffix for p in kept.iterdir()) == ['.json', '.pixels']

# what is refused

def refused(args, capsys, words, out):
    assert main(['train', *args, '--out', str(out)]) == 2
    err = capsys.readouterr().err
    said = ' '.join(err.split())
    assert words in said and 'Traceback' not in said and not out.exists(), said

def args_of(root, kept, **more):
    fields = {**SMALL, 'data_root': root, 'decode_to': kept, **more}
    return [w for k, v in fields.items() for w in (f'--{k.replace("_", "-")}', str(v))]

def test_a_full_disk_is_told_before_decoding(here, tmp_path, capsys, monkeypatch, reads):
    monkeypatch.setattr(decoded_images.shutil, 'disk_usage', lambda path: namedtuple('usage', 'total used free')(10**6, 0, 8063))
    refused(args_of(*here), capsys, 'need 8.1e-06 GB of disk, and 8.1e-06 GB are free in decode_to=', tmp_path/'run')
    assert not reads
    monkeypatch.setattr(decoded_images.shutil, 'disk_usage', lambda path: namedtuple('usage', 'total used free')(10**6, 0, 42*192))
    load_decoded('train', *here, 8)

def test_a_disk_that_fills_leaves_nothing(here, tmp_path, capsys, monkeypatch):
    def full(*args): raise OSError(28, 'No space left on device')
    monkeypatch.setattr(decoded_images, 'write_pixels', full)
    refused(args_of(*here), capsys, 'cannot be written (No space left on device)', tmp_path/'run')
    assert not list(here[1].iterdir())

def test_a_folder_that_cannot_be_made(here, tmp_path, capsys, reads):
    here[1].write_text('a file')
    refused(args_of(*here), capsys, 'cannot be written (File exists): give another folder', tmp_path/'run')
    assert not reads

@pytest.mark.parametrize('fields', [dict(dataset='fashion_mini'), dict(modality='text')], ids=str)
def test_only_folders_of_files_are_decoded(fields, tmp_path, capsys):
    args = [w for k, v in (fields | {'decode_to': tmp_path/'kept'}).items() for w in (f'--{k.replace("_", "-")}', str(v))]
    refused(args, capsys, 'which is no folder of image files', tmp_path/'run')
    with pytest.raises(ValueError, match='decode_to must be None with digits, which is no folder of image files'): load_dataset('digits', decode_to=tmp_path/'kept')
    assert not (tmp_path/'kept').exists()

def test_what_does_not_fit_into_memory_names_the_way(here, tmp_path, monkeypatch):
    monkeypatch.setattr(machine, 'free_memory', lambda: 8063.)
    with pytest.raises(ValueError, match='42 images at image_size=8 need .* of memory, .* or a folder as decode_to'): load_dataset('imagefolder', 'train', here[0], image_size=8)
    assert len(load_dataset('imagefolder', 'train', here[0], image_size=8, decode_to=here[1])) == 42

def test_raw_pixels_that_do_not_fit(here, monkeypatch):
    images = load_decoded('train', *here, 8)
    features = pixel_features(images)
    assert_close(features(images.x), pixel_features(load_imagefolder('train', here[0], 8))(images.x[:]), rtol=0, atol=0)
    monkeypatch.setattr(machine, 'free_memory', lambda: 4.*42*192 - 1)
    with pytest.raises(ValueError, match='42 images as vectors need .* of memory.*: give a smaller limit'): features(images.x)

def test_a_sweep_tries_each_folder_first(here, tmp_path):
    (tmp_path/'file').write_text('')
    cells = {'good': {}, 'bad': {'decode_to': str(tmp_path/'file'), 'lr': .5}}
    grid = Grid('e', cells, dict(data_root=str(here[0]), **SMALL), seeds=1)
    with pytest.raises((ValueError, OSError), match='decode_to='): sweep(grid, tmp_path/'l.jsonl', tmp_path/'runs', progress=False)
    assert not (tmp_path/'runs').exists()

# memory

CHILD = '''
import sys
import torch
from unremix import data, evaluate, own_images, tasks
def peak(): return next(int(line.split()[1])*1024 for line in open('/proc/self/status') if line.startswith('VmHWM'))
root, where, size = sys.argv[1], sys.argv[2] or None, int(sys.argv[3])
torch.nn.functional.interpolate(torch.rand(1, 3, 9, 9), 5) # loads what is loaded late
before = peak()
images = data.load_dataset('imagefolder', 'train', root, image_size=size, decode_to=where)
rest, held = data.hold_out(images, 40)
rest = tasks.on_device(tasks.choose(rest, torch.randperm(len(rest))), 'cpu')
h = evaluate.embed(torch.nn.Flatten(), rest.x, lambda x: x[:, :, ::64, ::64].float(), batch_size=20)
assert h.shape[0] == len(rest) == len(images) - 40 and h.std() > 0
print(len(images), peak() - before)
'''

@pytest.mark.skipif(not os.path.exists('/proc/self/status'), reason='Linux tells the peak of a process')
def test_memory_does_not_grow_with_the_folder(tmp_path):
    "300 MB of images: in memory the process grows by all of them, from disk by less than a third."
    chance = np.random.default_rng(0)
    for part, n in {'train': 400, 'test': 2}.items():
        for i in range(n):
            path = tmp_path/'photos'/part/'ab'[i % 2]/f'{i:03}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(chance.integers(0, 256, (4, 4, 3), np.uint8)).save(path)
    grown = {}
    for where in ('', str(tmp_path/'kept')):
        done = subprocess.run([sys.executable, '-c', CHILD, str(tmp_path/'photos'), where, '512'], capture_output=True, text=True, check=True)
        n, grown[where] = map(int, done.stdout.split())
        assert n == 400
    all_bytes = 400*3*512**2
    assert grown[''] > .9*all_bytes and grown[str(tmp_path/'kept')] < all_bytes/3, grown
