"""Build the site: turn the notebooks' nbdev and Quarto dialect into MyST, then let Sphinx write _docs/.

The order of the pages, what each needs and when to skip it are in nbs/PAGES.md: one line per page.
Nothing is executed (outputs are the committed ones) and nothing is fetched (MathJax comes out of an installed package).
With SITE_REPOSITORY=owner/name in the environment pages link to that repository and to Colab; without it no page links
to a place that may not exist.
"""
import ast, base64, builtins, io, json, os, re, shutil, subprocess, sys
from importlib.metadata import files
from pathlib import Path

import minify_html, torch
from nbdev.config import get_config
from nbdev.doclinks import NbdevLookup
from nbdev.frontmatter import FrontmatterProc
from nbdev.process import NBProcessor
from PIL import Image, ImageOps

from order import WORDS, minutes, missing, order, told_skip
from readme import code_of, is_on, option
from reference import names, reference_page, top_names
from run_notebooks import directives, notebooks

ROOT = Path(__file__).resolve().parents[1]
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

def bound_in(code):
    "({name: module of unremix it is imported from}, names that the code binds in another way)."
    imported, bound = {}, set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom):
            ours = (node.module or '').split('.')[0] == 'unremix' or node.level
            home = re.sub(r'^unremix(\.|$)', '', node.module or '')
            for a in node.names:
                name = a.asname or a.name
                if ours and home and name == a.name: imported[name] = home
                elif not ours: bound.add(name)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)): bound.add(node.name)
        elif isinstance(node, ast.arg): bound.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store): bound.add(node.id)
    return imported, bound

class Links(NbdevLookup):
    """Links of names in backticks. A name means what the page's code means by it: what it imports from a module of the package
    or exports itself. Other names that it binds mean nothing of ours. One that it does not bind is the one that `unremix` exports,
    or the only one of that name, unless it is an ordinary word or a method of PyTorch. What is a link already stays."""
    def __init__(self, path=None):
        super().__init__()
        modules = self.entries['unremix']['syms']
        self.homes, self.exported = {}, top_names()
        for module, symbols in modules.items():
            home = module.removeprefix('unremix.')
            for symbol in symbols: self.homes.setdefault(symbol.removeprefix(module + '.'), {})[home] = symbols[symbol][0]
        imported, bound, own = {}, set(), ''
        if path:
            nb = read_page(path)
            cells = [(c, code_of(c)) for c in nb.cells if c.cell_type == 'code' and not code_of(c).lstrip().startswith(('%', '!'))]
            for cell, code in cells:
                found, others = bound_in(code)
                imported |= found
                bound |= others
            own = path.stem.split('_', 1)[-1] if path.parent.name == 'library' else ''
        self.imported, self.bound, self.own = imported, bound, own

    def doc(self, name):
        if '.' in name: return super().doc(name)
        homes = self.homes.get(name, {})
        if self.own in homes: return homes[self.own]
        if name in self.imported: return homes.get(self.imported[name])
        if name in self.bound or is_torchs(name): return None
        if name in self.exported: return homes.get(self.exported[name])
        return next(iter(homes.values())) if len(homes) == 1 and is_unmistakable(name) else None

    def link_line(self, line):
        "Of what is no link already."
        parts = re.split(r'(\[[^][]*\]\([^)]*\))', line)
        return ''.join(part if i % 2 else super(Links, self).link_line(part) for i, part in enumerate(parts))

def is_torchs(name): return any(hasattr(of, name) for of in (torch, torch.Tensor, torch.nn.Module, torch.nn.functional, builtins))

def is_unmistakable(name): return '_' in name.strip('_') or name != name.lower() or name in names()

def to_myst(text, folder, site, lookup):
    "Links, labels and references of markdown, in MyST."
    def link(m): return '](/' + page_name(os.path.normpath(os.path.join(folder, m[1]))) + f'.ipynb{m[2] or ""}'
    text = re.sub(r'\]\((?![a-z]+:)([\w./-]+)\.ipynb(#[^)]*)?(?=\))', link, lookup.linkify(text) or '')
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

EXTRAS = { # of settings.ini: what the code of a page that needs it names
    'dev': 'nbdev', 'bench': 'lightly|pytorch_metric_learning', 'ot': 'transport|solved_weights',
    'text': r'text_(?:data|encoder|scores|task)|sentence_(?:loss|transformers)|--modality text',
    'graph': r'graph_(?:data|encoder|scores|task)|torch_geometric|networkx|--modality graph',
    'export': 'safetensors|onnx|timm|pyarrow', 'loggers': 'wandb|tensorboard', 'notebook': 'ipywidgets|LiveCurves'}
