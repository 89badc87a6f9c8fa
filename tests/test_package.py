"The built wheel holds what it needs and works on its own, away from the checkout."
import re, shutil, subprocess, sys, sysconfig, venv, zipfile
from configparser import ConfigParser
from email import message_from_bytes
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOT_SOURCE = shutil.ignore_patterns('.*', '__pycache__', '*.egg-info', 'build', 'dist', 'runs', 'nbs', 'results', '_docs')

def call(*command, cwd):
    "Standard output of a command that has to succeed."
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout

@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    "Built from a source archive, built from a copy: a forgotten line of MANIFEST.in or an old build/ would show."
    source = tmp_path_factory.mktemp('build')/'source'
    shutil.copytree(ROOT, source, ignore=NOT_SOURCE)
    call(sys.executable, '-m', 'build', '--no-isolation', cwd=source)
    [path] = (source/'dist').glob('*.whl')
    return path

@pytest.fixture(scope='module')
def environment(wheel, tmp_path_factory):
    """A new environment with the wheel, which borrows the dependencies of this one.

    A .pth file adds a folder but does not read the .pth files in it, so the editable install stays out.
    Borrowed after installing: pip would otherwise find unremix there and think its work done."""
    home = tmp_path_factory.mktemp('environment')
    venv.create(home, with_pip=False)
    python = home/'bin'/'python'
    call(sys.executable, '-m', 'pip', '--python', python, 'install', '--no-index', '--no-deps', wheel, cwd=home)
    [site] = (home/'lib').glob('python*/site-packages')
    borrowed = dict.fromkeys([sysconfig.get_path('purelib'), sysconfig.get_path('platlib')])
    (site/'borrowed.pth').write_text('\n'.join(borrowed))
    return home

def test_files(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    files = [p for p in (ROOT/'unremix').rglob('*') if p.is_file() and '__pycache__' not in p.parts]
    assert 'unremix/py.typed' in names and {str(p.relative_to(ROOT)) for p in files} <= set(names)
    assert {n.split('/')[0] for n in names if '.dist-info' not in n} == {'unremix'}

def test_no_benchmark_is_installed(wheel):
    "What measures is for this checkout: it needs other libraries, and a machine left alone."
    files = {Path(n).name for n in zipfile.ZipFile(wheel).namelist()}
    ours = {p.name for p in (ROOT/'benchmarks').glob('*.py')} - {'__init__.py', '__main__.py', 'losses.py'} # the losses themselves have that name
    assert len(ours) > 3 and not files & (ours | {'bench.py'})

def test_metadata(wheel):
    archive = zipfile.ZipFile(wheel)
    read = lambda end: next(archive.read(n) for n in archive.namelist() if n.endswith(end))
    ini = ConfigParser(delimiters=['='])
    ini.read(ROOT/'settings.ini')
    meta, cfg = message_from_bytes(read('METADATA')), ini['DEFAULT']
    assert (meta['Name'], meta['Version'], meta['License-Expression']) == ('unremix', cfg['version'], 'Apache-2.0')
    needs = {re.match(r'[\w-]+', r)[0] for r in meta.get_all('Requires-Dist') if 'extra ==' not in r}
    assert needs == {re.match(r'[\w-]+', r)[0] for r in cfg['requirements'].split()}
    assert 'dev' in meta.get_all('Provides-Extra') and b'unremix=unremix.machine:command' in read('entry_points.txt').replace(b' ', b'')
    assert f'version: {cfg["version"]}\n' in (ROOT/'CITATION.cff').read_text()

def test_library_needs_no_developer_tools():
    for path in (ROOT/'unremix').glob('[!_]*.py'):
        assert not re.search(r'^\s*(from|import) (fastcore|nbdev|execnb)\b', path.read_text(), re.M), path.name
        # curves in a notebook ask for it when they are made, and say which extra brings it
        assert not re.search(r'^%s(from|import) IPython\b' % ('' if path.name == 'live_curves.py' else r'\s*'), path.read_text(), re.M), path.name

def test_installed_copy_is_imported(environment):
    found = call(environment/'bin'/'python', '-c', 'import unremix; print(unremix.__file__)', cwd=environment)
    assert Path(found.strip()).is_relative_to(environment)

def test_command_line(environment):
    assert '--out' in call(environment/'bin'/'unremix', 'compare', '--help', cwd=environment)
    assert 'simclr' in call(environment/'bin'/'python', '-m', 'unremix', 'strategies', cwd=environment)

def test_embedded_images(environment):
    show = "from unremix.data import load_dataset; print(*load_dataset('fashion_mini', 'train').x.shape)"
    assert call(environment/'bin'/'python', '-c', show, cwd=environment).split() == ['10000', '1', '28', '28']
