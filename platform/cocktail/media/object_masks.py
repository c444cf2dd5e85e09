"""Masks of the sounding object in a picture, pixel by pixel, from files: PNG, JPEG, NumPy's own, pickled arrays.

A pickle is a program, and its authors are strangers. The one read here may name nothing but what NumPy itself
names when it pickles an array, and even those names stand for plain records of their arguments: neither code
of the file nor NumPy's own unpickling runs, and no memory is taken for a size that a file only claims.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
import struct
import tokenize
import warnings
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from cocktail.media.bad_clips import BadClip
from cocktail.media.pictures import MAX_SIDE

_CHANNEL_MODES = ("1", "L", "I", "I;16", "F")
_MAX_BYTES = MAX_SIDE**2 * 8 + (1 << 16)
"""Most bytes of a file: an array of the largest size and type, and what is around it."""
_MAX_OPERATIONS = 256
"""Most operations of a pickle. An array takes about forty; many more could repeat a small text until memory is full."""
_HASHING_OPERATIONS = ("DICT", "EMPTY_DICT", "SETITEM", "SETITEMS", "EMPTY_SET", "ADDITEMS", "FROZENSET")
"""Operations that hash what the file made, which can take for ever; pickled arrays need none of them."""

# What broken or hostile bytes lead their readers to raise.
_PICTURE_ERRORS = (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError)
_NPY_ERRORS = (ValueError, TypeError, SyntaxError, tokenize.TokenError, RecursionError, MemoryError)
_PICKLE_ERRORS = (
    pickle.UnpicklingError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
)


def decode_mask(data: bytes, name: str) -> np.ndarray:
    """A mask bool [H, W], true where the file is not 0, from a .png, a .npy or, with any other ending, a pickled array;
    of a .jpg, which keeps no zeros, where it is nearer to white.

    Arrays are [H, W], [H, W, 1] or [1, H, W] of numbers. Of colours with an alpha channel that channel does not
    count. Raises BadClip for a file that is anything else.
    """
    if len(data) > _MAX_BYTES:
        raise _bad(f"{len(data)} bytes, at most {_MAX_BYTES} are taken")
    ending = name.lower().rpartition(".")[2]
    readers = {"png": _read_png, "jpg": _read_jpeg, "jpeg": _read_jpeg, "npy": _read_npy}
    return _to_mask(readers.get(ending, _read_pickle)(data))


def _to_mask(values: np.ndarray) -> np.ndarray:
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    elif values.ndim == 3 and values.shape[0] == 1:
        values = values[0]
    if values.ndim != 2:
        raise _bad(f"an array of {_size(values.shape)}, not of one value a pixel")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise _bad("values that are not finite")
    return np.asarray(values != 0)


def _require_size(shape: tuple[Any, ...]) -> None:
    if len(shape) not in (2, 3) or not all(type(side) is int and 1 <= side <= MAX_SIDE for side in shape):
        raise _bad(f"an array of {_size(shape)}, two or three sides of 1 to {MAX_SIDE} are taken")


def _size(shape: tuple[Any, ...]) -> str:
    """Size in words for users: the same every time, also if a file says that a side is no number."""
    return "x".join(str(side) if type(side) is int else "?" for side in shape)[:80] or "no size"


def _read_png(data: bytes) -> np.ndarray:
    return _read_picture(data, "PNG")


def _read_jpeg(data: bytes) -> np.ndarray:
    return _read_picture(data, "JPEG") > 127


def _read_picture(data: bytes, kind: str) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own bound is below
            with Image.open(io.BytesIO(data), formats=[kind]) as image:
                _require_size(image.size)
                image.load()
                if image.mode in _CHANNEL_MODES:
                    return np.asarray(image)
                return np.asarray(image.convert("RGB")).max(axis=2)
    except _PICTURE_ERRORS as error:
        if isinstance(error, BadClip):
            raise
        raise _bad(f"no {kind} that can be decoded") from error


def _read_npy(data: bytes) -> np.ndarray:
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in readers:
            raise _bad(f"version {version} of the .npy format")
        shape, is_fortran, dtype = readers[version](file)
    except _NPY_ERRORS as error:
        if isinstance(error, BadClip):
            raise
        raise _bad("no header of a .npy file") from error
    return _to_array(shape, dtype, is_fortran, data[file.tell() :])


def _to_array(shape: tuple[Any, ...], dtype: np.dtype, is_fortran: bool, data: bytes) -> np.ndarray:
    """The array whose values are `data`, which is checked to be of that size."""
    if dtype.kind not in "biuf":
        raise _bad(f"an array of {dtype.type.__name__}, not of numbers")
    _require_size(shape)
    num_bytes = math.prod(shape) * dtype.itemsize
    if len(data) != num_bytes:
        raise _bad(f"{len(data)} bytes of values where {_size(shape)} of {dtype} take {num_bytes}")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if is_fortran else "C")


def _read_pickle(data: bytes) -> np.ndarray:
    try:
        for number, (operation, _, _) in enumerate(pickletools.genops(data)):  # also refuses lengths beyond the end
            if number == _MAX_OPERATIONS:
                raise pickle.UnpicklingError("more than an array takes")
            if operation.name in _HASHING_OPERATIONS:
                raise pickle.UnpicklingError("it holds a dictionary or set")
        unpickled = _ArrayUnpickler(data).load()
        if not isinstance(unpickled, _PickledArray):
            raise pickle.UnpicklingError("it is something else")
        return unpickled.array()
    except _PICKLE_ERRORS as error:
        if isinstance(error, BadClip):
            raise
        reason = str(error) if isinstance(error, pickle.UnpicklingError) else type(error).__name__
        raise _bad(f"no pickled array: {reason}") from error


class _PickledArray:
    """An array as a pickle describes it. It is checked only once all of it was read."""

    def __init__(self, *_: object) -> None:
        self.state: tuple[Any, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state

    def array(self) -> np.ndarray:
        match self.state:
            case (int(), tuple(shape), _PickledDtype() as dtype, is_fortran, str() | bytes() as values):
                # Python 2 wrote bytes as what is read as text here.
                raw = values.encode("latin1") if isinstance(values, str) else values
                return _to_array(shape, dtype.dtype(), bool(is_fortran), raw)
        raise _bad("a pickled array of objects, or one without values")


class _PickledBuffer(_PickledArray):
    """The form that an array takes in pickles of protocol 5."""

    def __init__(self, values: bytes | bytearray, dtype: object, shape: object, order: object) -> None:
        if order not in ("C", "F"):
            raise pickle.UnpicklingError("an array in an unknown order")
        self.state = (1, shape, dtype, order == "F", bytes(values) if isinstance(values, bytearray) else values)


class _PickledDtype:
    """Type of an array's values as a pickle describes it."""

    def __init__(self, code: object, *_: object) -> None:
        self.code = code
        self.byte_order: object = "|"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.byte_order = state[1]

    def dtype(self) -> np.dtype:
        if not isinstance(self.code, str) or not re.fullmatch("b1|[iu][1248]|f[248]", self.code):
            raise _bad("a pickled array of something else than numbers")
        if self.byte_order not in ("<", ">", "|", "="):
            raise _bad("a pickled array in an unknown byte order")
        return np.dtype(f"{self.byte_order}{self.code}")


