"""Judge the negatives of many strategies on trained encoders, one json line each.

    python tools/judge_encoders.py --dataset fashion_mnist \\
        results/sweeps/{representations,encoders}.jsonl

Reads which runs there are from lines of `unremix sweep`, and their weights from the run
folders. Appends to results/selection/DATASET.jsonl, and skips what is there already.
"""

import argparse
import json
import sys
from functools import partial
from itertools import product
from pathlib import Path

import torch
import torch.nn.functional as F

from unremix.choosing import keep_sample
from unremix.contrast import compare
from unremix.embeddings import from_views, places
from unremix.evaluate import load_run
from unremix.hard_negatives import HCL, log_share, mean_one, uniform
from unremix.normalizers import standard_score
from unremix.rules import equal, views
from unremix.run_parts import set_up
from unremix.selection import MEASURES, Placebo, Yardstick, knowledge, swap_candidates
from unremix.sweep import read_lines
from unremix.train import code_version
from unremix.uncertainty import UNCERTAINTIES, Indicator, uncertainty
from unremix.unremix import UnReMix

ROOT, BATCH, BATCHES = Path(__file__).resolve().parents[1], 128, 8
# name: (cell that trained it, weights restored?); one name per temperature
ENCODERS = {
    'untrained': ('simclr', False),
    'simclr early': ('simclr early', True),
    'simclr': ('simclr', True),
    'hcl': ('hcl', True),
    'unremix': ('unremix', True),
}


def near(contrast):
    "A control: what overlap is like, from the cosine alone."
    return Indicator(-contrast.logits.exp(), floor=1e-5)


def near_images(contrast):
    "The same with the views of an image averaged."
    z, batch = contrast.candidates.z, contrast.candidates.batch
    mean = F.normalize(z.unflatten(0, batch).sum(0), dim=1).repeat(batch[0], 1)
    own = mean[places(contrast.anchors, contrast.candidates)]
    return Indicator(-(own @ mean.T / contrast.temperature).exp(), floor=1e-5)


def swapped(contrast, kind):
    return swap_candidates(uncertainty(contrast, kind), contrast)


SWAPPED = ('norm', 'entropy', 'overlap', 'image_overlap')
SCORES = {kind: partial(uncertainty, kind=kind) for kind in UNCERTAINTIES}
SCORES |= {'near': near, 'near_images': near_images}
SCORES |= {f'{kind} placebo': partial(swapped, kind=kind) for kind in SWAPPED}
SUMS = ('norm + near_images', 'entropy + near_images', 'entropy + image_overlap')


def pooled(scores, kappa):
    "β → weighting: e^{β·logit} times e^{κ·standard score}; `scores` by batch."

    def weighting(contrast, beta):
        log_p = beta * contrast.logits + kappa * scores[id(contrast)]
        return mean_one(log_share(log_p, contrast.negative, contrast.k), contrast.k)

    return lambda beta: partial(weighting, beta=beta)


def single(which, kappa):
    "Weights ∝ e^{κ·standard score} of one indicator."
    if which in UNCERTAINTIES:
        return UnReMix(pool='log', beta=0.0, kappa=(kappa, 0.0), uncertainty=which)
    return UnReMix(pool='log', beta=0.0, kappa=(0.0, kappa))


def without_own(contrast, same):
    "The oracle."
    others = contrast.negative & ~same
    return mean_one(log_share(contrast.logits, others, contrast.k), contrast.k)


def sample(contrast, k_keep=64):
    "As `UnReMix(select='sample')`, but the draw is the same every time."
    log_w, generator = UnReMix()(contrast), torch.Generator().manual_seed(0)
    return keep_sample(log_w, contrast.k, k_keep, generator)


def weightings():
    "name: weighting."
    betas = (0.5, 1.0, 2.0, 4.0, 8.0)
    found = {'uniform': uniform}
    found |= {f'hcl β={b}': HCL(b) for b in (0.25, *betas)}
    found |= {f'unremix β={b}': UnReMix(beta=b) for b in betas}
    found |= {f'placebo-u β={b}': Placebo(beta=b) for b in betas}
    found |= {f'placebo-ur β={b}': Placebo(beta=b, swap='ur') for b in betas}
    found['unremix top 64'] = UnReMix(select='top', k_keep=64)
    found['unremix sample 64'] = sample
    for t in (0.1, 0.05):
        found[f'unremix t_u={t}'] = UnReMix(uncertainty_temperature=t)
    for normalize in ('sum', 'minmax'):
        found[f'unremix {normalize}'] = UnReMix(normalize=normalize)
    kappas = (0.5, 1.0, 2.0, 4.0)
    for which, kappa in product((*UNCERTAINTIES, 'representativeness'), kappas):
        found[f'{which} alone κ={kappa}'] = single(which, kappa)
    for kind in UNCERTAINTIES:
        half = dict(mix=(0.5, 0.5, 0.0), uncertainty=kind)
        found[f'linear {kind}'] = UnReMix(**half)
        found[f'linear {kind} placebo'] = Placebo(**half)
        for kappa in kappas:
            log = dict(pool='log', uncertainty=kind, kappa=(kappa, 0.0))
            found[f'log {kind} κ={kappa}'] = UnReMix(**log)
            found[f'log {kind} κ={kappa} placebo'] = Placebo(**log)
    for kappa in (1.0, 2.0):
        name = f'log representativeness κ={kappa}'
        found[name] = UnReMix(pool='log', kappa=(0.0, kappa))
    for kind, t in product(SWAPPED, (0.2, 0.1, 0.05)):
        log = dict(pool='log', uncertainty=kind, kappa=(1.0, 0.0))
        colder = UnReMix(**log, uncertainty_temperature=t)
        found[f'log {kind} κ=1.0 t_u={t}'] = colder
    return found


