"""Does any test notice? Change one line of the package at a time and run the tests that should.

A mutant is one entry of `MUTANTS` in a file of `tools/mutants/`; CONTRIBUTING.md, "Mutants", has its keys.
"""
import argparse, importlib, importlib.util, os, re, runpy, shlex, shutil, signal, sys, tempfile, time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PACKAGE = 'unremix'
# What the package imports: loaded once, so that a forked process starts at once.
PRELOAD = ('torch torchvision.transforms.v2 scipy.optimize scipy.interpolate scipy.stats '
           'sklearn.linear_model sklearn.datasets kornia.augmentation lightning_fabric tyro pytest')
PYTEST = '-x -q -p no:cacheprovider --no-header --tb=line'.split()
GREEN, NOT_RUN = 0, (4, 5, 70) # exit codes of pytest; 70 is ours


@dataclass(frozen=True)
class Mutant:
    "One change of one module, and the tests that are to notice it."
    file: str       # module of the package, `queue.py`
    old: str        # text that occurs exactly once in it
    new: str        # what stands there instead
    tests: str      # files or node ids, split like a shell's words
    why: str        # what a user would lose
    harmless: str = '' # why no test can notice it
    source: str = ''   # the list it is from

    def apply(self, root:Path)->tuple[str, int]:
        "The changed text and the line of the change; `ValueError` if there is no such change."
        text = (root/PACKAGE/self.file).read_text()
        found = text.count(self.old)
        if found != 1: raise ValueError(f'old text occurs {found} times')
        changed = text.replace(self.old, self.new)
        if changed == text: raise ValueError('new text is the old one')
        try: compile(changed, self.file, 'exec')
        except SyntaxError as e: raise ValueError(f'not Python: {e}') from None
        return changed, text[:text.index(self.old)].count('\n') + 1


def read_lists(root:Path, only:str='')->list[Mutant]:
    "The mutants of all lists in whose list, file, texts or reason the pattern `only` is found."
    mutants = []
    for path in sorted((root/'tools'/'mutants').glob('*.py')):
        entries = runpy.run_path(str(path))['MUTANTS']
        mutants += [Mutant(**entry, source=path.stem) for entry in entries]
    return [m for m in mutants if re.search(only, f'{m.source} {m.file} {m.old} {m.new} {m.why}')]


def copy_checkout(root:Path, tree:Path)->None:
    "A checkout with a package and tests of its own; the rest are links."
    tree.mkdir()
    for path in root.iterdir():
        if path.name in (PACKAGE, 'tests') or path.name.startswith('.'): continue
        (tree/path.name).symlink_to(path)
    caches = shutil.ignore_patterns('__pycache__', 'assets')
    for name in (PACKAGE, 'tests'): shutil.copytree(root/name, tree/name, ignore=caches)
    assets = root/PACKAGE/'assets'
    if assets.exists(): (tree/PACKAGE/'assets').symlink_to(assets)


def run_pytest(tree:Path, tests:list[str])->None:
    "In a forked process: run the tests on the package of `tree`, and end."
    os.setsid() # a group of its own, so that what it starts can be ended with it
    output = os.open(tree/'output.txt', os.O_CREAT | os.O_WRONLY)
    for stream in (1, 2): os.dup2(output, stream)
    os.chdir(tree)
    sys.path.insert(0, str(tree))
    os.environ['PYTHONPATH'] = os.pathsep.join([str(tree), os.environ.get('PYTHONPATH', '')])
    code = NOT_RUN[-1]
    try:
        package = Path(importlib.util.find_spec(PACKAGE).origin)
        assert PACKAGE not in sys.modules and tree in package.parents, package
        code = int(importlib.import_module('pytest').main([*PYTEST, f'--basetemp={tree}/tmp', *tests]))
    finally:
        sys.stdout.flush(); sys.stderr.flush()
        os._exit(code)


class Job:
    "Tests on a copy of the checkout, in a process forked from this one."
    def __init__(self, root:Path, tree:Path, tests:list[str], limit:float, change:tuple=()):
        copy_checkout(root, tree)
        if change: (tree/PACKAGE/change[0]).write_text(change[1])
        self.tree, self.limit, self.start = tree, limit, time.monotonic()
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0: run_pytest(tree, tests)

    def ended(self)->bool:
        "Whether it is over; then `code`, `seconds` and `output` are known. A hang is ended."
        self.seconds, self.code = time.monotonic() - self.start, None
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid == 0 and self.seconds < self.limit: return False
        self.stop()
        if pid == 0: os.waitpid(self.pid, 0)
        else: self.code = os.waitstatus_to_exitcode(status)
        self.output = (self.tree/'output.txt').read_text(errors='replace') if (self.tree/'output.txt').exists() else ''
        shutil.rmtree(self.tree, ignore_errors=True)
        return True

    def stop(self)->None:
        with suppress(ProcessLookupError): os.killpg(self.pid, signal.SIGKILL)


