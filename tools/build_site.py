"""Build the site: turn the notebooks' nbdev and Quarto dialect into MyST, then let Sphinx write _docs/.

Nothing is executed (outputs are the committed ones) and nothing is fetched (MathJax comes out of an installed package).
With SITE_REPOSITORY=owner/name in the environment pages link to that repository and to Colab; without it no page links
to a place that may not exist.
"""
import ast, base64, json, os, re, shutil, subprocess, sys
from importlib.metadata import files
from pathlib import Path

from nbdev.config import get_config
from nbdev.doclinks import NbdevLookup
from nbdev.frontmatter import FrontmatterProc
from nbdev.process import NBProcessor

from readme import code_of, is_on, option
from run_notebooks import directives, notebooks

ROOT = Path(__file__).resolve().parents[1]
NAVIGATION = {  # caption: pages in reading order; a pattern stands for its sorted matches
    'Start': ['family', 'which_strategy', 'coming_from', 'glossary'],
    'Tutorials': [f'tutorials/{page}' for page in ('circle', 'first_run', 'how_hard', 'false_negatives', 'your_weighting',
                                                   'your_training_code', 'several_gpus', 'exercises')],
    'Losses': ['library/1[0-8]_*', 'library/38_*', 'library/39_*', 'library/40_*'],
    'Weightings': ['library/2*', 'library/41_*', 'library/43_*'],
    'Relatives': ['library/4[5-9]_*', 'library/19_*', 'library/09_*', 'library/8[67]_*'],
    'Scale': ['library/3[0-4]_*', 'library/44_*'],
    'Images': ['library/5[0-46-8]_*'],
    'Training': ['library/6*'],
    'Comparing': ['library/7*', 'library/42_*', 'library/8[0-5]_*', 'library/9*'],
    'Plumbing': ['library/0[0-8]_*', 'library/3[5-7]_*', 'library/55_*', 'library/59_*', 'names'],
    'Experiments': ['experiments/what_we_found', 'experiments/[a-vx-z]*', 'experiments/LOG']}
HIDDEN = {'hide', 'default_exp', 'exporti'}

def page_name(path):
    "Address without suffix; `library/20_hard_negatives.ipynb` is `library/hard_negatives`, as in nbdev's own links."
    return re.sub(r'(^|/)\d+_', r'\1', re.sub(r'\.(ipynb|md)$', '', str(path)))

def names_in(node):
    "Public names that a top-level statement defines."
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)): found = [node.name]
    else: found = [n.id for t in getattr(node, 'targets', []) for n in ast.walk(t) if isinstance(n, ast.Name)]
    return [n for n in found if n[0] != '_']

def parts(code):
    "[(names, first line of the docstring, code)]: one part per public definition, with what precedes it."
    lines, found, start = code.splitlines(), [], 0
    for node in filter(names_in, ast.parse(code).body):
        doc = ast.get_docstring(node) if hasattr(node, 'body') else None
        found.append((names_in(node), (doc or '').split('\n')[0], '\n'.join(lines[start:node.end_lineno]).strip('\n')))
        start = node.end_lineno
    return found

def to_myst(text, folder, site, lookup):
    "Links, labels and references of markdown, in MyST."
    def link(m): return '](/' + page_name(os.path.normpath(os.path.join(folder, m[1]))) + f'.ipynb{m[2] or ""}'
    text = re.sub(r'\]\((?![a-z]+:)([\w./-]+)\.ipynb(#[^)]*)?(?=\))', link, lookup.linkify(text))
    text = re.sub(re.escape(site) + r'/([\w./-]+)\.html(#\w+)?[\w.]*', r'/\1.ipynb\2', text)
    text = re.sub(r'\$\$\s*\{#(eq-[\w-]+)\}', r'$$ (\1)', text)
    text = re.sub(r'(?<![\w`@])@(eq-[\w-]*\w)', r'{eq}`\1`', text)
    text = re.sub(r'(?<![\w`@])@(fig-[\w-]*\w)', r'{numref}`\1`', text)
    text = re.sub(r'^:::\s*\{\.callout-(\w+)\}', r':::{\1}', text, flags=re.M)
    return re.sub(r'^(#+ .*?)\s*\{#([\w-]+)\}\s*$', r'(\2)=\n\1', text, flags=re.M)

