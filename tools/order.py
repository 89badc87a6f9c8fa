"""The order of all pages, read from nbs/PAGES.md, and how long each takes to read."""
import re
from math import ceil
from pathlib import Path
from typing import NamedTuple

from readme import code_of, is_on, option
from run_notebooks import directives, notebooks

ROOT = Path(__file__).resolve().parents[1]
ROW = re.compile(r'^\| \[(?P<title>.+?)\]\((?P<path>[\w/]+\.(?:ipynb|md))\) \| (?P<needs>.*?) \| ?(?P<skip>.*?) ?\|$')
WORDS, LINES, FIGURES = 100, 20, 2  # read in a minute; a picture takes half of one


class Page(NamedTuple):
    path: str  # in nbs/
    title: str
    needs: str  # links, or `nothing`
    skip: str  # completes "Skip it if"; empty where the page says it
    group: str  # heading above the row


def order(root=ROOT):
    "Every page in reading order; a row that is none is an error."
    pages, group = [], ''
    for line in (root/'nbs'/'PAGES.md').read_text(encoding='utf-8').splitlines():
        if line.startswith('## '): group = line[3:]
        if not line.startswith('| [') : continue
        found = ROW.match(line)
        if not found: raise SystemExit(f'nbs/PAGES.md: a row must be | [title](path) | needs | skip it if |, got {line}')
        pages.append(Page(**found.groupdict(), group=group))
    return pages


def missing(root=ROOT):
    "One sentence for each page without a row, and for each row without a page."
    there = {p.relative_to(root/'nbs').as_posix() for p in notebooks(root)} - {'index.ipynb'}
    listed = [p.path for p in order(root)]
    said = [f'nbs/{p} has no row in nbs/PAGES.md: add | [its title]({p}) | what it needs | when to skip it | where it is to be read' for p in sorted(there - set(listed))]
    said += [f'nbs/PAGES.md has a row for {p}, which is no page' for p in listed if not (root/'nbs'/p).exists()]
    return said + [f'nbs/PAGES.md has two rows for {p}' for p in sorted({p for p in listed if listed.count(p) > 1})]


LAST = re.compile(r' ((?:Skip it|You can skip it)\b(?:\[[^]]*\]\([^)]*\)|[^.]|\.(?=\w))*\.)$')

def told_skip(description):
    "(the description without a last sentence on skipping, that sentence)"
    found = LAST.search(description)
    return (description[:found.start()], found[1]) if found else (description, '')


def minutes(cells):
    "How long a page takes, to the next five minutes: words, visible lines of code, figures."
    words = lines = figures = 0
    for cell in cells:
        if cell.cell_type == 'markdown': words += len(re.sub(r'\$\$.*?\$\$', ' x '*20, cell.source, flags=re.S).split())
        if cell.cell_type != 'code' or {'hide', 'default_exp'} & directives(cell).keys() or not is_on(cell, 'include'): continue
        folded = option(cell, 'code-fold') == 'true' or not is_on(cell, 'echo')
        lines += 0 if folded else len([line for line in code_of(cell).splitlines() if line.strip()])
        figures += any('image/png' in o.get('data', {}) for o in cell.get('outputs', []))
        figures += 4*any('text/html' in o.get('data', {}) for o in cell.get('outputs', [])) # a slider wants to be moved
    return 5*ceil((words/WORDS + lines/LINES + figures/FIGURES)/5)
