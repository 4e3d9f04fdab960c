"""The table of metrics, which all others read."""

from cgan.metrics.names import BETTER, METRICS, NAMES, ON_INCEPTION, PREFERRED, current, is_better, is_known, values_of
from cgan.training.run_records import rows_of


def test_a_row_says_all_that_requests_reasons_plans_and_plots_ask_for():
    assert len(set(NAMES)) == len(NAMES) and set(PREFERRED) <= {*BETTER, "clip/r_precision", "joint/r_precision"}
    assert all(row.values and set(row.values.values()) <= {"higher", "lower", "near one"} for row in METRICS)
    assert ON_INCEPTION == ("fid", "kid", "prdc", "inception_score", "mifid")
    assert is_better("mifid", 1.0, 2.0) and is_better("inception_score", 2.0, 1.0)
    assert is_better("lattice", 0.9, 1.2) and not is_better("lattice", 0.4, 2.0)


def test_values_on_other_features_have_names_of_their_own():
    assert values_of("fid") == ["fid"] and values_of("fid", "joint") == ["joint/frechet_distance"]
    assert values_of("prdc", "joint")[0] == "joint/precision" and is_known("scene_classifier/precision")


def test_values_of_earlier_runs_are_found_under_their_present_names():
    assert current("judge/kernel_distance") == "scene_classifier/kernel_distance"
    assert current("joint/precision") == "joint/precision" and current("judge") == "judge"


def test_curves_of_an_earlier_run_go_on_under_the_present_name(tmp_path):
    (tmp_path / "metrics.csv").write_text(
        "images_seen,judge/precision,scene_classifier/precision\n100,0.5,\n200,,0.75\n", encoding="utf-8"
    )
    assert [row["scene_classifier/precision"] for row in rows_of(tmp_path / "metrics.csv")] == [0.5, 0.75]
