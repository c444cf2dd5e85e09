"""One page of a model that does several tasks: the tables of each, and examples with what each makes of a mixture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cocktail.report.page import Heading, Part, Sounds, Text, to_html
from cocktail.tasks.report import Report, Subject, facts_parts
from cocktail.tasks.task import Task


def page_of_tasks(tasks: Sequence[Task[Any]], reports: Mapping[str, Report], subject: Subject) -> str:
    """The page, of the reports of tasks by their names. What a mixture sounds like is there once."""
    parts: list[Part] = facts_parts(subject.facts)
    for task in tasks:
        report = reports[task.name]
        parts += [Heading(task.name.capitalize()), *(report.parts or [Text(report.text)])]
    if subject.examples is not None and len(subject.examples):
        parts += [Heading("Examples"), *_examples(tasks, subject)]
    return to_html(f"{' and '.join(task.name.capitalize() for task in tasks)} by {subject.name}", parts)


def _examples(tasks: Sequence[Task[Any]], subject: Subject) -> list[Part]:
    assert subject.examples is not None
    of_tasks = [task.examples(subject, subject.examples) for task in tasks]
    parts: list[Part] = []
    for examples in zip(*of_tasks, strict=True):
        parts.append(Heading(f"Mixture {examples[0].mixture_id}", 3))
        has_sounds = False
        for task, example in zip(tasks, examples, strict=True):
            own = task.side_by_side({subject.name: example})
            parts += [part for part in own if not (has_sounds and isinstance(part, Sounds))]
            has_sounds = has_sounds or any(isinstance(part, Sounds) for part in own)
    return parts
