"""The table of mutations fits the tree; `python tests/mutations.py` tries them."""

from tests import mutations


def test_every_mutation_has_its_text_and_its_tests():
    assert len(mutations.MUTATIONS) >= 30
    assert not mutations.check(mutations.MUTATIONS)
    names = [mutation.name for mutation in mutations.MUTATIONS]
    assert len(set(names)) == len(names)


def test_a_text_that_has_moved_is_named():
    (message,) = mutations.check([mutations.MUTATIONS[0]._replace(old="moved away")])
    assert "moved away" in message
    assert mutations.MUTATIONS[0].path in message
    (message,) = mutations.check([mutations.MUTATIONS[0]._replace(tests=("tests/nowhere.py::test_x",))])
    assert "tests/nowhere.py::test_x" in message


def test_a_mutated_file_is_as_before_afterwards(tmp_path):
    mutation = mutations.MUTATIONS[0]
    path = tmp_path / mutation.path
    path.parent.mkdir(parents=True)
    path.write_text(f"before {mutation.old} after")
    was = path.stat().st_mtime_ns
    with mutations.mutated(mutation, tmp_path):
        assert path.read_text() == f"before {mutation.new} after"
    assert path.read_text() == f"before {mutation.old} after"
    assert path.stat().st_mtime_ns == was
    assert [one.name for one in path.parent.iterdir()] == [path.name]
