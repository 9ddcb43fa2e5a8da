"""The priors of parameters, and the Pyro program of a sampler's fit, as JSON and tensors, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from probae.checks import FileError
from probae.models import LatentModel, LinearFactorModel
from probae.parameter_priors import ParameterPrior
from probae.storage.pyro_laws import pack_law, unpack_law
from probae.storage.specs import from_spec, held_tensors, to_spec

PART, OWN = "program.", "model_priors."
PRIORS, VALUES, STATE = f"{PART}priors.", f"{PART}values.", f"{PART}state."


def pack_program(program: LatentModel) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Describe the priors of a program by the name of the parameter, and its tensors.

    Raises
    ------
    FileError
        If a prior is neither a law of `probae.parameter_priors` nor a common one of Pyro.

    Examples
    --------
    >>> import probae as pa
    >>> law = pa.parameter_priors.InverseGamma(3.0, 1.0)
    >>> pack_program(pa.FactorAnalysis(2, 1).with_priors(noise_variance=law))[0]
    {'noise_variance': {'class': 'parameter_priors.InverseGamma', 'shape': 3.0, 'scale': 1.0}}
    """
    tensors = {VALUES + name: value for name, value in program.point_values.items()}
    tensors |= {STATE + name: value for name, value in program.state_dict().items()}
    specs, held = pack_laws(program.parameter_priors, PRIORS)
    return specs, tensors | held


def pack_laws(laws: Mapping[str, Any], part: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Describe priors by the name of the parameter, and their tensors, which belong to a part of the file.

    Raises
    ------
    FileError
        If a prior is neither a law of `probae.parameter_priors` nor a common one of Pyro.

    Examples
    --------
    >>> from probae.parameter_priors import Flat
    >>> pack_laws({"mean": Flat()}, "model_priors.")
    ({'mean': {'class': 'parameter_priors.Flat'}}, {})
    """
    specs: dict[str, Any] = {}
    tensors: dict[str, Tensor] = {}
    for name, law in laws.items():
        if isinstance(law, ParameterPrior):
            held = held_tensors(law, f"{part}{name}")
            specs[name] = to_spec(law, held)
        else:
            specs[name], held = pack_law(law, f"{part}{name}")
        tensors |= held
    return specs, tensors


def unpack_program(
    model: LinearFactorModel, specs: dict[str, Any], tensors: Mapping[str, Tensor]
) -> LatentModel:
    """Rebuild the program of a fitted model.

    Raises
    ------
    FileError
        If the tensors are not those of such a program.
    """
    found = {name: value for name, value in tensors.items() if name.startswith(PART)}
    state = {name.removeprefix(STATE): value for name, value in found.items() if name.startswith(STATE)}
    program = _randomized(model, _laws(specs, PRIORS, found), state)
    values = {name.removeprefix(VALUES): value for name, value in found.items() if name.startswith(VALUES)}
    shapes = {name: value.shape for name, value in program.point_values.items()}
    if {name: value.shape for name, value in values.items()} != shapes:
        raise FileError("the values of the parameters are not those of the model.")
    program.point_values = values
    program.requires_grad_(False)
    if set(found) != set(pack_program(program)[1]):
        raise FileError("the tensors are not those of the program of the fit.")
    return program


def unpack_laws(
    model: LinearFactorModel, specs: dict[str, Any], tensors: Mapping[str, Tensor]
) -> dict[str, Any]:
    """Rebuild the priors that a fitted model lists, having seen that it takes them.

    Raises
    ------
    FileError
        If the tensors are not those of such priors.
    """
    found = {name: value for name, value in tensors.items() if name.startswith(OWN)}
    laws = _laws(specs, OWN, found)
    if laws:
        _randomized(model, laws)
    if set(found) != set(pack_laws(laws, OWN)[1]):
        raise FileError("the tensors are not those of the priors of the model.")
    return laws


def _randomized(
    model: LinearFactorModel, laws: dict[str, Any], state: dict[str, Tensor] | None = None
) -> LatentModel:
    """Return the model with priors on its parameters, or say that it does not take them."""
    if not laws or not set(laws) <= set(model.parameter_names):
        raise FileError("the priors are not those of parameters of the model.")
    try:
        program = model.with_priors(**laws)
        if state is not None:
            program.load_state_dict(state, assign=True)
        with torch.random.fork_rng(devices=[]):
            program(size=1)  # a law of another size or a wrong number says so now
    except Exception as error:  # whatever torch and Pyro make of hostile numbers
        raise FileError(f"the model refuses the priors of its parameters: {str(error)[:200]}") from error
    return program


def _laws(specs: dict[str, Any], part: str, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    return {
        name: unpack_law(spec, f"{part}{name}", tensors)
        if isinstance(spec, dict) and "pyro" in spec
        else from_spec(spec, ParameterPrior, tensors)
        for name, spec in specs.items()
    }
