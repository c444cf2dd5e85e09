"""Rules by which maps are made binary and mixtures count as found. Tables of results carry theirs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields

import pyarrow as pa

from cocktail.config.evaluation import Evaluation
from cocktail.foreign.bounded import UntrustworthyError, parse_json
from cocktail.types import UsageError

RULES = ("peak", "half", "fixed")
"""The binary rules, as columns `iou_<rule>` name them; the first is the headline."""
RULES_KEY = b"cocktail.scoring_rules"
"""Key of their `ScoringRules` in the metadata of results."""


@dataclass(frozen=True, kw_only=True)
class ScoringRules:
    """How scores of a table of results came about, and at which IoU a mixture counts as found."""

    single_threshold: float = 0.5
    """IoU from which a mixture of one source counts as found."""
    multi_threshold: float = 0.3
    """IoU from which a mixture of several sources counts as found."""
    peak_share: float = 0.5
    fixed_threshold: float | None = None

    def threshold(self, num_sources: int) -> float:
        return self.single_threshold if num_sources == 1 else self.multi_threshold

    @property
    def names(self) -> dict[str, str]:
        """The binary rules there are, as tables call them, by RULES."""
        names = {"peak": f"peak({self.peak_share:g})", "half": "half"}
        return names if self.fixed_threshold is None else {**names, "fixed": f"fixed({self.fixed_threshold:g})"}

    @property
    def metadata(self) -> dict[bytes, str]:
        """What results of these rules carry among their metadata."""
        return {RULES_KEY: json.dumps(asdict(self))}

    @classmethod
    def read_from(cls, results: pa.Table) -> ScoringRules:
        """The rules that results say are theirs. Raises UsageError if they say none."""
        written = (results.schema.metadata or {}).get(RULES_KEY)
        if written is None:
            raise UsageError(
                "nothing says by which rules its maps were made binary and counted: score the checkpoint again with "
                "jobs/evaluate.py"
            )
        try:
            values = parse_json(written)
            if not isinstance(values, dict) or not all(_is_threshold(*item) for item in values.items()):
                raise UntrustworthyError("there are others than numbers")
            return cls(**values)
        except (UntrustworthyError, TypeError) as error:
            raise UsageError(
                f"the rules by which its maps were made binary are damaged ({error}): score the checkpoint again with "
                "jobs/evaluate.py"
            ) from error

    @classmethod
    def of(cls, evaluation: Evaluation) -> ScoringRules:
        """The rules that settings describe."""
        return cls(**{setting.name: getattr(evaluation, setting.name) for setting in fields(cls)})


def name_end(rule: str) -> str:
    """What names of scores by one of RULES end with: nothing for the first."""
    return "" if rule == RULES[0] else f"_{rule}"


def _is_threshold(name: str, value: object) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e9
    return is_number or (name == "fixed_threshold" and value is None)
