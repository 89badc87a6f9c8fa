"The command says what is wrong in one sentence, and touches nothing before it does."
import fcntl, json, os, pty, re, shutil, struct, subprocess, sys, termios
from pathlib import Path

import pytest
import torch
from unremix.cli import COMMANDS, main
from unremix.command_runs import SweepCommand
from unremix.commands import compare_command, train_command
from unremix.config import TrainConfig
from unremix.config_groups import GROUPS
from unremix.parsing import parse, sentence
from unremix.presets import PRESETS
from unremix.registry import known

LIMITS = {name: limit for kind in GROUPS.values() for name, limit in kind.limits.items()}

SMALL = ['--limit', '64', '--batch-size', '16', '--epochs', '1', '--log-every', '1', '--precision', '32-true']
BELOW = {'optimizer': 'lion', 'lr_schedule': 'step', 'precision': '8-bit', 'accelerator': 'abacus', 'limit': '0', 'validation': '0', 'image_size': '4', 'augment_strength': '3', 'head_hidden': '0', 'head_out': '1',
         'epochs': '0', 'batch_size': '1', 'lr': '0', 'weight_decay': '-1', 'clip_grad': '0', 'seed': '-1', 'log_every': '0',
         'save_every': '0', 'chunk_size': '0', 'queue_size': '-1', 'momentum': '1', 'micro_batch': '0', 'devices': '0', 'num_nodes': '0'}
TRAIN = [ # arguments after `train`, words of the sentence
    *[(['--'+name.replace('_', '-'), value], [name, allowed]) for name, value in BELOW.items() for _, words in [LIMITS[name]] for allowed in [words() if callable(words) else words]],
    (['--temperature-end', '0'], ['temperature_end', '> 0']), (['--strategy', 'hcl', '--tau-plus-end', '1'], ['tau_plus_end', '[0, 1)']),
    (['--strategy', 'hcl', '--beta-end', '-1'], ['beta_end', '≥ 0']), (['--temperature-end', '.1', '--anneal-steps', '0'], ['anneal_steps', '1 or more']),
    (['--beta-end', '0'], ['beta_end', 'None with simclr']), (['--strategy', 'hcl', '--beta-end'], ['beta_end must be given a number']),
    (['--strategy', 'hcl', '--beta-end', '--temperature-end', '1'], ['beta_end must be given a number']), (['--queue-size', '1000000000000'], ['the keys of the queue need', 'GB of memory', 'queue_size']), (['--beta', '2'], ['beta is no knob of simclr, which has temperature']),
    (['--strategy', 'hcl', '--bta', '2'], ['bta', 'perhaps beta']), (['--epoch', '2'], ['epoch', 'perhaps epochs']),
    (['--strategy', 'no.module:Mine'], ['no.module:Mine', 'cannot be imported']),
    (['--seed', '2147483648'], ['seed', '2**31-1']), (['--lr', 'nan'], ['lr', 'above 0']), (['--lr', 'inf'], ['lr', 'finite']),
    (['--weight-decay', 'inf'], ['weight_decay', 'finite']), (['--strategy', 'hcl', '--tau-plus-end', '-.1'], ['tau_plus_end', '[0, 1)']),
    (['--strategy', 'best'], ['strategy', "'best'", 'hcl']), (['--optimizer', 'lion'], ['optimizer', 'adamw']),
    (['--lr-schedule', 'step'], ['lr_schedule', 'cosine', 'constant']), (['--dataset', 'stl10_all', '--strategy', 'supervised'], ['strategy', 'stl10_all', 'no labels']),
    (['--precision', '8-bit'], ['precision', 'bf16-mixed']), (['--accelerator', 'abacus'], ['accelerator', 'cuda']),
    (['--warmup-epochs', '-1'], ['warmup_epochs', 'epochs']), (['--warmup-epochs', '9', '--epochs', '3'], ['warmup_epochs', 'between 0 and']),
    (['--devices', '3'], ['batch_size', 'a multiple of devices', '(3)']), (['--devices', '100'], ['batch_size', '(100)']),
    (['--strategy', 'supervised', '--queue-size', '8'], ['queue_size', 'supervised']),
    (['--strategy', 'unremix', '--select', 'sample', '--k-keep', '0', '--chunk-size', '4'], ['k_keep']),
    (['--temperature', '0'], ['temperature', '> 0']), (['--temperature', 'nan'], ['temperature']),
    (['--strategy', 'debiased', '--tau-plus', '1'], ['tau_plus', '[0, 1)']), (['--strategy', 'hcl', '--tau-plus', '-.1'], ['tau_plus', '[0, 1)']),
    (['--strategy', 'hcl', '--beta', '-1'], ['beta', '≥ 0']), (['--strategy', 'unremix', '--mix', '1', '1', '1'], ['mix']),
    (['--strategy', 'unremix', '--mix', '2', '-1', '0'], ['mix']), (['--strategy', 'unremix', '--kappa', '-1', '1'], ['kappa']),
    (['--strategy', 'unremix', '--uncertainty', 'doubt'], ['uncertainty', 'norm']), (['--strategy', 'unremix', '--uncertainty-temperature', '0'], ['uncertainty_temperature']),
    (['--strategy', 'unremix', '--normalize', 'max'], ['normalize', 'softmax']), (['--strategy', 'unremix', '--pool', 'cubic'], ['pool', 'linear']),
    (['--strategy', 'unremix', '--select', 'best', '--k-keep', '3'], ['select', 'top']), (['--strategy', 'unremix', '--select', 'top', '--k-keep', '0'], ['k_keep']),
    (['--batch-size', '128', '--limit', '64'], ['batch_size', '64']),
    (['--dataset', 'cats'], ['dataset', "'cats'", 'fashion_mini']), (['--encoder', 'huge'], ['encoder', "'huge'"]),
    (['--dataset', 'imagefolder', '--data-root', 'no/such/folder'], ['no/such/folder']),
    (['--dataset', 'imagefolder'], ['data_root']),
    (['--epochs', 'ten'], ['--epochs', 'ten']), (['--no-such-option', '1'], ['no_such_option']), (['--strategy', 'unremix', '--mix', '1', '0'], ['--mix', '3']),
    (['--preset', 'everything'], ['preset', *PRESETS]), (['--preset'], ['preset'])]
