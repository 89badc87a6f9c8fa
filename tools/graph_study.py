"""Pre-train small graph encoders with several losses and seeds, score them, and append a line per run.

python tools/graph_study.py DATA_ROOT OUT.jsonl [--sets mutag ptc] [--seeds 5] [--steps 60]
Lines that OUT has already are not computed again. DATA_ROOT is the folder of graphs.npz. One thread, on the CPU.
"""
import argparse
import json
from pathlib import Path

import torch

from unremix.contrastive_loss import ContrastiveLoss
from unremix.encoders import Model, ProjectionHead
from unremix.graph_data import load_graphs
from unremix.graph_encoder import GIN, InfoGraph
from unremix.graph_scores import degree_histogram, gaussian_kernel, kernel_svc, normalized, tag_histogram, wl_kernel
from unremix.graph_task import GraphViews
from unremix.jensen_shannon import JSD, jsd_parts
from unremix.losses import DebiasedNTXentLoss, HCLLoss, NTXentLoss, UnReMixLoss

INFOGRAPH = {  # node against graph
    'jsd': JSD(),
    'jsd debiased .1': JSD(class_prior=.1),
    'jsd debiased .5': JSD(class_prior=.5),
    'jsd hcl': JSD(beta=1.),
    'jsd hcl legacy sign': JSD(beta=1., legacy_sign=True),
    'jsd hcl debiased .1': JSD(beta=1., class_prior=.1),
    'jsd hcl legacy prior': JSD(beta=1., class_prior=.5, legacy_prior=True),
    'jsd hcl as released': JSD(beta=1., class_prior=.5, legacy_prior=True, legacy_sign=True),
}
GRAPHCL = { # view against view, at temperature .2
    'graphcl simclr': NTXentLoss(temperature=.2),
    'graphcl debiased': DebiasedNTXentLoss(temperature=.2, tau_plus=.1),
    'graphcl hcl': HCLLoss(temperature=.2, tau_plus=.1, beta=1.),
    'graphcl unremix': UnReMixLoss(temperature=.2),
}
BASELINES = 'degree histogram', 'tag histogram', 'wl 1', 'wl 3'
ARMS = 'untrained', *INFOGRAPH, *GRAPHCL
BATCH = 64


def batches(n, steps):
    "Epochs in another order each; the last graphs of an epoch that fill no batch are left out."
    left = []
    for _ in range(steps):
        left = left or list(torch.randperm(n)[:n // BATCH * BATCH].split(BATCH))
        yield left.pop()


def pretrain(arm, data, seed, steps):
    "An encoder after so many steps, and its last loss."
    torch.manual_seed(seed)
    encoder = GIN(data.kinds)
    if arm == 'untrained': return encoder, None
    if arm in INFOGRAPH:
        model, parts = InfoGraph(encoder), jsd_parts(INFOGRAPH[arm])
        def loss_of(graphs):
            c = model(graphs)
            return parts['loss'](c, parts['weights'](c)).mean()
    else:
        model, views, criterion = Model(encoder, ProjectionHead(encoder.out_dim, 96, 96)), GraphViews(), GRAPHCL[arm]
        def loss_of(graphs):
            z, hidden = model(views(graphs))
            return criterion(*z.chunk(2), hidden=hidden.chunk(2))
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    torch.manual_seed(seed + 1000)
    for idx in batches(len(data), steps):
        loss = loss_of(data.x[idx])
        adam.zero_grad()
        loss.backward()
        adam.step()
    return encoder, loss.item()


def kernel_of(arm, data, seed, steps):
    "The kernel that is scored, and the last loss."
    if arm == 'degree histogram': return gaussian_kernel(degree_histogram(data.x)(data.x)), None
    if arm == 'tag histogram': return gaussian_kernel(tag_histogram(data.x)(data.x)), None
    if arm in BASELINES: return normalized(wl_kernel(data.x, int(arm[-1]))), None
    encoder, loss = pretrain(arm, data, seed, steps)
    encoder.eval()
    with torch.no_grad(): return gaussian_kernel(torch.cat([encoder(data.x[i:i + 256]) for i in range(0, len(data), 256)])), loss


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('data_root')
    parser.add_argument('out', type=Path)
    parser.add_argument('--sets', nargs='+', default=['mutag', 'ptc', 'imdb-b', 'proteins'])
    parser.add_argument('--arms', nargs='+', default=[*BASELINES, *ARMS])
    parser.add_argument('--seeds', type=int, default=5)
    parser.add_argument('--steps', type=int, default=60)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    lines = asked.out.read_text(encoding='utf-8').splitlines() if asked.out.exists() else []
    done = {(x['set'], x['arm'], x['seed']) for x in map(json.loads, lines)}
    sets = {name: load_graphs(name, asked.data_root) for name in asked.sets}
    for seed in range(asked.seeds):
        for name, data in sets.items():
            for arm in asked.arms:
                if (name, arm, seed) in done: continue
                kernel, loss = kernel_of(arm, data, seed, asked.steps)
                right = kernel_svc(kernel, data.y, inner_folds=3, seed=seed)
                accuracy = round(100 * right.double().mean().item(), 2)
                steps = 0 if loss is None else asked.steps
                line = {'set': name, 'arm': arm, 'seed': seed, 'steps': steps, 'accuracy': accuracy, 'loss': loss}
                with open(asked.out, 'a', encoding='utf-8') as f: f.write(json.dumps(line) + '\n')


if __name__ == '__main__': main()
