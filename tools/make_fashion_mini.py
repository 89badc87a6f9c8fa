"""Make the embedded data set: 10,000 + 2,000 images of Fashion-MNIST, the same number of each class.

    apt-get install dataset-fashion-mnist && python tools/make_fashion_mini.py

Reads the files of Debian's package, needs no network, and gives the same bytes each time.
"""
import hashlib
from pathlib import Path

import numpy as np

from unremix.image_sets import DEBIAN_FASHION_MNIST, read_idx

ASSETS = Path(__file__).parents[1]/'unremix'/'assets'


def stratified(y, n):
    "Indices of the first `n` images, as many of each class, classes taking turns: any prefix is balanced."
    per_class = [np.flatnonzero(y == c)[:n//10] for c in range(10)]
    return np.stack(per_class, 1).flatten()


def main():
    arrays = {}
    for split, prefix, n in (('train', 'train', 10_000), ('test', 't10k', 2_000)):
        x, y = (read_idx(DEBIAN_FASHION_MNIST/f'{prefix}-{kind}.gz') for kind in ('images-idx3-ubyte', 'labels-idx1-ubyte'))
        idx = stratified(y, n)
        arrays |= {f'x_{split}': x[idx], f'y_{split}': y[idx]}
    ASSETS.mkdir(exist_ok=True)
    np.savez_compressed(ASSETS/'fashion_mini.npz', **arrays)
    content = hashlib.sha256(b''.join(a.tobytes() for a in arrays.values())).hexdigest()
    print(f'{(ASSETS/"fashion_mini.npz").stat().st_size/1e6:.1f} MB, sha256 of the arrays {content}')


if __name__ == '__main__': main()
