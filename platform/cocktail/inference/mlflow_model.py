"""What MLflow runs when it loads a registered model: this file is stored with the model, and is its code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from cocktail.inference.signature import signature_of
from cocktail.inference.trained import load_trained
from cocktail.media.recording import ArrayRecording
from cocktail.numerics.precision import use_tf32
from cocktail.recordings.asking import Asked
from cocktail.recordings.planning import Plan, plan_of, window_grid
from cocktail.recordings.separating import separate
from cocktail.recordings.sources import Choice
from cocktail.tasks.separation.task import Separating
from cocktail.tasks.task import MIXTURE, PICTURES
from cocktail.types import Query, UsageError, class_ids_of


class TrainedModel(PythonModel):
    """A trained model. It works on the CPU, or on a GPU if there is one."""

    def load_context(self, context: PythonModelContext) -> None:
        """Open the checkpoint that was stored with the model."""
        use_tf32(False)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.trained = load_trained(context.artifacts["checkpoint"])
        self.asked = Asked(self.trained, self.device)
        self.tasks = self.trained.tasks
        self.signature = signature_of(self.trained)

    # MLflow warns where `model_input` has no annotation, and checks any but an array's, which it leaves to the
    # signature. Models of several inputs get a dictionary.
    def predict(self, context: Any, model_input: np.ndarray, params: dict[str, Any] | None = None) -> Any:
        """What the model answers for the N classes, the same for all mixtures, that `params["classes"]` names; or, of a
        model that needs no names, for as many sources as `params["num_sources"]` says.

        Inputs and outputs are those of the model's signature: an array where there is one, and a dictionary of arrays
        by name where there are several. Mixtures may have any length: a separator hears them window by window.
        `params["sample_rate_hz"]` says what rate they have; 0 takes it for the model's. Raises UsageError for another
        rate, for names that the model does not know, or that come twice, and for inputs of different numbers of
        mixtures; MLflow refuses other shapes.
        """
        params = dict(params or {})
        names, num_sources = list(params.get("classes", [])), int(params.get("num_sources", 0))
        if told := int(params.get("sample_rate_hz", 0)):
            self.trained.require_sample_rate(told)
        given = model_input if isinstance(model_input, Mapping) else {MIXTURE: model_input}
        sizes = {name: len(given[name]) for name in self.signature.inputs}
        if len(set(sizes.values())) > 1:
            raise UsageError(f"there are {sizes}: give as many of each, one a mixture")
        mixture = torch.as_tensor(given[MIXTURE], dtype=torch.float32, device=self.device)
        pictures = None
        if PICTURES in self.signature.inputs:
            pictures = torch.as_tensor(given[PICTURES], dtype=torch.uint8, device=self.device)
            pictures = pictures[:, :, None] if pictures.ndim == 5 else pictures
        if names or not num_sources:
            class_ids = class_ids_of(names, self.trained.classes)
            query = Query.naming(torch.tensor([class_ids] * len(mixture), device=self.device), pictures)
        else:
            query = Query.blind(torch.full((len(mixture),), num_sources, device=self.device), pictures)
        answers: dict[str, np.ndarray] = {}
        with torch.no_grad():
            for task, name in zip(self.tasks, self.signature.outputs, strict=True):
                if isinstance(task, Separating):
                    answers[name] = self._stems(mixture, names, num_sources, pictures)
                else:
                    answers[name] = task.answer(self.trained.model, mixture, query).float().cpu().numpy()
        return answers if len(answers) > 1 else next(iter(answers.values()))

    def _stems(
        self, mixture: torch.Tensor, names: list[str], num_sources: int, pictures: torch.Tensor | None
    ) -> np.ndarray:
        """Estimates float32 [B, N, T] of mixtures [B, T] of any length, by windows as long as the model learned from:
        what `cocktail.inference.load(...).separate` gives for them."""
        asked = self.asked
        if names and not asked.separating.by_class and not asked.sees:
            raise UsageError(
                "this model cannot say which source is of which class: ask for so many sources, as in "
                'params={"num_sources": 2}, and not by names'
            )
        grid = window_grid(asked)
        found = []
        for row, sound in enumerate(mixture.cpu().numpy()):
            recording = ArrayRecording(sound, asked.sample_rate_hz)
            shown = None if pictures is None else pictures[row].cpu().numpy()
            if asked.sees:
                count = len(names) or num_sources
                sources = tuple(names) or tuple(f"source {n + 1}" for n in range(count))
                follows_names = asked.needs_sight and (asked.separating.by_class or asked.names_in_one_picture)
                by_name = bool(names) and follows_names
                class_ids = tuple(class_ids_of(names, asked.classes)) if by_name else None
                plan = Plan(names=sources, class_ids=class_ids, num_seen=count, num_asked=count)
            else:
                choice = Choice(classes=tuple(names), num_sources=None if names else num_sources)
                plan = plan_of(asked, recording, choice, grid)
            pieces = separate(asked, recording, plan, grid, shown=shown)
            found.append(np.concatenate([piece.stems[:, 0] for piece in pieces], axis=-1))
        return np.stack(found)


set_model(TrainedModel())
