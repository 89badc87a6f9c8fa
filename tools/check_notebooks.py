"""What has to hold between the notebooks and everything made from them.

Each check takes the project's folder and returns its complaints, an empty list when there are none,
so that tests can ask it about a project that is broken on purpose.
"""
import json, os, re, select, shutil, signal, subprocess, sys
from configparser import ConfigParser
from functools import cache
from pathlib import Path

from execnb.nbio import nb2str, read_nb

import readme
from run_notebooks import clean, directives

RUNNER = Path(__file__).with_name('run_notebooks.py')
BY_HAND = '__init__.py', '__main__.py'  # the files of the package that no notebook makes
# Leading blanks belong to the number: columns are padded by the widest one.
number = re.compile(r' *[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?')

def close(old, new):
    """Numbers at 1e-3, or one unit of the last of three or more decimals; integers exactly.

    Other processors round the last digit of a float32 differently."""
    if not {'.', 'e', 'E'} & {*old, *new}: return old.strip() == new.strip()
    decimals = len(old.partition('.')[2])
    unit = 1.01 * 10.**-decimals if decimals > 2 and 'e' not in old.lower() else 0
    return abs(float(old) - float(new)) <= max(1e-3*abs(float(old)), 1e-6, unit)

def same_text(
    old, # text of a committed output
    new  # text of the fresh one
):     # whether the words are equal and the numbers close
    "Compare what two runs printed."
    pairs = zip(number.findall(old), number.findall(new))
    return number.sub('#', old) == number.sub('#', new) and all(close(a, b) for a, b in pairs)

def shown(output):
    "[(kind, text)]: text where there is text, otherwise only that something of this kind is there."
    if output['output_type'] == 'stream': return [(output['name'], ''.join(output['text']))]
    data = output.get('data', {})
    text = {k: re.sub(r'base64,[\w+/=]+', 'base64', ''.join(v)) if k.startswith('text/') else '' for k, v in data.items()}
    return sorted(text.items())

def same_outputs(old, new):
    "Compare the outputs of one cell."
    old, new = ([part for o in outputs for part in shown(o)] for outputs in (old, new))
    return len(old) == len(new) and all(a[0] == b[0] and same_text(a[1], b[1]) for a, b in zip(old, new))

def difference(cell, old, new):
    "A complaint about one cell that tells what to look for."
    text = lambda outputs: ' | '.join(f'{k}: {v.strip()[:300]}' for o in outputs for k, v in shown(o)) or 'nothing'
    return f"stale output of cell {cell.id}\n{cell.source[:200]}\n  committed: {text(old)}\n  fresh:     {text(new)}"

@cache
def page_server():
    "One process that has loaded what pages import, and forks for each of them; it ends with this process."
    # one thread: beside a test that computes, First run took 147 s with one and 370 s with two (one measurement each)
    env = {'IN_TEST': '1', **os.environ, 'OMP_NUM_THREADS': '1'}
    return subprocess.Popen([sys.executable, RUNNER, '--serve'], env=env, text=True, start_new_session=True,
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE)

def exit_status(root, path, out, log, timeout):
    "Of the notebook, executed into the folder `out`; `TimeoutExpired` if it takes longer, and then it is stopped."
    server = page_server()
    server.stdin.write(json.dumps([str(x) for x in (root, Path(path).absolute(), out, log)]) + '\n')
    server.stdin.flush()
    if select.select([server.stdout], [], [], timeout)[0]:
        if not (told := server.stdout.readline()): raise RuntimeError('the process that runs pages has ended: see its stderr')
        return int(told)
    os.killpg(server.pid, signal.SIGKILL)
    page_server.cache_clear()
    raise subprocess.TimeoutExpired(str(path), timeout)

def check_fresh(
    root,       # the project's folder
    path,       # one notebook
    out,        # folder for the executed copy
    timeout=900 # seconds; a tutorial that trains takes two minutes where nothing else runs
):            # complaints
    "Execute a copy in a process of its own and compare its outputs with the committed ones, cells marked `nondet` excepted."
    log = Path(out)/'printed.txt'
    if exit_status(root, path, out, log, timeout):
        return [f'{Path(path).name} does not run\n{log.read_text(errors="replace")[-4000:]}']
    pairs = [(a, b) for a, b in zip(read_nb(path).cells, read_nb(Path(out)/Path(path).name).cells)
             if a.cell_type == 'code' and 'nondet' not in directives(a)]
    return [difference(a, a.outputs, b.outputs) for a, b in pairs if not same_outputs(a.outputs, b.outputs)]

def check_clean(path):
    "The file is byte for byte what cleaning gives."
    is_clean = Path(path).read_text(encoding='utf-8') == nb2str(clean(read_nb(path)))
    return [] if is_clean else [f'{Path(path).name} is not clean: run `make prepare`']

def check_export(
    root, # the project's folder
    copy  # empty folder
):      # complaints
    "Exporting a copy of the notebooks gives the committed package back, its index included."
    root, copy = Path(root), Path(copy)
    ini = ConfigParser(delimiters=['='])
    ini.read(root/'settings.ini', encoding='utf-8')
    lib = ini['DEFAULT']['lib_path']
    shutil.copytree(root/'nbs', copy/'nbs')
    shutil.copy(root/'settings.ini', copy)
    (copy/lib).mkdir()
    for name in BY_HAND:
        if (root/lib/name).exists(): shutil.copy(root/lib/name, copy/lib)
    env = {k: v for k, v in os.environ.items() if k != 'IN_TEST'}  # nbdev writes no index while it tests
    export = 'from nbdev.doclinks import nbdev_export; nbdev_export.__wrapped__()'
    subprocess.run([sys.executable, '-c', export], cwd=copy, env=env, check=True, capture_output=True)
    files = lambda base: {str(p.relative_to(base)): p.read_text(encoding='utf-8') for p in (base/lib).rglob('*.py')}
    committed, fresh = files(root), files(copy)
    return [f'{f} is not what the notebooks export: run `make prepare`'
            for f in sorted(committed.keys() | fresh.keys()) if committed.get(f) != fresh.get(f)]

def check_readme(root):
    "README.md and its pictures are what nbs/index.ipynb gives."
    root = Path(root)
    if not (root/'nbs'/'index.ipynb').exists(): return ['nbs/index.ipynb is missing: README.md is made from it']
    text, pictures = readme.render(root)
    made = {'README.md': text.encode(), **pictures}
    same = lambda path, data: (root/path).is_file() and (root/path).read_bytes() == data
    return [f'{path} is not what nbs/index.ipynb gives: run `make prepare`' for path, data in made.items() if not same(path, data)]
