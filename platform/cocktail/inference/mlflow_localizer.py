"""What MLflow runs when it loads a registered localizer: this file is stored with the model, and is its code."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from cocktail.inference.trained import load_trained
from cocktail.types import Query, UsageError, class_ids_of


class LocalizerModel(PythonModel):
    """A trained localizer. It localizes on the CPU, or on a GPU if there is one."""

    def load_context(self, context: PythonModelContext) -> None:
        """Open the checkpoint that was stored with the model."""
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.trained = load_trained(context.artifacts["checkpoint"])
        self.trained.model.to(self.device)

    # MLflow would take an annotation of `model_input` for a promise to check, and knows none for named tensors.
    def predict(self, context: Any, model_input, params: dict[str, Any] | None = None) -> np.ndarray:
        """Maps float32 [B, N, H, K W] of N named classes, over the K pictures of each mixture side by side.

        `model_input` has `mixture` float32 [B, T], the sum of the sources at the model's rate, and `pictures` uint8
        [B, K, H, W, 3]; K is 1, or N, a picture for each class. `params["classes"]` names the classes, the same for all
        mixtures. H and W are the side of the pictures that the model has learned from. Raises UsageError for names that
        the model does not know, or that come twice, and other shapes.
        """
        mixture, pictures = model_input["mixture"], model_input["pictures"]
        class_ids = class_ids_of(list((params or {}).get("classes", [])), self.trained.classes)
        side = self.trained.mixing.picture_side
        if mixture.ndim != 2 or pictures.shape[:1] + pictures.shape[2:] != (len(mixture), side, side, 3):
            raise UsageError(
                f"mixtures are {list(mixture.shape)} and their pictures {list(pictures.shape)}: give [B, T] and "
                f"[B, K, {side}, {side}, 3]"
            )
        if pictures.shape[1] not in (1, len(class_ids)):
            raise UsageError(
                f"there are {pictures.shape[1]} pictures of {len(class_ids)} classes: give one a class, or one in all"
            )
        with torch.inference_mode():
            found = self.trained.model.localize(
                torch.as_tensor(mixture, dtype=torch.float32, device=self.device),
                Query.naming(
                    torch.tensor([class_ids] * len(mixture), device=self.device),
                    torch.as_tensor(pictures, dtype=torch.uint8, device=self.device)[:, :, None],
                ),
            )
            wide = pictures.shape[1] * pictures.shape[3]
            if found.maps.shape[-1] != wide:  # a model that learned from each picture by itself
                found = found.alternatives["wide"]
            return found.maps.float().cpu().numpy()


set_model(LocalizerModel())
