"The training loop, the run folder and the networks: what the list of others leaves out."

STEP, FOLDER, FILES, KNOBS = ('tests/test_train_exact.py', 'tests/test_run_folder.py', 'tests/test_runs_exact.py', 'tests/test_schedules.py')


def of(file, tests, *changes):
    "Mutants of one module: (old, new, why) each, or with the reason why it is harmless."
    keys = 'old', 'new', 'why', 'harmless'
    return [dict(zip(keys, change), file=file, tests=tests) for change in changes]


def nodes(path, *names): return ' '.join(f'{path}::test_{name}' for name in names)


MUTANTS = [
    *of('devices.py', STEP,
        ('in_use and any(', 'in_use and all(', 'bfloat16 on a CPU that has one of the two sets of instructions'),
        ('return accelerator if is_here', "return 'auto' if is_here", 'a run is scored where it was trained, if it can be')),
    *of('run_folder.py', STEP,
        ("load_part(cfg, 'train', None)", "load_part(cfg, 'train', limit)", '`limit` counts what is left')),
    *of('image_task.py', STEP,
        ('make_encoder(name, channels, size)', "make_encoder('small', channels, size)", '`--encoder`')),
    *of('run_parts.py', STEP,
        ('Classifier(encoder.out_dim, len(samples.classes))', 'Classifier(encoder.out_dim, 100)', 'a logit for each class'),
        ('return super().forward(h), h', 'return super().forward(h), super().forward(h)', 'the supervised head hands out its input'),
        (("    if cfg.run.precision != 'auto':\n"
            '        return cfg'), '', 'an asked precision is used')),
    *of('steps.py', STEP,
        ('if step < warmup:', 'if step <= warmup:', 'the peak is reached in the last step of the warm-up'),
        ('return start * (1 - progress) + end * progress  # exact at both ends', 'return start + (end - start) * progress**2  # exact at both ends', 'a straight path'),
        ('warmup = round(optim.warmup_epochs * run.steps)', 'warmup = round(optim.warmup_epochs)', 'the warm-up is counted in epochs'),
        ('progress, schedule.anneal_steps)', 'progress, None)', '`--anneal-steps`'),
        ('total = run.steps * optim.epochs', 'total = run.steps', 'schedules last the whole run'),
        ('MicroBatches(run.model, views, size)', 'MicroBatches(run.model, views, len(views))', '`--micro-batch`'),
        (('        log_now = step % cfg.run.log_every == 0\n'
            '        values'), ('        log_now = True\n'
            '        values'), 'statistics cost a sort, so only logged steps have them'),
        ('n = (step + 1 - self.last)', 'n = (step - self.last)', 'images per second'),
        ("'epoch': step // run.steps, 'loss'", "'epoch': step // run.steps + 1, 'loss'", 'the epoch in the log'),
        ('self.last, self.clock = step + 1, now', '', 'the rate is that since the last line'),
        ("with open(self.path, 'a', encoding='utf-8') as f:", "with open(self.path, 'w', encoding='utf-8') as f:", 'the log has every line')),
    *of('train.py', STEP,
        ('(step + 1) % save_every == 0', 'step % save_every == 0', '`--save-every`'),
        ("'done': 0 if is_last else done,", "'done': done,", 'an epoch that is over is not begun again'),
        ("'steps': run.steps * run.cfg.optim.epochs,", "'steps': run.steps,", 'the steps of the result'),
        ('tensors = [*run.model.state_dict().values()] * 3', 'tensors = [*run.model.state_dict().values()]', 'room for the moments of the optimiser'),
        ('need = (3 - there) * size', 'need = (2 - there) * size', 'room for the newest, the one before and the one being written'),
        ('        result |= finish(run)\n', '        pass\n', 'scores join the result')),
    *of('checkpoint.py', nodes(FOLDER, 'the_last_good_state_holds_no_nan', 'a_diverged_run_names_the_knob', 'a_knob_is_blamed_only_if_the_strategy_has_it'),
        ('k: values.get(k, fields[k])', 'k: fields[k]', 'the knob as it was at that step'),
        ("beyond[name, f'raise {name}'] = 0.02 / size", "beyond[name, f'raise {name}'] = size / 0.02", 'a small temperature is blamed'),
        ('max(beyond.items()', 'min(beyond.items()', 'the knob that is furthest off'),
        ('if times <= 1:', 'if times < 0:', 'nothing usual is blamed'),
        ("MAY_DIVERGE = 'temperature', 'uncertainty_temperature', 'beta', 'kappa'", "MAY_DIVERGE = 'temperature', 'uncertainty_temperature', 'beta', 'kappa', 'lr'", 'a knob that is not used is not blamed')),
    *of('train.py', nodes(FOLDER, 'the_last_good_state_holds_no_nan', 'a_diverged_run_names_the_knob', 'a_knob_is_blamed_only_if_the_strategy_has_it'),
        ('                check_state(run, step, values, checkpoint)\n', '', 'no NaN in a checkpoint, nor in a finished run')),
    *of('machine.py', nodes(FOLDER, 'every_signal_finishes_the_step', 'signals_that_somebody_has_taken_are_left', 'a_system_without_these_signals'),
        ("'SIGHUP', 'SIGUSR1', 'SIGUSR2', 'SIGBREAK'", "'SIGUSR1', 'SIGUSR2', 'SIGBREAK'", 'a closed terminal'),
        ('for name in names if hasattr(signal, name)]', "for name in names if name != 'SIGBREAK']", 'systems without some signals'),
        ('return numbers_of(ALWAYS) + free', 'return numbers_of(ALWAYS) + others', 'nohup'),
        (('        for number, handler in old.items():\n'
            '            signal.signal(number, handler)'), '        pass', 'Ctrl-C after the training is as before')),
    *of('train.py', nodes(FOLDER, 'every_signal_finishes_the_step', 'signals_that_somebody_has_taken_are_left', 'a_system_without_these_signals'),
        ('return Interrupted(128 + number)', 'return Interrupted(143)', 'the status of the signal')),
    *of('run_parts.py', nodes(FOLDER, 'held_within_one_process_too', 'the_lock_dies_with_its_process', 'finished_by_another_meanwhile', 'auto_precision_is_chosen_once', 'a_part_of_one_view_is_refused', 'parts_of_two_views_train'),
        (('    if begun in PRECISIONS:\n'
            "        return cfg.but({'precision': begun})"), '', 'a run goes on in the precision that it began with')),
    *of('train.py', nodes(FOLDER, 'held_within_one_process_too', 'the_lock_dies_with_its_process', 'finished_by_another_meanwhile', 'auto_precision_is_chosen_once', 'a_part_of_one_view_is_refused', 'parts_of_two_views_train'),
        ('        on_first(run, lambda: held.enter_context(hold_folder(out)))\n', '', 'one process per folder', 'two starts at once are seen by test_two_starts_one_works, which takes a minute'),
        ('if result := on_first(run, lambda: check_folder(out, cfg)):', 'if result := None:', 'a folder that was finished meanwhile')),
    *of('safe_files.py', FILES,
        ('            os.fsync(f.fileno())\n', '', 'a file survives the plug'),
        (('            f.flush()\n'
            '            os.fsync'), '            os.fsync', 'what is synced is whole'),
        (('        if keep and path.exists():\n'
            '            os.replace(path, keep)'), '        pass', 'the checkpoint before'),
        ('json.dumps(plain(value), indent=1', 'json.dumps(plain(value)', 'json that people can read'),
        ('if not isinstance(value, dict):', 'if value is None:', 'a file that holds no object')),
    *of('devices.py', FILES,
        ('each = [x.isfinite().all()', 'each = [~x.isnan().all()', 'one infinite weight'),
        (('    if error:\n'
            '        raise error'), '', "an error of rank 0 is everybody's"),
        (('if run.fabric.is_global_zero:\n'
            '        try'), ('if True:\n'
            '        try'), 'only rank 0 writes')),
    *of('run_folder.py', FILES,
        ('name == HELD or', '', 'a folder that was killed while it was claimed'),
        ("name.startswith('config.json') and name.endswith('.part')", "name.endswith('.part')", "somebody else's folder"),
        ('as_saved(cfg.usual() | flat(saved))', 'as_saved(flat(saved))', 'a folder of an older release'),
        ('for k in found | wanted', 'for k in wanted', 'a setting that is gone'),
        ('return field not in NOT_OF_THE_RUN and not is_open', 'return not is_open', 'other logging habits'),
        ("        if not (out / 'config.json').exists():", '        if True:', 'the first configuration stays'),
        ("line['step'] < step]", "line['step'] <= step]", 'no step twice in the log')),
    *of('json_lines.py', FILES,
        ('            continue\n', '            raise\n', 'half a line'),
        (" and is_whole(line.get('step'), 0)", '', 'a line of no step')),
    *of('safe_files.py', nodes(FOLDER, 'what_a_user_calls_part_stays', 'a_link_stays_a_link'),
        ('OURS.search(left.name) and ', '', 'files of the user stay'),
        (' and left.is_file()', '', 'a folder of that name'),
        ('real = path if keep else Path(os.path.realpath(path))', 'real = path', 'a link stays one')),
    *of('checkpoint.py', FILES,
        ("        'optimizer': run.optimizer.state_dict(),", ("        'optimizer': {\n"
            "            'state': {},\n"
            "            'param_groups': run.optimizer.state_dict()['param_groups'],\n"
            '        },'), 'moments of the optimiser'),
        ("EXTRAS = 'criterion', 'queue', 'follower'", "EXTRAS = 'criterion', 'queue'", 'the momentum encoder of a continued run'),
        ("EXTRAS = 'criterion', 'queue', 'follower'", "EXTRAS = 'criterion', 'follower'", 'the queue of a continued run'),
        ('write_atomic(path, lambda f: torch.save(state, f), before(path))', 'write_atomic(path, lambda f: torch.save(state, f))', 'the checkpoint before the newest'),
        ("map_location='cpu', weights_only=True)", "map_location='cpu', weights_only=False)", 'code in a file is not run'),
        ('found = [p for p in (path, before(path)) if p.exists()]', 'found = [p for p in (before(path), path) if p.exists()]', 'the newest checkpoint first'),
        ("    run.optimizer.load_state_dict(state['optimizer'])\n", '', 'moments of the optimiser'),
        ('part.load_state_dict(state[name], strict=strict)', 'pass', 'queue and copy of a continued run'),
        ('return saved[rank]', 'return None', 'the generators inside an epoch')),
    *of('train.py', FILES,
        ('commit.strip()}', 'commit}', 'a version of one line')),
    *of('safe_files.py', nodes(FOLDER, 'held_within_one_process_too', 'the_lock_dies_with_its_process', 'windows_locks_a_byte_beyond_the_file', 'a_file_system_without_locks_is_named', 'a_finished_folder_needs_no_lock'),
        ('fcntl.LOCK_EX | fcntl.LOCK_NB', 'fcntl.LOCK_SH | fcntl.LOCK_NB', 'one process per folder'),
        ('        file.seek(FAR)\n', '', 'who holds it can be read on Windows'),
        ('            if e.errno not in TAKEN:\n', '            if False:\n', 'file systems without locks'),
        ('        path.unlink(missing_ok=True)\n', '        pass\n', 'no lock file in a finished folder'),
        (('    except FolderInUse:\n'
            '        raise'), '', 'told before the images are read'),
        ("'pid': os.getpid(),", "'pid': os.getppid(),", 'the process that holds it')),
    *of('safe_files.py', nodes(FOLDER, 'parts_have_names_of_their_own', 'an_error_inside_of_a_library_is_found', 'json_has_no_nan', 'how_and_where_are_not_what', 'what_is_refused_by_both', 'a_run_from_a_gpu_goes_on_without_one', 'a_run_of_two_processes_goes_on_with_one', 'a_run_from_a_gpu_is_scored_without_one', 'goes_on_with_other_habits'),
        ("f'{real.name}.{uuid.uuid4().hex[:8]}.part'", "f'{real.name}.part'", 'two writers of one file'),
        (('        with suppress(OSError):\n'
            '            beside.unlink()'), '', 'no rest of a failed write'),
        ('error = error.__context__', 'error = None', 'the reason below an error of torch.save'),
        ('math.isfinite(value) else None', 'value == value else None', 'json has no infinity')),
    *of('run_folder.py', nodes(FOLDER, 'parts_have_names_of_their_own', 'an_error_inside_of_a_library_is_found', 'json_has_no_nan', 'how_and_where_are_not_what', 'what_is_refused_by_both', 'a_run_from_a_gpu_goes_on_without_one', 'a_run_of_two_processes_goes_on_with_one', 'a_run_from_a_gpu_is_scored_without_one', 'goes_on_with_other_habits'),
        ('decode_to accelerator devices', 'decode_to devices', 'a run of another machine'),
        ('save_every data_root', 'save_every lr data_root', 'half a run with another setting')),
    *of('checkpoint.py', nodes(FOLDER, 'parts_have_names_of_their_own', 'an_error_inside_of_a_library_is_found', 'json_has_no_nan', 'how_and_where_are_not_what', 'what_is_refused_by_both', 'a_run_from_a_gpu_goes_on_without_one', 'a_run_of_two_processes_goes_on_with_one', 'a_run_from_a_gpu_is_scored_without_one', 'goes_on_with_other_habits'),
        ('if not (same or is_over):', 'if not same:', 'scoring is not going on'),
        ('same = len(saved) == size and kinds', 'same = kinds', 'generators of other processes'),
        ("    differ = disagreement(state['config'], cfg)\n", '    differ = {}\n', "another run's checkpoint"))]
