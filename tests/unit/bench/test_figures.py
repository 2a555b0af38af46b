import pytest
from bench.figures import Figure, Target, best_of, percentile, ratio


def test_ratios_are_taken_round_by_round() -> None:
    # The machine was slow in the second round, for both alike.
    assert ratio([20.0, 10.0, 22.0], [10.0, 5.0, 10.0]) == Figure(min=2.0, median=2.0, max=2.2)


def test_rounds_of_another_number_are_not_compared() -> None:
    with pytest.raises(ValueError, match="2 rounds cannot be compared with 1"):
        ratio([1.0, 2.0], [1.0])


def test_a_round_without_any_work_is_not_divided_by() -> None:
    with pytest.raises(ValueError, match="nothing was done"):
        ratio([1.0, 2.0], [1.0, 0.0])


def test_the_best_may_be_another_contender_in_each_round() -> None:
    assert best_of([[1.0, 5.0], [2.0, 4.0]]) == [2.0, 5.0]
    assert best_of([[1.0, 5.0], [2.0, 4.0]], lower_is_better=True) == [1.0, 4.0]


@pytest.mark.parametrize(
    ("share", "value"), [(0.5, 2.0), (0.51, 3.0), (0.75, 3.0), (0.99, 4.0), (1.0, 4.0), (0.01, 1.0)]
)
def test_a_percentile_is_one_of_the_values(share: float, value: float) -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], share) == value


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1.0], 0.0), ([1.0], 1.1)])
def test_there_is_no_percentile_of_nothing(values: list[float], share: float) -> None:
    with pytest.raises(ValueError, match="no percentile"):
        percentile(values, share)


def test_a_target_is_met_by_the_median() -> None:
    figure = Figure(min=1.2, median=1.5, max=2.0)
    assert Target("x", 1.5, figure).met
    assert not Target("x", 1.51, figure).met
    assert Target("x", 1.5, figure, at_least=False).met
    assert not Target("x", 1.49, figure, at_least=False).met


def test_a_target_with_nobody_to_compare_with_is_not_met() -> None:
    target = Target("x", 1.0, None)
    assert not target.met
    assert target.as_dict() == {"what": "x", "wanted": "≥ 1", "ratio": None, "met": False}
