"How the code reads: formatted, typed, narrow, imported without circles."

import ast
import json
import shutil
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
WIDTH = 88
# Pages of the losses. The others are still written in an older style.
PAGES = [
    '*_registry',
    '*_config',
    '*_controls',
    '*_arguments',
    '*_tiles',
    '*_contrast',
    '*_info_nce',
    '*_row_sums',
    '*_hard_negatives',
    '*_uncertainty',
    '*_similarity_and_representativeness',
    '*_unremix',
    '*_unremix_selection',
    '*_synthesis',
    '*_statistics',
    '*_blocks',
    '*_gather',
    '*_queue',
    '*_companions',
    '*_contrastive_loss',
    '*_losses',
    '*_methods',
]
MODULES = [
    '__init__',
    'arguments',
    'blocks',
    'companions',
    'config',
    'contrast',
    'contrastive_loss',
    'controls',
    'gather',
    'hard_negatives',
    'info_nce',
    'losses',
    'queue',
    'registry',
    'representativeness',
    'row_sums',
    'selection',
    'statistics',
    'synthesis',
    'tiles',
    'uncertainty',
    'unremix',
]


def pages():
    found = [next((ROOT / 'nbs').glob(f'{name}.ipynb')) for name in PAGES]
    assert len(set(found)) == len(PAGES)
    return found


def run(*command):
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def tool(name):
    path = shutil.which(name, path=str(Path(sys.executable).parent))
    if path is None:
        pytest.skip(f'{name} is not installed')
    return path


@pytest.mark.parametrize('asked', (['format', '--check'], ['check']), ids=' '.join)
def test_ruff(asked):
    done = run(tool('ruff'), *asked, *map(str, pages()))
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
    files = [str(ROOT / 'unremix' / f'{name}.py') for name in MODULES]
    done = run(tool('mypy'), *STRICT, *files)
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


@pytest.mark.parametrize('path', pages(), ids=lambda path: path.stem)
def test_no_line_of_code_is_wide(path):
    lines = code_lines(path)
    assert len(lines) > 10
    assert [x for x in lines if len(x) > WIDTH] == []


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
