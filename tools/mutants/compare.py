"Scores, comparisons, sweeps and the command: what would make their numbers wrong without a word."

EVALUATE, COMPARE, SWEEP, CLI = (f'tests/test_{name}_exact.py' for name in ('evaluate', 'compare', 'sweep', 'cli'))


def of(file, tests, *changes):
    "Mutants of one module: (old, new, why) each, or with the reason why it is harmless."
    keys = 'old', 'new', 'why', 'harmless'
    return [dict(zip(keys, change), file=file, tests=tests) for change in changes]


EVALUATE_MUTANTS = of('evaluate.py', EVALUATE,
    ('((cos - cos[:,:1])/temperature).exp()', '((cos - cos[:,:1])*temperature).exp()', 'votes weigh cos/t'),
    ('((cos - cos[:,:1])/temperature).exp()', '(cos - cos[:,:1]).exp()', 'votes have a temperature'),
    ('((cos - cos[:,:1])/temperature).exp()', '(cos.float()/temperature).exp()', 'small temperatures do not overflow'),
    ('((cos - cos[:,:1])/temperature).exp()', '(cos/temperature)', 'votes weigh exponentials'),
    ('weight = torch.ones_like(cos) if temperature is None else', 'weight = cos if temperature is None else', 'without a temperature each has one vote'),
    ('cos, idx = cos[:,:k].double(), idx[:,:k]', 'cos, idx = cos.double(), idx', 'of 200 neighbours found, ten vote'),
    ('tied &= tied.cumsum(1) <= left', 'tied &= tied.flip(1).cumsum(1).flip(1) <= left', 'of equals, the first'),
    ('descending=True, stable=True)', 'descending=False, stable=True)', 'the nearest come first'),
    ('train, test = (F.normalize(h if h.dtype == torch.float64 else h.float())', 'train, test = ((h if h.dtype == torch.float64 else h.float())', 'cosines, not products'),
    ('h if h.dtype == torch.float64 else h.float()', 'h', 'half precision is for features, not for their votes'),
    ('.score(held_x, held_y)', '.score(fit_x, fit_y)', 'the penalty is chosen on images it was not fitted on'),
    ('probe(c, fit_x, fit_y).score', 'probe(c, x, y).score', 'the penalty is fitted without the images it is chosen on'),
    ('return max(penalties, key', 'return min(penalties, key', 'the best penalty wins'),
    ('probe(best, x, y).predict(test)', 'probe(penalties[0], x, y).predict(test)', 'the chosen penalty is used'),
    ('LogisticRegression(C=c, max', 'LogisticRegression(C=1., max', 'the penalty reaches the probe'),
    ('counts.min().item() < 2 or', 'counts.min().item() < 1 or', 'a class of one image cannot be shared out'),
    ('math.ceil(.2*len(y))', 'math.floor(.2*len(y)) + 1', 'a fifth is a fifth'),
    ('mean, sd = h_train.mean(0), h_train.std(0)', 'mean, sd = h_test.mean(0), h_train.std(0)', "the training images' mean"),
    ('/sd.clamp_min(1e-6)*(sd > 1e-6)', '/sd.clamp_min(1e-6)', 'a constant feature becomes 0'),
    ('    encoder.eval()\n', '', 'BatchNorm uses its stored statistics'),
    ('    encoder.train(mode)\n', '', 'training goes on in training mode after scoring'),
    ('    encoder.train(mode)\n', '    encoder.train()\n', 'an encoder in evaluation mode stays there'),
    ("{'bf16-mixed': torch.bfloat16,", "{'bf16-mixed': None,", 'scored in the precision of training'),
    ("if not h.isfinite().all(): raise", "if False: raise", 'features that are no numbers are no score'),
    ('(F.normalize(h1) - F.normalize(h2)).square().sum(1)', '(h1 - h2).square().sum(1)', 'alignment is on the sphere'),
    ('(F.normalize(h1) - F.normalize(h2)).square().sum(1)', '(F.normalize(h1) - F.normalize(h2)).square().sum(1).sqrt()', 'squared distances'),
    ('torch.pdist(off_mps(F.normalize(h))).square()', 'torch.pdist(off_mps(F.normalize(h)))', 'uniformity takes squared distances'),
    ('.exp().mean().log().item()', '.mean().item()', 'the log of a mean, not the mean of logs'),
    ('    if len(h) < 2: return None\n', '', 'one image has no uniformity'),
    ('torch.linalg.svdvals(off_mps(h - h.mean(0)).double())', 'torch.linalg.svdvals(off_mps(h).double())', 'an offset is no direction'),
    ('p = s/s.sum()', 'p = s**2/(s**2).sum()', 'shares of singular values, not of variances'),
    ('if len(c) == min(batch_size, len(y))]', 'if True]', 'a smaller last batch has other chances'),
    ("    if len(y) < 2: return dict.fromkeys(QUALITY)\n", '', 'one image has no negatives'),
    ("'correct': ''.join(str(int(r)) for r in right['linear'])", "'correct': ''.join(str(int(r)) for r in right['knn10'])", "which images the probe gets right"),
    ("{'knn10': (10, None), 'knn200': (200, .1)}", "{'knn10': (10, None), 'knn200': (200, 1.)}", 'the documented temperature'),
    ("'uniformity': uniformity(h_test)", "'uniformity': uniformity(h_train)", 'uniformity of the test images'),
    ("h1, h2 = (embed(encoder, test.x, run.augment, cfg.run.precision) for _ in range(2))", "h1, h2 = (embed(encoder, test.x, run.augment.plain, cfg.run.precision) for _ in range(2))", 'alignment needs two views'),
    ('    torch.manual_seed(cfg.run.seed)\n', '', 'scoring twice gives the same'),
    ('feature_scores(h_train, seen.y, h_test, test.y)', 'feature_scores(h_test, test.y, h_test, test.y)', 'the probe is trained on training images'),
    ('feature_scores(h_train, seen.y, h_test, test.y)', 'feature_scores(h_train, seen.y, h_train, seen.y)', 'the probe is asked about images it has not seen'),
    ('run.criterion, cfg.optim.batch_size)', 'run.criterion)', 'as many negatives as in training'),
    ('generator=torch.Generator().manual_seed(0))', 'generator=torch.Generator().manual_seed(cfg.run.seed))', 'the same order for every seed: images are paired'),
    ('y=test.y[order].to(device))', 'y=test.y.to(device))', 'labels follow their images'))