def embeddings(run, temperature, seed):
    """Batches as in training: two views, batch statistics.

    And which negatives are of the anchor's class.
    """
    contrasts, same = [], []
    torch.manual_seed(seed)
    run.model.train()
    order = torch.randperm(len(run.images.x))[: BATCH * BATCHES]
    for idx in order.split(BATCH):
        x, y = run.images.x[idx], run.images.y[idx]
        with torch.no_grad(), run.fabric.autocast():
            z, hidden = run.model(run.augment(torch.cat([x, x])))
        both = [z.float().chunk(2), hidden.float().chunk(2)]
        e = from_views(*map(list, both), labels=y)
        c = compare(e, e, views, temperature)
        contrasts.append(c)
        same.append(c.negative & equal(e.label, e.label))
    return contrasts, same


def rounded(row):
    return {k: round(v, 5) for k, v in row.items()}


def judge(run, temperature, seed):
    "name: {measure: {hardness, mass, beta, excess}} of every weighting."
    contrasts, same = embeddings(run, temperature, seed)
    yardstick = Yardstick(contrasts, same)
    own = {id(c): s for c, s in zip(contrasts, same, strict=True)}
    table = weightings() | {'oracle β=1.0': lambda c: without_own(c, own[id(c)])}
    judged = {}
    for name, w in table.items():
        judged[name] = {m: rounded(yardstick.judge(w, m)) for m in MEASURES}
    for name in KNOWING:
        judged[name]['push'] |= rounded(knowledge(contrasts, same, table[name]))
    return judged, as_hard_as_hcl(yardstick)


KNOWING = (
    'hcl β=1.0',
    'unremix β=1.0',
    'placebo-u β=1.0',
    'placebo-ur β=1.0',
    'oracle β=1.0',
)


def as_hard_as_hcl(yardstick, beta=1.0):
    """name: what logarithmic pooling does with its own β turned until as hard as HCL.

    None where it never is.
    """
    contrasts, same = yardstick.contrasts, yardstick.same
    target = yardstick.judge(HCL(beta))['hardness']
    families = {
        'unremix': lambda b: UnReMix(beta=b),
        'placebo-u': lambda b: Placebo(beta=b),
    }
    for score, kappa in product((*SCORES, *SUMS), (1.0, 2.0)):
        parts = [SCORES[name] for name in score.split(' + ')]
        standard = {
            id(c): sum(standard_score(f(c), c) for f in parts) for c in contrasts
        }
        families[f'log {score} κ={kappa}'] = pooled(standard, kappa)
    found = {}
    for name, family in families.items():
        row = yardstick.match(family, target)
        if row['own_beta'] == row['own_beta']:
            row |= knowledge(contrasts, same, family(row['own_beta']))
        # json has no NaN
        found[name] = {k: v if v == v else None for k, v in rounded(row).items()}
    return found


def trained(line, cell, temperature):
    "Is it the line of a run of this cell, at this temperature?"
    return (
        line['strategy'] == cell.split()[0]
        and line['knobs'].get('temperature', 0.5) == temperature
        and ('early' in line['cell']) == ('early' in cell)
        and line['cell'].split(' t=')[0] == cell
    )


def encoders(lines, seeds):
    "(name, temperature, seed, line of its run); so many seeds from the first one on."
    first = min((line['seed'] for line in lines), default=0)
    for t, (name, (cell, _)), seed in product(
        (0.5, 0.2), ENCODERS.items(), range(first, first + seeds)
    ):
        # whoever is untrained takes the network of any temperature
        of_run = 0.5 if name == 'untrained' else t
        for line in lines:
            if line['seed'] == seed and trained(line, cell, of_run):
                yield name, t, seed, line


def tell_missing(folders):
    "End with an error where runs that the lines name are not there."
    if folders:
        lacking = f'{len(folders)} of the runs are not there, the first is {folders[0]}'
        sys.exit(f'{lacking}: `unremix sweep` trains them')


def main():
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument('lines', nargs='+', type=Path)
    parser.add_argument('--dataset', required=True)
    parser.add_argument('--runs', type=Path, default=ROOT / 'runs' / 'sweep')
    parser.add_argument('--out', type=Path)
    parser.add_argument('--seeds', type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    out = args.out or ROOT / 'results' / 'selection' / f'{args.dataset}.jsonl'
    out.parent.mkdir(parents=True, exist_ok=True)
    done = {(x['encoder'], x['temperature'], x['seed']) for x in read_lines(out)}
    lines = [x for x in read_lines(*args.lines) if x['dataset'] == args.dataset]
    missing = []
    for name, t, seed, line in encoders(lines, args.seeds):
        folder = args.runs / line['key']
        if (name, t, seed) in done:
            continue
        if not (folder / 'result.json').exists():
            missing.append(folder)
            continue
        run = load_run(folder)
        if not ENCODERS[name][1]:
            run = set_up(run.cfg)
        judged, as_hard = judge(run, t, seed)
        found = {
            'experiment': 'selection',
            'dataset': args.dataset,
            'encoder': name,
            'temperature': t,
            'seed': seed,
            'run': line['key'],
            'code': code_version(),
            'judged': judged,
            'as_hard_as_hcl': as_hard,
        }
        with open(out, 'a') as f:
            f.write(json.dumps(found, ensure_ascii=False) + '\n')
        print(name, t, seed, flush=True)
    tell_missing(missing)


if __name__ == '__main__':
    main()
