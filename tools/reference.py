"""The API reference: what people import, from signatures, comments and docstrings, without importing anything.

A signature's trailing comments become the parameters' table; `EXAMPLES` are executed by tests/test_reference.py.
"""
import ast, io, re, textwrap, tokenize
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GROUPS = { # heading: (what it is about, names)
    'Losses': ('Modules that take embeddings of two or more views and return a loss.',
        'NTXentLoss DebiasedNTXentLoss HCLLoss UnReMixLoss ContrastiveLoss LearnedTemperature'),
    'Weightings': ('First argument of `ContrastiveLoss`: how much each negative counts.',
        'uniform HCL UnReMix ADNCE SimANS Ring TopK Margin Given Transport MMCL Placebo'),
    'Rules': ('Argument `pairs` of every loss: who is whose positive and negative.',
        'views across supervised Without OutsideBatch FNC'),
    'Other parts of a loss': ('Arguments `loss` and `synthesis` of `ContrastiveLoss`, and the batch.',
        'InfoNCE decoupled MoCHi WalkSampler'),
    'Memory and scale': ('Beyond the batch.', 'KeyQueue follow MicroBatches'),
    'Embeddings and contrasts': ('What a weighting or a rule of your own is given.', 'Embeddings from_views Contrast compare_embeddings mean_one log_share'),
    'Statistics': ('What the negatives of a batch are like. `return_stats=True` gives all of them.',
        'effective_negatives hardness false_negative_rate false_negative_mass hard_false_negative_mass clamped_fraction'),
    'Training and comparing': ('What the commands call.', 'TrainConfig train CompareConfig compare evaluate sweep by_cell paired load_dataset Augment two_views'),
    'Features': ('What frozen features are worth.', 'linear_probe knn alignment uniformity effective_rank'),
    'Own images': ('Train on a folder, take the encoder along, and look for copies, wrong labels and false negatives.',
        'ImageFiles load_encoder export_encoder embed_folder load_embeddings audit'),
    'Sentences': ('Where a loss of sentence-transformers goes.', 'SentenceLoss'),
    'Graphs': ('Losses that judge each pair by itself, and what they are given. The encoders need `unremix[graph]`.',
        'JensenShannon RescaledHCL local_global InfoGraph GIN load_graphs from_pyg')}
HOMES = {'compare_embeddings': ('contrast', 'compare'), 'compare': ('compare', 'compare'), 'evaluate': ('evaluate', 'evaluate'), 'sweep': ('sweep', 'sweep')} # where a name stands twice
PARENTS = {'UnReMix': 'Knobs', 'NTXentLoss': 'ContrastiveLoss', 'DebiasedNTXentLoss': 'ContrastiveLoss', 'HCLLoss': 'ContrastiveLoss', 'UnReMixLoss': 'ContrastiveLoss', 'Given': 'UnReMix', 'Placebo': 'UnReMix'} # comments of the same parameter are looked up there
METHODS = {'ContrastiveLoss': ['forward', 'contrast', 'log_weights'], 'KeyQueue': ['push'], 'MicroBatches': ['__call__', 'backward']}
VIEWS = 'z1, z2 = torch.randn(2, 8, 16, generator=torch.Generator().manual_seed(0))\n'
EXAMPLES = { # executed: the last line is an expression, and the text behind `#>` is what it gives
    'NTXentLoss': VIEWS + 'round(NTXentLoss(temperature=0.5)(z1, z2).item(), 2)  #> 2.59',
    'DebiasedNTXentLoss': VIEWS + 'round(DebiasedNTXentLoss(0.5, tau_plus=0.1)(z1, z2).item(), 2)  #> 2.57',
    'HCLLoss': VIEWS + 'round(HCLLoss(0.5, tau_plus=0.1, beta=1.0)(z1, z2).item(), 2)  #> 2.78',
    'UnReMixLoss': VIEWS + "loss, stats = UnReMixLoss()(z1, z2, return_stats=True)\nround(stats['effective_negatives'].item(), 1)  #> 11.1",
    'ContrastiveLoss': VIEWS + 'y = torch.arange(8) % 3\nround(ContrastiveLoss(HCL(beta=2.0), pairs=supervised)(z1, z2, labels=y).item(), 2)  #> 3.01',
    'LearnedTemperature': VIEWS + 'loss = NTXentLoss(LearnedTemperature(0.07))\nlen(list(loss.parameters()))  #> 1',
    'HCL': VIEWS + 'contrast = NTXentLoss().contrast(z1, z2)\nHCL(beta=1.0)(contrast).shape  #> torch.Size([16, 16])',
    'UnReMix': VIEWS + 'loss = ContrastiveLoss(UnReMix(beta=2.0))\nloss.log_weights(loss.contrast(z1, z2)).exp().sum(1)[0].round()  #> tensor(14.)',
    'KeyQueue': VIEWS + 'queue = KeyQueue(size=64, dim=16)\nqueue.push(z2)\nint(queue.valid)  #> 8',
    'supervised': VIEWS + 'y = torch.arange(8) % 2\nround(NTXentLoss(pairs=supervised)(z1, z2, labels=y).item(), 2)  #> 2.89',
    'SentenceLoss': ("table = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))  # in place of a model\n"
        "model = lambda features: table[features['input_ids']]\n"
        "anchors, positives = ({'input_ids': torch.tensor(ids)} for ids in ([0, 1, 2], [3, 4, 5]))\n"
        "round(SentenceLoss(model, 'hcl(beta=.5)')([anchors, positives]).item(), 2)  #> 11.42"),
    'JensenShannon': VIEWS + 'from unremix import ContrastiveLoss\nround(ContrastiveLoss(loss=JensenShannon(), temperature=.2)(z1, z2).item(), 2)  #> -0.01',
    'RescaledHCL': VIEWS + 'from unremix import ContrastiveLoss\nloss = ContrastiveLoss(RescaledHCL(beta=1.0), temperature=.2)\nround(loss(z1, z2).item(), 2)  #> 3.43',
    'local_global': ('nodes, graphs = torch.randn(7, 4, generator=torch.Generator().manual_seed(0)).split([5, 2])\n'
        "local_global(nodes, graphs, torch.tensor([0, 0, 0, 1, 1])).positive.sum(0)  #> tensor([3, 2])"),
    'Without': VIEWS + 'ids = torch.tensor([0, 0, 1, 2, 3, 4, 5, 6])\nround(NTXentLoss()(z1, z2, sample_ids=ids).item(), 2)  #> 2.56'}


