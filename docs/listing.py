"""Pages made from the code, so that they cannot go out of date: the public names and the error classes."""

import inspect
import re
from types import ModuleType

import probae
from probae import errors

# How the reference is divided: heading, and the modules whose public names stand under it, in reading order.
GROUPS = (
    ("Fitting", ("inference",)),
    ("Models", ("models", "decoders", "likelihoods")),
    ("Laws of the latents", ("priors",)),
    ("Priors of parameters", ("parameter_priors",)),
    ("Encoders", ("encoders",)),
    ("Sparse codes", ("codes",)),
    ("Identifiability", ("identifiability",)),
    ("Psychometrics", ("factors", "rotation")),
    ("Looking at a fit", ("analysis",)),
    ("Retrieval", ("retrieval",)),
    ("Comparing loadings and latents", ("matching", "agreement", "tucker", "linalg")),
    ("Data and statistics", ("datasets", "statistics")),
    ("Plots", ("plots",)),
    ("Files, reports and estimators", ("io", "report", "sklearn", "cli")),
    ("Errors and warnings", ("errors",)),
)


def public_names() -> dict[str, object]:
    """Map every public dotted name to the object: those of `probae`, and those of its public modules."""
    found: dict[str, object] = {}
    for name in probae.__all__:
        value = getattr(probae, name)
        if isinstance(value, ModuleType):
            found |= {f"probae.{name}.{member}": getattr(value, member) for member in value.__all__}
        elif not name.startswith("__"):
            found[f"probae.{name}"] = value
    return found


def group_of(name: str, value: object) -> str:
    """Give the heading a public name belongs under, by the module it is defined in."""
    parts = (getattr(value, "__module__", None) or name).split(".")
    unit = parts[1] if parts[0] == "probae" and len(parts) > 1 else name.split(".")[1]
    return next((heading for heading, units in GROUPS if unit in units), "Other")


def once(names: dict[str, object]) -> dict[str, object]:
    """Keep one name for each class or function: the shortest."""
    shortest: dict[int, str] = {}
    for name, value in sorted(names.items(), key=lambda item: (item[0].count("."), item[0])):
        shortest.setdefault(id(value), name)
    return {name: names[name] for name in shortest.values()}


def api_page() -> str:
    """Write the reference as reStructuredText: a heading and an autosummary table for each group."""
    headings = [heading for heading, _ in GROUPS] + ["Other"]
    groups: dict[str, list[str]] = {heading: [] for heading in headings}
    for name, value in once(public_names()).items():
        groups[group_of(name, value)].append(name)
    lines = ["API", "===", ""]
    for heading, names in groups.items():
        if names:
            lines += [heading, "-" * len(heading), "", ".. autosummary::", "   :toctree: names", ""]
            lines += [f"   {name}" for name in sorted(names, key=str.lower)] + [""]
    return "\n".join(lines)


def filename_map() -> dict[str, str]:
    """Give `Fit` another file than `fit`, for file systems that do not tell capitals apart."""
    names = list(once(public_names()))
    lower = [name.lower() for name in names]
    return {name: f"{name}-class" for name in names if lower.count(name.lower()) > 1 and name != name.lower()}


def escape_bars(lines: list[str]) -> list[str]:
    """Escape the bars of |x| in the prose of a docstring, which Sphinx would read as a substitution.

    Doctests, directives and literal blocks stay as they are, and so do ``literals`` and :roles:`of text`.
    """
    result = []
    doctest, block = False, None  # block: the indentation of the line above a literal block or of a directive
    for line in lines:
        text = line.strip()
        indent = len(line) - len(line.lstrip())
        if not text:
            doctest = False
        elif block is not None and indent <= block:
            block = None
        if text.startswith(">>>"):
            doctest = True
        elif block is None and (text.startswith(".. ") or text.endswith("::")):
            block = indent
        if not doctest and block is None:
            pieces = re.split(r"(``.*?``|:\w+:`.*?`)", line)
            line = "".join(p if i % 2 else p.replace("|", "\\|") for i, p in enumerate(pieces))
        result.append(line)
    return result


def first_sentence(value: object) -> str:
    """Give the first line of a docstring."""
    return (inspect.getdoc(value) or "").split("\n")[0]


def error_table() -> str:
    """Write the error and warning classes, and what each means, as a Markdown table."""
    classes = [value for _, value in inspect.getmembers(errors, inspect.isclass)]
    own = [c for c in classes if c.__module__ == errors.__name__ and issubclass(c, Exception)]
    own.sort(key=lambda c: (issubclass(c, Warning), len(c.__mro__), c.__name__))
    rows = [f"| `{c.__name__}` | `{c.__bases__[-1].__name__}` | {first_sentence(c)} |" for c in own]
    return "\n".join(["| class | is also a | meaning |", "|---|---|---|", *rows, ""])
