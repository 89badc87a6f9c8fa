"How the code reads: formatted, typed, narrow, imported without circles."

import ast
import json
import re
import shutil
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
WIDTH = 88
LINES = 250
NBS = ROOT / 'nbs'


def name_of(page):
    return page.relative_to(NBS).with_suffix('').as_posix()


def pages():
    hidden = {'.ipynb_checkpoints', '_proc'}
    return sorted(p for p in NBS.rglob('*.ipynb') if not hidden & set(p.parts))


def modules():
    found = sorted((ROOT / 'unremix').glob('*.py'))
    return [path for path in found if path.stem not in ('_modidx', '__main__')]


def run(*command):
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def tool(name):
    path = shutil.which(name, path=str(Path(sys.executable).parent))
    if path is None:
        pytest.skip(f'{name} is not installed')
    return path


@pytest.mark.parametrize('asked', (['format', '--check'], ['check']), ids=' '.join)
def test_ruff(asked):
    done = run(tool('ruff'), *asked, *map(str, pages()), 'benchmarks')
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff_sees_what_is_wrong(tmp_path):
    bad = tmp_path / 'bad.py'
    bad.write_text('import os\nx = {  "a":1 }\n')
    config = '--config', str(ROOT / 'ruff.toml')
    for asked in (['format', '--check'], ['check']):
        assert run(tool('ruff'), *asked, *config, str(bad)).returncode == 1


STRICT = (
    '--ignore-missing-imports',
    '--disallow-untyped-defs',
    '--disallow-any-generics',
    '--follow-imports=silent',
)


def test_types():
    files = [str(path) for path in modules()]
    done = run(tool('mypy'), *STRICT, *files, 'benchmarks')
    assert done.returncode == 0, done.stdout + done.stderr


def test_mypy_sees_what_is_wrong(tmp_path):
    bad = tmp_path / 'bad.py'
    bad.write_text("from unremix import HCLLoss\n\nHCLLoss(beta='2')\n")
    done = run(tool('mypy'), *STRICT, str(bad))
    assert 'incompatible type "str"; expected "float"' in done.stdout, done.stdout


def code_lines(path):
    cells = json.loads(path.read_text())['cells']
    texts = (''.join(c['source']) for c in cells if c['cell_type'] == 'code')
    return [x for text in texts for x in text.splitlines() if not x.startswith('#|')]


@pytest.mark.parametrize('path', pages(), ids=name_of)
def test_no_line_of_code_is_wide(path):
    lines = code_lines(path)
    assert lines
    assert [x for x in lines if len(x) > WIDTH] == []


def test_benchmarks_are_narrow_and_short():
    files = sorted((ROOT / 'benchmarks').glob('*.py'))
    assert len(files) > 5
    for path in files:
        lines = path.read_text().splitlines()
        assert len(lines) <= LINES, path
        assert [x for x in lines if len(x) > WIDTH] == [], path


def test_modules_are_short():
    lines = {p.stem: len(p.read_text().splitlines()) for p in modules()}
    assert len(lines) > 30
    assert {name: n for name, n in lines.items() if n > LINES} == {}


FIGURE_UNTIL = 6  # cells that a reader sees, the title being the first
DEFINES = re.compile(r'^(?:@|def |class |[A-Z_]+\b.*=)', re.M)


def first_things(cells):
    "The first picture, output and definition that is exported, as seen cells from 1."
    hidden = '#| hide', '#| default_exp'
    seen = [c for c in cells if not ''.join(c['source']).startswith(hidden)]
    found = {}
    for i, cell in enumerate(seen, 1):
        source, outputs = ''.join(cell['source']), cell.get('outputs', [])
        kinds = {kind for output in outputs for kind in output.get('data', {})}
        html = ''.join(''.join(o.get('data', {}).get('text/html', '')) for o in outputs)
        if 'image/png' in kinds or '<img' in html or '<svg' in html:
            found.setdefault('picture', i)
        if outputs:
            found.setdefault('output', i)
        if re.search(r'^#\| exports?\b', source, re.M) and DEFINES.search(source):
            found.setdefault('export', i)
    return found


