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
# What is still written in an older style; nothing may be added here.
OLD_PAGES = {
    'library/03_plots',
    'library/37_gradient_cache',
    'library/40_machine',
    'library/41_image_files',
    'library/42_data',
    'library/43_encoders',
    'library/45_run_folder',
    'library/46_train',
    'library/50_evaluate',
    'library/59_cli',
    'library/60_bench',
    'library/61_scale',
    'coming_from',
    'glossary',
    'index',
    'which_strategy',
    'experiments/ablation',
    'experiments/cost',
    'experiments/hardness_and_temperature',
    'experiments/log_pooling',
    'experiments/representations',
    'experiments/reproduce',
    'experiments/selection',
    'experiments/sensitivity',
    'tutorials/circle',
    'tutorials/exercises',
    'tutorials/false_negatives',
    'tutorials/first_run',
    'tutorials/how_hard',
    'tutorials/several_gpus',
    'tutorials/your_training_code',
    'tutorials/your_weighting',
}
OLD_MODULES = {
    'bench',
    'cli',
    'data',
    'encoders',
    'evaluate',
    'gradient_cache',
    'image_files',
    'machine',
    'plots',
    'run_folder',
    'scale',
    'train',
}
LONG = {  # modules over LINES
    'blocks',
    'cli',
    'config',
    'contrast',
    'contrastive_loss',
    'data',
    'image_files',
    'plots',
    'row_sums',
    'run_folder',
    'train',
    'uncertainty',
    'unremix',
}
LINES = 250
NBS = ROOT / 'nbs'


def name_of(page):
    return page.relative_to(NBS).with_suffix('').as_posix()


def pages():
    hidden = {'.ipynb_checkpoints', '_proc'}
    found = sorted(p for p in NBS.rglob('*.ipynb') if not hidden & set(p.parts))
    assert OLD_PAGES <= {name_of(page) for page in found}
    return [page for page in found if name_of(page) not in OLD_PAGES]


def modules():
    found = sorted((ROOT / 'unremix').glob('*.py'))
    made = [path for path in found if path.stem not in ('_modidx', '__main__')]
    assert OLD_MODULES | LONG <= {path.stem for path in made}
    return made


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
    files = [str(path) for path in modules() if path.stem not in OLD_MODULES]
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


@pytest.mark.parametrize('path', pages(), ids=name_of)
def test_no_line_of_code_is_wide(path):
    lines = code_lines(path)
    assert lines
    assert [x for x in lines if len(x) > WIDTH] == []


def test_modules_are_short():
    long = {p.stem for p in modules() if len(p.read_text().splitlines()) > LINES}
    assert long == LONG  # a module that got short leaves the list


def test_one_page_one_module_one_name():
    for page in (NBS / 'library').glob('*.ipynb'):
        first = json.loads(page.read_text())['cells'][0]['source'][0]
        number, name = page.stem.split('_', 1)
        asks_for = first.removeprefix('#| default_exp ').strip()
        assert len(number) == 2 and number.isdigit(), page
        assert asks_for == name or first.startswith('# '), page


def test_numbers_of_pages_differ():
    numbers = [page.stem[:2] for page in (NBS / 'library').glob('*.ipynb')]
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
