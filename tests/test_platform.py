"What differs between machines: threads, windows, terminals, memory, devices. Other systems are played by small stand-ins."
import ast, dataclasses, json, math, os, re, subprocess, sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from configs import comparison, run_of
from unremix.config_groups import HOME, RENAMED
from unremix.registry import known
from unremix import evaluate as scores
from unremix.compare import compare
from unremix.compare_config import CompareConfig
from unremix.data import load_dataset
from unremix.devices import auto_precision
from unremix.grid import Grid, runs_of
from unremix.run_parts import require_device
from unremix.sweep import sweep
from unremix.train import train

ROOT = Path(__file__).resolve().parents[1]
MODULE, FUNCTION = re.search(r'^console_scripts = unremix=(\S+):(\w+)$', (ROOT/'settings.ini').read_text(encoding='utf-8'), re.M).groups()
SCRIPT = f'import sys; from {MODULE} import {FUNCTION}; sys.argv[0] = "unremix"; sys.exit({FUNCTION}())' # as pip writes it
STARTS = {'console script': [sys.executable, '-c', SCRIPT], 'package': [sys.executable, '-m', 'unremix'], 'module': [sys.executable, '-m', 'unremix.cli']}


def call(*command, unset=(), **env):
    "A process with some variables set and some unset."
    kept = {k: v for k, v in os.environ.items() if k not in unset}
    return subprocess.run(command, capture_output=True, env=kept | env, cwd=ROOT, timeout=120)


def python(code, *args, **env): return call(sys.executable, '-c', code, *args, **env)


# Threads that wait

POLICY = 'OMP_WAIT_POLICY', 'GOMP_SPINCOUNT', 'KMP_BLOCKTIME', 'KMP_LIBRARY'


def policies(start, **env):
    "What each OpenMP library in the process says that it does."
    done = call(*STARTS[start], 'strategies', unset=POLICY, OMP_DISPLAY_ENV='VERBOSE', **env)
    assert done.returncode == 0 and b'hcl' in done.stdout and b'Traceback' not in done.stderr, done.stderr
    lines = [l.strip() for l in done.stderr.decode().splitlines() if 'OMP_WAIT_POLICY' in l]
    assert lines, 'no OpenMP library that tells'
    return {l.split('OMP_WAIT_POLICY')[1].strip(" ='") for l in lines}


@pytest.mark.parametrize('start', STARTS)
def test_what_the_command_settles_first(start):
    "Threads wait asleep; a window that is not there, as with Colab's variable but without Colab's package, is not asked for."
    assert policies(start, MPLBACKEND='module://no_such_package.backend_inline') == {'PASSIVE'}


def test_a_choice_of_the_user_is_kept(): assert policies('package', OMP_WAIT_POLICY='ACTIVE') == {'ACTIVE'}


@pytest.mark.parametrize('name', POLICY)
def test_who_said_anything_is_not_overruled(name):
    from unremix.machine import wait_passively
    environ = {name: '1'}
    wait_passively(environ)
    assert environ == {name: '1'}


def test_what_does_not_speak_of_waiting_does_not_count():
    from unremix.machine import wait_passively
    environ = {'KMP_DUPLICATE_LIB_OK': 'TRUE', 'OMP_NUM_THREADS': '2'}
    wait_passively(environ)
    assert environ.pop('OMP_WAIT_POLICY') == 'PASSIVE' and len(environ) == 3


def test_threads_try_for_a_moment_before_they_sleep():
    "Woken for each short operation, a loss took up to 1.6 times as long on a quiet machine."
    from unremix.machine import wait_passively
    environ = {}
    wait_passively(environ)
    assert 300 <= int(environ['GOMP_SPINCOUNT']) <= 30_000  # 300,000 is the library's own


