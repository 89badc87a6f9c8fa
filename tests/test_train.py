"A run is the same bit by bit when it is killed and continued."
import json, signal, subprocess, sys, time
from pathlib import Path

import pytest
import torch
from configs import run_of
from unremix.train import train

ARGS = '--limit 128 --batch-size 16 --epochs 3 --log-every 1 --strategy unremix --precision 32-true --beta-end 0 --anneal-steps 2'.split()
TIMES = {'images_per_s'}

def start(out): return subprocess.Popen([Path(sys.executable).with_name('unremix'), 'train', '--out', out, *ARGS], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

def lines(out): return [{k: v for k, v in json.loads(l).items() if k not in TIMES} for l in (out/'log.jsonl').read_text().splitlines()]

def weights(out): return torch.load(out/'checkpoint.pt', weights_only=True)['model']

def kill_after(out, step):
    "Kill -9 as soon as the log has the step."
    process = start(out)
    while process.poll() is None and (not (out/'log.jsonl').exists() or f'"step": {step},' not in (out/'log.jsonl').read_text()): time.sleep(.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL, 'the run ended before it could be killed'

@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp('train')
    assert start(root/'whole').wait() == 0
    kill_after(root/'killed', 10) # in the second of three epochs
    killed = lines(root/'killed')
    assert start(root/'killed').wait() == 0
    return root/'whole', root/'killed', killed

def test_resume_is_bit_identical(runs):
    whole, killed, _ = runs
    a, b = weights(whole), weights(killed)
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)

def test_resume_cuts_the_log(runs):
    whole, killed, at_kill = runs
    assert len(at_kill) > 8 and [l['step'] for l in lines(killed)] == list(range(24))
    assert lines(whole) == lines(killed)

def test_result_after_resume(runs):
    whole, killed, _ = runs
    a, b = (json.loads((r/'result.json').read_text()) for r in (whole, killed))
    assert a['scores'] == b['scores'] and a['loss'] == b['loss']

def test_another_seed_is_another_run(tmp_path):
    cfg = dict(limit=64, batch_size=16, epochs=1, precision='32-true')
    a, b, c = (train(run_of(**cfg, seed=s), tmp_path/str(i), progress=False)['loss'] for i, s in enumerate((0, 0, 1)))
    assert a == b != c

def test_non_finite_loss_stops(tmp_path):
    cfg = run_of(limit=64, batch_size=16, epochs=3, lr=1e30, optimizer='sgd', warmup_epochs=0, log_every=1, precision='32-true')
    with pytest.raises(FloatingPointError, match=r'loss is not finite at step \d+ \(seen last: lr .*checkpoint'): train(cfg, tmp_path/'run', progress=False)
    assert not (tmp_path/'run'/'result.json').exists()

@pytest.mark.parametrize('fields', [dict(strategy='supervised'), dict(strategy='debiased', clip_grad=1.), dict(strategy='hcl', optimizer='sgd', lr=.1, temperature_end=.2),
    dict(strategy='unremix', select='sample', k_keep=4, optimizer='adamw'), dict(precision='bf16-mixed', channels_last=False)], ids=str)
def test_options_train(fields, tmp_path):
    result = train(run_of(limit=64, batch_size=16, epochs=1, **fields), tmp_path/'run', progress=False)
    assert result['loss'] > 0 and result['steps'] == 4
