"""One round of what tests/stress does many times."""

import pytest
import two_trainings


@pytest.mark.slow
def test_of_two_trainings_that_are_started_at_once_one_trains_and_the_other_says_one_line(tmp_path):
    assert "the other said one line" in two_trainings.one_round(tmp_path, seconds=0.3)
