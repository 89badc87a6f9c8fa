"Folders as people have them: without labels, with some, without a test part; and images that change between two parts of a run."
import dataclasses, json, os, shutil

import numpy as np
import pytest
import torch
from PIL import Image
from configs import comparison, run_of
from unremix import own_images
from unremix.cli import main
from unremix.compare import compare
from unremix.compare_config import CompareConfig
from unremix.data import hold_out, labelled, load_dataset
from unremix.evaluate import evaluate
from unremix.grid import Grid
from unremix.image_files import DatasetMissing
from unremix.image_folder import Part
from unremix.image_parts import hold_out_files, survey
from unremix.own_images import ImageFiles
from unremix.run_folder import look, split_images
from unremix.sweep import sweep
from unremix.train import train

SHADES = {'cat': 40, 'dog': 200}
SMALL = dict(dataset='imagefolder', image_size=8, batch_size=8, epochs=1, log_every=1, head_hidden=8, head_out=4, precision='32-true')
ARGS = [w for k, v in SMALL.items() for w in ('--'+k.replace('_', '-'), str(v))]

def picture(path, shade, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed + shade).integers(-30, 30, (10, 10, 3)) + shade
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)

def classes(folder, n, of=SHADES):
    for c, shade in of.items():
        for i in range(n): picture(folder/c/f'{i:02}.png', shade, i)

def flat(root): [picture(root/f'{i:02}.png', 5*i, i) for i in range(30)]
def flat_train(root): flat(root/'train')
def flat_both(root): flat(root/'train'); flat(root/'test')
def partly(root): classes(root/'train', 12); flat(root/'train'/'unlabeled'); classes(root/'test', 5)
def beside(root): classes(root/'train', 12); flat(root/'unlabelled'/'2024'); classes(root/'test', 5)
def loose(root): classes(root/'train', 12); flat(root/'train'); classes(root/'test', 5)
def no_test(root): classes(root/'train', 15)
def bare_classes(root): classes(root, 15)
def partly_no_test(root): classes(root/'train', 12); flat(root/'train'/'unsup')
def one_class(root): classes(root/'train', 30, {'cat': 40})
def bare_test(root): classes(root/'train', 15); flat(root/'test')
def labels_in_test_only(root): flat(root/'train'); classes(root/'test', 5)
def complete(root): classes(root/'train', 12); classes(root/'test', 5)

def tiny_imagenet(root):
    "Tiny-ImageNet as it is downloaded."
    for c, shade in SHADES.items():
        for i in range(12): picture(root/'train'/c/'images'/f'{c}_{i}.JPEG', shade, i)
        (root/'train'/c/f'{c}_boxes.txt').write_text('')
    lines = [f'val_{i}.JPEG\t{c}\t0\t0\t9\t9\n' for i, c in enumerate(list(SHADES)*5)]
    (root/'val').mkdir()
    (root/'val'/'val_annotations.txt').write_text(''.join(lines))
    for i in range(10): picture(root/'val'/'images'/f'val_{i}.JPEG', SHADES[list(SHADES)[i % 2]], i)
    for i in range(6): picture(root/'test'/'images'/f'test_{i}.JPEG', 90, i)

# what is found: training images with and without a label, scored images, classes, a word of each note
FOUND = {
    flat: (27, 3, (), ['3 of 30 training images are held out', '27 of 27 training images have no label']),
    flat_train: (27, 3, (), ['held out', 'no label']),
    flat_both: (30, 30, (), ['no label']),
    partly: (24, 10, ('cat', 'dog'), ['30 of 54 training images have no label; they train and never score']),
    beside: (24, 10, ('cat', 'dog'), ['30 of 54']),
    loose: (24, 10, ('cat', 'dog'), ['30 of 54']),
    no_test: (27, 3, ('cat', 'dog'), ['has no test part: 3 of 30 training images are held out and scored']),
    bare_classes: (27, 3, ('cat', 'dog'), ['3 of 30']),
    partly_no_test: (22, 2, ('cat', 'dog'), ['2 of 54', '30 of 52']),
    one_class: (27, 3, ('cat',), ['held out', 'has one class (cat): there is nothing to tell apart']),
    bare_test: (27, 3, ('cat', 'dog'), ['test has no labels: 3 of 30']),
    labels_in_test_only: (30, 10, (), ['no label']),
    complete: (24, 10, ('cat', 'dog'), []),
    tiny_imagenet: (24, 10, ('cat', 'dog'), ['left out of', 'boxes.txt', 'test has no labels: ', 'val is scored'])}
