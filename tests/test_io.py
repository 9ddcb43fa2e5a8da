"""Saved fits come back bit for bit, and a crash at any moment leaves the old fit or the new one."""

import dataclasses
import errno
import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure

import probae as pa
from probae import encoders, inference, models, priors
from probae.files import remove_stale
from probae.inference.base import ExactPosterior
from probae.io import atomic_write, load, read_bytes, save, write_figure, write_json, write_text
from probae.storage.registry import POSTERIORS, REGISTRY

ROOT = Path(__file__).resolve().parents[1]
LAWS = [
    priors.Gaussian(),
    priors.CorrelatedGaussian([[1.0, 0.3], [0.3, 1.0]]),
    priors.CorrelatedGaussian([[1.0, 0.3], [0.3, 1.0]], learn=True),
    priors.Laplace(),
    priors.Logistic(),
    priors.Uniform(),
    priors.StudentT(4.5),
    priors.StudentT(7.0, learn=True),
    priors.MultivariateStudentT(5.0),
    priors.GeneralizedNormal(1.3),
    priors.GeneralizedNormal(1.3, learn=True),
    priors.SpikeSlab(0.3, 0.2),
    priors.Scaled(priors.SpikeSlab(), 1 / 3),
    priors.Independent([priors.StudentT(5.0), priors.Scaled(priors.Laplace(), 2.0)]),
]


def data(dtype=torch.float64):
    return pa.datasets.linear_factors(120, 5, 2, seed=1).x.to(dtype)


def svi(encoder):
    return pa.SVI(encoder, epochs=2)


def spherical():
    return pa.priors.MultivariateStudentT(5.0, learn=True)


def segmented(labels):
    return pa.SegmentedLikelihood(list(labels))


# Each with a method; together every model, method, encoder head and posterior.
ML, MLP = pa.MaximumLikelihood, pa.MLPEncoder
FITS = {
    "fa": (lambda: pa.FactorAnalysis(5, 2), None, torch.float64),
    "fa-em": (lambda: pa.FactorAnalysis(5, 2), lambda: pa.EM(steps=3), torch.float64),
    "cfa": (lambda: pa.ConfirmatoryFactorAnalysis([[1, 0]] * 3 + [[0, 1]] * 2, True, ["f", "g"]), None, torch.float64),
    "ppca": (lambda: pa.ProbabilisticPCA(5, 2), None, torch.float64),
    "laplace": (lambda: pa.LinearFactorModel(5, 2, pa.priors.Laplace()), lambda: ML(draws=8), torch.float64),
    "ica": (lambda: pa.IndependentComponents(5, 5), None, torch.float64),
    "elliptical": (lambda: pa.LinearFactorModel(5, 2, spherical()), lambda: pa.EM(steps=5), torch.float64),
    "segments": (lambda: pa.LinearFactorModel(5, 5, noise="none"), lambda: segmented([0, 1] * 60), torch.float64),
    "segment-names": (lambda: pa.LinearFactorModel(5, 5, noise="none"), lambda: segmented("ab" * 60), torch.float32),
    "map": (lambda: pa.SparseCoding(5, 8), lambda: pa.MAP(steps=2), torch.float64),
    "map-narrow": (lambda: pa.SparseCoding(5, 8), lambda: pa.MAP(penalty=0.4, steps=2), torch.float32),
    "linear-encoder": (lambda: pa.FactorAnalysis(5, 2), lambda: svi(pa.LinearGaussianEncoder(5, 2)), torch.float64),
    "full": (lambda: pa.FactorAnalysis(5, 2), lambda: svi(MLP(5, 2, hidden=(6, 4))), torch.float32),
    "low-rank": (lambda: pa.ProbabilisticPCA(5, 2), lambda: svi(MLP(5, 2, (6,), "low_rank", rank=1)), torch.float64),
    "diagonal": (lambda: pa.FactorAnalysis(5, 2), lambda: svi(MLP(5, 2, (6,), "diagonal")), torch.float64),
    "residual": (lambda: pa.FactorAnalysis(5, 2), lambda: svi(MLP(5, 2, (6, 6), "full", 4, True, True)), torch.float64),
    "laplace-encoder": (lambda: pa.SparseCoding(5, 2), lambda: svi(pa.LaplaceEncoder(5, 2, (6,))), torch.float64),
    "spike-slab": (lambda: pa.SparseCoding(5, 2), lambda: svi(pa.SpikeSlabEncoder(5, 2, (6,), 0.2)), torch.float64),
    "tied": (lambda: pa.FactorAnalysis(5, 2), lambda: svi(pa.TiedEncoder(5, 2)), torch.float32),
    "flow": (lambda: pa.FactorAnalysis(5, 2), lambda: svi(pa.FlowEncoder(5, 2, (6,), 1, 4, 5)), torch.float64),
    "binary": (lambda: pa.FactorAnalysis(5, 2), lambda: svi(pa.BinaryCodeEncoder(5, 2, (6,), 1.5)), torch.float64),
    "gibbs": (lambda: pa.FactorAnalysis(5, 2), lambda: pa.Gibbs(draws=5, warmup=5, chains=2), torch.float32),
}  # fmt: skip


