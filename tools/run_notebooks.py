"""Execute notebooks and store their cleaned outputs, which nbdev 2 cannot do (`nbdev_test` throws them away).

    python tools/run_notebooks.py                        every notebook, in place
    python tools/run_notebooks.py nbs/03_*.ipynb         only these
    python tools/run_notebooks.py --flags slow NB        with the cells marked `#| slow`
    python tools/run_notebooks.py --to DIR NB            leave NB alone, write the executed copy into DIR
    python tools/run_notebooks.py --serve                run what stdin asks for, see `serve`

Cells are skipped by the rules of `nbdev_test`: `#| eval: false`, the `tst_flags` of settings.ini, `skip_exec: true`.
"""
import argparse, atexit, importlib, json, os, subprocess, sys, time, traceback
from pathlib import Path

from execnb.nbio import read_nb, write_nb
from execnb.shell import CaptureShell
from nbdev.clean import clean_nb
from nbdev.config import get_config
from nbdev.frontmatter import FrontmatterProc
from nbdev.process import NBProcessor, extract_directives

from unremix.machine import wait_passively

KERNEL = dict(display_name='python3', language='python', name='python3')

def notebooks(
    root # folder that holds `nbs`
):   # sorted paths, sub-folders included; names starting with _ or . are nbdev's to skip
    "Every notebook of the project."
    nbs = Path(root)/'nbs'
    hidden = lambda p: any(part[0] in '._' for part in p.relative_to(nbs).parts)
    return sorted(p for p in nbs.rglob('*.ipynb') if not hidden(p))

def clean(
    nb # notebook as read by `read_nb`; changed in place
):   # the same notebook
    "What `nbdev_clean` does, and one spelling of the notebook's metadata."
    clean_nb(nb, allowed_cell_metadata_keys=['jupyter'])  # folded solutions; settings.ini tells nbdev_clean the same
    nb['metadata'] = {k: v for k, v in nb['metadata'].items() if k != 'jupytext'} | {'kernelspec': dict(KERNEL)}
    return nb

def directives(cell): return extract_directives(cell, remove=False) or {}

def is_skipped(
    cell, # code or markdown cell
    flags # directives that skip a cell, such as {'slow'}
):      # whether `nbdev_test` would skip it
    "nbdev's rule for one cell."
    if cell.cell_type != 'code' or 'nbdev_export'+'(' in cell.source: return True
    found = directives(cell)
    return found.get('eval:', [''])[0].lower() == 'false' or bool(flags & found.keys())

def skips_everything(path):
    "Whether the front matter says `skip_exec: true`."
    front = getattr(NBProcessor(path, FrontmatterProc, process=True).nb, 'frontmatter_', {})
    return str(front.get('skip_exec', False)).lower() == 'true'

def without_stderr(outputs):
    "Pass warnings on to whoever is watching: stored, they would hold paths of one machine."
    for o in outputs:
        if o.get('name') == 'stderr': sys.stderr.write(''.join(o['text']))
    return [o for o in outputs if o.get('name') != 'stderr']

def run(
    path,    # notebook
    flags=() # flags of `tst_flags` whose cells are to run after all
):         # the executed, cleaned notebook
    "Execute one notebook in this process, from its own folder, as Jupyter would."
    path = Path(path).absolute()
    cfg, nb = get_config(path=path.parent), read_nb(path)
    if skips_everything(path): return clean(nb)
    skip = set(cfg.tst_flags.split()) - set(flags)
    os.chdir(path.parent)
    sys.path.insert(0, str(cfg.config_path))
    shell = CaptureShell(path, mpl_format='png')
    # Without the name of matplotlib's version the same picture is the same bytes.
    shell.run("set_matplotlib_formats('png', metadata={'Software': None})")
    for cell in nb.cells:  # a cell that now shows nothing must not keep what it showed before
        if not is_skipped(cell, skip): cell.outputs = []
    try: shell.run_all(nb, exc_stop=True, preproc=lambda cell: is_skipped(cell, skip))
    except BaseException: sys.exit(shell.prettytb(fname=path.name))
    for cell in nb.cells:
        if 'outputs' in cell: cell.outputs = without_stderr(cell.outputs)
    return clean(nb)

def run_each(paths, options):
    "A fresh process per notebook: seeds, figure styles and patched modules must not leak from one to the next."
    failed = [p for p in paths if subprocess.run([sys.executable, __file__, *options, str(p)]).returncode]
    if failed: sys.exit('failed: ' + ', '.join(str(p) for p in failed))

# What most pages import, which takes longer than most pages take. None of it starts a thread of OpenMP.
COMMON = ('torch', 'torchvision', 'matplotlib.pyplot', 'seaborn', 'pandas', 'scipy.stats', 'sklearn.linear_model',
          'sklearn.model_selection', 'kornia.augmentation', 'lightning_fabric', 'nbdev', 'fastcore.test', 'IPython.display')

def serve():
    """Run pages that are asked for, each in a fork of this process: as fresh as a new process, without the imports.

    A line of stdin is a page in JSON: the project's folder, the notebook, the folder for the copy, the file for what the
    page prints. The answer is the exit status.
    """
    for name in COMMON: importlib.import_module(name)
    while line := sys.stdin.readline():
        root, path, to, log = json.loads(line)
        if pid := os.fork():
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
            continue
        printed = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.chdir(root)
        for there, here in ((nothing, 0), (printed, 1), (printed, 2)): os.dup2(there, here)
        status = 1
        try:
            write_nb(run(path), Path(to)/Path(path).name)
            status = 0
        except SystemExit as e: print(e, file=sys.stderr)
        except BaseException: traceback.print_exc()
        atexit._run_exitfuncs()
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(status)  # to take all modules apart takes longer than a short page

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('notebooks', nargs='*', type=Path)
    parser.add_argument('--flags', default='', help='run the cells marked so, e.g. "slow"')
    parser.add_argument('--to', type=Path, help='folder for the executed copy')
    parser.add_argument('--serve', action='store_true', help='run what stdin asks for')
    args = parser.parse_args()
    wait_passively()  # before a page loads PyTorch
    if args.serve: return serve()
    paths = args.notebooks or notebooks(Path(__file__).resolve().parents[1])
    if len(paths) != 1:
        return run_each(paths, [f'--flags={args.flags}'] + ([f'--to={args.to}'] if args.to else []))
    start, target = time.time(), (args.to/paths[0].name if args.to else paths[0]).absolute()
    write_nb(run(paths[0], args.flags.split()), target)
    print(f'{paths[0]} {time.time()-start:.1f} s')

if __name__ == '__main__':
    main()
