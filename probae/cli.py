"""The command line: `probae demo`, `probae fit`, `probae audit`, `probae info`.

Only the standard library and tyro are imported here; torch waits for work, so that help comes at once.
"""

from __future__ import annotations

import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

import tyro

from probae import __version__

BAD_INPUT, INTERRUPTED = 2, 130  # exit codes

Table = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
Subject = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DATA|RUN")]
Count = Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")]
Text = Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="")]
Folder = Annotated[Path | None, tyro.conf.arg(metavar="FOLDER", help_behavior_hint="")]
File = Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")]
Columns = Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME [NAME ...]", help_behavior_hint="")]
Models = Literal["fa", "ppca", "laplace", "linear", "sparse", "ica"]
Methods = Literal["auto", "ml", "em", "stochastic-em", "variational-em", "map", "svi"]


def demo(output: Path = Path("results/demo"), seed: int = 0) -> int:
    """Fit, audit and draw embedded data: mental tests, image patches, digits, and cases whose truth is known.

    Parameters
    ----------
    output
        Folder of the report and the figures.
    seed
        Seed of everything random.
    """
    from probae.demo import run_demo

    return run_demo(output, seed, say, note)


def fit(
    data: Table,
    model: Models = "fa",
    latents: Count = None,
    prior: Text = None,
    method: Methods = "auto",
    steps: Count = None,
    columns: Columns = (),
    seed: int = 0,
    output: Folder = None,
) -> int:
    """Fit one model to a table of numbers, audit its axes, and write a folder with fit, figures and report.

    Parameters
    ----------
    data
        Table with one row per sample: CSV, TSV, .npy, .npz or Parquet.
    model
        fa: factor analysis; ppca: probabilistic PCA; laplace: factor analysis with Laplace factors; linear:
        with factors of any --prior; sparse: sparse coding; ica: independent components without noise.
    latents
        Number of factors; not needed for ica.
    prior
        Law of the factors: gaussian, laplace, logistic, uniform, student-t:5, multivariate-student-t:5,
        generalized-normal:1.5 or spike-slab:0.2,0.1.
    method
        auto takes what suits the model; ml is maximum likelihood, svi uses an encoder.
    steps
        Most steps of em, stochastic-em, variational-em and map; epochs of svi.
    columns
        Columns to use, by name; all by default.
    seed
        Seed of everything random.
    output
        Folder of the run; by default under results/, named after data, model and settings.
    """
    from probae.commands.fitting import run_fit

    return run_fit(data, model, latents, prior, method, steps, columns, seed, output, say, note)


def audit(
    subject: Subject,
    data: File = None,
    latents: Count = None,
    columns: Columns = (),
    seed: int = 0,
    output: Folder = None,
) -> int:
    """Say whether axes mean anything: those of a saved run, or of Gaussian and Laplace factors of a table.

    Parameters
    ----------
    subject
        A table, or the folder of a run.
    data
        The table a run was fitted to, if it has moved.
    latents
        Number of factors to fit to a table.
    columns
        Columns to use, by name; all by default.
    seed
        Seed of everything random.
    output
        Folder of the report; by default the run itself, or one under results/.
    """
    from probae.commands.auditing import run_audit

    return run_audit(subject, data, latents, columns, seed, output, say, note)


def info() -> int:
    """Show versions, the ranges they should lie in, threads and device."""
    from probae.commands.information import describe

    for line in describe():
        say(line)
    return 0


def say(line: str) -> None:
    """Print a line of the answer."""
    print(line, flush=True)


def note(line: str) -> None:
    """Print a line about the work, on standard error."""
    print(line, file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit code: 0 done, 2 bad input, 130 interrupted.

    Examples
    --------
    >>> main(["--version"]) == 0
    probae ...
    True
    """
    if arguments is None:
        arguments = sys.argv[1:]
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill saves what there is, too
    if arguments == ["--version"]:
        say(f"probae {__version__}")
        return 0
    try:
        return tyro.extras.subcommand_cli_from_dict(
            {"demo": demo, "fit": fit, "audit": audit, "info": info},
            prog="probae",
            description="Linear factor models and sparse coding, and what their axes mean.",
            args=arguments,
        )
    except KeyboardInterrupt:
        note("interrupted: nothing more was written.")
        return INTERRUPTED
    except BrokenPipeError:
        with suppress(OSError):
            sys.stdout.close()  # or Python tries once more at exit, and complains
        return 0
    except Exception as error:
        sentence = explain(error)
        if sentence is None:
            raise
        note(f"error: {sentence}")
        return BAD_INPUT


def explain(error: Exception) -> str | None:
    """Return one line for an error that the user can mend, None for one that is a fault of the program.

    Examples
    --------
    >>> explain(FileNotFoundError(2, "No such file or directory", "x.csv"))
    'x.csv: No such file or directory'
    """
    from probae.checks import ProbaeError
    from probae.commands.markdown import clean

    if isinstance(error, ProbaeError):
        return clean(str(error).replace("\n", " "))
    if isinstance(error, OSError) and error.filename is not None:
        return clean(f"{error.filename}: {error.strerror}".replace("\n", " "))
    if isinstance(error, MemoryError):
        return "not enough memory for data or model of this size."
    return None


if __name__ == "__main__":
    sys.exit(main())
