import io
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cgan.cli.sample import main
from cgan.errors import UserError
from cgan.sampling.naming import OutputPaths, cleaned, slug
from cgan.sampling.pipeline import TextToImage
from helpers import ROOT
from helpers.pictures import pixels

PAGE = (ROOT / "docs/sampling.md").read_text(encoding="utf-8")
NEW = ("negative", "guidance")  # in files, since 2026-11-25
HEAVY = """pytorch_lightning lightning_fabric transformers torchvision wandb torchmetrics omegaconf
    cgan.data""".split()


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sample(capsys, *arguments: str) -> list[str]:
    """The lines that sample.py prints; a path in each, unless --json."""
    capsys.readouterr()
    main(list(arguments))
    return capsys.readouterr().out.splitlines()


def test_pictures_of_a_caption_stand_side_by_side(pipe, capsys):
    (path,) = sample(capsys, "a dog on grass", "--num", "3", "--seed", "4")
    assert path == os.path.join("samples", "a-dog-on-grass-4.png")
    assert (pixels(path) == np.concatenate(list(pipe.sample(["a dog on grass"] * 3, [4, 5, 6])), axis=1)).all()


def test_separate_pictures_have_a_file_each(pipe, capsys):
    paths = sample(capsys, "a dog on grass", "a cat", "--num", "2", "--separate", "--out", "here")
    names = ["a-dog-on-grass-0", "a-dog-on-grass-1", "a-cat-0", "a-cat-1"]
    assert paths == [os.path.join("here", f"{name}.png") for name in names]
    assert (pixels(paths[3]) == pipe.sample(["a cat"], [1])[0]).all()


def test_a_grid_has_a_row_for_each_caption_under_its_strip(pipe, capsys):
    (path,) = sample(capsys, "a dog on grass", "a cat", "--num", "4", "--grid", "--out", "grid.png")
    page = pixels(path)
    assert page.shape == (2 * (64 + 13), 256, 3)
    assert (page[13:77, 64:128] == pipe.sample(["a dog on grass"], [1])[0]).all()
    assert (page[90:, 192:] == pipe.sample(["a cat"], [3])[0]).all()
    assert (page[:13] == 255).mean() > 0.5 and page[:13].min() < 100


def test_captions_come_from_a_file_and_from_standard_input(capsys, monkeypatch):
    Path("some.txt").write_text("a red car\n\n  a cat  \na red car\n", encoding="utf-8")
    assert [Path(path).name for path in sample(capsys, "--captions", "some.txt")] == [
        "a-red-car-0.png", "a-cat-0.png", "a-red-car-0-2.png",
    ]  # fmt: skip
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbfa bird\nan owl\n")))
    paths = sample(capsys, "a ball", "--captions", "-")
    assert [Path(path).name for path in paths] == ["a-ball-0.png", "a-bird-0.png", "an-owl-0.png"]


def test_captions_in_utf16_are_read_by_their_mark_and_other_encodings_are_named(capsys):
    Path("some.txt").write_text("a red car\na cat\n", encoding="utf-16")
    assert len(sample(capsys, "--captions", "some.txt")) == 2
    Path("some.txt").write_bytes(b"a red car\na caf\xe9\n")
    with pytest.raises(UserError, match="some.txt.*line 2: byte 0xe9"):
        main(["--captions", "some.txt"])


def test_json_tells_of_each_picture(pipe, capsys):
    lines = sample(capsys, "a zebra on grass", "a cat", "--num", "2", "--truncation", "0.7", "--json")
    told = [json.loads(line) for line in lines]
    assert [(t["caption"], t["seed"], t["column"], t["unknown_words"]) for t in told] == [
        ("a zebra on grass", 0, 0, ["zebra"]), ("a zebra on grass", 1, 1, ["zebra"]),
        ("a cat", 0, 0, []), ("a cat", 1, 1, []),
    ]  # fmt: skip
    assert {t["checkpoint"] for t in told} == {pipe.sha256} and {t["truncation"] for t in told} == {0.7}
    assert Path(told[0]["path"]).is_file()


