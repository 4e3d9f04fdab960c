"""One round of what tests/stress does many times."""

import pytest
import two_trainings


@pytest.mark.slow
def test_of_two_trainings_that_are_started_at_once_one_trains_and_the_other_says_one_line(tmp_path):
    found = "one after the other"
    for name in ("a", "b", "c"):  # once more where a busy machine has begun the second after the first one's end
        if found == "one after the other":
            (tmp_path / name).mkdir()
            found = two_trainings.one_round(tmp_path / name, seconds=0.3)
    assert "the other said one line" in found
