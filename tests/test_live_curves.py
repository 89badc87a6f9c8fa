"Curves in a notebook: what they hold, and what is shown with and without widgets."
import io, math, sys, types

import pytest
from PIL import Image

from configs import run_of
from unremix import live_curves
from unremix.live_curves import LiveCurves, screen
from unremix.train import train


def size(png): return Image.open(io.BytesIO(png)).size


def test_holds_the_lines_and_draws_at_the_end(tmp_path):
    import json
    shown = []
    curves = LiveCurves(['loss', 'lr', 'nothing'], every=1e9, show=shown.append)
    train(run_of(limit=32, batch_size=16, epochs=2, log_every=1, precision='32-true', accelerator='cpu'), tmp_path, progress=False, on_log=curves)
    lines = [json.loads(l) for l in (tmp_path/'log.jsonl').read_text().splitlines()]
    assert curves.steps == [l['step'] for l in lines] == [0, 1, 2, 3]
    assert curves.values['loss'] == [l['loss'] for l in lines] and curves.values['lr'] == [l['lr'] for l in lines]
    assert all(map(math.isnan, curves.values['nothing']))
    assert len(shown) == 2 and size(shown[0]) == (768, 192) # the first line, and the end; three panels
    panels = curves.draw().axes
    assert [ax.get_title() for ax in panels] == ['loss', 'lr', 'nothing']
    assert list(panels[0].lines[0].get_ydata()) == curves.values['loss'] and list(panels[0].lines[0].get_xdata()) == curves.steps


def test_a_start_that_tells_all_again():
    curves = LiveCurves(['a'], every=0, show=lambda png: None)
    for step in (0, 5, 10, 0, 5): curves.log_metrics({'a': float(step)}, step)
    assert curves.steps == [0, 5] and curves.values == {'a': [0., 5.]}


def without(monkeypatch, *names):
    monkeypatch.setattr(live_curves, 'find_spec', lambda name: None if name in names else True)


class Widget:
    "What of `ipywidgets.Image` is used: a format at the start, and a value that is set."
    def __init__(self, format): self.format, self.value = format, b''


def stand_in(monkeypatch):
    without(monkeypatch)
    widgets = types.SimpleNamespace(Image=Widget)
    monkeypatch.setitem(sys.modules, 'ipywidgets', widgets)
    return widgets


@pytest.mark.parametrize('installed', (lambda _: pytest.importorskip('ipywidgets'), stand_in), ids=('ipywidgets', 'stand-in'))
def test_a_widget_is_updated(monkeypatch, installed):
    pytest.importorskip('IPython')
    widget = installed(monkeypatch)
    displayed = []
    monkeypatch.setattr('IPython.display.display', displayed.append)
    curves = LiveCurves(['a'], every=0)
    for step in range(2): curves.log_metrics({'a': 1. + step}, step)
    (only,) = displayed
    assert isinstance(only, widget.Image) and size(only.value) == (256, 192)
    first = only.value
    curves.log_metrics({'a': 0.}, 2)
    assert only.value != first and len(displayed) == 1


def test_plain_ipython(monkeypatch, capsys):
    "The first picture is displayed, the others update it; one sentence says what is missing."
    pytest.importorskip('IPython')
    without(monkeypatch, 'ipywidgets')
    calls = []
    class Handle:
        def display(self, picture): calls.append(('display', picture.data))
        def update(self, picture): calls.append(('update', picture.data))
    monkeypatch.setattr('IPython.display.DisplayHandle', Handle)
    curves = LiveCurves(['a'], every=0)
    for step in range(3): curves.log_metrics({'a': float(step)}, step)
    assert [how for how, _ in calls] == ['display', 'update', 'update'] and size(calls[2][1]) == (256, 192)
    assert capsys.readouterr().out == "The curves flicker less with ipywidgets: pip install 'unremix[notebook]'\n"


def test_refused(monkeypatch):
    for wrong in [], 'loss':
        with pytest.raises(ValueError, match='names must be one or more names of numbers'): LiveCurves(wrong, show=print)
    with pytest.raises(ValueError, match='every must be 0 or more, got -1'): LiveCurves(every=-1, show=print)
    without(monkeypatch, 'IPython')
    with pytest.raises(ValueError, match=r"LiveCurves needs IPython: pip install 'unremix\[notebook\]'"): screen()
