"The comparison continues, keeps what it has, and calls nothing a win by chance."
import json
from pathlib import Path

import pytest
import torch
from configs import comparison
from unremix import compare as module
from unremix.cli import main
from unremix.compare import compare
from unremix.significance import paired_difference, verdict

CFG = comparison(limit=96, batch_size=32, epochs=1, log_every=1, seeds=2, strategies=('simclr', 'hcl'), timed_steps=1, precision='32-true')

@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp('compare')/'run'
    return out, compare(CFG, out, progress=False)

def test_every_row(finished):
    out, result = finished
    assert list(result['rows']) == ['raw pixels', 'untrained', 'supervised', 'simclr', 'hcl']
    assert [r['n'] for r in result['rows'].values()] == [1, 2, 2, 2, 2]
    assert (out/'figures'/'compare.png').stat().st_size > 5000
    assert json.loads((out/'result.json').read_text()) == json.loads(json.dumps(result))

def test_same_start_and_order(finished):
    "Every contrastive strategy of a seed starts with the same encoder and sees the same first batch."
    first = lambda s: json.loads((finished[0]/f'{s}-seed1'/'log.jsonl').read_text().splitlines()[0])
    assert first('simclr')['positive_similarity'] == first('hcl')['positive_similarity']

def test_continues(finished, monkeypatch):
    out, result = finished
    (out/'result.json').unlink(); (out/'hcl-seed1'/'result.json').unlink()
    kept = (out/'hcl-seed0'/'log.jsonl').read_bytes()
    again = compare(CFG, out, progress=False)
    assert (out/'hcl-seed0'/'log.jsonl').read_bytes() == kept
    for name in result['rows']: assert again['rows'][name]['linear'] == result['rows'][name]['linear']

def test_finished_says_so(finished, capsys, monkeypatch):
    out, _ = finished
    monkeypatch.setattr(module, 'run_cells', None) # would fail if it were called
    args = '--limit 96 --batch-size 32 --epochs 1 --log-every 1 --strategies simclr hcl --timed-steps 1 --precision 32-true'.split()
    assert main(['compare', '--out', str(out), *args]) == 0
    text = capsys.readouterr().out
    assert 'finished' in text and 'vs simclr' in text and '±' in text

def test_no_win_by_chance():
    "Equal strategies: at most a few of 200 comparisons go beyond two standard errors."
    g = torch.Generator().manual_seed(0)
    draw = lambda: torch.rand(4, 1000, generator=g) < .85
    wins = sum(verdict(*paired_difference(draw(), draw())) != 'within error' for _ in range(200))
    assert wins < 20

def test_a_real_difference_is_seen():
    g = torch.Generator().manual_seed(0)
    base = torch.rand(2, 2000, generator=g) < .80
    better = base | (torch.rand(2, 2000, generator=g) < .2)
    assert verdict(*paired_difference(better, base)) == 'better' and verdict(*paired_difference(base, better)) == 'worse'
    assert verdict(*paired_difference(better[:1], base[:1])) == 'within error' # one seed says nothing about seeds
