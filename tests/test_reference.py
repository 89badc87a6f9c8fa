"The API reference: everything that people import is there, with what its parameters are, and its examples hold."

import ast
import importlib
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


def test_what_the_commands_call_is_there():
    commands = (
        'load_encoder export_encoder embed_folder audit train compare evaluate sweep'
    )
    others = (
        'ImageFiles SentenceLoss JensenShannon RescaledHCL local_global InfoGraph GIN'
    )
    assert {*commands.split(), *others.split()} <= set(reference.names())


@pytest.mark.parametrize('name', unremix.__all__)
def test_a_name_of_the_package_is_looked_up_where_it_comes_from(name):
    assert FOUND[name][0] == unremix._HOMES[name] == reference.TOP[name]


def test_comments_are_of_their_own_line():
    module, node, text = FOUND['Contrast']
    assert reference.comments(text, node)['k'] == '(a) number of negatives'
    page = reference.entry('Contrast', FOUND, {'contrast': Path('12_contrast')}, str)
    assert 'init=False' not in page and '| computed |' in page


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
    module, target = reference.HOMES.get(name, (home_of(name)[0], name))
    own = getattr(importlib.import_module(f'unremix.{module}'), target)
    names = {n: getattr(unremix, n) for n in unremix.__all__} | {'torch': torch}
    names[target] = own
    exec('\n'.join(lines), names)
    assert repr(eval(expression, names)) == told
