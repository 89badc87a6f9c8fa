"The losses from 512 to 32,768 views, against other libraries and the bare products."

import json
import math
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
from unremix.losses import HCLLoss, NTXentLoss, UnReMixLoss
from unremix.machine import free_memory

from benchmarks.baselines import bare_products, published_recipe
from benchmarks.process import check_out, fresh, peak_memory, reset_peak, write_result

SIZES = 512, 2048, 4096, 8192, 16384, 32768
WHOLE = Path('results/bench/scale.json')  # what the pages read
LARGE = 8192  # beyond, one timed call per process; up to it, the median of three
CHUNK = 512
Row = dict[str, Any]
Views = list[Tensor]  # z of two views
Hidden = tuple[Tensor, ...]
Call = Callable[[Views, Hidden, int], Tensor]  # with the size of a block


def lightly_loss(z: Views, h: Hidden, chunk: int) -> Tensor:
    from lightly.loss import NTXentLoss as Theirs

    return Theirs(temperature=0.5)(*z)


def metric_learning_loss(z: Views, h: Hidden, chunk: int) -> Tensor:
    from pytorch_metric_learning.losses import NTXentLoss as Theirs

    labels = torch.arange(len(z[0])).repeat(2)
    return Theirs(temperature=0.5)(torch.cat(z), labels)


def matrices(count: int) -> Callable[[int], int]:
    "Bytes of `count` float32 matrices for n views."
    return lambda n: count * 4 * n * n


def triples(n: int) -> int:
    "Bytes where every positive pair meets all negative pairs."
    return 17 * n**3


# name: (call, bytes at the peak for n views; None: in blocks)
CONTESTANTS: dict[str, tuple[Call, Callable[[int], int] | None]] = {
    'products': (lambda z, h, chunk: bare_products(*z), matrices(2)),
    'recipe': (lambda z, h, chunk: published_recipe(z[0], z[1]), matrices(7)),
    'lightly': (lightly_loss, matrices(6)),
    'metric learning': (metric_learning_loss, triples),
    'ntxent': (lambda z, h, chunk: NTXentLoss()(*z), matrices(4)),
    'hcl': (lambda z, h, chunk: HCLLoss()(*z), matrices(5)),
    'unremix': (lambda z, h, chunk: UnReMixLoss()(*z, hidden=h), matrices(5)),
    'ntxent in blocks': (lambda z, h, chunk: NTXentLoss(chunk_size=chunk)(*z), None),
    'hcl in blocks': (lambda z, h, chunk: HCLLoss(chunk_size=chunk)(*z), None),
    'unremix in blocks': (
        lambda z, h, chunk: UnReMixLoss(chunk_size=chunk)(*z, hidden=h),
        None,
    ),
}


def left_out(name: str, n: int, free: float) -> str | None:  # the reason, or None
    "Would this variant need more than half of the free memory (bytes)?"
    peak = CONTESTANTS[name][1]
    need = 0 if peak is None else peak(n)
    if need <= free / 2:
        return None
    gigabytes = f'{need / 2**30:.0f} GB, more than half of the {free / 2**30:.0f} GB'
    return f'{name} at {n:,} views: about {gigabytes} that are free'


@dataclass(frozen=True)
class ScaleConfig:
    """Time and memory of the losses from 512 to 32,768 views;
    leave the machine alone meanwhile."""

    out: Path = WHOLE  # written at the end
    largest: int = 32768  # views, 512 or more
    dim: int = 128  # of the embedding, 1 or more
    hidden: int = 512  # input of the last layer, 1 or more
    rounds: int = 2  # fresh processes per variant, 1 or more
    variants: tuple[str, ...] = ()  # some of those on the page; empty = all

    def __post_init__(self) -> None:
        for name in self.variants:
            known = name in CONTESTANTS
            require(known, 'variants', f'some of {list(CONTESTANTS)}', name)
        for name, least in dict(largest=512, dim=1, hidden=1, rounds=1).items():
            value = getattr(self, name)
            require(value >= least, name, f'a whole number ≥ {least}', value)
        is_part = bool(self.variants) or self.largest < SIZES[-1]
        asked = f'another file than {WHOLE} for some of the variants or sizes'
        require(not is_part or self.out != WHOLE, 'out', asked, str(self.out))