BESIDE = {'fastcore': 'fastcore', 'beautifulsoup4': 'bs4'}

def to_install(path):
    "What pip is given for a page: the library with the extras that its code names, and packages beside it."
    cells = json.loads((ROOT/'nbs'/path).read_text(encoding='utf-8'))['cells']
    code = '\n'.join(''.join(cell['source']) for cell in cells if cell['cell_type'] == 'code')
    extras, beside = ([name for name, words in table.items() if re.search(words, code)] for table in (EXTRAS, BESIDE))
    return ' '.join([f"'./unremix[{','.join(extras)}]'" if extras else './unremix', *beside])

def how_to_run(path, repository):
    "Where to get this page as a notebook, and how to run it."
    name = path.as_posix()
    text = f':::{{dropdown}} Run this page\nDownload {{download}}`{path.name} </notebooks/{name}>`, or open `nbs/{name}` of a clone in JupyterLab with `make lab`, which installs what all pages need.\n'
    if repository:
        text += f'[Edit it](https://github.com/{repository}/edit/main/nbs/{name}). [Open it in Colab](https://colab.research.google.com/github/{repository}/blob/main/nbs/{name}). In Colab, put this first'
        bring = f'!git clone --depth 1 https://github.com/{repository} unremix'
    else: # nobody knows yet where a clone would come from
        text += 'For Colab, upload it and what `git archive --prefix=unremix/ -o unremix.zip HEAD` makes of the clone, and put this first'
        bring = '!unzip -q unremix.zip'
    here = '/'.join(('unremix/nbs', *path.parts[:-1]))
    text += '; it installs the package and what else the page imports, and brings the committed results that some pages read:\n\n'
    return text + f'```ipython\n{bring}\n%pip install -q {to_install(path)}\n%cd {here}\n```\n:::'

def lighter(path):
    "A notebook without its outputs, which the page shows and a run makes again."
    nb = json.loads(path.read_text(encoding='utf-8'))
    for cell in nb['cells']:
        if cell['cell_type'] == 'code': cell['outputs'] = []
    path.write_text(json.dumps(nb, ensure_ascii=False, separators=(',', ':')) + '\n', encoding='utf-8')

def smaller_picture(path):
    "With a palette and as lossless WebP, where that is smaller; the new name."
    small, palette = io.BytesIO(), Image.open(path).convert('RGB').quantize(128, dither=Image.Dither.NONE)
    palette.convert('RGB').save(small, 'webp', lossless=True, method=6)
    if small.tell() >= path.stat().st_size: return path.name
    path.unlink()
    path = path.with_suffix('.webp')
    path.write_bytes(small.getvalue())
    return path.name

def smaller_page(path, pictures):
    "Fewer elements, pictures by their new names, no icon that nobody uses, and no quotation mark or blank that says nothing."
    html = re.sub(r'(?<=_images/)[\w-]+\.png', lambda name: pictures[name[0]], fewer_spans(path.read_text(encoding='utf-8')))
    icons = lambda found: found[0] if f'"#{found[1]}"' in html else ''
    html = re.sub(r'<symbol id="([\w-]+)".*?</symbol>', icons, html, flags=re.S)
    path.write_text(minify_html.minify(html, keep_closing_tags=True, keep_html_and_head_opening_tags=True), encoding='utf-8')

def fewer_spans(html):
    """Names, brackets and blanks in code have the colour of the code, so they need no element of their own, and operators
    get that colour too. Words of code in a sentence have no look of their own. Blanks in front of a line count in code
    and scripts alone. The list of all pages stands on every page, and of its classes the theme reads two. All of it
    keeps the site small."""
    html = re.sub(r'<span class="([nwpo]|pre)">([^<]*)</span>', r'\2', html)
    before, opens, rest = html.partition('<div class="sidebar-tree">')
    tree, closes, after = rest.partition('</aside>')
    tree = re.sub(r'<li class="toctree-l[^1]">', '<li>', tree).replace('class="reference internal"', 'class="reference"')
    html = before + opens + tree + closes + after
    parts = re.split(r'(<(pre|textarea|script|style)\b.*?</\2>)', html, flags=re.S)
    # text, what is kept, its tag; and again
    parts = [re.sub(r'\n\s+', '\n', part) if i % 3 == 0 else part for i, part in enumerate(parts) if i % 3 != 2]
    return ''.join(parts)

