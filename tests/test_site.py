"The site: nothing of the notebooks is lost on the way to it, and it works in a real browser without a network."
import ast, base64, http.server, os, re, shutil, subprocess, sys, threading
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin

import pytest
from axe_playwright_python.sync_playwright import Axe
from bs4 import BeautifulSoup
from execnb.nbio import read_nb
from playwright.sync_api import sync_playwright

import build_site
from order import order
from run_notebooks import directives, notebooks

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT/'_docs'
SIZE = 20_000_000  # bytes of the whole site
BROWSER = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
NOTEBOOKS = [p.relative_to(ROOT/'nbs') for p in notebooks(ROOT)]
ORDER = [build_site.page_name(row.path) + '.html' for row in order()]
PARTS = {f'parts/{build_site.slug(group)}.html' for group in build_site.PARTS}
MADE = {'reference.html', 'names.html', 'PAGES.html', 'changelog.html', 'contributing.html', 'citation.html'}
PAGES = sorted({build_site.page_name(p) + '.html' for p in NOTEBOOKS} | {'experiments/LOG.html'} | PARTS | MADE)

@pytest.fixture(scope='session')
def site():
    "{address: parsed page} of a site built from nothing; a warning of Sphinx is a failure."
    for folder in (SITE, ROOT/'build'/'doctrees'): shutil.rmtree(folder, ignore_errors=True)
    done = subprocess.run([sys.executable, ROOT/'tools'/'build_site.py'], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {p.relative_to(SITE).as_posix(): BeautifulSoup(p.read_text(encoding='utf-8'), 'html.parser') for p in SITE.rglob('*.html')}

@pytest.mark.parametrize('asked,found', [(None, None), ('', None), ('me/my.site', 'me/my.site')])
def test_the_repository_of_the_site(asked, found, monkeypatch):
    monkeypatch.delenv('SITE_REPOSITORY', raising=False)
    if asked is not None: monkeypatch.setenv('SITE_REPOSITORY', asked)
    assert build_site.asked_repository() == found

@pytest.mark.parametrize('asked', ['unremix', 'me/', '/', 'a/b/c'])
def test_another_repository_is_refused_before_the_build(asked, monkeypatch):
    monkeypatch.setenv('SITE_REPOSITORY', asked)
    with pytest.raises(SystemExit, match='SITE_REPOSITORY must be owner/name, got'): build_site.asked_repository()

def test_names_link_to_what_they_mean():
    "Without building: ambiguous names, ordinary words, methods of PyTorch, and names that a page imports."
    general = build_site.Links()
    at = lambda name, of=general: (of.doc(name) or '').split('/')[-1]
    assert at('across') == 'rules.html#across' and at('HCL') == 'hard_negatives.html#hcl'
    assert at('compare') == ''  # of embeddings, or of runs
    assert [at(word) for word in ('train', 'softplus', 'negatives', 'chance', 'best', 'sign')] == ['']*6
    assert at('load_encoder') == 'kept_encoder.html#load_encoder' and at('KeyQueue.push') == 'queue.html#keyqueue.push'
    page = lambda name: build_site.Links(next(p for p in NOTEBOOKS if build_site.page_name(p) == name))
    assert at('softplus', page('library/jensen_shannon')) == 'jensen_shannon.html#softplus'
    assert at('train', page('library/train')) == 'train.html#train'
    assert at('compare', page('library/contrast')) == 'contrast.html#compare'
    assert at('negatives', page('library/companions')) == ''

def test_a_name_that_a_page_binds_is_its_own():
    imported, bound = build_site.bound_in('from unremix.rules import views\nfrom torch import randn\ntable = randn(3)\n'
        'def f(shares): return [a for a in shares]')
    assert imported == {'views': 'rules'} and bound == {'randn', 'table', 'f', 'shares', 'a'}

def test_a_link_stays_one_link():
    text = 'a [`load_encoder`](kept.ipynb) and `load_encoder`, `torch.load`'
    told = build_site.Links().linkify(text)
    assert told.startswith('a [`load_encoder`](kept.ipynb) and [`load_encoder`](https://') and told.count('](') == 3

# ---------------------------------------------------------------- nothing is lost

@pytest.mark.parametrize('name', PAGES)
def test_no_raw_markdown(site, name):
    "A link of markdown, or a reference to an equation, that nobody has resolved."
    text = site[name].select_one('article').get_text()
    assert re.findall(r'.{0,40}\]\((?:\.\./|/)?[\w/]*(?:library/|experiments/|tutorials/|\.ipynb).{0,40}|.{0,40}@(?:eq|fig)-(?!name).{0,20}', text) == []

def test_all_pages_are_there_and_in_the_navigation(site):
    links = {unquote(a['href']) for a in site['index.html'].select('.sidebar-tree a')}
    assert set(PAGES) <= site.keys() and set(PAGES) - {'index.html'} <= links

def follows(site, first):
    "Addresses that the footer's link to the next page leads through."
    found, here = [], first
    while here not in found:
        found.append(here)
        onward = site[here].select_one('a.next-page')
        if onward is None: break
        here = urldefrag(urljoin(f'http://site/{here}', unquote(onward['href'])))[0].removeprefix('http://site/')
    return found

def test_one_order(site):
    "The sidebar and the footer lead through the pages as nbs/PAGES.md lists them."
    sidebar = [unquote(a['href']) for a in site['index.html'].select('.sidebar-tree a')]
    footer = follows(site, 'index.html')
    of_pages = lambda links: [link for link in links if link in ORDER]
    assert of_pages(sidebar) == of_pages(footer) == ORDER
    assert set(footer) == set(PAGES) and footer[1] == 'tour.html' and footer[-1] == 'glossary.html'

@pytest.mark.parametrize('name', ORDER)
def test_every_page_has_signs(site, name):
    [signs] = site[name].select('article .signs')
    told = signs.get_text() + ''.join(e.get_text() for e in site[name].select('h1 ~ p')[:1])
    assert re.search(r'\d+ minutes\. Needs .+\.', signs.get_text()) and re.search(r'\bskip it\b', told, re.I)

def test_the_reference_has_each_name(site):
    import reference
    names = {h.get_text().rstrip('¶').split(' ')[0] for h in site['reference.html'].select('h3')}
    assert {n.replace('compare_embeddings', 'compare') for n in reference.names()} == names

def test_text_of_figures_can_be_read():
    "At the width of the text a letter of a figure has nine pixels or more."
    small = []
    for path in NOTEBOOKS:
        for cell in read_nb(ROOT/'nbs'/path).cells:
            for data in (o.get('data', {}) for o in cell.get('outputs', [])):
                if 'image/png' not in data: continue
                width = int.from_bytes(base64.b64decode(''.join(data['image/png'])[:32])[16:20], 'big')
                points = min([10, *map(float, re.findall(r'(?:font)?size=(\d+(?:\.\d+)?)[,)]', ''.join(re.findall(r'fontsize=[\d.]+[,)]', cell.source))))])
                if points*100/72*min(1, 736/width) < 9: small.append((str(path), cell.id, width, points))
    assert not small

def test_the_site_is_small(site):
    assert sum(p.stat().st_size for p in SITE.rglob('*') if p.is_file()) < SIZE

def defined_in(module):
    "Public names that an exported module defines, read from the module and not from the notebook."
    tree = ast.parse((ROOT/'unremix'/f'{module}.py').read_text(encoding='utf-8'))
    exported = next(ast.literal_eval(n.value) for n in tree.body if isinstance(n, ast.Assign) and n.targets[0].id == '__all__')
    targets = [t for n in tree.body for t in (n.targets if isinstance(n, ast.Assign) else [n])]
    here = {getattr(t, 'name', getattr(t, 'id', '')) for t in targets} | {e.id for t in targets if isinstance(t, ast.Tuple) for e in t.elts}
    return here & set(exported)

def pictures(path):
    "Alternative text of every picture that a reader of the notebook sees."
    cells = [c for c in read_nb(ROOT/'nbs'/path).cells if c.cell_type == 'code' and not {'hide', 'include:'} & directives(c).keys()]
    alt = lambda c: ''.join(re.findall(r'^#\|\s*fig-alt:\s*"?(.*?)"?\s*$', c.source, re.M))
    return [alt(c) for c in cells for o in c.outputs if 'image/png' in o.get('data', {})]

@pytest.mark.parametrize('path', NOTEBOOKS, ids=str)
def test_no_exported_name_and_no_figure_is_lost(site, path):
    page = site[build_site.page_name(path) + '.html']
    module = re.search(r'#\|\s*default_exp (\w+)', (ROOT/'nbs'/path).read_text(encoding='utf-8'))
    names = defined_in(module[1]) if module else set()
    assert names <= {h.get_text().rstrip('¶') for h in page.select('h3')}
    assert [i['alt'] for i in page.select('article img:not([src^="data:"])')] == pictures(path)
    assert all(i.get('alt', '').strip() for i in page.select('article img'))
    assert names <= {a.get_text() for a in site['names.html'].select('article a')}

@pytest.mark.parametrize('path', NOTEBOOKS, ids=str)
def test_every_page_offers_its_notebook(site, path):
    page = build_site.page_name(path) + '.html'
    [link] = site[page].select('a.download')
    given = read_nb((SITE/page).parent.joinpath(unquote(link['href'])))
    same = lambda cell: (cell.cell_type, cell.source, cell.metadata)
    assert [same(c) for c in given.cells] == [same(c) for c in read_nb(ROOT/'nbs'/path).cells]
    assert 'Colab' in link.find_parent('details').get_text() and 'make lab' in link.find_parent('details').get_text()

def test_internal_links_and_anchors_resolve(site):
    ids = {name: {e['id'] for e in page.select('[id]')} for name, page in site.items()}
    broken = []
    for name, page in site.items():
        for a in page.select('a[href]'):
            target, anchor = urldefrag(unquote(urljoin(f'http://site/{name}', a['href'])))
            if not target.startswith('http://site/'): continue
            target = target.removeprefix('http://site/') or 'index.html'
            if not (SITE/target).exists() or anchor and target.endswith('.html') and anchor not in ids[target]: broken.append((name, a['href']))
    assert not broken

def test_no_link_to_a_place_that_may_not_exist(site):
    placeholders = [(n, a['href']) for n, page in site.items() for a in page.select('a[href]') if re.search(r'unremix\.github\.io|github\.com/unremix', a['href'])]
    assert not placeholders

def test_with_a_repository_pages_link_to_it(tmp_path):
    build_site.write_sources(tmp_path/'site', 'somebody/somewhere')
    page = (tmp_path/'site'/'tutorials'/'circle.ipynb').read_text(encoding='utf-8')
    assert 'https://colab.research.google.com/github/somebody/somewhere/blob/main/nbs/tutorials/circle.ipynb' in page
    assert 'git clone --depth 1 https://github.com/somebody/somewhere' in page

# ---------------------------------------------------------------- in a browser

OFFLINE = ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync',
           '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1']  # a request to another host fails, and `visit` complains