def fitted(name):
    model, method, dtype = FITS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pa.ProbaeWarning)
        return pa.fit(model(), data(dtype), method and method(), seed=3)


def bits(tensor):
    return tensor.dtype, tuple(tensor.shape), tensor.detach().contiguous().numpy().tobytes()


def assert_same(one, two):
    """Every field of two fits agrees, tensors bit for bit."""
    assert {k: bits(v) for k, v in one.model.state_dict().items()} == {
        k: bits(v) for k, v in two.model.state_dict().items()
    }
    for name in type(one.model).parameter_names:
        if hasattr(one.model, name):
            assert bits(getattr(one.model, name)) == bits(getattr(two.model, name))
    assert bits(one.history) == bits(two.history)
    assert repr(one) == repr(two)
    assert (two.program is two.model) == (one.program is one.model)
    plain = ("seed", "names", "converged", "seconds", "warnings", "interrupted", "restarts")
    assert {name: getattr(one, name) for name in plain} == {name: getattr(two, name) for name in plain}
    covered = {"model", "program", "posterior", "method", "history", "draws", "sample_stats", *plain}
    assert {field.name for field in dataclasses.fields(one)} == covered  # a new field has to be saved, too


@pytest.mark.parametrize("name", FITS)
def test_a_fit_comes_back_bit_for_bit(name, tmp_path, random_state):
    fit = fitted(name)
    save(fit, tmp_path / "run")
    before = random_state()
    again = load(tmp_path / "run")
    assert random_state() == before
    assert_same(fit, again)
    x = data(FITS[name][2])
    law, back = fit.posterior(x), again.posterior(x)
    assert type(law) is type(back)
    assert bits(law.mean) == bits(back.mean)
    assert bits(law.variance) == bits(back.variance)
    if hasattr(fit.posterior, "encoder"):
        assert again.method.encoder is again.posterior.encoder
        assert again.posterior.encoder.warning == fit.posterior.encoder.warning
    elif hasattr(fit.posterior, "model"):
        assert again.posterior.model is again.model


@pytest.mark.parametrize("law", LAWS, ids=repr)
def test_every_law_comes_back_bit_for_bit(law, tmp_path):
    with torch.random.fork_rng():
        for parameter in law.parameters():
            parameter.data += 0.1234567890123  # as learnt: no longer the constructor's
    fit = from_parameters(pa.LinearFactorModel(5, 2, prior=law))
    again = load(save(fit, tmp_path))
    z = torch.linspace(-2, 2, 6, dtype=torch.float64).view(3, 2)
    assert bits(fit.model.prior.log_prob(z)) == bits(again.model.prior.log_prob(z))
    assert repr(fit.model.prior) == repr(again.model.prior)
    assert {k: bits(v) for k, v in law.state_dict().items()} == {
        k: bits(v) for k, v in again.model.prior.state_dict().items()
    }


def from_parameters(model, **more):
    """Make a fit without fitting."""
    model.requires_grad_(False)
    fields = {
        "model": model,
        "program": model,
        "posterior": ExactPosterior(model),
        "method": pa.MaximumLikelihood(),
        "seed": 0,
        "names": None,
        "history": torch.zeros(1, dtype=torch.float64),
        "converged": True,
        "seconds": 0.5,
    }
    return pa.Fit(**fields | more)


