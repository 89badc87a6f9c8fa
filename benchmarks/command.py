"What the arguments of `python -m benchmarks` ask for."

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from unremix.parsing import parse

from benchmarks import loop, losses, scale


class Benchmark(NamedTuple):
    config: type  # dataclass of its options
    measure: Callable[[Any], dict[str, Any]]  # configuration -> what is written
    quick: dict[str, Any]  # fields that `--quick` sets


BENCHMARKS = {
    'losses': Benchmark(
        losses.BenchConfig,
        losses.bench,
        dict(
            batch=256,
            rounds=1,
            repeats=2,
            steps=0,
            out=Path('runs/bench/quick.json'),
        ),
    ),
    'scale': Benchmark(
        scale.ScaleConfig,
        scale.bench_scale,
        dict(largest=512, rounds=1, out=Path('runs/bench/scale.json')),
    ),
    'loop': Benchmark(
        loop.LoopConfig,
        loop.bench_loop,
        dict(steps=2, rounds=1, out=Path('runs/bench/loop.json')),
    ),
}


def run(args: list[str]) -> int:  # exit status
    "Measure, print a table, write the result. Without a name first, the losses."
    is_named = args[:1] != [] and args[0] in BENCHMARKS
    name = args[0] if is_named else 'losses'
    options = args[1:] if is_named else args
    benchmark = BENCHMARKS[name]
    default = None
    if '--quick' in options:
        default = benchmark.config(**benchmark.quick)
        options = [word for word in options if word != '--quick']
    config = parse(benchmark.config, options, f'python -m benchmarks {name}', default)
    benchmark.measure(config)
    print(f'\nwritten: {config.out}')
    return 0
