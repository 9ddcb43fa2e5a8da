"""A fit as a manifest and named tensors, and back."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from probae import __version__
from probae.checks import FileError
from probae.encoders import Encoder
from probae.inference.base import Fit, Method
from probae.inference.code_draws_posterior import CodeDrawsPosterior
from probae.inference.draws_posterior import DrawsPosterior
from probae.inference.segment_labels import Segments
from probae.models import Autoencoder, LatentModel, LinearFactorModel
from probae.models.pyro_context import local_parameters
from probae.storage import manifest, weights
from probae.storage.draws import check_draws, check_posterior_draws
from probae.storage.programs import OWN, pack_laws, pack_program, unpack_laws, unpack_program
from probae.storage.registry import POSTERIORS
from probae.storage.specs import from_spec, held_tensors, to_spec

MAX_DRAWS = 1_000_000  # for each row
PACKAGES = ("torch", "pyro-ppl", "numpy", "scipy", "safetensors")


def versions() -> dict[str, str]:
    """Return the versions of Python, probae and the packages results depend on."""
    return {
        "python": platform.python_version(),
        "probae": __version__,
        **{name: importlib.metadata.version(name) for name in PACKAGES},
    }


def pack(fit: Fit) -> tuple[dict[str, Any], bytes]:
    """Describe a fit: the content of its manifest, and its tensors as safetensors bytes.

    Raises
    ------
    FileError
        If a part of the fit is of a class no file can hold.

    Examples
    --------
    >>> import probae as pa
    >>> content, raw = pack(pa.fit(pa.FactorAnalysis(9, 1), pa.datasets.holzinger_swineford().x))
    >>> content["model"]
    {'class': 'FactorAnalysis', 'features': 9, 'latents': 1}
    """
    if not isinstance(fit, Fit):
        raise FileError(f"it is a {type(fit).__name__}, and only the result of pa.fit can be saved.")
    if fit.model.random_parameters:
        raise FileError(
            "the parameters of its model carry priors, and the model of a fit should have fixed ones."
        )
    encoder = getattr(fit.posterior, "encoder", None) or getattr(fit.method, "encoder", None)
    shared = {"model": fit.model} | ({} if encoder is None else {"encoder": encoder})
    parts = {name: module.state_dict() for name, module in shared.items()}
    parts |= {name: getattr(fit, name) or {} for name in ("draws", "sample_stats")}
    held = held_tensors(fit.method, "method") | held_tensors(fit.posterior, "posterior")
    shared |= held
    priors, of_program = pack_program(fit.program) if fit.program is not fit.model else (None, {})
    own, of_model = pack_laws(fit.model.parameter_priors, OWN)
    laws = {"parameter_priors": priors, "model_priors": own} if priors or own else {}
    tensors = (
        held
        | of_program
        | of_model
        | {f"{part}.{key}": value for part, values in parts.items() for key, value in values.items()}
    )
    tensors["history"] = fit.history
    raw = weights.dump(tensors)
    content = {
        "format": "probae.fit",
        "schema": 2 if laws else 1,
        "model": to_spec(fit.model, shared),
        "encoder": None if encoder is None else to_spec(encoder, shared),
        "method": to_spec(fit.method, shared),
        "posterior": to_spec(fit.posterior, shared),
        "seed": fit.seed,
        "names": None if fit.names is None else list(fit.names),
        "converged": fit.converged,
        "interrupted": fit.interrupted,
        "seconds": fit.seconds,
        "warnings": list(fit.warnings),
        "restarts": [{key: to_spec(value, {}) for key, value in restart.items()} for restart in fit.restarts],
        "draws": fit.draws is not None,
        "sample_stats": fit.sample_stats is not None,
        "tensors": weights.describe(tensors),
        "versions": versions(),
    }
    return content | laws, raw


@local_parameters
def unpack(content: dict[str, Any], raw: bytes) -> Fit:
    """Rebuild the fit; the content has passed `manifest.parse`.

    Raises
    ------
    FileError
        If content and tensors do not make a fit.
    """
    tensors = weights.parse(raw, content["tensors"])
    model = _build_model(content["model"], _below("model.", tensors), len(raw))
    shared: dict[str, Any] = {"model": model}
    if content["encoder"] is not None:
        shared["encoder"] = _build_encoder(content["encoder"], _below("encoder.", tensors), len(raw))
    if content["names"] is not None and len(content["names"]) != model.features:
        raise FileError(f"the model has {model.features} features, and {len(content['names'])} names.")
    parts = {*shared, *(name for name in ("draws", "sample_stats") if content[name])}
    shared |= {name: value for name, value in tensors.items() if name.startswith(("method.", "posterior."))}
    method = from_spec(content["method"], Method, shared)
    posterior = from_spec(content["posterior"], POSTERIORS, shared)
    held = held_tensors(method, "method") | held_tensors(posterior, "posterior")
    _check_posterior(posterior, shared)
    program = model
    if content.get("parameter_priors") is not None:
        program = unpack_program(model, content["parameter_priors"], tensors)
        parts.add("program")
    if "model_priors" in content:
        model.parameter_priors = unpack_laws(model, content["model_priors"], tensors)
        parts.add("model_priors")
    _check_parts({name: value for name, value in tensors.items() if value is not held.get(name)}, parts)
    check_draws(model, tensors)
    return Fit(
        model=model,
        program=program,
        posterior=posterior,
        method=method,
        seed=content["seed"],
        names=None if content["names"] is None else tuple(content["names"]),
        history=tensors["history"],
        converged=content["converged"],
        seconds=float(content["seconds"]),
        warnings=tuple(content["warnings"]),
        interrupted=content["interrupted"],
        draws=_below("draws.", tensors) if content["draws"] else None,
        sample_stats=_below("sample_stats.", tensors) if content["sample_stats"] else None,
        restarts=tuple(
            {name: from_spec(value, object, {}) for name, value in restart.items()}
            for restart in content["restarts"]
        ),
    )


def _check_posterior(posterior: Any, shared: Mapping[str, Any]) -> None:
    """See that a posterior is that of this model or encoder, and its numbers are sound: it checks nothing itself."""
    for name, value in vars(posterior).items():
        if name in ("model", "encoder"):
            sound = value is shared.get(name) and value is not None
        elif isinstance(posterior, DrawsPosterior):
            sound = isinstance(value, Tensor) and value.is_floating_point()
        elif isinstance(value, Tensor | Segments):
            sound = True  # their owner has checked them
        elif name == "tolerance":
            sound = isinstance(value, float) and value > 0
        else:  # draws for each row, their seed, and steps, of which there may be none
            least = 0 if name in ("seed", "steps") else 1
            sound = manifest.is_count(value) and value >= least and (name == "seed" or value <= MAX_DRAWS)
        if not sound:
            raise FileError(f"the posterior has an impossible {name}.")
    if isinstance(posterior, DrawsPosterior | CodeDrawsPosterior):
        check_posterior_draws(posterior, shared["model"])


def _check_parts(tensors: Mapping[str, Tensor], parts: set[str]) -> None:
    """See that every tensor belongs to a part of this fit."""
    stray = [name for name in tensors if name.partition(".")[0] not in parts and name != "history"]
    history = tensors.get("history")
    if stray or history is None or history.ndim != 1:
        raise FileError("the tensors are not those of the fit the manifest describes.")


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _build_model(spec: Any, state: dict[str, Tensor], size: int) -> LatentModel:
    """Build a model, having compared its sizes with the tensors: they bound what it may allocate."""
    if isinstance(spec, dict) and spec.get("class") == "Autoencoder":
        autoencoder: Autoencoder = _build_sketched(spec, Autoencoder, state, size)
        autoencoder.requires_grad_(False)
        return autoencoder
    sizes = _sizes(spec) if isinstance(spec, dict) else None
    loadings = state.get("loadings_unconstrained")
    if loadings is None or sizes != tuple(loadings.shape):
        raise FileError("the model and its loadings differ in size.")
    model = from_spec(spec, LinearFactorModel, {})
    _fill(model, state, spec)
    model.requires_grad_(False)
    return model


def _sizes(spec: dict[str, Any]) -> tuple[Any, Any]:
    """Return the features and latents a model is described with: as numbers, or by a matrix with those sides."""
    pattern = spec.get("pattern")
    if isinstance(pattern, list) and pattern and isinstance(pattern[0], list):
        return len(pattern), len(pattern[0])
    return spec.get("features"), spec.get("latents")


def _build_encoder(spec: Any, state: dict[str, Tensor], size: int) -> Encoder:
    encoder: Encoder = _build_sketched(spec, Encoder, state, size)
    return encoder.eval()


def _build_sketched(spec: Any, kind: type, state: dict[str, Tensor], size: int) -> Any:
    """Build a module, having built one without memory first to see what the real one would allocate."""
    part = "encoder" if kind is Encoder else "model"
    with torch.random.fork_rng(devices=[]):  # layers draw first values, which are overwritten
        with torch.device("meta"):
            sketch = from_spec(spec, kind, {})
        shapes = {name: tuple(tensor.shape) for name, tensor in sketch.state_dict().items()}
        if shapes != {name: tuple(tensor.shape) for name, tensor in state.items()}:
            raise FileError(f"the {part} and its tensors differ in size.")
        if sum(tensor.numel() * tensor.element_size() for tensor in sketch.buffers()) > 64 * size + 1_000_000:
            raise FileError(f"the {part} would take far more memory than its tensors.")
        module = from_spec(spec, kind, {})
    _fill(module, state, spec)
    return module


def _fill(module: nn.Module, state: dict[str, Tensor], spec: Any) -> None:
    """Give a module its tensors, in their own dtype, and see that it is still the one described."""
    floating = [tensor.dtype for tensor in state.values() if tensor.is_floating_point()]
    module.to(floating[0])
    expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    if expected != {name: tuple(tensor.shape) for name, tensor in state.items()} or len(set(floating)) != 1:
        raise FileError(f"{type(module).__name__} does not have the tensors that are stored for it.")
    module.load_state_dict(state, assign=True)
    if not _agree(to_spec(module, {}), spec):
        raise FileError(f"the tensors of {type(module).__name__} contradict its description.")


def _agree(found: Any, wanted: Any) -> bool:
    """Whether two specs are equal, numbers up to the rounding of float32."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        return set(found) == set(wanted) and all(_agree(found[key], wanted[key]) for key in found)
    if isinstance(found, list) and isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(_agree, found, wanted))
    if isinstance(found, float) and isinstance(wanted, float | int):
        return abs(found - wanted) <= 1e-6 * abs(found)
    return found == wanted
