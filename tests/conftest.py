"The same few threads everywhere, asleep while they wait: committed numbers were made with them, and small problems run faster."
import os

import pytest

from unremix.machine import wait_passively

os.environ.setdefault('OMP_NUM_THREADS', '2')
wait_passively() # before PyTorch is loaded; processes that tests start inherit it

@pytest.hookimpl(tryfirst=True) # before xdist reads the groups
def pytest_collection_modifyitems(config, items):
    "Workers of `make test` take whole files, whose fixtures are dear, but notebooks one by one."
    if not config.pluginmanager.hasplugin('xdist'): return
    for item in items:
        alone = item.path.name == 'test_notebooks.py'
        item.add_marker(pytest.mark.xdist_group(item.name if alone else item.path.stem))