_CORES = ("numpy.core", "numpy._core")  # before and since NumPy 2
_NAMES: dict[tuple[str, str], object] = {
    ("numpy", "ndarray"): "numpy.ndarray",
    ("numpy", "dtype"): _PickledDtype,
    **{(f"{core}.multiarray", "_reconstruct"): _PickledArray for core in _CORES},
    **{(f"{core}.numeric", "_frombuffer"): _PickledBuffer for core in _CORES},
}
_ENCODE = ("_codecs", "encode")
"""How protocols before 3 write bytes: as text, and the call that makes bytes of it."""


class _ArrayUnpickler(pickle._Unpickler):
    """The unpickler that is written in Python: of the one in C, damaged files can corrupt the memory."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data), encoding="latin1")
        self._bytes_to_encode = len(data)

    def find_class(self, module: str, name: str) -> Any:
        """Object that stands for a name. Nothing is imported."""
        if (module, name) == _ENCODE:
            return self._encode
        if (module, name) not in _NAMES:
            raise pickle.UnpicklingError(f"it names {ascii(module)[1:-1]}.{ascii(name)[1:-1]}"[:80])
        return _NAMES[module, name]

    def _encode(self, text: object, encoding: object) -> bytes:
        """Bytes that the pickle wrote as text. Other encodings than the one that is used for that may be slow."""
        if not isinstance(text, str) or encoding != "latin1":
            raise pickle.UnpicklingError("it encodes something else than bytes")
        self._bytes_to_encode -= len(text)
        if self._bytes_to_encode < 0:  # the same text over and over
            raise pickle.UnpicklingError("more than an array takes")
        return text.encode("latin1")


def _bad(detail: str) -> BadClip:
    return BadClip("bad mask", detail)
