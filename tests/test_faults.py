"What a run survives: kills at any moment, signals, damaged files, full disks; alone, with a queue, with two processes."
import dataclasses, json, random, shutil, signal, time, warnings
from collections import namedtuple

import pytest
import torch
from torch.testing import assert_close

from configs import run_of
import unremix.run_parts, unremix.steps, unremix.train
from kills import Job, spoil_loss
from unremix.run_folder import split_images
from unremix.run_parts import make_model, set_up
from unremix.train import train

SMALL = dict(limit=96, batch_size=16, epochs=3, log_every=1, precision='32-true', save_every=2, accelerator='cpu', channels_last=False)
RUNS = {
    'alone': run_of(**SMALL, strategy='unremix', select='sample', k_keep=9),
    'queue': run_of(**SMALL, strategy='hcl', queue_size=40, momentum=.9),
    'two processes': run_of(**SMALL, strategy='hcl', devices=2)}
KILLS = 20


def state(out):
    "Everything of the last checkpoint but times and the configuration."
    saved = torch.load(out/'checkpoint.pt', weights_only=True)
    return {k: saved.get(k) for k in ('model', 'optimizer', 'queue', 'follower', 'criterion', 'epoch', 'loss')}


def lines(out): return [{k: v for k, v in json.loads(l).items() if k != 'images_per_s'} for l in (out/'log.jsonl').read_text().splitlines()]


@pytest.mark.parametrize('name', RUNS)
def test_killed_at_random_moments(name, tmp_path):
    "20 times SIGKILL, each some time after the start, then left alone: the same bits as a run that was never touched."
    cfg, chance = RUNS[name], random.Random(0)
    for out in (tmp_path/'whole', tmp_path/'again'): # the first one pays for starting the server
        start = time.monotonic()
        assert set(Job(cfg, out).wait()) == {0}
    whole, kills = time.monotonic() - start, 0
    for attempt in range(4*KILLS):
        if kills == KILLS: break
        if (tmp_path/'killed'/'result.json').exists(): # it was faster: kill a new one, sooner
            shutil.move(tmp_path/'killed', tmp_path/f'finished{attempt}')
            whole *= .9
        kills += Job(cfg, tmp_path/'killed').killed_after(chance.uniform(.1, 1.)*whole)
    assert kills == KILLS
    assert set(Job(cfg, tmp_path/'killed').wait()) == {0}
    for out in [tmp_path/'again', tmp_path/'killed', *tmp_path.glob('finished*')]:
        assert_close(state(out), state(tmp_path/'whole'), rtol=0, atol=0)
        assert lines(out) == lines(tmp_path/'whole') and [l['step'] for l in lines(out)] == list(range(18))


def test_killed_while_claiming_the_folder(tmp_path):
    (tmp_path/'config.json.part').write_text('{"lr')
    assert train(RUNS['alone'], tmp_path, progress=False)['steps'] == 18 and not (tmp_path/'config.json.part').exists()
    (tmp_path/'config.json').unlink()
    with pytest.raises(ValueError, match='has files but no config.json'): train(RUNS['alone'], tmp_path, progress=False)


@pytest.mark.parametrize('name, number, status', (('alone', signal.SIGTERM, 143), ('queue', signal.SIGINT, 130), ('two processes', signal.SIGTERM, 143)))
def test_signal_finishes_the_step_and_saves(name, number, status, tmp_path):
    "Also where only one of two processes is told."
    cfg = run_of(**{**RUNS[name].fields(), 'save_every': None, 'epochs': 4})
    assert set(Job(cfg, tmp_path/'whole').wait()) == {0}
    job = Job(cfg, tmp_path/'stopped')
    while job.running() and not ((tmp_path/'stopped'/'log.jsonl').exists() and '"step": 7,' in (tmp_path/'stopped'/'log.jsonl').read_text()): time.sleep(.005)
    job.processes[-1].terminate() if number == signal.SIGTERM else job.send(number)
    assert set(job.wait()) == {status}
    saved = torch.load(tmp_path/'stopped'/'checkpoint.pt', weights_only=True)
    assert saved['epoch']*6 + saved['done'] == len(lines(tmp_path/'stopped')) >= 8 and not (tmp_path/'stopped'/'result.json').exists()
    assert set(Job(cfg, tmp_path/'stopped').wait()) == {0}
    assert_close(state(tmp_path/'stopped'), state(tmp_path/'whole'), rtol=0, atol=0)
    assert lines(tmp_path/'stopped') == lines(tmp_path/'whole')


