"""Training: a killed run goes on bit for bit, early stopping keeps the best state, schedules and Adam are as known."""

import copy
import json
import signal
import subprocess
import sys
import time
import warnings
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

import probae as pa
from probae import ConvergenceWarning, DataError, FileError, ParameterError
from probae.inference.adam import FlatAdam, flattened
from probae.inference.checkpoint import digest
from probae.inference.identity import described, settings_of
from probae.inference.schedule import Schedule
from probae.inference.stopping import Watch, held_out_bound
from probae.inference.training import train
from probae.inference.training_state import TrainingState


@pytest.fixture(scope="module")
def x():
    return torch.randn(60, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def fitted(x, seed=0, encoder=None, **settings):
    encoder = encoder or pa.MLPEncoder(4, 2, hidden=(5,))
    settings = {"epochs": 12, "batch": 16, "objective": pa.ELBO(analytic=False)} | settings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return pa.fit(pa.FactorAnalysis(4, 2), x, pa.SVI(encoder, **settings), seed=seed)


def same(one, two):
    parts = zip(
        [*one.model.state_dict().values(), *one.posterior.encoder.state_dict().values(), one.history],
        [*two.model.state_dict().values(), *two.posterior.encoder.state_dict().values(), two.history],
        strict=True,
    )
    return all(torch.equal(a, b) for a, b in parts)


def test_flat_adam_is_adam():
    """Against torch.optim.Adam with the clipping of torch: 30 steps in float64, each a few roundings."""
    generator = torch.Generator().manual_seed(0)
    mine = [
        torch.nn.Parameter(torch.randn(size, generator=generator).double()) for size in ((3, 2), (), (5,))
    ]
    theirs = [torch.nn.Parameter(one.detach().clone()) for one in mine]
    optimizer = torch.optim.Adam(theirs, lr=0.1)

    def loss(values):
        return sum((one - 1).pow(4).sum() for one in values)

    with flattened(mine) as (values, gradient):
        adam = FlatAdam(values, gradient, largest=2.0)
        for step in range(30):
            lr = 0.1 / (1 + step)
            loss(mine).backward()
            adam.step(lr)
            optimizer.param_groups[0]["lr"] = lr
            optimizer.zero_grad()
            loss(theirs).backward()
            torch.nn.utils.clip_grad_norm_(theirs, 2.0)
            optimizer.step()
    for one, two in zip(mine, theirs, strict=True):
        assert torch.allclose(one, two, rtol=1e-5)  # torch divides by the norm + 1e-6
    assert all(one.grad is None and one.untyped_storage().nbytes() == 8 * one.numel() for one in mine)


def test_parameters_without_a_gradient_stay():
    still = torch.nn.Parameter(torch.ones(2), requires_grad=False)
    unused = torch.nn.Parameter(torch.ones(3))
    used = torch.nn.Parameter(torch.zeros(()))
    history, _ = train(
        lambda rows: (rows - used).square().mean(), [still, unused, used], torch.ones(8, 1), epochs=50, batch=4,
        lr=0.1, generator=torch.Generator().manual_seed(0), usable=lambda: True, label="test",
    )  # fmt: skip
    assert torch.equal(still, torch.ones(2))
    assert torch.equal(unused, torch.ones(3))
    assert used.item() == pytest.approx(1, abs=0.1)
    assert history[-1] > history[0]


def test_schedules_rise_linearly_and_end_where_they_say():
    rate = pa.Cosine(warmup=10, final=0.2)
    assert [rate.factor(epoch, 110) for epoch in (0, 5, 10, 60, 110)] == pytest.approx([0, 0.5, 1, 0.6, 0.2])
    assert [pa.Constant(2).factor(epoch, 10) for epoch in (1, 2, 9)] == [0.5, 1, 1]
    assert pa.Cosine(warmup=20).factor(5, epochs=10) == 0.25  # never past its rise


def test_the_rate_of_each_step_is_the_schedule_s():
    """With gradient 1 throughout, Adam's step is lr to 1e-8, so the path is the sum of the rates."""
    one = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    train(
        lambda rows: one.sum() + 0 * rows.sum(), [one], torch.ones(8, 1, dtype=torch.float64), epochs=5, batch=4,
        lr=0.1, generator=torch.Generator().manual_seed(0), usable=lambda: True, label="test",
        schedule=pa.Cosine(warmup=1),
    )  # fmt: skip
    rates = [0.1 * pa.Cosine(warmup=1).factor(step / 2, 5) for step in range(10)]
    assert one.item() == pytest.approx(-sum(rates), rel=1e-6)


def test_a_clipped_gradient_has_the_largest_norm():
    gradient = torch.tensor([3.0, 4.0])
    adam = FlatAdam(torch.zeros(2), gradient, largest=1.0)
    adam.step(0.0)
    assert torch.allclose(adam.mean / 0.1, torch.tensor([0.6, 0.8]))


def test_a_gradient_that_is_rounding_moves_nothing():
    """Adam divides a gradient by its own size: 1e-15, the error of an exact start, would become a step of its own."""
    gradient = torch.tensor([1e-15, -9e-13, 1e-10], dtype=torch.float64)
    adam = FlatAdam(torch.zeros(3, dtype=torch.float64), gradient)
    adam.step(0.1)
    assert adam.values[:2].tolist() == [0.0, 0.0]
    assert adam.values[2].item() == pytest.approx(-0.1 * 1e-10 / (1e-10 + 1e-8))


def test_early_stopping_keeps_the_best_state(x):
    """The bound of the rows held out, computed again from the fitted parameters, is the highest that was seen."""
    generator = torch.Generator().manual_seed(3)
    stopping = pa.EarlyStopping(fraction=0.25, patience=5)
    rows, held = stopping.split(x, generator)
    assert len(held) == 15
    weight = torch.nn.Parameter(torch.zeros(4, dtype=torch.float64))
    watch = Watch(stopping)
    values = []

    def bound(rows):
        values.append(-(weight - 0.3).square().sum())  # best on the way to the minimum of the loss at 1
        return values[-1]

    history, _ = train(
        lambda rows: (weight - 1).square().sum(), [weight], rows, epochs=200, batch=None, lr=0.02,
        generator=generator, usable=lambda: True, label="test", watch=watch, held=held, bound=bound,
    )  # fmt: skip
    assert watch.done
    assert len(history) == watch.best + 1 + 5 < 200
    assert -(weight - 0.3).square().sum().item() == max(watch.values) == watch.values[watch.best]


def test_a_fit_that_stops_early_has_the_highest_held_out_bound(x):
    """The bound of the held rows, computed again from the fitted model, is the highest that was recorded."""
    stopping = pa.EarlyStopping(fraction=0.3, patience=8)
    run = fitted(x, epochs=150, batch=None, lr=0.1, stopping=stopping, objective=pa.ELBO())
    kept = run.restarts[0]["kept epoch"]
    assert run.converged
    assert len(run.history) == kept + 8
    held = stopping.split(x, torch.Generator().manual_seed(0))[1]
    # the fit works on x in units of its spread: the same numbers to a few hundred roundings
    assert bound_of(run, held) == pytest.approx(run.restarts[0]["held-out bound"], abs=1e-10)


def test_first_values_do_not_know_the_rows_held_out(x):
    """Held-out rows far away change nothing but the order of training: centre and spread are those of the others."""
    stopping = pa.EarlyStopping(fraction=0.3)
    rows, _ = stopping.split(x, torch.Generator().manual_seed(0))
    far = torch.where((x.unsqueeze(1) == rows).all(2).any(1, keepdim=True), x, x + 1e3)
    encoder = UnitlessEncoder(4, 2, hidden=(5,))
    one, other = (fitted(table, encoder=encoder, epochs=1, stopping=stopping) for table in (x, far))
    assert torch.equal(one.posterior.encoder.centre, other.posterior.encoder.centre)
    assert torch.allclose(one.posterior.encoder.centre, rows.mean(0))


class UnitlessEncoder(pa.MLPEncoder):
    """An encoder without units, so that the fit leaves x as it is."""

    rescale = pa.encoders.Encoder.rescale


def test_a_held_out_bound_that_is_never_finite_is_no_convergence(x):
    """Training goes well, but the bound of the rows held out is NaN at every epoch."""
    weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    watch = Watch(pa.EarlyStopping(fraction=0.2, patience=4))
    with pytest.warns(ConvergenceWarning, match="rows held out was finite after no epoch"):
        history, _ = train(
            lambda rows: (weight - 1).square().sum(), [weight], x, epochs=50, batch=None, lr=0.1,
            generator=torch.Generator().manual_seed(0), usable=lambda: True, label="test", watch=watch, held=x,
            bound=lambda rows: weight.sum() * torch.nan,
        )  # fmt: skip
    assert len(history) == 4  # patience is counted from the first epoch
    assert (watch.best, watch.blind, weight.item()) == (-1, True, 0.0)


@pytest.mark.parametrize("epochs", [12, 150])
def test_a_fit_without_a_finite_held_out_bound_has_not_converged(epochs, x):
    stopping = pa.EarlyStopping(fraction=0.3, patience=4)
    _, held = stopping.split(x, torch.Generator().manual_seed(0))
    objective = Nowhere(held[0].tolist())
    run = fitted(x, encoder=UnitlessEncoder(4, 2), epochs=epochs, stopping=stopping, objective=objective)
    assert not run.converged
    assert run.restarts[0]["kept epoch"] == 0
    assert any("finite after no epoch" in one for one in run.warnings)


@dataclass(frozen=True)
class Nowhere:
    """The evidence lower bound, which one row has not."""

    row: list
    name = "bound"

    def __call__(self, model, encoder, x, seen=None):
        is_row = (x == torch.tensor(self.row, dtype=x.dtype)).all(1)
        return torch.where(is_row, torch.nan, pa.ELBO()(model, encoder, x))


def bound_of(run, rows):
    return held_out_bound(lambda part: pa.ELBO()(run.model, run.posterior.encoder, part).mean(), rows)


def test_the_held_out_bound_changes_no_random_state(x):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    values = {held_out_bound(lambda rows: torch.randn(()), x) for _ in range(3)}
    assert len(values) == 1
    assert torch.equal(torch.get_rng_state(), before)


def test_nothing_left_to_train_on_is_said(x):
    with pytest.raises(DataError, match="at least 2"):
        fitted(x[:2], stopping=pa.EarlyStopping(fraction=0.9))


CHILD = """
import sys, warnings, torch, probae as pa
warnings.simplefilter("ignore")
torch.set_num_threads(1)
x = torch.randn(60, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
method = pa.SVI(pa.MLPEncoder(4, 2, hidden=(5,)), epochs=150, batch=30, objective=pa.ELBO(analytic=False),
                stopping=pa.EarlyStopping(0.2, 1000), checkpoint=pa.Checkpoint(sys.argv[1], every=1))
print("start", flush=True)
run = pa.fit(pa.FactorAnalysis(4, 2), x, method)
"""


def test_a_run_killed_at_random_moments_ends_as_one_that_was_not(x, tmp_path):
    """SIGKILL twice on the way, each time after some more epochs; the last run goes to the end here."""
    path = tmp_path / "training.safetensors"
    delays = torch.rand(2).mul(0.15).tolist()
    for delay in delays:
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, text=True)
        assert child.stdout.readline() == "start\n"
        before, limit = stamp(path), time.monotonic() + 20
        while stamp(path) == before and child.poll() is None and time.monotonic() < limit:
            time.sleep(0.01)
        time.sleep(delay)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
    done = len(safetensors.torch.load_file(path)["history"])
    assert 1 <= done < 150  # it was killed on the way
    settings = {"epochs": 150, "batch": 30, "stopping": pa.EarlyStopping(0.2, 1000)}
    resumed = fitted(x, checkpoint=pa.Checkpoint(path, every=1000), **settings)
    assert same(resumed, fitted(x, **settings))
    assert list(tmp_path.iterdir()) == [path]  # nothing is left of writes that were cut off


