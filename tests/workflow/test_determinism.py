"""Same inputs, same bytes."""

from workflow.conftest import Project

WHAT = (
    "data/datasets/**/*",
    "data/tasks/**/*",
    "data/tensors/**/*",
    "results/*/pipelines/*",
    "results/*/models/**/model.*",
    "results/*/models/**/metrics.csv",
    "results/*/logits/**/*",
    "results/*/scores/**/*",
    "results/*/tables/*",
)


def check_same_bytes(undisturbed, project):
    """Check that two projects hold the same artifacts, temporary files of killed jobs aside."""
    first, second = undisturbed.contents(*WHAT), project.contents(*WHAT)
    assert sorted(first) == sorted(name for name in second if "/.tmp-" not in name)
    assert [name for name in first if first[name] != second[name]] == []


def test_two_runs_give_the_same_bytes(finished, tmp_path):
    again = Project(tmp_path / "again")
    again.configure()
    result = again.run("test", "predict", "train", "--cores", "1")
    assert result.status == 0, result.output
    first, second = finished.contents(*WHAT), again.contents(*WHAT)
    assert len(first) > 1800
    assert sorted(first) == sorted(second)
    assert [name for name in first if first[name] != second[name]] == []
