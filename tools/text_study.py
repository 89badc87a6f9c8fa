"""Strategies on text: tuned at equal cost, on ordered sentences, and on claims that search abstracts.

    python tools/text_study.py tuning results/text/tuning.jsonl
    python tools/text_study.py tuned results/text/tuned.jsonl
    python tools/text_study.py ordered results/text/ordered.jsonl --data FOLDER
    python tools/text_study.py scifact results/text/scifact.jsonl --data FOLDER
    python tools/text_study.py probes results/text/probes.jsonl --data FOLDER

`tuned` takes each family's best setting from `tuning.jsonl` beside its own file. The folder holds `text_movie.json.gz`,
`text_STS.json.gz`, `text_scifact.json.gz` and `text_MR.json.gz`. `scifact` and `probes` need MiniLM as well. A line that is there already is not computed again.
"""
import argparse
import json
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from sklearn.model_selection import StratifiedKFold, cross_val_score

from text_experiment import cosines, encode, scores_of, statistics_of, train
from unremix.sentence_loss import SentenceLoss
from unremix.text_data import TextPairs, embedded_pairs, near_duplicates, neighbours, split_by_source, word_table, words_of
from unremix.text_scores import PROBES, STS, bm25_scores, classifier, probe_scores, read_texts, search_scores, sts_scores
from unremix.text_task import TextEncoder, minilm

Row = tuple[str, float, float | None]  # strategy, temperature, τ⁺ (None: the strategy's own)
FOUR = (0.05, 0.1, 0.2, 0.5)  # temperatures
FAMILIES: dict[str, list[Row]] = {  # eight settings each
    'simclr': [('simclr', t, None) for t in (0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3)],
    'debiased': [('debiased', t, tau) for t, tau in product(FOUR, (0.01, 0.1))],
    'hcl constant': [(f'hcl(beta={b}, detach=True)', t, 0.0) for t, b in product(FOUR, (0.25, 1.0))],
    'hcl released': [(f'hcl(beta={b})', t, 0.0) for t, b in product(FOUR, (0.25, 1.0))],
    'unremix': [(f'unremix(beta={b})', t, None) for t, b in product(FOUR, (0.5, 1.0))],
    'log': [(f"unremix(pool='log', beta={b})", t, None) for t, b in product(FOUR, (0.25, 1.0))],
}
AT_05: dict[str, Row] = {  # defaults at a low temperature
    'simclr': ('simclr', 0.05, None),
    'debiased': ('debiased', 0.05, None),
    'hcl': ('hcl', 0.05, None),
    'hcl released, tau_plus 0': ('hcl', 0.05, 0.0),
    'hcl constant, tau_plus 0': ('hcl(detach=True)', 0.05, 0.0),
    'unremix': ('unremix', 0.05, None),
}
TUNING_SEEDS, FRESH_SEEDS, FEW_SEEDS = range(100, 102), range(200, 210), range(5)
SUMMARIES = dict(epochs=6, batch=128, lr=3e-3, layers=1, length=20)
SENTENCES = dict(epochs=1, batch=128, lr=3e-3, layers=1, length=24, pairs=40_000)
PROBED = 'simclr', 'hcl', 'unremix'  # of `AT_05`
MOST, FOLDS = 2000, dict(folds=10, inner=3)  # sentences of a set that are probed, and how
ABSTRACTS = dict(epochs=6, batch=128, lr=3e-3, layers=1, length=64)


class Study(NamedTuple):
    "What is trained on, how, and how an encoder is scored."

    pairs: TextPairs
    ids: torch.Tensor
    how: dict[str, Any]
    score: Callable[[Any], dict[str, Any]]  # encoder → fields of a line
    held_out: TextPairs  # for what the loss says


def untrained(study: Study, seed: int) -> TextEncoder:
    torch.manual_seed(seed)
    return TextEncoder(layers=study.how['layers'], length=study.how['length'])


def trained(study: Study, row: Row, seed: int) -> tuple[TextEncoder, dict[str, Any]]:
    "An encoder, and what its loss says of its negatives."
    model = untrained(study, seed)
    strategy, temperature, tau_plus = row
    loss = SentenceLoss(
        lambda features: model(features['x']),
        strategy,
        tau_plus=tau_plus,
        temperature=temperature,
        both_directions=True,
        labels_are_ids=True,
    )
    started = time.process_time()
    train(model, loss, study.pairs, study.ids, study.how, seed)
    seconds = round(time.process_time() - started, 1)
    return model, {'cpu_s': seconds, 'stats': statistics_of(model, loss, study.held_out)}


def found_by(table: torch.Tensor, relevant: list[set[int]]) -> dict[str, Any]:
    "Means over queries, and the nDCG@10 of each."
    found = search_scores(table, relevant)
    means = {name: round(x.mean().item(), 5) for name, x in found.items()}
    return {'scores': means, 'ndcg': [round(x, 4) for x in found['ndcg@10'].tolist()]}