def stamp(path):
    return path.stat().st_mtime_ns if path.exists() else None


def test_a_finished_run_is_read_and_not_run_again(x, tmp_path):
    kept = pa.Checkpoint(tmp_path / "training.safetensors", every=5)
    first = fitted(x, checkpoint=kept)
    again = fitted(x, checkpoint=kept)
    assert same(first, again)
    assert same(first, fitted(x))


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda x: fitted_kept(x + 1), "data"),
        (lambda x: fitted_kept(x, seed=1), "seed"),
        (lambda x: fitted_kept(x, lr=0.05), "lr"),
        (lambda x: fitted_kept(x, epochs=13), "epochs"),
        (lambda x: fitted_kept(x, encoder=pa.MLPEncoder(4, 2, hidden=(6,))), "encoder"),
    ],
    ids=["data", "seed", "lr", "epochs", "encoder"],
)
def test_the_checkpoint_of_another_run_is_refused(change, part, x, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fitted_kept(x)
    raw = Path("kept").read_bytes()
    with pytest.raises(FileError, match=f"another run, with other .*{part}.*: remove it"):
        change(x)
    assert Path("kept").read_bytes() == raw


def fitted_kept(x, **settings):
    return fitted(x, checkpoint=pa.Checkpoint("kept"), **settings)


def test_a_damaged_or_foreign_checkpoint_is_one_sentence(x, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fitted_kept(x)
    raw = Path("kept").read_bytes()
    size = int.from_bytes(raw[:8], "little")
    state = json.loads(json.loads(raw[8 : 8 + size])["__metadata__"]["state"])
    tensors = safetensors.torch.load(raw)
    assert tensors["steps"].item() == 12 * 4  # minibatches of 16 in 60 rows
    longer = tensors | {"steps": torch.tensor(10**9)}
    without = {name: one for name, one in tensors.items() if name != "steps"}
    damaged = [
        b"", raw[:100], raw[:-8], raw[:-3] + bytes(3) + b"", raw[:-20] + bytes(20), b"\x80\x04N.",
        safetensors.torch.save({"a": torch.ones(1)}),
        safetensors.torch.save({"a": torch.ones(1)}, metadata={"state": "[" * 100_000}),
        safetensors.torch.save({"a": torch.ones(1)}, metadata={"state": json.dumps(state)}),
        safetensors.torch.save({"a": torch.ones(1)}, metadata={"state": json.dumps(state | {"schema": 9})}),
        safetensors.torch.save(longer, metadata={"state": json.dumps(state)}),
        safetensors.torch.save(without, metadata={"state": json.dumps(state | {"sha256": digest(without)})}),
    ]  # fmt: skip
    for content in damaged:
        if content == raw:
            continue
        Path("kept").write_bytes(content)
        with pytest.raises(FileError, match="kept"):
            fitted_kept(x)


@dataclass(frozen=True)
class Interrupting(Schedule):
    """Ctrl-C in the seventh of twelve epochs, once."""

    again: Path = Path()

    def after(self, progress):
        if progress > 0.5 and not self.again.exists():
            self.again.touch()
            raise KeyboardInterrupt
        return 1.0


@pytest.mark.parametrize("every", [2, 4, 1000])
def test_an_interrupted_run_goes_on_from_its_last_whole_epoch(every, x, tmp_path):
    kept, schedule = pa.Checkpoint(tmp_path / "kept", every=every), Interrupting(again=tmp_path / "again")
    first = fitted(x, checkpoint=kept, schedule=schedule)
    assert first.interrupted
    assert len(first.history) == 6
    assert len(safetensors.torch.load_file(kept.path)["history"]) == 6
    second = fitted(x, checkpoint=kept, schedule=schedule)
    assert same(second, fitted(x, schedule=schedule))


def test_nothing_is_copied_without_a_checkpoint(x, monkeypatch):
    monkeypatch.setattr(TrainingState, "snapshot", None)
    assert len(fitted(x).history) == 12


@dataclass(frozen=True)
class Weighted:
    """An objective of one's own, with a setting that its text does not show."""

    weight: float
    name = "weighted bound"

    def __repr__(self):
        return "Weighted()"

    def __call__(self, model, encoder, x, seen=None):
        return self.weight * pa.ELBO()(model, encoder, x, seen)


class Plain(Weighted):
    """One whose text is its address."""

    __repr__ = object.__repr__


class WithWidth(pa.FactorAnalysis):
    """A model with a setting that its text does not show."""

    def __init__(self, width):
        super().__init__(4, 2)
        self.width = width


def nearby(change):
    rows = torch.zeros(2000, 4, dtype=torch.float64)  # of more than 1,000 numbers torch prints six rows
    rows[1000] += change
    return (pa.Denoising(pa.NearbyRow(rows, neighbours=2)),)


@pytest.mark.parametrize(
    ("part", "one", "other"),
    [
        ("regularizers", lambda: nearby(1.0), lambda: nearby(2.0)),
        ("regularizers", lambda: nearby(1.0), lambda: nearby(1.0 + 1e-12)),
        ("objective", lambda: Weighted(1.0), lambda: Weighted(2.0)),
        ("objective", lambda: Plain(1.0), lambda: Plain(2.0)),
    ],
)  # fmt: skip
def test_settings_are_compared_by_value_not_by_what_they_print(part, one, other, x, tmp_path):
    kept = pa.Checkpoint(tmp_path / "kept")
    first = fitted(x, checkpoint=kept, **{part: one()})
    assert same(first, fitted(x, checkpoint=kept, **{part: one()}))
    with pytest.raises(FileError, match=f"another run, with other {part}: remove it"):
        fitted(x, checkpoint=kept, **{part: other()})


def test_a_model_is_compared_by_value(x):
    method = pa.SVI(pa.MLPEncoder(4, 2))
    one, same_one, other = (settings_of(method, WithWidth(width)) for width in (1, 1, 2))
    assert one == same_one
    assert {name for name in one if one[name] != other[name]} == {"model"}


def test_a_setting_that_cannot_be_compared_is_refused_before_training(x, tmp_path):
    def noisy(sd):
        return lambda rows: rows + sd * torch.randn_like(rows)

    kept, regularizers = pa.Checkpoint(tmp_path / "kept"), (pa.Denoising(noisy(0.1)),)
    with pytest.raises(ParameterError, match="regularizers holds what it cannot compare .*<lambda>"):
        fitted(x, checkpoint=kept, regularizers=regularizers)
    assert not Path(kept.path).exists()
    assert len(fitted(x, regularizers=regularizers).history) == 12  # without a checkpoint it may be anything


VALUES = [
    None, True, 1, 1.0, "1", b"1", (1,), [1], {1}, {"a": 1}, {"a": 2}, torch.ones(2), torch.ones(2, 1),
    torch.float32, torch.float64, np.ones(2), np.zeros(2), len, torch.tanh, torch.relu, settings_of, Weighted,
    partial(torch.add, 1), partial(torch.add, 2), Path("a"), Path("b"), torch.nn.ReLU(), torch.nn.Softplus(2.0),
    torch.nn.Softplus(3.0), OrderedDict(a=1), OrderedDict(a=2),
]  # fmt: skip


def test_values_that_differ_have_other_descriptions_and_copies_the_same():
    found = [described(value) for value in VALUES]
    assert len(set(found)) == len(VALUES)
    assert found == [described(copy.deepcopy(value)) for value in VALUES]
    assert described({"b", "a", "c"}) == described({"c", "b", "a"})


def test_settings_are_checked(as_installed):
    encoder = pa.MLPEncoder(4, 2)
    for wrong in ({"schedule": "cosine"}, {"stopping": 5}, {"checkpoint": "file"}, {"clip": -1.0}):
        with pytest.raises(ParameterError, match=next(iter(wrong))):
            pa.SVI(encoder, **wrong)
    for wrong in (0.0, 1.0, "a", True):
        with pytest.raises(ParameterError, match="fraction"):
            pa.EarlyStopping(fraction=wrong)
    with pytest.raises(ParameterError, match="final"):
        pa.Cosine(final=2)
    with pytest.raises(ParameterError, match="path"):
        pa.Checkpoint("")


def test_a_fit_with_all_settings_is_saved_and_loaded(x, tmp_path):
    settings = {"schedule": pa.Cosine(warmup=2), "clip": None, "stopping": pa.EarlyStopping()}
    run = fitted(x, checkpoint=pa.Checkpoint(tmp_path / "c"), **settings)
    assert pa.load(pa.save(run, tmp_path / "run")).method.stopping == pa.EarlyStopping()