@pytest.mark.parametrize(
    "arguments",
    [
        ["a red dog, at night", "--num", "2", "--truncation", "0.8", "--seed", "3"],
        ["a cat", "a ball", "--num", "2", "--grid"],
        ["a cat", "a ball", "--interpolate", "4", "--between-seeds", "2", "9"],
        ["a café 犬 \x1b[31m", "--separate"],
        ["a cat", "--negative", "snow", "--guidance", "0.7"],
        ["a cat", "a ball", "--interpolate", "3", "--negative", "sand"],
        ["a cat", "a ball", "--interpolate", "4", "--out", "way.gif"],
    ],
)
def test_a_picture_is_drawn_again_from_what_it_says_byte_for_byte(arguments, capsys):
    (first,) = sample(capsys, *arguments)
    (second,) = sample(capsys, "--again", first)
    assert second != first and Path(first).read_bytes() == Path(second).read_bytes()


def test_what_is_not_wanted_is_pushed_away_from_and_told(pipe, capsys):
    (line,) = sample(capsys, "a dog", "--negative", "sand\n", "--json")
    told = json.loads(line)
    assert (told["negative"], told["guidance"]) == ("sand", 0.5)
    assert (pixels(told["path"]) == np.asarray(pipe("a dog", negative="sand", guidance=0.5))).all()
    (plain,) = sample(capsys, "a dog", "--json", "--out", "plain.png")
    assert json.loads(plain)["negative"] is None and (pixels("plain.png") != pixels(told["path"])).any()


def test_a_run_without_a_checkpoint_is_named_where_the_starter_weights_stand_in(capsys):
    Path("runs/mine").mkdir(parents=True)
    Path("runs/mine/config.yaml").touch()
    main(["a dog"])
    assert "runs/mine has no checkpoint to sample from yet" in capsys.readouterr().err


def test_words_of_the_negative_caption_that_training_never_saw_are_told(capsys):
    main(["a dog", "--negative", "a zebra"])
    assert "unknown words (not in the training captions): 'zebra'" in capsys.readouterr().err


def test_a_picture_from_before_negative_captions_is_drawn_again(capsys):
    from PIL.PngImagePlugin import PngInfo

    (first,) = sample(capsys, "a cat", "--seed", "3")
    with Image.open(first) as picture:
        about = {key: value for key, value in json.loads(picture.info["cgan"]).items() if key not in NEW}
        chunks = PngInfo()
        chunks.add_text("cgan", json.dumps(about))
        picture.save("old.png", pnginfo=chunks)
    (second,) = sample(capsys, "--again", "old.png")
    assert (pixels(first) == pixels(second)).all()


def test_an_interpolation_of_an_earlier_version_is_sampled_again(capsys):
    from PIL.PngImagePlugin import PngInfo

    (first,) = sample(capsys, "a cat", "a ball", "--interpolate", "3")
    with Image.open(first) as picture:
        about = json.loads(picture.info["cgan"])
        chunks = PngInfo()
        chunks.add_text("cgan", json.dumps({**about, "layout": "way"}))
        picture.save("old.png", pnginfo=chunks)
    (second,) = sample(capsys, "--again", "old.png")
    assert about["layout"] == "interpolation" and (pixels(first) == pixels(second)).all()


@pytest.mark.slow
def test_the_best_of_several_is_drawn_again_byte_for_byte(capsys):
    (first,) = sample(capsys, "a red car", "--best-of", "4", "--out", "one.png")
    (second,) = sample(capsys, "--again", first, "--out", "two.png")
    assert Path(first).read_bytes() == Path(second).read_bytes()


def test_weights_of_emoji_are_not_ranked_by_the_joint_encoder_of_scenes():
    with pytest.raises(UserError, match="comes without a joint encoder.*--joint"):
        main(["red apple", "--best-of", "2", "--checkpoint", "emoji-128.safetensors"])


@pytest.mark.slow
def test_weights_of_emoji_draw_at_128_pixels(capsys):
    (path,) = sample(capsys, "red apple", "--checkpoint", "emoji-128.safetensors")
    red, _, blue = pixels(path).astype(int)[40:90, 40:90].mean((0, 1))
    assert pixels(path).shape == (128, 128, 3) and red > blue + 100


