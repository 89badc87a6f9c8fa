"""Judge the negatives of many strategies on trained encoders, one json line per encoder, strategy and measure.

    python tools/judge_encoders.py --dataset fashion_mnist results/sweeps/{representations,encoders}.jsonl

Reads which runs there are from lines of `unremix sweep`, their weights from the run folders; appends to
results/selection/DATASET.jsonl and skips what is there already.
"""
import argparse, json
from functools import partial
from itertools import product
from pathlib import Path

import torch
from unremix.evaluate import load_run
import torch.nn.functional as F
from unremix.importance import Indicator, Knobs, keep_sample, keep_top, mixture, standard_score
from unremix.losses import uniform
from unremix.pairs import from_views, same_id
from unremix.runs import code_version
from unremix.selection import MEASURES, Yardstick, knowledge, swap_both, swap_candidates, swap_u
from unremix.sweep import read_lines
from unremix.train import set_up
from unremix.uncertainty import UNCERTAINTIES, uncertainty
from unremix.weights import hcl, log_share, mean_one

ROOT, BATCH, BATCHES = Path(__file__).resolve().parents[1], 128, 8
ENCODERS = { # name: (cell that trained it, weights restored?); one name per temperature
    'untrained': ('simclr', False), 'simclr early': ('simclr early', True), 'simclr': ('simclr', True), 'hcl': ('hcl', True), 'unremix': ('unremix', True)}

def near(contrast): # a control: what overlap is like, from the cosine alone
    return Indicator(-contrast.logits.exp(), floor=1e-5)

