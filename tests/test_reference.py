"The API reference: everything that people import is there, with what its parameters are, and its examples hold."
import ast
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / 'tools'))
import reference  # noqa: E402
import unremix  # noqa: E402

FOUND = reference.definitions()


def home_of(name):
    module, target = reference.HOMES.get(name, (None, name))
    return FOUND[f'{module}.{target}' if module else target]


def test_all_of_the_package_is_there():
    assert set(unremix.__all__) <= set(reference.names())
    assert len(reference.names()) == len(set(reference.names()))


@pytest.mark.parametrize('name', reference.names())
def test_each_name_says_what_it_is(name):
    module, node, text = home_of(name)
    assert (ROOT / 'unremix' / f'{module}.py').exists()
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        assert ast.get_docstring(node)


@pytest.mark.parametrize('name', 'NTXentLoss HCLLoss UnReMixLoss KeyQueue'.split())
def test_each_parameter_of_a_loss_has_a_meaning(name):
    _, node, text = home_of(name)
    parents, parent = [], reference.PARENTS.get(name)
    while parent:
        parents.append(FOUND[parent][1:])
        parent = reference.PARENTS.get(parent)
    rows = reference.table(node, text, parents).splitlines()[2:]
    assert len(rows) == len(reference.parameters(node)) > 0
    assert [row for row in rows if row.endswith('|  |')] == []


@pytest.mark.parametrize('name', reference.EXAMPLES)
def test_examples_hold(name):
    *lines, last = reference.EXAMPLES[name].splitlines()
    expression, told = last.split('  #> ')
    names = {n: getattr(unremix, n) for n in unremix.__all__} | {'torch': torch}
    exec('\n'.join(lines), names)
    assert repr(eval(expression, names)) == told
