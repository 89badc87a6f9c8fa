"The lists of mutants fit the package, and the tool that runs them notices a survivor."
import subprocess, sys
from pathlib import Path

import mutate
import pytest

ROOT = Path(__file__).resolve().parent.parent
MUTANTS = mutate.read_lists(ROOT)

@pytest.mark.parametrize('name', sorted({m.file for m in MUTANTS}))
def test_each_text_is_found_once(name):
    for mutant in MUTANTS:
        if mutant.file == name: mutant.apply(ROOT)

def test_no_mutant_twice():
    "In one list; what several people thought of is run twice."
    changes = [(m.source, m.file, m.apply(ROOT)[0]) for m in MUTANTS]
    assert len(set(changes)) == len(changes)

def test_named_tests_exist():
    for mutant in MUTANTS:
        for word in mutant.tests.split():
            path, *names = word.split('::')
            text = (ROOT/path).read_text()
            assert all(f'def {name.split("[")[0]}(' in text for name in names), word

@pytest.fixture
def project(tmp_path):
    "A package of two functions; one is tested here, one in another process."
    files = {'unremix/__init__.py': '', 'pytest.ini': '[pytest]\n',
             'unremix/sums.py': 'def plus(a, b): return a + b\ndef minus(a, b): return a - b\ndef half(a): return a/2\n',
             'tests/test_sums.py': ('import subprocess, sys\nfrom unremix.sums import half, plus\n'
                                    'def test_plus(): assert plus(1, 2) == 3\n'
                                    'def test_half(): assert half(0) == 0\n'
                                    'def test_minus():\n'
                                    '    code = "from unremix.sums import minus; assert minus(3, 1) == 2"\n'
                                    '    subprocess.run([sys.executable, "-c", code], check=True)\n')}
    for name, text in files.items():
        (tmp_path/name).parent.mkdir(exist_ok=True)
        (tmp_path/name).write_text(text)
    (tmp_path/'tools'/'mutants').mkdir(parents=True)
    return tmp_path

PLUS = dict(file='sums.py', old='a + b', new='a*b', tests='tests/test_sums.py::test_plus', why='sums')
MINUS = dict(file='sums.py', old='a - b', new='b - a', tests='tests/test_sums.py::test_minus', why='differences')
HALF = dict(file='sums.py', old='a/2', new='a/3', tests='tests/test_sums.py', why='halves')
STOP = dict(file='sums.py', old='return a/2', new='raise KeyboardInterrupt', tests='tests/test_sums.py', why='halves')
HANG = dict(file='sums.py', old='return a/2', new='import time; time.sleep(99)', tests='tests/test_sums.py', why='the end')
LOST = dict(file='sums.py', old='return', new='yield', tests='tests/test_sums.py', why='everything')
RED = dict(PLUS, tests='tests/test_sums.py::test_other')

def mutated(project, *mutants, more=()):
    (project/'tools'/'mutants'/'all.py').write_text(f'MUTANTS = {list(mutants)!r}\n')
    tool = [sys.executable, ROOT/'tools'/'mutate.py', '--root', project, '--preload', '', *more]
    done = subprocess.run(tool, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr

def test_caught_here_and_in_another_process(project):
    code, text = mutated(project, PLUS, MINUS, STOP)
    assert code == 0, text
    assert text.count('\ncaught ') == 3 and 'SURVIVED  ' not in text
    assert 'by tests/test_sums.py::test_plus' in text and 'by tests/test_sums.py::test_minus' in text

def test_survivor(project):
    code, text = mutated(project, PLUS, HALF)
    assert code == 1 and 'SURVIVED  sums.py:3  a/2  →  a/3  (halves)' in text

def test_harmless_survivor(project):
    code, text = mutated(project, HALF | dict(harmless='nobody halves'))
    assert code == 0 and 'harmless  sums.py:3' in text and '(nobody halves)' in text

def test_text_that_is_not_found_once(project):
    code, text = mutated(project, PLUS, LOST)
    assert code == 1 and 'NOT FOUND  sums.py  return' in text and '3 times' in text

def test_red_without_a_change(project):
    code, text = mutated(project, RED)
    assert code == 1 and 'not green without a change' in text

def test_hang_is_ended_and_caught(project):
    code, text = mutated(project, HANG, more=['--grace', '1'])
    assert code == 0 and 'caught    sums.py:3' in text and 'no end within' in text

def test_tests_that_do_not_run_catch_nothing(project):
    (project/'tests'/'conftest.py').write_text('import unremix.sums\nassert unremix.sums.half(1) == .5')
    code, text = mutated(project, HALF)
    assert code == 1 and 'the tests did not run' in text
