"""How often is each list of `unremix audit` right? Measured on labelled images, one json line per number.

    python tools/audit_precision.py fashion_mini 0 --runs runs/audit --out results/audit/fashion_mini.jsonl
    python tools/audit_precision.py cifar10_jpeg 0 --runs runs/audit --out results/audit/cifar10_jpeg.jsonl --data cifar10_jpeg.npz

Trains an encoder with this seed (SimCLR, t = .5), embeds 2,000 training images (or `--images`), and asks every list. A seed whose lines are in the
file already is not measured again. The second data set is a file of
JPEG scans of quality 75, not the original pixels: `header`, `train_scans`, `train_sizes`, `train_labels`, the same for `test`, `classes`.
Needs cleanlab.
"""
import argparse, io, json, sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from unremix import data
from unremix.audit_lists import COPY, LOOKED_AT, best
from unremix.config import TrainConfig
from unremix.findings import agreement, copy_score, doubt, hard_but_different, may_be_copies, strangeness
from unremix.image_sets import to_images
from unremix.kept_encoder import load_encoder, with_channels, with_size
from unremix.evaluate import load_run
from unremix.suspects import OPINIONS, Neighbours, answers, by_overlap, nearest_others, pairs_of, share_below
from unremix.sweep import read_lines
from unremix.train import train

USUAL = 50 # neighbours that the command looks at


def scans(path, split):
    "Images of a file of JPEG scans, the classes in turns: 500 or 100 of each."
    f = np.load(path)
    head, ends = f['header'].tobytes(), f[f'{split}_sizes'].astype(np.int64).cumsum()
    whole, labels, many = f[f'{split}_scans'].tobytes(), f[f'{split}_labels'], {'train': 500, 'test': 100}[split]
    take = np.stack([np.flatnonzero(labels == c)[:many] for c in range(len(f['classes']))]).T.ravel()
    lows = np.r_[0, ends[:-1]]
    x = np.stack([np.asarray(Image.open(io.BytesIO(head + whole[lo:hi]))) for lo, hi in zip(lows[take], ends[take])])
    return to_images(x, labels[take], tuple(map(str, f['classes'])), 'cifar10')


def features(encoder, x): return torch.cat([encoder.features(part) for part in x.split(500)])


def changed(x, generator):
    "One copy of each image: cropped, mirrored, JPEG of quality 40, or 1.3 times as bright, in turns."
    copies = []
    for i, image in enumerate(x):
        side = image.shape[-1]
        if i % 4 == 0:
            cut = round(side*float(torch.empty(1).uniform_(.85, .95, generator=generator)))
            top, left = (int(torch.randint(side - cut + 1, (1,), generator=generator)) for _ in range(2))
            copy = with_size(image[None, :, top:top + cut, left:left + cut], side)[0]
        elif i % 4 == 1: copy = image.flip(2)
        elif i % 4 == 2:
            pixels, file = image.permute(1, 2, 0).numpy().squeeze(), io.BytesIO()
            Image.fromarray(pixels).save(file, 'jpeg', quality=40)
            copy = torch.from_numpy(np.array(Image.open(file)).reshape(side, side, -1)).permute(2, 0, 1)
        else: copy = (image.float()*1.3).clamp(0, 255).byte()
        copies.append(copy)
    return torch.stack(copies)


