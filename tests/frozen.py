"""Values, gradients and statistics of every loss on fixed inputs, as they were when the seam was rebuilt.

    python tests/frozen.py     write tests/frozen.json again: only when a number was wrong, with the reason in the commit

A case is a loss, what goes with the views, and a reduction. `test_frozen.py` compares.
"""
import json
from itertools import product
from pathlib import Path

import torch

from unremix import DebiasedNTXentLoss, HCLLoss, NTXentLoss, UnReMixLoss
from unremix.queue import KeyQueue
from unremix.rules import OutsideBatch, views

FILE = Path(__file__).with_name('frozen.json')
B, D, F, M = 5, 4, 3, 4 # images, dimensions, hidden inputs, explicit negatives
UNCERTAINTIES = (
    'norm', 'influence', 'boundary', 'entropy',
    'overlap', 'image_overlap', 'image_similarity',
)
MIXES = {
    'u': (1., 0., 0.), 'a': (0., 1., 0.), 'r': (0., 0., 1.), 'uar': (.5, .3, .2),
}

# ---------------------------------------------------------------- losses
LOSSES = {
    'ntxent': (NTXentLoss, {}),
    'ntxent t=.1': (NTXentLoss, dict(temperature=.1)),
    'debiased': (DebiasedNTXentLoss, {}),
    'debiased t=.2': (DebiasedNTXentLoss, dict(temperature=.2, tau_plus=.05)),
    'hcl': (HCLLoss, {}),
    'hcl undebiased': (HCLLoss, dict(tau_plus=0.)),
    'hcl detached': (HCLLoss, dict(tau_plus=0., beta=.5, detach_weights=True)),
    'hcl hard': (HCLLoss, dict(temperature=.2, tau_plus=.02, beta=2.)),
    'unremix attached': (UnReMixLoss, dict(detach_weights=False)),
    'unremix debiased': (UnReMixLoss, dict(tau_plus=.1)),
    'unremix euclidean': (UnReMixLoss, dict(distance='euclidean')),
    'unremix knobs': (UnReMixLoss, dict(beta=2., kappa=(.5, 3.), temperature=.2)),
    'unremix top': (UnReMixLoss, dict(select='top', k_keep=3)),
}
for name, mix in MIXES.items():
    LOSSES[f'unremix {name}'] = (UnReMixLoss, dict(mix=mix))
for name, normalize in product(UNCERTAINTIES, ('softmax', 'sum', 'minmax')):
    knobs = dict(uncertainty=name, normalize=normalize)
    LOSSES[f'unremix {name} {normalize}'] = (UnReMixLoss, knobs)
for name in UNCERTAINTIES:
    own = {} if name == 'boundary' else dict(uncertainty_temperature=.1)
    knobs = dict(uncertainty=name, pool='log', **own)
    LOSSES[f'unremix {name} log'] = (UnReMixLoss, knobs)

# ---------------------------------------------------------------- what goes with the views
PAIRINGS = ('alone', 'hidden', 'labels', 'sample_ids', 'negatives', 'only negatives',
            'queue', 'queue ids')
SOME = ('ntxent', 'hcl undebiased', 'hcl detached', 'unremix attached', 'unremix uar',
        'unremix euclidean', 'unremix overlap log', 'unremix influence sum',
        'unremix top')
REDUCED = ('ntxent', 'debiased', 'hcl', 'unremix attached')


def numbers(*shape, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def inputs(pairing, dtype):
    "Two views that resemble each other, and the companions of a pairing."
    z1 = numbers(B, D, seed=0)
    z2 = z1 + .7*numbers(B, D, seed=1)
    hidden = tuple(numbers(2, B, F, seed=2).to(dtype).unbind())
    ids = torch.tensor([0, 1, 0, 2, 1])
    negatives = numbers(M, D, seed=3).to(dtype)
    given = {
        'alone': {},
        'hidden': dict(hidden=hidden),
        'labels': dict(labels=ids),
        'sample_ids': dict(sample_ids=ids),
        'negatives': dict(negatives=negatives),
        'only negatives': dict(negatives=negatives),
        'queue': dict(queue=filled_queue(dtype, False)),
        'queue ids': dict(queue=filled_queue(dtype, True), sample_ids=ids),
    }[pairing]
    return [z1.to(dtype), z2.to(dtype)], given


def filled_queue(dtype, with_ids):
    "Six of eight places hold keys."
    queue = KeyQueue(8, D).to(dtype)
    keys = numbers(6, D, seed=4).to(dtype)
    ids = dict(sample_ids=torch.tensor([5, 1, 6, 2, 7, 8])) if with_ids else {}
    queue.push(keys, **ids)
    return queue


def cases():
    "Names of all cases: loss, pairing, reduction."
    for name in LOSSES:
        yield name, 'hidden' if name.startswith('unremix') else 'alone', 'mean'
    for name, pairing in product(SOME, PAIRINGS):
        if pairing != ('hidden' if name.startswith('unremix') else 'alone'):
            yield name, pairing, 'mean'
    for name, reduction in product(REDUCED, ('sum', 'none')):
        yield name, 'alone', reduction


def evaluate(case, dtype=torch.float64, chunk_size=None):
    "Value (or values), gradient of all inputs that have one, statistics."
    name, pairing, reduction = case
    kind, knobs = LOSSES[name]
    pairs = OutsideBatch(views) if pairing == 'only negatives' else None
    loss = kind(**knobs, reduction=reduction, pairs=pairs, chunk_size=chunk_size)
    (z1, z2), given = inputs(pairing, dtype)
    leaves = [z1.requires_grad_(), z2.requires_grad_()]
    if 'negatives' in given:
        leaves.append(given['negatives'].requires_grad_())
    value, stats = loss(z1, z2, **given, return_stats=True)
    weights = torch.linspace(-1, 1, 2*B, dtype=dtype)[:value.numel()]
    total = (value*weights).sum() if value.ndim else value
    gradient = torch.autograd.grad(total, leaves, allow_unused=True)
    gradient = [torch.zeros_like(x) if g is None else g for x, g in zip(leaves, gradient)]
    return value.detach(), torch.cat(gradient), stats


def write():
    lines = {}
    for case in cases():
        value, gradient, stats = evaluate(case)
        digits = lambda x, n=15: [float(f'{v:.{n}g}') for v in x.flatten().tolist()]
        found = dict(value=digits(value), gradient=digits(gradient))
        found['stats'] = {k: digits(v, 7)[0] for k, v in stats.items()}
        lines[' | '.join(case)] = found
    text = ',\n'.join(f'{json.dumps(k)}: {json.dumps(v)}' for k, v in lines.items())
    FILE.write_text('{\n' + text + '\n}\n')
    return len(lines)


if __name__ == '__main__':
    print(write(), 'cases')
