"""The Pyro program of a sampler's fit, whose parameters have priors, as JSON and tensors, and back."""

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

PART = "program."
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
    specs = {}
    for name, law in program.parameter_priors.items():
        if isinstance(law, ParameterPrior):
            held = held_tensors(law, f"{PRIORS}{name}")
            specs[name] = to_spec(law, held)
        else:
            specs[name], held = pack_law(law, f"{PRIORS}{name}")
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
    laws = {name: _law(name, spec, found) for name, spec in specs.items()}
    if not laws or not set(laws) <= set(model.parameter_names):
        raise FileError("the priors are not those of parameters of the model.")
    try:
        program = model.with_priors(**laws)
        state = {name.removeprefix(STATE): value for name, value in found.items() if name.startswith(STATE)}
        program.load_state_dict(state, assign=True)
        with torch.random.fork_rng(devices=[]):
            program(size=1)  # a law of another size or a wrong number says so now
    except FileError:
        raise
    except Exception as error:  # whatever torch and Pyro make of hostile numbers
        raise FileError(f"the model refuses the priors of its parameters: {str(error)[:200]}") from error
    values = {name.removeprefix(VALUES): value for name, value in found.items() if name.startswith(VALUES)}
    shapes = {name: value.shape for name, value in program.point_values.items()}
    if {name: value.shape for name, value in values.items()} != shapes:
        raise FileError("the values of the parameters are not those of the model.")
    program.point_values = values
    program.requires_grad_(False)
    if set(found) != set(pack_program(program)[1]):
        raise FileError("the tensors are not those of the program of the fit.")
    return program


def _law(name: str, spec: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(spec, dict) and "pyro" in spec:
        return unpack_law(spec, f"{PRIORS}{name}", tensors)
    return from_spec(spec, ParameterPrior, tensors)