def test_losses_are_measured_as_a_library_finds_them():
    "The benchmark of losses says nothing about waiting; the training loop is the command's."
    code = ('import os, sys; from benchmarks.__main__ import main\ntry: main()\n'
            'except SystemExit: pass\nprint(os.environ.get("OMP_WAIT_POLICY"))')
    said = {name: call(sys.executable, '-c', code, name, '--help', unset=POLICY).stdout.split()[-1]
            for name in ('losses', 'scale', 'loop')}
    assert said == dict(losses=b'None', scale=b'None', loop=b'PASSIVE')


def test_importing_the_library_changes_nothing():
    code = ('import os, sys; before = dict(os.environ); import unremix, unremix.machine; print("torch" in sys.modules); '
            'from unremix import HCLLoss; HCLLoss(); import unremix.compare, unremix.cli; print(dict(os.environ) == before)')
    assert python(code).stdout.split() == [b'False', b'True']


def test_too_late_is_said():
    done = python('import torch; from unremix.machine import wait_passively; wait_passively()')
    assert done.returncode == 0 and b'before PyTorch is loaded' in done.stderr


def test_tests_and_pages_wait_asleep():
    assert os.environ.get('OMP_WAIT_POLICY') == 'PASSIVE' or set(POLICY) & set(os.environ)
    assert 'wait_passively()' in (ROOT/'tools'/'run_notebooks.py').read_text(encoding='utf-8')


# Lazy names

NAMES = (
    'NTXentLoss',
    'DebiasedNTXentLoss',
    'HCLLoss',
    'UnReMixLoss',
    'ContrastiveLoss',
    'LearnedTemperature',
    'KeyQueue',
)


def test_names_of_the_package():
    import unremix
    assert set(NAMES) <= set(dir(unremix)) and '__version__' in dir(unremix)
    for name in NAMES: assert getattr(unremix, name).__name__ == name
    with pytest.raises(AttributeError, match='NoSuchLoss'): unremix.NoSuchLoss
    with pytest.raises(ImportError, match='NoSuchLoss'): from unremix import NoSuchLoss  # noqa: F401
    assert not hasattr(unremix, 'no_such_module')


def test_every_way_to_a_name():
    ways = (
        'from unremix import *; print(HCLLoss().beta)',
        'import unremix; print(unremix.HCLLoss().beta)',
        'import unremix; print(unremix.losses.HCLLoss().beta)',
        'import unremix; print(unremix.hard_negatives.HCL().beta)',
        'import unremix, pickle; '
        'print(pickle.loads(pickle.dumps(unremix.HCLLoss())).beta)',
    )
    fresh = 'for name in [n for n in sys.modules if n.startswith("unremix")]: del sys.modules[name]'
    code = f'import sys\nfor way in {ways!r}:\n    {fresh}\n    exec(way, {{}})'
    assert python(code).stdout.split() == [b'1.0']*len(ways)


def test_editors_see_what_is_lazy():
    "What `TYPE_CHECKING` imports is what is found at run time, and what `__all__` promises."
    import unremix
    tree = ast.parse((ROOT/'unremix'/'__init__.py').read_text(encoding='utf-8'))
    block = next(n for n in tree.body if isinstance(n, ast.If))
    seen = {(a.name, i.module) for i in block.body for a in i.names}
    assert {n for n, _ in seen} == set(unremix.__all__)
    for name, module in seen: assert getattr(unremix, name).__module__ == module


# Windows and terminals

COMMANDS = ['strategies'], ['--help'], ['train', '--help'], ['train', '--strategy', 'hcl', '--beta', '-1'], ['dance']
ALL_COMMANDS = '''if True:
    import json, sys
    from unremix.machine import command
    for args in json.loads(sys.argv[1]):
        sys.argv[1:] = args
        try: code = command()
        except SystemExit as stop: code = stop.code
        print('status', code, '| 60.1 ± 2.0 – × ≥ τ⁺ β é 漢')
        print('on stderr – ≥', file=sys.stderr)'''