def test_a_picture_of_other_weights_is_drawn_again_with_a_warning(pipe, capsys):
    pipe.save("half.safetensors", half=True)
    other = {name: value + 0.01 for name, value in pipe.tensors.items()}
    TextToImage(pipe.spec, other).save("other.safetensors")
    (path,) = sample(capsys, "a cat", "--checkpoint", "other.safetensors")
    main(["--again", path, "--checkpoint", "half.safetensors"])
    (line,) = capsys.readouterr().err.splitlines()
    assert "was sampled with other weights" in line and "other.safetensors" in line and "half.safetensors" in line


def test_metadata_names_no_folder_of_this_machine(pipe, capsys, workplace):
    pipe.save("weights.safetensors")
    (path,) = sample(capsys, "a cat", "--checkpoint", str(workplace / "weights.safetensors"))
    with Image.open(path) as picture:
        about = picture.info["cgan"]
    assert str(workplace.parent) not in about and json.loads(about)["checkpoint"]["sha256"] == pipe.sha256


@pytest.mark.parametrize(
    "about",
    [
        None, "no JSON", "[]", "{}", '{"captions": "a"}', "captions", "seeds", "layout", "truncation", "checkpoint",
        "best_of", "steps", "negative", "guidance", "few seeds",
    ],
)  # fmt: skip
def test_a_picture_that_says_nothing_or_nonsense_is_refused_in_one_line(about, capsys):
    from PIL.PngImagePlugin import PngInfo

    good = {"captions": ["a"], "seeds": [0], "layout": "row", "truncation": 1.0, "best_of": 1, "steps": 0}
    good |= {"batch_size": 1, "device": "cpu", "checkpoint": {}}
    wrong = {
        "captions": [7], "seeds": [2**40], "layout": "spiral", "truncation": float("nan"), "checkpoint": "x",
        "best_of": 10**9, "steps": 1.5, "negative": ["snow"], "guidance": -1.0,
    }  # fmt: skip
    if about in wrong:
        about = json.dumps({**good, about: wrong[about]})
    about = json.dumps({**good, "layout": "way", "steps": 4}) if about == "few seeds" else about
    chunks = PngInfo()
    if about is not None:
        chunks.add_text("cgan", about)
    Image.new("RGB", (8, 8)).save("some.png", pnginfo=chunks)
    with pytest.raises(UserError) as error:
        main(["--again", "some.png"])
    assert "\n" not in str(error.value)


def test_a_way_is_a_strip_or_an_animation(pipe, capsys):
    (strip,) = sample(capsys, "a red car", "a cat", "--interpolate", "5")
    assert pixels(strip).shape == (64, 5 * 64, 3)
    assert (pixels(strip)[:, -64:] == pipe.sample(["a cat"], [0])[0]).all()
    (film,) = sample(capsys, "a red car", "--between-seeds", "1", "2", "--interpolate", "6", "--out", "x.gif")
    with Image.open(film) as picture:
        assert film == "x.gif" and picture.n_frames == 6 and picture.size == (64, 64)
        first = np.asarray(picture.convert("RGB")).astype(int)
    assert abs(first - pipe.sample(["a red car"], [1])[0]).mean() < 6  # 256 colours


def test_a_way_is_drawn_again_as_strip_or_animation(capsys):
    (film,) = sample(capsys, "a cat", "--between-seeds", "1", "2", "--interpolate", "3", "--out", "x.gif")
    (strip,) = sample(capsys, "a cat", "--between-seeds", "1", "2", "--interpolate", "3")
    assert (pixels(sample(capsys, "--again", film, "--out", "x.png")[0]) == pixels(strip)).all()
    assert Path(sample(capsys, "--again", strip, "--out", "y.gif")[0]).read_bytes() == Path(film).read_bytes()


def test_what_shows_no_way_is_not_animated(capsys):
    (path,) = sample(capsys, "a cat")
    with pytest.raises(UserError, match="not an interpolation"):
        main(["--again", path, "--out", "x.gif"])


