"Every loss gives the numbers it gave before the seam was rebuilt: whole and in blocks."
import json

import frozen
import pytest
import torch
from torch.testing import assert_close

KNOWN = json.loads(frozen.FILE.read_text())
CASES = list(frozen.cases())
# Here float32 itself is further from float64: two views of an image nearly cancel.
LOOSER = {'unremix image_similarity log': 10}
every_case = pytest.mark.parametrize('case', CASES, ids=' | '.join)


def known(case):
    found = KNOWN[' | '.join(case)]
    as_tensor = lambda name: torch.tensor(found[name], dtype=torch.float64)
    return as_tensor('value'), as_tensor('gradient'), found['stats']


def test_the_file_has_these_cases():
    assert [' | '.join(case) for case in CASES] == list(KNOWN)
    assert len(CASES) > 100


@every_case
@pytest.mark.parametrize('dtype, bound', ((torch.float64, 1e-10), (torch.float32, 1e-6)))
@pytest.mark.parametrize('chunk_size', (None, 3, 64))
def test_value_gradient_and_statistics(case, dtype, bound, chunk_size):
    value, gradient, stats = known(case)
    v, g, s = frozen.evaluate(case, dtype, chunk_size)
    if dtype == torch.float32:
        bound = bound*LOOSER.get(case[0], 1)
    largest = gradient.abs().max()
    assert largest > 0, 'a case without gradient holds nothing'
    assert v.isfinite().all() and g.isfinite().all()
    assert (v.double().flatten() - value).abs().max() <= bound*value.abs().max()
    assert (g.double().flatten() - gradient).abs().max() <= bound*largest
    assert s.keys() == stats.keys()
    for name, x in stats.items():
        expected = torch.tensor(x, dtype=torch.float32)
        assert_close(s[name], expected, rtol=1e-4, atol=1e-5, msg=f'{name}: {s[name]} for {x}')