def test_draws_notes_and_odd_numbers_come_back(tmp_path):
    names = ("a", "b|c", "<script>", "é\ud800", "")
    fit = from_parameters(
        pa.FactorAnalysis(5, 2),
        names=names,
        warnings=("a sentence\nof two lines",),
        draws={"loadings": torch.randn(2, 3, 5, 2, dtype=torch.float64)},
        sample_stats={
            "energy": torch.tensor([[1.0, float("nan")]]),
            "divergent": torch.tensor([[True, False]]),
        },
        history=torch.tensor([float("-inf"), float("nan"), -3.0], dtype=torch.float64),
        restarts=({"restart": 0, "contrast": float("-inf")}, {"restart": 1, "contrast": 0.1}),
        interrupted=True,
    )
    again = load(save(fit, tmp_path))
    assert_same(fit, again)
    for kept in ("draws", "sample_stats"):
        one, two = getattr(fit, kept), getattr(again, kept)
        assert {k: bits(v) for k, v in one.items()} == {k: bits(v) for k, v in two.items()}


def test_every_class_of_the_package_can_be_saved():
    wanted = {
        priors: priors.Prior,
        models: models.LinearFactorModel,
        encoders: encoders.Encoder,
        inference: inference.Method,
    }
    for module, base in wanted.items():
        for name in module.__all__:
            value = getattr(module, name)
            if isinstance(value, type) and issubclass(value, base) and value not in (base,):
                assert REGISTRY[name][0] is value
    assert REGISTRY["LinearFactorModel"][0] is models.LinearFactorModel
    assert all(REGISTRY[posterior.__name__][0] is posterior for posterior in POSTERIORS)