def test_a_film_or_a_foreign_gif_can_not_be_drawn_again():
    Path("x.mp4").write_bytes(b"....ftyp")
    Image.new("RGB", (8, 8)).save("x.gif", comment=b"\xff my holiday")
    for name, said in (("x.mp4", "an MP4 does not store"), ("x.gif", "holds no captions and seeds")):
        with pytest.raises(UserError, match=said) as error:
            main(["--again", name])
        assert "\n" not in str(error.value)


def test_a_film_says_what_to_install_or_is_written(capsys):
    try:
        import imageio_ffmpeg  # noqa: F401
    except ImportError:
        with pytest.raises(UserError, match="pip install"):
            main(["a cat", "a dog", "--interpolate", "4", "--out", "x.mp4"])
        assert not list(Path().iterdir())
    else:
        sample(capsys, "a cat", "a dog", "--interpolate", "4", "--out", "x.mp4")
        assert Path("x.mp4").read_bytes()[4:8] == b"ftyp"


@pytest.mark.parametrize(
    ("caption", "name"),
    [
        ("a dog on grass", "a-dog-on-grass"),
        ("../../etc/passwd", "etc-passwd"),
        ("/absolute", "absolute"),
        ("C:\\con", "c-con"),
        ("..", "caption"),
        ("🐕 !?", "caption"),
        ("", "caption"),
        ("a\x00b\nc\x1b", "a-b-c"),
        ("собака 犬", "собака-犬"),
    ],
)
def test_a_name_is_made_of_letters_and_digits(caption, name):
    assert slug(caption) == name


@pytest.mark.parametrize("caption", ["x" * 10_000, "犬" * 10_000, "𠀀" * 10_000, "a " * 5_000, "é\u0301" * 5_000])
def test_a_name_is_short_enough_for_any_file_system(caption):
    assert 0 < len(f"{slug(caption)}-{2**32}-10000.png.1234567.tmp".encode()) < 255


def test_a_caption_loses_control_characters_and_broken_text():
    assert cleaned(" a\tred\x00 \x1b[31mdog\udc80\n") == "a red [31mdog?"


def test_captions_of_equal_names_do_not_overwrite_one_another(pipe, capsys):
    paths = sample(capsys, "a cat!", "a cat?", "A CAT")
    assert len({path.lower() for path in paths}) == 3
    (later,) = sample(capsys, "a cat")
    assert later not in paths
    assert sample(capsys, "a cat?") != sample(capsys, "a cat!") == paths[:1]
    Path("samples/a-ball-0.png").write_bytes(b"something of the user's")
    sample(capsys, "a ball")
    assert Path("samples/a-ball-0.png").read_bytes() == b"something of the user's"


def test_numbers_follow_a_name_that_is_given(workplace):
    names = OutputPaths(Path("x.png"))
    assert [names.of(["a"], 0).name for _ in range(3)] == ["x.png", "x-1.png", "x-2.png"]


def test_nothing_outside_the_folder_is_touched(capsys, workplace):
    Path("samples.tmp").write_text("mine")
    Path("out").mkdir()
    sample(capsys, "../../up", "/abs", "..", "--out", "out/in", "--separate")
    assert sorted(path.name for path in Path("out/in").iterdir()) == ["abs-0.png", "caption-0.png", "up-0.png"]
    assert sorted(path.name for path in workplace.iterdir()) == ["out", "samples.tmp"]