@pytest.mark.parametrize('path', sorted((NBS / 'library').glob('*.ipynb')), ids=name_of)
def test_there_is_something_to_see_first(path):
    "A value or a picture before what is exported, and the first picture early."
    found = first_things(json.loads(path.read_text())['cells'])
    assert found.get('picture', 0) <= FIGURE_UNTIL
    assert 'export' not in found or found['output'] < found['export']


def test_first_things_sees_what_comes_late():
    "On a page made by hand, whose hidden cells do not count."

    def code(source, **data):
        return {'source': [source], 'outputs': [{'data': data}] if data else []}

    page = [
        {'source': ['# Title']},
        code('#| hide\n1', text='1'),
        code('#| export\nimport re'),
    ]
    page += [code('#| exports\ndef f(): ...'), code('f()', **{'image/png': 'x'})]
    assert first_things(page) == {'export': 3, 'picture': 4, 'output': 4}


def test_one_page_one_module_one_name():
    for page in (NBS / 'library').glob('*.ipynb'):
        first = json.loads(page.read_text())['cells'][0]['source'][0]
        number, name = page.stem.split('_', 1)
        asks_for = first.removeprefix('#| default_exp ').strip()
        assert len(number) in (2, 3) and number.isdigit(), page
        assert asks_for == name or first.startswith('# '), page


def test_numbers_of_pages_differ():
    numbers = [page.stem.split('_')[0] for page in (NBS / 'library').glob('*.ipynb')]
    assert len(numbers) > 30 and len(set(numbers)) == len(numbers)


def imports_of(path):
    "Modules of this package that are imported when the module is."
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            names = [node.module] if node.module else [x.name for x in node.names]
            found.update(names)
        if isinstance(node, ast.ImportFrom) and (node.module or '')[:8] == 'unremix.':
            found.add(node.module.removeprefix('unremix.'))
    return found


IDEA_FIRST = {('info_nce', 'table_sums'), ('info_nce', 'row_sums')}  # then their form
# training asks them; their pages train
SHOWN_LATER = {
    *('tasks', 'pieces', 'starting_weights', 'decoded_images', 'loggers'),
    'text_encoder',
    'image_notes',  # split off `image_parts`, and the numbers before it are taken
    'json_lines',  # how a file is read matters after what it is for
}


def test_pages_are_numbered_as_they_import():
    names = [page.stem.split('_', 1) for page in (NBS / 'library').glob('*.ipynb')]
    number = {name: int(digits) for digits, name in names}
    late = set()
    for path in modules():
        for name in imports_of(path) & number.keys():
            if name in SHOWN_LATER:
                continue
            if path.stem in number and number[name] > number[path.stem]:
                late.add((path.stem, name))
    assert late == IDEA_FIRST


def test_imports_have_no_circle():
    files = (ROOT / 'unremix').glob('[a-z]*.py')
    graph = {path.stem: imports_of(path) for path in files}
    assert 'contrast' in graph['info_nce'] and len(graph) > 20
    order = list(TopologicalSorter(graph).static_order())  # `CycleError` for a circle
    assert order.index('contrast') < order.index('losses') < order.index('train')


HEAVY = ('lightning', 'lightning_fabric', 'kornia', 'sklearn', 'matplotlib', 'scipy')


@pytest.mark.parametrize(
    'code', ('import unremix', 'from unremix import ContrastiveLoss, UnReMixLoss')
)
def test_what_an_import_loads(code):
    asked = f'{code}; import sys; print([x for x in {HEAVY} if x in sys.modules])'
    done = run(sys.executable, '-c', asked)
    assert done.stdout.strip() == '[]', done.stdout + done.stderr