@pytest.fixture(scope='session')
def address(site):
    "The site served on this machine."
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args): super().__init__(*args, directory=SITE)
        def log_message(self, *args): pass
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{server.server_port}/'
        server.shutdown()

@pytest.fixture(scope='module') # Playwright's loop must have ended before another file opens its own
def browser():
    if BROWSER is None:
        say = pytest.fail if os.environ.get('BROWSER_TESTS') == 'required' else pytest.skip
        say('no Chromium: `make browser` installs it')
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=BROWSER, args=OFFLINE)

@pytest.fixture(scope='module')
def window(browser):
    "One for all pages, so that what they share, such as MathJax, is loaded and compiled once."
    return browser.new_context(viewport={'width': 1280, 'height': 900})

TYPESET = 'async () => { if (window.MathJax) await MathJax.startup.promise }'

def listen(page, address):
    "What is said on the console from now on, and every request to another host."
    heard = []
    def asked(request):
        if not request.url.startswith((address, 'data:', 'blob:')): heard.append(f'request to {request.url}')
    page.on('request', asked)
    page.on('console', lambda m: heard.append(m.text) if m.type in ('error', 'warning') else None)
    page.on('pageerror', lambda error: heard.append(str(error)))
    return heard

@pytest.fixture
def visit(window, address):
    "Open a page; afterwards, fail on what `listen` heard."
    pages, heard = [], []
    def visit(name):
        pages.append(page := window.new_page())
        heard.append(listen(page, address))
        page.goto(address + name)
        page.evaluate(TYPESET)
        return page
    yield visit
    for page in pages:
        if page.is_closed(): continue
        page.evaluate('localStorage.clear()')  # the next page is a newcomer's
        page.close()
    assert not sum(heard, [])

