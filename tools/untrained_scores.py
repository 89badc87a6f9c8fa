"""Scores of untrained encoders, with the settings and seeds of one cell of a grid.

    python tools/untrained_scores.py results/grids/cifar10_pilot.toml simclr results/compare/cifar10_untrained.jsonl
"""
import json
import sys
from pathlib import Path

from unremix.arguments import require
from unremix.grid import read_grid, runs_of
from unremix.rows import untrained_scores

SCORES = 'linear', 'knn10', 'knn200'


def main(grid, cell, out):
    runs = runs_of(read_grid(grid))
    cells = list(dict.fromkeys(name for name, _ in runs))
    require(cell in cells, 'the cell', f'one of {cells}', cell)
    lines = []
    for cfg in (cfg for name, cfg in runs if name == cell):
        scores = untrained_scores(cfg)['scores']
        line = {'cell': 'untrained', 'seed': cfg.run.seed, **{k: scores[k] for k in SCORES}}
        lines.append(json.dumps(line) + '\n')
    path = Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(''.join(lines))


if __name__ == '__main__':
    main(*sys.argv[1:])
