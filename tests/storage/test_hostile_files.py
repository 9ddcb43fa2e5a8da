"""Whatever is done to a saved fit, `load` answers with a FileError, at once, and runs nothing."""

import contextlib
import copy
import hashlib
import json
import os
import pickle
import random
import struct
import time
import warnings

import pytest
import safetensors.torch
import torch

import probae as pa
from probae.io import load, read_table, save
from probae.storage.manifest import checksum


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Return the two files of a saved fit, and its content."""
    x = pa.datasets.linear_factors(60, 4, 2, seed=0).x
    encoder = pa.MLPEncoder(4, 2, hidden=(3,), covariance="diagonal")
    model = pa.LinearFactorModel(
        4, 2, prior=pa.priors.Independent([pa.priors.StudentT(5.0), pa.priors.Laplace()])
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pa.ProbaeWarning)  # of two epochs nobody expects convergence
        run = pa.fit(model, x, pa.SVI(encoder, epochs=2))
    folder = save(run, tmp_path_factory.mktemp("kept"))
    content = json.loads((folder / "manifest.json").read_text())
    return content, next(folder.glob("*.safetensors")).read_bytes()


@pytest.fixture
def folder(kept, tmp_path):
    """Return a fresh copy of the saved fit."""
    content, weights = kept
    write(tmp_path, content, weights)
    return tmp_path


def write(folder, content, weights=None):
    """Write a manifest with a valid checksum, and weights under the name their SHA-256 gives them."""
    content = copy.deepcopy(content)
    if weights is not None:
        digest = hashlib.sha256(weights).hexdigest()
        content["weights"] = {"sha256": digest, "bytes": len(weights)}
        (folder / f"weights-{digest[:16]}.safetensors").write_bytes(weights)
    content["checksum"] = checksum(content)
    (folder / "manifest.json").write_text(json.dumps(content))


def assert_refused(folder, match=None):
    """Assert that loading fails as it should, within a second of work."""
    start = time.process_time()
    with pytest.raises(pa.FileError, match=match) as caught:
        load(folder)
    assert time.process_time() - start < 1.0
    return str(caught.value)


def described(tensors):
    return {
        name: {
            "dtype": str(t.dtype).removeprefix("torch."),
            "shape": list(t.shape),
            "sha256": hashlib.sha256(t.contiguous().numpy().tobytes()).hexdigest(),
        }
        for name, t in tensors.items()
    }


def test_the_copy_loads(folder):
    assert load(folder).model.latents == 2


def with_header(text, body=b""):
    raw = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(raw)) + raw + body


DEEP = "[" * 10_000 + "]" * 10_000
WEIGHTS = {
    "empty": b"",
    "one byte": b"x",
    "header of length 2^63": struct.pack("<Q", 2**63) + b"{}",
    "header of length 2^64 - 1": struct.pack("<Q", 2**64 - 1) + b"{}",
    "header of length 0": struct.pack("<Q", 0),
    "header longer than the file": struct.pack("<Q", 100) + b"{}",
    "header over the cap": with_header(b"{" + b" " * 1_000_001 + b"}"),
    "not UTF-8": with_header(b"\xff\xfe{}"),
    "not JSON": with_header("{"),
    "a list": with_header("[]"),
    "repeated keys": with_header('{"a": 1, "a": 2}'),
    "deep": with_header(DEEP),
    "many tensors": with_header(
        json.dumps({str(i): {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for i in range(100_000)})
    ),
    "over the cap of tensors": with_header(json.dumps({str(i): 0 for i in range(10_001)})),
}


@pytest.mark.parametrize("case", WEIGHTS)
def test_malformed_weights_are_refused(case, folder, kept):
    write(folder, kept[0], WEIGHTS[case])
    assert_refused(folder, "weights")


def one_tensor(**changes):
    entry = {"dtype": "F64", "shape": [2], "data_offsets": [0, 16]} | changes
    return with_header(json.dumps({"history": entry}), b"\0" * 16)


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [2**62, 8]},
        {"shape": [2**64]},
        {"shape": [-2]},
        {"shape": [2.0]},
        {"shape": "2"},
        {"dtype": "F16384"},
        {"dtype": 3},
        {"data_offsets": [0, 8]},
        {"data_offsets": [8, 24]},
        {"data_offsets": [16, 0]},
        {"data_offsets": [-16, 0]},
        {"extra": 1},
    ],
    ids=str,
)
def test_a_malformed_tensor_is_refused(changes, folder, kept):
    content = kept[0] | {"tensors": described({"history": torch.zeros(2, dtype=torch.float64)})}
    write(folder, content, one_tensor(**changes))
    assert_refused(folder)


def test_overlapping_tensors_are_refused(folder, kept):
    entries = {
        name: {"dtype": "F64", "shape": [2], "data_offsets": [0, 16]} for name in ("history", "model.x")
    }
    write(folder, kept[0] | {"tensors": described({n: torch.zeros(2).double() for n in entries})},
          with_header(json.dumps(entries), b"\0" * 16))  # fmt: skip
    assert_refused(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(value, folder, kept):
    tensors = safetensors.torch.load(kept[1])
    tensors["model.loadings_unconstrained"][0, 0] = value
    write(folder, kept[0] | {"tensors": described(tensors)}, safetensors.torch.save(tensors))
    assert_refused(folder, "not finite")


@pytest.mark.parametrize(
    ("name", "changed", "sentence"),
    [
        ("model.mean_unconstrained", torch.zeros(9, dtype=torch.float64), "does not have the tensors"),
        ("model.loadings_unconstrained", torch.zeros(4, 3, dtype=torch.float64), "differ in size"),
        ("model.mean_unconstrained", torch.zeros(4, dtype=torch.float32), "does not have the tensors"),
        ("model.prior.laws.0.freedom.value", torch.tensor(-1.0, dtype=torch.float64), "contradict"),
        ("model.surplus", torch.zeros(1), "does not have the tensors"),
        ("encoder.head.bias", torch.zeros(5, dtype=torch.float64), "encoder and its tensors differ"),
        ("other", torch.zeros(1), "not those of the fit"),
        ("history", torch.zeros(1, 1), "not those of the fit"),
    ],
)
def test_well_formed_tensors_of_another_model_are_refused(name, changed, sentence, folder, kept):
    tensors = safetensors.torch.load(kept[1]) | {name: changed}
    write(folder, kept[0] | {"tensors": described(tensors)}, safetensors.torch.save(tensors))
    assert_refused(folder, sentence)


def law(**arguments):
    return {"class": "StudentT", "df": 5.0, "learn": False} | arguments


def nested(depth):
    spec = {"class": "Laplace"}
    for _ in range(depth):
        spec = {"class": "Scaled", "law": spec, "sd": 1.0}
    return spec


MODEL = {"class": "LinearFactorModel", "features": 4, "latents": 2, "noise": "diagonal"}
LAPLACE = {"class": "Laplace"}
MLP = {"class": "MLPEncoder", "features": 4, "latents": 2, "hidden": [3], "covariance": "diagonal", "rank": 1}
MLP |= {"residual": False, "normalize": False}
SPECS = {
    "class of Python": {"model": {"class": "os.system", "command": "true"}},
    "class outside the table": {"model": {"class": "LatentModel", "features": 4, "latents": 2}},
    "no class": {"model": {"features": 4, "latents": 2}},
    "a list": {"model": [4, 2]},
    "another model": {"model": {"class": "FactorAnalysis", "features": 4, "latents": 2}},
    "a law as the model": {"model": law(features=4, latents=2)},
    "huge sizes": {"model": MODEL | {"features": 10**12, "latents": 10**12, "prior": LAPLACE}},
    "sizes that are no integers": {"model": MODEL | {"features": 4.0, "prior": LAPLACE}},
    "missing argument": {"model": MODEL},
    "surplus argument": {"model": MODEL | {"prior": LAPLACE, "x": 1}},
    "unknown noise": {"model": MODEL | {"prior": LAPLACE, "noise": "none"}},
    "impossible law": {"model": MODEL | {"prior": law(df=1.0)}},
    "law of a million": {"model": MODEL | {"prior": {"class": "Independent", "laws": [LAPLACE] * 100_000}}},
    "deep law": {"model": MODEL | {"prior": nested(50)}},
    "model within a model": {"model": MODEL | {"prior": MODEL | {"prior": LAPLACE}}},
    "huge encoder": {
        "encoder": MLP | {"latents": 10**6, "hidden": [10**6]}
    },
    "deep encoder": {
        "encoder": MLP | {"hidden": [3] * 999}
    },
    "encoder of letters": {
        "encoder": MLP | {"hidden": "abc"}
    },
    "encoder within a method": {
        "method": {
            "class": "SVI", "epochs": 1, "batch": None, "lr": 0.1, "objective": {"class": "ELBO", "draws": 1},
            "encoder": {"class": "LinearGaussianEncoder", "features": 10**6, "latents": 10**6},
        }
    },
    "no encoder": {"encoder": None},
    "a model as the method": {"method": {"class": "FactorAnalysis", "features": 10**6, "latents": 10**6}},
    "a reference as the method": {"method": {"ref": "model"}},
    "unknown reference": {"posterior": {"class": "EncoderPosterior", "encoder": {"ref": "x"}}},
    "a method as the posterior": {"posterior": {"class": "EM", "steps": 1, "tol": 1.0}},
    "a number as the posterior": {"posterior": 3},
    "schema of the future": {"schema": 2},
    "schema of the past": {"schema": 0},
    "schema as text": {"schema": "1"},
    "schema as truth value": {"schema": True},
    "another format": {"format": "pickle"},
    "names of another model": {"names": ["a"]},
    "names that are numbers": {"names": [1, 2, 3, 4]},
    "negative seed": {"seed": -1},
    "seconds as text": {"seconds": "1"},
    "restarts as text": {"restarts": "none"},
    "restart of a class": {"restarts": [{"a": {"class": "FactorAnalysis", "features": 10**6, "latents": 10**6}}]},
    "tensors as a list": {"tensors": []},
    "surplus entry": {"surplus": 1},
    "weights elsewhere": {"weights": {"sha256": "../../../../etc/passwd", "bytes": 1}},
    "weights under an absolute name": {"weights": {"sha256": "/etc/passwd", "bytes": 10_000}},
    "weights that are not there": {"weights": {"sha256": "0" * 64, "bytes": 10_000}},
    "weights without a size": {"weights": {"sha256": "0" * 64, "bytes": -1}},
}  # fmt: skip


@pytest.mark.parametrize("case", SPECS)
def test_a_manifest_that_describes_something_else_is_refused(case, folder, kept):
    write(folder, kept[0] | SPECS[case])
    assert_refused(folder)


MANIFESTS = {
    "empty": b"",
    "not UTF-8": b"\xff\xfe",
    "not JSON": b"{",
    "a list": b"[]",
    "null": b"null",
    "repeated keys": b'{"format": "probae.fit", "format": "probae.fit"}',
    "deep": DEEP.encode(),
    "deep objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "NaN": b'{"format": NaN}',
    "a huge number": b'{"format": 1e999}',
    "a long number": b'{"format": ' + b"9" * 10_000 + b"}",
    "many lists": b"[" + b"[]," * 1_000_000 + b"[]]",
    "too long": b'"' + b"x" * 5_000_000 + b'"',
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_a_malformed_manifest_is_refused(case, folder):
    (folder / "manifest.json").write_bytes(MANIFESTS[case])
    assert_refused(folder, "manifest")


def test_a_change_of_the_manifest_is_noticed(folder):
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"converged": false', '"converged": true'))
    assert_refused(folder, "changed after it was written")


def test_every_flipped_byte_is_noticed(folder, kept):
    chance = random.Random(0)
    before = load(folder)
    for name in ("manifest.json", next(folder.glob("*.safetensors")).name):
        path = folder / name
        whole = path.read_bytes()
        for _ in range(300):
            raw = bytearray(whole)
            raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
            path.write_bytes(raw)
            try:
                again = load(folder)
            except pa.FileError:
                continue
            assert json.loads(bytes(raw)) == kept[0] | {"weights": json.loads(whole)["weights"]} | {
                "checksum": json.loads(whole)["checksum"]
            }  # blanks differ, and nothing else
            assert torch.equal(again.model.loadings, before.model.loadings)
        path.write_bytes(whole)


ODD = [
    None,
    -1,
    0,
    1e308,
    10**12,
    "x",
    "../x",
    [],
    {},
    True,
    [None],
    {"class": "Laplace"},
    {"ref": "model"},
    {"float": "nan"},
]


def leaves(value, path=()):
    """Yield the place of every value within a manifest."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from leaves(item, (*path, key))


