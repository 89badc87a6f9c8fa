"The checks of test_notebooks.py can fail: each is asked about a small project that is broken on purpose."
import json, os, shutil, subprocess, sys
from pathlib import Path

import pytest
from check_notebooks import RUNNER, check_clean, check_export, check_fresh, check_readme, same_text
from execnb.nbio import mk_cell, new_nb, read_nb, write_nb

import readme

SETTINGS = """[DEFAULT]
repo = tiny
lib_name = tiny
version = 0.0.1
min_python = 3.11
license = apache2
doc_path = _docs
lib_path = tiny
nbs_path = nbs
recursive = True
tst_flags = notest slow
put_version_in_init = True
branch = main
doc_host = https://example.org
doc_baseurl = /tiny
git_url = https://example.org/tiny
title = tiny
audience = Developers
author = nobody
author_email = nobody@example.org
copyright = nobody
description = a project to break
keywords = none
language = English
status = 3
user = nobody
"""
LIBRARY = ['# Halves\n\n> Half of a number', '#| default_exp halves', '#| export\ndef half(x): return x/2', 'half(5.)',
           "print(f'half of {5} is {half(5.):.4f}')", "#| nondet\nimport time; time.time()", '#| slow\nboom',
           '#| eval: false\nboom', '#| hide\nimport nbdev; nbdev.nbdev_export()']
PICTURE = """#| label: fig-line
#| fig-cap: "A line."
#| fig-alt: "A line that rises"
import matplotlib.pyplot as plt
plt.plot([1, 2]);"""
PAGE = ['# A page in a folder', "import sys\nprint('a warning', file=sys.stderr)", 'from tiny.halves import half', 'half(3)', PICTURE]
INDEX = ['# tiny\n\n> A project to break', 'See [halves](00_halves.ipynb) and `a[0](x)`.', '#| hide\nfrom tiny.halves import half',
         'half(7)', '#| echo: false\n' + PICTURE]

def write(path, cells):
    "A notebook of markdown cells (those that start with a heading or prose) and code cells."
    kind = lambda text: 'markdown' if text.startswith(('# ', 'See')) else 'code'
    path.parent.mkdir(parents=True, exist_ok=True)
    write_nb(new_nb([mk_cell(text, kind(text), id=f'c{i}') for i, text in enumerate(cells)]), path)

@pytest.fixture(scope='module')
def sound(tmp_path_factory):
    "A project in which every check passes."
    root = tmp_path_factory.mktemp('sound')
    (root/'settings.ini').write_text(SETTINGS)
    (root/'tiny').mkdir()
    (root/'tiny'/'__init__.py').write_text('__version__ = "0.0.1"\n')
    for name, cells in {'00_halves': LIBRARY, 'pages/page': PAGE, 'index': INDEX}.items(): write(root/'nbs'/f'{name}.ipynb', cells)
    export = 'from nbdev.doclinks import nbdev_export; nbdev_export.__wrapped__()'
    env = {k: v for k, v in os.environ.items() if k != 'IN_TEST'}
    subprocess.run([sys.executable, '-c', export], cwd=root, env=env, check=True)
    subprocess.run([sys.executable, RUNNER, *(root/'nbs').rglob('*.ipynb')], cwd=root, check=True)
    readme.write(root)
    return root

@pytest.fixture
def project(sound, tmp_path):
    "A copy of it to break."
    return Path(shutil.copytree(sound, tmp_path/'project'))

def replace(path, old, new):
    "Edit a file as an editor would; the words must be there."
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))

def test_a_sound_project_passes(project, tmp_path):
    for path in (project/'nbs').rglob('*.ipynb'): assert check_fresh(project, path, tmp_path) + check_clean(path) == []
    assert check_export(project, tmp_path/'copy') + check_readme(project) == []

def test_running_again_changes_nothing(project):
    page = project/'nbs'/'pages'/'page.ipynb'
    before = page.read_bytes()
    subprocess.run([sys.executable, RUNNER, page], cwd=project, check=True)
    assert page.read_bytes() == before
    assert b'image/png' in before and b'fig-alt' in before and b'"stderr"' not in before