def run_jobs(jobs:list, workers:int):
    "Start the jobs (a name and what makes the job), `workers` at a time; yield each when it ends."
    waiting, running = list(jobs), {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                name, make = waiting.pop(0)
                running[name] = make()
            for name in [n for n, job in running.items() if job.ended()]: yield name, running.pop(name)
            time.sleep(.02)
    finally:
        for job in running.values(): job.stop()


def by_file(mutants:list[Mutant])->dict[str, list[str]]:
    "The tests that the mutants name, per file; all of a file where it is named as a whole."
    named = sorted({word for m in mutants for word in shlex.split(m.tests)})
    files = dict.fromkeys(word.split('::')[0] for word in named)
    return {f: [f] if f in named else [w for w in named if w.split('::')[0] == f] for f in files}


def unmutated(root:Path, folder:Path, files:dict, workers:int)->dict[str, float]:
    "Seconds that each file's tests take on the package as it is; `SystemExit` unless all pass."
    seconds = {}
    jobs = [(f, lambda f=f, i=i: Job(root, folder/f'clean{i}', files[f], 3600)) for i, f in enumerate(files)]
    for f, job in run_jobs(jobs, workers):
        if job.code != GREEN: raise SystemExit(f'{job.output[-3000:]}\nnot green without a change (exit {job.code}): {f}')
        seconds[f] = job.seconds
    return seconds


def first_failure(job:Job)->str:
    "Which test noticed."
    if job.code is None: return f'no end within {job.limit:.0f} s'
    found = re.findall(r'^(?:FAILED|ERROR) (\S+)', job.output, re.M)
    return found[0] if found else f'exit code {job.code}'


def one_line(text:str, width:int=60)->str:
    short = ' '.join(text.split())
    return short if len(short) <= width else short[:width-1] + '…'


def verdict(mutant:Mutant, job:Job)->str:
    if job.code in NOT_RUN: raise SystemExit(f'{job.output[-3000:]}\nthe tests did not run (exit {job.code}): {mutant}')
    if job.code != GREEN: return 'caught'
    return 'harmless' if mutant.harmless else 'SURVIVED'


def main(args=None)->int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--only', default='', metavar='PATTERN', help='regular expression: mutants in whose list, file, texts or reason it is found')
    parser.add_argument('--workers', type=int, default=2, help='processes at a time')
    parser.add_argument('--grace', type=float, default=60, help='seconds that a mutant may take beyond five times what the tests take; then it is a hang')
    parser.add_argument('--root', type=Path, default=Path(__file__).resolve().parent.parent, help='checkout')
    parser.add_argument('--preload', default=PRELOAD, help='modules to import before forking')
    opts = parser.parse_args(args)
    root, mutants = opts.root.resolve(), read_lists(opts.root, opts.only)
    changes, counts, lost = {}, Counter(), []
    for m in mutants:
        try: changes[m] = m.apply(root)
        except (ValueError, OSError) as e: lost.append(f'NOT FOUND  {m.file}  {one_line(m.old)}  ({m.source}: {e})')
    print('\n'.join(lost), end='\n' if lost else '')

    # One thread each: the workers share the cores, and a fork keeps no thread but its own.
    for name in ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS'): os.environ[name] = '1'
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
    for name in opts.preload.split(): importlib.import_module(name)

    with tempfile.TemporaryDirectory(prefix='mutants-') as name:
        folder, files = Path(name).resolve(), by_file(list(changes))
        seconds = unmutated(root, folder, files, opts.workers)
        print(f'{len(files)} files of tests are green without a change ({sum(seconds.values()):.0f} s)', flush=True)

        def job_of(i, m):
            tests = shlex.split(m.tests)
            limit = opts.grace + 5*sum(seconds[f] for f in {t.split('::')[0] for t in tests})
            return Job(root, folder/str(i), tests, limit, (m.file, changes[m][0]))

        jobs = [(m, lambda i=i, m=m: job_of(i, m)) for i, m in enumerate(changes)]
        for m, job in run_jobs(jobs, opts.workers):
            found = verdict(m, job)
            counts[m.file, found] += 1
            end = dict(caught=f'by {first_failure(job)}' if found == 'caught' else '', harmless=m.harmless).get(found, m.why)
            print(f'{found:9} {m.file}:{changes[m][1]}  {one_line(m.old)}  →  {one_line(m.new)}  ({end})', flush=True)

    print(f'\n{"module":24} {"mutants":>8} {"caught":>8} {"survived":>8} {"harmless":>8}')
    names = [*sorted({f for f, _ in counts}), 'all']
    for name in names:
        n = {found: sum(c for (f, v), c in counts.items() if v == found and name in (f, 'all')) for found in ('caught', 'SURVIVED', 'harmless')}
        print(f'{name:24} {sum(n.values()):8} {n["caught"]:8} {n["SURVIVED"]:8} {n["harmless"]:8}')
    if lost: print(f'{len(lost)} not found')
    return int(bool(lost) or any(v == 'SURVIVED' for _, v in counts))


if __name__ == '__main__': sys.exit(main())