def test_a_request_to_another_host_and_an_error_are_heard(window, address):
    page = window.new_page()
    heard = listen(page, address)
    page.goto(address + '404.html')
    assert heard == []
    page.evaluate("() => fetch('http://elsewhere.invalid/').catch(() => console.error('a mistake'))")
    page.close()
    assert 'request to http://elsewhere.invalid/' in heard and 'a mistake' in heard

def too_wide(page):
    "What sticks out of the window, or of the text in the case of inline mathematics."
    return page.evaluate("""() => {
        const wide = document.documentElement.scrollWidth > innerWidth ? ['the page'] : [];
        for (const m of document.querySelectorAll('p > .math mjx-container'))
            if (m.getBoundingClientRect().right > m.closest('p').getBoundingClientRect().right + 1) wide.push(m.parentElement.outerHTML.slice(0, 300));
        return wide }""")

def violations(page, context=None, **rules):
    "Serious violations of accessibility, found by axe-core on the page, or within what a selector names."
    found = Axe().run(page, context, options={'resultTypes': ['violations'], **rules}).response['violations']
    return [(v['id'], len(v['nodes']), v['nodes'][0]['html'][:200]) for v in found if v['impact'] in ('serious', 'critical')]

NO_COLOURS = {'rules': {'color-contrast': {'enabled': False}}}  # they take most of the time, see below