UNSCORED = flat, flat_train, flat_both, one_class, labels_in_test_only

@pytest.mark.parametrize('make', FOUND, ids=lambda f: f.__name__)
def test_one_look_at_both_parts(make, tmp_path):
    make(tmp_path)
    known, scored, names, words = FOUND[make]
    found = survey(tmp_path)
    assert (len(found.test), found.classes) == (scored, names) and len(found.notes) == len(words)//(2 if make is tiny_imagenet else 1)
    assert len(found.train.labelled()) == (known if names else 0)
    text = '\n'.join(found.notes)
    assert all(w in text for w in words), text
    assert not set(found.train.paths) & set(found.test.paths)
    train_set, test = (load_dataset('imagefolder', part, tmp_path, image_size=8) for part in ('train', 'test'))
    assert len(train_set) == len(found.train) and len(test) == scored
    unlabelled = train_set.y[train_set.y < 0]
    assert len(unlabelled.unique()) == len(unlabelled) # each is of no class but its own
    assert (test.y >= 0).all() if names else (test.y < 0).all()
    shade = lambda images: labelled(images).x.float().mean((1, 2, 3))
    for images in (train_set, test) if len(names) == 2 else (): assert ((shade(images) > 120).long() == labelled(images).y).all()

def test_a_look_decodes_nothing(tmp_path, monkeypatch):
    partly(tmp_path)
    monkeypatch.setattr(Image, 'open', None)
    assert len(survey(tmp_path).train) == 54

@pytest.mark.parametrize('name', ['unlabeled', 'unlabelled', 'unsup', 'unsupervised', 'Unlabeled', 'UNLABELLED'])
def test_names_of_the_unlabelled(name, tmp_path):
    classes(tmp_path/'train', 4); classes(tmp_path/'test', 4)
    for i in range(3): picture(tmp_path/'train'/name/f'{i}.png', 9, i); picture(tmp_path/'test'/name/f'{i}.png', 9, i)
    found = survey(tmp_path)
    assert found.classes == ('cat', 'dog') and len(found.train) == 11 and len(found.test) == 8
    assert '3 without a label' in found.notes[-1]

@pytest.mark.parametrize('name', ['test', 'val', 'valid', 'validation'])
def test_names_of_the_test_part(name, tmp_path):
    classes(tmp_path/'train', 4); classes(tmp_path/name, 3)
    assert len(survey(tmp_path).test) == 6 and survey(tmp_path).test.folder == tmp_path/name

def test_the_test_part_with_labels_is_scored(tmp_path):
    classes(tmp_path/'train', 4); flat(tmp_path/'test'); classes(tmp_path/'val', 3)
    assert survey(tmp_path).test.folder == tmp_path/'val'

def test_empty_folders_are_no_classes(tmp_path):
    complete(tmp_path)
    (tmp_path/'train'/'bird').mkdir(); (tmp_path/'train'/'ant'/'deep').mkdir(parents=True); (tmp_path/'test'/'bird').mkdir()
    found = survey(tmp_path)
    assert found.classes == ('cat', 'dog')
    assert found.notes == (f'{tmp_path}/train has 2 folders without images, which are no classes: ant, bird',)

def test_nested_folders_belong_to_the_first(tmp_path):
    for i, way in enumerate(('cat/siam/0', 'cat/1', 'cat/tiger/wild/2', 'dog/3', 'dog/cat/4')): picture(tmp_path/'train'/f'{way}.png', 9*i)
    found = survey(tmp_path)
    assert sorted([*found.train.labels, *found.test.labels]) == ['cat']*3 + ['dog']*2

@pytest.mark.parametrize('make,words', [
    (lambda root: None, 'has no folder train'), (lambda root: (root/'notes.txt').write_text(''), 'has no folder train'),
    (lambda root: classes(root/'test', 3), 'has no folder train'), (lambda root: (root/'train'/'cat').mkdir(parents=True), 'must hold one folder of images per class'),
    (lambda root: (classes(root/'train', 4), classes(root/'test', 2, {'cat': 1, 'hat': 2})), 'test has a class that train lacks: hat'),
    (lambda root: classes(root/'train', 1), 'too few images')], ids=['nothing', 'no image', 'no train', 'no image in train', 'unknown class', 'too few'])