def test_a_caption_of_ten_thousand_characters_is_drawn(capsys):
    (path,) = sample(capsys, "a red dog " * 1000, "--grid")
    assert pixels(path).shape[1] == 64 and len(path) < 120


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no caption"),
        (["a", "--num", "20000"], "from 1 to 10,000"),
        (["a", "--num", "0"], "from 1 to 10,000"),
        (["a", "b", "--num", "10000", "--grid"], "--separate"),
        (["a", "--seed", str(2**32)], "a seed is not from 0"),
        (["a", "--seed", "-1"], "a seed is not from 0"),
        (["a", "--truncation", "nan"], "truncation"),
        (["a", "--truncation", "-1"], "truncation"),
        (["a", "--best-of", "0"], "best-of"),
        (["a", "--negative", " \x00"], "--negative is empty"),
        (["a", "--negative", "snow", "--guidance", "nan"], "--guidance=nan: must be from 0 to 100"),
        (["a", "--negative", "snow", "--guidance", "-0.1"], "--guidance=-0.1: must be from 0 to 100"),
        (["a", "--guidance", "1"], "away from what"),
        (["--again", "x.png", "--negative", "snow"], "leave captions out, and --negative"),
        (["a", "--interpolate", "4"], "two captions"),
        (["a", "b", "--interpolate", "1"], "at least 2"),
        (["a", "b", "--interpolate", "4", "--num", "2"], "leave --num"),
        (["a", "--out", "x.gif"], "--interpolate"),
        (["a", "--out", "x.jpg"], ".png"),
        (["a", "--again", "x.png"], "leave captions out"),
        (["--again", "x.png"], "no such file"),
        (["a", "--captions", "gone.txt"], "no such file"),
        (["\x00\x1b"], "caption is empty"),
        (["a", "--device", "nothing"], "not available"),
        (["a", "--out", "file/deeper"], "can't be written"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(arguments, said, workplace):
    Path("file").write_text("")
    with pytest.raises(UserError, match=said) as error:
        main(arguments)
    assert "\n" not in str(error.value) and [path.name for path in workplace.iterdir()] == ["file"]


@pytest.mark.slow
def test_sampling_imports_nothing_heavy(workplace):
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from cgan.cli.sample import main; main(['a dog on grass']);"
        f"print([m for m in {HEAVY} if m in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=workplace, capture_output=True, text=True)
    assert ended.stdout.splitlines()[-1] == "[]", ended.stderr


def test_help_does_not_load_torch(workplace):
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from cgan.cli import run; from cgan.cli.sample import parser;"
        "parser().format_help(); print('torch' in sys.modules, 'numpy' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=workplace, capture_output=True, text=True)
    assert ended.stdout.split() == ["False", "False"], ended.stderr


def seconds(*command: str) -> float:
    """Of the processor, which a busy machine stretches less than those of the clock."""
    times = [os.times()]
    subprocess.run([sys.executable, *command], check=True, capture_output=True)
    times.append(os.times())
    return sum(getattr(times[1], name) - getattr(times[0], name) for name in ("children_user", "children_system"))


@pytest.mark.slow
def test_a_picture_costs_little_more_than_importing_torch():
    def costs_little() -> bool:
        of_torch = seconds("-c", "import torch")
        return seconds(str(ROOT / "sample.py"), "a dog on grass") < 1.5 * of_torch + 1

    assert costs_little() or costs_little()  # once more where a cold disk has made one of them dear


@pytest.mark.slow
def test_the_commands_of_the_page_on_sampling_run(capsys):
    """Each line of docs/sampling.md that begins with "python sample.py", but for optional packages."""
    Path("captions.txt").write_text("a red car\na cat\n")
    main(["a red dog", "--out", "p.png"])
    commands = re.findall(r"^python sample\.py (.*?)(?:  #.*)?$", PAGE, flags=re.MULTILINE)
    drawn = [sample(capsys, *shlex.split(c)) for c in commands if ".mp4" not in c and "OWNER" not in c]
    assert len(drawn) >= 9 and all(drawn)


def test_the_python_of_the_page_on_sampling_runs(capsys):
    sample(capsys, "a dog on grass")
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE))
    names: dict = {}
    exec(code.replace("assets/", f"{ROOT}/assets/"), names)
    assert len(names["several"]) == 4 and (names["arrays"][1] == np.asarray(names["others"][1])).all()
    assert json.loads(capsys.readouterr().out)["captions"] == ["a dog on grass"]


def test_a_prompt_without_a_known_word_gets_a_warning(capsys):
    main(["\U0001f436\U0001f333"])
    assert "no known word in '\U0001f436\U0001f333'" in capsys.readouterr().err
    main(["a dog with a zebra"])
    assert "no known word" not in capsys.readouterr().err
