"""One rank of the parity test: its loss and gradients for every case, into a file.

python parity.py RANK SIZE FOLDER [DEVICE]
"""

import math
import sys
import warnings
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.distributed as dist
from torch import nn

from unremix import ContrastiveLoss, DebiasedNTXentLoss, HCLLoss, KeyQueue
from unremix import LearnedTemperature, NTXentLoss, OutsideBatch, UnReMixLoss
from unremix import across, supervised, views
from unremix.contrast import prepared_for
from unremix.gather import Shared
from unremix.hard_negatives import log_share, mean_one
from unremix.selection import Placebo
from unremix.uncertainty import UNCERTAINTIES

IMAGES, DIM, HIDDEN = 12, 6, 9  # of the whole job: divisible by 2 and 3


@dataclass(frozen=True)
class Transport:
    "Weights of a plan that moves all anchors onto their negatives (Jiang et al. 2023)."

    epsilon: float = 0.7
    steps: int = 20
    size: int = 5  # candidates at a time

    reads: ClassVar[tuple[str, ...]] = ()

    def kernel(self, anchors, candidates):  # (a n)
        "Minus the squared distance over ε."
        return (2 * anchors.z.detach() @ candidates.z.detach().T - 2) / self.epsilon

    def prepare(self, anchors, candidates, rule, temperature):  # (n) log potentials
        if isinstance(candidates, Shared):  # the plan moves those of all processes
            count, samples = candidates.batch
            anchors = candidates[: count * samples]
        _, negative = rule(anchors, candidates)
        kernel = self.kernel(anchors, candidates).masked_fill(~negative, -math.inf)
        g = torch.zeros_like(candidates.z[:, 0])
        for _ in range(self.steps):
            f = -(kernel + g).logsumexp(1, keepdim=True) - math.log(len(anchors))

            def of_some(rows, f=f):
                "Every process computes some of the candidates."
                some = self.kernel(anchors, candidates[rows])
                some = some.masked_fill(~negative[:, rows], -math.inf)
                return -math.log(len(candidates)) - (some + f).logsumexp(0)

            g = candidates.each(of_some, self.size)
        return g

    def __call__(self, c):
        scores = self.kernel(c.anchors, c.candidates) + prepared_for(c, self.prepare)
        return mean_one(log_share(scores, c.negative, c.k), c.k)


def learned():
    return LearnedTemperature(0.3).double()


CASES = {  # name: (loss, knobs, companions)
    'simclr': (NTXentLoss, {}, ()),
    'debiased': (DebiasedNTXentLoss, {}, ()),
    'hcl': (HCLLoss, dict(beta=2.0), ()),
    'hcl detached': (HCLLoss, dict(detach_weights=True), ()),
    'labels': (HCLLoss, dict(tau_plus=0.0), ('labels',)),
    'sample ids': (UnReMixLoss, dict(tau_plus=0.1), ('sample_ids', 'hidden')),
    'negatives': (HCLLoss, {}, ('negatives',)),
    'only negatives': (NTXentLoss, dict(pairs=OutsideBatch(views)), ('negatives',)),
    'no hidden': (UnReMixLoss, {}, ()),
    'attached': (UnReMixLoss, dict(detach_weights=False), ('hidden',)),
    'euclidean': (UnReMixLoss, dict(distance='euclidean'), ('hidden',)),
    'placebo': (ContrastiveLoss, dict(weights=Placebo()), ('hidden',)),
    'both placebos in chunks': (
        ContrastiveLoss,
        dict(weights=Placebo(swap='ur'), chunk_size=5),
        ('hidden', 'sample_ids'),
    ),
    'top': (UnReMixLoss, dict(select='top', k_keep=5), ('hidden',)),
    'log': (UnReMixLoss, dict(pool='log'), ('hidden',)),
    'queue': (HCLLoss, {}, ('queue', 'sample_ids')),
    'queue of unremix': (UnReMixLoss, {}, ('queue', 'hidden', 'sample_ids')),
    'sum': (HCLLoss, dict(reduction='sum'), ()),
    'chunks': (UnReMixLoss, dict(chunk_size=5), ('hidden', 'labels')),
    'queue in chunks': (HCLLoss, dict(chunk_size=3), ('queue',)),
    # every class has its images on several ranks
    'supervised': (NTXentLoss, dict(pairs=supervised), ('labels',)),
    'supervised unremix in chunks': (
        UnReMixLoss,
        dict(pairs=supervised, chunk_size=5),
        ('labels', 'hidden'),
    ),
    'three views': (HCLLoss, {}, ('third view',)),
    'three views of unremix in chunks': (
        UnReMixLoss,
        dict(chunk_size=5),
        ('third view', 'hidden'),
    ),
    'learned temperature': (HCLLoss, dict(temperature=learned()), ()),
    'learned temperature of unremix': (
        UnReMixLoss,
        dict(temperature=learned(), detach_weights=False, tau_plus=0.1),
        ('hidden',),
    ),
    'learned temperature in chunks': (
        HCLLoss,
        dict(temperature=learned(), chunk_size=5),
        ('negatives',),
    ),
    'queue and batch': (HCLLoss, dict(pairs=across), ('queue', 'sample_ids')),
    'queue and batch of unremix in chunks': (
        UnReMixLoss,
        dict(pairs=across, chunk_size=3),
        ('queue', 'hidden', 'sample_ids'),
    ),
    'queue and negatives': (HCLLoss, {}, ('queue', 'negatives')),
    'transport': (ContrastiveLoss, dict(weights=Transport()), ()),
    'transport in chunks': (
        ContrastiveLoss,
        dict(weights=Transport(), chunk_size=5),
        ('negatives', 'sample_ids'),
    ),
}
for u in UNCERTAINTIES:
    knobs = dict(uncertainty=u, mix=(0.5, 0.25, 0.25))
    CASES[u] = (UnReMixLoss, knobs, ('hidden',))