COMPARE = [
    (['--devices', '2'], ['devices', 'compare', 'train']),
    (['--strategies', 'simclr', 'best'], ['strategy', "'best'", 'simclr']), (['--strategies', 'simclr', 'simclr'], ['strategies', 'different']),
    (['--strategies', 'hcl', 'unremix', '--reference', 'simclr'], ['reference', "'simclr'"]),
    (['--strategies', 'simclr', '--beta', '2'], ['beta', 'None with simclr']), (['--bta', '2'], ['bta', 'perhaps beta']),
    (['--strategy', 'hcl'], ['strategy', 'perhaps strategies']), (['--strategies', 'hcl(bta=2)'], ['bta', 'perhaps beta']),
    (['--strategies', 'hcl(lr=1)'], ['lr', 'shared']), (['--strategies', 'hcl', 'hcl(beta=1.)'], ['strategies', 'different']), (['--seeds', '0'], ['seeds', '1 or more']), (['--timed-steps', '-1'], ['timed_steps', '0 or more']),
    (['--temperature', '-1'], ['temperature']), (['--dataset', 'cats'], ['dataset']),
    (['--strategies', 'hcl', '--beta-end', '--temperature-end', '1'], ['beta_end must be given a number']), (['--strategies', 'hcl', '--beta-end'], ['beta_end must be given a number'])]

def refused(capsys, args, words):
    "Exit status 2 and one sentence with the words on stderr."
    assert main(args) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith('unremix: error: ') and len(error.splitlines()) == 1
    assert 'Traceback' not in error and not set('╭│╰') & set(error)
    for word in words: assert word in error, error

def listing(folder): return {p: p.read_bytes() for p in Path(folder).rglob('*') if p.is_file()}

@pytest.mark.parametrize('args,words', TRAIN, ids=lambda x: ' '.join(x))
def test_train_refuses(args, words, capsys, tmp_path):
    refused(capsys, ['train', '--out', str(tmp_path/'run'), *SMALL[:2 if '--limit' in args else None], *args], words)
    assert not (tmp_path/'run').exists()

@pytest.mark.parametrize('args,words', COMPARE, ids=lambda x: ' '.join(x))
def test_compare_refuses(args, words, capsys, tmp_path):
    refused(capsys, ['compare', '--out', str(tmp_path/'run'), *args], words)
    assert not (tmp_path/'run').exists()

def test_every_limit_has_a_row():
    assert set(BELOW) == set(LIMITS)

@pytest.mark.parametrize('args,words', [(['dance'], ['dance', 'compare']), (['evaluate', 'no/run'], ['no/run', 'finished']), (['evaluate'], ['PATH'])], ids=str)
def test_command_refuses(args, words, capsys): refused(capsys, args, words)

@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp('cli')/'run'
    assert main(['train', '--out', str(out), *SMALL]) == 0
    return out

@pytest.fixture
def run(finished, tmp_path): return Path(shutil.copytree(finished, tmp_path/'run'))