def test_odd_values_anywhere_are_refused_or_harmless(folder, kept):
    chance = random.Random(0)
    places = list(leaves(kept[0]))
    loaded = 0
    for _ in range(400):
        content = copy.deepcopy(kept[0])
        *way, last = chance.choice(places)
        parent = content
        for key in way:
            parent = parent[key]
        parent[last] = copy.deepcopy(chance.choice(ODD))
        write(folder, content)
        start = time.process_time()
        with contextlib.suppress(pa.FileError):
            fit = load(folder)
            loaded += 1
            assert isinstance(fit.method, pa.SVI)
            assert fit.posterior(torch.zeros(2, 4, dtype=torch.float64)).mean.shape == (2, 2)
        assert time.process_time() - start < 1.0
    assert 0 < loaded < 200  # most entries matter; versions, seeds and seconds are what they say


class Canary:
    """An object whose unpickling makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".txt", ".npy", ".npz", ".parquet"])
def test_a_pickle_named_as_a_table_is_not_run(suffix, tmp_path):
    path = tmp_path / f"table{suffix}"
    path.write_bytes(pickle.dumps(Canary(tmp_path / "sung")))
    with pytest.raises((pa.FileError, pa.DataError), match="table"):
        read_table(path)
    assert not (tmp_path / "sung").exists()


def test_a_pickle_among_the_files_of_a_fit_is_not_run(folder, kept):
    song = pickle.dumps(Canary(folder / "sung"))
    write(folder, kept[0], song)
    assert_refused(folder, "weights")
    (folder / "manifest.json").write_bytes(song)
    assert_refused(folder, "manifest")
    assert not (folder / "sung").exists()


def test_links_pipes_and_folders_are_refused(folder, tmp_path):
    weights = next(folder.glob("*.safetensors"))
    kept = weights.rename(folder / "elsewhere")
    weights.symlink_to(kept)
    assert_refused(folder, "symbolic link")
    weights.unlink()
    os.mkfifo(weights)
    assert_refused(folder, "not a regular file")
    weights.unlink()
    weights.mkdir()
    assert_refused(folder)
    weights.rmdir()
    assert_refused(folder, "No such file")
    kept.rename(weights)
    weights.write_bytes(weights.read_bytes() + b"\0")
    assert_refused(folder, "more than")
    weights.write_bytes(weights.read_bytes()[:-2])
    assert_refused(folder, "changed after it was written")


@pytest.mark.parametrize(
    "path", ["a\nb", "a\0b", "x" * 4096, "x" * 100_000, "\udcff", "", "manifest.json", "../nowhere"]
)
def test_an_odd_path_is_a_file_error(path, folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "manifest.json").write_text("{}")
    text = assert_refused(path)
    assert "\n" not in text
    assert len(text) < 1500
