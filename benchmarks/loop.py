"Images per second of our training loop and of one put together from lightly's parts."

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from unremix.arguments import require
from unremix.compare_config import cell_config, CompareConfig
from unremix.image_sets import Images
from unremix.run_parts import resolve, Run, set_up
from unremix.steps import epoch_steps

from benchmarks.process import check_out, fresh, write_result


class Pictures(torch.utils.data.Dataset[list[Tensor]]):
    "Images as a folder would give them, two views each."

    def __init__(self, images: Images, transform: Callable[[Any], Any]):
        self.images, self.transform = images, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> list[Tensor]:
        from torchvision.transforms.functional import to_pil_image

        picture = to_pil_image(self.images.x[i]).convert('RGB')
        return [view[:1] for view in self.transform(picture)]


def lightly_steps(run: Run, workers: int = 2) -> Iterator[Tensor]:
    "Train with lightly's transform, loader and loss."
    from lightly.loss import NTXentLoss as Theirs
    from lightly.transforms import SimCLRTransform

    size = run.images.x.shape[-1]
    transform = SimCLRTransform(input_size=size, gaussian_blur=0.0, normalize=None)
    loader = torch.utils.data.DataLoader(
        Pictures(run.images, transform),
        run.cfg.optim.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    criterion = Theirs(temperature=run.cfg.loss.temperature)
    while True:
        for x1, x2 in loader:
            z, _ = run.model(torch.cat([x1, x2]))
            loss = criterion(*z.float().chunk(2))
            run.fabric.backward(loss)
            run.optimizer.step()
            run.optimizer.zero_grad()
            yield loss


def our_steps(run: Run) -> Iterator[Any]:
    epoch = 0
    while True:
        yield from epoch_steps(run, epoch)
        epoch += 1


LOOPS = {'unremix': our_steps, 'lightly': lightly_steps}


def median_of(call: Callable[[], Any], n: int) -> float:
    "Median seconds of `n` calls after two warm-ups."
    seconds = []
    for _ in range(n + 2):
        tic = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - tic)
    return statistics.median(seconds[2:])


def shares_of_step(run: Run, n: int) -> dict[str, float]:
    "What part of our step each of its three parts takes, each the median of n calls."
    x = run.images.x[: run.cfg.optim.batch_size]
    views = run.augment(torch.cat([x, x]))
    z, hidden = run.model(views)
    direction = torch.randn_like(z)
    leaves = [view.detach().requires_grad_() for view in z.chunk(2)]

    def augmentation() -> None:
        run.augment(torch.cat([x, x]))

    def network() -> None:
        run.fabric.backward((run.model(views)[0] * direction).sum())
        run.optimizer.step()
        run.optimizer.zero_grad()

    def loss() -> None:
        run.criterion(*leaves, hidden=hidden.detach().chunk(2)).backward()

    parts = dict(augmentation=augmentation, network=network, loss=loss)
    seconds = {name: median_of(part, n) for name, part in parts.items()}
    return {name: value / sum(seconds.values()) for name, value in seconds.items()}


def measure_loop(name: str, steps: int) -> dict[str, Any]:
    "Images per second of a loop, and for ours the shares of its parts."
    config = CompareConfig.of(dict(log_every=10**6))
    run = set_up(resolve(cell_config(config, 'simclr', 0)))
    batch = run.cfg.optim.batch_size
    taken = LOOPS[name](run)
    for _ in range(5):
        next(taken)
    tic = time.perf_counter()
    for _ in range(steps):
        next(taken)
    rate = steps * batch / (time.perf_counter() - tic)
    result: dict[str, Any] = dict(
        images_per_s=rate, batch=batch, precision=run.cfg.run.precision
    )
    if name == 'lightly':
        return result
    return result | {'share': shares_of_step(run, steps)}


@dataclass(frozen=True)
class LoopConfig:
    """Images per second of the training loop against lightly's;
    leave the machine alone meanwhile."""

    out: Path = Path('results/bench/loop.json')  # written at the end
    steps: int = 40  # timed steps per process, 1 or more
    rounds: int = 5  # fresh processes per loop, 1 or more

    def __post_init__(self) -> None:
        for name in ('steps', 'rounds'):
            value = getattr(self, name)
            require(value >= 1, name, 'a whole number ≥ 1', value)


def child() -> None:
    "What the fresh process runs: measure the loop and print one line."
    print(json.dumps(measure_loop(sys.argv[1], int(sys.argv[2]))))


CHILD = 'from benchmarks.loop import child; child()'


def bench_loop(
    cfg: LoopConfig,
    progress: Callable[[str], Any] = print,
) -> dict[str, Any]:
    "Both loops in turn, in fresh processes; tell medians, write and return them."
    check_out(cfg.out)
    rounds = []
    for i in range(cfg.rounds):
        rounds.append({name: fresh(CHILD, name, str(cfg.steps)) for name in LOOPS})
        progress(f'round {i + 1} of {cfg.rounds}')
    ours = [r['unremix'] for r in rounds]
    rates = {name: [r[name]['images_per_s'] for r in rounds] for name in LOOPS}
    ratios = [a / b for a, b in zip(rates['unremix'], rates['lightly'])]
    share = {
        k: statistics.median(r['share'][k] for r in ours) for k in ours[0]['share']
    }
    result: dict[str, Any] = dict(
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        rounds=cfg.rounds,
        batch=ours[0]['batch'],
        precision=ours[0]['precision'],
        images_per_s={name: statistics.median(found) for name, found in rates.items()},
        ratio=statistics.median(ratios),
        share=share,
    )
    progress(loop_text(result))
    write_result(cfg.out, result)
    return result


def loop_text(result: dict[str, Any]) -> str:
    "Two lines for the terminal."
    rates = [f'{name} {rate:.0f}' for name, rate in result['images_per_s'].items()]
    shares = [f'{part} {share:.0%}' for part, share in result['share'].items()]
    first = f'images per second: {", ".join(rates)}; ratio {result["ratio"]:.2f}'
    return first + '\nshares of our step: ' + ', '.join(shares)