COMPARE_MUTANTS = of('compare.py', COMPARE,
    ('return error(d.mean(-2)), error(d.mean(-1))', 'return error(d.mean(-1)), error(d.mean(-2))', 'the two errors have other degrees of freedom'),
    (('        return (\n'
            '            x.std(-1) / math.sqrt(x.shape[-1])\n'
            '            if x.shape[-1] > 1\n'
            '            else torch.full(x.shape[:-1], math.inf)\n'
            '        )'), '        return x.std(-1) if x.shape[-1] > 1 else torch.full(x.shape[:-1], math.inf)', 'the error of a mean'),
    ('x.std(-1) / math.sqrt(x.shape[-1])', 'x.std(-1, unbiased=False) / math.sqrt(x.shape[-1])', 'few seeds: n - 1'),
    ('torch.full(x.shape[:-1], math.inf)', 'torch.zeros(x.shape[:-1])', 'one seed says nothing about seeds'),
    ('for e, n in ((over_images, images), (over_seeds, seeds))', 'for e, n in ((over_images, images), (over_seeds, images))', 'degrees of freedom of the seeds'),
    ('(np.asarray(e, dtype=float), n - 1)', '(np.asarray(e, dtype=float), n)', 'n - 1 degrees of freedom'),
    ('np.where(known, e, 0.0) * -stdtrit(max(df, 1), np.exp(middle) / 2)', 'np.where(known, e, 0.0) * -stdtrit(max(df, 1), np.exp(middle))', 'two sides'),
    ('return np.where(known, np.exp(high), 1.0)', 'return np.exp(high)', 'without spread there is no evidence'),
    ('highest = max(highest, min(1.0, p[i] * (len(p) - rank)))', 'highest = max(highest, min(1.0, p[i]))', 'several rows are paid for'),
    ('highest = max(highest, min(1.0, p[i] * (len(p) - rank)))', 'highest = max(highest, min(1.0, p[i] * len(p)))', "Holm's steps"),
    ('highest = max(highest, min(', 'highest = max(0., min(', 'p never falls below that of a clearer row'),
    ('LEVEL = 0.05  # of tables of equals, at most so many call anything better or worse', 'LEVEL = 0.13  # of tables of equals, at most so many call anything better or worse', "'better' at one and a half standard errors"),
    ("return 'better' if difference > 0", "return 'better' if difference < 0", 'the sign'),
    ("    if not (math.isfinite(error) and p <= LEVEL)", "    if not p <= LEVEL", 'an unknown error decides nothing'),
    ('*(right_images(x, seeds) for x in (done, cells[reference]))', '*(right_images(x, seeds) for x in (cells[reference], done))', 'ours minus reference'),
    ("holm([r['p'] for r in compared])", "[r['p'] for r in compared]", 'a table pays for its rows'),
    ('if not math.isfinite(error):', 'if False:', 'one seed is said'),
    ('if None in values:', 'if False:', 'a score that is missing has no mean'),
    ("statistics.stdev(values) if", "statistics.pstdev(values) if", 'standard deviation of a sample'),
    ("row['test_error'] = math.sqrt(p * (1 - p) / images)", "row['test_error'] = math.sqrt(p * (1 - p))", 'binomial error of the test set'),
    ('a / b for a, b in zip(seconds[name], seconds[reference])', 'b / a for a, b in zip(seconds[name], seconds[reference])', 'slower is above 0'),
    ("'step_seconds': statistics.median(seconds[name]),", "'step_seconds': min(seconds[name]),", 'the median of the steps'),
    ('if len(done) < len(runs):', 'if not done:', 'a row that lost a seed is not compared'),
    (("            row['failed'] = '; '.join(\n"
            "                dict.fromkeys(r['failed'] for r in runs if 'failed' in r)\n"
            '            )'), "            row['failed'] = 'failed'", 'the reason is told'),
    ("str(e).split(\";\")[0]", "str(e)", 'no folder of this machine in a result'),
    ('except FloatingPointError as e:', 'except KeyError as e:', 'the other rows go on'),
    ("'untrained': [untrained(s) for s in seeds],", "'untrained': [untrained(s) for s in seeds[:1]],", 'the untrained row has every seed'),
    ('            lambda: untrained_scores(cell_config(cfg, cfg.reference, seed)),', ('            lambda: untrained_scores(\n'
            '                cell_config(cfg, cfg.reference, cfg.train.run.seed)\n'
            '            ),'), 'each seed has an untrained encoder of its own'),
    (('    seeds, first = (\n'
            '        range(first_seed, first_seed + cfg.seeds),\n'
            '        cell_config(cfg, cfg.reference, first_seed),\n'
            '    )'), '    seeds, first = range(cfg.seeds), cell_config(cfg, cfg.reference, first_seed)', 'the first seed'),
    (('    if path.exists():\n'
            '        return read_json(path)'), '', 'what is there is not computed again'),
    ("            next(steps[name])[1].item()", "            next(steps[cfg.strategy if 0 else list(runs)[0]])[1].item()", 'each strategy takes its own steps'),
    ("return {name: t[warm_up:] for", "return {name: t for", 'the first steps are warm-up'),
    ('yield from epoch_steps(run, epoch)', 'yield from epoch_steps(run, 0)', 'the next epoch follows'),
    ("| own | {'seed': seed})", "| own)", 'the seed reaches the run'),
    (('    require(\n'
            '        batch_size <= images,\n'
            "        'batch_size',\n"
            "        f'at most the {images} training images',\n"
            '        batch_size,\n'
            '    )'), "    require(True, 'batch_size', f'at most the {images} training images', batch_size)", 'told before the folder is made'),
    ("    rehearse_rows(cfg, ", "    (lambda *a: None)(cfg, ", 'every row is asked before the folder is made'),
    ("raise ValueError(f'row {name!r}: {e}{hint}')", "raise ValueError(f'{e}{hint}')", 'the row is named'),
    (("    if any('difference' in r and 'p' not in r for r in rows.values()):\n"
            '        rows = rejudged(rows, reference)'), '', 'older results are judged by the rule of today'),
    ("itertools.cycle(row['linear']['values'])", "row['linear']['values']", 'a row without seeds is repeated'),
    (('        over_images = (\n'
            '            math.sqrt(max(error**2 - over_seeds**2, 0.0)) if len(d) > 1 else math.inf\n'
            '        )'), '        over_images = error if len(d) > 1 else math.inf', 'the error has two parts'),
    (('    failed = [\n'
            '        f\'{name} failed: {r["failed"]}\' for name, r in rows.items() if \'failed\' in r\n'
            '    ]'), "    failed = [f'{name} failed' for name, r in rows.items() if 'failed' in r]", 'the table says why'),
    ("c.rjust(w) for c, w", "c.ljust(w) for c, w", 'numbers stand right'),
    ("if name not in row or row[name]['mean'] is None:", 'if name not in row:', 'a missing mean is a dash'))

