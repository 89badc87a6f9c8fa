"Sphinx's configuration of the site; names and version come from settings.ini."
import os
from pathlib import Path

from nbdev.config import get_config

settings = get_config(path=Path(__file__).parent)
project, author, release = settings.title, settings.author, settings.version
copyright = settings.copyright
extensions = ['myst_nb', 'sphinx_design', 'sphinx_copybutton']
exclude_patterns = ['notebooks']

nb_execution_mode = 'off'  # outputs are the committed ones
nb_render_markdown_format = 'myst'
myst_enable_extensions = ['dollarmath', 'colon_fence']
myst_heading_anchors = 4
numfig = True
math_eqref_format = 'Eq. {number}'
mathjax_path = 'mathjax/tex-chtml.js'  # put into static/ by tools/build_site.py: pages must not ask another host

html_theme = 'furo'
pygments_dark_style = 'github-dark'  # the theme's own underlines module names as if they were links
html_title = f'{project} {release}'
html_favicon = 'static/favicon.svg'
if repository := os.environ.get('SITE_REPOSITORY'):
    mark = (Path(__file__).parent/'static'/'repository.svg').read_text(encoding='utf-8')
    html_theme_options = {'footer_icons': [{'name': 'Repository', 'url': f'https://github.com/{repository}', 'html': mark, 'class': ''}]}
html_static_path = ['static']
html_css_files, html_js_files = ['site.css'], ['site.js']
html_copy_source = False
html_use_index = False  # names.html has all names
html_show_sourcelink = False  # it would show Sphinx's dialect; every page links to the notebook itself
