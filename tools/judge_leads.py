"""Judge three leads beyond the paper on trained encoders, one json line each.

    python tools/judge_leads.py results/sweeps/leads.jsonl

Each lead is a force on the negatives of an anchor that sums to 1. Its same-label mass is
compared with that of HCL twice: where HCL is as hard, and where HCL has the same
effective number of negatives. Appends to results/selection/leads.jsonl, and skips what
is there already.
"""

import argparse
import json
from functools import partial
from pathlib import Path

import torch
from judge_encoders import ROOT, embeddings, rounded, tell_missing
from left_out import highest, image_similarity, permuted
from scipy.interpolate import PchipInterpolator
from scipy.optimize import brentq

from unremix.evaluate import load_run
from unremix.selection import Placebo, shares, tilt
from unremix.sweep import read_lines
from unremix.train import code_version
from unremix.unremix import UnReMix

ENCODERS = ('simclr', 'hcl detached')
BETA, ALPHA = 1.0, 1.0
SHARP = (0.1, 0.05)  # temperatures of the pull
DROPPED = (0.05, 0.1)  # shares of an anchor's negatives
DRAWING = dict(pool='score', mix=(0.54, 0.25, 0.21), pseudo_label='positive')


def softmax(scores, members):
    "(a n) shares over the members of each row, 0 elsewhere."
    return scores.masked_fill(~members, -torch.inf).softmax(1)


def push(c, beta):
    "HCL's force, its weights held constant."
    return shares(c, tilt(c, beta))


# the first lead: what HCL pulls as released, and the same pull made sharp


def released(c, own):
    "HCL's force as released: gradient flows through its weights."
    return (1 + BETA) * push(c, BETA) - BETA * softmax(BETA * c.logits, c.negative)


def sharp_pull(c, own, t, placebo=False):
    "The pull goes to those whose two views together are near the anchor's two."
    near = image_similarity(c)
    if placebo:
        near = permuted(near, c)
    pull = softmax(near / t, c.negative)
    return (1 + ALPHA) * push(c, BETA) - ALPHA * pull


# the second lead: the nearest images are left out, and hardness is restored


def suspected(c, own, share, kind):
    "Who is left out: by the score, by chance, or as many true ones as the score finds."
    near = image_similarity(c)
    found = highest(near, share, c.negative)
    if kind == 'score':
        return found
    if kind == 'permuted':
        return highest(permuted(near, c), share, c.negative)
    hits = (found & own).sum(1, keepdim=True)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.rand(own.shape, generator=generator).masked_fill(~own, 2.0)
    rank = drawn.argsort(1).argsort(1)
    return own & (rank < hits)


def without(c, own, share, kind, beta):
    rest = c.negative & ~suspected(c, own, share, kind)
    return softmax((1 + beta) * c.logits, rest)


# the third lead: scores are mixed, and the effective number has a floor


def effective(force):
    return 1 / force.square().sum(1)


def floored(c, own, weighting):
    "The weights are flattened, anchor by anchor, until as many count as with HCL."
    log_w, floor = weighting(c), effective(push(c, BETA))
    low, high = torch.zeros_like(floor), torch.ones_like(floor)
    for _ in range(30):
        middle = (low + high) / 2
        fine = effective(flat(c, log_w, middle)) >= floor
        low, high = torch.where(fine, middle, low), torch.where(fine, high, middle)
    return flat(
        c, log_w, torch.where(effective(flat(c, log_w, high)) >= floor, high, low)
    )


def flat(c, log_w, power):
    "The push of weights to a power of each anchor."
    finite = log_w.masked_fill(~c.negative, 0.0)
    return softmax(power[:, None] * finite + c.logits, c.negative)


def unfloored(c, own, weighting):
    return shares(c, weighting(c))


