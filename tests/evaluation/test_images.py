"""Any pictures against real ones: what is asked, anchors, the cache, and the command."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from torchmetrics import MetricCollection

from cgan.cli.evaluate import main
from cgan.data.scenes.dataset import Scenes
from cgan.data.sources import DataConfig, build_dataset
from cgan.evaluation.images import (
    EvalSet,
    Networks,
    PictureEvaluator,
    eval_set_of,
    eval_set_of_ids,
    fixed_caption_ids,
    nearest_training_pictures,
    other_captions,
)
from cgan.evaluation.loop import JointNetwork, measure, of_dataset, real_features, shares
from cgan.interfaces import UserError
from cgan.metrics.clip import CLIPNetwork
from cgan.metrics.features import FeatureNetwork, SceneClassifierFeatures
from cgan.metrics.matching import CaptionScore, GeneratedRPrecision
from cgan.metrics.required_weights import MissingWeights, clip_source, missing_weights
from cgan.metrics.scenes import load_scene_classifier
from cgan.models.joint import JointEncoder
from cgan.resources import STARTER_JOINT
from helpers import ROOT
from helpers.clip import save_clip

WEIGHTS = ROOT / "assets" / "scenes-64.safetensors"


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch) -> Path:
    folder = tmp_path_factory.getbasetemp() / "evaluation-cache"
    monkeypatch.setenv("CGAN_CACHE", str(folder))
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> str:
    return save_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def coco(tmp_path_factory) -> tuple[Path, Path]:
    """A folder of 12 pictures, and COCO's kind of captions file with three captions of each."""
    folder = tmp_path_factory.mktemp("coco")
    images, annotations, rng = [], [], np.random.default_rng(0)
    for i in range(12):
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(folder / f"{i}.png")
        images.append({"id": 100 + i, "file_name": f"{i}.png"})
        annotations += [{"id": 7 * (3 * i + j), "image_id": 100 + i, "caption": f"picture {i} {j}"} for j in range(3)]
    file = folder / "captions.json"
    file.write_text(json.dumps({"images": images, "annotations": annotations}))
    return folder, file


class Mean(FeatureNetwork):
    """The mean of each channel; counts the pictures that it saw."""

    name, num_features = "mean", 3

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def forward(self, images):
        self.seen += len(images)
        return images.float().mean(dim=(2, 3))


# ------------------------------------------------------------------------------------------------ CLIP


def test_the_clip_score_is_a_hundred_times_the_cosine_of_what_transformers_finds(clip):
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (3, 48, 48, 3), dtype=np.uint8)
    captions = ["a dog", "a big red dog on the grass", "words " * 100]
    model = transformers.CLIPModel.from_pretrained(clip)
    tokens = transformers.AutoTokenizer.from_pretrained(clip)(
        captions, padding=True, truncation=True, max_length=77, return_tensors="pt"
    )
    assert tokens["input_ids"][2, -1] == 53  # the end mark is kept
    pixels = transformers.CLIPImageProcessor.from_pretrained(clip)(
        [Image.fromarray(picture) for picture in pictures], return_tensors="pt"
    )
    with torch.no_grad():
        cosines = model(**tokens, **pixels)
    expected = 100 * (cosines.image_embeds * cosines.text_embeds).sum(dim=1)
    for sign in (1, -1):
        metric = CaptionScore(CLIPNetwork(clip))
        metric.network.model.visual_projection.weight.data *= sign
        images = torch.from_numpy(pictures).permute(0, 3, 1, 2)
        metric.update(images[:1], captions[:1])
        metric.update(images[1:], captions[1:])
        assert float(metric.compute()) == pytest.approx(max(0, sign * expected.mean().item()), rel=1e-4)


def test_without_a_clip_one_line_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    missing = missing_weights(("clip_score",), clip="somebody/some-clip", fetch=True)
    assert "hf download somebody/some-clip" in missing["clip_score"]
    with pytest.raises(MissingWeights, match="no such folder"):
        clip_source(str(tmp_path / "none"))
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match="not a CLIP"):
        CLIPNetwork(str(tmp_path))


# ------------------------------------------------------------------------------------------------ what is asked