def of_summaries(seen: TextPairs, test: TextPairs) -> Study:
    test_ids = near_duplicates(test)

    def score(model: Any) -> dict[str, Any]:
        means, each = scores_of(cosines(model, test), test, test_ids)
        return {'scores': means, 'mrr': each}

    return Study(seen, near_duplicates(seen), SUMMARIES, score, test)


def tuning_study() -> Study:
    "Modules of the training part are held out; the test part is not touched."
    seen, _ = split_by_source(embedded_pairs())
    inner, held_out = split_by_source(seen, 5)
    return of_summaries(inner, held_out)


def tuned_study() -> Study:
    return of_summaries(*split_by_source(embedded_pairs()))


def ordered_study(folder: Path) -> Study:
    "Each sentence of a review with the next one; scored by similarity of sentences."
    reviews = next(iter(read_texts(folder, 'movie').values()))
    pairs = neighbours(reviews)
    some = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(0))
    seen, last = pairs[some[: SENTENCES['pairs']]], pairs[some[-128:]]
    data = read_texts(folder, 'STS')

    def score(model: Any) -> dict[str, Any]:
        found = sts_scores(lambda texts: encode(model, texts), data)
        return {'scores': {name: round(x, 5) for name, x in found.items()}}

    return Study(seen, torch.arange(len(seen)), SENTENCES, score, last)


def abstracts_of(folder: Path) -> tuple[dict[str, Any], TextPairs, list[str], list[set[int]]]:
    "Titles with their abstracts, claims, and which abstracts each claim rests on."
    data = read_texts(folder, 'scifact')
    numbers, titles, abstracts = zip(*data['scifact_corpus'])
    place = {number: i for i, number in enumerate(numbers)}
    _, claims, wanted = zip(*data['scifact_test'])
    relevant = [{place[str(n)] for n in those} for those in wanted]
    return data, TextPairs(titles, abstracts, numbers), list(claims), relevant


def scifact_study(folder: Path) -> Study:
    _, pairs, claims, relevant = abstracts_of(folder)

    def score(model: Any) -> dict[str, Any]:
        claim, abstract = (F.normalize(encode(model, x), dim=1) for x in (claims, pairs.second))
        return found_by(claim @ abstract.T, relevant)

    return Study(pairs, near_duplicates(pairs), ABSTRACTS, score, pairs)


def some_sentences(folder: Path) -> dict[str, Any]:
    "At most `MOST` of each list, the same ones for everybody; all of a test list."
    found = {}
    for name, pairs in read_texts(folder, 'MR').items():
        order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(0)).tolist()
        found[name] = pairs if name.endswith('_test') else [pairs[i] for i in sorted(order[:MOST])]
    return found


def probe_study(folder: Path) -> Study:
    "Trained on ordered sentences; scored by a logistic regression per set."
    data = some_sentences(folder)
    study = ordered_study(folder)
    return study._replace(score=lambda model: probed(lambda texts: encode(model, texts), data))


def probed(encode: Callable[[Any], torch.Tensor], data: dict[str, Any]) -> dict[str, Any]:
    return {'scores': {name: round(x, 5) for name, x in probe_scores(encode, data, PROBES, **FOLDS).items()}}


def probed_words(data: dict[str, Any]) -> dict[str, Any]:
    "The same with which words occur, in a sparse table."
    found = {}
    for name in PROBES:
        parts = [data[part] for part in (['TREC_train', 'TREC_test'] if name == 'TREC' else [name])]
        labels, texts = zip(*(pair for part in parts for pair in part))
        table, y = word_table(texts).astype(np.float64), np.array(labels)
        if len(parts) == 2:
            n = len(parts[0])
            found[name] = classifier(FOLDS['inner'], 0).fit(table[:n], y[:n]).score(table[n:], y[n:])
            continue
        outer = StratifiedKFold(FOLDS['folds'], shuffle=True, random_state=0)
        found[name] = cross_val_score(classifier(FOLDS['inner'], 0), table, y, cv=outer).mean()
    return {'scores': {name: round(float(x), 5) for name, x in found.items()}}


class Lines:
    "A file of lines, each written once."

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self.lines = [json.loads(x) for x in path.read_text().splitlines()] if path.exists() else []
        self.done = {(x['row'], x['seed']) for x in self.lines}

    def write(self, row: str, seed: int, **more: Any) -> None:
        line = dict(row=row, seed=seed, **more)
        with self.path.open('a') as file:
            file.write(json.dumps(line) + '\n')
        print(row, seed, more['scores'], flush=True)