def measure(images, encoder, run, strangers, seed, tell, N):
    WIDE = N//25 # neighbours, so that 1 % of the pairs are among them
    generator = torch.Generator().manual_seed(seed)
    draw = lambda n, m: torch.randperm(n, generator=generator)[:m]
    take = draw(len(images), N).sort().values
    x, y = images.x[take], images.y[take]
    h = features(encoder, x)
    near = nearest_others(h, WIDE)
    pairs = pairs_of(near)
    usual = Neighbours(*(part[:, :USUAL] for part in near))
    same = (y[pairs.a] == y[pairs.b]).double()
    all_same = int((y.bincount()*(y.bincount() - 1)//2).sum())
    ats = {'100': 100, '1000': 1000, '1 %': N*(N - 1)//200}

    # ---- false negatives
    scores = {name: opinion(usual, pairs) for name, opinion in OPINIONS.items() if name != 'mixture'}
    scores['mixture'] = sum(map(share_below, scores.values()))/4
    torch.manual_seed(seed)
    two = [torch.cat([run.model.encoder(run.augment(part)).detach() for part in x.split(500)]) for _ in range(2)]
    p = sum(answers(nearest_others(view, USUAL)) for view in two)
    p = p.multiply(1/np.sqrt(p.multiply(p).sum(1))).tocsr()
    scores['two-view overlap'] = torch.cat([torch.from_numpy(np.asarray(p[a.numpy()].multiply(p[b.numpy()]).sum(1)).ravel()) for a, b in zip(pairs.a.split(50_000), pairs.b.split(50_000))])
    shuffled = y[draw(N, N)]
    for name, score in scores.items():
        order = best(score, ats['1 %'])
        for at, many in ats.items():
            right = same[order[:many]]
            tell(list='same', score=name, at=at, precision=right.mean().item(), recall=right.sum().item()/all_same)
    order = best(scores['cosine'], ats['1 %'])
    for at, many in ats.items():
        first = order[:many]
        right = (shuffled[pairs.a[first]] == shuffled[pairs.b[first]]).double()
        tell(list='same', score='placebo', at=at, precision=right.mean().item(), recall=right.sum().item()/all_same)

    # ---- near, and yet different: among the pairs that the command looks at
    looked_at = pairs_of(usual)
    looked_at = looked_at.only(best(looked_at.cosine, LOOKED_AT*1000))
    differ = (y[looked_at.a] != y[looked_at.b]).double()
    by = {'least overlap': hard_but_different(by_overlap(usual, looked_at)), 'least cosine': -looked_at.cosine, 'placebo': torch.rand(len(differ), generator=generator)}
    for name, score in by.items():
        for at in ('100', '1000'):
            first = best(score, int(at))
            tell(list='different', score=name, at=at, precision=differ[first].mean().item(), cosine=looked_at.cosine[first].mean().item())

    # ---- planted: 1 % copies, 1 % strangers
    planted = N//100
    source = draw(N, planted)
    with_copies = torch.cat([x, changed(x[source], generator)])
    all_h = torch.cat([h, features(encoder, with_copies[N:])])
    found = pairs_of(nearest_others(all_h, USUAL))
    true = source*len(all_h) + N + torch.arange(planted)
    is_planted = lambda p: torch.isin(p.a*len(all_h) + p.b, true).double()
    close = found.only(may_be_copies(found))
    agrees = copy_score(close, agreement(with_copies[close.a], with_copies[close.b]))
    for name, some, score in (('pixels', close, agrees), ('cosine', found, found.cosine)):
        right = is_planted(some.only(best(score, planted)))
        tell(list='copy', score=name, at='as many as planted', precision=right.mean().item(), recall=right.sum().item()/planted)
    listed = close.only(agrees > COPY)
    right = is_planted(listed)
    tell(list='copy', score='pixels', at=f'above {COPY}', precision=right.mean().item(), recall=right.sum().item()/planted, listed=len(right))
    kind = torch.arange(planted) % 4
    got = torch.isin(true, listed.a*len(all_h) + listed.b)
    for i, name in enumerate(('crop', 'flip', 'jpeg', 'brightness')):
        tell(list='copy', score='pixels', at=f'above {COPY}, {name}', recall=got[kind == i].double().mean().item())

    odd = strangers[draw(len(strangers), planted)]
    odd_h = torch.cat([h, features(encoder, with_size(odd, x.shape[-1]))])
    is_odd = torch.arange(len(odd_h)) >= N
    strange = strangeness(nearest_others(odd_h, USUAL))
    from_mean = 1 - F.normalize(odd_h) @ F.normalize(F.normalize(odd_h).mean(0), dim=0)
    for name, score in {'neighbours': strange, 'distance from the mean': from_mean, 'placebo': torch.rand(len(odd_h), generator=generator)}.items():
        right = is_odd[best(score, planted)].double()
        tell(list='outlier', score=name, at='as many as planted', precision=right.mean().item(), auroc=roc_auc_score(is_odd, score))

    # ---- planted: 5 % wrong labels
    wrong = draw(N, N//20)
    noisy = y.clone()
    noisy[wrong] = (y[wrong] + 1 + torch.randint(len(images.classes) - 1, (len(wrong),), generator=generator)) % len(images.classes)
    is_wrong = torch.isin(torch.arange(N), wrong)
    from cleanlab.classification import CleanLearning
    z = F.normalize(h)
    z = (z - z.mean(0))/z.std(0).clamp_min(1e-6)
    lab = CleanLearning(LogisticRegression(C=.01, max_iter=100, tol=1e-3), seed=seed, verbose=False)
    issues = lab.find_label_issues(z.numpy(), noisy.numpy())
    doubts = {'neighbours': doubt(usual, noisy)[0], 'cleanlab': 1 - torch.from_numpy(issues['label_quality'].to_numpy()), 'placebo': torch.rand(N, generator=generator)}
    for name, score in doubts.items():
        right = is_wrong[best(score, len(wrong))].double()
        tell(list='doubt', score=name, at='as many as planted', precision=right.mean().item(), auroc=roc_auc_score(is_wrong, score))
    marked = torch.from_numpy(issues['is_label_issue'].to_numpy())
    tell(list='doubt', score='cleanlab', at='its own choice', precision=is_wrong[marked].double().mean().item(), recall=marked[is_wrong].double().mean().item(), listed=int(marked.sum()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('set', choices=('fashion_mini', 'cifar10_jpeg'))
    parser.add_argument('seed', type=int)
    parser.add_argument('--runs', type=Path, default=Path('runs/audit'))
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--data', type=Path)
    parser.add_argument('--images', type=int, default=2000)
    a = parser.parse_args()
    if a.set == 'cifar10_jpeg' and a.data is None: parser.error('cifar10_jpeg needs --data FILE')
    there = [line for line in read_lines(a.out) if line['set'] == a.set]
    others = {line['images'] for line in there} - {a.images}
    if others: parser.error(f'{a.out} has lines of {others} images, asked are {a.images}: name another file')
    if a.seed in {line['seed'] for line in there}: return print(f'{a.out} has {a.set}, seed {a.seed}')
    torch.set_num_threads(1)
    fields = {'seed': a.seed, 'precision': '32-true'}
    if a.set == 'cifar10_jpeg':
        data.DATASETS['cifar10'] = lambda split, data_root=None: scans(a.data, split)
        fields |= {'dataset': 'cifar10', 'epochs': 10, 'batch_size': 256}
    folder = a.runs/f'{a.set}-{a.seed}'
    train(TrainConfig.of(fields), folder, progress=False)
    run, encoder = load_run(folder), load_encoder(folder)
    run.model.eval()
    other = data.load_dataset('digits' if a.set == 'fashion_mini' else 'fashion_mini', 'train')
    a.out.parent.mkdir(parents=True, exist_ok=True)
    found = []
    tell = lambda **line: found.append(json.dumps({'set': a.set, 'seed': a.seed, 'images': a.images, **{k: round(v, 5) if isinstance(v, float) else v for k, v in line.items()}}) + '\n')
    with torch.no_grad():
        measure(run.images, encoder, run, with_channels(other.x, encoder.channels), a.seed, tell, a.images)
    with open(a.out, 'a', encoding='utf-8') as file: file.writelines(found)


if __name__ == '__main__': sys.exit(main())
