"""Masks of every form come out the same, and no file makes its reader run, import or allocate what it says."""

import os
import pickle
import random
import struct
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cocktail.media.bad_clips import BadClip
from cocktail.media.object_masks import decode_mask

MASK = np.zeros((5, 7), bool)
MASK[1:3, 2:6] = True
LETTERS = np.where(MASK, 3, 0).astype(np.uint8)

# As Python 2 and NumPy 1 wrote [[0, 1], [1, 0]] with protocol 0, and [[0, 1], [255, 0]] with protocol 2.
PYTHON_2_TEXT = (
    b"cnumpy.core.multiarray\n_reconstruct\np1\n(cnumpy\nndarray\np2\n(I0\ntp3\nS'b'\np4\ntp5\nRp6\n(I1\n(I2\nI2\n"
    b"tp7\ncnumpy\ndtype\np8\n(S'u1'\np9\nI0\nI1\ntp10\nRp11\n(I3\nS'|'\np12\nNNNI-1\nI-1\nI0\ntp13\nbI00\n"
    b"S'\\x00\\x01\\x01\\x00'\np14\ntp15\nb."
)
PYTHON_2_BINARY = (
    b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85U\x01bq\x03\x87q\x04R"
    b"(K\x01K\x02K\x02\x86cnumpy\ndtype\nq\x05U\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK"
    b"\x00tb\x89U\x04\x00\x01\xff\x00tb."
)


def read_mask(location):
    return decode_mask(Path(location).read_bytes(), Path(location).name)


def write(folder, name, data):
    (folder / name).write_bytes(data)
    return str(folder / name)


def refusal(location):
    with pytest.raises(BadClip) as caught:
        read_mask(location)
    assert os.path.dirname(location) not in caught.value.detail  # noqa: PTH120
    caught.value.detail.encode()
    return caught.value


def is_mask(found):
    return found.dtype == bool and found.shape == MASK.shape and (found == MASK).all()


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "I;16"])
def test_a_png_is_true_where_any_colour_is_not_black(tmp_path, mode):
    gray = Image.fromarray(LETTERS)
    if mode == "P":
        image = gray.convert("L").quantize(4)
    elif mode == "1":
        image = Image.fromarray(MASK)
    else:
        image = Image.fromarray(LETTERS.astype(np.uint16)) if mode == "I;16" else gray.convert(mode)
    assert image.mode == mode
    image.save(tmp_path / "mask.PNG")
    assert is_mask(read_mask(str(tmp_path / "mask.PNG")))


def test_a_jpeg_which_keeps_no_zeros_is_true_where_it_is_nearer_to_white(tmp_path):
    large = np.kron(MASK, np.ones((16, 16), bool))
    Image.fromarray(large).convert("L").save(tmp_path / "mask.JPG", quality=40)
    pixels = np.asarray(Image.open(tmp_path / "mask.JPG"))
    assert ((pixels > 0) != large).any()
    assert (read_mask(str(tmp_path / "mask.JPG")) == large).all()


def test_a_png_of_one_colour_channel_only_counts_too(tmp_path):
    blue = np.zeros((5, 7, 3), np.uint8)
    blue[:, :, 2] = LETTERS
    Image.fromarray(blue).save(tmp_path / "mask.png")
    assert is_mask(read_mask(str(tmp_path / "mask.png")))


FORMS = [
    MASK,
    LETTERS,
    LETTERS.astype(np.int64),
    LETTERS.astype(">i4"),
    -0.25 * LETTERS.astype(np.float16),
    LETTERS.astype(">f8"),
    np.asfortranarray(LETTERS),
    np.repeat(LETTERS, 2, axis=1)[:, ::2],
    LETTERS[:, :, None],
    LETTERS[None],
]


@pytest.mark.parametrize("values", FORMS, ids=lambda values: f"{values.dtype.str}{values.shape}")
def test_arrays_of_numbers_are_true_where_they_are_not_0(tmp_path, values):
    np.save(tmp_path / "mask.npy", values)
    assert is_mask(read_mask(str(tmp_path / "mask.npy")))
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert is_mask(read_mask(write(tmp_path, "mask", pickle.dumps(values, protocol)))), protocol


@pytest.mark.parametrize("protocol", range(4))
def test_arrays_pickled_by_numpy_1_are_read(tmp_path, protocol):
    data = pickle.dumps(LETTERS, protocol).replace(b"numpy._core", b"numpy.core")
    assert b"numpy.core" in data
    assert is_mask(read_mask(write(tmp_path, "mask.pkl", data)))


@pytest.mark.parametrize("data", [PYTHON_2_TEXT, PYTHON_2_BINARY])
def test_arrays_pickled_by_python_2_are_read(tmp_path, data):
    assert pickle.loads(data, encoding="latin1").any()
    assert read_mask(write(tmp_path, "mask.pickle", data)).tolist() == [[False, True], [True, False]]


