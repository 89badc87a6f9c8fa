"""Pre-train small graph encoders with several losses and seeds, score them, and append a line per run.

python tools/graph_study.py DATA_ROOT OUT.jsonl [--sets mutag ptc] [--seeds 5]
python tools/graph_study.py DATA_ROOT FACTS.json --facts [--sets mutag ptc]
Lines that OUT has already are not computed again. With --facts, a new file gets what is known of the negatives: twins, and false ones. DATA_ROOT is the folder of graphs.npz. One thread, on the CPU.
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
# set: steps of training, and the arms; the larger sets get fewer of both, and the baselines are dealt once
FEWER = 'untrained', 'jsd', 'jsd hcl', 'jsd hcl legacy sign', 'jsd hcl as released', *GRAPHCL
PLAN = {
    'mutag': (60, ARMS), 'ptc': (60, FEWER), 'imdb-b': (40, FEWER), 'proteins': (40, FEWER), 'imdb-m': (40, FEWER),
    'nci1': (200, FEWER),
}


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


def facts_of(name, data):
    "Graphs that no GIN of three layers tells from another one, and the share of near negatives that are false."
    kernel = wl_kernel(data.x, 3)
    square, n = kernel.diagonal(), len(data)
    other = ~torch.eye(n, dtype=torch.bool)
    twins = (square[:, None] + square - 2 * kernel == 0) & other
    same = data.y[:, None] == data.y
    rates = {}
    for arm in ('untrained', 'graphcl simclr'):
        rates[arm] = []
        for seed in range(3):
            encoder = pretrain(arm, data, seed, PLAN[name][0])[0].eval()
            with torch.no_grad(): h = torch.nn.functional.normalize(torch.cat([encoder(data.x[i:i + 256]) for i in range(0, n, 256)]))
            near = (h @ h.T).where(other, -2.).topk(n // 10).indices
            rates[arm].append(round(same.gather(1, near).double().mean().item(), 4))
    return {
        'graphs': n, 'with_twin': round(twins.any(1).double().mean().item(), 4),
        'twins_of_one_class': round((twins & same).sum().item() / max(twins.sum().item(), 1), 4),
        'chance': round((same & other).sum().item() / (n * (n - 1)), 4), 'false_among_nearest_tenth': rates,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('data_root')
    parser.add_argument('out', type=Path)
    parser.add_argument('--sets', nargs='+', default=[*PLAN])
    parser.add_argument('--seeds', type=int, default=5)
    parser.add_argument('--facts', action='store_true')
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.facts:
        if asked.out.exists(): parser.error(f'{asked.out} is there already; --facts needs a new file')
        found = {name: facts_of(name, load_graphs(name, asked.data_root)) for name in asked.sets}
        asked.out.write_text(json.dumps(found, indent=1) + '\n')
        return
    lines = asked.out.read_text(encoding='utf-8').splitlines() if asked.out.exists() else []
    done = {(x['set'], x['arm'], x['seed']) for x in map(json.loads, lines)}
    sets = {name: load_graphs(name, asked.data_root) for name in asked.sets}
    for seed in range(asked.seeds):
        for name, data in sets.items():
            steps, arms = PLAN[name]
            for arm in arms if seed else (*BASELINES, *arms):
                if (name, arm, seed) in done: continue
                kernel, loss = kernel_of(arm, data, seed, steps)
                right = kernel_svc(kernel, data.y, inner_folds=3, seed=seed)
                accuracy = round(100 * right.double().mean().item(), 2)
                trained = 0 if loss is None else steps
                line = {'set': name, 'arm': arm, 'seed': seed, 'steps': trained, 'accuracy': accuracy, 'loss': loss}
                with open(asked.out, 'a', encoding='utf-8') as f: f.write(json.dumps(line) + '\n')


if __name__ == '__main__': main()
