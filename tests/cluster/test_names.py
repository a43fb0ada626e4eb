"""Names of jobs and the arithmetic of arrays."""

from hypothesis import given
from hypothesis import strategies as st

from undo_hpc.cluster.names import JobName, array_spec, split_array


def test_a_name_comes_back_whole_and_foreign_names_are_not_ours() -> None:
    name = JobName("generate", 2, "0123abcd", 1, 1000, 3, "deadbeef")
    own = JobName("count_rows2", 0, "0123abcd", 0, 0, 1, "deadbeef")  # a stage that a user registers
    assert JobName.parse(str(name)) == name and JobName.parse(str(own)) == own
    assert JobName.parse("generate-i2-someone-elses") is None
    assert JobName.parse("bash") is None


@given(st.sets(st.integers(0, 12_000), min_size=1, max_size=300), st.integers(1, 1001), st.integers(1, 3))
def test_every_task_is_run_and_no_array_is_too_large(indices: set[int], largest: int, parts: int) -> None:
    asked = sorted(indices)
    split = split_array(asked, largest, parts)
    assert 1 <= len(split) <= parts
    run: list[int] = []
    for part in split:
        assert max(part.elements) < largest
        for element in part.elements:
            first = (element + part.offset) * part.group
            run += range(first, first + part.group)
    assert set(asked) <= set(run)
    assert len(run) == len(set(run)), "no task is run by two elements"


def test_an_array_within_the_limit_keeps_its_own_numbers() -> None:
    (part,) = split_array([0, 1, 2, 7], 1001, 2)
    assert (part.elements, part.offset, part.group) == ((0, 1, 2, 7), 0, 1)


def test_ten_thousand_shards_on_a_stock_cluster_are_two_arrays() -> None:
    split = split_array(range(10_000), 1001, 2)
    assert len(split) == 2
    assert sum(len(part.elements) * part.group for part in split) >= 10_000


@given(st.sets(st.integers(0, 500), min_size=1), st.integers(1, 600))
def test_the_notation_of_an_array_says_the_same_elements(elements: set[int], parallelism: int) -> None:
    text = array_spec(sorted(elements), parallelism)
    ranges = [piece.split("-") for piece in text.split("%")[0].split(",")]
    assert [number for piece in ranges for number in range(int(piece[0]), int(piece[-1]) + 1)] == sorted(
        elements
    )
    assert ("%" in text) == (parallelism < len(elements))