def index_entry(words): return f'```{{index}} ! single: {words}\n```\n'  # "!" marks the main entry: the search puts it first

def index_terms(text, titles):
    "Entries for the words that a table of the glossary explains, in front of it; a page of that name comes first."
    words = re.findall(r'^\| \*\*(.+?)\*\* \|', text, re.M)
    has_page = lambda word: any(title.lower() in (word.lower(), word.lower() + 's') for title in titles)
    return ''.join(index_entry(w).replace('! ', '' if has_page(w) else '! ') for w in words) + text

def signs(row, time, told, myst):
    "The line under a title: how long, what it needs, when to skip it."
    skip = told or (f'Skip it if {myst(row.skip)}.' if row.skip else '')
    return f':::{{div}} signs\n**{time} minutes.** Needs {myst(row.needs)}. {skip}\n:::\n'

def read_page(path): return NBProcessor(ROOT/'nbs'/path, FrontmatterProc, rm_directives=False, process=True).nb

def convert_page(path, site, repository, row=None):
    "A notebook of nbs/ as a MyST notebook, with the signs of its row in the table of pages."
    front = (nb := read_page(path)).frontmatter_
    front['description'], told = told_skip(front['description'])
    lookup, in_general = Links(path), Links()
    from_nbs = lambda text: to_myst(text, Path(), site, in_general)  # rows of the table have links from nbs/
    titles = [r.title for r in order()]
    myst = lambda text: to_myst(index_terms(text, titles) if path.stem == 'glossary' else text, path.parent, site, lookup)
    head = f"# {front['title']}\n\n{index_entry(front['title'])}\n*{myst(front['description'])}*\n"
    if row: head += '\n' + signs(row, minutes(nb.cells), myst(told), from_nbs)
    cells = [markdown_cell(nb.cells[0], head, '-top')] + [c for cell in nb.cells for c in convert(cell, myst)]
    if path.stem == 'index': cells = landing(cells, repository)
    cells.append(markdown_cell(nb.cells[0], how_to_run(path, repository), '-run'))
    return dict(cells=cells, nbformat=4, nbformat_minor=5, metadata=dict(
        kernelspec=dict(name='python3', display_name='Python 3', language='python'),
        language_info=dict(name='python', pygments_lexer='ipython3')))

def name_table(paths):
    "Markdown of a page that lists every public name, its first line and where it is derived."
    text = '---\nnosearch: true\n---\n\n# All names\n\n*Every public name, and the page that derives it.*\n'
    for path in paths:
        nb = read_page(path)
        cells = [code_of(c) for c in nb.cells if c.cell_type == 'code' and directives(c).keys() & {'export', 'exports'}]
        rows = [f'| [`{n}`](/{page_name(path)}.ipynb#{n.lower()}) | {doc} |' for code in cells for names, doc, _ in parts(code) for n in names]
        if rows: text += f"\n## {nb.frontmatter_['title']}\n\n| name | |\n|---|---|\n" + '\n'.join(rows) + '\n'
    return text

def toctree(caption, pages):
    return f'```{{toctree}}\n:hidden:\n' + (f':caption: {caption}\n' if caption else '') + '\n' + '\n'.join(pages) + '\n```\n'

# ---------------------------------------------------------------- groups of pages

PARTS = { # heading in nbs/PAGES.md: what its pages are about
    'Tutorials': 'One idea each, with pictures and a question to think about first.',
    'Library: losses': 'From an embedding to a loss, one step a page.',
    'Library: weightings': 'How much does each negative count? HCL, UnReMix and their parts.',
    'Library: relatives': 'What others do about negatives: bands, synthesis, labels, batches.',
    'Library: scale': 'Large batches, long queues, several processes.',
    'Library: training': 'Images, encoders, and the loop from the first step to the last.',
    'Library: judging': 'What is a strategy worth, and what is only luck?',
    'Library: own images': 'Take the encoder along, and find copies, wrong labels and false negatives.',
    'Library: beyond images': 'Sentences, captions and graphs: the same losses, other negatives.',
    'Library: plumbing': 'What the other pages stand on. Nobody has to read it.',
    'Experiments': 'What we measured, on how many seeds, and what it cannot tell.'}