def unfinish(run): (run/'result.json').unlink()
def truncate(run): unfinish(run); c = run/'checkpoint.pt'; c.write_bytes(c.read_bytes()[:1000])
def foreign(run): unfinish(run); torch.save({'weights': torch.zeros(3)}, run/'checkpoint.pt')
def not_torch(run): unfinish(run); (run/'checkpoint.pt').write_text('hello')
def other_model(run): unfinish(run); s = torch.load(run/'checkpoint.pt'); s['model'] = {'w': torch.zeros(1)}; torch.save(s, run/'checkpoint.pt')
def bad_config(run): (run/'config.json').write_text('{"seed": 0')
def no_config(run): (run/'config.json').unlink()
def other_seed(run): c = json.loads((run/'config.json').read_text()); (run/'config.json').write_text(json.dumps(c | {'run': c['run'] | {'seed': 7}, 'optim': c['optim'] | {'lr': .5}}))
def list_config(run): (run/'config.json').write_text('[1, 2]')
def a_file(run): shutil.rmtree(run); run.write_text('a file')
def bad_result(run): (run/'result.json').write_text('{')

@pytest.mark.parametrize('damage,words', [(truncate, ['checkpoint', 'cannot be read', 'delete']), (foreign, ['checkpoint', 'lacks', 'not written by unremix']), (not_torch, ['checkpoint', 'cannot be read']),
    (other_model, ['another model']), (bad_config, ['config.json', 'not a json object']), (no_config, ['no config.json']), (other_seed, ['seed (7, asked 0)', 'lr (0.5, asked']),
    (list_config, ['config.json']), (a_file, ['is a file']), (bad_result, ['result.json', 'not a json object'])], ids=lambda x: getattr(x, '__name__', ''))
def test_damaged_folder(damage, words, run, capsys):
    damage(run)
    before = listing(run.parent)
    refused(capsys, ['train', '--out', str(run), *SMALL], words)
    assert listing(run.parent) == before

def test_folder_that_cannot_be_made(tmp_path, capsys):
    (tmp_path/'file').write_text('')
    refused(capsys, ['train', '--out', str(tmp_path/'file'/'run'), *SMALL], ['out=', 'cannot be written'])

def test_evaluate_again(run, capsys):
    before = json.loads((run/'result.json').read_text())
    assert main(['evaluate', str(run)]) == 0
    assert json.loads((run/'result.json').read_text()) == before

def test_evaluate_damaged(run, capsys):
    (run/'checkpoint.pt').write_bytes(b'')
    before = listing(run)
    refused(capsys, ['evaluate', str(run)], ['checkpoint', 'cannot be read'])
    assert listing(run) == before

def test_finished_says_so(run, capsys):
    before = listing(run)
    assert main(['train', '--out', str(run), *SMALL]) == 0
    assert 'finished' in capsys.readouterr().out
    assert listing(run) == before

def test_strategies_lists_all(capsys):
    assert main(['strategies']) == 0
    assert set(known()) <= {l.split()[0] for l in capsys.readouterr().out.splitlines() if l}

def test_strategies_fit_a_terminal(capsys):
    main(['strategies'])
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80

def test_strategies_for_a_program(capsys):
    assert main(['strategies', '--json']) == 0
    records = {r['name']: r for r in json.loads(capsys.readouterr().out)}
    assert set(records) == set(known())
    beta = next(k for k in records['hcl']['knobs'] if k['name'] == 'beta')
    assert beta['default'] == 1 and beta['moves'] and beta['about']
    assert records['hcl']['page'] == 'library/hard_negatives.html' and 'Robinson' in records['hcl']['source']

def test_a_command_leaves_the_next_one_its_options(tmp_path, capsys):
    "`given` is UnReMix with some knobs fixed; the fixed ones had vanished from UnReMix too."
    assert main(['train', '--strategy', 'given', '--temperature', '0', '--out', str(tmp_path/'a')]) == 2
    capsys.readouterr()
    assert main(['train', '--strategy', 'unremix', '--mix', '2', '0', '0', '--out', str(tmp_path/'b')]) == 2
    assert 'mix must be three numbers' in capsys.readouterr().err

def test_help_names_every_command(capsys):
    assert main(['--help']) == 0
    text = capsys.readouterr().out
    assert all(c in text for c in COMMANDS)

def test_as_a_process(tmp_path):
    command = [Path(sys.executable).with_name('unremix'), 'train', '--out', tmp_path/'run', '--beta-end', '-1']
    r = subprocess.run(command, capture_output=True, text=True)
    assert r.returncode == 2 and not (tmp_path/'run').exists()
    assert r.stderr.count('\n') == 1 and r.stderr.startswith('unremix: error: beta_end must be')

def test_sentence_unwraps_the_box():
    box = '╭─ Value error ─╮\n│ Error parsing config: a=0: must │\n│ be 1 │\n│ ───── │\n│ For full helptext, see x │\n╰───╯'
    assert sentence(box) == 'a=0: must be 1'


