"What a report says where runs failed, and when it is written again."

import csv
import json
import os

import pytest

from unremix import command_runs, report
from unremix.cli import main
from unremix.compare_config import CompareConfig
from unremix.report import cells_of, curves_png, scores_csv, verdict_of, write_report

# ---------------------------------------------------------------- curves


@pytest.fixture
def figures(monkeypatch):
    "The figures that were drawn."
    found = []
    monkeypatch.setattr(report.plt, 'close', found.append)
    return found


def log(path, steps):
    lines = [json.dumps({'step': step, 'loss': loss_at(step)}) for step in steps]
    path.write_text(''.join(line + '\n' for line in lines))
    return path


def loss_at(step):
    return 1 / (1 + step)


def drawn(figure):
    "Steps of each line of a figure, whose losses have to be those of its steps."
    found = []
    for line in figure.axes[0].lines:
        steps, losses = line.get_xdata().tolist(), line.get_ydata().tolist()
        assert losses == [loss_at(step) for step in steps]
        found.append(steps)
    return found


def test_each_run_is_drawn_at_its_own_steps(tmp_path, figures):
    "Logged every 10 steps, then every 50; the mean is of the steps that both have."
    often, seldom = list(range(0, 100, 10)), list(range(0, 500, 50))
    logs = [log(tmp_path / 'a', often), log(tmp_path / 'b', seldom)]
    assert curves_png({'simclr': logs})
    assert drawn(figures[0]) == [often, seldom, [0, 50]]


@pytest.mark.parametrize('steps', ([0], []), ids=('one line', 'no line'))
def test_a_row_that_failed_shortens_no_other(steps, tmp_path, figures):
    whole = list(range(0, 100, 10))
    logs = {'simclr': [log(tmp_path / 'a', whole)], 'hcl': [log(tmp_path / 'c', steps)]}
    assert curves_png(logs)
    lines = figures[0].axes[0].lines
    assert drawn(figures[0]) == [whole, whole] + [steps] * 2 * len(steps)
    assert all(line.get_marker() == '.' for line in lines[2:3])  # one point is seen
    assert {line.get_color() for line in lines[:2]} != {x.get_color() for x in lines[2:]}


def test_a_seed_that_failed_leaves_the_other(tmp_path, figures):
    whole = list(range(0, 100, 10))
    logs = [log(tmp_path / 'a', whole), log(tmp_path / 'b', whole[:3])]
    curves_png({'simclr': [*logs, tmp_path / 'none']})
    assert drawn(figures[0]) == [whole, whole[:3], whole[:3]]
    assert curves_png({'simclr': [tmp_path / 'none'], 'hcl': []}) is None


# ---------------------------------------------------------------- failed rows

WHY = 'seed 1: loss is not finite at step 3'
LEFT_OUT = 'the training images show less than two classes'


@pytest.fixture
def failed():
    "A comparison whose reference lost a seed, and of which a row is left out."
    asked = CompareConfig.of({'strategies': ('simclr', 'hcl', 'debiased')})
    one = {'mean': 0.8, 'sd': None, 'values': [0.8]}
    two = {'mean': 0.8, 'sd': 0.0, 'values': [0.8, 0.8]}
    rows = {
        'simclr': {'n': 1, 'linear': one, 'failed': WHY},
        'hcl': {'n': 2, 'linear': two},
        'debiased': {'n': 0, 'failed': 'seed 0: loss is not finite at step 0'},
    }
    left_out = {'supervised': LEFT_OUT}
    return {'config': asked.as_json(), 'rows': rows, 'left_out': left_out}


def test_seeds_are_those_that_were_asked_for(failed):
    told = '2 seeds per row. Nothing is compared with another row. Failed: '
    assert verdict_of(failed) == told + 'simclr, debiased.'


