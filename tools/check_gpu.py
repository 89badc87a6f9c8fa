"""What only a GPU can show, into results/bench/gpu.json: agreement with the CPU, time and memory of the losses, 16-bit training, gathering.

    python tools/check_gpu.py [losses_agree] [speed] [sixteen_bit] [gathering]
"""
import json, statistics, subprocess, sys, tempfile, time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = str(ROOT), str(ROOT/'tests')

import unremix.train
from benchmarks.baselines import bare_products, published_recipe
from unremix import HCLLoss, NTXentLoss, UnReMixLoss
from unremix.config import TrainConfig
from unremix.train import train

RESULT = ROOT/'results/bench/gpu.json'
GPU = 'cuda'

def so_far():
    "The result, whose parts may be run one by one, on one device and with one torch."
    result = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    here = dict(device=torch.cuda.get_device_name(), torch=torch.__version__)
    there = {name: result.get(name, value) for name, value in here.items()}
    if there != here: sys.exit(f'{RESULT.name} is of {there}, and this is {here}: move it away first')
    return result | here

def save(**found):
    result = so_far()
    checks = result.get('checks', {}) | found.pop('checks', {})
    RESULT.write_text(json.dumps(result | found | {'checks': checks}, indent=1))

def losses_agree():
    "Every loss, whole and in blocks, in two precisions, against the CPU's float64."
    from test_weightings import LOSSES
    g = torch.Generator().manual_seed(0)
    z1 = torch.randn(150, 16, generator=g, dtype=torch.float64)
    z2, h = z1 + .7*torch.randn(150, 16, generator=g, dtype=torch.float64), torch.randn(2, 150, 9, generator=g, dtype=torch.float64)
    def run(make, device, dtype, chunk_size):
        leaves, loss = [x.to(device, dtype).clone().requires_grad_() for x in (z1, z2)], make(.5)
        loss.chunk_size = chunk_size
        value = loss(*leaves, hidden=tuple(h.to(device, dtype)))
        value.backward()
        return value.item(), torch.cat([x.grad for x in leaves]).double().cpu()
    worst = {}
    for name, make in LOSSES.items():
        value, gradient = run(make, 'cpu', torch.float64, None)
        found = [run(make, GPU, dtype, chunk) for dtype in (torch.float64, torch.float32) for chunk in (None, 64)]
        worst[name] = [f'{max(abs(v-value)/abs(value), ((g-gradient).abs().max()/gradient.abs().max()).item()):.1e}' for v, g in found]
    save(losses_against_cpu_float64=worst, checks={'losses: largest relative difference float64, float32': [max(float(x) for w in worst.values() for x in part(w)) for part in (lambda w: w[:2], lambda w: w[2:])]})

def variants(z, h):
    "Calls by name."
    from lightly.loss import NTXentLoss as Lightly
    calls = {'products': lambda: bare_products(*z), 'recipe': lambda: published_recipe(*z), 'lightly': lambda: Lightly(temperature=.5)(*z)}
    for chunk in (None, 512, 2048):
        suffix = f' chunk {chunk}' if chunk else ''
        calls |= {f'ntxent{suffix}': lambda c=chunk: NTXentLoss(chunk_size=c)(*z), f'hcl{suffix}': lambda c=chunk: HCLLoss(chunk_size=c)(*z), f'unremix{suffix}': lambda c=chunk: UnReMixLoss(chunk_size=c)(*z, hidden=h)}
    return calls

