"""What a URI says of who comes is neither stored nor printed; what it says of where is."""

import pytest

from cocktail.text.redaction import holds_password, redacted, redacted_command, redacted_uri, redacted_values

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("sqlite:////lab/mlflow.db?user=lab&password=hunter2", "sqlite:////lab/mlflow.db?***"),
        ("postgresql://lab:hunter2@db:5432/mlflow", "postgresql://***@db:5432/mlflow"),
        ("postgresql+psycopg://lab:hunter2@db/mlflow?sslmode=on", "postgresql+psycopg://***@db/mlflow?***"),
        ("https://hunter2@tracking.lab/", "https://***@tracking.lab/"),
        ("s3://key:hun/hunter2@bucket/folder", "s3://***@bucket/folder"),
        ("mysql://lab:hunter2?#x@db/mlflow", "mysql://***@db/mlflow"),
        ("https://lab:p@hunter2@db/x", "https://***@db/x"),
    ],
)
def test_user_and_query_are_hidden_wherever_the_uri_stands(uri, shown):
    assert redacted(uri) == shown
    assert redacted(f"MLflow at {uri} does not answer: waiting ({uri}), 'see {uri}'.") == (
        f"MLflow at {shown} does not answer: waiting ({shown}), 'see {shown}'."
    )
    command = redacted_command(["jobs/sgn.py", "music", f"--tracking-uri={uri}", "--output", uri, "a b"])
    assert SECRET not in command
    assert command.endswith("'a b'")
    assert redacted_values({"a": [uri, 1, None], "b": {"c": uri}}) == {"a": [shown, 1, None], "b": {"c": shown}}


def test_a_query_with_spaces_is_hidden_in_a_command():
    assert redacted_command(["job", "--tracking-uri", "sqlite:///x.db?password=two 'words"]) == (
        "job --tracking-uri 'sqlite:///x.db?***'"
    )


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:5000/a@b",
        "http://127.0.0.1:5000",
        "sqlite:////home/lab/a@b/mlflow.db",
        "s3://bucket/some/folder/what?",
        "abfs://container@account.dfs.core.windows.net/shards",
        "/plain/path?with=a&query@x",
        "3:4 is a ratio; see https://mlflow.org/docs/latest (and so on).",
    ],
)
def test_places_without_credentials_stay_as_they_are(text):
    assert redacted(text) == text


@pytest.mark.parametrize(
    ("uri", "holds"),
    [
        ("s3://key:se/cret@bucket/folder", True),
        ("abfs://container:secret@account/x", True),
        ("abfs://container@account/x", False),
        ("gs://anonymous@bucket/x", False),
        ("s3://bucket/a:b@c", False),
        ("/local/a:b@c", False),
    ],
)
def test_a_password_in_a_place_is_seen(uri, holds):
    assert holds_password(uri) is holds


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("postgresql://lab:pa'hunter2@host/db", "postgresql://***@host/db"),
        ('mysql://lab:a"hunter2@host/db', "mysql://***@host/db"),
        ("postgresql://lab:p<hunter2>@host/db", "postgresql://***@host/db"),
        ("postgresql://lab:12'hunter2@host/db", "postgresql://***@host/db"),
        ("sqlite:///m.db?password=a'hunter2", "sqlite:///m.db?***"),
    ],
)
def test_quotation_marks_in_a_password_end_nothing(uri, shown):
    assert redacted_uri(uri) == redacted(uri) == shown
    assert redacted(f"('see {uri}', \"{uri}\"), <{uri}>.") == f"('see {shown}', \"{shown}\"), <{shown}>."
    assert redacted_values([uri]) == [shown]


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("sqlite:////x y/m.db?password=hunter2", "sqlite:////x y/m.db?***"),
        ("sqlite:///m.db?password=a hunter2", "sqlite:///m.db?***"),
        ("postgresql://lab:a hunter2@host/db", "postgresql://***@host/db"),
        ("see sqlite:///m.db?a=hunter2 and more", "see sqlite:///m.db?*** and more"),
    ],
)
def test_a_value_that_is_a_uri_is_hidden_to_its_end(uri, shown):
    assert redacted_uri(uri) == shown
    assert redacted_values({"tag": uri}) == {"tag": shown}


def test_what_stands_behind_a_place_in_quotation_marks_stays():
    for text in ("['http://127.0.0.1:5000', 'a@b']", '{"s3://bucket/x","m":"a@b"}', '<a href="http://lab/x">a@b</a>'):
        assert redacted(text) == text
