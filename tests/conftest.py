"""The same few threads everywhere, asleep while they wait.

With `pytest -n` each worker has one, since workers that share the cores wait for each other's threads. Pages always have one (`check_notebooks.page_server`).
"""
import os

import pytest

from unremix.machine import wait_passively

os.environ.setdefault('OMP_NUM_THREADS', '1' if 'PYTEST_XDIST_WORKER' in os.environ else '2')
wait_passively() # before PyTorch is loaded; processes that tests start inherit it

LONGEST = [ # files that one worker runs for minutes: first, so that nobody waits for them at the end
    'test_site', 'test_own_strategy', 'test_workers', 'test_weightings', 'test_platform', 'test_compile', 'test_sweep', 'test_cli', 'test_bench']


def pytest_collection_modifyitems(items):
    "The longest files first; the others stay in their order."
    rank = {f'{name}.py': i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))


@pytest.hookimpl(optionalhook=True) # pytest-xdist's; there is none without it
def pytest_xdist_make_scheduler(config, log):
    "Workers of `make test` take whole files, whose fixtures are dear, but notebooks one by one."
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            path = nodeid.split('::')[0]
            return nodeid if path.endswith('test_notebooks.py') else path
    config.option.loadscopereorder = False # it would put the files with few, long tests last
    return ByFile(config, log)