@pytest.mark.parametrize('encoding,shown', [('ascii', '60.1 +- 2.0 - x >= tau+ beta e \\u6f22'), ('cp1252', '60.1 ± 2.0 – × >= tau+ beta é \\u6f22'), ('utf-8', '60.1 ± 2.0 – × ≥ τ⁺ β é 漢')])
def test_terminal_of_another_encoding(encoding, shown):
    "Whatever a command prints, it arrives."
    done = python(ALL_COMMANDS, json.dumps(COMMANDS), PYTHONIOENCODING=encoding, COLUMNS='100')
    out, err = done.stdout.decode(encoding), done.stderr.decode(encoding)
    assert done.returncode == 0 and 'Traceback' not in err and 'codec' not in err, err
    ends = [l.split(' | ') for l in out.splitlines() if l.startswith('status')]
    assert [code for code, _ in ends] == ['status 0']*3 + ['status 2']*2 and {text for _, text in ends} == {shown}
    assert '\\u' not in out.replace(shown, '') + err
    assert ('beta must be' in err) and ('≥' if encoding == 'utf-8' else '>=') in err


def test_files_are_utf8_everywhere():
    "No file of the package is opened with the machine's own encoding."
    bare = []
    for path in (ROOT/'unremix').glob('*.py'):
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if not isinstance(node, ast.Call): continue
            name = getattr(node.func, 'attr', getattr(node.func, 'id', ''))
            given = {k.arg for k in node.keywords}
            modes = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            method = isinstance(node.func, ast.Attribute)  # our own `write_text` has no choice of encoding
            owner = getattr(node.func, 'value', None)
            of_bytes = any('b' in m for m in modes) or getattr(owner, 'id', '') in ('Image', 'os') or getattr(owner, 'attr', '') == 'zip'
            text = method and name in ('read_text', 'write_text') or name == 'open' and not of_bytes
            if text and 'encoding' not in given: bare.append(f'{path.name}:{node.lineno}')
    assert not bare


# Systems without the module `resource`, or with another unit

def test_without_resource():
    "As on Windows: everything is imported, a run is trained, its result leaves the number out."
    code = '''if True:
        import sys; sys.modules['resource'] = None
        import json, tempfile
        from pathlib import Path
        import unremix.cli, benchmarks.command
        from unremix.train import train
        from unremix.grid import line_of
        from unremix.config import TrainConfig
        cfg = TrainConfig.of(dict(limit=32, batch_size=16, epochs=1, warmup_epochs=0., accelerator='cpu', precision='32-true'))
        result = train(cfg, Path(tempfile.mkdtemp())/'run', progress=False)
        print(json.dumps([result.get('peak_memory_mb'), 'peak_memory_mb' in line_of('e', 'c', cfg, result)]))'''
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [None, False]


@pytest.mark.parametrize('system,unit', [('linux', 1024), ('freebsd14', 1024), ('darwin', 1)])
def test_unit_of_the_peak(system, unit, monkeypatch):
    import resource
    from unremix.machine import peak_of_process
    monkeypatch.setattr(sys, 'platform', system)
    monkeypatch.setattr(resource, 'getrusage', lambda who: type('Usage', (), {'ru_maxrss': 300_000}))
    assert peak_of_process() == 300_000*unit


def test_bench_says_where_it_works(monkeypatch):
    from benchmarks import process
    monkeypatch.setattr(process, 'peak_of_process', lambda: None)
    monkeypatch.setattr(process, 'STATUS', Path('no/such/file'))
    with pytest.raises(ValueError, match='peak memory'): process.peak_memory()


# Memory

