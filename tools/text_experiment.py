"""Train the small transformer on summaries and code with several strategies, and search: lines of `results/text/docstrings.jsonl`.

    python tools/text_experiment.py results/text/docstrings.jsonl

A line that is there already is not computed again.
"""
import argparse
import json
import time
from pathlib import Path

import torch

from unremix.sentence_loss import SentenceLoss
from unremix.text_data import embedded_pairs, near_duplicates, split_by_source, tokens, words_of
from unremix.text_scores import bm25_scores, search_scores
from unremix.text_task import TextEncoder

ROWS = {  # name: strategy, tau_plus (None: the strategy's own)
    'simclr': ('simclr', None),
    'debiased': ('debiased', None),
    'hcl': ('hcl', None),
    'hcl, tau_plus 0': ('hcl', 0.0),
    'unremix': ('unremix', None),
}
SIZE = dict(layers=1, length=20)
HOW = dict(epochs=6, batch=128, lr=3e-3, temperature=0.05, seeds=3)


def trimmed(x):
    return x[:, : int((x > 0).sum(1).max().clamp_min(1))]


@torch.no_grad()
def encode(model, texts):
    "Texts of similar length together, in the order given."
    model.eval()
    x = tokens(texts, model.places.num_embeddings)
    order = (x > 0).sum(1).argsort()
    parts = [model(trimmed(x[at])) for at in order.split(256)]
    return torch.cat(parts)[order.argsort()]


def cosines(model, pairs):
    first, second = (torch.nn.functional.normalize(encode(model, x), dim=1) for x in (pairs.first, pairs.second))
    return first @ second.T


def scores_of(table, pairs, ids):
    "Each first text looks for its second one; others of its sample are right too."
    relevant = [set((ids == i).nonzero().flatten().tolist()) for i in ids]
    found = search_scores(table, relevant)
    means = {name: round(x.mean().item(), 5) for name, x in found.items()}
    return means, [round(x, 4) for x in found['mrr@10'].tolist()]


def train(model, loss, pairs, ids, how, seed):
    first, second = (tokens(x, model.places.num_embeddings) for x in (pairs.first, pairs.second))
    optimizer = torch.optim.AdamW(model.parameters(), how['lr'])
    order = torch.Generator().manual_seed(seed)
    steps = how['epochs'] * (len(pairs) // how['batch'])
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, how['lr'], steps, pct_start=0.1)
    model.train()
    for _ in range(how['epochs']):
        batches = torch.randperm(len(pairs), generator=order).split(how['batch'])
        for at in batches[: len(pairs) // how['batch']]:
            value = loss([{'x': trimmed(first[at])}, {'x': trimmed(second[at])}], ids[at])
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            schedule.step()


def statistics_of(model, loss, pairs):
    "What the loss says of its negatives on 128 test pairs."
    few = pairs[range(128)]
    z = encode(model, few.first), encode(model, few.second)
    with torch.no_grad():
        _, stats = loss.criterion(*z, return_stats=True)
    return {name: round(x.item(), 4) for name, x in stats.items()}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('out', type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    how = HOW
    seen, test = split_by_source(embedded_pairs())
    ids, test_ids = near_duplicates(seen), near_duplicates(test)
    done = {(x['row'], x['seed']) for x in map(json.loads, args.out.read_text().splitlines())} if args.out.exists() else set()

    def write(row, seed, table, **more):
        means, each = scores_of(table, test, test_ids)
        line = dict(data='docstrings', row=row, seed=seed, n_train=len(seen), n_test=len(test), **SIZE, **how, **more, scores=means, mrr=each)
        with args.out.open('a') as file:
            file.write(json.dumps(line) + '\n')
        print(row, seed, means, flush=True)

    if ('bm25', 0) not in done:
        words = [[words_of(x) for x in side] for side in (test.first, test.second)]
        write('bm25', 0, bm25_scores(*words))
    for seed in range(how['seeds']):
        for row in ('untrained', *ROWS):
            if (row, seed) in done:
                continue
            torch.manual_seed(seed)
            model = TextEncoder(**SIZE)
            more = {}
            if row != 'untrained':
                strategy, tau_plus = ROWS[row]
                loss = SentenceLoss(
                    lambda features: model(features['x']),
                    strategy,
                    tau_plus=tau_plus,
                    temperature=how['temperature'],
                    both_directions=True,
                    labels_are_ids=True,
                )
                started = time.process_time()
                train(model, loss, seen, ids, how, seed)
                more = {'cpu_s': round(time.process_time() - started, 1), 'stats': statistics_of(model, loss, test)}
            write(row, seed, cosines(model, test), **more)


if __name__ == '__main__':
    main()
