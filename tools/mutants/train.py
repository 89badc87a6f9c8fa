"The training loop, the run folder and the networks: what the list of others leaves out."

STEP, FOLDER, FILES, KNOBS = ('tests/test_train_exact.py', 'tests/test_run_folder.py', 'tests/test_runs_exact.py', 'tests/test_schedules.py')


def of(file, tests, *changes):
    "Mutants of one module: (old, new, why) each, or with the reason why it is harmless."
    keys = 'old', 'new', 'why', 'harmless'
    return [dict(zip(keys, change), file=file, tests=tests) for change in changes]


def nodes(path, *names): return ' '.join(f'{path}::test_{name}' for name in names)


MUTANTS = [
    *of('train.py', STEP,
        ('if step < warmup:', 'if step <= warmup:', 'the peak is reached in the last step of the warm-up'),
        ('return start * (1 - progress) + end * progress  # exact at both ends', 'return start + (end - start) * progress**2  # exact at both ends', 'a straight path'),
        ('warmup = round(optim.warmup_epochs * run.steps)', 'warmup = round(optim.warmup_epochs)', 'the warm-up is counted in epochs'),
        (('        now[knob] = scheduled(\n'
            '            start, schedule.ends[knob], progress, schedule.anneal_steps\n'
            '        )'), '        now[knob] = scheduled(start, schedule.ends[knob], progress, None)', '`--anneal-steps`'),
        (('    optim, schedule, total = (\n'
            '        run.cfg.optim,\n'
            '        run.cfg.schedule,\n'
            '        run.steps * run.cfg.optim.epochs,\n'
            '    )'), '    optim, schedule, total = run.cfg.optim, run.cfg.schedule, run.steps', 'schedules last the whole run'),
        ("make_encoder(cfg.model.encoder, images.x.shape[1], images.x.shape[-1])", "make_encoder('small', images.x.shape[1], images.x.shape[-1])", '`--encoder`'),
        ("Classifier(encoder.out_dim, len(images.classes))", "Classifier(encoder.out_dim, 100)", 'a logit for each class'),
        ("return super().forward(h), h", "return super().forward(h), super().forward(h)", 'the supervised head hands out its input'),
        ("fast_cpu = wide and any(", "fast_cpu = wide and all(", 'bfloat16 on a CPU that has one of the two sets of instructions'),
        (("    if cfg.run.precision != 'auto':\n"
            '        return cfg'), '', 'an asked precision is used'),
        ("            cfg.data.dataset, 'train', cfg.data.data_root, None, cfg.data.image_size", ('            cfg.data.dataset,\n'
            "            'train',\n"
            '            cfg.data.data_root,\n'
            '            cfg.data.limit,\n'
            '            cfg.data.image_size,'), '`limit` counts what is left'),
        ("accelerator if there.get", "'auto' if there.get", 'a run is scored where it was trained, if it can be'),
        ("MicroBatches(run.model, views, run.cfg.memory.micro_batch)", "MicroBatches(run.model, views, len(views))", '`--micro-batch`'),
        ("step % cfg.run.log_every == 0\n        x, y", "step % 1 == 0\n        x, y", 'statistics cost a sort, so only logged steps have them'),
        (('        now, seen = (\n'
            '            time.perf_counter(),\n'
            '            (step + 1 - self.last) * run.cfg.optim.batch_size,\n'
            '        )'), '        now, seen = time.perf_counter(), (step - self.last) * run.cfg.optim.batch_size', 'images per second'),
        ("'epoch': step // run.steps,", "'epoch': step // run.steps + 1,", 'the epoch in the log'),
        ('self.last, self.clock = step + 1, now', '', 'the rate is that since the last line'),
        ("with open(self.path, 'a', encoding='utf-8') as f:", "with open(self.path, 'w', encoding='utf-8') as f:", 'the log has every line'),
        ('and (step + 1) % run.cfg.run.save_every == 0', 'and step % run.cfg.run.save_every == 0', '`--save-every`'),
        ("'done': 0 if last else done,", "'done': done,", 'an epoch that is over is not begun again'),
        ("'steps': run.steps * run.cfg.optim.epochs,", "'steps': run.steps,", 'the steps of the result'),
        ('tensors = [*run.model.state_dict().values()] * 3 + [', 'tensors = [*run.model.state_dict().values()] + [', 'room for the moments of the optimiser'),
        ('3 * sum(x.numel() * x.element_size() for x in tensors) + 2**20,', '2 * sum(x.numel() * x.element_size() for x in tensors) + 2**20,', 'room for the newest, the one before and the one being written'),
        ("| (finish(run) if finish and first else {})", "", 'scores join the result')),
    *of('train.py', nodes(FOLDER, 'the_last_good_state_holds_no_nan', 'a_diverged_run_names_the_knob', 'a_knob_is_blamed_only_if_the_strategy_has_it'),
        ("                check_state(run, step, values, checkpoint)\n", "", 'no NaN in a checkpoint, nor in a finished run'),
        ('k: values.get(k, fields[k])', 'k: fields[k]', 'the knob as it was at that step'),
        ("beyond[name, f'raise {name}'] = 0.02 / now[name]", "beyond[name, f'raise {name}'] = now[name] / 0.02", 'a small temperature is blamed'),
        ("max(beyond.items()", "min(beyond.items()", 'the knob that is furthest off'),
        ('if times <= 1:', 'if times < 0:', 'nothing usual is blamed'),
        ("for k in ('temperature', 'uncertainty_temperature', 'beta', 'kappa')", "for k in ('temperature', 'uncertainty_temperature', 'beta', 'kappa', 'lr')", 'a knob that is not used is not blamed')),
    *of('train.py', nodes(FOLDER, 'every_signal_finishes_the_step', 'signals_that_somebody_has_taken_are_left', 'a_system_without_these_signals'),
        ("'SIGHUP', 'SIGUSR1', 'SIGUSR2', 'SIGBREAK'", "'SIGUSR1', 'SIGUSR2', 'SIGBREAK'", 'a closed terminal'),
        ("for name in names if hasattr(signal, name)]", "for name in names if name != 'SIGBREAK']", 'systems without some signals'),
        (('    return always + [\n'
            '        number for number in others if signal.getsignal(number) == signal.SIG_DFL\n'
            '    ]'), '    return always + [number for number in others]', 'nohup'),
        (('        for number, handler in old.items():\n'
            '            signal.signal(number, handler)'), '        pass', 'Ctrl-C after the training is as before'),
        ("raise Interrupted(128 + stop)", "raise Interrupted(143)", 'the status of the signal')),
    *of('train.py', nodes(FOLDER, 'held_within_one_process_too', 'the_lock_dies_with_its_process', 'finished_by_another_meanwhile', 'auto_precision_is_chosen_once', 'a_part_of_one_view_is_refused', 'parts_of_two_views_train'),
        ("        on_first(run, lambda: stack.enter_context(hold_folder(out)))\n", "", 'one process per folder', 'two starts at once are seen by test_two_starts_one_works, which takes a minute'),
        (('        if result := on_first(run, lambda: check_folder(out, cfg)):\n'
            '            return result  # another process was faster'), '', 'a folder that was finished meanwhile'),
        (('    if begun in PRECISIONS:\n'
            "        return cfg.but({'precision': begun})"), '', 'a run goes on in the precision that it began with')),
    *of('run_folder.py', FILES,
        ("            os.fsync(f.fileno())\n", "", 'a file survives the plug'),
        ("            f.flush()\n            os.fsync", "            os.fsync", 'what is synced is whole'),
        (('        if keep and path.exists():\n'
            '            os.replace(path, keep)'), '        pass', 'the checkpoint before'),
        ("text = json.dumps(plain(value), indent=1", "text = json.dumps(plain(value)", 'json that people can read'),
        ('if not isinstance(value, dict):', 'if value is None:', 'a file that holds no object'),
        ("name == HELD or", "", 'a folder that was killed while it was claimed'),
        ("name.startswith('config.json') and name.endswith('.part')", "name.endswith('.part')", "somebody else's folder"),
        ("found = cfg.usual() | flat(found)", "found = flat(found)", 'a folder of an older release'),
        ('for k in found | wanted', 'for k in wanted', 'a setting that is gone'),
        (('        if k not in NOT_OF_THE_RUN\n'
            '        and not (k in LEFT_OPEN and wanted.get(k) == LEFT_OPEN[k])'), '        if not (k in LEFT_OPEN and wanted.get(k) == LEFT_OPEN[k])', 'other logging habits'),
        ("        if not (out / 'config.json').exists():", '        if True:', 'the first configuration stays'),
        ("if l.endswith('}\\n') and json", "if json", 'half a line'),
        ("json.loads(l)['step'] < step]", "json.loads(l)['step'] <= step]", 'no step twice in the log'),
        ("        'optimizer': run.optimizer.state_dict(),", ("        'optimizer': {\n"
            "            'state': {},\n"
            "            'param_groups': run.optimizer.state_dict()['param_groups'],\n"
            '        },'), 'moments of the optimiser'),
        ("    'follower',", '', 'the momentum encoder of a continued run'),
        ("    'queue',", '', 'the queue of a continued run'),
        ("write_atomic(path, lambda f: torch.save(state, f), before(path))", "write_atomic(path, lambda f: torch.save(state, f))", 'the checkpoint before the newest'),
        ("map_location='cpu', weights_only=True)", "map_location='cpu', weights_only=False)", 'code in a file is not run'),
        ("found = [p for p in (path, before(path)) if p.exists()]", "found = [p for p in (before(path), path) if p.exists()]", 'the newest checkpoint first'),
        ("    run.optimizer.load_state_dict(state['optimizer'])\n", "", 'moments of the optimiser'),
        ("part.load_state_dict(state[name], strict=strict)", "pass", 'queue and copy of a continued run'),
        ('return seen[rank] if done else None  # the next epoch seeds them', 'return None  # the next epoch seeds them', 'the generators inside an epoch'),
        (('    good = torch.stack(\n'
            '        [x.isfinite().all().to(run.fabric.device) for x in tensors]\n'
            '    ).int()'), '    good = torch.stack([~x.isnan().all().to(run.fabric.device) for x in tensors]).int()', 'one infinite weight'),
        (('    if error:\n'
            '        raise error'), '', 'an error of rank 0 is everybody\'s'),
        ("if run.fabric.is_global_zero:\n        try", "if True:\n        try", 'only rank 0 writes'),
        ("commit.strip()}", "commit}", 'a version of one line')),
    *of('run_folder.py', nodes(FOLDER, 'held_within_one_process_too', 'the_lock_dies_with_its_process', 'windows_locks_a_byte_beyond_the_file', 'a_file_system_without_locks_is_named', 'a_finished_folder_needs_no_lock'),
        ("fcntl.LOCK_EX | fcntl.LOCK_NB", "fcntl.LOCK_SH | fcntl.LOCK_NB", 'one process per folder'),
        ("        file.seek(FAR)\n", "", 'who holds it can be read on Windows'),
        ("            if e.errno not in TAKEN:\n", "            if False:\n", 'file systems without locks'),
        ("if os.name != 'nt':", 'if False:', 'no lock file in a finished folder'),
        (('    except FolderInUse:\n'
            '        raise'), '', 'told before the images are read'),
        ("'pid': os.getpid(),", "'pid': os.getppid(),", 'the process that holds it')),
    *of('run_folder.py', nodes(FOLDER, 'parts_have_names_of_their_own', 'an_error_inside_of_a_library_is_found', 'json_has_no_nan', 'how_and_where_are_not_what', 'what_is_refused_by_both', 'a_run_from_a_gpu_goes_on_without_one', 'a_run_of_two_processes_goes_on_with_one', 'a_run_from_a_gpu_is_scored_without_one', 'goes_on_with_other_habits'),
        ("f'{path.name}.{uuid.uuid4().hex[:8]}.part'", "f'{path.name}.part'", 'two writers of one file'),
        (('        with suppress(OSError):\n'
            '            beside.unlink()'), '', 'no rest of a failed write'),
        ("e = e.__context__", "e = None", 'the reason below an error of torch.save'),
        ("math.isfinite(value) else None", "value == value else None", 'json has no infinity'),
        ("'accelerator',", '', 'a run of another machine'),
        ("    'data_root',", ("    'data_root',\n"
            "    'lr',"), 'half a run with another setting'),
        ('if not (same or over):', 'if not same:', 'scoring is not going on'),
        ("same = len(seen) == size and generators", "same = generators", 'generators of other processes'),
        ("    differ = disagreement(state['config'], cfg)\n", "    differ = {}\n", "another run's checkpoint"))]