def markdown_cell(cell, text, suffix=''): return dict(cell_type='markdown', id=cell.id + suffix, metadata={}, source=text)

def code_cell(cell, source, suffix='', outputs=(), **metadata):
    return dict(cell_type='code', id=cell.id + suffix, metadata=metadata, source=source, outputs=list(outputs), execution_count=None)

def is_wide(cell):
    "Whether a picture is much wider than high; its size stands in the header of a PNG."
    pictures = [base64.b64decode(''.join(o['data']['image/png'])[:32]) for o in cell.get('outputs', []) if 'image/png' in o.get('data', {})]
    return any(int.from_bytes(p[16:20], 'big') > 2.5*int.from_bytes(p[20:24], 'big') for p in pictures)

def shown(cell):
    "A cell of the story, with its figure, caption and alternative text."
    tags = [tag for name, tag in (('echo', 'remove-input'), ('output', 'remove-output')) if not is_on(cell, name)]
    if option(cell, 'code-fold') == 'true': tags.append('hide-input')
    caption, alt, summary, mystnb = *(option(cell, name) for name in ('fig-cap', 'fig-alt', 'code-summary')), {}
    if caption: mystnb['figure'] = {'caption': caption, 'name': option(cell, 'label', cell.id)}
    if alt: mystnb['image'] = {'alt': alt} | ({'classes': 'wide'} if is_wide(cell) else {})
    if summary: mystnb |= {'code_prompt_show': summary, 'code_prompt_hide': summary}
    return code_cell(cell, code_of(cell), outputs=cell.get('outputs', []), tags=tags, mystnb=mystnb)

def convert(cell, myst):
    "One cell of a notebook as a list of MyST cells; an exported one gets a heading per public name."
    found = directives(cell).keys()
    is_out = found & HIDDEN or not is_on(cell, 'include') or 'nbdev_export()' in cell.source
    if cell.cell_type == 'raw' or is_out or not cell.source.strip(): return []
    if cell.cell_type == 'markdown': return [markdown_cell(cell, myst(cell.source))]
    if not found & {'export', 'exports'}: return [shown(cell)]
    return [c for i, (names, _, part) in enumerate(parts(code_of(cell))) for c in (
        markdown_cell(cell, '\n\n'.join(f'{index_entry(name)}### `{name}`' for name in names), f'-h{i}'), code_cell(cell, part, f'-{i}'))]

def how_to_run(path, repository):
    "Where to get this page as a notebook, and how to run it."
    name = path.as_posix()
    text = f':::{{dropdown}} Run this page\nDownload {{download}}`{path.name} </notebooks/{name}>`, or open `nbs/{name}` of a clone in JupyterLab with `make lab`.\n'
    if repository:
        text += f'[Open it in Colab](https://colab.research.google.com/github/{repository}/blob/main/nbs/{name}). In Colab, put this first'
        bring = f'!git clone --depth 1 https://github.com/{repository} unremix'
    else: # nobody knows yet where a clone would come from
        text += 'For Colab, upload it and what `git archive --prefix=unremix/ -o unremix.zip HEAD` makes of the clone, and put this first'
        bring = '!unzip -q unremix.zip'
    here = '/'.join(('unremix/nbs', *path.parts[:-1]))
    text += '; it installs the package and brings the committed results that some pages read:\n\n'
    return text + f'```ipython\n{bring}\n%pip install -q ./unremix\n%cd {here}\n```\n:::'

def index_entry(words): return f'```{{index}} ! single: {words}\n```\n'  # "!" marks the main entry: the search puts it first

def index_terms(text):
    "Entries for the words that a table of the glossary explains, in front of that table."
    return ''.join(map(index_entry, re.findall(r'^\| \*\*(.+?)\*\* \|', text, re.M))) + text