class Runs:
    """Pickled, it calls what it was given."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("form", ["alone", "in an array of objects", "behind an array", "as an argument"])
def test_a_pickle_that_calls_something_is_refused_and_nothing_is_run(tmp_path, monkeypatch, protocol, form):
    monkeypatch.chdir(tmp_path)
    for name, call in {
        "system": Runs(os.system, "touch ran"),
        "eval": Runs(eval, "open('ran', 'w')"),
        "getattr": Runs(getattr, Runs(__import__, "os"), "system"),
        "fromfile": Runs(np.fromfile, "mask"),
        "save": Runs(np.save, "ran", 1),
    }.items():
        forms = {
            "alone": call,
            "in an array of objects": np.array([[call]], object),
            "behind an array": (MASK, call),
            "as an argument": Runs(np.dtype, call),
        }
        found = refusal(write(tmp_path, "mask", pickle.dumps(forms[form], protocol)))
        assert found.reason == "bad mask", name
        assert "names" in found.detail, name
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "ran.npy").exists()
    pickle.loads(pickle.dumps(Runs(os.system, "touch ran"), protocol))
    assert (tmp_path / "ran").exists(), "the test's own pickles do run elsewhere"


def test_the_name_that_a_pickle_must_not_use_is_told(tmp_path):
    assert "posix.system" in refusal(write(tmp_path, "mask", pickle.dumps(Runs(os.system, "true")))).detail
    assert "builtins.eval" in refusal(write(tmp_path, "mask", pickle.dumps(Runs(eval, "1"), 4))).detail


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.",  # a method, by a dotted name
        b"\x80\x04\x8c\x05numpy\x8c\x03\xed\xb0\x80\x93.",  # a name that is no text
        b"cnumpy\ndtype\nN}S'state'\nI1\ns\x86b.",  # attributes of what names stand for
        b"cnumpy._core.multiarray\n_reconstruct\nN}S'__setstate__'\nI1\ns\x86b.",
        b"c_codecs\nencode\nN}S'x'\nI1\ns\x86b.",
        b"\x80\x02cnumpy._core.multiarray\n_reconstruct\n)\x81.",  # an array that was never made
        b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00hex\x86R.",
        b"\x80\x02\x82\x01.",  # a registered extension
        b"\x80\x02X\x01\x00\x00\x00aQ.",  # an object of somewhere else
        b"\x80\x05\x97.",  # a buffer of somewhere else
        pickle.dumps([[True, False], [False, True]]),
        pickle.dumps({"mask": MASK}),
        pickle.dumps(np.float32(1)),
        pickle.dumps(np.ma.masked_array(LETTERS)),
        pickle.dumps(np.array([["yes", "no"]])),
        pickle.dumps(np.zeros((2, 2), [("a", "u1"), ("b", "u1")])),
        pickle.dumps(np.zeros((2, 2), complex)),
        pickle.dumps(np.array([[None]]), 2),
        pickle.dumps(MASK)[:-20],
        PYTHON_2_TEXT.replace(b"I2\nI2\n", b"I2\nI3\n"),
        PYTHON_2_TEXT.replace(b"I2\nI2\n", b"I-2\nI-2\n"),
        PYTHON_2_TEXT.replace(b"I2\nI2\n", b"I65536\nI65536\n"),
        b"<!DOCTYPE html>",
        b"",
    ],
)
def test_a_pickle_of_anything_else_is_refused_and_changes_nothing(tmp_path, data):
    assert refusal(write(tmp_path, "mask", data)).reason == "bad mask"
    assert is_mask(read_mask(write(tmp_path, "mask", pickle.dumps(LETTERS, 2))))


def test_a_pickle_cannot_make_its_reader_calculate_for_long(tmp_path):
    doubled = b"h\x00h\x00\x86q\x000"  # a tuple of the last one twice: its hash takes twice as long
    letters = "".join(chr(0x4E00 + number % 20_000) for number in range(60_000)).encode()
    bombs = {
        "a key of nested tuples": b"\x80\x02)q\x000" + 32 * doubled + b"}h\x00Ns.",
        "a set of nested tuples": b"\x80\x04)q\x000" + 32 * doubled + b"\x8f(h\x00\x90.",
        "punycode": b"\x80\x02c_codecs\nencode\nX"
        + struct.pack("<I", len(letters))
        + letters
        + b"X\x08\0\0\0punycode\x86R.",
    }
    for name, data in bombs.items():
        begin = time.process_time()
        assert refusal(write(tmp_path, "mask", data)).reason == "bad mask"
        assert time.process_time() - begin < 1, name


def test_a_pickle_cannot_make_its_reader_take_much_memory(tmp_path):
    text = b"\x80\x02X" + struct.pack("<I", 4096) + b"a" * 4096 + b"q\x00"
    copy = b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R"
    bombs = {
        "memo": b"\x80\x04Nr" + struct.pack("<I", 20_000_000) + b".",
        "memo in letters": b"Np20000000\n.",
        "copies": text + 10_000 * copy + b".",
        "copies of a large text": b"\x80\x02X"
        + struct.pack("<I", 1 << 20)
        + b"a" * (1 << 20)
        + b"q\x00"
        + 60 * copy
        + b".",
        "shape": PYTHON_2_TEXT.replace(b"I2\nI2\n", b"I8192\nI8192\n"),
        "shape of an array to fill": pickle.dumps(MASK, 2).replace(b"K\x00\x85", b"J\x00\x00\x00\x10\x85"),
    }
    for name, data in bombs.items():
        location = write(tmp_path, "mask", data)
        tracemalloc.start()
        try:
            read_mask(location)
        except BadClip as bad:
            assert bad.reason == "bad mask"
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 10_000_000, name


def test_damaged_files_are_refused_or_read_and_never_raise_anything_else(tmp_path):
    random_numbers = random.Random(0)
    np.save(tmp_path / "good.npy", LETTERS)
    Image.fromarray(LETTERS).save(tmp_path / "good.png")
    files = {"mask.png": (tmp_path / "good.png").read_bytes(), "mask.npy": (tmp_path / "good.npy").read_bytes()}
    files |= {f"mask.{protocol}": pickle.dumps(LETTERS, protocol) for protocol in range(6)}
    num_refused = 0
    for name, data in files.items():
        for _ in range(400):
            damaged = bytearray(data)
            for _ in range(random_numbers.randint(1, 3)):
                damaged[random_numbers.randrange(len(damaged))] = random_numbers.randrange(256)
            location = write(tmp_path, name, bytes(damaged))
            try:
                found = read_mask(location)
            except BadClip as bad:
                assert bad.reason == "bad mask"
                bad.detail.encode()
                num_refused += 1
            else:
                assert found.dtype == bool
                assert found.ndim == 2
    assert num_refused > 500


def test_a_npy_file_holds_numbers_and_as_many_as_it_says(tmp_path):
    np.save(tmp_path / "mask.npy", np.array([[Runs(os.system, "false")]], object), allow_pickle=True)
    location = str(tmp_path / "mask.npy")
    assert "object_, not of numbers" in refusal(location).detail
    for values in (np.array([["a"]]), np.ones((2, 2), complex), np.zeros((2, 2), [("a", "u1")])):
        np.save(location, values)
        assert "not of numbers" in refusal(location).detail
    np.save(location, LETTERS)
    data = (tmp_path / "mask.npy").read_bytes()
    huge = data.replace(b"(5, 7), }" + b" " * 8, b"(50000, 70000), }")
    assert len(huge) == len(data)
    assert "50000x70000" in refusal(write(tmp_path, "mask.npy", huge)).detail
    assert "34 bytes" in refusal(write(tmp_path, "mask.npy", data[:-1])).detail
    for broken in (b"", data[:20], pickle.dumps(LETTERS), data.replace(b"\x93NUMPY\x01", b"\x93NUMPY\x03")):
        assert refusal(write(tmp_path, "mask.npy", broken)).reason == "bad mask"


@pytest.mark.parametrize("shape", [(7,), (5, 7, 3), (1, 5, 7, 1), (), (0, 7), (8193, 1)])
def test_masks_have_two_sides_of_at_most_8192(tmp_path, shape):
    np.save(tmp_path / "mask.npy", np.ones(shape, bool))
    (tmp_path / "mask").write_bytes(pickle.dumps(np.ones(shape, bool)))
    assert "array of" in refusal(str(tmp_path / "mask.npy")).detail
    assert "array of" in refusal(str(tmp_path / "mask")).detail


def test_sides_of_8192_are_taken_and_larger_pictures_are_not_decoded(tmp_path):
    path = tmp_path / "mask.png"
    Image.new("1", (8192, 1), 1).save(path)
    assert read_mask(str(path)).shape == (1, 8192)
    Image.new("1", (8193, 1), 1).save(path)
    assert "8193x1" in refusal(str(path)).detail
    data = path.read_bytes()
    claims = data[:16] + struct.pack(">II", 60_000, 60_000) + data[24:]
    assert refusal(write(tmp_path, "mask.png", claims)).reason == "bad mask"


def test_values_that_are_not_finite_are_refused(tmp_path):
    np.save(tmp_path / "mask.npy", np.array([[0.0, np.nan]]))
    assert "not finite" in refusal(str(tmp_path / "mask.npy")).detail


def test_what_is_no_png_is_refused_whatever_it_is_called(tmp_path):
    Image.fromarray(LETTERS).save(tmp_path / "mask.jpg")
    (tmp_path / "mask.jpg").rename(tmp_path / "mask.png")
    assert refusal(str(tmp_path / "mask.png")).reason == "bad mask"
    assert refusal(write(tmp_path, "mask.png", b"")).reason == "bad mask"
