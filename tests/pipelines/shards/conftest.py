"""The miniature corpus and its shards, made once for the tests of this folder, which only read them."""

import pytest

from pipelines.datasets.vggsound import index_vggsound
from tests.made.corpora.miniature_clips import make_corpus
from tests.made.corpora.miniature_shards import SETTINGS, write_all


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    reasons = make_corpus(folder)
    return folder, reasons


@pytest.fixture(scope="session")
def index(corpus):
    folder, _ = corpus
    return index_vggsound(str(folder / "vggsound.csv"), str(folder / "videos"))


@pytest.fixture(scope="session")
def undisturbed(index, tmp_path_factory):
    """The data set as one process writes it, shard by shard."""
    return write_all(index, SETTINGS, tmp_path_factory.mktemp("undisturbed"))