for n in ('sum', 'minmax'):
    CASES[f'normalize={n}'] = (UnReMixLoss, dict(normalize=n), ('hidden',))


def inputs():
    "The whole job's tensors, the same in every process."
    torch.manual_seed(0)
    like = dict(dtype=torch.float64)
    near = torch.randn(4, DIM, **like).repeat(3, 1)
    z1, z2 = (near + 0.5 * torch.randn(IMAGES, DIM, **like) for _ in range(2))
    h1, h2 = (torch.randn(IMAGES, HIDDEN, **like) for _ in range(2))
    return dict(
        z1=z1,
        z2=z2,
        h1=h1,
        h2=h2,
        labels=torch.arange(IMAGES) % 4,
        sample_ids=torch.tensor([0, 1, 2, 3, 4, 0, 5, 6, 1, 7, 8, 9]),
        negatives=torch.randn(6, DIM, **like),
        z3=near + 0.5 * torch.randn(IMAGES, DIM, **like),
        h3=torch.randn(IMAGES, HIDDEN, **like),
    )


def filled(keys, hidden, ids):
    "A queue with as many empty slots as full ones."
    queue = KeyQueue(4 * IMAGES, DIM, stores_hidden=True).double().to(keys.device)
    queue.push(keys, hidden, sample_ids=ids)
    queue.push(-keys, hidden, sample_ids=ids + 5)
    return queue


def companions_of(given, mine, negatives):
    "What goes with the views of this rank."
    found = {k: mine[k] for k in given if k in ('labels', 'sample_ids')}
    if 'negatives' in given:
        found['negatives'] = negatives
    if 'hidden' in given:
        names = ('h1', 'h2', 'h3') if 'third view' in given else ('h1', 'h2')
        found['hidden'] = tuple(mine[name] for name in names)
    if 'queue' in given:
        found['queue'] = filled(mine['z2'], mine['h2'], mine['sample_ids'])
    return found


def gradients(name, rank, size, device='cpu', **kwargs):
    """Loss of this rank, its gradients, and its statistics.

    `grads` are of the rank's own tensors, `shared` of what every rank has a copy of.
    """
    cls, knobs, given = CASES[name]
    mine = {k: x.chunk(size)[rank].to(device) for k, x in inputs().items()}
    leaves = [mine[k].clone().requires_grad_() for k in ('z1', 'z2', 'negatives', 'z3')]
    z = leaves[:2]
    if 'third view' in given:
        z = [*z, leaves[3]]
    loss = cls(**knobs, **kwargs).to(device)
    value, stats = loss(
        *z,
        **companions_of(given, mine, leaves[2]),
        return_stats=True,
        true_labels=mine['labels'],
    )
    wanted = [*leaves, *loss.parameters()]
    found = torch.autograd.grad(value, wanted, allow_unused=True)
    pairs = zip(wanted, found, strict=True)
    grads = [torch.zeros_like(x) if g is None else g for x, g in pairs]
    grads = [g.cpu() for g in grads]
    return dict(
        value=value.detach().cpu(),
        grads=grads[: len(leaves)],
        shared=grads[len(leaves) :],
        stats={k: v.cpu() for k, v in stats.items()},
    )


class Encoder(nn.Module):
    "Its normalisation knows no batch, so that it is the same for parts of a batch."

    def __init__(self):
        super().__init__()
        layers = nn.Linear(DIM, HIDDEN), nn.GroupNorm(3, HIDDEN), nn.Tanh()
        self.body = nn.Sequential(*layers)
        self.last = nn.Linear(HIDDEN, DIM)

    def forward(self, x):
        h = self.body(x)
        return self.last(h), h


def five_steps(rank, size, **kwargs):
    "Parameters after five optimiser steps on this rank's share of the images."
    torch.manual_seed(1)
    model = Encoder().double()
    ddp = nn.parallel.DistributedDataParallel(model) if size > 1 else model
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    loss, data = UnReMixLoss(**kwargs), inputs()
    for step in range(5):
        shifted = [data[k].roll(step, 0) for k in ('z1', 'z2')]
        z, h = ddp(torch.cat([x.chunk(size)[rank] for x in shifted]))
        optimizer.zero_grad()
        loss(*z.chunk(2), hidden=h.chunk(2)).backward()
        optimizer.step()
    return [p.detach() for p in model.parameters()]


def without_gathering(rank, size, device):
    "Three calls, and the warnings that they gave."
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter('always')
        found = [gradients('simclr', rank, size, device) for _ in range(3)]
    said = [str(w.message) for w in seen]
    return found[0], [text for text in said if 'gather_distributed' in text]


def refusal_of_uneven_batches(rank):
    try:
        NTXentLoss(gather_distributed=True)(*torch.randn(2, 4 + rank, 3))
    except ValueError as e:
        return str(e)
    return ''


def main(rank, size, folder, device):
    torch.set_num_threads(1)
    where = f'file://{folder}/store{size}'
    dist.init_process_group('gloo', init_method=where, rank=rank, world_size=size)
    job = dict(gather_distributed=True)
    found = {name: gradients(name, rank, size, device, **job) for name in CASES}
    found['five steps'] = five_steps(rank, size, **job)
    found['five steps in chunks'] = five_steps(rank, size, chunk_size=3, **job)
    found['alone'] = without_gathering(rank, size, device)
    found['uneven'] = refusal_of_uneven_batches(rank)
    torch.save(found, f'{folder}/rank{rank}of{size}.pt')
    dist.destroy_process_group()


if __name__ == '__main__':
    rank, size, folder, *device = sys.argv[1:]
    main(int(rank), int(size), folder, *device or ['cpu'])
