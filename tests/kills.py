"A training run in a process that can be started again quickly and killed at any moment."
import faulthandler, multiprocessing, os, signal, socket, time
from contextlib import suppress
from pathlib import Path

from unremix.config import TrainConfig
from unremix.train import train

PATIENCE = 120 # seconds that a process of seconds gets on a busy machine

context = multiprocessing.get_context('forkserver')
context.set_forkserver_preload(['unremix.train']) # so that a new process starts at once


def free_port():
    with socket.socket() as s:
        s.bind(('localhost', 0))
        return s.getsockname()[1]


def spoil_loss(step):
    "From now on the loss of this process is NaN at one step."
    import torch, unremix.run_parts
    real, calls = unremix.run_parts.make_criterion, []
    class Spoilt(torch.nn.Module):
        def __init__(self, loss): super().__init__(); self.loss = loss
        def forward(self, *args, **kwargs):
            calls.append(1)
            loss, stats = self.loss(*args, **kwargs)
            return (loss*float('nan') if len(calls) == step+1 else loss), stats
    unremix.run_parts.make_criterion = lambda cfg: Spoilt(real(cfg))


def one_rank(cfg, out, rank, size, port, spoilt=None):
    "One process of the run, as `torchrun` would start it; `spoilt`: rank whose loss is NaN at step 8."
    import torch
    faulthandler.dump_traceback_later(PATIENCE - 20) # where it hangs, if it does
    if rank == spoilt: spoil_loss(8)
    torch.set_num_threads(1)
    if size > 1: os.environ |= dict(MASTER_ADDR='localhost', MASTER_PORT=str(port), WORLD_SIZE=str(size), RANK=str(rank), LOCAL_RANK=str(rank), LOCAL_WORLD_SIZE=str(size), TORCHELASTIC_RUN_ID='test')
    try: train(cfg, out, progress=False)
    except FloatingPointError: raise SystemExit(77) # told apart from a process that lost its neighbour


class Job:
    "All processes of a run."
    def __init__(self, cfg:TrainConfig, out:Path, spoilt=None):
        port, size = free_port(), cfg.run.devices
        self.processes = [context.Process(target=one_rank, args=(cfg, out, r, size, port, spoilt)) for r in range(size)]
        for p in self.processes: p.start()

    def running(self): return all(p.is_alive() for p in self.processes)

    def send(self, number):
        for p in self.processes:
            with suppress(ProcessLookupError): # it may end between the two calls
                if p.is_alive(): os.kill(p.pid, number)

    def wait(self):
        for p in self.processes: p.join(PATIENCE)
        return [p.exitcode for p in self.processes]

    def killed_after(self, seconds):
        "Did SIGKILL come before the end?"
        end = time.monotonic() + seconds
        while self.running() and time.monotonic() < end: time.sleep(.005)
        alive = self.running()
        self.send(signal.SIGKILL); self.wait()
        return alive