SWEEP_MUTANTS = of('sweep.py', SWEEP,
    ('differing(cfg).items() if k not in irrelevant', 'differing(__import__("unremix.train").train.resolve(cfg)).items() if k not in irrelevant', 'keys are of what was asked'),
    ("('log_every', 'data_root')", "('log_every',)", 'where the same images lie changes nothing'),
    (("        ('log_every',)\n"
            "        if cfg.data.dataset == 'imagefolder'\n"
            "        else ('log_every', 'data_root')"), "        ('log_every',) if False else ('log_every', 'data_root')", 'another folder of images is another run'),
    (('    return {\n'
            '        old_name.get(k, k): v\n'
            '        for k, v in cfg.fields().items()\n'
            '        if k not in usual or v != usual[k]\n'
            '    }'), '    return {old_name.get(k, k): v for k, v in cfg.fields().items()}', 'fields at their defaults do not count'),
    ("sort_keys=True).encode()", "sort_keys=False).encode()", 'the order of fields', 'the order of the fields of a dataclass is fixed'),
    (".hexdigest()[:12]", ".hexdigest()[:11]", 'older lines are found'),
    (('    return (\n'
            "        line['key'] == run_key(cfg)\n"
            "        or 'precision' not in line\n"
            "        and line['key'] in known_keys(cfg)\n"
            '    )'), "    return line['key'] == run_key(cfg)", 'lines of release 0.1.0 are found'),
    (('    return (\n'
            "        line['key'] == run_key(cfg)\n"
            "        or 'precision' not in line\n"
            "        and line['key'] in known_keys(cfg)\n"
            '    )'), "    return line['key'] == run_key(cfg) or line['key'] in known_keys(cfg)", 'a precision that was asked for is another run'),
    ("if cfg.run.precision == 'auto' else []", "", 'an asked precision is not any other'),
    ("fields = grid.base | fields | varied", "fields = fields | grid.base | varied", 'a cell wins over what all share'),
    ("fields.pop('seeds', grid.seeds)", "grid.seeds if fields.pop('seeds', 1) else 0", 'a cell may have seeds of its own'),
    (('            runs = [\n'
            "                TrainConfig.of(fields | {'seed': s})\n"
            '                for s in range(grid.seed, grid.seed + seeds)\n'
            '            ]'), "            runs = [TrainConfig.of(fields | {'seed': s}) for s in range(seeds)]", 'the first seed'),
    ("return sorted(found, key=lambda run: run[1].run.seed)", "return found", 'seed by seed'),
    ("raise ValueError(f'cell {name!r}: {e}') from None\n        processes", "raise\n        processes", 'the bad cell is named'),
    ("    rehearse_cells(grid, todo, lines, folder)\n", '', 'told before the first run'),
    ('grid.cells.items(), product(*grid.vary.values())', 'grid.cells.items(), zip(*grid.vary.values()) if grid.vary else [()]', 'every value meets every other'),
    ("    torch.set_num_threads(threads)\n", '', 'a run has one thread'),
    ('torch.set_num_threads(before)', 'pass', 'threads are given back'),
    ("str(e).split(';')[0]", "str(e)", 'no folder of this machine in a line'),
    ('except FloatingPointError as e:', 'except KeyError as e:', 'divergence is a result'),
    ("    except Exception as e:\n", "    except KeyError as e:\n", 'an error of one run does not stop the others'),
    ("    except Exception as e:\n", "    except BaseException as e:\n", 'Ctrl-C stops'),
    ("all('again' in l for l in lines_of(lines, name, cfg))", "not lines_of(lines, name, cfg)", 'a run that ended in an error is tried again'),
    ('as_line(l) for l in lines if l not in again', 'as_line(l) for l in lines', 'one line per run'),
    ("traceback.print_exc()", "pass", 'a mistake of ours shows where'),
    ("if l['cell'] == cell and is_of(l, cfg)]", "if is_of(l, cfg)]", 'a cell has lines of its own'),
    ("yield from ((name, cfg, result) for name, cfg in asked[key])", "yield from ((name, cfg, result) for name, cfg in asked[key][:1])", 'equal cells have a line each'),
    ("if l.endswith('}\\n')]", "]", 'a line that was cut off is left out'),
    ("allow_nan=False) + '\\n'", "allow_nan=True) + '\\n'", 'no NaN in json'),
    ("None if v is None else round(v, 6)", "None if v is None else round(v, 2)", 'six digits'),
    ("'test' if cfg.data.validation is None else 'validation'", "'test'", 'which images were scored'),
    ("if l.get(score) is not None:", "if 'failed' not in l:", 'a run that could not be scored has no score'),
    ("return line['failed']", "return 'failed'", 'the reason is told'),
    ("if any(l['cell'] == name and is_of(l, cfg) for name, cfg in declared)", "if any(l['cell'] == name and is_of(l, cfg) for name, cfg in declared) or True", 'lines of this grid only'),
    ("test.confidence_interval(confidence)", "test.confidence_interval(.9)", 'the asked confidence'),
    ("stats.ttest_rel(", "stats.ttest_ind(", 'seeds are paired'))