def in_terminal(args, columns, **env):
    "What a command writes when all three streams are a terminal in colour; its exit status."
    main_end, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack('HHHH', 40, columns, 0, 0))
    clean = {k: v for k, v in os.environ.items() if k not in ('COLUMNS', 'NO_COLOR')}
    process = subprocess.Popen(UNREMIX + args, stdin=end, stdout=end, stderr=end, env=clean | {'TERM': 'xterm-256color'} | env)
    os.close(end)
    seen = b''
    while True:
        try: part = os.read(main_end, 65536)
        except OSError: break # Linux: the other end is closed
        if not part: break
        seen += part
    os.close(main_end)
    return process.wait(), seen.decode().replace('\r\n', '\n')

UNREMIX = [str(Path(sys.executable).with_name('unremix'))]
def test_sentence_in_a_colour_terminal():
    status, text = in_terminal(['train', '--temperature', '-1', '--epochs', '3'], 40)
    assert (status, text) == (2, 'unremix: error: temperature must be a number > 0, got -1.0\n')

def test_help_keeps_the_terminal_s_width():
    status, text = in_terminal(['evaluate', '--help'], 50)
    assert status == 0 and '\x1b[' in text
    assert max(map(len, re.sub(r'\x1b\[[0-9;]*m', '', text).splitlines())) <= 50

def shell(line): return subprocess.run(['bash', '-c', line], capture_output=True, text=True)

@pytest.mark.parametrize('args', ('--help', 'train --help'))
def test_reader_that_leaves(args):
    "Nothing is said, and the status is that of SIGPIPE."
    r = shell(f'{UNREMIX[0]} {args} | true; exit ${{PIPESTATUS[0]}}')
    assert (r.returncode, r.stderr) == (141, '')

def test_closed_streams():
    assert shell(f'{UNREMIX[0]} strategies >&- 2>&-').returncode == 0
    r = shell(f'{UNREMIX[0]} train --temperature 0 >&-')
    assert r.returncode == 2 and r.stderr == 'unremix: error: temperature must be a number > 0, got 0.0\n'

def test_as_a_module():
    told = subprocess.run([sys.executable, '-m', 'unremix.cli', '--help'], capture_output=True, text=True)
    assert told.returncode == 0 and all(c in told.stdout for c in COMMANDS)
    wrong = subprocess.run([sys.executable, '-m', 'unremix', 'dance'], capture_output=True, text=True)
    assert wrong.returncode == 2 and wrong.stderr.startswith('unremix: error: command must be')

MEMORY = {'cpu': RuntimeError("[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 8000 bytes."),
          'gpu': torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB.'), 'python': MemoryError(), 'size': RuntimeError('Storage size calculation overflowed with sizes=[1]')}

@pytest.mark.parametrize('kind', MEMORY)
def test_memory_that_cannot_be_had(kind, capsys):
    def run(args): raise MEMORY[kind]
    assert main(['train'], run) == 2
    error = capsys.readouterr().err
    assert error.startswith('unremix: error: memory ran out: ') and error.count('\n') == 1

def test_other_errors_of_pytorch_are_ours():
    def run(args): raise RuntimeError('shape mismatch')
    with pytest.raises(RuntimeError, match='shape mismatch'): main(['train'], run)

@pytest.mark.parametrize('command', (train_command, compare_command))
def test_a_value_may_begin_with_a_dash(command):
    assert command(['--out=-x']).out == Path('-x') and command(['--out=--x=y']).out == Path('--x=y')
    config = command(['--data-root=-x', '--lr=1']).config
    assert '-x' == getattr(config, 'train', config).data.data_root

def test_a_dash_before_a_number():
    schedule = train_command(['--strategy=hcl', '--temperature-end=.1', '--data-root=-x']).config
    assert schedule.schedule.ends == {'temperature': .1} and schedule.data.data_root == '-x'
    with pytest.raises(ValueError, match='beta_end.*≥ 0'): train_command(['--strategy=hcl', '--beta-end=-1'])

@pytest.mark.parametrize('words', (['--out=~/x'], ['--out', '~/x']))
def test_the_home_folder_that_the_shell_has_left(words, monkeypatch):
    monkeypatch.setenv('HOME', '/home/me')
    assert train_command(words).out == compare_command(words).out == Path('/home/me/x')
    swept = parse(SweepCommand, ['grid.toml', *words], 'unremix sweep')
    assert swept.out == Path('/home/me/x') and swept.grid == Path('grid.toml')

def test_the_home_folder_in_a_table(monkeypatch):
    "As in a grid; a name within a path stays."
    monkeypatch.setenv('HOME', '/home/me')
    cfg = TrainConfig.of({'data_root': '~/photos', 'sample_ids': None, 'start_from': 'runs/~/x', 'dataset': 'imagefolder'})
    assert (cfg.data.data_root, cfg.model.start_from) == ('/home/me/photos', 'runs/~/x')