def test_free_memory_of_each_system(tmp_path):
    from unremix.machine import free_memory
    (tmp_path/'meminfo').write_text('MemTotal:  2000 kB\nMemFree:  10 kB\nMemAvailable:  1000 kB\n')
    seen = lambda **files: ([(tmp_path/k.replace('_', '.')).write_text(v) for k, v in files.items()], free_memory(tmp_path/'meminfo', tmp_path))[1]
    assert seen() == 1000*1024
    assert seen(memory_max='max\n', memory_current='500\n') == 1000*1024
    assert seen(memory_max='600000\n', memory_current='500000\n') == 100_000
    assert seen(memory_max='600000\n', memory_current='500000\n', memory_stat='anon 1\ninactive_file 20000\n') == 120_000
    for text in ('MemTotal:  2000 kB\nMemFree:  10 kB\n', ''): # Windows Subsystem 1 and kernels before 3.14 say no more
        (tmp_path/'old').write_text(text)
        assert free_memory(tmp_path/'old', tmp_path/'none') == free_memory(tmp_path/'none', tmp_path/'none')
    assert free_memory(tmp_path/'none', tmp_path/'none') in (None, os.sysconf('SC_PHYS_PAGES')*os.sysconf('SC_PAGE_SIZE'))


def test_a_folder_larger_than_memory(tmp_path, monkeypatch):
    "Told before the first image is read."
    from PIL import Image
    for split in ('train', 'test'):
        for c in 'ab':
            (folder := tmp_path/split/c).mkdir(parents=True)
            for i in range(2): Image.new('RGB', (8, 8)).save(folder/f'{i}.png')
    assert len(load_dataset('imagefolder', 'train', tmp_path, image_size=8)) == 4
    import unremix.machine
    monkeypatch.setattr(unremix.machine, 'free_memory', lambda: 10_000)
    assert len(load_dataset('imagefolder', 'train', tmp_path, image_size=8)) == 4 # 768 bytes
    with pytest.raises(ValueError, match=r'4 images at image_size=64 need .* GB of memory, and .* GB are free: give a smaller image_size'): load_dataset('imagefolder', 'train', tmp_path, image_size=64)
    assert len(load_dataset('imagefolder', 'train', tmp_path, limit=1, image_size=32)) == 1 # 3,072 bytes
    with pytest.raises(ValueError, match='memory'): load_dataset('digits', 'test', image_size=512)


# Devices

@pytest.mark.parametrize('fields,words', [
    (dict(accelerator='cuda'), 'accelerator must be .*cpu.*got .cuda'), (dict(accelerator='cuda', precision='32-true'), 'accelerator must be'),
    (dict(accelerator='mps'), 'accelerator must be'), (dict(accelerator='cpu', precision='16-mixed'), 'precision must be .*bf16-mixed.*got .16-mixed'),
    (dict(precision='16-mixed'), 'precision must be'), (dict(accelerator='cpu', sync_batchnorm=True), 'sync_batchnorm')], ids=str)