def slug(group): return group.split(': ')[-1].lower().replace(' ', '-')

def thumbnail(cells, out, name):
    "The first figure of a page as a small picture; its address and description, or nothing."
    for cell in cells:
        for data in (o.get('data', {}) for o in cell.get('outputs', [])):
            if 'image/png' not in data: continue
            picture = Image.open(io.BytesIO(base64.b64decode(''.join(data['image/png'])))).convert('RGB')
            picture = ImageOps.pad(picture, (400, 250), color='white')
            (target := out/'static'/'thumbnails'/f'{name}.png').parent.mkdir(exist_ok=True, parents=True)
            picture.quantize(16, dither=Image.Dither.NONE).save(target, optimize=True)
            return f':img-top: /static/thumbnails/{name}.png\n:img-alt: {option(cell, "fig-alt", "a figure of the page")}\n'
    return ''

def card(row, out, myst):
    "A page in a gallery: a picture, a sentence, minutes."
    if row.path.endswith('.md'): return f':::{{grid-item-card}} {row.title}\n:link: /{page_name(row.path)}\n:link-type: doc\n:::\n'
    nb = read_page(row.path)
    picture = thumbnail(nb.cells, out, page_name(row.path).replace('/', '-'))
    description = re.sub(r'\[([^]]*)\]\([^)]*\)', r'\1', nb.frontmatter_['description'])
    sentence = re.match(r'.*?[.?!](?= |$)', description)[0]
    head = f':::{{grid-item-card}} {row.title}\n:link: /{page_name(row.path)}\n:link-type: doc\n{picture}\n'
    return f'{head}{sentence} *{minutes(nb.cells)} minutes.*\n:::\n'

def part_page(group, rows, out, myst):
    "A page that lists the pages of a group, as cards."
    title = group.split(': ')[-1].capitalize()
    cards = '\n'.join(card(row, out, myst) for row in rows)
    return f'---\nnosearch: true\n---\n\n# {title}\n\n*{PARTS[group]}*\n\n::::{{grid}} 1 2 2 3\n:gutter: 3\n\n{cards}\n::::\n\n' + toctree('', ['/' + page_name(r.path) for r in rows])

def navigation(rows):
    "The toctrees of the front page: {caption: pages}."
    of = lambda group: [page_name(r.path) for r in rows if r.group == group]
    groups = list(dict.fromkeys(r.group for r in rows))
    unknown = [g for g in groups if g not in PARTS and g not in ('Start', 'Look up')]
    if unknown: raise SystemExit(f'nbs/PAGES.md: the heading {unknown[0]} has no line in PARTS of tools/build_site.py')
    look_up = of('Look up')
    return {'Start': of('Start') + ['parts/tutorials'],
            'Library': [f'parts/{slug(g)}' for g in groups if g.startswith('Library: ')],
            'Experiments': ['parts/experiments'],
            'Look up': ['reference', *look_up[:-1], 'names', 'PAGES', 'changelog', 'contributing', 'citation', look_up[-1]]}

# ---------------------------------------------------------------- the front page, and files of the root

def landing(cells, repository):
    "The front page: a clone line where there is an address to clone from, and doors that look like doors."
    for cell in cells:
        if repository: cell['source'] = cell['source'].replace('pip install .    # in a clone', f'git clone --depth 1 https://github.com/{repository}\npip install ./{repository.split("/")[1]}')
        cell['source'] = cell['source'].replace('](/../', '](/')
    return cells

def of_root(name, title, repository):
    "A file of the root as a page; links to places outside the site become links to the repository, or plain text."
    text = (ROOT/name).read_text(encoding='utf-8')
    if name.endswith('.cff'): return f'# {title}\n\nIf you use unremix, please cite it and the papers whose methods you use. The same as `CITATION.cff`:\n\n```yaml\n{text}```\n'
    inside = lambda m: f'[{m[1]}](/{page_name(m[2])}.ipynb{m[3] or ""})'
    text = re.sub(r'\[([^]]*)\]\(nbs/([\w/]+)\.ipynb(#[\w-]+)?\)', inside, text)
    there = lambda m: f'[{m[1]}](https://github.com/{repository}/blob/main/{m[2]})' if repository else m[1]
    return re.sub(r'\[([^]]*)\]\((?![a-z]+:|/)([\w./-]+)\)', there, text)