def test_a_broken_cell(project, tmp_path):
    page = project/'nbs'/'pages'/'page.ipynb'
    replace(page, 'half(3)', 'half(None)')
    [complaint] = check_fresh(project, page, tmp_path)
    assert 'page.ipynb does not run' in complaint and 'TypeError' in complaint

@pytest.mark.parametrize('old, new', [('half of 5', 'half of 6'), ('is 2.5000', 'was 2.5000'), ('2.5000', '2.5100')])
def test_a_stale_output(project, tmp_path, old, new):
    page = project/'nbs'/'00_halves.ipynb'
    replace(page, old, new)
    [complaint] = check_fresh(project, page, tmp_path)
    assert complaint.startswith('stale output of cell c4')

def test_a_missing_picture(project, tmp_path):
    page = project/'nbs'/'pages'/'page.ipynb'
    nb = read_nb(page)
    nb.cells[-1].outputs = []
    write_nb(nb, page)
    [complaint] = check_fresh(project, page, tmp_path)
    assert 'committed: nothing' in complaint and 'image/png' in complaint

def test_an_output_that_the_code_no_longer_gives(project, tmp_path):
    page = project/'nbs'/'pages'/'page.ipynb'
    replace(page, '"half(3)"', '"half(3);"')
    [complaint] = check_fresh(project, page, tmp_path)
    assert 'fresh:     nothing' in complaint

@pytest.mark.parametrize('edit', [('x/2', 'x/4'), ('def half', 'def halve')])
def test_an_unexported_edit(project, tmp_path, edit):
    replace(project/'nbs'/'00_halves.ipynb', *edit)
    assert 'tiny/halves.py is not what the notebooks export' in check_export(project, tmp_path/'copy')[-1]

def test_an_edit_in_the_package(project, tmp_path):
    (project/'tiny'/'extra.py').write_text('')
    assert [c.split()[0] for c in check_export(project, tmp_path/'copy')] == ['tiny/extra.py']

def unclean(nb, how):
    if how == 'execution count': nb['cells'][3]['execution_count'] = 7
    if how == 'cell metadata': nb['cells'][3]['metadata'] = {'tags': ['x']}
    if how == 'jupytext': nb['metadata']['jupytext'] = {'formats': 'ipynb,py'}

@pytest.mark.parametrize('how', ['execution count', 'cell metadata', 'jupytext'])
def test_an_unclean_notebook(project, how):
    page = project/'nbs'/'00_halves.ipynb'
    nb = json.loads(page.read_text())
    unclean(nb, how)
    page.write_text(json.dumps(nb, sort_keys=True, indent=1, ensure_ascii=False) + '\n')
    assert check_clean(page) == ['00_halves.ipynb is not clean: run `make prepare`']

def test_readme(project):
    text = (project/'README.md').read_text()
    assert '](nbs/00_halves.ipynb)' in text and '`a[0](x)`' in text and 'import' not in text
    assert '    3.5' in text and '![A line that rises](nbs/images/index-fig-line.png)' in text
    replace(project/'nbs'/'index.ipynb', 'A project to break', 'A broken project')
    (project/'nbs'/'images'/'index-fig-line.png').unlink()
    assert [c.split()[0] for c in check_readme(project)] == ['README.md', 'nbs/images/index-fig-line.png']

def test_readme_without_index(project):
    (project/'nbs'/'index.ipynb').unlink()
    assert check_readme(project) == ['nbs/index.ipynb is missing: README.md is made from it']

@pytest.mark.parametrize('old, new, same', [
    ('loss 1.2345', 'loss 1.2349', True), ('loss 1.2345', 'loss 1.2445', False), ('loss 1.2', 'gain 1.2', False),
    ('tensor([ 9.999, 1.0])', 'tensor([10.001, 1.0])', True),   # padding moves with the widest number
    ('0.0312', '0.0313', True), ('0.0312', '0.0314', False),    # one unit of the last of four decimals
    ('0.87', '0.88', False), ('1.', '2.', False), ('5 of 5000', '5 of 5001', False), ('-0.0000', '0.0000', True),
    ('1.2e-05', '2.4e-05', False), ('1.2e-08', '2.4e-08', True), ('nan', '0.1', False), ('1.0', '1.0 2.0', False)])
def test_how_outputs_are_compared(old, new, same): assert same_text(old, new) is same