def near_images(contrast): # the same with the two views of an image averaged
    z, v = contrast.columns.z, contrast.n_views
    mean = F.normalize(z + torch.cat([z[:v].roll(v//2, 0), z[v:]]), dim=1)
    return Indicator(-(mean[contrast.anchor_idx] @ mean.T/contrast.temperature).exp(), floor=1e-5)

SCORES = {u: partial(uncertainty, kind=u) for u in UNCERTAINTIES} | {'near': near, 'near_images': near_images}
SCORES |= {f'{u} placebo': lambda c, u=u: swap_candidates(SCORES[u](c), c) for u in ('norm', 'entropy', 'overlap', 'image_overlap')}

SUMS = 'norm + near_images', 'entropy + near_images', 'entropy + image_overlap'

def pooled(scores, kappa):
    "β → weighting: e^{β·logit} times e^{κ·standard score}; `scores` by batch."
    def weighting(contrast, beta): return mean_one(log_share(beta*contrast.logits + kappa*scores[id(contrast)], contrast.negative, contrast.k), contrast.k)
    return lambda beta: partial(weighting, beta=beta)

def single(contrast, which, kappa):
    "Weights ∝ e^{κ·standard score} of one indicator."
    return mixture(contrast, Knobs(pool='log', beta=0., kappa=(kappa, 0.), uncertainty=which) if which in UNCERTAINTIES else Knobs(pool='log', beta=0., kappa=(0., kappa)))

def both_placebo(contrast, knobs): return mixture(contrast, knobs, ask=swap_both)

def placebo(contrast, knobs): return mixture(contrast, knobs, ask=swap_u)

def without_own(contrast, same): # the oracle
    return mean_one(log_share(contrast.logits, contrast.negative & ~same, contrast.k), contrast.k)

def select(contrast, keep, k_keep=64): return keep(mixture(contrast, Knobs()), contrast.k, k_keep, torch.Generator().manual_seed(0))

def weightings():
    "name: (family, knob, weighting)."
    found = {'uniform': uniform} | {f'hcl β={b}': partial(hcl, beta=b) for b in (.25, .5, 1., 2., 4., 8.)}
    found |= {f'unremix β={b}': partial(mixture, knobs=Knobs(beta=b)) for b in (.5, 1., 2., 4., 8.)}
    found |= {f'placebo-u β={b}': partial(placebo, knobs=Knobs(beta=b)) for b in (.5, 1., 2., 4., 8.)}
    found |= {f'placebo-ur β={b}': partial(both_placebo, knobs=Knobs(beta=b)) for b in (.5, 1., 2., 4., 8.)}
    found |= {'unremix top 64': partial(select, keep=keep_top), 'unremix sample 64': partial(select, keep=keep_sample)}
    found |= {f'unremix t_u={t}': partial(mixture, knobs=Knobs(uncertainty_temperature=t)) for t in (.1, .05)}
    found |= {f'unremix {n}': partial(mixture, knobs=Knobs(normalize=n)) for n in ('sum', 'minmax')}
    for which in (*UNCERTAINTIES, 'representativeness'):
        found |= {f'{which} alone κ={k}': partial(single, which=which, kappa=k) for k in (.5, 1., 2., 4.)}
    for u in UNCERTAINTIES:
        half = Knobs(mix=(.5, .5, 0.), uncertainty=u)
        found |= {f'linear {u}': partial(mixture, knobs=half), f'linear {u} placebo': partial(placebo, knobs=half)}
        for k in (.5, 1., 2., 4.):
            log = Knobs(pool='log', uncertainty=u, kappa=(k, 0.))
            found |= {f'log {u} κ={k}': partial(mixture, knobs=log), f'log {u} κ={k} placebo': partial(placebo, knobs=log)}
    found |= {f'log representativeness κ={k}': partial(mixture, knobs=Knobs(pool='log', kappa=(0., k))) for k in (1., 2.)}
    for u, t in product(('norm', 'entropy', 'overlap', 'image_overlap'), (.2, .1, .05)):
        found[f'log {u} κ=1.0 t_u={t}'] = partial(mixture, knobs=Knobs(pool='log', uncertainty=u, kappa=(1., 0.), uncertainty_temperature=t))
    return found

def embeddings(run, temperature, seed):
    "Batches as in training: two views, batch statistics; and which negatives are of the anchor's class."
    contrasts, same = [], []
    torch.manual_seed(seed)
    run.model.train()
    for idx in torch.randperm(len(run.images.x))[:BATCH*BATCHES].split(BATCH):
        x, y = run.images.x[idx], run.images.y[idx]
        with torch.no_grad(), run.fabric.autocast(): z, hidden = run.model(run.augment(torch.cat([x, x])))
        c = from_views(*z.float().chunk(2), temperature=temperature, hidden=hidden.float().chunk(2))
        contrasts.append(c); same.append(c.negative & same_id(y, c.anchor_idx, BATCH, 2*BATCH))
    return contrasts, same

def judge(run, temperature, seed):
    "name: {measure: {hardness, mass, beta, excess}} of every weighting."
    contrasts, same = embeddings(run, temperature, seed)
    yardstick, labels = Yardstick(contrasts, same), {id(c): s for c, s in zip(contrasts, same)}
    table = weightings() | {'oracle β=1.0': lambda c: without_own(c, labels[id(c)])}
    rounded = lambda d: {k: round(v, 5) for k, v in d.items()}
    judged = {name: {m: rounded(yardstick.judge(w, m)) for m in MEASURES} for name, w in table.items()}
    for name in KNOWING: judged[name]['push'] |= rounded(knowledge(contrasts, same, table[name]))
    return judged, as_hard_as_hcl(yardstick)

KNOWING = ('hcl β=1.0', 'unremix β=1.0', 'placebo-u β=1.0', 'placebo-ur β=1.0', 'oracle β=1.0')

def as_hard_as_hcl(yardstick, beta=1.):
    "name: what logarithmic pooling does with its own β turned until it is as hard as HCL; NaN where none is."
    contrasts, same = yardstick.contrasts, yardstick.same
    target = yardstick.judge(partial(hcl, beta=beta))['hardness']
    families = {'unremix': lambda b: partial(mixture, knobs=Knobs(beta=b)), 'placebo-u': lambda b: partial(placebo, knobs=Knobs(beta=b))}
    for score, kappa in product((*SCORES, *SUMS), (1., 2.)):
        standard = {id(c): sum(standard_score(SCORES[s](c), c) for s in score.split(' + ')) for c in contrasts}
        families[f'log {score} κ={kappa}'] = pooled(standard, kappa)
    found = {name: yardstick.match(family, target) for name, family in families.items()}
    for name, row in found.items():
        if row['own_beta'] == row['own_beta']: row |= knowledge(contrasts, same, families[name](row['own_beta']))
    return {name: {k: round(v, 5) if v == v else None for k, v in row.items()} for name, row in found.items()}

def encoders(lines, seeds):
    "(name, temperature, seed, line of its run)."
    for t, (name, (cell, _)), seed in product((.5, .2), ENCODERS.items(), range(seeds)):
        for l in lines:
            if l['seed'] == seed and l['strategy'] == cell.split()[0] and l['knobs'].get('temperature', .5) == (.5 if name == 'untrained' else t) and ('early' in l['cell']) == ('early' in cell) and l['cell'].split(' t=')[0] == cell:
                yield name, t, seed, l

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('lines', nargs='+', type=Path)
    parser.add_argument('--dataset', required=True)
    parser.add_argument('--runs', type=Path, default=ROOT/'runs'/'sweep')
    parser.add_argument('--out', type=Path)
    parser.add_argument('--seeds', type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    out = args.out or ROOT/'results'/'selection'/f'{args.dataset}.jsonl'
    out.parent.mkdir(parents=True, exist_ok=True)
    done = {(l['encoder'], l['temperature'], l['seed']) for l in read_lines(out)}
    for name, t, seed, line in encoders([l for l in read_lines(*args.lines) if l['dataset'] == args.dataset], args.seeds):
        if (name, t, seed) in done or not (args.runs/line['key']/'result.json').exists(): continue
        run = load_run(args.runs/line['key'])
        if not ENCODERS[name][1]: run = set_up(run.cfg)
        found = {'experiment': 'selection', 'dataset': args.dataset, 'encoder': name, 'temperature': t, 'seed': seed, 'run': line['key'], 'code': code_version(), **dict(zip(('judged', 'as_hard_as_hcl'), judge(run, t, seed)))}
        with open(out, 'a') as f: f.write(json.dumps(found, ensure_ascii=False) + '\n')
        print(name, t, seed, flush=True)

if __name__ == '__main__': main()
