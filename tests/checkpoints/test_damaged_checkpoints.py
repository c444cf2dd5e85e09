"""A checkpoint that is damaged, or was made by anybody, is refused in one line, and nothing it claims is allocated."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cocktail.checkpoints.earlier_run import take_weights
from cocktail.checkpoints.store import CheckpointStore, load_checkpoint
from cocktail.inference.trained import about, load_trained
from cocktail.types import UsageError
from tests.made.models.small_experiment import SMALL
from tests.made.models.small_training import SETTINGS, Regressor, run
from tests.peak_memory import begin_peak, peak_bytes

CLASSES = ("bell", "drum", "harp")


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    torch.manual_seed(0)
    store = CheckpointStore(str(tmp_path), about=about(SMALL, CLASSES, "/data/shards"))
    return Path(store.save(3, {"model": SMALL.model.build(len(CLASSES)).state_dict()}, {}, keep=1))


def write_meta(checkpoint: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = checkpoint / "meta.json"
    meta = json.loads(path.read_text())
    change(meta)
    path.write_text(json.dumps(meta))


def write_state(checkpoint: Path, data: bytes) -> None:
    """With its hash, as a stranger would."""
    (checkpoint / "state.pt").write_bytes(data)
    write_meta(checkpoint, lambda meta: meta.update(sha256=hashlib.sha256(data).hexdigest()))


def packed(state: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def state_of(checkpoint: Path) -> dict[str, Any]:
    return torch.load(checkpoint / "state.pt", weights_only=True)


class Trap:
    def __reduce__(self):
        return (print, ("executed",))


def squeezed(data: bytes) -> bytes:
    """The same archive, compressed: a gigabyte of zeros would be a megabyte."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target:
        for member in source.infolist():
            target.writestr(member.filename, source.read(member))
    return buffer.getvalue()


def about_of(**values: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda meta: meta["about"].update(values)


def setting(path: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda meta: meta["about"]["settings"].update({path: value})


METAS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no hash": (lambda meta: meta.pop("sha256"), "sha256 is missing"),
    "a path for a hash": (lambda meta: meta.update(sha256="../x"), "sha256 is no hash"),
    "no step": (lambda meta: meta.pop("step"), "step is missing"),
    "a text for a step": (lambda meta: meta.update(step="3"), "step is a str, no int"),
    "a path for the best step": (lambda meta: meta.update(best_step="../x"), "best_step is a str"),
    "no values": (lambda meta: meta.update(about=[]), "about is a list, no dict"),
    "no settings": (lambda meta: meta["about"].pop("settings"), "settings is missing"),
    "classes that are no names": (about_of(classes=[1, 2, 3]), "classes are no names"),
    "one class more": (about_of(classes=[*CLASSES, "lute"]), r"class_tokens has the shape \[3, 16\], not \[4, 16\]"),
    "no classes": (about_of(classes=3), "classes is a int, no list"),
    "a model that is none": (about_of(model="cocktail.models.sgn:require"), "is no configuration"),
    "a module below": (about_of(model="cocktail.models.sgn.torch.os:system"), "models lie in"),
    "absurd width": (setting("model.width", 1 << 40), "width|has the shape|overflow|make no model"),
    "absurd depth": (setting("model.depth", 1 << 40), "more than"),
    "absurd halvings": (setting("model.unet_depth", 1 << 40), "halves"),
    "an absurd window": (setting("model.front_end.n_fft", 1 << 40), "GB beside the weights"),
    "a text for a number": (setting("model.width", "16"), r"model\.width cannot be '16'"),
    "a number for a choice": (setting("model.assignment", 5), r"model\.assignment cannot be 5"),
    "nothing for a number": (setting("mixing.num_sources", None), r"mixing\.num_sources cannot be None"),
    "an unknown setting": (setting("model.future", 1), "no settings model.future"),
    "spectra of another kind": (about_of(class_spectra=[]), r"its class_spectra holds no spectra at \d+ Hz"),
    "spectra of other classes": (
        about_of(class_spectra={"sample_rate_hz": 1000, "num_clips": [1]}),
        "its class_spectra does not say how many clips each of 3 classes has",
    ),
    "nothing divided by": (setting("model.patch_size", 0), "make no model"),
}


@pytest.mark.parametrize("kind", METAS)
def test_what_a_checkpoint_says_of_itself_is_checked(checkpoint, kind):
    change, message = METAS[kind]
    write_meta(checkpoint, change)
    before = begin_peak()
    with pytest.raises(UsageError, match=message) as refused:
        load_trained(str(checkpoint))
    assert str(checkpoint) in str(refused.value)
    assert "\n" not in str(refused.value)
    assert peak_bytes() - before < 200e6


@pytest.mark.parametrize("text", ["{", "[]", "null", '{"schema": ' + "[" * 100_000, "\udcff", " " * ((1 << 24) + 1)])
def test_a_meta_json_that_is_none_is_refused(checkpoint, text):
    (checkpoint / "meta.json").write_text(text, errors="surrogateescape")
    with pytest.raises(UsageError, match=r"no JSON|no values|no checkpoint") as refused:
        load_trained(str(checkpoint))
    assert "\n" not in str(refused.value)


def without(name: str) -> Callable[[dict[str, Any]], Any]:
    return lambda state: {"model": {key: value for key, value in state["model"].items() if key != name}}


def changed(name: str, change: Callable[[torch.Tensor], Any]) -> Callable[[dict[str, Any]], Any]:
    return lambda state: {"model": {**state["model"], name: change(state["model"][name])}}


TOKENS = "branch.class_tokens"
STATES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "empty": (lambda state: {}, "model is missing"),
    "a list": (lambda state: [1], "holds no state"),
    "no weights": (lambda state: {"model": {}}, "more than 100 weights|is missing"),
    "code": (lambda state: {"model": Trap()}, "no archive of tensors"),
    "a missing weight": (without(TOKENS), f"{TOKENS} is missing"),
    "an odd name": (lambda state: {"model": {**state["model"], "odd": torch.zeros(1)}}, "the model has no odd"),
    "a number for a name": (lambda state: {"model": {**state["model"], 7: torch.zeros(1)}}, "weight 7 is no tensor"),
    "a number for a weight": (changed(TOKENS, lambda value: 1.0), "is no tensor"),
    "another type": (changed(TOKENS, torch.Tensor.half), "is of torch.float16, not torch.float32"),
    "another shape": (changed(TOKENS, lambda value: value[:2]), "has the shape"),
    "a sparse weight": (changed(TOKENS, torch.Tensor.to_sparse), "is no tensor"),
    "a weight without values": (changed(TOKENS, lambda value: value.to("meta")), "has no values"),
}


