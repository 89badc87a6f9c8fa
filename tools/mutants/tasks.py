"Tasks: what a run of another kind of data would do wrongly without a word."

def of(file, tests, *changes):
    "Mutants of one module: (old, new, why) each, or with the reason why it is harmless."
    keys = 'old', 'new', 'why', 'harmless'
    return [dict(zip(keys, change), file=file, tests=tests) for change in changes]

def some(*names): return ' '.join(f'tests/test_tasks.py::test_{n}' for n in names)
SCORED, GOES_ON, TWINS = some('a_finished_run_is_scored_again'), some('it_goes_on_after_a_kill'), some('twins_are_never_negatives')
CONFIG = some('defaults_follow_the_modality', 'refused', 'runs_of_images_keep_their_names', 'a_missing_library_is_one_sentence')
ROWS, LINE = some('compared'), some('from_the_command_line')

MUTANTS = [
    *of('tasks.py', 'tests/test_data_exact.py',
        ("'y': samples.y[places]}", "'y': samples.y[: len(places)]}", 'labels stay with their samples')),
    *of('tasks.py', some('without_labels'),
        ('idx.nonzero().flatten() if idx.dtype == torch.bool else idx', 'idx', 'inputs are picked by numbers alone')),
    *of('tasks.py', TWINS,
        ("moved['ids'] = ids.unique(return_inverse=True)[1].to(device)", "moved['ids'] = ids.to(device)", 'numbers that a loss can count by'),
        ("return getattr(samples, 'ids', None)", 'return None', 'samples that show the same are no negatives')),
    *of('tasks.py', CONFIG,
        ('return first | dict(self.defaults)', 'return first', 'the defaults of a task'),
        ('return first | dict(self.defaults)', 'return dict(self.defaults)', 'the data set and encoder of a task'),
        ("if isinstance(task, str):", 'if False:', 'a task in a module of its own'),
        ('    if missing:', '    if False:', 'the sentence that names what to install'),
        ('if not is_installed(module)]', 'if is_installed(module)]', 'the module that is named is the missing one'),
        ("require(asked in names or of_family, what,", "require(True, what,", 'a data set of another modality'),
        ('require(fields[what] == left,', 'require(True,', 'a knob without a use is refused')),
    *of('tasks.py', GOES_ON,
        ('torch.cat([self.one(x, 0), self.one(x, 1)])', 'self.one(torch.cat([x, x]), 0)', 'the second view has its own form'),
        ('torch.cat([self.one(x, 0), self.one(x, 1)])', 'self.one(x, 0)', 'two views')),
    *of('config.py', CONFIG,
        ('{**fitting(name, task.usual()), **fields, **own}', '{**fields, **fitting(name, task.usual()), **own}', 'what is asked for wins over defaults'),
        ("asked = {'strategy': self.strategy, 'modality': self.data.modality}", "asked = {'strategy': self.strategy}", 'folders of a task know its defaults'),
        ),
    *of('config_fields.py', CONFIG,
        ('if v != usual.get(k, ...)}', '}', 'another modality has its own defaults')),
    *of('grid.py', CONFIG,
        ("'simclr', 'modality': 'image'}", "'simclr'}", 'keys of runs differ by modality')),
    *of('steps.py', TWINS,
        ('shown = idx if ids is None else ids[idx]', 'shown = idx', 'samples that show the same are no negatives'),
        ('run.queue or may_be_twins or', 'run.queue or', 'samples that show the same are no negatives')),
    *of('steps.py', GOES_ON,
        ("f'{run.task.units}_per_s': rate}", "'images_per_s': rate}", 'a log of other things than images')),
    *of('evaluate.py', SCORED,
        ('    if task.more_scores:\n', '    if False:\n', 'the further scores of a task')),
    *of('evaluate.py', some('without_labels'),
        ('h_train = h_test[:0] if h_seen is None else h_seen', 'h_train = h_seen', 'samples without labels are scored')),
    *of('run_folder.py', SCORED,
        ("describe(samples, units), 'test'", "describe(samples), 'test'", 'a folder says what its samples are')),
    *of('run_folder.py', some('other_samples_are_noticed'),
        ("return next(iter(counts(looked['train'])), 'images')", "return 'images'", 'the sentence names the samples'),
        ("('labelled', 'classes', 'fingerprint'))", "('labelled', 'classes'))", 'other samples are noticed')),
    *of('rows.py', ROWS,
        ('for name in (*SCORES, *more):', 'for name in SCORES:', 'the table has the further scores'),
        ('return task.baseline, UNTRAINED', "return 'raw pixels', UNTRAINED", 'the baseline of a task')),
    *of('compare.py', ROWS,
        ("baseline.split()[-1] / 'result.json'", "baseline / 'result.json'", 'folders of older comparisons are found')),
    *of('table.py', ROWS,
        ("*(cell_text(row, name, 1, 3) for name in more),", "*('' for name in more),", 'the table has the further scores')),
    *of('presets.py', LINE,
        (".get('modality', 'image')).quick)", ".get('nothing', 'image')).quick)", '`--quick` of a task'),
        ("fields['modality'] = name", 'pass', '`--modality` alone')),
]
