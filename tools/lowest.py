"""The lowest versions that settings.ini promises for the library, not for its extras, as constraints for pip.

    python tools/lowest.py > constraints.txt
    pip install -c constraints.txt -e .
"""
import re
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

def lowest(requirements):
    "One `name==version` per requirement; a `ValueError` for one without a lower bound."
    found = []
    for r in requirements.split():
        m = re.fullmatch(r'([\w.-]+)>=([\w.]+)(,.*)?', r)
        if not m: raise ValueError(f'{r} must begin with a lower bound, name>=version')
        found.append(f'{m[1]}=={m[2]}')
    return found

def of_project(root=ROOT):
    "The constraints of this project's library."
    ini = ConfigParser(delimiters=['='])
    ini.read(root/'settings.ini', encoding='utf-8')
    return lowest(ini['DEFAULT']['requirements'])

if __name__ == '__main__':
    print('\n'.join(of_project()))
