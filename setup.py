"Everything comes from settings.ini, which nbdev reads too: edit that file, not this one."
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
ini = ConfigParser(delimiters=['='])
ini.read(here/'settings.ini', encoding='utf-8')
cfg = ini['DEFAULT']
lib, suffix = cfg['lib_path'], '_requirements'

setup(
    name=cfg['lib_name'],
    version=cfg['version'],
    description=cfg['description'],
    long_description=(here/'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    author=cfg['author'],
    author_email=cfg['author_email'],
    keywords=cfg['keywords'].split(),
    license_expression='Apache-2.0',
    license_files=['LICENSE'],
    classifiers=['Development Status :: 3 - Alpha', 'Intended Audience :: Science/Research',
                 'Programming Language :: Python :: 3', 'Topic :: Scientific/Engineering :: Artificial Intelligence',
                 'Typing :: Typed'],
    python_requires='>=' + cfg['min_python'],
    packages=find_packages(include=[lib, lib+'.*']),
    package_data={lib: ['py.typed', 'assets/*', 'assets/pretrained/*']},
    install_requires=cfg['requirements'].split(),
    extras_require={key.removesuffix(suffix): cfg[key].split() for key in cfg if key.endswith(suffix)},
    entry_points={'console_scripts': cfg['console_scripts'].split(),
                  'nbdev': [f'{lib}={lib}._modidx:d']},  # how nbdev links names from other projects' pages
)
