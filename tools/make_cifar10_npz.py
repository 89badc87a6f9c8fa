"""Write CIFAR-10 from its JPEG scans as one file of arrays for `--dataset npz`.

    python tools/make_cifar10_npz.py cifar10_jpeg.npz data/cifar10-jpeg75.npz

The scans are JPEG of quality 75, so these are not the original pixels: say so beside
every number.
"""

import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image


def decoded(file, split):
    "(n 32 32 3) bytes."
    head, scans = file['header'].tobytes(), file[f'{split}_scans'].tobytes()
    ends = file[f'{split}_sizes'].astype(np.int64).cumsum()
    begins = np.r_[0, ends[:-1]]
    each = (head + scans[a:b] for a, b in zip(begins, ends, strict=True))
    return np.stack([np.asarray(Image.open(io.BytesIO(jpeg))) for jpeg in each])


def main(source, out):
    with np.load(source, allow_pickle=False) as file:
        arrays = {'classes': file['classes']}
        for split in ('train', 'test'):
            arrays[f'{split}_images'] = decoded(file, split)
            arrays[f'{split}_labels'] = file[f'{split}_labels']
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    np.savez(out, **arrays)
    print({name: (array.shape, str(array.dtype)) for name, array in arrays.items()})


if __name__ == '__main__':
    main(*sys.argv[1:])