@pytest.mark.parametrize('name', PAGES)
def test_page_works(visit, site, name):
    page = visit(name)
    assert page.locator('article mjx-container').count() == len(site[name].select('article .math'))
    assert page.locator('mjx-merror').count() == 0
    assert not too_wide(page) and not violations(page, **NO_COLOURS)
    scrolling = "[...document.querySelectorAll('article .cell_input pre')].filter(e => e.offsetParent && e.scrollWidth > e.clientWidth + 1).map(e => e.textContent.slice(0, 200))"
    assert page.evaluate(scrolling) == []
    page.set_viewport_size({'width': 390, 'height': 900})
    assert not too_wide(page)

def kinds(page):
    "What gives an element its colours: tag, classes and style, its own and its parent's."
    def own(e): return e.name, *sorted(e.get('class', [])), e.get('style', '')
    return {(own(e), own(e.parent)) for e in page.body.find_all(True)}

def some_pages(site):
    "So many pages that each kind of element is on one of them."
    of_page = {name: kinds(site[name]) for name in PAGES}
    left, chosen = set().union(*of_page.values()), []
    while left:
        chosen.append(max(PAGES, key=lambda name: len(of_page[name] & left)))
        left -= of_page[chosen[-1]]
    return chosen

MARK = """() => {
    const of = e => [e.tagName, e.getAttribute('class'), e.getAttribute('style')].join(' ');
    const kind = e => e ? kind(e.parentElement) + ' > ' + of(e) : '';
    const says = e => [...e.childNodes].some(n => n.nodeType === Node.TEXT_NODE && n.data.trim());
    const seen = new Set();
    for (const e of document.body.querySelectorAll('*')) {
        if (!says(e) || !e.checkVisibility()) continue;
        if (!seen.has(kind(e))) e.dataset.kind = '';
        seen.add(kind(e));
    }
    return seen.size }"""

