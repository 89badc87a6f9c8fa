"""Put the encoder of a run into the package: its weights as float16, beside the facts of its run folder.

    unremix train --preset fashion-small-10ep --out runs/pretrained
    python tools/ship_encoder.py runs/pretrained

Writes unremix/assets/pretrained/ and, for the tests, features of a few images as the run
gives them and as the stored weights do, in tests/pretrained.json.
"""
import shutil
import sys
from pathlib import Path

import torch

from unremix.checkpoint import load_checkpoint
from unremix.data import load_dataset
from unremix.kept_encoder import load_encoder
from unremix.safe_files import write_atomic, write_json

ROOT = Path(__file__).resolve().parents[1]
FACTS = 'config.json', 'data.json', 'result.json'
IMAGES, EVERY = [0, 1, 4, 8, 15], 16  # whose features the tests know, and which of the 512
LICENCE = 'weights Apache-2.0 as this package; trained on Fashion-MNIST (MIT, Zalando SE)'


def slim(state):
    "A checkpoint with the encoder alone, its numbers in 16 bits."
    half = lambda x: x.half() if x.is_floating_point() else x.clone()
    encoder = {k: half(x) for k, x in state['model'].items() if k.startswith('encoder.')}
    if not all(x.isfinite().all() for x in encoder.values()):
        raise ArithmeticError('a number of the encoder is too large for float16')
    kept = {k: state[k] for k in ('epoch', 'seconds', 'loss', 'config', 'torch')}
    return kept | {'model': encoder, 'optimizer': {}, 'precision': {}}


def ship(run, out, known):
    "Write the folder `out`; return the largest difference of a feature, and the largest feature."
    out.mkdir(parents=True, exist_ok=True)
    for name in FACTS:
        shutil.copyfile(run/name, out/name)
    state = slim(load_checkpoint(run/'checkpoint.pt'))
    write_atomic(out/'checkpoint.pt', lambda f: torch.save(state, f))
    x = load_dataset('fashion_mini', 'test').x
    before, after = (load_encoder(folder).features(x) for folder in (run, out))
    difference, scale = (before - after).abs().max().item(), before.abs().max().item()
    facts = {'stored': 'float16', 'largest_difference': round(difference, 5), 'largest_feature': round(scale, 3)}
    write_json(out/'shipped.json', facts | {'over': f'the {len(x)} test images of fashion_mini', 'licence': LICENCE})
    some = lambda h: [[round(v, 6) for v in row] for row in h[IMAGES, ::EVERY].tolist()]
    write_json(known, {'images': IMAGES, 'every': EVERY, 'run': some(before), 'shipped': some(after)})
    return difference, scale


if __name__ == '__main__':
    print(*ship(Path(sys.argv[1]), ROOT/'unremix'/'assets'/'pretrained', ROOT/'tests'/'pretrained.json'))
