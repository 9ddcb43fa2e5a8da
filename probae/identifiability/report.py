"""The identifiability report of a fit: evidence, verdict, text and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from probae.checks import check_count
from probae.identifiability.decision import Decision, Verdict
from probae.identifiability.evidence import Evidence, gather
from probae.identifiability.evidence_dict import evidence_dict
from probae.identifiability.no_bootstrap import why_no_bootstrap
from probae.identifiability.nonlinear import nonlinear_evidence
from probae.identifiability.precision import describe_worst
from probae.identifiability.subjects import read_subject
from probae.identifiability.supplied_restarts import with_restarts
from probae.identifiability.verdict import decide
from probae.inference import Fit
from probae.models import LinearFactorModel
from probae.priors import Prior

__all__ = ["Report", "Verdict", "audit"]


def audit(
    fit: Any,
    x: Any = None,
    *,
    prior: Prior | None = None,
    restarts: Sequence[Fit] | None = None,
    bootstrap: int = 0,
    seed: int = 0,
) -> Report:
    """Say whether the axes of a fitted linear factor model mean anything.

    Four questions are kept apart: what the model identifies (structure), what the data support (tests on the scores),
    what the inference method invented (guide), and how precisely the axes are known (degrees).

    Parameters
    ----------
    fit : Fit, estimator, matrix or draws
        The result of `fit`, point or draws; a fitted FactorAnalysis, PCA or FastICA of scikit-learn; bare loadings
        (D, K) of uncorrelated factors of variance 1; or draws of loadings (chain, draw, D, K), bare, by site
        ("loadings", "noise_variance", "mean") or in the tree of `to_datatree`.
    x : array, DataFrame or Tensor (N, D), optional
        The rows the model was fitted to. Without them only the structural layer runs; bare loadings, bare draws and
        FastICA need them.
    prior : Prior, optional
        The law of the factors of bare loadings or draws. Without it loadings get independent laws that fit their
        scores, and draws are taken for those of Gaussian factors.
    restarts : sequence of Fit, optional
        Fits of the same model from other starts, as `refits` gives: the report says up to what they agree. Agreement
        is necessary for axes to mean something and never sufficient, so the verdict does not rest on it.
    bootstrap : int
        Resamples of the rows that show, beside the standard errors, how far the axes of factors that are not Gaussian
        move; 50 take some seconds. Where none can be run the report says why.
    seed : int
        Seed of the Monte Carlo parts.

    Returns
    -------
    Report
        ``.verdict``, ``.group``, ``.separable``, ``.reasons``, ``.to_dict()``; ``print`` shows it.

    Raises
    ------
    ParameterError
        If ``fit`` is nothing of that, ``restarts`` hold no fits of its model, or ``bootstrap`` or ``seed`` is no count.
    DataError
        If loadings, draws and rows do not go together.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> report = audit(pa.fit(pa.FactorAnalysis(9, 3), x), x)
    >>> report.verdict.name, report.group
    ('NOT_IDENTIFIED', 'O(3)')
    >>> from sklearn.decomposition import PCA
    >>> audit(PCA(3).fit(x), x).verdict.name
    'NOT_IDENTIFIED'
    """
    subject = read_subject(fit, x, prior)
    seed = check_count("seed", seed, minimum=0)
    linear = isinstance(subject.fit.model, LinearFactorModel)
    resamples = check_count("bootstrap", bootstrap, minimum=0)
    evidence = gather(subject.fit, x, seed, resamples) if linear else nonlinear_evidence(subject.fit, x)
    if subject.rotation_unfinished:
        evidence = replace(evidence, rotation_unfinished=True)
    if subject.laws_chosen:
        evidence = replace(evidence, structure=evidence.structure.with_any_order())
    evidence = with_restarts(evidence, restarts, x, seed)
    if resamples:
        inference = replace(evidence.inference, why_no_bootstrap=why_no_bootstrap(evidence))
        evidence = replace(evidence, inference=inference)
    found = decide(evidence)
    return Report(subject.name, evidence, replace(found, reasons=(*found.reasons, *subject.notes)))


@dataclass(frozen=True, eq=False)
class Report:
    """Evidence on the axes of a fit, and the verdict it allows."""

    model: str
    evidence: Evidence
    decision: Decision

    @property
    def verdict(self) -> Verdict:
        """One of the closed vocabulary."""
        return self.decision.verdict

    @property
    def group(self) -> str:
        """What stays free: SP(k) is signs, and order among factors of one law; O(k) any rotation."""
        return self.decision.group

    @property
    def meaning(self) -> str:
        """What the verdict says of this fit, in words."""
        return self.decision.meaning or self.verdict.value

    @property
    def separable(self) -> bool:
        """Whether x determines the factors up to noise: loadings of full column rank."""
        return self.evidence.loadings.separable

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why, the deciding reason first."""
        return self.decision.reasons

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain numbers and text, ready for JSON (infinity as None)."""
        return {
            "verdict": self.verdict.name,
            "group": self.group,
            "separable": self.separable,
            "reasons": list(self.reasons),
            "model": self.model,
            "samples": self.evidence.samples,
            **evidence_dict(self.evidence),
        }

    def __str__(self) -> str:
        sections = [_structure_lines, _data_lines, _inference_lines, _precision_lines]
        lines = [f"Identifiability of {self.model}, {self.evidence.rows}"]
        for section in sections:
            lines += section(self.evidence)
        lines.append(f" VERDICT     {self.verdict.name}  {self.group}: {self.meaning}.")
        return "\n".join(lines + [f"             - {reason}" for reason in self.reasons])

    def _repr_html_(self) -> str:
        import html

        return f"<pre>{html.escape(str(self))}</pre>"


def _structure_lines(evidence: Evidence) -> list[str]:
    shape, loadings = evidence.structure, evidence.loadings
    if evidence.nonlinear:
        return [f" STRUCTURE   unknown. {evidence.nonlinear}"]
    kind = "exact" if shape.exact else "Monte Carlo"
    planes = evidence.factors * (evidence.factors - 1) // (1 if shape.family == "GL" else 2)
    modes = f" ({shape.modes} equivalent modes: {shape.free} free)" if (shape.modes or 1) > 1 else ""
    lines = [
        f" STRUCTURE   group {shape.group}{modes}; null directions {shape.null_dimension} of {planes} ({kind}); "
        f"loadings of rank {loadings.rank} of {evidence.factors}, {'' if loadings.separable else 'not '}separable"
    ]
    if shape.spectrum is not None:
        lines.append(f"             {shape.spectrum.describe()}")
    if evidence.zeros is not None:
        found = evidence.zeros.nullity
        lines.append(
            f"             {evidence.zeros.fixed} loadings fixed to zero, {found.parameters} free parameters, "
            f"{found.dimension} flat direction(s), {found.rotations.dimension} of them rotations (exact, local)"
        )
    if evidence.rank is not None:
        lines.append(f"             {evidence.rank.describe()}")
    if evidence.uniqueness is not None:
        lines.append(f"             noise: {evidence.uniqueness.sentence}")
    if evidence.principal is not None:
        lines.append(f"             {evidence.principal.describe()}")
    if loadings.heywood:
        lines.append(f"             Heywood: noise variance at its floor in columns {list(loadings.heywood)}")
    return lines


def _data_lines(evidence: Evidence) -> list[str]:
    data = evidence.data
    if evidence.segments is not None:
        lines = evidence.segments.lines()
        return [(" SEGMENTS    " if i == 0 else "             ") + line for i, line in enumerate(lines)]
    if data is None:
        return [f" DATA        not run. {evidence.why_no_data}".rstrip()]
    found = data.lines()
    if evidence.factors == 1:
        found.append("Tests of axes not run: one factor has none to turn.")
    return [(" DATA        " if i == 0 else "             ") + line for i, line in enumerate(found)]


def _inference_lines(evidence: Evidence) -> list[str]:
    lines = []
    if evidence.zeros is not None and evidence.zeros.test is not None:
        lines.append(evidence.zeros.test.describe())
    if evidence.invariance is not None:
        lines.append(
            f"likelihood over 100 Haar rotations changes by {evidence.invariance:.1e} of itself (exact)"
        )
    profile = evidence.profile
    if profile is not None and not evidence.gaussian:
        i, j = profile.plane
        kind = "exact" if profile.exact else f"Monte Carlo error {float(profile.error.max()):.2g}"
        lines.append(
            f"likelihood along the rotation of z[{i}] and z[{j}]: range {profile.range:.2f} nats over "
            f"{profile.samples} rows ({kind}); a range alone is no evidence, it is positive on Gaussian data too"
        )
    if evidence.inference.restricted and not evidence.nonlinear:
        lines.append(
            "the posterior is approximate with a restricted family; its axes are checked against the exact ones"
        )
    if evidence.model_frame is not None:
        frame = evidence.model_frame
        lines.append(
            f"best axes under the model's law: {frame.degrees:.1f} degrees away, {frame.gain:+.4f} nats per row"
        )
    if evidence.adaptive_frame is not None:
        frame = evidence.adaptive_frame
        lines.append(
            f"best axes under a law fitted to the data ({frame.law}): {frame.degrees:.1f} degrees away, "
            f"{frame.gain:+.4f} +- {frame.error:.4f} nats per held-out row"
        )
    lines += evidence.inference.lines()
    return [(" INFERENCE   " if i == 0 else "             ") + line for i, line in enumerate(lines)]


def _precision_lines(evidence: Evidence) -> list[str]:
    return [f" PRECISION   {describe_worst(evidence.precision)}"] if evidence.precision else []