def test_what_this_machine_lacks(fields, words, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(torch.backends.mps, 'is_available', lambda: False)
    with pytest.raises(ValueError, match=words): train(run_of(limit=32, batch_size=16, epochs=1, **fields), tmp_path/'run')
    with pytest.raises(ValueError, match=f'^{words}'): compare(comparison(**fields), tmp_path/'run')
    with pytest.raises(ValueError, match=words): sweep(Grid('e', {'a': dict(limit=32, batch_size=16, epochs=1, **fields)}), tmp_path/'run', tmp_path/'runs')
    assert not (tmp_path/'run').exists()


def test_a_processor_that_may_not_use_what_it_has(monkeypatch):
    "`ATEN_CPU_CAPABILITY=default` plays an older processor: bfloat16 would be emulated."
    for name in ('_is_avx512_bf16_supported', '_is_amx_tile_supported'): monkeypatch.setattr(torch.cpu, name, lambda: True, raising=False)
    told = {}
    for capability in ('DEFAULT', 'AVX512'):
        monkeypatch.setattr(torch.backends.cpu, 'get_cpu_capability', lambda: capability)
        told[capability] = auto_precision(torch.device('cpu'))
    assert told == {'DEFAULT': '32-true', 'AVX512': 'bf16-mixed'}


def test_more_gpus_than_there_are(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    cfg = run_of(accelerator='cuda', precision='16-mixed', devices=2)
    assert require_device(cfg) == 'cuda'
    with pytest.raises(ValueError, match='devices must be at most the 2'): require_device(cfg.but(dict(devices=4)))


class OnMps(torch.Tensor):
    "A tensor that behaves as on Apple's GPU: no float64, no `pdist`."
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func == torch.Tensor.device.__get__: return torch.device('mps', 0)
        if func is torch.Tensor.cpu:
            with torch._C.DisableTorchFunctionSubclass(): return args[0].as_subclass(torch.Tensor)
        if func is torch.pdist: raise NotImplementedError('aten::_pdist_forward is not implemented for the MPS device')
        result = super().__torch_function__(func, types, args, kwargs or {})
        if isinstance(result, torch.Tensor) and result.dtype == torch.float64: raise TypeError("MPS framework doesn't support float64")
        return result


def test_scores_of_features_on_mps():
    torch.manual_seed(0)
    h, y = torch.randn(60, 5), torch.arange(60) % 3
    on_mps = h.as_subclass(OnMps)
    with pytest.raises(TypeError): on_mps.double()
    assert scores.effective_rank(on_mps) == scores.effective_rank(h)
    assert scores.uniformity(on_mps) == scores.uniformity(h)


# Types of the configuration

WRONG = [('epochs', '6'), ('epochs', 1.5), ('epochs', True), ('epochs', math.nan), ('epochs', None), ('batch_size', 128.), ('limit', '64'), ('limit', 1.5), ('seed', False),
    ('channels_last', 'no'), ('channels_last', 1), ('channels_last', None), ('sync_batchnorm', 0), ('gather_distributed', 'yes'), ('detach_weights', 'no'),
    ('lr', '1e-3'), ('lr', True), ('lr', None), ('beta', math.nan), ('beta', math.inf), ('temperature', 'warm'), ('tau_plus', True), ('tau_plus_end', '.1'), ('momentum', [.9]),
    ('encoder', 1), ('dataset', None), ('strategy', 7), ('strategy', ['simclr']), ('data_root', 3), ('uncertainty', None), ('select', True), ('mix', .5), ('mix', (1., 0.)),
    ('mix', '100'), ('mix', (1, 0, '0')), ('mix', (True, 0, 0)), ('mix', (math.nan, 1, 0)), ('kappa', (1., 1., 1.)), ('kappa', None), ('clip_grad', '1'), ('augment_strength', math.nan),
    ('warmup_epochs', 'half'), ('queue_size', 0.), ('devices', True), ('log_every', '10'), ('save_every', 2.5), ('temperature', torch.tensor(.5))]


@pytest.mark.parametrize('name,value', WRONG, ids=str)
def test_type_of_a_field(name, value):
    called = RENAMED.get(name, name)
    with pytest.raises(ValueError, match=f'^({called.removesuffix("_end")}_end: )?{called} must be .*, got '): run_of(**{'strategy': 'unremix', name: value})
    if name == 'strategy' or name in known()['unremix'].knobs and value is None: return # a comparison that is not asked for it
    with pytest.raises(ValueError, match=f"^(row '.*': )?({called.removesuffix('_end')}_end: )?{called} must be .*, got "): comparison(**{name: value})


@pytest.mark.parametrize('name,value', [('strategies', 'simclr'), ('strategies', ('simclr', 3)), ('seeds', 2.), ('supervised', 'no'), ('timed_steps', True)], ids=str)
def test_type_of_a_field_of_compare(name, value):
    with pytest.raises(ValueError, match=f'^{name} must be .*, got '): comparison(**{name: value})


def test_every_field_has_a_type_that_is_checked():
    class Odd: pass
    for name in HOME:
        with pytest.raises(ValueError, match=f'{name} must be '): run_of(**{name: Odd()})
    for name in [f.name for f in dataclasses.fields(CompareConfig) if f.name not in ('train', 'knobs')]:
        with pytest.raises(ValueError, match=f'^{name} must be '): comparison(**{name: Odd()})
    for s in known().values():
        for f in dataclasses.fields(s.kind):
            if f.init:
                with pytest.raises(ValueError, match=f'^{f.name} must be '): s.kind(**{f.name: Odd()})


def test_numbers_of_other_libraries_become_pythons():
    cfg = run_of(strategy='unremix', epochs=np.int64(2), lr=np.float32(.5), temperature=np.float64(.25), beta=2, mix=[0, 1, 0], kappa=(np.float32(1), 1), data_root=Path('a/b'), weight_decay=Fraction(1, 4))
    assert json.loads(json.dumps(cfg.as_json()))['strategy']['mix'] == [0, 1, 0]
    got = {k: cfg.fields()[k] for k in ('epochs', 'lr', 'temperature', 'beta', 'mix', 'data_root', 'weight_decay')}
    assert got == dict(epochs=2, lr=.5, temperature=.25, beta=2, mix=(0, 1, 0), data_root=str(Path('a/b')), weight_decay=.25)
    assert [type(v) for v in got.values()] == [int, float, float, int, tuple, str, float]
    assert comparison(strategies=['simclr', 'hcl']).strategies == ('simclr', 'hcl')


@pytest.mark.parametrize('fields', [{'epochs': 1.5}, {'channels_last': 'no'}, {'lr': '1e-3'}, {'mix': [1, 0]}, {'batch_size': True}], ids=str)
def test_types_of_a_grid(fields):
    "As TOML gives them."
    [name] = fields
    with pytest.raises(ValueError, match=f'{name} must be '): runs_of(Grid('e', {'a': fields | {'strategy': 'unremix'}}))


# ---------------------------------------------------------------- what a command loads

LOADED = '''
import sys
from unremix.config import TrainConfig
from unremix.run_parts import start_fabric
assert not {'lightning_fabric', 'sklearn'} & set(sys.modules)
start_fabric(TrainConfig.of({'accelerator': 'cpu', 'precision': '32-true'}))
assert 'lightning_fabric' in sys.modules and 'torchmetrics' not in sys.modules
'''


def test_fabric_does_not_load_torchmetrics():
    "That took five of the ten seconds in which a command began, wherever it was installed."
    done = python(LOADED)
    assert done.returncode == 0, done.stderr.decode()


def test_fabric_knows_the_version_of_torchmetrics_all_the_same():
    "What needs it later gets the real one."
    pytest.importorskip('torchmetrics', reason='torchmetrics is not installed')
    done = python(LOADED + '''
from lightning_fabric.utilities.imports import _TORCHMETRICS_GREATER_EQUAL_1_0_0
from lightning_fabric.utilities.spike import SpikeDetection
assert _TORCHMETRICS_GREATER_EQUAL_1_0_0
SpikeDetection()
import torchmetrics
assert torchmetrics.Metric
''')
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize('package', ('torch', 'no_such_package', 'unremix'))
def test_a_stand_in_replaces_nothing_that_is_there(package):
    from unremix.devices import with_a_stand_in
    before = sys.modules.get(package)
    with with_a_stand_in(package):
        assert sys.modules.get(package) is before
    assert sys.modules.get(package) is before


def test_a_stand_in_is_gone_after_an_error(monkeypatch):
    from importlib.metadata import version

    from unremix.devices import with_a_stand_in
    monkeypatch.delitem(sys.modules, 'tyro', raising=False)
    with pytest.raises(ZeroDivisionError), with_a_stand_in('tyro'):
        import tyro
        assert tyro.__version__ == version('tyro') and not hasattr(tyro, 'cli')
        1 / 0
    assert 'tyro' not in sys.modules
