"""What MLflow runs when it loads a registered model: this file is stored with the model, and is its code."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from cocktail.inference.trained import load_trained
from cocktail.types import Query, class_ids_of


class SeparatorModel(PythonModel):
    """A trained separator. It separates on the CPU, or on a GPU if there is one."""

    def load_context(self, context: PythonModelContext) -> None:
        """Open the checkpoint that was stored with the model."""
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.trained = load_trained(context.artifacts["checkpoint"])
        self.trained.model.to(self.device)

    def predict(self, context: Any, model_input: np.ndarray, params: dict[str, Any] | None = None) -> np.ndarray:
        """Estimates float32 [B, N, T'] of N named classes out of mixtures float32 [B, T] at the model's rate.

        `params["classes"]` names them, the same for all mixtures. Raises UsageError for names that the model does not
        know, or that come twice.
        """
        named = class_ids_of(list((params or {}).get("classes", [])), self.trained.classes)
        class_ids = torch.tensor([named] * len(model_input))
        with torch.inference_mode():
            mixtures = torch.as_tensor(model_input, dtype=torch.float32, device=self.device)
            return (
                self.trained.model.separate(mixtures, Query.naming(class_ids.to(self.device)))
                .estimates.float()
                .cpu()
                .numpy()
            )


set_model(SeparatorModel())
