"""Write README.md from nbs/index.ipynb, in the shape that `nbdev_readme` gives (that one needs Quarto).

Pictures that the notebook's cells show are written to nbs/images/, where README.md refers to them.
"""
import base64, posixpath, re
from pathlib import Path

from nbdev.frontmatter import FrontmatterProc
from nbdev.process import NBProcessor

NOTE = '<!-- Written by tools/readme.py from nbs/index.ipynb: edit the notebook, then `make prepare`. -->'
HIDDEN = {'hide', 'hide_input', 'export', 'exporti', 'default_exp'}
code_span = re.compile(r'(```.*?```|`[^`\n]*`)', re.S)
link = re.compile(r'\]\((?![a-z]+:|[#/])([^)\s]+)')

def from_root(text):
    "Links of a page in nbs/, as they read from the folder above; code is left alone."
    fix = lambda m: '](' + posixpath.normpath('nbs/' + m[1])
    return ''.join(part if i % 2 else link.sub(fix, part) for i, part in enumerate(code_span.split(text)))

def option(cell, name, default=''):
    "Value of a Quarto option such as `#| fig-alt: ...`, written over one line."
    found = re.search(rf'^#\|\s*{name}:\s*(.*?)\s*$', cell.source, re.M)
    return found[1].strip('"\'') if found else default

def is_on(cell, name): return option(cell, name, 'true').lower() != 'false'

def code_of(cell):
    "The cell's code without its directives."
    return re.sub(r'^#\|.*\n?', '', cell.source, flags=re.M).strip()

def show_code(cell): return [f'``` python\n{code_of(cell)}\n```'] if code_of(cell) else []

def show_output(cell, output, pictures):
    "One output as markdown; a picture is put into `pictures`, by its path."
    data = output.get('data', {})
    if 'image/png' in data:
        path = f"nbs/images/index-{option(cell, 'label', f'{len(pictures)+1}')}.png"
        pictures[path] = base64.b64decode(data['image/png'])
        caption = option(cell, 'fig-cap')
        return [f"![{option(cell, 'fig-alt', caption)}]({path})"] + ([f'*{caption}*'] if caption else [])
    if 'text/markdown' in data: return [from_root(''.join(data['text/markdown']))]
    text = ''.join(output.get('text') or data.get('text/plain', ''))
    return ['\n'.join('    '+line if line else '' for line in text.rstrip().splitlines())] if text.strip() else []

def render_cell(cell, pictures):
    "One cell as a list of paragraphs."
    if cell.cell_type == 'markdown': return [from_root(cell.source)]
    if cell.cell_type != 'code' or HIDDEN & cell.directives_.keys() or not is_on(cell, 'include'): return []
    parts = show_code(cell) if is_on(cell, 'echo') else []
    if not is_on(cell, 'output'): return parts
    return parts + [p for o in cell.get('outputs', []) for p in show_output(cell, o, pictures)]

def render(
    root # folder that holds `nbs`
):     # text of README.md, {path of a picture: its bytes}
    "Read the committed outputs; nothing is executed."
    nb = NBProcessor(Path(root)/'nbs'/'index.ipynb', FrontmatterProc, rm_directives=False, process=True).nb
    front, pictures = nb.frontmatter_, {}
    parts = [f"# {front['title']}", NOTE] + ([f"> {front['description']}"] if 'description' in front else [])
    for cell in nb.cells: parts += render_cell(cell, pictures)
    return '\n\n'.join(p.strip('\n') for p in parts if p.strip()) + '\n', pictures

def write(root):
    text, pictures = render(root)
    for path, data in pictures.items():
        (root/path).parent.mkdir(parents=True, exist_ok=True)
        (root/path).write_bytes(data)
    (root/'README.md').write_text(text, encoding='utf-8')

if __name__ == '__main__': write(Path(__file__).resolve().parents[1])
