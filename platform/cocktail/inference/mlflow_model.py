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
from cocktail.numerics.precision import use_tf32
from cocktail.tasks.task import MIXTURE, PICTURES
from cocktail.types import Query, UsageError, class_ids_of


class TrainedModel(PythonModel):
    """A trained model. It works on the CPU, or on a GPU if there is one."""

    def load_context(self, context: PythonModelContext) -> None:
        """Open the checkpoint that was stored with the model."""
        use_tf32(False)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.trained = load_trained(context.artifacts["checkpoint"])
        self.trained.model.to(self.device)
        self.tasks = self.trained.tasks
        self.signature = signature_of(self.trained)

    # MLflow would take an annotation of `model_input` for a promise to check, and knows none for named tensors.
    def predict(self, context: Any, model_input, params: dict[str, Any] | None = None) -> Any:
        """What the model answers for the N classes, the same for all mixtures, that `params["classes"]` names; or, of a
        model that needs no names, for as many sources as `params["num_sources"]` says.

        Inputs and outputs are those of the model's signature: an array where there is one, and a dictionary of arrays
        by name where there are several. `params["sample_rate_hz"]` says what rate the mixtures have; 0 takes it for the
        model's. Raises UsageError for another rate, for names that the model does not know, or that come twice, and for
        inputs of different numbers of mixtures; MLflow refuses other shapes.
        """
        params = params or {}
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
                answers[name] = task.answer(self.trained.model, mixture, query).float().cpu().numpy()
        return answers if len(answers) > 1 else next(iter(answers.values()))


set_model(TrainedModel())
