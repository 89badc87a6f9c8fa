"Every loss at one batch size against the published recipe, and whole training steps."

import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from unremix.arguments import require
from unremix.losses import DebiasedNTXentLoss, HCLLoss, NTXentLoss, UnReMixLoss

from benchmarks.baselines import bare_products, published_recipe
from benchmarks.process import check_out, fresh, peak_memory, reset_peak, write_result

Call = Callable[[list[Tensor], tuple[Tensor, ...]], Tensor]  # z of two views, hidden

VARIANTS: dict[str, Call] = {
    'products': lambda z, h: bare_products(*z),
    'recipe': lambda z, h: published_recipe(z[0], z[1]),
    'ntxent': lambda z, h: NTXentLoss()(*z),
    'debiased': lambda z, h: DebiasedNTXentLoss()(*z),
    'hcl': lambda z, h: HCLLoss()(*z),
    'unremix': lambda z, h: UnReMixLoss()(*z, hidden=h),
    'unremix_log': lambda z, h: UnReMixLoss(pool='log')(*z, hidden=h),
}
STEPS = dict(step_simclr='simclr', step_hcl='hcl', step_unremix='unremix')
WHOLE = Path('results/bench/losses.json')  # what the pages read
LEAST = dict(batch=2, dim=1, hidden=1, rounds=1, repeats=1, steps=0, threads=0)


@dataclass(frozen=True)
class BenchConfig:
    """Time and memory of every loss against the published recipe;
    leave the machine alone meanwhile."""

    out: Path = WHOLE  # written at the end
    batch: int = 2048  # images; the matrix has twice as many rows, 2 or more
    dim: int = 128  # of the embedding, 1 or more
    hidden: int = 512  # input of the last layer, 1 or more
    rounds: int = 5  # fresh processes per variant, 1 or more
    repeats: int = 4  # timed calls per process, after one warm-up, 1 or more
    # training steps per process, for the cost of a whole step; 0 leaves that out
    steps: int = 20
    threads: int = 0  # of the processor, 0: all

    def __post_init__(self) -> None:
        for name, least in LEAST.items():
            value = getattr(self, name)
            require(value >= least, name, f'a whole number ≥ {least}', value)


def measure_loss(name: str, cfg: BenchConfig) -> dict[str, float]:
    "Seconds per call and peak memory of one variant, in this process."
    torch.manual_seed(0)
    views = torch.randn(2, cfg.batch, cfg.dim).unbind()
    z = [view.requires_grad_() for view in views]
    hidden = torch.randn(2, cfg.batch, cfg.hidden).unbind()
    start = reset_peak()
    seconds = []
    for _ in range(cfg.repeats + 1):
        for view in z:
            view.grad = None
        tic = time.perf_counter()
        VARIANTS[name](z, hidden).backward()
        seconds.append(time.perf_counter() - tic)
    more = (peak_memory() - start) / 2**20
    return dict(seconds=statistics.median(seconds[1:]), memory_mb=more)


def measure_step(name: str, cfg: BenchConfig) -> dict[str, float]:
    "Seconds per training step of `unremix compare`'s configuration."
    # a process that measures a loss does not load them
    from unremix.compare_config import cell_config, CompareConfig
    from unremix.run_parts import resolve, set_up
    from unremix.steps import epoch_steps

    run = set_up(resolve(cell_config(CompareConfig(), STEPS[name], 0)))
    steps = epoch_steps(run, 0)
    seconds = []
    for _ in range(min(cfg.steps + 3, run.steps)):
        tic = time.perf_counter()
        next(steps)
        seconds.append(time.perf_counter() - tic)
    return dict(seconds=statistics.median(seconds[3:]))


def child() -> None:
    "What the fresh process runs: measure the variant and print one line."
    name, cfg = sys.argv[1], BenchConfig(**json.loads(sys.argv[2]))
    measure = measure_step if name in STEPS else measure_loss
    print(json.dumps(measure(name, cfg)))


CHILD = 'from benchmarks.losses import child; child()'


def in_fresh_process(name: str, cfg: BenchConfig) -> dict[str, float]:
    "Measure one variant in a process of its own."
    sizes = {field: value for field, value in vars(cfg).items() if field != 'out'}
    return fresh(CHILD, name, json.dumps(sizes), threads=cfg.threads)


OF_LOSSES = ('recipe', 'seconds'), ('recipe', 'memory_mb'), ('products', 'seconds')
OF_STEPS = (('step_simclr', 'seconds'),)


def summary(rounds: dict[str, list[dict[str, float]]]) -> list[dict[str, Any]]:
    """One row per variant: medians, and ratios within a round.

    To the recipe and the products; steps to SimCLR's step.
    """
    rows = []
    for name, runs in rounds.items():
        row: dict[str, Any] = dict(variant=name, n=len(runs))
        for key in runs[0]:
            row[key] = statistics.median(run[key] for run in runs)
        for base, key in OF_STEPS if name in STEPS else OF_LOSSES:
            pairs = zip(runs, rounds[base])
            ratios = [run[key] / other[key] for run, other in pairs]
            row[f'{key}_over_{base}'] = statistics.median(ratios)
        rows.append(row)
    return rows


def bench(
    cfg: BenchConfig,
    progress: Callable[[str], Any] = print,
) -> dict[str, Any]:
    "Measure all variants in turn, tell the table, write the result, return it."
    asked = f'another file than {WHOLE} without the steps'
    require(cfg.steps > 0 or cfg.out != WHOLE, 'out', asked, str(cfg.out))
    check_out(cfg.out)
    names = list(VARIANTS) + (list(STEPS) if cfg.steps else [])
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for i in range(cfg.rounds):
        for name in names:
            rounds[name].append(in_fresh_process(name, cfg))
        progress(f'round {i + 1} of {cfg.rounds}')
    result: dict[str, Any] = dict(
        rows=2 * cfg.batch,
        dim=cfg.dim,
        hidden=cfg.hidden,
        threads=cfg.threads or torch.get_num_threads(),
        torch=torch.__version__,
        variants=summary(rounds),
    )
    progress(bench_table(result))
    write_result(cfg.out, result)
    return result


def bench_table(result: dict[str, Any]) -> str:
    "Rows for the terminal."
    head = (
        f'{"variant":<13}{"seconds":>9}{"MB":>8}'
        f'{"time/recipe":>13}{"memory/recipe":>15}{"time/products":>15}'
    )
    lines = [head]
    for row in result['variants']:
        start = f'{row["variant"]:<13}{row["seconds"]:>9.3f}'
        if row['variant'] in STEPS:
            ratio = row['seconds_over_step_simclr']
            lines.append(f'{start}{"":>8}   {ratio:.2f} × the SimCLR step')
            continue
        time_and_memory = (
            f'{row["seconds_over_recipe"]:>13.2f}{row["memory_mb_over_recipe"]:>15.2f}'
        )
        of_products = f'{row["seconds_over_products"]:>15.2f}'
        lines.append(f'{start}{row["memory_mb"]:>8.0f}{time_and_memory}{of_products}')
    return '\n'.join(lines)
