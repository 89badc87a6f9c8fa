"Every notebook is a test, and so is all that is made from them. One page: `pytest -k 57_data`."
import re
from pathlib import Path

import pytest
from check_notebooks import check_clean, check_export, check_fresh, check_readme
from run_notebooks import notebooks

ROOT = Path(__file__).resolve().parents[1]
reads_results = lambda path: re.search(r"results/|\.\./results'", path.read_text(encoding='utf-8')) # `make results` runs these
draws_results = lambda path: [pytest.mark.results] if reads_results(path) else []
each_notebook = pytest.mark.parametrize('path', [pytest.param(p, id=str(p.relative_to(ROOT/'nbs').with_suffix('')), marks=draws_results(p)) for p in notebooks(ROOT)])

def expect_none(complaints):
    if complaints: pytest.fail('\n\n'.join(complaints), pytrace=False)

@each_notebook
def test_runs_and_outputs_are_fresh(path, tmp_path): expect_none(check_fresh(ROOT, path, tmp_path))

@each_notebook
def test_is_clean(path): expect_none(check_clean(path))

def test_package_is_exported(tmp_path): expect_none(check_export(ROOT, tmp_path))

def test_readme_is_made_from_index(): expect_none(check_readme(ROOT))
