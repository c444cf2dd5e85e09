"""A user's mistake is one line, wherever in the cluster it was found."""

import pytest
import ray
import ray.data

from cocktail.cluster.connection import find_cause, one_line_errors
from cocktail.types import UsageError


def fail(row):
    raise UsageError("the shard is cut short: run the job again")


@pytest.mark.parametrize("through", ["task", "data"])
def test_a_mistake_found_in_a_worker_is_one_line(local_ray, capsys, through):
    with pytest.raises(SystemExit) as ended, one_line_errors():
        if through == "task":
            ray.get(ray.remote(fail).remote(0))
        else:
            mapped = ray.data.range(2).map(fail)
            mapped.context.raise_original_map_exception = True  # as our pipelines do
            mapped.materialize()
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith("error: the shard is cut short: run the job again\n")


def test_other_errors_keep_their_traceback():
    with pytest.raises(ZeroDivisionError), one_line_errors():
        _ = 1 / 0
    assert find_cause(ZeroDivisionError(), UsageError) is None
