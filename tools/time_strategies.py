"""Seconds of a training step at several batch sizes, strategies in turns; leave the machine alone meanwhile.

    python tools/time_strategies.py > results/sweeps/cost.jsonl

One json line per batch size and strategy: median step, median over turns of the ratio to SimCLR's step of the same turn.
"""
import json, platform, statistics, sys

import torch
from unremix.config import TrainConfig
from unremix.run_parts import resolve
from unremix.several_runs import time_steps
from unremix.train import code_version

STRATEGIES = { # name: fields
    'simclr': dict(strategy='simclr'), 'debiased': dict(strategy='debiased'), 'hcl': dict(strategy='hcl'), 'unremix': dict(strategy='unremix'),
    'log norm': dict(strategy='unremix', pool='log', kappa=(2., 0.)),
    'log overlap': dict(strategy='unremix', pool='log', kappa=(1., 0.), uncertainty='overlap'),
    'log image_overlap': dict(strategy='unremix', pool='log', kappa=(1., 0.), uncertainty='image_overlap')}

def main(batches=(64, 128, 256, 512, 1024), timed=24):
    for b in batches:
        configs = {name: resolve(TrainConfig.of(dict(dataset='fashion_mini', batch_size=b, **fields))) for name, fields in STRATEGIES.items()}
        seconds = time_steps(configs, timed)
        for name, t in seconds.items():
            ratios = sorted(x/y for x, y in zip(t, seconds['simclr']))
            print(json.dumps(dict(experiment='cost', strategy=name, batch_size=b, timed=timed, step_seconds=round(statistics.median(t), 5), ratio=round(statistics.median(ratios), 4),
                quartiles=[round(ratios[timed//4], 4), round(ratios[-timed//4], 4)], encoder='small', precision=configs[name].run.precision,
                threads=torch.get_num_threads(), processor=platform.machine(), torch=torch.__version__, code=code_version())), flush=True)

if __name__ == '__main__': sys.exit(main())