def speed():
    "Median of six interleaved calls after a warm-up (two from 32,768 views on, only in blocks), and peak memory."
    rows = []
    for n in (512, 2048, 4096, 8192, 16384, 32768):
        z, h = [x.clone().requires_grad_() for x in torch.randn(2, n//2, 128, device=GPU)], tuple(torch.randn(2, n//2, 512, device=GPU))
        calls = {name: f for name, f in variants(z, h).items() if n <= 16384 or 'chunk' in name}
        seconds, memory = {name: [] for name in calls}, {}
        for _ in range(7 if n <= 16384 else 3):
            for name, f in calls.items():
                for x in z: x.grad = None
                torch.cuda.synchronize(); torch.cuda.reset_peak_memory_stats()
                before, tic = torch.cuda.memory_allocated(), time.perf_counter()
                f().backward(); torch.cuda.synchronize()
                seconds[name].append(time.perf_counter() - tic); memory[name] = (torch.cuda.max_memory_allocated() - before)/2**20
        rows += [dict(n=n, variant=name, seconds=statistics.median(seconds[name][1:]), memory_mb=round(memory[name], 1)) for name in calls]
    save(speed=rows)

def sixteen_bit():
    "Loss curves against float32's, and a 16-mixed run that is cut off and resumed."
    base, folder, curves, checks = dict(limit=2560, batch_size=128, epochs=4, log_every=1, strategy='unremix'), Path(tempfile.mkdtemp()), {}, {}
    for p in ('32-true', 'bf16-mixed', '16-mixed'):
        r = train(TrainConfig.of(dict(**base, precision=p)), folder/p, progress=False)
        curves[p] = [json.loads(l)['loss'] for l in (folder/p/'log.jsonl').read_text().splitlines()]
        checks[f'{p} on cuda'] = dict(steps=r['steps'], loss=r['loss'], seconds=r['seconds'], memory=r['peak_memory_mb'])
    for p in ('bf16-mixed', '16-mixed'): checks[f'{p}: largest relative difference of the loss curve to float32'] = max(abs(a-b)/b for a, b in zip(curves[p], curves['32-true']))
    class Stop(Exception): pass
    saved, real = [], unremix.train.save_checkpoint
    def save_twice(path, run, **state):
        real(path, run, **state); saved.append(path)
        if len(saved) == 2: raise Stop
    unremix.train.save_checkpoint = save_twice
    try: train(TrainConfig.of(dict(**base, precision='16-mixed')), folder/'cut', progress=False)
    except Stop: pass
    unremix.train.save_checkpoint = real
    again = train(TrainConfig.of(dict(**base, precision='16-mixed')), folder/'cut', progress=False)
    a, b = (torch.load(folder/name/'checkpoint.pt', weights_only=True) for name in ('16-mixed', 'cut'))
    save(checks=checks | {'scaler in checkpoint': a['precision'], '16-mixed resumed: scaler equal': a['precision'] == b['precision'],
        '16-mixed resumed: largest weight difference': max((b['model'][k].float() - v.float()).abs().max().item() for k, v in a['model'].items()), '16-mixed resumed: loss': [again['loss'], curves['16-mixed'][-1]]})

def started(rank, folder):
    "One of two processes of the parity test, with its tensors on the GPU."
    command = [sys.executable, ROOT / 'tests/parity.py', str(rank), '2', folder, GPU]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

def off_by(ranks, name):
    "Largest relative difference of a case's gradients from those of one process."
    import parity
    whole = parity.gradients(name, 0, 1)
    largest = max(g.abs().max() for g in whole['grads'])
    share = 1 if name == 'sum' else 2
    differences = []
    for i, g in enumerate(whole['grads']):
        of_both = torch.cat([r[name]['grads'][i] for r in ranks]) / share
        differences.append(((of_both - g).abs().max() / largest).item())
    for i, g in enumerate(whole['shared']):
        of_both = sum(r[name]['shared'][i] for r in ranks) / share
        differences.append(((of_both - g).abs() / g.abs()).max().item())
    return max(differences)

def gathering():
    "Two gloo processes with tensors on the GPU, against one process on the CPU."
    import parity
    folder = tempfile.mkdtemp()
    jobs = [started(rank, folder) for rank in range(2)]
    for job in jobs:
        errors = job.communicate(timeout=200)[1]
        assert job.returncode == 0, errors[-600:]
    files = [f'{folder}/rank{rank}of2.pt' for rank in range(2)]
    ranks = [torch.load(file, weights_only=True) for file in files]
    worst = max(off_by(ranks, name) for name in parity.CASES)
    what = 'gloo, 2 processes, tensors on cuda: largest gradient difference'
    save(checks={what: worst})

if __name__ == '__main__':
    parts = dict(losses_agree=losses_agree, speed=speed, sixteen_bit=sixteen_bit, gathering=gathering)
    so_far()
    for name in sys.argv[1:] or parts: parts[name](); print(name, 'done', flush=True)