CLI_MUTANTS = of('cli.py', f'{CLI} {SWEEP} {COMPARE}::test_the_others_go_on',
    ("COLOUR.sub('', box)", "box", 'no escape codes in a sentence'),
    ("if set(line) <= RULE: parts", "if set(line) <= set('─'): parts", 'no dashes either'),
    ("    os.environ['COLUMNS'] = '100000'\n", '', 'a path is not broken'),
    ("        if before is None: del os.environ['COLUMNS']\n        else:", "        if before is not None:", 'the width comes back'),
    ("contextlib.nullcontext() if helps else wide_console()", "wide_console()", 'help fits the terminal'),
    ("if p and not p[0].startswith('For full helptext')", "if p", 'no pointer to the help'),
    ("    except BrokenPipeError: raise # nobody reads: `main` knows\n", '', 'a reader that left is no error'),
    ("    return GONE if deaf() else status", "    return status", 'what is still in the buffer'),
    ("        if getattr(sys, name) is None:", "        if False:", 'closed streams'),
    ("choose(args)(args[1:]) or 0", "choose(args)(args[1:]) and 0 or 0", 'status 1 where something failed'),
    ("if percent else ('–', '–')", "if True else ('–', '–')", 'a cell without scores is no division by zero'),
    ("    return int(any('failed' in row for row in result['rows'].values()))\n", '', 'status 1 for a row that failed'),
    ("    return int(any('again' in l for l in lines))\n", '', 'status 1 for a run that ended in an error'),
    ("command.workers, command.threads)", "command.workers)", '`--threads` reaches the runs'),
    ("'–' if v is None else f'{v:.3f}'", "f'{v or 0:.3f}'", 'a score that is missing is a dash'),
    ("    fields |= QUICK if '--quick' in args else {}\n", "    fields = (QUICK if '--quick' in args else {}) | fields\n", '`--quick` wins over a preset'),
    ("{min(percent):.2f} to {max(percent):.2f}", "{min(percent):.2f} to {min(percent):.2f}", 'the range'))

MUTANTS = EVALUATE_MUTANTS + COMPARE_MUTANTS + SWEEP_MUTANTS + CLI_MUTANTS