def test_damaged_checkpoint_falls_back(tmp_path):
    cfg = RUNS['alone']
    whole = train(cfg, tmp_path/'whole', progress=False)
    shutil.copytree(tmp_path/'whole', tmp_path/'damaged')
    (tmp_path/'damaged'/'result.json').unlink()
    newest = tmp_path/'damaged'/'checkpoint.pt'
    newest.write_bytes(newest.read_bytes()[:5000])
    with pytest.warns(UserWarning, match='cannot be read.*going on from .*checkpoint_before.pt'): again = train(cfg, tmp_path/'damaged', progress=False)
    assert again['loss'] == whole['loss'] and lines(tmp_path/'damaged') == lines(tmp_path/'whole')
    assert_close(state(tmp_path/'damaged'), state(tmp_path/'whole'), rtol=0, atol=0)


def test_foreign_checkpoint_is_refused(tmp_path):
    cfg = run_of(**{**SMALL, 'epochs': 1, 'save_every': None})
    train(cfg, tmp_path/'a', progress=False)
    train(run_of(**{**cfg.fields(), 'seed': 1}), tmp_path/'b', progress=False)
    (tmp_path/'b'/'result.json').unlink()
    shutil.copy(tmp_path/'a'/'checkpoint.pt', tmp_path/'b'/'checkpoint.pt')
    with pytest.raises(ValueError, match=r'is of a run with other settings \(seed\)'): train(run_of(**{**cfg.fields(), 'seed': 1}), tmp_path/'b', progress=False)


def test_full_disk_is_noticed_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr(unremix.train.shutil, 'disk_usage', lambda path: namedtuple('usage', 'total used free')(10, 9, 2**20))
    monkeypatch.setattr(unremix.train, 'fit', lambda *args: pytest.fail('it trained'))
    with pytest.raises(OSError, match=r'with 1 MB left, and checkpoints need \d+ MB'): train(run_of(**SMALL), tmp_path/'run', progress=False)


def test_non_finite_loss_names_step_and_checkpoint(tmp_path, monkeypatch):
    "The third step of the second epoch is spoilt; the checkpoint of the second step stays."
    cfg = run_of(**SMALL)
    monkeypatch.setattr(unremix.run_parts, 'make_criterion', unremix.run_parts.make_criterion) # put back afterwards
    spoil_loss(8)
    with pytest.raises(FloatingPointError, match=r"not finite at step 8 \(seen last: lr .*positive_similarity .*\); the last good state is '.*checkpoint.pt'"): train(cfg, tmp_path/'run', progress=False)
    saved = torch.load(tmp_path/'run'/'checkpoint.pt', weights_only=True)
    assert saved['epoch'] == 1 and saved['done'] == 2 and all(x.isfinite().all() for x in saved['model'].values())


def test_non_finite_loss_of_one_process_stops_all(tmp_path):
    "None waits for the other."
    assert set(Job(RUNS['two processes'], tmp_path/'run', spoilt=1).wait()) == {77}
    saved = torch.load(tmp_path/'run'/'checkpoint.pt', weights_only=True)
    assert (saved['epoch'], saved['done']) == (1, 2) and all(x.isfinite().all() for x in saved['model'].values())


