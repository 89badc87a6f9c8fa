"""Make `unremix/assets/stdlib_mini.json.gz`: functions of the standard library and their summaries.

Run once, with Python 3.11.7: `python tools/make_stdlib_mini.py`. The file names the version that it was made with.
"""
import gzip
import json
import platform
from pathlib import Path

from unremix.text_data import MODULES, library_pairs

pairs = library_pairs()
rows = [row for row in zip(pairs.first, pairs.second, pairs.source) if row[2] in MODULES]
made = {'python': platform.python_version(), 'licence': 'PSF-2.0', 'pairs': rows}
packed = gzip.compress(json.dumps(made, ensure_ascii=False).encode(), 9, mtime=0)
path = Path(__file__).parent.parent / 'unremix/assets/stdlib_mini.json.gz'
path.write_bytes(packed)
print(len(rows), 'pairs of', len({source for *_, source in rows}), 'modules,', len(packed), 'bytes')