def write_sources(out, repository=None):
    "Fill the folder `out` with what Sphinx reads."
    cfg, lookup = get_config(path=ROOT/'nbs'), Links()
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(ROOT/'nbs', out/'notebooks', ignore=shutil.ignore_patterns('.*', '__pycache__', 'images'))
    for path in (out/'notebooks').rglob('*.ipynb'): lighter(path)
    shutil.copytree(ROOT/'docs', out, dirs_exist_ok=True)
    mathjax = next(f for f in files('sphinx-mathjax-offline') if f.match('mathjax/tex-chtml.js')).locate().parent
    shutil.copytree(mathjax/'output'/'chtml'/'fonts', out/'static'/'mathjax'/'output'/'chtml'/'fonts')
    shutil.copy(mathjax/'tex-chtml.js', out/'static'/'mathjax')
    paths = [p.relative_to(ROOT/'nbs') for p in notebooks(ROOT)]
    if said := missing(): raise SystemExit('\n'.join(said))
    site, rows = cfg.doc_host + cfg.doc_baseurl, order()
    myst = lambda text: to_myst(text, Path(), site, lookup)
    of_path = {r.path: r for r in rows}
    (out/'names.md').write_text(name_table(paths), encoding='utf-8')
    (out/'reference.md').write_text(reference_page(paths, page_name), encoding='utf-8')
    for name, title in {'CHANGELOG.md': 'Changes', 'CONTRIBUTING.md': 'Contributing', 'CITATION.cff': 'How to cite'}.items():
        (out/f'{Path(name).stem.lower()}.md').write_text(of_root(name, title, repository), encoding='utf-8')
    (out/'PAGES.md').write_text('---\nnosearch: true\n---\n\n' + myst((ROOT/'nbs'/'PAGES.md').read_text(encoding='utf-8')).replace('LOG.md)', 'LOG.md)'), encoding='utf-8')
    log = of_path['experiments/LOG.md']
    told = (ROOT/'nbs'/log.path).read_text(encoding='utf-8')
    (out/log.path).parent.mkdir(exist_ok=True, parents=True)
    time = 5*round(len(told.split())/WORDS/5)
    (out/log.path).write_text(told.replace('\n', '\n\n' + signs(log, time, '', myst), 1), encoding='utf-8')
    (out/'parts').mkdir()
    for group in dict.fromkeys(r.group for r in rows):
        if group in PARTS: (out/'parts'/f'{slug(group)}.md').write_text(part_page(group, [r for r in rows if r.group == group], out, myst), encoding='utf-8')
    for path in paths:
        page = convert_page(path, site, repository, of_path.get(path.as_posix()))
        if path.stem == 'index':
            trees = '\n\n'.join(toctree(caption, listed) for caption, listed in navigation(rows).items())
            page['cells'].append(dict(page['cells'][0], id='toctrees', source=trees))
        (target := out/(page_name(path) + '.ipynb')).parent.mkdir(exist_ok=True, parents=True)
        target.write_text(json.dumps(page), encoding='utf-8')

def asked_repository():
    "`SITE_REPOSITORY`, or None where it is empty or not set."
    found = os.environ.get('SITE_REPOSITORY') or None
    if found and not re.fullmatch(r'[\w.-]+/[\w.-]+', found): raise SystemExit(f'SITE_REPOSITORY must be owner/name, got {found!r}')
    return found

if __name__ == '__main__':
    repository = asked_repository()
    sources, pages = ROOT/'build'/'site', ROOT/'build'/'html'
    write_sources(sources, repository)
    shutil.rmtree(pages, ignore_errors=True)
    sphinx = [sys.executable, '-m', 'sphinx', '-W', '--keep-going', '-q', '-d', ROOT/'build'/'doctrees', sources, pages]
    if subprocess.run(sphinx).returncode: sys.exit('the site has warnings: _docs/ is left as it was')
    base = '/' + (repository or '/').split('/')[1]  # a host shows this page at any address
    lost = pages/'404.html'
    lost.write_text(lost.read_text(encoding='utf-8').replace('<head>', f'<head><base href="{base.rstrip("/")}/">', 1), encoding='utf-8')
    pictures = {path.name: smaller_picture(path) for path in [*(pages/'_images').glob('*.png')]}
    for path in pages.rglob('*.html'): smaller_page(path, pictures)
    shutil.rmtree(ROOT/'_docs', ignore_errors=True)
    shutil.copytree(pages, ROOT/'_docs', ignore=shutil.ignore_patterns('*.map'))  # they are for who debugs the theme
