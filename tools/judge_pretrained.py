"""Scores of the shipped encoder, of untrained ones and of raw pixels, one json line each.

    python tools/judge_pretrained.py results/pretrained/scores.jsonl

Appends, and skips what is there already.
"""
import json
import sys
from pathlib import Path

from unremix.config import TrainConfig
from unremix.data import load_dataset
from unremix.evaluate import feature_scores
from unremix.kept_encoder import Encoder, load_encoder
from unremix.run_parts import set_up, start_model
from unremix.sweep import read_lines

DATA = 'fashion_mini', 'digits'
SCORES = 'linear', 'knn10', 'knn200'
SEEDS = range(5)  # of untrained encoders
ROWS = [('pretrained', None), ('raw pixels', None), *(('untrained', seed) for seed in SEEDS)]


def untrained(name, seed):
    "The encoder of a run before its first step, prepared for the images of this data set."
    run = set_up(TrainConfig.of({'dataset': name, 'seed': seed, 'precision': '32-true', 'accelerator': 'cpu'}))
    start_model(run)
    return Encoder(run.model.encoder, 'small', run.augment.preparation()).eval()


def features_of(row, name, seed):
    if row == 'raw pixels':
        return lambda x: x.flatten(1).float() / 255
    return (load_encoder('pretrained') if row == 'pretrained' else untrained(name, seed)).features


def scores(row, name, seed):
    features, (train, test) = features_of(row, name, seed), (load_dataset(name, part) for part in ('train', 'test'))
    found = feature_scores(features(train.x), train.y, features(test.x), test.y)
    return {k: round(found[k], 4) for k in SCORES}


def main(out):
    path = Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    done = read_lines(path) if path.exists() else []
    there = {(x['dataset'], x['row'], x['seed']) for x in done}
    with path.open('a') as file:
        for name in DATA:
            for row, seed in ROWS:
                if (name, row, seed) not in there:
                    line = {'dataset': name, 'row': row, 'seed': seed, **scores(row, name, seed)}
                    file.write(json.dumps(line) + '\n')
                    file.flush()


if __name__ == '__main__':
    main(*sys.argv[1:])
