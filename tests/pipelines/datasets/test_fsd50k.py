"""Labels of Freesound recordings are read as they are released, in an order, without what others of them imply."""

import json

import pytest

from cocktail.types import UsageError
from pipelines.datasets.fsd50k import read_labels

MIDS = {"Bark": "/m/bark", "Dog": "/m/dog", "Growling": "/m/growl", "Animal": "/m/animal", "Rain": "/m/rain"}
CHILDREN = {"/m/animal": ["/m/dog", "/m/wild"], "/m/dog": ["/m/bark", "/m/growl"], "/m/wild": ["/m/growl"]}


def write_fsd50k(root, dev, eval_part=(), vocabulary=tuple(MIDS), header=""):
    """The collection's files; the vocabulary in an order that is neither of the alphabet nor of a line's labels."""
    folder = root / "FSD50K.metadata" / "collection"
    folder.mkdir(parents=True, exist_ok=True)
    for part, lines in (("dev", dev), ("eval", eval_part)):
        rows = [f'{name},"{labels}","{",".join(MIDS.get(x, "") for x in labels.split(","))}"' for name, labels in lines]
        (folder / f"collection_{part}.csv").write_text("\n".join(["fname,labels,mids", *rows]) + "\n")
        words = [f"{place},{label},{MIDS[label]}" for place, label in enumerate(vocabulary)]
        (folder / f"vocabulary_collection_{part}.csv").write_text("\n".join([header, *words]) + "\n")
    return str(root)


def write_ontology(root):
    items = [{"id": mid, "name": name, "child_ids": CHILDREN.get(mid, [])} for name, mid in MIDS.items()]
    items.append({"id": "/m/wild", "name": "Wild animals", "child_ids": CHILDREN["/m/wild"]})
    (root / "ontology.json").write_text(json.dumps(items))
    return str(root / "ontology.json")


def test_labels_of_both_parts_come_in_the_order_of_the_vocabulary(tmp_path):
    root = write_fsd50k(tmp_path, [("64760", "Rain"), ("7", "Rain,Animal,Bark")], [("123", "Rain,Growling")])
    labels = read_labels(root)
    assert labels is not None
    assert labels.by_id == {"64760": ("Rain",), "7": ("Bark", "Animal", "Rain"), "123": ("Growling", "Rain")}
    assert [note for note in labels.notes if "ancestors" in note] == list(labels.notes)


def test_ancestors_of_any_distance_and_over_any_parent_are_dropped(tmp_path):
    """Animal is Bark's grandparent; Growling has two parents, one of them outside the vocabulary."""
    lines = [("1", "Animal,Bark,Rain"), ("2", "Animal,Growling"), ("3", "Dog,Animal"), ("4", "Growling,Bark,Dog")]
    labels = read_labels(write_fsd50k(tmp_path, lines), write_ontology(tmp_path))
    assert labels is not None
    assert labels.by_id == {"1": ("Bark", "Rain"), "2": ("Growling",), "3": ("Dog",), "4": ("Bark", "Growling")}
    assert labels.notes == ()


def test_an_ontology_that_runs_in_a_circle_ends(tmp_path):
    (tmp_path / "circle.json").write_text(
        json.dumps([{"id": "/m/bark", "child_ids": ["/m/dog"]}, {"id": "/m/dog", "child_ids": ["/m/bark"]}])
    )
    labels = read_labels(write_fsd50k(tmp_path, [("1", "Rain"), ("2", "Bark")]), str(tmp_path / "circle.json"))
    assert labels is not None and labels.by_id == {"1": ("Rain",), "2": ("Bark",)}


def test_a_recording_without_labels_is_left_out_and_a_strange_label_comes_last(tmp_path):
    root = write_fsd50k(tmp_path, [("1", ""), ("2", "Aardvark,Rain")])
    labels = read_labels(root, write_ontology(tmp_path))
    assert labels is not None
    assert labels.by_id == {"2": ("Rain", "Aardvark")}
    assert labels.notes == ("1 labels of FSD50K are not in its vocabulary and come last, as 'Aardvark'",)


def test_a_vocabulary_may_have_a_header(tmp_path):
    root = write_fsd50k(tmp_path, [("7", "Rain,Bark")], header="index,label,mid")
    labels = read_labels(root)
    assert labels is not None and labels.by_id == {"7": ("Bark", "Rain")}


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("collection_dev.csv", None, r"no file .*collection_dev.csv\. Expected the released collection csv"),
        ("collection_dev.csv", "fname,labels,mids\nabc,Rain,/m/rain\n", "line 2: Freesound id 'abc'"),
        ("collection_dev.csv", "1,Rain,/m/rain\nfname,labels,mids\n", "line 2: Freesound id 'fname'"),
        ("collection_eval.csv", "fname,labels,mids\n1,Rain,Bark,/m/rain\n", "line 2: 4 columns"),
        ("vocabulary_collection_eval.csv", None, r"no file .*vocabulary_collection_eval.csv"),
        ("vocabulary_collection_dev.csv", "0,Rain,/m/rain\nBark,/m/bark,1\n", "line 2: index 'Bark'"),
        ("vocabulary_collection_dev.csv", "index,label,mid\n", "is empty"),
    ],
)
def test_files_that_are_absent_or_others_are_refused(tmp_path, name, text, told):
    root = write_fsd50k(tmp_path, [("1", "Rain")])
    path = tmp_path / "FSD50K.metadata" / "collection" / name
    path.unlink()
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match=told):
        read_labels(root)


@pytest.mark.parametrize("text", ["{}", '[{"id": "/m/dog"}]', '[{"id": "/m/dog", "child_ids": "/m/bark"}]', "[1]"])
def test_another_ontology_is_refused(tmp_path, text):
    (tmp_path / "ontology.json").write_text(text)
    with pytest.raises(UsageError, match=r"ontology.json is something else. Expected AudioSet's ontology.json"):
        read_labels(write_fsd50k(tmp_path, [("1", "Rain")]), str(tmp_path / "ontology.json"))


def test_a_table_is_of_labels_or_of_objects_with_one(tmp_path):
    (tmp_path / "table.json").write_text(json.dumps({"1": "rain", "2": {"label": "bark", "from": "elsewhere"}}))
    labels = read_labels(table=str(tmp_path / "table.json"))
    assert labels is not None and labels.by_id == {"1": ("rain",), "2": ("bark",)}


@pytest.mark.parametrize("text", ["[]", "{}", '{"1": ""}', '{"1": ["rain"]}', '{"1": {"name": "rain"}}', '{"1": null}'])
def test_a_table_that_holds_no_label_where_one_must_be_is_refused(tmp_path, text):
    (tmp_path / "table.json").write_text(text)
    with pytest.raises(UsageError, match=r"table.json.* no label.*Expected a table of labels"):
        read_labels(table=str(tmp_path / "table.json"))


def test_labels_come_from_one_place_or_none(tmp_path):
    assert read_labels() is None
    with pytest.raises(UsageError, match=r"from two places: fsd and table\.json"):
        read_labels("fsd", table="table.json")
    with pytest.raises(UsageError, match="give FSD50K's folder too"):
        read_labels(ontology="ontology.json")
