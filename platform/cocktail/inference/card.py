"""The card of an exported model: what it is, what it was trained on, how good it is, how it is used, whose it is."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import cocktail
from cocktail.inference.trained import Trained
from cocktail.report.markdown import markdown_table
from cocktail.text.printable import in_markdown, on_one_line
from cocktail.tracking.run import PARENT_TAG

CARD_NAME = "README.md"
_HUB_TAGS = {"separation": "audio-source-separation", "localization": "sound-source-localization"}
_NOT_SAID = (
    "Nobody has said under which licence these weights are. The licences of the data sets above may bind them, too."
)
_USE = """\
Install Cocktail, and give this folder wherever it takes a model:

    {command}

In Python, where the folder came from a model hub:

```python
from huggingface_hub import snapshot_download

from cocktail.inference.export import load_exported

trained = load_exported(snapshot_download("NAME/{folder}"))
trained.model      # a torch module, on the CPU, in evaluation mode
trained.classes    # names of its classes, in the order of their ids
```

{training}The weights are `model.safetensors`, what is known of them is `cocktail.json`; no file holds code or
pickles."""
_COMMANDS = {
    "separation": "cocktail separate song.mp3 --model {folder} --output stems",
    "localization": "cocktail localize video.mp4 --model {folder} --output located",
}
"""By task, the command that puts a model to a recording."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a card is made of."""

    trained: Trained
    folder: str
    """Name of the folder that it lies in."""
    step: int
    sha256: str
    """Hash of the file of weights."""
    licence: str
    scores: str
    """Tables in Markdown with intervals and controls, or why there are none."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Tags of the run that made it."""
    data_names: Mapping[str, str] = field(default_factory=dict)
    """Names of the data sets that it was trained on, by hash."""

    def to_markdown(self) -> str:
        """The card, with the head that model hubs read."""
        trained = self.trained
        sections = {
            "What it is": self._what(),
            "What it was trained on": self._trained_on(),
            "Scores": self.scores,
            "How to use it": self._use(),
            "Licence": _NOT_SAID if self.licence == "unknown" else f"Licence of the weights: {self.licence}.",
        }
        body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items())
        return f"{self._head()}\n# {in_markdown(trained.name)}\n\n{body}\n"

    def _head(self) -> str:
        tasks = [task.name for task in self.trained.tasks]
        pipeline = ["pipeline_tag: audio-to-audio"] if "separation" in tasks else []
        tags = [f"- {_HUB_TAGS[task]}" for task in tasks]
        licence = on_one_line(self.licence).replace("\\", "").replace('"', "")
        lines = [f'license: "{licence}"', "library_name: cocktail", *pipeline, "tags:", "- audio", *tags]
        return "\n".join(["---", *lines, "---", ""])

    def _use(self) -> str:
        folder = shlex.quote(self.folder)
        commands = [_COMMANDS[task.name].format(folder=folder) for task in self.trained.tasks]
        job = training_command(self.tags) if self.trained.config.trains else None
        training = "" if job is None else f"To train from it: `{job} --start-from {folder}`.\n\n"
        return _USE.format(command="\n    ".join(commands), folder=self.folder, training=training)

    def _what(self) -> str:
        trained = self.trained
        parameters = sum(parameter.numel() for parameter in trained.model.parameters())
        rows = [
            ["model", type(trained.config).__name__.removesuffix("Config")],
            ["does", " and ".join(task.name for task in trained.tasks)],
            ["parameters", f"{parameters / 1e6:.1f} M"],
            ["hears", f"{trained.mixing.sample_rate_hz} Hz, one channel"],
            ["learned from", f"{trained.mixing.segment_samples / trained.mixing.sample_rate_hz:.2f} s at a time"],
            ["classes", f"{len(trained.classes)}: {', '.join(trained.classes)}"],
            ["training steps", str(self.step)],
            ["SHA-256 of the weights", self.sha256],
            ["exported by", f"Cocktail {cocktail.__version__}"],
        ]
        return markdown_table(["", ""], rows)

    def _trained_on(self) -> str:
        trained = self.trained
        if not trained.config.trains:
            return "It has nothing to learn."
        parts = [trained.in_words or ""]
        if trained.trained_on:
            rows = [
                [self.data_names.get(each.manifest, each.data), each.split, each.manifest or "not known"]
                for each in trained.trained_on
            ]
            parts.append(markdown_table(["data set", "split", "hash of its shards"], rows))
        elif trained.trained_on is None:
            parts.append("Its checkpoint does not say on what shards.")
        if trained.untaught:
            parts.append(
                f"No clip that it learned from has the classes {', '.join(map(in_markdown, trained.untaught))}."
            )
        made = {
            "precision": trained.precision,
            "commit": self.tags.get("git_commit"),
            "torch": self.tags.get("torch"),
            "run": self.tags.get("mlflow.runName"),
        }
        rows = [[name, value] for name, value in made.items() if value]
        return "\n\n".join([*filter(None, parts), *([markdown_table(["", ""], rows)] if rows else [])])


def training_command(tags: Mapping[str, str]) -> str | None:
    """The command that trains such a network on shards, by that which a run's tags say that it was trained by.

    It has the job, the word that names a benchmark, and the options that decide what the network is. None where no
    command is known, and of a run that is a part of another: its command is of all of them.
    """
    try:
        script, *words = shlex.split(tags.get("command", "")) or [""]
    except ValueError:
        return None
    if PARENT_TAG in tags or not re.fullmatch(r"(?:.*/)?jobs/\w+\.py", script, re.DOTALL):
        return None
    kept = words[:1] if words and re.fullmatch(r"\w+", words[0]) else []
    options = _options(words[len(kept) :])
    has_data, is_demo = "--data" in options, options.get("--preset") == ["demo"]
    if is_demo or ("--preset" not in options and not has_data):
        kept += ["--preset", "demo"]
    for option, values in options.items():
        if re.match(r"--(no-)?model\.", option) and option != "--model.initial-weights":
            kept += [option, *values]
    return f"{shlex.join(['python', f'jobs/{Path(script).name}', *kept])} --data SHARDS"


def _options(words: list[str]) -> dict[str, list[str]]:
    """The values of each option, as `--option value ...` or `--option=value`."""
    options: dict[str, list[str]] = {}
    option = ""
    for word in words:
        if word.startswith("--"):
            name, is_joined, value = word.partition("=")
            option = name.replace("_", "-")
            options[option] = [value] if is_joined else []
        else:
            options.setdefault(option, []).append(word)
    return options