def test_what_cannot_be_loaded_is_not_saved(tmp_path):
    class Mine(priors.Laplace):
        pass

    save(fitted("fa"), tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(pa.FileError, match="Mine is not among"):
        save(from_parameters(pa.LinearFactorModel(5, 2, prior=Mine())), tmp_path)
    broken = pa.FactorAnalysis(5, 2)
    broken.loadings = torch.full((5, 2), torch.nan, dtype=torch.float64)
    with pytest.raises(pa.FileError, match="not finite"):
        save(from_parameters(broken), tmp_path)
    import pyro.distributions as dist

    with pytest.raises(pa.FileError, match="only the result of pa.fit"):
        pa.save(torch.zeros(3), tmp_path / "tensor")
    with pytest.raises(pa.FileError, match="priors"):
        save(from_parameters(pa.FactorAnalysis(5, 2).with_priors(loadings=dist.Normal(0.0, 1.0))), tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_saving_replaces_the_fit_and_leaves_other_files_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / ".probae-left-by-a-kill").write_text("half")
    save(fitted("fa"), tmp_path)
    save(fitted("ppca"), tmp_path)
    assert type(load(tmp_path).model) is pa.ProbabilisticPCA
    names = sorted(file.name for file in tmp_path.iterdir())
    assert [name for name in names if name.startswith("weights")] == [
        f"weights-{weights_digest(tmp_path)[:16]}.safetensors"
    ]
    assert len(names) == 3
    assert "notes.txt" in names


def weights_digest(folder):
    return json.loads((folder / "manifest.json").read_text())["weights"]["sha256"]


def test_equal_fits_are_equal_files(tmp_path):
    fit = fitted("fa")
    one, two = save(fit, tmp_path / "one"), save(load(tmp_path / "one"), tmp_path / "two")
    for file in one.iterdir():
        assert file.read_bytes() == (two / file.name).read_bytes()


@pytest.mark.parametrize("failing", [1, 2])  # the weights, or the manifest
def test_a_failed_save_leaves_the_old_fit(failing, tmp_path, monkeypatch):
    save(fitted("fa"), tmp_path)
    replace, calls = os.replace, []

    def fail(*arguments):
        calls.append(arguments)
        if len(calls) == failing:
            raise PermissionError(errno.EACCES, "Permission denied")
        replace(*arguments)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(pa.FileError, match="could not be written: Permission denied"):
        save(fitted("ppca"), tmp_path)
    monkeypatch.undo()
    assert type(load(tmp_path).model) is pa.FactorAnalysis
    assert not list(tmp_path.glob(".probae-*"))


KILLS = """
import os, random, signal, sys, time, torch
import probae as pa
from probae.inference.base import ExactPosterior
torch.set_num_threads(1)
folder = sys.argv[1]
fits = []
for cls in (pa.FactorAnalysis, pa.ProbabilisticPCA):
    model = cls(20_000, 8).requires_grad_(False)  # 1.3 MB
    history = torch.zeros(1, dtype=torch.float64)
    fits.append(pa.Fit(model, model, ExactPosterior(model), pa.MaximumLikelihood(), 0, None, history, True, 0.0))
pa.save(fits[0], folder)
chance = random.Random(0)
for _ in range(8):
    child = os.fork()
    if child == 0:
        while True:
            for fit in fits:
                pa.save(fit, folder)
    time.sleep(0.05 + chance.random() * 0.2)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    print(type(pa.load(folder).model).__name__, len([n for n in os.listdir(folder) if n.startswith(".probae-")]))
pa.save(fits[0], folder)
print(*sorted(os.path.splitext(n)[1] for n in os.listdir(folder)))
"""


def test_a_killed_save_leaves_a_fit_that_loads(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", KILLS, str(tmp_path)]
    *kills, after = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert len(kills) == 8
    assert {line.split()[0] for line in kills} <= {"FactorAnalysis", "ProbabilisticPCA"}
    assert after == ".json .safetensors"  # what the kills left behind is swept by the next save


def test_a_full_disk_leaves_the_old_file(tmp_path):
    path = write_text("old", tmp_path / "file")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(pa.FileError, match=r"file could not be written: File too large; what was there"):
            atomic_write(path, b"x" * 10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("target", ["no/such/folder/file", "file/below", "a\0b", "x" * 5000])
def test_a_bad_place_is_a_file_error(target, tmp_path):
    write_text("old", tmp_path / "file")
    with pytest.raises(pa.FileError, match="could not be written"):
        atomic_write(tmp_path / target, b"new")
    assert (tmp_path / "file").read_text() == "old"


def test_a_folder_is_not_replaced_by_a_file(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(pa.FileError, match="could not be written"):
        atomic_write(tmp_path / "folder", b"new")
    assert [file.name for file in tmp_path.iterdir()] == ["folder"]


def test_an_interrupted_writer_leaves_the_old_file(tmp_path):
    path = write_text("old", tmp_path / "file")

    def stopped(file):
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        atomic_write(path, stopped)
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("one", "other"), [("run", "run-1"), ("a" * 50 + "1", "a" * 50 + "2"), ("run", "run-0123456789abcdef")]
)
def test_what_another_file_is_written_through_is_not_stale(one, other, tmp_path):
    """A run that starts clears up after its own file alone: another's may be half written at that moment."""

    def write(file):
        file.write(b"whole")
        remove_stale(tmp_path / one)

    atomic_write(tmp_path / other, write)
    assert (tmp_path / other).read_bytes() == b"whole"


def test_what_a_kill_left_is_removed(tmp_path):
    def killed(file):
        remains.append(next(tmp_path.iterdir()).name)
        raise KeyboardInterrupt

    remains = []
    with pytest.raises(KeyboardInterrupt):
        atomic_write(tmp_path / "run", killed)
    (tmp_path / remains[0]).touch()
    remove_stale(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_files_have_the_rights_of_the_user(tmp_path):
    mask = os.umask(0o027)
    try:
        path = write_text("", tmp_path / "file")
    finally:
        os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_pipe_or_a_link_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    write_text("secret", tmp_path / "file")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    for name in ("pipe", "link", "."):
        with pytest.raises(pa.FileError):
            read_bytes(tmp_path / name)
    assert read_bytes(tmp_path / "link", follow=True) == b"secret"
    with pytest.raises(pa.FileError, match="not a regular file"):
        read_bytes(tmp_path / "pipe", follow=True)
    with pytest.raises(pa.FileError, match="6 bytes, more than the 5"):
        read_bytes(tmp_path / "file", limit=5)


def test_figures_are_equal_files_and_json_is_strict(tmp_path):
    for kind in ("png", "pdf", "svg"):
        figure = Figure(figsize=(1, 1))
        figure.add_subplot().plot([0, 1])
        first = write_figure(figure, tmp_path / f"a.{kind}").read_bytes()
        if kind != "svg":  # whose element ids are random
            assert (
                hashlib.sha256(first).digest()
                == hashlib.sha256(write_figure(figure, tmp_path / f"b.{kind}").read_bytes()).digest()
            )
    with pytest.raises(pa.FileError, match=r"\.png, \.pdf or \.svg"):
        write_figure(figure, tmp_path / "a.docx")
    value = {"a": float("inf"), "b": [1, (2.5, None)], 3: Path("x")}
    text = write_json(value, tmp_path / "v.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {"a": "inf", "b": [1, [2.5, None]], "3": "x"}