def measure_sizes(name: str, sizes: list[int], dim: int, hidden: int) -> list[Row]:
    "Median seconds and peak memory of one variant at each size, in this process."
    call = CONTESTANTS[name][0]
    rows = []
    for n in sizes:
        torch.manual_seed(0)
        z = [view.requires_grad_() for view in torch.randn(2, n // 2, dim).unbind()]
        h = torch.randn(2, n // 2, hidden).unbind()
        start = reset_peak()
        seconds = []
        for _ in range(4 if n <= LARGE else 2):  # the first call warms up
            for view in z:
                view.grad = None
            tic = time.perf_counter()
            call(z, h, CHUNK).backward()
            seconds.append(time.perf_counter() - tic)
        median = statistics.median(seconds[1:])
        more = (peak_memory() - start) / 2**20
        rows.append(dict(variant=name, n=n, seconds=median, memory_mb=more))
    return rows


def child() -> None:
    "What the fresh process runs: measure the variant and print one line."
    print(json.dumps(measure_sizes(sys.argv[1], **json.loads(sys.argv[2]))))


CHILD = 'from benchmarks.scale import child; child()'


def measure_variant(name: str, sizes: list[int], cfg: ScaleConfig) -> list[Row]:
    """One variant at some sizes, in fresh processes.

    Sizes from 4,096 on get one each, since memory that smaller ones have used would be
    used again and not count.
    """
    small = [n for n in sizes if n < 4096]
    large = [[n] for n in sizes if n >= 4096]
    rows: list[Row] = []
    for together in (small, *large):
        if together:
            asked = dict(sizes=together, dim=cfg.dim, hidden=cfg.hidden)
            rows += fresh(CHILD, name, json.dumps(asked))
    return rows


def bench_scale(
    cfg: ScaleConfig,
    progress: Callable[[str], Any] = print,
) -> dict[str, Any]:
    """Measure all variants in turn, in fresh processes.

    Tell medians and fits, write and return them.
    """
    check_out(cfg.out)
    names = cfg.variants or tuple(CONTESTANTS)
    wanted = [n for n in SIZES if n <= cfg.largest]
    free = free_memory() or math.inf
    skipped: list[str] = []
    rows: list[Row] = []
    for i in range(cfg.rounds):
        for name in names:
            reasons = {n: left_out(name, n, free) for n in wanted}
            skipped += [r for r in reasons.values() if r and r not in skipped]
            sizes = [n for n in wanted if not reasons[n]]
            rows += [row | {'round': i} for row in measure_variant(name, sizes, cfg)]
        progress(f'round {i + 1} of {cfg.rounds}')
    result: dict[str, Any] = dict(
        dim=cfg.dim,
        hidden=cfg.hidden,
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        skipped=skipped,
        rows=scale_summary(rows),
    )
    result['growth'] = {name: growth(result['rows'], name) for name in names}
    progress(scale_text(result))
    write_result(cfg.out, result)
    return result


def scale_summary(rows: list[Row]) -> list[Row]:
    "Medians over rounds, and of the ratios to the references within a round."
    found = {(row['variant'], row['n'], row['round']): row for row in rows}
    keys = 'seconds', 'memory_mb'
    summary = []
    for name, n in dict.fromkeys((row['variant'], row['n']) for row in rows):
        runs = [row for row in rows if (row['variant'], row['n']) == (name, n)]
        made: Row = dict(variant=name, n=n, rounds=len(runs))
        for key in keys:
            made[key] = statistics.median(run[key] for run in runs)
        for base in ('products', 'recipe', 'lightly'):
            others = [found.get((base, n, run['round'])) for run in runs]
            pairs = [(run, other) for run, other in zip(runs, others) if other]
            for key in keys if pairs else ():
                ratios = [run[key] / max(other[key], 1e-9) for run, other in pairs]
                made[f'{key}_over_{base}'] = statistics.median(ratios)
        summary.append(made)
    return summary


def growth(rows: list[Row], name: str, least: int = 4096) -> dict[str, float]:
    "Exponents of time and memory in the number of views, from `least` on."
    own = [row for row in rows if row['variant'] == name and row['n'] >= least]
    if len(own) < 3:
        return {}
    x = [math.log(row['n']) for row in own]
    slopes = {}
    for key in ('seconds', 'memory_mb'):
        y = [math.log(max(row[key], 1e-9)) for row in own]
        slopes[key] = statistics.linear_regression(x, y).slope
    return slopes


RATIOS = {  # key: its column
    'seconds_over_products': f'{"time/products":>15}',
    'seconds_over_recipe': f'{"time/recipe":>13}',
    'memory_mb_over_recipe': f'{"memory/recipe":>15}',
    'seconds_over_lightly': f'{"time/lightly":>14}',
}


def scale_text(result: dict[str, Any]) -> str:
    "Rows for the terminal, and how time and memory grow."
    head = f'{"variant":<18}{"views":>7}{"seconds":>9}{"MB":>8}'
    lines = [head + ''.join(RATIOS.values())]
    for row in result['rows']:
        start = f'{row["variant"]:<18}{row["n"]:>7}'
        line = f'{start}{row["seconds"]:>9.3f}{row["memory_mb"]:>8.0f}'
        for key, title in RATIOS.items():
            ratio = f'{row[key]:.2f}' if key in row else ''
            line += ratio.rjust(len(title))
        lines.append(line)
    lines += ['', 'from 4,096 views on']
    for name, slope in result['growth'].items():
        if slope:
            time_, memory = slope['seconds'], slope['memory_mb']
            lines.append(f'{name}: time n^{time_:.2f}, memory n^{memory:.2f}')
    lines += [f'left out: {reason}' for reason in result['skipped']]
    return '\n'.join(lines)