def test_micro_batches_train_like_the_whole(tmp_path):
    "Where no layer knows the batch: the same parameters after some steps, in every digit that float32 has."
    losses = []
    for micro in (None, 8, 5):
        cfg = run_of(**SMALL, micro_batch=micro)
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            run = set_up(cfg)
        for m in run.model.modules():
            if isinstance(m, torch.nn.modules.batchnorm._BatchNorm): m.eval()
        steps = unremix.train.epoch_steps(run, 0)
        losses.append([next(steps)[1] for _ in range(4)])
    for other in losses[1:]: assert_close(torch.stack(other), torch.stack(losses[0]), rtol=1e-4, atol=1e-4)


def test_micro_batches_warn_of_batchnorm():
    with pytest.warns(UserWarning, match='micro_batch=8: BatchNorm'): set_up(run_of(**SMALL, micro_batch=8))


def test_bf16_follows_float32(tmp_path):
    curves = [[l['loss'] for l in lines(tmp_path/p)] for p in ('32-true', 'bf16-mixed') if train(run_of(**{**SMALL, 'precision': p, 'strategy': 'unremix'}), tmp_path/p, progress=False)]
    assert max(abs(a-b)/b for a, b in zip(curves[1], curves[0])) < .02


def test_scaler_of_16_bits_survives_a_checkpoint(tmp_path):
    "16-mixed needs a GPU; its scaler's state goes through a checkpoint all the same."
    run = set_up(run_of(**SMALL))
    scaler = torch.amp.GradScaler('cpu', init_scale=1024., growth_interval=3)
    w = torch.ones(2, requires_grad=True); optimizer = torch.optim.SGD([w], .1)
    for _ in range(2):
        optimizer.zero_grad(); scaler.scale(w.sum()).backward(); scaler.step(optimizer); scaler.update()
    precision = run.fabric.strategy.precision
    precision.state_dict, loaded = scaler.state_dict, []
    precision.load_state_dict = loaded.append
    unremix.train.save_checkpoint(tmp_path/'checkpoint.pt', run, epoch=0, done=1, seconds=0., loss=1.)
    unremix.train.restore(run, tmp_path/'checkpoint.pt')
    assert loaded == [scaler.state_dict()] and loaded[0]['scale'] == 1024. and loaded[0]['_growth_tracker'] == 2
    other = torch.amp.GradScaler('cpu'); other.load_state_dict(loaded[0])
    assert other.state_dict() == scaler.state_dict()


def test_sync_batchnorm_is_applied():
    "It needs several GPUs to run, which we had not."
    cfg = run_of(**SMALL)
    images = split_images(cfg)[0]
    kinds = [sum(isinstance(m, torch.nn.SyncBatchNorm) for m in make_model(run_of(**SMALL, sync_batchnorm=b), images).modules()) for b in (False, True)]
    assert kinds[0] == 0 < kinds[1]


def test_two_processes_share_the_batches(tmp_path):
    "Order as in one process, half of each batch per rank, one log, gathered negatives."
    assert set(Job(RUNS['two processes'], tmp_path/'run').wait()) == {0}
    log = lines(tmp_path/'run')
    assert [l['step'] for l in log] == list(range(18)) and all(l['loss'] < torch.tensor(30.).log() + 3 for l in log)
    one = run_of(**{**SMALL, 'epochs': 1}); run = set_up(one)
    order = unremix.steps.order_of(run, 0).split(16)
    class Rank: world_size, global_rank = 2, 1
    other = dataclasses.replace(run, fabric=Rank())
    assert torch.cat([unremix.steps.share_of(dataclasses.replace(run, fabric=type('R', (), dict(world_size=2, global_rank=r))()), order[0]) for r in (0, 1)]).equal(order[0])
    assert unremix.steps.share_of(other, order[0]).equal(order[0][8:])
    statistics = log[0]['effective_negatives']
    assert statistics > 14 # with its own eight images a rank would have 14 negatives
