import pytest

from cgan.schedule import late_decay


@pytest.mark.parametrize(
    ("progress", "decay_from", "last", "expected"),
    [
        (0.0, 0.0, 0.25, 1.0),
        (0.5, 0.0, 0.25, 0.625),
        (0.75, 0.0, 0.25, 0.4375),  # three quarters of the way from 1 to 0.25
        (1.0, 0.0, 0.25, 0.25),
        (0.5, 0.5, 0.05, 1.0),
        (0.98, 0.5, 0.05, 0.088),
        (1.0, 0.5, 0.05, 0.05),
        (1.0, 1.0, 0.05, 1.0),
    ],
)
def test_a_rate_reaches_its_last_value_at_the_end_and_not_before(progress, decay_from, last, expected):
    assert late_decay(progress, decay_from, last) == pytest.approx(expected)
