"""How much slower is a command beside other work? Runs it alone and beside spinning processes, in turns.

    python tools/busy.py --rounds 3 -- unremix train --out {} --limit 2000 --epochs 2

{} becomes a new folder for each run. Prints medians and their ratio. Leave the machine alone meanwhile.
"""
import argparse, statistics, subprocess, sys, tempfile, time
from contextlib import contextmanager
from pathlib import Path

SPIN = 'while True: pass'

@contextmanager
def spinning(count):
    "Processes that never wait, ended afterwards."
    jobs = [subprocess.Popen([sys.executable, '-c', SPIN]) for _ in range(count)]
    try: yield jobs
    finally:
        for job in jobs: job.kill()
        for job in jobs: job.wait()

def seconds_of(command):
    "Wall time of one run, which has to succeed."
    with tempfile.TemporaryDirectory() as folder:
        filled = [part.replace('{}', str(Path(folder)/'run')) for part in command]
        start = time.perf_counter()
        subprocess.run(filled, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - start

def compare(command, rounds, beside):
    "Seconds alone and beside others, in turns so that a slow moment hits both."
    quiet, busy = [], []
    for i in range(rounds):
        quiet.append(seconds_of(command))
        with spinning(beside): busy.append(seconds_of(command))
        print(f'round {i+1}: alone {quiet[-1]:.1f} s, beside {beside} {busy[-1]:.1f} s', flush=True)
    return statistics.median(quiet), statistics.median(busy)

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--beside', type=int, default=2, help='spinning processes')
    parser.add_argument('command', nargs=argparse.REMAINDER)
    args = parser.parse_args()
    command = args.command[args.command[:1] == ['--']:]
    if not command: parser.error('give the command to run after --')
    quiet, busy = compare(command, args.rounds, args.beside)
    print(f'alone {quiet:.1f} s, beside {args.beside} busy processes {busy:.1f} s: {busy/quiet:.2f} times as long')

if __name__ == '__main__':
    main()