def definitions():
    "{name: (module, definition)} of all modules; a name that several have is what `unremix` exports, or the first one's, `module.name` all."
    found = {}
    for path in sorted((ROOT/'unremix').glob('[a-z]*.py')):
        text = path.read_text(encoding='utf-8')
        for node in ast.parse(text).body:
            names = [node.name] if isinstance(node, (ast.FunctionDef, ast.ClassDef)) else [t.id for t in getattr(node, 'targets', []) if isinstance(t, ast.Name)]
            for name in names:
                if path.stem == TOP.get(name, path.stem): found.setdefault(name, (path.stem, node, text))
                found[f'{path.stem}.{name}'] = path.stem, node, text
    return found


def comments(text, node):
    "{parameter or field: what the comment behind it, or above it, says}, and of the last line of the signature."
    first, last = node.lineno, node.end_lineno
    found, above = {}, []
    lines = text.splitlines()
    for at in range(first, last + 1):
        line = lines[at - 1]
        code, comment = split_comment(line)
        named = re.match(r'\s*(?:\*{0,2})(\w+)\s*:', code)
        if not code.strip(): above = above + [comment] if comment else []
        elif named and not code.lstrip().startswith(('def ', 'class ', 'if ', 'for ')):
            told = comment or ' '.join(above)  # one above several fields is not of the first
            if told: found.setdefault(named[1], told)
            above = []
        else: above = []
    return found


def split_comment(line):
    "(code, comment) of a line."
    try: tokens = list(tokenize.generate_tokens(io.StringIO(line.strip()).readline))
    except (tokenize.TokenError, IndentationError, SyntaxError): tokens = []
    at = next((t.start[1] for t in tokens if t.type == tokenize.COMMENT), None)
    if at is None: at = next((m.start() for m in [re.search(r'(?:^|  )# ', line.strip())] if m), None)
    return (line, '') if at is None else (line.strip()[:at], line.strip()[at:].lstrip(' #'))


def parameters(node):
    "[(name, type, default)] of a function, of a class's `__init__`, or of a dataclass's fields."
    if isinstance(node, ast.ClassDef):
        init = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == '__init__'), None)
        if init: return parameters(init)
        fields = [n for n in node.body if isinstance(n, ast.AnnAssign) and 'ClassVar' not in ast.unparse(n.annotation)]
        return [(f.target.id, ast.unparse(f.annotation), ast.unparse(f.value) if f.value else '') for f in fields]
    if not isinstance(node, ast.FunctionDef): return []
    given, a = [], node.args
    defaults = [None]*(len(a.args) - len(a.defaults)) + a.defaults
    for arg, default in zip(a.args, defaults): given.append((arg.arg, arg, default))
    if a.vararg: given.append(('*' + a.vararg.arg, a.vararg, None))
    for arg, default in zip(a.kwonlyargs, a.kw_defaults): given.append((arg.arg, arg, default))
    return [(name, ast.unparse(arg.annotation) if arg.annotation else '', ast.unparse(default) if default else '') for name, arg, default in given if name != 'self']


def is_computed(default): return 'init=False' in default


def cell(text): return text.replace('|', r'\|').replace('<', r'\<').strip()

def meaning_of(text): return cell(re.sub(r"(?<![`\w])('[\w ]+')(?![`\w])", r'`\1`', text)) # quoted values are code

def table(node, text, parents):
    "Markdown of the parameters."
    told = [comments(t, n) for n, t in [(node, text), *parents]]
    rows = []
    for name, kind, default in parameters(node):
        meaning = next((found[name.lstrip('*')] for found in told if name.lstrip('*') in found), '')
        rows.append(f'| `{name}` | `{cell(kind)}` | {"computed" if is_computed(default) else f"`{cell(default)}`" if default else ""} | {meaning_of(meaning)} |')
    return '| parameter | type | default | |\n|---|---|---|---|\n' + '\n'.join(rows) + '\n' if rows else ''