class Yardstick:
    "HCL at any hardness, and at any effective number."

    def __init__(self, contrasts, same):
        self.batches = list(zip(contrasts, same, strict=True))
        betas = torch.linspace(-1, 5, 121).sinh().tolist()
        rows = [self.look(partial(self.hcl, beta=b)) for b in betas]
        hardness, mass, number = torch.tensor(rows, dtype=torch.float64).T.numpy()
        self.by_hardness = PchipInterpolator(hardness, mass, extrapolate=False)
        flattest = int(number.argmax())  # before it the far negatives are preferred
        order = slice(None, flattest - 1 if flattest else None, -1)
        self.by_number = PchipInterpolator(
            number[order], mass[order], extrapolate=False
        )

    @staticmethod
    def hcl(c, own, beta):
        return push(c, beta)

    def look(self, force):
        "Hardness, same-label mass and effective number of a force, over all anchors."
        found = []
        for c, own in self.batches:
            f = force(c, own)
            parts = (f * c.cosine).sum(1), (f * own).sum(1), effective(f)
            found.append([x.mean().item() for x in parts])
        return [sum(x) / len(x) for x in zip(*found, strict=True)]

    def judge(self, force):
        hardness, mass, number = self.look(force)
        as_hard, as_many = self.by_hardness(hardness), self.by_number(number)
        row = {'hardness': hardness, 'mass': mass, 'effective': number}
        row |= {'excess': mass - float(as_hard), 'excess_number': mass - float(as_many)}
        return {k: v if v == v else None for k, v in rounded(row).items()}

    def as_hard(self, family, hardness):
        "The member of a family (β → force) that is as hard."

        def gap(beta):
            return self.look(family(beta))[0] - hardness

        return family(brentq(gap, -2.0, 60.0, xtol=1e-3))


def of_beta(force, beta):
    return partial(force, beta=beta)


def leads(yardstick):
    "name: force."
    hardness = yardstick.look(partial(yardstick.hcl, beta=BETA))[0]
    found = {'hcl': partial(yardstick.hcl, beta=BETA), 'hcl released': released}
    for t in SHARP:
        found[f'sharp pull t={t}'] = partial(sharp_pull, t=t)
        found[f'sharp pull t={t} placebo'] = partial(sharp_pull, t=t, placebo=True)
    for share in DROPPED:
        for kind in ('score', 'permuted', 'oracle'):
            family = partial(of_beta, partial(without, share=share, kind=kind))
            found[f'left out {share} {kind}'] = yardstick.as_hard(family, hardness)
    for name, kind in {'': UnReMix, ' placebo': Placebo}.items():
        weighting = kind(**DRAWING)
        found['drawing' + name] = partial(unfloored, weighting=weighting)
        found['drawing floored' + name] = partial(floored, weighting=weighting)
    return found


def judge(run, temperature, seed):
    "name: {hardness, mass, effective, excess, excess_number} of every lead."
    contrasts, same = embeddings(run, temperature, seed)
    yardstick = Yardstick(contrasts, same)
    judged = {name: yardstick.judge(force) for name, force in leads(yardstick).items()}
    recall = {}
    for share in DROPPED:
        found = [
            suspected(c, own, share, 'score') & own for c, own in yardstick.batches
        ]
        hits = sum(x.sum().item() for x in found)
        there = sum(own.sum().item() for own in same)
        recall[str(share)] = round(hits / there, 5)
    return judged, recall


def main():
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument('lines', nargs='+', type=Path)
    parser.add_argument('--runs', type=Path, default=ROOT / 'runs' / 'sweep')
    folder = ROOT / 'results' / 'selection'
    parser.add_argument('--out', type=Path, default=folder / 'leads.jsonl')
    args = parser.parse_args()
    torch.set_num_threads(1)
    done = {(x['encoder'], x['seed']) for x in read_lines(args.out)}
    missing = []
    for line in read_lines(*args.lines):
        name, seed = line['cell'], line['seed']
        folder = args.runs / line['key']
        if (name, seed) in done:
            continue
        if not (folder / 'result.json').exists():
            missing.append(folder)
            continue
        judged, recall = judge(load_run(folder), 0.5, seed)
        found = {
            'experiment': 'leads',
            'dataset': line['dataset'],
            'encoder': name,
            'temperature': 0.5,
            'seed': seed,
            'run': line['key'],
            'code': code_version(),
            'recall': recall,
            'judged': judged,
        }
        with open(args.out, 'a', encoding='utf-8') as file:
            file.write(json.dumps(found, ensure_ascii=False) + '\n')
        print(name, seed, flush=True)
    tell_missing(missing)


if __name__ == '__main__':
    main()
