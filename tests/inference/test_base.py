"""Ctrl-C inside every fit, progress in a terminal, and what a Fit says of itself."""

import io
import sys

import pytest
import torch

from probae import ELBO, fit
from probae.encoders import LinearGaussianEncoder
from probae.inference import (
    EM,
    MAP,
    SVI,
    dictionary,
    factor_likelihood,
    importance,
    learnt_shapes,
    noisy,
    profile,
    unmixing,
)
from probae.inference.adam import FlatAdam
from probae.inference.base import Loop
from probae.models import FactorAnalysis, IndependentComponents, SparseCoding


def interrupt(monkeypatch, owner, name, after):
    """Raise KeyboardInterrupt in place of a call of owner.name, from call number `after` on."""
    original, calls = getattr(owner, name), []

    def counted(*args, **kwargs):
        calls.append(1)
        if len(calls) == after:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, counted)
    return calls


STOPS = {
    "ml-profile": (lambda: (FactorAnalysis(4, 1), None), profile, "evaluate", 4),
    "em": (lambda: (FactorAnalysis(4, 1), EM()), factor_likelihood, "expect", 5),
    "map": (lambda: (SparseCoding(4, 3), MAP(steps=9)), dictionary, "lasso", 4),
    "svi": (lambda: (FactorAnalysis(4, 1), SVI(LinearGaussianEncoder(4, 1), epochs=9)), ELBO, "__call__", 4),
    "laplace-rotation": (lambda: (SparseCoding(4, 2), None), learnt_shapes, "search_rotation", 1),
    "laplace-refinement": (lambda: (SparseCoding(4, 2), None), noisy, "differentiable_scores", 6),
    "ica-start": (lambda: (IndependentComponents(4, 4), None), unmixing.UnmixingLikelihood, "evaluate", 1),
    "ica-refinement": (
        lambda: (IndependentComponents(4, 4), None),
        unmixing.UnmixingLikelihood,
        "evaluate",
        60,
    ),
}


@pytest.mark.parametrize("name", STOPS)
def test_ctrl_c_ends_a_fit_with_a_marked_result(name, rows, monkeypatch):
    build, owner, attribute, after = STOPS[name]
    model, method = build()
    calls = interrupt(monkeypatch, owner, attribute, after)
    try:
        run = fit(model, rows, method)
    except KeyboardInterrupt:
        pytest.fail("Ctrl-C left no result")
    assert len(calls) >= after
    assert run.interrupted
    assert not run.converged
    assert "interrupted" in repr(run)
    assert all(p.isfinite().all() for p in run.model.parameters())
    assert run.posterior(rows).mean.isfinite().all()


def test_an_interrupted_fit_is_the_last_complete_step(rows, monkeypatch):
    """Stopped while step five writes its parameters, or before it began: SVI is where four steps had brought it."""
    model, method = FactorAnalysis(4, 1), SVI(LinearGaussianEncoder(4, 1), epochs=9)
    runs = []
    for owner, name in ((FlatAdam, "step"), (ELBO, "__call__")):
        with monkeypatch.context() as patch:
            interrupt(patch, owner, name, 5)
            runs.append(fit(model, rows, method))
    full = fit(model, rows, method)
    for run in runs:
        assert torch.equal(run.history, full.history[:4])
        for one, other in zip(run.model.parameters(), runs[0].model.parameters(), strict=True):
            assert torch.equal(one, other)
    assert not torch.equal(runs[0].model.loadings, full.model.loadings)


def test_other_errors_are_not_swallowed(rows, monkeypatch):
    def broken(*args, **kwargs):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(factor_likelihood, "expect", broken)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        fit(FactorAnalysis(4, 1), rows, EM())


def test_a_loop_counts_and_marks_an_interrupt():
    with Loop("counting") as loop:
        seen = list(loop.steps(4))
    assert seen == [0, 1, 2, 3]
    assert not loop.interrupted
    with Loop("counting") as loop:
        for step in loop.steps(4):
            if step == 2:
                raise KeyboardInterrupt
    assert loop.interrupted


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_in_a_terminal_changes_no_result(witnessed, rows, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    run = fit(witnessed.case.model, rows, witnessed.case.method, seed=3)
    assert torch.equal(run.history, witnessed.run.history)


def test_a_long_loop_shows_a_bar_in_a_terminal_and_nothing_elsewhere(monkeypatch, capsys):
    terminal, clock = Terminal(), iter(range(1000))
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr("probae.inference.base.time.monotonic", lambda: 2.0 * next(clock))
    with Loop("counting") as loop:
        for step in loop.steps(3):
            loop.value = -1.5
            assert step < 3
    assert "counting" in terminal.getvalue()
    monkeypatch.undo()
    with Loop("counting") as loop:
        list(loop.steps(3))
    assert capsys.readouterr() == ("", "")


def test_nothing_is_printed(rows, capfd):
    fit(FactorAnalysis(4, 1), rows, EM())
    fit(SparseCoding(4, 3), rows, MAP(steps=2))
    assert capfd.readouterr() == ("", "")


def test_importance_module_is_the_one_patched():
    """The patches above replace names that the methods really look up."""
    assert noisy.differentiable_scores is importance.differentiable_scores
