"One rank of the parity test: `python parity.py RANK SIZE FOLDER [DEVICE]` writes its loss and gradient for every case."
import sys, warnings

import torch
import torch.distributed as dist
from torch import nn

from unremix import DebiasedNTXentLoss, HCLLoss, NTXentLoss, UnReMixLoss
from unremix.queues import KeyQueue
from unremix.selection import PlaceboLoss
from unremix.uncertainty import UNCERTAINTIES

IMAGES, DIM, HIDDEN = 12, 6, 9 # of the whole job: divisible by 2 and 3
CASES = { # name: (loss, companions)
    'simclr': (NTXentLoss, {}, ()), 'debiased': (DebiasedNTXentLoss, {}, ()), 'hcl': (HCLLoss, dict(beta=2.), ()),
    'hcl detached': (HCLLoss, dict(detach_weights=True), ()), 'labels': (HCLLoss, dict(tau_plus=0.), ('labels',)),
    'sample ids': (UnReMixLoss, dict(tau_plus=.1), ('sample_ids', 'hidden')), 'negatives': (HCLLoss, {}, ('negatives',)),
    'only negatives': (NTXentLoss, dict(in_batch=False), ('negatives',)), 'no hidden': (UnReMixLoss, {}, ()),
    'attached': (UnReMixLoss, dict(detach_weights=False), ('hidden',)), 'euclidean': (UnReMixLoss, dict(distance='euclidean'), ('hidden',)),
    'placebo': (PlaceboLoss, {}, ('hidden',)), 'top': (UnReMixLoss, dict(select='top', k_keep=5), ('hidden',)), 'log': (UnReMixLoss, dict(pool='log'), ('hidden',)),
    'queue': (HCLLoss, {}, ('queue', 'sample_ids')), 'queue of unremix': (UnReMixLoss, {}, ('queue', 'hidden', 'sample_ids')), 'sum': (HCLLoss, dict(reduction='sum'), ()),
    'chunks': (UnReMixLoss, dict(chunk_size=5), ('hidden', 'labels')), 'queue in chunks': (HCLLoss, dict(chunk_size=3), ('queue',)),
    **{f'{u}': (UnReMixLoss, dict(uncertainty=u, mix=(.5, .25, .25)), ('hidden',)) for u in UNCERTAINTIES},
    **{f'normalize={n}': (UnReMixLoss, dict(normalize=n), ('hidden',)) for n in ('sum', 'minmax')}}


def inputs():
    "The whole job's tensors, the same in every process."
    torch.manual_seed(0)
    near = torch.randn(4, DIM, dtype=torch.float64).repeat(3, 1)
    return dict(z1=near + .5*torch.randn(IMAGES, DIM, dtype=torch.float64), z2=near + .5*torch.randn(IMAGES, DIM, dtype=torch.float64),
                h1=torch.randn(IMAGES, HIDDEN, dtype=torch.float64), h2=torch.randn(IMAGES, HIDDEN, dtype=torch.float64),
                labels=torch.arange(IMAGES) % 4, sample_ids=torch.tensor([0, 1, 2, 3, 4, 0, 5, 6, 1, 7, 8, 9]), negatives=torch.randn(6, DIM, dtype=torch.float64))


def filled(keys, hidden, ids):
    "A queue with as many empty slots as full ones."
    queue = KeyQueue(4*IMAGES, DIM, stores_hidden=True).double().to(keys.device)
    queue.push(keys, hidden, sample_ids=ids)
    queue.push(-keys, hidden, sample_ids=ids + 5)
    return queue


def gradients(name, rank, size, device='cpu', **kwargs):
    "Loss of this rank, its gradients, and a statistic."
    cls, knobs, given = CASES[name]
    mine = {k: x.chunk(size)[rank].to(device) for k, x in inputs().items()}
    leaves = [mine[k].clone().requires_grad_() for k in ('z1', 'z2', 'negatives')]
    loss = cls(**knobs, **kwargs)
    companions = {k: mine[k] for k in given if k in ('labels', 'sample_ids')}
    if 'negatives' in given: companions['negatives'] = leaves[2]
    if 'hidden' in given: companions['hidden'] = mine['h1'], mine['h2']
    if 'queue' in given: companions['queue'] = filled(mine['z2'], mine['h2'], mine['sample_ids'])
    value, stats = loss(*leaves[:2], **companions, return_stats=True, true_labels=mine['labels'])
    got = torch.autograd.grad(value, leaves, allow_unused=True)
    return dict(value=value.detach().cpu(), grads=[torch.zeros_like(x).cpu() if g is None else g.cpu() for x, g in zip(leaves, got)], stats={k: v.cpu() for k, v in stats.items()})


class Encoder(nn.Module):
    "Its normalisation knows no batch, so that it is the same for parts of a batch."
    def __init__(self):
        super().__init__()
        self.body, self.last = nn.Sequential(nn.Linear(DIM, HIDDEN), nn.GroupNorm(3, HIDDEN), nn.Tanh()), nn.Linear(HIDDEN, DIM)

    def forward(self, x): h = self.body(x); return self.last(h), h


def five_steps(rank, size, **kwargs):
    "Parameters after five optimiser steps on this rank's share of the images."
    torch.manual_seed(1)
    model = Encoder().double()
    ddp = nn.parallel.DistributedDataParallel(model) if size > 1 else model
    optimizer, loss, data = torch.optim.Adam(model.parameters(), 1e-2), UnReMixLoss(**kwargs), inputs()
    for step in range(5):
        x = torch.cat([data[k].roll(step, 0).chunk(size)[rank] for k in ('z1', 'z2')])
        z, h = ddp(x)
        optimizer.zero_grad(); loss(*z.chunk(2), hidden=h.chunk(2)).backward(); optimizer.step()
    return [p.detach() for p in model.parameters()]


if __name__ == '__main__':
    rank, size, folder, device = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4] if len(sys.argv) > 4 else 'cpu'
    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method=f'file://{folder}/store{size}', rank=rank, world_size=size)
    found = {name: gradients(name, rank, size, device, gather_distributed=True) for name in CASES}
    found['five steps'] = five_steps(rank, size, gather_distributed=True)
    found['five steps in chunks'] = five_steps(rank, size, gather_distributed=True, chunk_size=3)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter('always')
        alone = [gradients('simclr', rank, size, device) for _ in range(3)]
    found['alone'] = alone[0], [str(w.message) for w in seen if 'gather_distributed' in str(w.message)]
    try: NTXentLoss(gather_distributed=True)(*torch.randn(2, 4+rank, 3)); found['uneven'] = ''
    except ValueError as e: found['uneven'] = str(e)
    torch.save(found, f'{folder}/rank{rank}of{size}.pt')
    dist.destroy_process_group()