def test_each_picture_is_asked_for_by_one_of_its_captions(cache):
    scenes = Scenes(9, 32)
    eval_set = eval_set_of(scenes, 5, seed=3)
    assert len(eval_set.captions) == 5 and eval_set.places == sorted(set(eval_set.places))
    assert all(caption in scenes.captions_of(i) for caption, i in zip(eval_set.captions, eval_set.places, strict=True))
    assert eval_set_of(scenes, 5, seed=3).captions == eval_set.captions != eval_set_of(scenes, 5, seed=4).captions
    assert torch.equal(eval_set.reference.load(torch.tensor([1]))[0], as_bytes(scenes, eval_set.places[1]))


def as_bytes(scenes: Scenes, place: int) -> torch.Tensor:
    return torch.from_numpy(np.array(scenes.pictures[place])).permute(2, 0, 1)


def test_fixed_ids_are_one_caption_each_of_different_pictures(coco):
    folder, file = coco
    ids = fixed_caption_ids(file, 10, seed=1)
    assert ids == sorted(ids) == fixed_caption_ids(file, 10, seed=1) != fixed_caption_ids(file, 10, seed=2)
    assert len({number // 21 for number in ids}) == 10
    dataset = build_dataset(DataConfig("coco", str(folder), str(file), resolution=32))
    eval_set = eval_set_of_ids(dataset, file, ids)
    assert eval_set.captions == [f"picture {n // 21} {n // 7 % 3}" for n in ids]
    assert eval_set.places == [n // 21 for n in ids] and eval_set.reference.count == 12
    with pytest.raises(UserError, match="no caption 8"):
        eval_set_of_ids(dataset, file, [8])
    with pytest.raises(UserError, match="12 pictures"):
        fixed_caption_ids(file, 13)


def test_other_captions_are_of_other_pictures_and_in_other_words():
    captions = ["a", "b", "c", "a", "d", "e"]
    rows = other_captions(captions, [0, 0, 1, 2, 3, 4], 3, seed=0)
    for i, row in enumerate(rows):
        assert len(set(row)) == 3 and not {captions[j] for j in row} & {captions[i]}
    assert 1 not in rows[0] and 0 not in rows[1]
    with pytest.raises(UserError, match="r_precision"):
        other_captions(captions, [0, 0, 1, 2, 3, 4], 5, seed=0)


# ------------------------------------------------------------------------------------------------ measuring


def test_real_features_are_kept_and_damaged_ones_made_anew(cache):
    network, pictures = Mean(), of_dataset(Scenes(7, 32, seed=5))
    features = real_features(network, pictures)
    torch.testing.assert_close(features, pictures.load(torch.arange(7)).float().mean(dim=(2, 3)))
    assert torch.equal(real_features(network, pictures), features) and network.seen == 7
    file = max(cache.glob("features-*.npy"), key=lambda path: path.stat().st_mtime_ns)
    whole = file.read_bytes()
    for damaged in (whole[:-5], b"", b"nonsense" * 20):
        file.write_bytes(damaged)
        assert torch.equal(real_features(network, pictures), features) and file.read_bytes() == whole
    assert network.seen == 28 and not list(cache.glob("features-*.tmp"))
    real_features(network, of_dataset(Scenes(7, 32, seed=6)))
    assert network.seen == 35  # other pictures are under another key


def test_the_shares_of_all_processes_are_all_pictures(monkeypatch):
    monkeypatch.setattr("cgan.evaluation.loop.num_processes", lambda: 3)
    taken = []
    for rank in range(3):
        monkeypatch.setattr("torch.distributed.get_rank", lambda rank=rank: rank)
        taken += torch.cat(list(shares(10, batch=2))).tolist()
    assert sorted(taken) == list(range(10))


def test_the_nearest_training_picture_has_the_nearest_caption_and_is_another_one(cache):
    joint, scenes = JointEncoder.load(STARTER_JOINT), Scenes(40, 64)
    eval_set = eval_set_of(scenes, 6, seed=0)
    texts = [(caption, i) for i in range(40) for caption in scenes.captions_of(i)]
    scores = joint.embed_captions(eval_set.captions) @ joint.embed_captions([text for text, _ in texts]).t()
    for same in (False, True):
        pictures = nearest_training_pictures(joint, eval_set, scenes, same)
        for row, (place, score) in enumerate(zip(eval_set.places, scores, strict=True)):
            best = next(i for i in score.argsort(descending=True).tolist() if not same or texts[i][1] != place)
            candidates = [texts[i][1] for i in range(len(texts)) if score[i] >= score[best] - 1e-5]
            found = pictures.load(torch.tensor([row]))[0]
            assert any(torch.equal(found, as_bytes(scenes, i)) for i in candidates if not same or i != place)


def test_real_scenes_are_nearer_to_real_ones_than_noise_is(cache):
    scenes, classifier = Scenes(60, 64), SceneClassifierFeatures(load_scene_classifier())
    eval_set = EvalSet(None, of_dataset(scenes), {})
    evaluator = PictureEvaluator(eval_set, Networks(classifier), ("fid", "prdc"))
    other, floor = evaluator.of(of_dataset(Scenes(60, 64, seed=9))), evaluator.floor()
    noise = of_dataset(scenes)._replace(load=lambda places: torch.randint(0, 256, (len(places), 3, 64, 64)).byte())
    assert 0 < other["scene_classifier/frechet_distance"] < evaluator.of(noise)["scene_classifier/frechet_distance"] / 5
    assert floor.keys() == other.keys() and floor["scene_classifier/coverage"] > 0.5


def test_r_precision_finds_the_captions_of_real_scenes(cache):
    scenes, joint = Scenes(60, 64), JointNetwork(JointEncoder.load(STARTER_JOINT))
    eval_set = eval_set_of(scenes, 60, seed=0)
    others = torch.from_numpy(other_captions(eval_set.captions, eval_set.places, 20, seed=0))
    collection = MetricCollection({"r": GeneratedRPrecision(joint, eval_set.captions, others)}, compute_groups=False)
    real = of_dataset(scenes, eval_set.places, eval_set.captions)
    shuffled = of_dataset(scenes, eval_set.places[1:] + eval_set.places[:1], eval_set.captions)
    assert measure(real, collection)["r"] > 0.7 > 0.4 > measure(shuffled, collection)["r"]


# ------------------------------------------------------------------------------------------------ the command


def save_pictures(folder: Path, count: int, seed: int, captions: bool) -> Path:
    folder.mkdir()
    scenes = Scenes(count, 32, seed)
    for i, picture in enumerate(scenes.pictures):
        Image.fromarray(picture).save(folder / f"{i:03d}.png")
        if captions:
            (folder / f"{i:03d}.txt").write_text("\n".join(scenes.captions_of(i)))
    return folder


@pytest.mark.slow
def test_distances_of_a_handful_of_pictures_are_left_out_with_a_word(tmp_path, cache, clip, capsys):
    drawn, real = (
        save_pictures(tmp_path / "a", 4, 1, captions=True),
        save_pictures(tmp_path / "b", 12, 2, captions=False),
    )
    main(["--images", str(drawn), "--reference", str(real), "--clip", clip, "--json"])
    printed = capsys.readouterr()
    assert set(json.loads(printed.out)) == {"clip_score"}
    assert "fid, kid, prdc, inception_score: 4 pictures are too few to compare" in printed.err
    with pytest.raises(UserError, match="no metric can be computed"):
        main(["--images", str(drawn), "--reference", str(real), "--metrics", "fid"])


@pytest.mark.slow
def test_two_folders_are_compared_and_the_protocol_says_how(tmp_path, cache, random_inception, clip, capsys):
    drawn = save_pictures(tmp_path / "drawn", 12, 1, captions=True)
    real = save_pictures(tmp_path / "real", 14, 2, captions=False)
    out = tmp_path / "report.json"
    options = ["--inception", str(random_inception), "--clip", clip, "--out", str(out), "--anchors"]
    main(["--images", str(drawn), "--reference", str(real), *options])
    report = json.loads(out.read_text())
    values, protocol = report["metrics"], report["protocol"]
    on_features = {"fid", "kid", "precision", "recall", "density", "coverage"}
    on_pixels = {"lattice", "spectrum", "copies", "pixels/training_distance", "training_distance"}
    assert set(values) == on_features | {"inception_score", "clip_score"} | on_pixels
    printed = capsys.readouterr()
    assert "clip_score" in printed.out and "real against real" in printed.out
    what = f"fid, kid, prdc, inception_score by Inception-v3 (resize torch-fidelity); clip_score by CLIP {clip}"
    what += "; spectrum by pixels; memorization by pixels and Inception-v3 (resize torch-fidelity)"
    assert printed.err.splitlines()[0] == f"measuring 12 pictures against 14: {what}"
    assert set(report["anchors"]["real_against_real"]) == on_features | {"lattice", "spectrum"}
    assert {"torch", "torchmetrics", "torch-fidelity", "transformers", "cgan"} <= set(protocol["versions"])
    assert protocol["pictures"]["num_images"] == 12 and protocol["reference"]["num_images"] == 14
    assert protocol["pictures"]["preparation"] == "none" and protocol["resize"] == "torch-fidelity, to 299 px"
    assert protocol["captions"]["num_captions"] == 12 and protocol["seed"] == 1234
    assert len(protocol["networks"]["features"]["weights"]) == 64 and protocol["networks"]["clip"]["source"] == clip


def test_memorisation_is_asked_of_training_pictures_alone(tmp_path, cache, random_inception, capsys):
    drawn = save_pictures(tmp_path / "drawn", 8, 1, captions=False)
    real = save_pictures(tmp_path / "real", 20, 2, captions=True)
    data = ["--data", "data.source=folder", f"data.root={real}", "data.resolution=32", "data.test_images=9"]
    with pytest.raises(UserError, match="no metric can be computed"):
        main(["--images", str(drawn), "--inception", str(random_inception), "--metrics", "mifid", *data])
    assert "without mifid: finds what repeats training pictures, and the real ones" in capsys.readouterr().err


def test_a_mistake_in_the_command_is_one_line(tmp_path, cache):
    drawn = save_pictures(tmp_path / "drawn", 8, 1, captions=False)
    with pytest.raises(UserError, match="nothing to evaluate"):
        main([])
    with pytest.raises(UserError, match="fidd is not one of"):
        main(["--images", str(drawn), "--metrics", "fidd"])
    Image.new("RGB", (9, 7)).save(drawn / "small.png")
    with pytest.raises(UserError, match="several sizes.*--resolution"):
        main(["--images", str(drawn), "--reference", str(drawn)])
    (drawn / "small.png").write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"small.png: damaged"):
        main(["--images", str(drawn), "--reference", str(drawn)])


def evaluate(*arguments: str, cache: Path) -> subprocess.CompletedProcess:
    environment = {**os.environ, "CGAN_CACHE": str(cache), "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "cgan", "evaluate", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500)


@pytest.mark.slow
def test_scenes_are_measured_without_any_weights_from_outside(cache, tmp_path):
    out = tmp_path / "report.json"
    options = ["--num-images", "128", "--json", "--anchors", "--out", str(out), "--data", "data.num_images=300"]
    ended = evaluate(str(WEIGHTS), *options, cache=cache)
    values = json.loads(ended.stdout)
    names = {"scene_accuracy", "scene_accuracy_heldout", "frechet_distance", "frechet_floor", "diversity"}
    assert names | {"r_precision", "r_precision_real", "scene_classifier/precision"} <= set(values), ended.stderr
    assert values["scene_accuracy"] > 0.7 and values["r_precision"] > 0.8
    assert [line.split(":")[0] for line in ended.stderr.splitlines()[:3]] == [
        "measuring 128 pictures against 128",
        "without fid, kid, prdc, inception_score",
        "without clip_score",
    ]
    report = json.loads(out.read_text())
    assert report["protocol"]["pictures"]["averaged_weights"] and report["protocol"]["pictures"]["truncation"] == 1
    anchors = report["anchors"]
    assert anchors["real_of_captions"]["scene_accuracy"] > 0.95
    assert anchors["nearest_training"]["scene_accuracy"] > 0.3  # the few training pictures


@pytest.mark.slow
def test_a_checkpoint_draws_coco_s_captions_of_fixed_ids(coco, cache, tmp_path, clip):
    folder, file = coco
    data = ["--data", str(ROOT / "configs/gan/coco.yaml"), f"data.root={folder}", f"data.annotations={file}"]
    ids, out = tmp_path / "ids.json", tmp_path / "report.json"
    main(["--write-captions", str(ids), "--num-images", "9", *data])
    joint = ["--joint", str(STARTER_JOINT)]
    main([str(WEIGHTS), "--captions", str(ids), "--clip", clip, *joint, "--out", str(out), *data])
    report = json.loads(out.read_text())
    protocol = report["protocol"]
    assert protocol["captions"]["choice"] == "fixed ids" and protocol["reference"]["num_images"] == 12
    assert {"joint/frechet_distance", "joint/precision", "clip_score"} <= set(report["metrics"])
    assert protocol["pictures"]["num_images"] == 9
