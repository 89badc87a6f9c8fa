"A model that holds a loss goes through the savers that people use. `pip install unremix[frameworks]` brings them."
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from unremix import ContrastiveLoss, DebiasedNTXentLoss, HCLLoss, LearnedTemperature
from unremix import NTXentLoss, UnReMixLoss
from unremix.hard_negatives import uniform
from unremix.queue import KeyQueue

LOSSES = dict(
    ntxent=NTXentLoss,
    debiased=DebiasedNTXentLoss,
    hcl=HCLLoss,
    unremix=UnReMixLoss,
    sample=lambda: UnReMixLoss(select='sample', k_keep=3),
    own=lambda: ContrastiveLoss(uniform),
    learned=lambda: NTXentLoss(LearnedTemperature(0.2)),
)
every_loss = pytest.mark.parametrize('name', LOSSES)
NOT_HERE = 'not installed: pip install unremix[frameworks]'


def needs(module:str): return pytest.importorskip(module, reason=f'{module} is {NOT_HERE}')


class Pairs(nn.Module):
    "An encoder with its loss and, if asked, a queue of keys."
    def __init__(self, name, with_queue=False):
        super().__init__()
        torch.manual_seed(0)
        self.body, self.loss = nn.Linear(5, 4), LOSSES[name]()
        self.queue = KeyQueue(12, 4) if with_queue else None

    def forward(self, x1, x2):
        z1, z2 = self.body(x1), self.body(x2)
        loss = self.loss(z1, z2, queue=self.queue)
        if self.queue is not None: self.queue.push(z2.detach())
        return loss


def views(seed=0): return torch.randn(2, 8, 5, generator=torch.Generator().manual_seed(seed))


def one_step(model, optimizer, backward=torch.Tensor.backward):
    backward(model(*views()))
    optimizer.step()
    optimizer.zero_grad()


def trained(name, with_queue=False):
    "After one step: whatever a loss makes at its first call is there."
    model = Pairs(name, with_queue)
    one_step(model, torch.optim.SGD(model.parameters(), .1))
    return model


def same(a, b): assert_close(a.state_dict(), b.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize('with_queue', (False, True), ids=('', 'queue'))
@every_loss
def test_safetensors(name, with_queue, tmp_path):
    safetensors = needs('safetensors.torch')
    model, again = trained(name, with_queue), Pairs(name, with_queue)
    safetensors.save_model(model, tmp_path/'model.safetensors')
    assert safetensors.load_model(again, tmp_path/'model.safetensors') == (set(), [])
    same(model, again)
    safetensors.save_file(model.state_dict(), tmp_path/'state.safetensors')
    assert_close(safetensors.load_file(tmp_path/'state.safetensors'), dict(model.state_dict()), rtol=0, atol=0)


@pytest.mark.parametrize('with_queue', (False, True), ids=('', 'queue'))
@every_loss
def test_accelerate(name, with_queue, tmp_path):
    "Drawn negatives go on where they were: `save_state` keeps torch's generator."
    accelerate = needs('accelerate')
    accelerator = accelerate.Accelerator(cpu=True)
    model = Pairs(name, with_queue)
    model, optimizer = accelerator.prepare(model, torch.optim.AdamW(model.parameters(), .1))
    one_step(model, optimizer, accelerator.backward)
    accelerator.save_state(tmp_path)
    kept = {k: v.clone() for k, v in model.state_dict().items()}
    wanted = model(*views(1)).item()
    one_step(model, optimizer, accelerator.backward)
    accelerator.load_state(tmp_path)
    assert_close(dict(model.state_dict()), kept, rtol=0, atol=0)
    assert model(*views(1)).item() == wanted


@pytest.mark.parametrize('foreach', (True, False))
@pytest.mark.parametrize('with_queue', (False, True), ids=('', 'queue'))
@every_loss
def test_timm_ema(name, with_queue, foreach, tmp_path):
    needs('timm')
    from timm.utils import ModelEmaV3
    model = trained(name, with_queue)
    ema = ModelEmaV3(model, decay=.75, foreach=foreach)
    before = ema.module.body.weight.clone()
    one_step(model, torch.optim.SGD(model.parameters(), .1))
    ema.update(model)
    assert_close(ema.module.body.weight, .75*before + .25*model.body.weight)
    torch.save(ema.state_dict(), tmp_path/'ema.pt')
    again = ModelEmaV3(Pairs(name, with_queue), decay=.75)
    again.load_state_dict(torch.load(tmp_path/'ema.pt', weights_only=True))
    same(ema, again)
    assert ema.module(*views(1)).isfinite()


@every_loss
def test_transformers_trainer(name, tmp_path):
    "A tiny BERT, made from a configuration; the loss is part of the model."
    transformers = needs('transformers'); needs('accelerate')
    sizes = dict(vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, max_position_embeddings=8)

    class Sentences(transformers.BertPreTrainedModel):
        def __init__(self, config):
            super().__init__(config)
            self.bert, self.loss = transformers.BertModel(config), LOSSES[name]()
            self.post_init()

        def forward(self, input_ids, other_ids):
            first, second = (self.bert(ids).last_hidden_state[:,0] for ids in (input_ids, other_ids))
            return dict(loss=self.loss(first, second))

    torch.manual_seed(0)
    words = torch.randint(0, 20, (8, 2, 6))
    data = [dict(input_ids=a, other_ids=b) for a, b in words]
    model = Sentences(transformers.BertConfig(**sizes))
    args = transformers.TrainingArguments(
        output_dir=str(tmp_path), max_steps=2, save_steps=1, per_device_train_batch_size=8,
        report_to=[], use_cpu=True, disable_tqdm=True, logging_strategy='no')
    trainer = transformers.Trainer(model=model, args=args, train_dataset=data)
    trainer.train()
    again = Sentences.from_pretrained(tmp_path/'checkpoint-2')
    same(model, again)
    trainer.train(resume_from_checkpoint=str(tmp_path/'checkpoint-1'))
    same(model, again) # the second step once more, dropout and drawn negatives included


def test_what_is_tested_is_what_the_extra_brings():
    "Nobody should read 'skipped' where a name was misspelt."
    settings = (Path(__file__).parent.parent/'settings.ini').read_text()
    line = next(l for l in settings.splitlines() if l.startswith('frameworks_requirements'))
    names = {word.split('>')[0] for word in line.split('=', 1)[1].split()}
    assert names == {'transformers', 'accelerate', 'safetensors', 'timm'}
