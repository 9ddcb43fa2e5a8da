"""All that changes while a model is trained: what is kept, put back, written and read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from probae.inference.adam import FlatAdam
from probae.inference.checkpoint import Checkpoint, digest
from probae.inference.stopping import Watch


@dataclass(eq=False)
class TrainingState:
    """Parameters, buffers, moments of Adam, random states and history of a training at the end of an epoch.

    Parameters
    ----------
    adam : FlatAdam
        With all parameters as one vector.
    buffers : sequence of Tensor
        What training changes without a gradient, such as running means.
    generator : torch.Generator
        Of the order of rows; draws come from torch's global one.
    watch : Watch
        Of the held-out bound.
    """

    adam: FlatAdam
    buffers: Sequence[Tensor]
    generator: torch.Generator
    watch: Watch
    history: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.kept = [one.clone() for one in self._live]

    @property
    def _live(self) -> list[Tensor]:
        return [self.adam.values, *self.buffers]

    def keep(self) -> None:
        """Note parameters and buffers as those to end with."""
        copy_values(self._live, self.kept)

    def put_back(self) -> None:
        """Set parameters and buffers to those noted last."""
        copy_values(self.kept, self._live)

    def start(self) -> str:
        """Return a digest of parameters and buffers."""
        return digest({str(number): one for number, one in enumerate(self._live)})

    def snapshot(self) -> dict[str, Tensor]:
        """Return a copy of all of it."""
        return {name: one.detach().clone() for name, one in self._tensors().items()}

    def read(self, checkpoint: Checkpoint, run: dict[str, str]) -> None:
        """Go to the state in the file, if there is one."""
        like = self._tensors() | {name: torch.zeros(0, dtype=torch.float64) for name in ("history", "held")}
        found = checkpoint.read(run, like)
        if found is None:
            return
        self.adam.steps = int(found["steps"])
        copy_values([found[f"live.{n}"] for n in range(len(self._live))], self._live)
        copy_values([found[f"kept.{n}"] for n in range(len(self.kept))], self.kept)
        copy_values([found["mean"], found["square"]], [self.adam.mean, self.adam.square])
        self.history, self.watch.values = found["history"].tolist(), found["held"].tolist()
        self.generator.set_state(found["order"])
        torch.set_rng_state(found["draws"])

    def _tensors(self) -> dict[str, Tensor]:
        return {
            "steps": torch.tensor(self.adam.steps),
            "mean": self.adam.mean,
            "square": self.adam.square,
            "history": torch.tensor(self.history, dtype=torch.float64),
            "held": torch.tensor(self.watch.values, dtype=torch.float64),
            "order": self.generator.get_state(),
            "draws": torch.get_rng_state(),
            **{f"live.{number}": one for number, one in enumerate(self._live)},
            **{f"kept.{number}": one for number, one in enumerate(self.kept)},
        }


@dataclass(eq=False)
class Record:
    """The file of a training, and a copy of the last whole epoch as long as it is not in the file.

    Parameters
    ----------
    checkpoint : Checkpoint
    run : dict
        What the state belongs to.
    state : TrainingState
        Set to what is in the file.
    """

    checkpoint: Checkpoint
    run: dict[str, str]
    state: TrainingState
    unwritten: dict[str, Tensor] | None = None

    def __post_init__(self) -> None:
        self.state.read(self.checkpoint, self.run)

    def note(self) -> None:
        """Take a copy at the end of an epoch, and write it where that is due."""
        self.unwritten = self.state.snapshot()
        if self.checkpoint.due(len(self.state.history)):
            self.write()

    def write(self) -> None:
        """Write the last whole epoch, if it is not in the file: Ctrl-C may have ended the training after it."""
        if self.unwritten is not None:
            self.checkpoint.write(self.run, self.unwritten)
            self.unwritten = None


@torch.no_grad()
def copy_values(source: Sequence[Tensor], target: Sequence[Tensor]) -> None:
    """Copy tensors in place."""
    for old, new in zip(target, source, strict=True):
        old.copy_(new)
