"""What the rules answer to the number of factors, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from probae.checks import ParameterError
from probae.factors.rule import Judgement, Rule
from probae.factors.sequence import FactorFit

__all__ = ["NumberOfFactors", "aligned"]


@dataclass(frozen=True, eq=False)
class NumberOfFactors:
    """The answers of all rules, and the fits some of them looked at.

    Attributes
    ----------
    samples, features : int
        Rows, and columns that vary.
    judgements : tuple of Judgement
        One for each rule: ``.answer``, ``.counts`` and ``.values`` of its statistic, ``.note``.
    fits : tuple of FactorFit
        Fits with 0, 1, 2, ... factors, with the warnings each gave; empty if no rule needed them.
    incomplete : bool
        Whether the covariance was estimated from rows with missing values.

    Examples
    --------
    >>> import probae as pa
    >>> from probae.factors.number import RULES
    >>> result = pa.number_of_factors(pa.datasets.holzinger_swineford().x, rules=RULES[:2])
    >>> result.agreement
    {3: ('Kaiser', 'empirical Kaiser')}
    >>> print(result)
    Number of factors of 9 columns, 301 rows
    <BLANKLINE>
    rule              answer  statistic   source
    Kaiser                 3  eigenvalue  Guttman (1954); Kaiser (1960)
    empirical Kaiser       3  eigenvalue  Braeken & van Assen (2017)
    <BLANKLINE>
    3 factors: 2 rules (Kaiser, empirical Kaiser)
    """

    samples: int
    features: int
    judgements: tuple[Judgement, ...]
    fits: tuple[FactorFit, ...]
    incomplete: bool = False

    @property
    def largest(self) -> int | None:
        """The most factors that were fitted; None if no rule needed a fit."""
        return len(self.fits) - 1 if self.fits else None

    @property
    def answers(self) -> dict[str, int | None]:
        """The answer of each rule by its name; None where it has none."""
        return {one.name: one.answer for one in self.judgements}

    @property
    def agreement(self) -> dict[int, tuple[str, ...]]:
        """The rules that name each number of factors, fewest factors first."""
        named = sorted({one.answer for one in self.judgements if one.answer is not None})
        return {k: tuple(one.name for one in self.judgements if one.answer == k) for k in named}

    @property
    def range(self) -> tuple[int, int] | None:
        """The smallest and the largest answer; None if no rule has one."""
        named = list(self.agreement)
        return (named[0], named[-1]) if named else None

    @property
    def table(self) -> list[dict[str, Any]]:
        """One row for each rule: rule, answer, statistic, source, note; ready for a DataFrame."""
        return [
            {
                "rule": one.name,
                "answer": one.answer,
                "statistic": one.rule.statistic,
                "source": one.rule.source,
                "note": self._note(one),
            }
            for one in self.judgements
        ]

    def judgement(self, rule: Rule | str) -> Judgement:
        """Return what one rule found, asked for by the rule or its name.

        Raises
        ------
        ParameterError
            If the rule was not asked.

        Examples
        --------
        >>> import probae as pa
        >>> from probae.factors.number import Kaiser
        >>> result = pa.number_of_factors(pa.datasets.holzinger_swineford().x, rules=[Kaiser()])
        >>> result.judgement("Kaiser").values[:3].round(decimals=3)
        tensor([3.2160, 1.6390, 1.3650], dtype=torch.float64)
        """
        for one in self.judgements:
            if rule in (one.rule, one.name):
                return one
        raise ParameterError(f"rule should be one that was asked, {list(self.answers)}, got {rule!r}.")

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain numbers and text, ready for JSON."""
        rules = [
            row | {"counts": one.counts.tolist(), "values": one.values.tolist()}
            for row, one in zip(self.table, self.judgements, strict=True)
        ]
        return {
            "samples": self.samples,
            "features": self.features,
            "largest": self.largest,
            "incomplete": self.incomplete,
            "rules": rules,
            "agreement": {str(k): list(names) for k, names in self.agreement.items()},
            "fits": [one.to_dict() for one in self.fits],
        }

    def __str__(self) -> str:
        lines = [f"Number of factors of {self.features} columns, {self.samples} rows"]
        if self.incomplete:
            lines.append(
                "Missing values: rules see the maximum likelihood covariance, as if all rows were complete."
            )
        lines.append("")
        lines += aligned(
            [
                ("rule", "answer", "statistic", "source"),
                *(
                    (row["rule"], _shown(row["answer"]), row["statistic"], row["source"])
                    for row in self.table
                ),
            ],
            right=(1,),
        )
        lines += ["", *(_agreement_line(k, names) for k, names in self.agreement.items())]
        notes = [f"{row['rule']}: {row['note']}" for row in self.table if row["note"]]
        lines += ["", *notes] if notes else []
        lines += ["", *_fit_lines(self.fits)] if self.fits else []
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        import html

        return f"<pre>{html.escape(str(self))}</pre>"

    def _note(self, one: Judgement) -> str:
        last = int(one.counts[-1]) if len(one.counts) else None
        limited = one.answer is not None and one.answer == last == self.largest and one.answer > 0
        return one.note + (";" if one.note and limited else "") + " at the limit, raise largest" * limited


def aligned(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """Return rows of text as lines with aligned columns, those in ``right`` to the right.

    Examples
    --------
    >>> aligned([("k", "AIC"), ("10", "5.1")], right=(0, 1))
    [' k  AIC', '10  5.1']
    """
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _agreement_line(k: int, names: tuple[str, ...]) -> str:
    return f"{k} factor{'s' * (k != 1)}: {len(names)} rule{'s' * (len(names) != 1)} ({', '.join(names)})"


def _fit_lines(fits: Sequence[FactorFit]) -> list[str]:
    head = ("factors", "chi-square", "df", "p", "RMSEA", "AIC", "BIC", "warnings")
    rows = [
        (
            str(one.factors),
            _shown(one.chi_square, ".2f"),
            str(one.degrees),
            _shown(one.p_value, ".3g"),
            _shown(one.rmsea, ".3f"),
            f"{one.aic:.1f}",
            f"{one.bic:.1f}",
            " ".join(one.warnings),
        )
        for one in fits
    ]
    return aligned([head, *rows], right=range(7))


def _shown(value: float | None, form: str = "d") -> str:
    return "-" if value is None else format(value, form)