@pytest.mark.parametrize("kind", STATES)
def test_what_a_checkpoint_holds_is_checked(checkpoint, kind, capsys):
    change, message = STATES[kind]
    write_state(checkpoint, packed(change(state_of(checkpoint))))
    with pytest.raises(UsageError, match=message) as refused:
        load_trained(str(checkpoint))
    assert "\n" not in str(refused.value)
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "make", [lambda data: b"", lambda data: data[: len(data) // 2], lambda data: pickle.dumps(Trap()), squeezed]
)
def test_bytes_that_torch_does_not_write_are_refused(checkpoint, make, capsys):
    write_state(checkpoint, make((checkpoint / "state.pt").read_bytes()))
    with pytest.raises(UsageError, match=r"is damaged: its") as refused:
        load_checkpoint(str(checkpoint))
    assert "\n" not in str(refused.value)
    assert "executed" not in capsys.readouterr().out


def test_a_checkpoint_without_a_state_is_refused(checkpoint):
    (checkpoint / "state.pt").unlink()
    with pytest.raises(UsageError, match=r"has no state\.pt"):
        load_trained(str(checkpoint))


def test_weights_of_another_type_start_no_run(checkpoint):
    write_state(checkpoint, packed(changed(TOKENS, torch.Tensor.double)(state_of(checkpoint))))
    model = SMALL.model.build(len(CLASSES))
    with pytest.raises(UsageError, match=r"is of torch\.float64, the model's of torch\.float32"):
        take_weights(str(checkpoint), (), model, SMALL.model.build, CLASSES)


RESUMED: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "weights": (lambda state: state["model"].pop("net.0.weight"), r"net\.0\.weight is missing"),
    "types": (lambda state: state["model"].update({"net.0.bias": torch.zeros(16).double()}), "is of torch.float64"),
    "place in the data": (lambda state: state.pop("data"), "data is missing"),
    "count of what was dropped": (lambda state: state["data"].update(dropped="1"), "dropped is a str"),
    "optimizers": (lambda state: state.pop("optimizers"), "optimizer cannot be gone on with"),
    "one optimizer": (lambda state: state.update(optimizers=[]), "optimizer cannot be gone on with"),
    "groups": (lambda state: state["optimizers"][0].update(param_groups=[]), "optimizer cannot be gone on with"),
    "averages": (
        lambda state: state["optimizers"][0]["state"][0].update(exp_avg=torch.zeros(3)),
        "optimizer cannot be gone on with",
    ),
    "early stopping": (lambda state: state.update(stopping={}), "early stopping cannot be gone on with"),
}


@pytest.mark.parametrize("kind", RESUMED)
def test_training_does_not_go_on_from_a_state_that_is_not_its_own(tmp_path, kind):
    run(tmp_path, replace(SETTINGS, max_steps=4), model=Regressor())
    newest = CheckpointStore(str(tmp_path)).newest()
    assert newest is not None
    change, message = RESUMED[kind]
    state = state_of(Path(newest))
    change(state)
    write_state(Path(newest), packed(state))
    with pytest.raises(UsageError, match=message) as refused:
        run(tmp_path, model=Regressor())
    assert newest in str(refused.value)
    assert "\n" not in str(refused.value)
