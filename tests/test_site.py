"The site: nothing of the notebooks is lost on the way to it, and it works in a real browser without a network."
import ast, http.server, os, re, shutil, subprocess, sys, threading
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin

import pytest
from axe_playwright_python.sync_playwright import Axe
from bs4 import BeautifulSoup
from execnb.nbio import read_nb
from playwright.sync_api import sync_playwright

import build_site
from run_notebooks import directives, notebooks

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT/'_docs'
BROWSER = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
NOTEBOOKS = [p.relative_to(ROOT/'nbs') for p in notebooks(ROOT)]
PAGES = sorted({build_site.page_name(p) + '.html' for p in NOTEBOOKS} | {'names.html', 'experiments/LOG.html'})

@pytest.fixture(scope='session')
def site():
    "{address: parsed page} of a site built from nothing; a warning of Sphinx is a failure."
    for folder in (SITE, ROOT/'build'/'doctrees'): shutil.rmtree(folder, ignore_errors=True)
    done = subprocess.run([sys.executable, ROOT/'tools'/'build_site.py'], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {p.relative_to(SITE).as_posix(): BeautifulSoup(p.read_text(encoding='utf-8'), 'html.parser') for p in SITE.rglob('*.html')}

# ---------------------------------------------------------------- nothing is lost

def test_all_pages_are_there_and_in_the_navigation(site):
    links = {unquote(a['href']) for a in site['index.html'].select('.sidebar-tree a')}
    assert set(PAGES) <= site.keys() and set(PAGES) - {'index.html'} <= links

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
    assert (SITE/page).parent.joinpath(unquote(link['href'])).read_bytes() == (ROOT/'nbs'/path).read_bytes()
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

OFFLINE = ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync']

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

@pytest.fixture(scope='session')
def browser():
    if BROWSER is None:
        say = pytest.fail if os.environ.get('BROWSER_TESTS') == 'required' else pytest.skip
        say('no Chromium: `make browser` installs it')
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=BROWSER, args=OFFLINE)

@pytest.fixture
def visit(browser, address):
    "Open a page at a width; afterwards, fail on anything said on the console and on any request to another host."
    complaints, contexts = [], []
    def allow(route):
        if route.request.url.startswith((address, 'data:', 'blob:')): return route.continue_()
        complaints.append(f'request to {route.request.url}')
        route.abort()
    def visit(name):
        contexts.append(context := browser.new_context(viewport={'width': 1280, 'height': 900}))
        context.route('**/*', allow)
        page = context.new_page()
        page.on('console', lambda m: complaints.append(m.text) if m.type in ('error', 'warning') else None)
        page.on('pageerror', lambda error: complaints.append(str(error)))
        page.goto(address + name)
        page.wait_for_load_state('networkidle')
        return page
    yield visit
    for context in contexts: context.close()
    assert not complaints

def too_wide(page):
    "What sticks out of the window, or of the text in the case of inline mathematics."
    return page.evaluate("""() => {
        const wide = document.documentElement.scrollWidth > innerWidth ? ['the page'] : [];
        for (const m of document.querySelectorAll('p > .math mjx-container'))
            if (m.getBoundingClientRect().right > m.closest('p').getBoundingClientRect().right + 1) wide.push(m.parentElement.outerHTML.slice(0, 300));
        return wide }""")

def violations(page, **rules):
    "Serious violations of accessibility, found by axe-core."
    found = Axe().run(page, options={'resultTypes': ['violations'], **rules}).response['violations']
    return [(v['id'], len(v['nodes']), v['nodes'][0]['html'][:200]) for v in found if v['impact'] in ('serious', 'critical')]

@pytest.mark.parametrize('name', PAGES)
def test_page_works(visit, site, name):
    page = visit(name)
    assert page.locator('article mjx-container').count() == len(site[name].select('article .math'))
    assert page.locator('mjx-merror').count() == 0
    assert not too_wide(page) and not violations(page)
    page.emulate_media(color_scheme='dark')
    assert not violations(page, runOnly=['color-contrast'])
    page.set_viewport_size({'width': 390, 'height': 900})
    assert not too_wide(page)

@pytest.mark.parametrize('words,expected', [('temperature', 'glossary.html'), ('false negative', 'tutorials/false_negatives.html'),
                                            ('HCLLoss', 'library/losses.html')])
def test_search_finds_the_page(visit, words, expected):
    page = visit('index.html')
    page.keyboard.press('/')  # the search field, without a mouse
    page.keyboard.type(words)
    page.keyboard.press('Enter')
    page.wait_for_selector('#search-results li a')
    page.wait_for_load_state('networkidle')
    found = [a.get_attribute('href').split('#')[0].split('?')[0] for a in page.locator('#search-results li > a').all()]
    assert expected in found[:3]

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
