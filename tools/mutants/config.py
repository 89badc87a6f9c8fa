"Strategies by name, groups of settings, controls: what is found, what is refused, what an older folder meant."
CONFIG, MOVES = 'tests/test_config.py', 'tests/test_schedules.py'
TYPES = ' '.join(f'tests/test_platform.py::test_{name}' for name in ('type_of_a_field', 'every_field_has_a_type_that_is_checked', 'numbers_of_other_libraries_become_pythons'))
LINE = 'tests/test_cli.py::test_train_refuses tests/test_cli.py::test_compare_refuses'
SEEN = 'tests/test_seen_training.py tests/test_train_exact.py'


def of(file, tests, *changes):
    "Mutants of one module: (old, new, why) each, or with the reason why it is harmless."
    keys = 'old', 'new', 'why', 'harmless'
    return [dict(zip(keys, change), file=file, tests=tests) for change in changes]


MUTANTS = [
    *of('registry.py', f'{CONFIG} {MOVES}',
        ("return ('temperature',) * self.has_temperature + prior + own", "return prior + own", 'the temperature is a knob'),
        ("() if self.tau_plus is None else ('tau_plus',)", "('tau_plus',)", 'SimCLR does not debias'),
        ("f.init and f.type in (float, 'float')", "f.init", 'what can move is one number'),
        ("if k in ('temperature', 'tau_plus')]", "if k in ('temperature',)]", 'the class prior moves'),
        ("return frozen and called and ready", "return called and ready", 'knobs that melt'),
        ("return frozen and called and ready", "return frozen and ready", 'weights that nobody can call'),
        ("return frozen and called and ready", "return frozen and called", 'a knob without a default'),
        ("require(same, 'name of a strategy', 'one that nobody has', name)", "pass", 'two classes of one name'),
        ("        require(is_knobs(kind), f'strategy {name!r}', WEIGHTS, kind)\n        there", "        there", 'what has no knobs'),
        ("if found.kind is kind:", "if False:", 'a class that has a name keeps what is known of it', 'the entry is equal for what has no prior of its own'),
        ("    require(is_knobs(kind), f'strategy {name!r}', WEIGHTS, kind)\n    first", "    first", 'what is no dataclass'),
        ("if call.args or not named", "if not named", 'a value without a name'),
        ("or not isinstance(call.func, ast.Name):", "or False:", 'a call of a call'),
        ("k.arg not in (None, 'strategy')", "k.arg != 'strategy'", 'stars'),
        ("k.arg not in (None, 'strategy')", "k.arg is not None", 'another strategy under this name'),
        ("or len(knobs) < len(call.keywords):", "or False:", 'a knob twice'),
        ("return node.id if isinstance(node, ast.Name) else", "return", 'a bare word is text'),
        ("    if knob in has:\n        return\n", "    return\n", 'a knob of another strategy')),
    *of('registry.py', 'tests/test_own_strategy.py::test_weights_of_ones_own',
        ("    if here not in sys.path:\n", "    if False:\n", 'a module in the folder where the command was started')),
    *of('config.py', 'tests/test_run_folder.py::test_a_part_of_one_view_is_refused tests/test_run_folder.py::test_parts_of_two_views_train',
        ("per_image = 1 if cfg.memory.queue_size else 2", "per_image = 2", 'with a queue the first views only'),
        ("require(views % micro != 1,", "require(True,", 'a part of one view')),
    *of('config.py', 'tests/test_queue_exact.py::test_what_the_configuration_says_reaches_the_loss',
        ("chunk_size=cfg.loss.chunk_size,", "chunk_size=None,", '`--chunk-size`')),
    *of('config.py', f'{CONFIG} {TYPES} {LINE} {MOVES}',
        ("    is_switch = isinstance(value, bool) and kind is not bool\n", "    is_switch = False\n", 'True is no number'),
        ("wanted = len(value) if Ellipsis in parts else len(parts)", "wanted = len(value)", 'as many values as the annotation has', 'no group has a tuple of a fixed length; the page checks it'),
        ("return value if type(value) in (int, float) else make(value)", "return value", "Python's numbers"),
        ("require(holds(value), f.name, allowed, value)", "pass", 'a value out of its range'),
        ("        positive = jumps is None or jumps >= 1\n", "        positive = True\n", 'no jump'),
        ("moves = jumps is None or bool(ends)", "moves = True", 'jumps of nothing'),
        ("fits = 0 <= self.warmup_epochs <= self.epochs", "fits = 0 <= self.warmup_epochs", 'a warm-up longer than the run'),
        ("own = type(self.knobs) is kind", "own = True", 'knobs of another strategy', 'by hand only; the constructor with a wrong dataclass is on no path of the command'),
        ("            for knob in values_of(self.knobs):\n                del fields[knob]\n", "            pass\n", 'another strategy has its own knobs'),
        ("            if value is not None:\n                parts['ends']", "            if True:\n                parts['ends']", 'a schedule that is not asked for'),
        ("            check_field(name, key)\n", "", 'a knob that nobody reads'),
        ("shared = batch % processes == 0 and batch >= 2 * processes", "shared = batch >= 2 * processes", 'a batch that cannot be shared'),
        ("require(not queue, 'queue_size', what, queue)", "pass", 'a queue without negatives'),
        ("loss=InfoNCE(prior or 0.0),", "loss=InfoNCE(),", '`--tau-plus`'),
        ("temperature=cfg.loss.temperature,", "temperature=0.5,", '`--temperature`'),
        ("        return known.tau_plus\n", "        return 0.0\n", "a strategy's own prior"),
        ("require(known.tau_plus is not None, 'tau_plus', allowed, own)", "pass", 'the debiased loss under the name of SimCLR'),
        ("require(knob in known.movable, knob + END, what, end)", "pass", 'a schedule of nothing'),
        ("            assign(criterion, knob, end)\n            criterion.check()\n", "            pass\n", 'the end of a schedule is checked'),
        ("criterion.loss = dataclasses.replace(criterion.loss, tau_plus=value)", "pass", 'the class prior moves'),
        ("        criterion.weights = changed\n", "        pass\n", 'a knob moves'),
        ("return without_unread(saved)", "return dict(saved)", 'a flat configuration'),
        ("name in usual and plain == usual[name]", "False", 'a comparison of old'),
        ("found['reference' if name == 'strategy' else name] = value", "found[name] = value", 'the reference of old'),
        ("unread = name in knobs and name not in has", "unread = False", 'what was not read'),
        ("        require(free, f'knob of {name}', 'called otherwise than a setting', knob)\n", "        pass\n", 'a knob with the name of a setting'),
        ("if k != 'strategy'}\n        elif key == 'knobs'", "}\n        elif key == 'knobs'", 'a comparison has no strategy of its own')),
    *of('controls.py', f'{CONFIG} {SEEN} tests/test_ids.py',
        ("y = true_labels.repeat(2)", "y = true_labels.flip(0).repeat(2)", 'each view has its own label'),
        ("loss = nn.functional.cross_entropy(logits, y)", "loss = nn.functional.cross_entropy(logits[: len(y) // 2], y[: len(y) // 2])", 'the supervised loss is of both views'),
        ("right = (logits.argmax(1) == y).float()", "right = (logits.argmin(1) == y).float()", 'the accuracy in the log', 'the log only, and a test of the training page reads it'),
        ("super().__init__(temperature, 0.0, beta, detach_weights)", "super().__init__(temperature, 0.0, 1.0, detach_weights)", 'the hardness of the oracle'),
        ("            labels=true_labels,\n", "", 'the oracle sees labels'),
        ("            true_labels=true_labels,\n            return_stats", "            return_stats", 'statistics of the oracle'),
        ("made.chunk_size = cfg.loss.chunk_size", "pass", '`--chunk-size` of the oracle'),
        ("OracleLoss(cfg.loss.temperature, cfg.knobs.beta, cfg.knobs.detach)", "OracleLoss(cfg.loss.temperature)", '`--beta` of the oracle'),
        ("swap: str = field(default='ur', init=False)", "swap: str = field(default='u', init=False)", 'the second placebo is the first')),
]
