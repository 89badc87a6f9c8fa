"""Write CIFAR-10 from its JPEG scans as one file of arrays for `--dataset npz`.

    python tools/make_cifar10_npz.py cifar10_jpeg.npz data/cifar10-jpeg75.npz
    python tools/make_cifar10_npz.py cifar10_jpeg.npz data/cat-dog.npz --groups cat dog

With `--groups`, each group of classes (A+B) is one class, and other images are left out.
With `--train`, so many training images are kept, evenly spread over the classes.
The scans are JPEG of quality 75, so these are not the original pixels: say so beside
every number.
"""

import argparse
import io
from pathlib import Path

import numpy as np
from PIL import Image


def decoded(file, split, places):
    "(n 32 32 3) bytes of the images at these places."
    head, scans = file['header'].tobytes(), file[f'{split}_scans'].tobytes()
    ends = file[f'{split}_sizes'].astype(np.int64).cumsum()
    begins = np.r_[0, ends[:-1]]
    each = (head + scans[begins[i] : ends[i]] for i in places)
    return np.stack([np.asarray(Image.open(io.BytesIO(jpeg))) for jpeg in each])


def group_of(classes, groups):
    "For each class the number of its group, or −1."
    known = list(classes)
    of = np.full(len(known), -1)
    for number, group in enumerate(groups):
        for name in group.split('+'):
            if name not in known:
                raise SystemExit(f'groups: classes of {known}, not {name!r}')
            if of[known.index(name)] >= 0:
                raise SystemExit(f'groups: each class once, not {name!r} twice')
            of[known.index(name)] = number
    return of


def spread(labels, count):
    "So many positions, evenly spread over the labels in their order."
    order = labels.argsort(kind='stable')
    if not 1 <= count <= len(order):
        raise SystemExit(f'train: a number from 1 to {len(order)}, not {count}')
    return np.sort(order[np.arange(count) * len(order) // count])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('source', help='the scans')
    parser.add_argument('out', help='the file that is written')
    parser.add_argument('--groups', nargs='+', metavar='A+B', help='classes that are one')
    parser.add_argument('--train', type=int, help='training images that are kept')
    asked = parser.parse_args()
    with np.load(asked.source, allow_pickle=False) as file:
        classes = file['classes']
        of = group_of(classes, asked.groups or list(classes))
        arrays = {'classes': np.array(asked.groups or classes)}
        for split in ('train', 'test'):
            named = file[f'{split}_labels']
            kept = (of[named] >= 0).nonzero()[0]
            if split == 'train' and asked.train is not None:
                kept = kept[spread(named[kept], asked.train)]
            arrays[f'{split}_images'] = decoded(file, split, kept)
            arrays[f'{split}_labels'] = of[named[kept]]
    Path(asked.out).parent.mkdir(parents=True, exist_ok=True)
    np.savez(asked.out, **arrays)
    print({name: (array.shape, str(array.dtype)) for name, array in arrays.items()})


if __name__ == '__main__':
    main()