def test_a_reference_that_failed_says_so(failed):
    _, rows = cells_of(failed)
    assert [row[:3] for row in rows] == [
        ['simclr', '1', 'failed'],
        ['hcl', '2', '–'],
        ['debiased', '0', 'failed'],
    ]


def test_the_reason_stands_in_every_file(failed, tmp_path):
    (tmp_path / 'result.json').write_text(json.dumps(failed))
    page = write_report(tmp_path).read_text()
    for text in (page, (tmp_path / 'table.md').read_text()):
        assert f'simclr failed: {WHY}' in text
        assert f'no row supervised: {LEFT_OUT}' in text
    lines = [*csv.DictReader((tmp_path / 'table.csv').open())]
    assert [(x['row'], x['score'], x['n'], x['failed']) for x in lines] == [
        ('simclr', 'linear', '1', WHY),
        ('hcl', 'linear', '2', ''),
        ('debiased', '', '0', 'seed 0: loss is not finite at step 0'),
    ]
    assert scores_csv(failed['rows']) == (tmp_path / 'table.csv').read_text()


# ---------------------------------------------------------------- an older report


@pytest.fixture
def written(monkeypatch):
    "The folders whose report was written."
    found = []

    def write(out):
        found.append(out)
        (out / 'report.html').write_text('new')
        return out / 'report.html'

    monkeypatch.setattr(report, 'write_report', write)
    return found


def run_folder(path, report_at):
    "A finished run, whose report is so many seconds younger than its result."
    path.mkdir(parents=True)
    (path / 'result.json').write_text('{"scores": {}}')
    os.utime(path / 'result.json', (1e9, 1e9))
    if report_at is not None:
        (path / 'report.html').write_text('old')
        os.utime(path / 'report.html', (1e9 + report_at, 1e9 + report_at))
    return path


@pytest.mark.parametrize('at, again', [(None, 1), (-1, 1), (0, 0), (1, 0)])
def test_a_report_of_an_older_result_is_written_again(at, again, tmp_path, written):
    out = run_folder(tmp_path / 'run', at)
    assert command_runs.report_of(out) == out / 'report.html'
    assert written == [out] * again


def test_scores_of_today_reach_the_report(tmp_path, written, monkeypatch, capsys):
    "The report that is there is written again; the comparison around it is told of."

    def score_again(out):
        (out / 'result.json').write_text('{"scores": {"linear": 0.25}}')
        return {'scores': {'linear': 0.25}}

    monkeypatch.setattr(command_runs, 'evaluate', score_again)
    alone = run_folder(tmp_path / 'run', 1)
    assert main(['evaluate', str(alone)]) == 0
    assert written == [alone]
    assert capsys.readouterr().out.endswith(f'report: {alone / "report.html"}\n')
    cell = run_folder(tmp_path / 'compare' / 'hcl-seed0', None)
    whole = cell.parent / 'result.json'
    whole.write_text('{"rows": {}}')
    assert main(['evaluate', str(cell)]) == 0
    assert written == [alone] and f'{whole} has the scores from before' in capsys.readouterr().out


# ---------------------------------------------------------------- files


NO_UTF8 = os.fsdecode(b'runs/caf\xe9')


def test_a_path_that_is_no_utf8_is_spelt_out(failed, tmp_path):
    "A folder of images may have such a name, and the run is trained by then."
    failed['config']['train']['data']['data_root'] = NO_UTF8
    page = report.of_comparison(tmp_path, failed)
    report.write_text(tmp_path / 'report.html', report.render(page))
    assert r'runs/caf\udce9' in (tmp_path / 'report.html').read_text(encoding='utf-8')


def test_a_row_that_failed_by_such_a_path_has_its_tables(failed, tmp_path):
    failed['rows']['hcl']['failed'] = f'seed 0: {NO_UTF8} is gone'
    report.of_comparison(tmp_path, failed)
    for name in ('table.md', 'table.csv'):
        assert r'caf\udce9' in (tmp_path / name).read_text(encoding='utf-8')
