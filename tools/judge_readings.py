"""Judge readings of UnReMix on trained encoders, one json line each.

    python tools/judge_readings.py results/sweeps/{gradient,matched}.jsonl

Reads which runs there are from lines of `unremix sweep`, and their weights from the run
folders. Appends to results/selection/readings.jsonl, and skips what is there already.
"""

import argparse
import json
from itertools import product
from pathlib import Path

import torch
from judge_encoders import ROOT, embeddings, rounded, tell_missing, without_own

from unremix.evaluate import load_run
from unremix.hard_negatives import HCL, uniform
from unremix.selection import Placebo, Yardstick, shares
from unremix.sweep import read_lines
from unremix.train import code_version
from unremix.unremix import UnReMix

ENCODERS = ('simclr', 'hcl detached', 'hcl released', 'unremix')
LOG = {'pool': 'log', 'uncertainty': 'image_similarity', 'kappa': (1.0, 0.0)}
PAIR = {  # name: of logarithmic pooling and its placebos; also judged on their encoders
    'log κ=1': UnReMix(beta=2.7, **LOG),
    'log κ=1 placebo': Placebo(beta=2.7, **LOG),
    'log κ=1 matched placebo': Placebo(beta=1.0, **LOG),
}
READINGS = {  # what is mixed: distributions (A) or standard scores (B)
    'A': {'pool': 'linear'},
    'B': {'pool': 'score'},
    'B drawing': {'pool': 'score', 'mix': (0.54, 0.25, 0.21)},
}
LABELS = ('argmax', 'positive')  # of the pseudo-task


def weightings():
    "name: weighting, at β = 1."
    found = {'uniform': uniform, 'hcl': HCL(1.0), **PAIR}
    for (reading, knobs), label in product(READINGS.items(), LABELS):
        for suffix, kind in {'': UnReMix, ' placebo': Placebo}.items():
            name = f'{reading} {label}{suffix}'
            found[name] = kind(**knobs, pseudo_label=label)
    return found


def effective(contrasts, weighting):
    "Effective number of negatives of the push: 1 over the sum of squared shares."
    of_batch = [
        (1 / shares(c, weighting(c)).square().sum(1)).mean().item() for c in contrasts
    ]
    return sum(of_batch) / len(of_batch)


def judge(run, temperature, seed):
    "name: {hardness, mass, beta, excess over HCL as hard, effective} of the push."
    contrasts, same = embeddings(run, temperature, seed)
    yardstick = Yardstick(contrasts, same)
    own = {id(c): s for c, s in zip(contrasts, same, strict=True)}
    table = weightings() | {'oracle': lambda c: without_own(c, own[id(c)])}
    found = {}
    for name, w in table.items():
        row = yardstick.judge(w) | {'effective': effective(contrasts, w)}
        found[name] = rounded(row)
    return found


def main():
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument('lines', nargs='+', type=Path)
    parser.add_argument('--runs', type=Path, default=ROOT / 'runs' / 'sweep')
    folder = ROOT / 'results' / 'selection'
    parser.add_argument('--out', type=Path, default=folder / 'readings.jsonl')
    parser.add_argument('--seeds', type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    done = {(x['encoder'], x['seed']) for x in read_lines(args.out)}
    lines = read_lines(*args.lines)
    first = min(line['seed'] for line in lines)
    missing = []
    for line in sorted(lines, key=lambda line: line['seed']):
        name, seed = line['cell'], line['seed']
        wanted = name in (*ENCODERS, *PAIR) and seed < first + args.seeds
        folder = args.runs / line['key']
        if (name, seed) in done or not wanted:
            continue
        if not (folder / 'result.json').exists():
            missing.append(folder)
            continue
        run = load_run(folder)
        found = {
            'experiment': 'readings',
            'dataset': line['dataset'],
            'encoder': name,
            'temperature': 0.5,
            'seed': seed,
            'run': line['key'],
            'code': code_version(),
            'judged': judge(run, 0.5, seed),
        }
        with open(args.out, 'a', encoding='utf-8') as file:
            file.write(json.dumps(found, ensure_ascii=False) + '\n')
        print(name, seed, flush=True)
    tell_missing(missing)


if __name__ == '__main__':
    main()