@pytest.mark.parametrize('command', ['train', 'compare'])
def test_told_before_the_first_step(make, words, command, tmp_path, capsys):
    make(tmp_path)
    assert main([command, '--data-root', str(tmp_path), '--out', str(tmp_path/'out'), *ARGS]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert words in error and not (tmp_path/'out').exists()

def test_held_out_images_are_spread_over_the_classes(tmp_path):
    for c, n in dict(a=40, b=20, c=1, d=9).items(): [picture(tmp_path/c/f'{i:02}.png', 90, i) for i in range(n)]
    found = survey(tmp_path)
    assert [found.test.labels.count(c) for c in 'abcd'] == [4, 2, 0, 1] and found.train.labels.count('c') == 1
    assert found.test.paths == survey(tmp_path).test.paths
    in_turns = Part(tmp_path, [str(i) for i in range(20)], ['b', 'a']*10)
    assert sorted(hold_out_files(in_turns)[1].labels) == ['a', 'b']
    rest, held = hold_out_files(Part(tmp_path, [str(i) for i in range(30)], ['a']*15 + ['b'] + ['c']*14))
    assert held.labels == ['a', 'c'] and 'b' in rest.labels # the only one of its class trains

@pytest.mark.parametrize('make', [flat, partly, no_test, one_class, labels_in_test_only, tiny_imagenet], ids=lambda f: f.__name__)
def test_train_scores_what_it_can(make, tmp_path, capsys):
    make(tmp_path/'photos')
    assert main(['train', '--data-root', str(tmp_path/'photos'), '--out', str(tmp_path/'run'), *ARGS]) == 0
    result, shown = json.loads((tmp_path/'run'/'result.json').read_text()), capsys.readouterr().out
    assert {'alignment', 'uniformity', 'effective_rank', 'hardness'} <= set(result['scores'])
    accuracies = {'linear', 'knn10', 'knn200', 'correct', 'false_negative_rate', 'false_negative_mass', 'hard_false_negative_mass'}
    if make in UNSCORED:
        assert not accuracies & set(result['scores']) and 'not scored: accuracies' in shown and result['unscored'] in shown
    else: assert accuracies <= set(result['scores']) and 'not scored' not in shown and result['scores']['linear'] > .8
    before = result['scores']
    assert main(['evaluate', str(tmp_path/'run')]) == 0
    assert json.loads((tmp_path/'run'/'result.json').read_text())['scores'] == before

@pytest.mark.parametrize('make', [flat, partly, no_test], ids=lambda f: f.__name__)
def test_compare_says_what_could_not_be_scored(make, tmp_path, capsys, monkeypatch):
    make(tmp_path/'photos')
    reads = count_reads(monkeypatch)
    args = ['compare', '--quick', '--data-root', str(tmp_path/'photos'), '--out', str(tmp_path/'run'), *ARGS, '--strategies', 'simclr', 'unremix', '--timed-steps', '1', '--seeds', '1']
    assert main(args) == 0
    assert len(reads) == len(set(reads)) == (64 if make is partly else 30) and not own_images._held # each file once, then let go
    result, shown = json.loads((tmp_path/'run'/'result.json').read_text()), capsys.readouterr().out
    assert ('supervised' in result['rows']) == (make is no_test) and ('no row supervised: ' in shown) == (make is not no_test)
    assert ('not scored: accuracies and false negatives, since no training image has a label' in shown) == (make is flat)
    assert ('linear' in result['rows']['simclr']) == (make is not flat) and 'effective_rank' in result['rows']['unremix']
    assert (tmp_path/'run'/'figures'/'compare.png').stat().st_size > 5000
    assert main(args) == 0 and 'finished' in capsys.readouterr().out

@pytest.mark.parametrize('make,strategy,words', [(flat, 'supervised', 'less than two classes'), (flat, 'oracle', 'less than two classes'), (one_class, 'supervised', 'less than two classes'),
                                                 (partly, 'supervised', '30 of 54 training images have no label')])
def test_strategies_that_need_labels_are_refused(make, strategy, words, tmp_path, capsys):
    make(tmp_path/'photos')
    assert main(['train', '--strategy', strategy, '--data-root', str(tmp_path/'photos'), '--out', str(tmp_path/'run'), *ARGS]) == 2
    assert words in capsys.readouterr().err and not (tmp_path/'run').exists()
    if strategy == 'supervised': return
    assert main(['compare', '--strategies', 'simclr', strategy, '--data-root', str(tmp_path/'photos'), '--out', str(tmp_path/'run'), *ARGS]) == 2
    assert words in capsys.readouterr().err and not (tmp_path/'run').exists()

def test_unlabelled_images_train_and_never_score(tmp_path):
    "The labelled part alone and the whole give probe and neighbours the same images."
    partly(tmp_path)
    images, held = split_images(run_of(data_root=str(tmp_path), validation=6, **SMALL))
    assert (images.y < 0).sum() == 30 and (held.y >= 0).all() and len(labelled(images)) == 18
    few = load_dataset('imagefolder', 'train', tmp_path, limit=9, image_size=8)
    assert [(few.y == c).sum().item() for c in (0, 1)] == [3, 3] and (few.y < 0).sum() == 3 # take turns

def test_validation_without_labels(tmp_path):
    flat(tmp_path)
    images, held = split_images(run_of(data_root=str(tmp_path), validation=6, **SMALL))
    assert len(images) == 21 and len(held) == 6 and not set(images.y.tolist()) & set(held.y.tolist())

# the same images as before

def one_more(root): picture(root/'train'/'cat'/'99.png', 40, 99)
def one_less(root): (root/'train'/'dog'/'03.png').unlink()
def other_pixels(root): picture(root/'train'/'dog'/'03.png', 200, 77)
def other_label(root): (root/'train'/'dog'/'03.png').rename(root/'train'/'cat'/'98.png')
def other_name(root): (root/'train'/'dog').rename(root/'train'/'wolf'); (root/'test'/'dog').rename(root/'test'/'wolf')
def another_class(root): classes(root/'train', 3, {'ant': 99})
def one_more_tested(root): picture(root/'test'/'cat'/'99.png', 40, 99)
def other_tested(root): picture(root/'test'/'dog'/'03.png', 200, 77)
CHANGES = {one_more: 'train had 24 images, now 25', one_less: 'train had 24 images, now 23', other_pixels: 'train has as many images and classes, but not the same',
           other_label: 'train has as many', other_name: 'train has as many', another_class: 'train had 24 images, now 27',
           one_more_tested: 'test had 10 images, now 11', other_tested: 'test has as many images and classes, but not the same'}

@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    "A folder of images and, made with it, a finished run, a comparison and a sweep."
    root = tmp_path_factory.mktemp('changes')
    complete(root/'photos')
    cfg = dict(data_root=str(root/'photos'), **SMALL)
    train(run_of(**cfg), root/'run', progress=False)
    compare(comparison(**cfg, strategies=('simclr',), seeds=2, timed_steps=0, supervised=False), root/'compare', progress=False)
    sweep(Grid('e', {'x': {}}, cfg, seeds=1), root/'lines.jsonl', root/'sweep', progress=False)
    return root

@pytest.fixture
def here(runs, tmp_path, monkeypatch):
    shutil.copytree(runs, tmp_path/'all')
    root = tmp_path/'all'
    for path in [*root.rglob('config.json')]: path.write_text(path.read_text().replace(str(runs), str(root)))
    for path in [root/'run', root/'compare', root/'compare'/'simclr-seed1']: (path/'result.json').unlink()
    return root

def listing(folder): return {p: p.read_bytes() for p in folder.rglob('*') if p.is_file()}

def config(root, kind=run_of, **fields): return kind(data_root=str(root/'photos'), **SMALL, **fields)

@pytest.mark.parametrize('change', CHANGES, ids=lambda f: f.__name__)
def test_changed_images_are_refused(change, here, capsys):
    change(here/'photos')
    before = listing(here)
    (here/'sweep.toml').write_text('')
    with pytest.raises(ValueError, match=f'made with other images: .*{CHANGES[change]}'): train(config(here), here/'run', progress=False)
    with pytest.raises(ValueError, match=CHANGES[change]): compare(config(here, comparison, strategies=('simclr',), seeds=2, timed_steps=0, supervised=False), here/'compare', progress=False)
    with pytest.raises(ValueError, match=CHANGES[change]): evaluate(here/'compare'/'simclr-seed0')
    (here/'sweep.toml').unlink()
    assert listing(here) == before

def test_the_same_images_go_on(here):
    "Old files touched, the folder of images copied: nothing has changed."
    for path in (here/'photos').rglob('*.png'): os.utime(path, (1, 1))
    assert train(config(here), here/'run', progress=False)['loss'] > 0
    assert compare(config(here, comparison, strategies=('simclr',), seeds=2, timed_steps=0, supervised=False), here/'compare', progress=False)['rows']

def test_a_cell_of_other_images_is_refused(here):
    (here/'compare'/'data.json').unlink()
    other_tested(here/'photos')
    with pytest.raises(ValueError, match="compare/simclr-seed0' was made with other images: test has as many"):
        compare(config(here, comparison, strategies=('simclr',), seeds=2, timed_steps=0, supervised=False), here/'compare', progress=False)

def test_moved_images_are_the_same(tmp_path):
    complete(tmp_path/'photos')
    first = look(config(tmp_path))
    (tmp_path/'elsewhere').mkdir(); (tmp_path/'photos').rename(tmp_path/'elsewhere'/'pictures')
    (tmp_path/'photos').symlink_to(tmp_path/'elsewhere'/'pictures')
    assert look(config(tmp_path)) == first == look(config(tmp_path).but({'data_root': str(tmp_path/'elsewhere'/'pictures')}))

def test_changed_labels_in_a_list_are_seen(tmp_path):
    tiny_imagenet(tmp_path)
    before, path = load_dataset('imagefolder', 'test', tmp_path, image_size=8).fingerprint, tmp_path/'val'/'val_annotations.txt'
    path.write_text(path.read_text().replace('val_0.JPEG\tcat', 'val_0.JPEG\tdog'))
    assert load_dataset('imagefolder', 'test', tmp_path, image_size=8).fingerprint != before

def test_folders_of_earlier_releases_go_on(here):
    for path in [*here.rglob('data.json')]: path.unlink()
    one_more_tested(here/'photos')
    assert train(config(here), here/'run', progress=False)['loss'] > 0

@pytest.mark.parametrize('change', [other_pixels, one_more_tested], ids=lambda f: f.__name__)
def test_lines_of_other_images_are_refused(change, runs, tmp_path):
    shutil.copytree(runs/'photos', tmp_path/'photos')
    grid = lambda seeds: Grid('e', {'x': {}}, dict(data_root=str(tmp_path/'photos'), **SMALL), seeds=seeds)
    [line] = sweep(grid(1), tmp_path/'lines.jsonl', tmp_path/'sweep', progress=False)
    change(tmp_path/'photos')
    before = (tmp_path/'lines.jsonl').read_bytes()
    with pytest.raises(ValueError, match="lines of 'x' are of other images"): sweep(grid(2), tmp_path/'lines.jsonl', tmp_path/'sweep', progress=False)
    with pytest.raises(ValueError, match='was made with other images'): sweep(grid(1), tmp_path/'new.jsonl', tmp_path/'sweep', progress=False)
    assert (tmp_path/'lines.jsonl').read_bytes() == before and not (tmp_path/'new.jsonl').exists()
    assert sweep(grid(1), tmp_path/'lines.jsonl', tmp_path/'sweep', progress=False) == [line] # nothing to do

def test_a_sweep_without_labels(tmp_path):
    flat(tmp_path/'photos')
    lines = sweep(Grid('e', {'x': {}}, dict(data_root=str(tmp_path/'photos'), **SMALL), seeds=1), tmp_path/'l.jsonl', tmp_path/'s', progress=False)
    assert 'linear' not in lines[0] and lines[0]['unscored'] == 'no training image has a label' and 'uniformity' in lines[0]

@pytest.mark.parametrize('name', ['fashion_mini', 'digits'])
def test_fingerprints_of_data_in_memory(name):
    "The same for every limit and size, different for the parts."
    prints = {load_dataset(name, 'train', limit=n, image_size=s).fingerprint for n in (None, 20) for s in (None, 8)}
    assert len(prints) == 1 and prints != {load_dataset(name, 'test').fingerprint} and len(prints.pop()) == 16

# each file once

def count_reads(monkeypatch):
    reads, read = [], own_images.read_square
    monkeypatch.setattr(own_images, 'read_square', lambda path, size: (reads.append(str(path)), read(path, size))[1])
    return reads

@pytest.mark.parametrize('fields', [{}, {'limit': 16}, {'validation': 4}], ids=str)
def test_train_and_evaluate_read_each_file_once(fields, tmp_path, monkeypatch):
    complete(tmp_path/'photos')
    reads = count_reads(monkeypatch)
    assert main(['train', '--data-root', str(tmp_path/'photos'), '--out', str(tmp_path/'run'), *ARGS, *(w for k, v in fields.items() for w in (f'--{k}', str(v)))]) == 0
    assert len(reads) == len(set(reads)) == {'limit': 26, 'validation': 24}.get(next(iter(fields), None), 34)
    reads.clear()
    evaluate(tmp_path/'run')
    assert len(reads) == len(set(reads)) and not own_images._held

def test_let_go_after_an_error(tmp_path):
    with pytest.raises(RuntimeError):
        with own_images.keep_images(): load_dataset(limit=10); raise RuntimeError
    assert not own_images._held and not own_images._depth
