"""`probae info`: what is installed, beside what the package asks for."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re

import torch

from probae import __version__


def describe() -> list[str]:
    """Return versions, the ranges they should lie in, threads and device, one line each.

    Examples
    --------
    >>> describe()[0].startswith("probae")
    True
    """
    lines = [
        f"probae        {__version__}",
        f"Python        {platform.python_version()} ({platform.system()})",
    ]
    lines += [f"threads       {torch.get_num_threads()} of {os.cpu_count()} processors"]
    gpu = torch.cuda.is_available()
    lines += [
        f"device        cpu{f'; {torch.cuda.get_device_name()} is present, and not used' if gpu else ''}",
        "",
    ]
    return lines + ["package       installed      range"] + [_line(*required) for required in _requirements()]


def _requirements() -> list[tuple[str, str]]:
    """Return name and range of each package needed to run, as the installed metadata have them."""
    try:
        listed = importlib.metadata.requires("probae") or []
    except importlib.metadata.PackageNotFoundError:  # run from its source, without being installed
        listed = [f"{name}; range unknown" for name in ("torch", "pyro-ppl", "numpy", "scipy", "safetensors")]
    found: dict[str, str] = {}
    for requirement in listed:
        spec, _, marker = requirement.partition(";")
        name = re.match(r"[\w.-]+", spec.strip())
        if name is None or "extra ==" in marker:
            continue
        found.setdefault(name[0], spec.strip()[len(name[0]) :].split("]")[-1] or marker.strip())
    return sorted(found.items())


def _line(name: str, wanted: str) -> str:
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        version = "missing"
    return f"{name:<13} {version:<14} {wanted}"