def convert_page(path, site, lookup, repository):
    "A notebook of nbs/ as a MyST notebook."
    front = (nb := NBProcessor(ROOT/'nbs'/path, FrontmatterProc, rm_directives=False, process=True).nb).frontmatter_
    myst = lambda text: to_myst(index_terms(text) if path.stem == 'glossary' else text, path.parent, site, lookup)
    head = f"# {front['title']}\n\n{index_entry(front['title'])}\n" + (f"*{myst(front['description'])}*" if 'description' in front else '')
    cells = [markdown_cell(nb.cells[0], head, '-top')] + [c for cell in nb.cells for c in convert(cell, myst)]
    cells.insert(len(cells) if path.stem == 'index' else 1, markdown_cell(nb.cells[0], how_to_run(path, repository), '-run'))
    return dict(cells=cells, nbformat=4, nbformat_minor=5, metadata=dict(
        kernelspec=dict(name='python3', display_name='Python 3', language='python'),
        language_info=dict(name='python', pygments_lexer='ipython3')))

def name_table(paths):
    "Markdown of a page that lists every public name, its first line and where it is derived."
    text = '---\nnosearch: true\n---\n\n# All names\n\n*Every public name, and the page that derives it.*\n'
    for path in paths:
        nb = NBProcessor(ROOT/'nbs'/path, FrontmatterProc, rm_directives=False, process=True).nb
        cells = [code_of(c) for c in nb.cells if c.cell_type == 'code' and directives(c).keys() & {'export', 'exports'}]
        rows = [f'| [`{n}`](/{page_name(path)}.ipynb#{n.lower()}) | {doc} |' for code in cells for names, doc, _ in parts(code) for n in names]
        if rows: text += f"\n## {nb.frontmatter_['title']}\n\n| name | |\n|---|---|\n" + '\n'.join(rows) + '\n'
    return text

def toctree(caption, pages, pages_there):
    listed = [p for pattern in pages for p in sorted(q for q in pages_there if Path(q).match(pattern) and q.count('/') == pattern.count('/'))]
    return f'```{{toctree}}\n:hidden:\n:caption: {caption}\n\n' + '\n'.join(page_name(p) for p in listed) + '\n```'

def write_sources(out, repository=None):
    "Fill the folder `out` with what Sphinx reads."
    cfg, lookup = get_config(path=ROOT/'nbs'), NbdevLookup()
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(ROOT/'nbs', out/'notebooks', ignore=shutil.ignore_patterns('.*', '__pycache__', 'images'))
    shutil.copytree(ROOT/'docs', out, dirs_exist_ok=True)
    mathjax = next(f for f in files('sphinx-mathjax-offline') if f.match('mathjax/tex-chtml.js')).locate().parent
    shutil.copytree(mathjax/'output'/'chtml'/'fonts', out/'static'/'mathjax'/'output'/'chtml'/'fonts')
    shutil.copy(mathjax/'tex-chtml.js', out/'static'/'mathjax')
    paths = [p.relative_to(ROOT/'nbs') for p in notebooks(ROOT)]
    pages = [str(p.with_suffix('')) for p in paths if p.stem != 'index'] + ['names']
    (out/'names.md').write_text(name_table(paths), encoding='utf-8')
    for log in (ROOT/'nbs').rglob('*.md'):
        pages.append(str(log.relative_to(ROOT/'nbs').with_suffix('')))
        (out/log.relative_to(ROOT/'nbs').parent).mkdir(exist_ok=True, parents=True)
        shutil.copy(log, out/log.relative_to(ROOT/'nbs'))
    for path in paths:
        page = convert_page(path, cfg.doc_host + cfg.doc_baseurl, lookup, repository)
        if path.stem == 'index':
            trees = '\n\n'.join(toctree(caption, listed, pages) for caption, listed in NAVIGATION.items())
            page['cells'].append(dict(page['cells'][0], id='toctrees', source=trees))
        (target := out/(page_name(path) + '.ipynb')).parent.mkdir(exist_ok=True, parents=True)
        target.write_text(json.dumps(page), encoding='utf-8')

if __name__ == '__main__':
    sources, pages = ROOT/'build'/'site', ROOT/'build'/'html'
    write_sources(sources, os.environ.get('SITE_REPOSITORY'))
    shutil.rmtree(pages, ignore_errors=True)
    sphinx = [sys.executable, '-m', 'sphinx', '-W', '--keep-going', '-q', '-d', ROOT/'build'/'doctrees', sources, pages]
    if subprocess.run(sphinx).returncode: sys.exit('the site has warnings: _docs/ is left as it was')
    shutil.rmtree(ROOT/'_docs', ignore_errors=True)
    shutil.copytree(pages, ROOT/'_docs')
