"""The index of Flickr-SoundNet's test set takes for the truth what people agree on, from a toy of its layout."""

import json

import pytest

from cocktail.types import UsageError
from pipelines.datasets.flickr_soundnet import index_flickr_soundnet

# Corners in a picture of 256 by 256, a list an annotator.
MARKED = {
    "10000130166": [(0, 0, 128, 128), (64, 64, 192, 256), (64, 0, 128, 64)],
    "10007936344": [(0, 0, 64, 64), (128, 128, 300, 256)],
    "10008553263": [(0, 0, 64, 64)] * 2,
}
FIRST, APART, ALIKE = MARKED
UNTESTED = "99999999999"


def make(root, marked=MARKED):
    for folder, ending in (("frames", "jpg"), ("audio", "wav"), ("Annotations", "xml")):
        (root / folder).mkdir()
        for name in (*marked, UNTESTED):
            (root / folder / f"{name}.{ending}").touch()
    for name, boxes in marked.items():
        people = "".join(
            "<annotator><bbox><type>1</type>"
            + "".join(f"<{corner}>{value}</{corner}>" for corner, value in zip(("a", "b", "c", "d"), box, strict=True))
            + "</bbox></annotator>"
            for box in boxes
        )
        (root / "Annotations" / f"{name}.xml").write_text(f"<annotation>{people}</annotation>")
    (root / "flickr_test.csv").write_text("".join(f"{name},202\n" for name in marked))
    return str(root), str(root / "Annotations"), str(root / "flickr_test.csv")


def corners(index):
    return [[[box[name] for name in ("x0", "y0", "x1", "y1")] for box in boxes] for boxes in index["boxes"].to_pylist()]


def notes(index):
    return json.loads(index.schema.metadata[b"cocktail.notes"])


def test_what_two_people_marked_is_the_truth_and_who_agrees_on_nothing_is_set_aside(tmp_path):
    root, annotations, test_list = make(tmp_path)
    index = index_flickr_soundnet(root, annotations, test_list)
    assert index["clip_id"].to_pylist() == index["recording"].to_pylist() == list(MARKED)
    assert corners(index) == [[[0.25, 0.25, 0.5, 0.5], [0.25, 0.0, 0.5, 0.25]], [], [[0, 0, 0.25, 0.25]]]
    assert index["problem"].to_pylist() == [None, "empty truth", None]
    assert index["labels"].to_pylist() == [[]] * 3 and {*index["split"].to_pylist()} == {"test"}
    assert index["media_path"].to_pylist()[0] == f"{root}/audio/{FIRST}.wav"
    assert index["pictures"].to_pylist()[0] == [{"path": f"{root}/frames/{FIRST}.jpg", "seconds": 0.0}]
    assert notes(index) == [f"1 frames have no place that 2 boxes cover, and are set aside; the first: {APART}"]


def test_with_an_agreement_of_one_all_that_anybody_marked_is(tmp_path):
    index = index_flickr_soundnet(*make(tmp_path), agreement=1)
    assert [len(boxes) for boxes in corners(index)] == [3, 2, 2]
    assert corners(index)[1] == [[0, 0, 0.25, 0.25], [0.5, 0.5, 1.0, 1.0]]
    with pytest.raises(UsageError, match="--agreement is 3: truth is what 1 or 2 boxes cover"):
        index_flickr_soundnet("", "", "", agreement=3)


def test_files_that_are_not_there_are_counted(tmp_path):
    root, annotations, test_list = make(tmp_path)
    (tmp_path / "audio" / f"{FIRST}.wav").unlink()
    (tmp_path / "Annotations" / f"{ALIKE}.xml").unlink()
    (tmp_path / "flickr_test.csv").write_text("\n".join([*MARKED, APART]))
    index = index_flickr_soundnet(root, annotations, test_list, agreement=1)
    assert index["problem"].to_pylist() == ["missing file", None, "missing file"]
    assert notes(index) == [f"2 ids of flickr_test.csv lack a file; the first: {FIRST}"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("<annotation>", "is no XML"),
        ("<a><b><bbox><x/><x>1</x></bbox></b></a>", r"bbox \['', '1'\]. Expected the released annotations"),
        ("<a><bbox><x>p</x><x>1</x><x>2</x><x>3</x><x>four</x></bbox></a>", "bbox .*'four'"),
        ("<a><bbox><x>p</x><x>1</x><x>2</x><x>3</x><x>--4</x></bbox></a>", "bbox .*'--4'"),
    ],
)
def test_annotations_of_something_else_are_refused(tmp_path, text, told):
    given = make(tmp_path)
    (tmp_path / "Annotations" / f"{FIRST}.xml").write_text(text)
    with pytest.raises(UsageError, match=rf"{FIRST}.xml.*{told}"):
        index_flickr_soundnet(*given)