def run(lines: Lines, study: Study, rows: dict[str, Row], seeds: range, keep: bool = True) -> None:
    "Every row with every seed; `keep` the score of each query."
    for seed in seeds:
        for name, row in rows.items():
            if (name, seed) in lines.done:
                continue
            model, told = trained(study, row, seed)
            found = study.score(model)
            if not keep:
                found.pop('mrr', None)
            setting = dict(zip(('strategy', 'temperature', 'tau_plus'), row))
            lines.write(name, seed, **setting, n_train=len(study.pairs), **study.how, **told, **found)


def beside(lines: Lines, study: Study, seeds: range) -> None:
    "Untrained encoders."
    for seed in seeds:
        if ('untrained', seed) not in lines.done:
            lines.write('untrained', seed, **study.score(untrained(study, seed)))


def settings() -> Iterator[tuple[str, Row]]:
    for family, rows in FAMILIES.items():
        for strategy, temperature, tau_plus in rows:
            prior = '' if tau_plus is None else f' τ⁺={tau_plus:g}'
            yield f'{family}: {strategy} t={temperature:g}{prior}', (strategy, temperature, tau_plus)


def best_of(path: Path) -> dict[str, Row]:
    "Each family's setting with the best mean; all of them must have been run."
    lines = [json.loads(x) for x in path.read_text().splitlines()]
    scores: dict[str, list[float]] = {}
    for line in lines:
        scores.setdefault(line['row'], []).append(line['scores']['mrr@10'])
    best = {}
    for family in FAMILIES:
        rows = {name: row for name, row in settings() if name.startswith(f'{family}: ')}
        assert all(len(scores[name]) == len(TUNING_SEEDS) for name in rows), family
        best[family] = rows[max(rows, key=lambda name: fmean(scores[name]))]
    return best


def overlap(texts_a: list[str], texts_b: list[str]) -> np.ndarray:
    "Cosine of the sets of words, one per pair."
    table = word_table([*texts_a, *texts_b])
    a, b = table[: len(texts_a)], table[len(texts_a) :]
    size = np.sqrt(np.asarray(a.sum(1)) * np.asarray(b.sum(1))).ravel().clip(1)
    return np.asarray(a.multiply(b).sum(1)).ravel() / size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('study', choices=['tuning', 'tuned', 'ordered', 'scifact', 'probes'])
    parser.add_argument('out', type=Path)
    parser.add_argument('--data', type=Path)
    parser.add_argument('--seeds', type=int, help='fewer than declared')
    args = parser.parse_args()
    if args.data is None and args.study not in ('tuning', 'tuned'):
        parser.error(f'{args.study} needs --data FOLDER')
    torch.set_num_threads(1)
    lines = Lines(args.out)
    cut = lambda seeds: seeds[: args.seeds] if args.seeds else seeds
    if args.study == 'tuning':
        run(lines, tuning_study(), dict(settings()), cut(TUNING_SEEDS), keep=False)
    if args.study == 'tuned':
        study = tuned_study()
        beside(lines, study, cut(FRESH_SEEDS))
        run(lines, study, best_of(args.out.with_name('tuning.jsonl')), cut(FRESH_SEEDS))
    if args.study == 'ordered':
        study = ordered_study(args.data)
        data = read_texts(args.data, 'STS')
        if ('words', 0) not in lines.done:
            found = {}
            for name, key in STS.items():
                a, b, wanted = zip(*(pair[-3:] for pair in data[key]))
                found[name] = round(float(spearmanr(overlap(list(a), list(b)), wanted).statistic), 5)
            lines.write('words', 0, scores=found)
        beside(lines, study, cut(FEW_SEEDS))
        run(lines, study, AT_05, cut(FEW_SEEDS))
    if args.study == 'scifact':
        study = scifact_study(args.data)
        _, pairs, claims, relevant = abstracts_of(args.data)
        if ('bm25', 0) not in lines.done:
            words = [[words_of(x) for x in side] for side in (claims, pairs.second)]
            lines.write('bm25', 0, **found_by(bm25_scores(*words), relevant))
        if ('minilm', 0) not in lines.done:
            claim, abstract = (F.normalize(minilm()(x), dim=1) for x in (claims, pairs.second))
            lines.write('minilm', 0, **found_by(claim @ abstract.T, relevant))
        beside(lines, study, cut(FEW_SEEDS))
        run(lines, study, AT_05, cut(FEW_SEEDS))
    if args.study == 'probes':
        study, data = probe_study(args.data), some_sentences(args.data)
        if ('words', 0) not in lines.done:
            lines.write('words', 0, **probed_words(data))
        for seed in cut(FEW_SEEDS):
            beside(lines, study, range(seed, seed + 1))
            run(lines, study, {name: AT_05[name] for name in PROBED}, range(seed, seed + 1))
        if ('minilm', 0) not in lines.done:
            lines.write('minilm', 0, **probed(minilm(), data))


if __name__ == '__main__':
    main()