def fits(signature, width=88):
    "A signature in one line, or one parameter a line."
    if len(signature) <= width: return signature
    head, inner = signature.split('(', 1)
    parts, depth, now = [], 0, ''
    for letter in inner[:-1]:
        depth += (letter in '([{') - (letter in ')]}')
        if letter == ',' and not depth: parts.append(now.strip()); now = ''
        else: now += letter
    return f'{head}(\n' + ''.join(f'    {p},\n' for p in [*parts, now.strip()] if p) + ')'


def docstring(node):
    "Text and example of a docstring: the example is what stands behind >>>."
    doc = (ast.get_docstring(node) or '') if hasattr(node, 'body') else ''
    lines = doc.splitlines()
    example = [line[4:] for line in lines if line.startswith('>>> ')]
    return '\n'.join(line for line in lines if not line.startswith('>>> ')).strip(), example


def entry(name, found, pages, page_name):
    "The section of one name."
    module, target = HOMES.get(name, (None, name))
    home, node, text = found[f'{module}.{target}' if module else target]
    shown = target
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call): # an instance, such as `uniform`
        of = found[f'{home}.{ast.unparse(node.value.func)}'][1]
        doc, example = docstring(of)
        signature, rows = shown, ''
    else:
        parents, parent = [], PARENTS.get(name)
        while parent:
            parents.append(found[parent][1:])
            parent = PARENTS.get(parent)
        doc, example = docstring(node)
        if not parameters(node) and parents: node_of_parameters, text_of = parents[0]
        else: node_of_parameters, text_of = node, text
        listed = parameters(node_of_parameters)
        star = isinstance(node_of_parameters, ast.ClassDef) and any(isinstance(n, ast.FunctionDef) and n.name == '__init__' and n.args.kwonlyargs and not n.args.vararg for n in node_of_parameters.body)
        init = next((n for n in getattr(node_of_parameters, 'body', []) if isinstance(n, ast.FunctionDef) and n.name == '__init__'), node_of_parameters)
        keyword = {a.arg for a in init.args.kwonlyargs} if isinstance(init, ast.FunctionDef) else set()
        words, barred = [], False
        for n, _, default in listed:
            if is_computed(default): continue
            if n.startswith('*'): barred = True
            if n in keyword and not barred: words.append('*'); barred = True
            words.append(n + (f'={default}' if default else ''))
        signature = fits(f'{shown}({", ".join(words)})')
        rows = table(node_of_parameters, text_of, parents)
    page = pages[home]
    top = f'from unremix import {shown}' if name in TOP else f'from unremix.{home} import {shown}'
    title = name if name == shown else f'{shown} (of embeddings)'
    out = f'```{{index}} ! single: {shown}\n```\n### {title}\n\n```python\n{top}\n\n{signature}\n```\n\n{rst(doc)}\n\n{rows}\n'
    for method in METHODS.get(name, []):
        of = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == method), None)
        if of is None: continue
        said = {'forward': 'Called', '__call__': 'Called'}.get(method, f'`.{method}`')
        out += f'**{said}** {rst(docstring(of)[0])}\n\n{table(of, text, [])}\n'
    if name in EXAMPLES:
        out += 'Example, executed by the tests:\n\n```python\n' + EXAMPLES[name].replace('#>', '# →') + '\n```\n\n'
    elif example: out += '```python\n' + '\n'.join(example) + '\n```\n\n'
    return out + f'Derived and tested in [{page.stem.split("_", 1)[1].replace("_", " ")}](/{page_name(page)}.ipynb).\n'


def rst(doc): return re.sub(r'(?<!\n)\n(?!\n)', ' ', doc).replace('<', r'\<')

def top_names():
    "{name that `unremix` itself exports: its module}."
    text = (ROOT/'unremix'/'__init__.py').read_text(encoding='utf-8')
    return {name: home for home, name in re.findall(r'from unremix\.(\w+) import \w+ as (\w+)', text)}

TOP = top_names()


def names(): return [name for _, listed in GROUPS.values() for name in listed.split()]


def reference_page(paths, page_name):
    "Markdown of the page; `paths` are the notebooks."
    found = definitions()
    pages = {p.stem.split('_', 1)[-1]: p for p in paths if p.parent.name == 'library'}
    text = ('# API reference\n\n*What people import: arguments with their ranges, shapes, what is refused, where it comes from.*\n\n'
            'Letters of shapes: b images, d dimensions of an embedding, f of the layer before it, a anchors, n candidates, m further negatives. '
            'A wrong argument raises a `ValueError` that names it. [All names](/names.md) lists the rest.\n')
    for heading, (about, listed) in GROUPS.items():
        text += f'\n## {heading}\n\n{about}\n\n' + '\n'.join(entry(n, found, pages, page_name) for n in listed.split())
    return text
