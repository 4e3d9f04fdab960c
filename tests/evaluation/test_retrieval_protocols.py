"""Recall@K on Karpathy's splits: the rows of papers' tables, on files in the published layouts made on the spot."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from cgan.cli.evaluate import main
from cgan.data.pictures import decode
from cgan.evaluation import retrieval
from cgan.evaluation.retrieval import CLIPPairs, evaluate_retrieval
from cgan.interfaces import UserError
from cgan.models.joint import JointEncoder
from cgan.pixels import as_floats
from cgan.resources import STARTER_JOINT
from helpers.clip import save_clip

COLOURS = ("red", "blue", "green", "yellow", "white", "black", "grey", "pink", "brown", "orange")
THINGS = ("dog", "cat", "car", "tree", "ball", "house", "boat", "bird", "fish", "chair")


def captions_of(i: int) -> list[str]:
    """Five to seven, as COCO has; all of them different."""
    texts = ["a {} {} on grass", "a small {} {}", "{} and a {} in the snow", "one {} {} on the left", "the {} {} .",
             "a sixth of a {} {}", "a seventh of {} {}"]  # fmt: skip
    return [text.format(COLOURS[i], THINGS[i]) for text in texts[: 5 + i % 3]]


def picture(file: Path, i: int, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(i)
    coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(file, quality=95)


def karpathy(root: Path, dataset: str) -> list[str]:
    """Ten test pictures of full size among those of other splits; returns the settings of the data."""
    images = []
    for i in range(13):
        number, split = i % 10, "test" if i < 10 else "train"
        record = {"imgid": i, "split": split, "sentids": []}
        if dataset == "coco":
            record |= {"filepath": "val2014", "filename": f"COCO_val2014_{100 + i:012d}.jpg", "cocoid": 1000 - i}
        else:
            record |= {"filename": f"{7000 + i}.jpg"}
        texts = [{"raw": text, "tokens": text.split(), "imgid": i} for text in captions_of(number)]
        images.append(record | {"sentences": texts})
        portrait = i % 4 == 3
        picture(root / record.get("filepath", "") / record["filename"], i, (480, 640) if portrait else (640, 480))
    file = root / f"dataset_{dataset}.json"
    file.write_text(json.dumps({"images": images, "dataset": dataset}))
    return ["data.source=karpathy", f"data.root={root}", f"data.annotations={file}"]


@pytest.fixture(scope="module")
def coco(tmp_path_factory) -> list[str]:
    return karpathy(tmp_path_factory.mktemp("coco"), "coco")


@pytest.fixture
def small_protocols(monkeypatch):
    monkeypatch.setattr(retrieval, "PROTOCOLS", {("coco", 10): {"COCO 1K": 5, "COCO 5K": 1}})


def squares(settings: list[str], size: int) -> torch.Tensor:
    files = sorted(Path(settings[1].removeprefix("data.root=")).rglob("*.jpg"))[:10]
    return torch.stack([torch.from_numpy(np.array(decode((file, size))[0])).permute(2, 0, 1) for file in files])


def by_hand(scores: np.ndarray, k: int, per_image: int = 5) -> tuple[float, float]:
    """Recall@K both ways as VSE++ counts it: five captions in a row are those of a picture."""
    to_text = [any(j // per_image == i for j in np.argsort(-row)[:k]) for i, row in enumerate(scores)]
    to_image = [j // per_image in np.argsort(-column)[:k] for j, column in enumerate(scores.T)]
    return float(np.mean(to_text)), float(np.mean(to_image))


def test_a_joint_encoder_has_the_recalls_of_all_scores_over_one_fold_and_over_five(coco, small_protocols):
    report, joint = evaluate_retrieval(str(STARTER_JOINT), coco), JointEncoder.load(STARTER_JOINT)
    texts = [text for i in range(10) for text in captions_of(i)[:5]]
    scores = joint.scores(as_floats(squares(coco, 64)), texts).numpy()
    for k in (1, 5, 10):
        found = [report.metrics[f"COCO 5K/{way}/recall@{k}"] for way in retrieval.WAYS]
        assert found == pytest.approx(by_hand(scores, k))
    folds = [by_hand(scores[2 * f : 2 * f + 2, 10 * f : 10 * f + 10], 1) for f in range(5)]
    found = [report.metrics[f"COCO 1K/{way}/recall@1"] for way in retrieval.WAYS]
    assert found == pytest.approx(np.mean(folds, axis=0).tolist()) and 0 < found[0] < 1
    assert report.protocol["split"]["captions"] == 50 and report.protocol["folds"] == {"COCO 1K": 5, "COCO 5K": 1}


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> str:
    return save_clip(tmp_path_factory.mktemp("clip"))


def test_a_clip_sees_whole_pictures_by_its_own_processor_and_captions_behind_the_prompt(coco, small_protocols, clip):
    report = evaluate_retrieval(clip, coco, prompt="a photo of {}")
    files = sorted(Path(coco[1].removeprefix("data.root=")).rglob("*.jpg"))[:10]
    texts = [f"a photo of {text}" for i in range(10) for text in captions_of(i)[:5]]
    tokens = transformers.AutoTokenizer.from_pretrained(clip)(
        texts, padding=True, truncation=True, max_length=77, return_tensors="pt"
    )
    pixels = transformers.CLIPImageProcessor.from_pretrained(clip)([Image.open(f) for f in files], return_tensors="pt")
    with torch.no_grad():
        output = transformers.CLIPModel.from_pretrained(clip)(**tokens, **pixels)
    scores = output.logits_per_image.numpy()
    for k in (1, 5, 10):
        found = [report.metrics[f"COCO 5K/{way}/recall@{k}"] for way in retrieval.WAYS]
        assert found == pytest.approx(by_hand(scores, k))
    folds = [by_hand(scores[2 * f : 2 * f + 2, 10 * f : 10 * f + 10], 1) for f in range(5)]
    found = [report.metrics[f"COCO 1K/{way}/recall@1"] for way in retrieval.WAYS]
    assert found == pytest.approx(np.mean(folds, axis=0).tolist()) and 0 < found[0] < 1
    recalls = [value for name, value in report.metrics.items() if name.startswith("COCO 5K") and "recall@" in name]
    assert report.metrics["COCO 5K/rsum"] == pytest.approx(100 * sum(recalls))


def test_the_rows_of_the_table_are_printed_and_kept(coco, small_protocols, clip, tmp_path, capsys):
    main(["--retrieval", clip, "--out", str(tmp_path / "r.json"), "--data", *coco])
    printed = capsys.readouterr()
    head, line, one, five = printed.out.splitlines()
    assert head.startswith("| encoder | protocol | i2t R@1 |") and line.count("|") == head.count("|")
    assert one.startswith(f"| {clip} | COCO 1K |") and five.startswith(f"| {clip} | COCO 5K |")
    report = json.loads((tmp_path / "r.json").read_text())
    recall = report["metrics"]["COCO 5K/text_to_image/recall@5"]
    assert five.split(" | ")[7] == f"{100 * recall:.1f}" and report["protocol"]["command"].startswith("cgan evaluate")
    assert "measuring retrieval of 10 pictures and 50 captions" in printed.err


def test_a_few_pictures_are_measured_and_said_to_be_no_protocol(coco, clip):
    lines: list[str] = []
    report = evaluate_retrieval(clip, coco, report=lines.append)
    assert set(report.protocol["folds"]) == {"coco 2, five folds", "coco 10"}
    assert "10 pictures are no protocol of a paper; 5,000 of coco are" in lines[1]


def test_flickr30k_has_one_fold(tmp_path, clip):
    report = evaluate_retrieval(clip, karpathy(tmp_path, "flickr30k"))
    assert report.protocol["folds"] == {"flickr30k 10": 1} and report.protocol["split"]["captions"] == 50


@pytest.mark.parametrize("damage", [Path.unlink, lambda file: file.write_bytes(b"damaged")])
def test_a_picture_that_cant_be_read_is_one_line_and_no_smaller_split(tmp_path, clip, damage):
    settings = karpathy(tmp_path, "flickr30k")
    damage(tmp_path / "7003.jpg")
    with pytest.raises(UserError, match="7003.jpg: .*; the protocols need every picture of the split"):
        evaluate_retrieval(clip, settings)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none.safetensors"], "none.safetensors: no such file"),
        (["nobody/clip"], "CLIP nobody/clip is not on this machine"),
        ([str(STARTER_JOINT), "--prompt", "a photo"], "must hold {} once"),
        ([str(STARTER_JOINT), "--prompt", "{0.x} {}"], "must hold {} once"),
        ([str(STARTER_JOINT), "--seed", "3"], "--seed is not used with --retrieval"),
        ([str(STARTER_JOINT), "--data", "data.source=scenes"], "data.source=scenes"),
    ],
)
def test_a_mistake_is_one_line(arguments, said, coco, monkeypatch):
    monkeypatch.setattr("cgan.metrics.required_weights.answers", lambda url: False)
    with pytest.raises(UserError, match=said) as error:
        main(["--retrieval", *arguments, *([] if "--data" in arguments else ["--data", *coco])])
    assert "\n" not in str(error.value)


class Numbered(CLIPPairs):
    """Vectors by the number of a picture or caption, with noise, in place of those of a network."""

    name = "numbered"

    def __init__(self) -> None:
        self.rng = torch.Generator().manual_seed(0)
        self.points = torch.randn(5000, 16, generator=self.rng)
        self.done = 0

    def images(self, pictures):
        return self.points[[int(p.name) for p in pictures]]

    def captions(self, captions):
        points = self.points[[int(caption) for caption in captions]]
        return points + 2 * torch.randn(points.shape, generator=self.rng)

    def spec(self):
        return {}


@pytest.mark.slow
def test_coco_1k_is_the_mean_of_five_folds_of_five_thousand_pictures(monkeypatch):
    entries = [retrieval.Entry(Path(str(i)), [str(i)] * 7, i) for i in range(5000)]
    monkeypatch.setattr(retrieval, "read_entries", lambda config, split: entries if split == "test" else [])
    monkeypatch.setattr(retrieval, "read_json", lambda *_: {"dataset": "coco"})
    monkeypatch.setattr(retrieval, "encoder_named", lambda name, device: Numbered())
    report = evaluate_retrieval("numbered", ["data.source=karpathy", "data.root=x", "data.annotations=y"])
    numbered = Numbered()
    texts = numbered.captions([str(i) for i in range(5000) for _ in range(5)])
    scores = (numbered.points.double() @ texts.double().t()).numpy()
    folds = [by_hand(scores[1000 * f : 1000 * f + 1000, 5000 * f : 5000 * f + 5000], 5) for f in range(5)]
    found = [report.metrics[f"COCO 1K/{way}/recall@5"] for way in retrieval.WAYS]
    assert found == pytest.approx(np.mean(folds, axis=0).tolist(), abs=1e-6)
    whole = [report.metrics[f"COCO 5K/{way}/recall@5"] for way in retrieval.WAYS]
    assert whole[0] < found[0] and whole[1] < found[1] and report.protocol["split"]["captions"] == 25_000