def unreadable(page):
    "Text of too little contrast: of all elements that say something, the first of each kind by itself and all its ancestors."
    assert page.evaluate(MARK) > 20
    return violations(page, '[data-kind]', runOnly=['color-contrast'])

def test_every_kind_of_element_has_contrast(visit, site):
    "In the light and in the dark; style sheets give equal elements equal colours on every page."
    chosen = some_pages(site)
    assert 10 < len(chosen) < 40
    found = {}
    for name in chosen:
        page = visit(name)
        for scheme in ('light', 'dark'):
            page.emulate_media(color_scheme=scheme)
            found[name, scheme] = unreadable(page)
        page.close()
    assert not {where: what for where, what in found.items() if what}

@pytest.mark.parametrize('where', ['article p', 'article pre span.kn', '.sidebar-tree a', 'footer a'])
def test_little_contrast_is_found(visit, where):
    page = visit('tour.html')
    page.evaluate("where => { for (const e of document.querySelectorAll(where)) e.style.color = '#ccc' }", where)
    assert 'color-contrast' in [kind for kind, *_ in unreadable(page)]

SEARCHES = {'temperature': ('glossary.html', 'library/learned_temperature.html'), 'queue': ('library/queue.html',), 'KeyQueue': ('reference.html',),
            'false negative': ('tutorials/false_negatives.html', 'library/false_negatives.html'), 'NTXentLoss': ('reference.html',), 'HCLLoss': ('reference.html',)}

@pytest.mark.parametrize('words', SEARCHES)
def test_search_finds_the_symbol_or_the_page_first(visit, words):
    page = visit('index.html')
    page.keyboard.press('/')  # the search field, without a mouse
    page.keyboard.type(words)
    page.keyboard.press('Enter')
    page.wait_for_selector('#search-results li a')
    page.wait_for_load_state('networkidle')
    found = [a.get_attribute('href').split('#')[0].split('?')[0] for a in page.locator('#search-results li > a').all()]
    assert found[0] in SEARCHES[words]
    snippets = ' '.join(page.locator('#search-results li p.context').all_inner_texts())
    assert not re.search(r'Run this page|\\\\[a-z]+\{|\\\\\(', snippets)

def test_the_front_page_shows_its_hero_on_a_telephone(visit):
    page = visit('index.html')
    page.set_viewport_size({'width': 390, 'height': 844})
    box = page.locator('article img').first.bounding_box()
    assert box['x'] >= 0 and box['x'] + box['width'] <= 390 and box['y'] + box['height'] <= 844
    doors = page.locator('#three-doors li').all()
    assert len(doors) == 3 and all(d.bounding_box()['width'] > 300 for d in doors)

def test_the_front_page_is_light(browser, address):
    context = browser.new_context(viewport={'width': 1280, 'height': 900})
    page, sizes = context.new_page(), []
    page.on('response', lambda response: sizes.append(len(response.body())))
    page.goto(address)
    page.wait_for_load_state('networkidle')
    context.close()
    assert 0 < sum(sizes) <= 500_000

def test_slider_moves_and_changes_the_picture(visit):
    page = visit('tutorials/circle.html')
    slider = page.locator('input[type=range]').first
    picture = slider.locator('xpath=ancestor::*[./img]/img')
    before = picture.get_attribute('src')
    slider.focus()
    for _ in range(3): page.keyboard.press('ArrowRight')
    assert slider.input_value() == '3' and picture.get_attribute('src') != before
    page.keyboard.press('Home')
    assert picture.get_attribute('src') == before

def test_dark_mode_can_be_chosen(visit):
    page = visit('index.html')
    background = lambda: page.evaluate('getComputedStyle(document.body).backgroundColor')
    light = background()
    page.locator('button.theme-toggle:visible').first.click()  # from the system's choice, which is light here
    assert page.get_attribute('body', 'data-theme') == 'dark' and background() != light
    page.reload()
    assert page.get_attribute('body', 'data-theme') == 'dark'  # and it is remembered
