import hashlib
import io
import json
import multiprocessing
import os
import pickle
import random
import signal
import tarfile
import threading
import time

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from cgan.cli.prepare import main
from cgan.data.checking import check_shards
from cgan.data.pictures import CaptionedPictures
from cgan.data.preparation import ShardOptions, write_shards
from cgan.data.readers.folder import read_folder
from cgan.data.shards import ShardedPictures, read_shards, scanned, sidecar_of
from cgan.data.sources import DataConfig, build_dataset
from cgan.interfaces import UserError
from helpers.disks import contents
from helpers.forked import SERVER, state_of
from helpers.pictures import no_one, shards_of

pytestmark = pytest.mark.usefixtures("cache")


def a_picture(seed, width=50, height=40):
    """Smooth, as photographs are, so that a JPEG comes near it."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def some_pictures(root, number=25):
    """Pictures of several kinds, one of them damaged, one missing and one without captions."""
    root.mkdir()
    rows = []
    for i in range(number):
        name = f"Bild ü{i}.{'png' if i % 3 else 'jpg'}"
        a_picture(i).convert("L" if i % 5 == 0 else "RGB").save(root / name)
        rows.append({"file_name": name, "text": [f'the {i}th, "so\ncalled"', "второй"][: 1 + i % 2]})
    (root / rows[3]["file_name"]).write_bytes(b"\x89PNG")
    rows[6]["file_name"] = "gone.png"
    rows[9]["text"] = [" "]
    (root / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return root


def samples(data):
    return [data[i] for i in range(len(data))]


def equal(some, others):
    return len(some) == len(others) and all(
        torch.equal(a.image, b.image) and a.captions == b.captions and a.image_id == b.image_id
        for a, b in zip(some, others, strict=True)
    )


def test_shards_hold_the_very_pixels_captions_and_ids_of_their_folder(tmp_path, cache):
    root = some_pictures(tmp_path / "pictures")
    folder = CaptionedPictures(read_folder(root), 32, cache, "here")
    shards_of(root, tmp_path / "out")
    shards = build_dataset(DataConfig("shards", str(tmp_path / "out"), resolution=32))
    assert len(shards) == 22 and equal(samples(shards), samples(folder))
    assert [shards.captions_of(i) for i in range(22)] == [folder.captions_of(i) for i in range(22)]


def test_jpeg_shards_come_near_their_folder(tmp_path, cache):
    root = some_pictures(tmp_path / "pictures")
    folder = CaptionedPictures(read_folder(root), 32, cache, "here")
    shards_of(root, tmp_path / "out", format="jpg", quality=95)
    shards = ShardedPictures(tmp_path / "out", 32, cache)
    ours, theirs = (torch.stack([s.image for s in samples(data)]).float() for data in (shards, folder))
    assert (ours - theirs).abs().mean() < 2.5 and (ours - theirs).abs().max() < 25  # of 255


def test_both_parts_of_shards_are_those_of_the_folder(tmp_path, cache):
    root = some_pictures(tmp_path / "pictures")
    shards_of(root, tmp_path / "out")
    folder = CaptionedPictures(read_folder(root), 32, cache, "here")
    shards = ShardedPictures(tmp_path / "out", 32, cache)
    assert all(equal(samples(a), samples(b)) for a, b in zip(shards.split(5, 3), folder.split(5, 3), strict=True))
    with pytest.raises(UserError, match="data.test_images=22: there are only 22"):
        shards.split(22, 0)


def test_the_manifest_counts_hashes_and_names_what_was_left_out(tmp_path):
    root = some_pictures(tmp_path / "pictures")
    shards_of(root, tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["samples"] == 22 and [shard["samples"] for shard in manifest["shards"]] == [6, 8, 8]
    assert sorted(manifest["skipped"]) == sorted(
        [["Bild ü3.jpg", "damaged or not a picture"], ["gone.png", "missing"], ["Bild ü9.jpg", "no caption"]]
    )
    for shard in manifest["shards"]:
        content = (tmp_path / "out" / shard["name"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == shard["sha256"] and len(content) == shard["bytes"]


def test_the_number_of_workers_and_the_hour_change_no_byte(tmp_path):
    root = some_pictures(tmp_path / "pictures")
    shards_of(root, tmp_path / "one", num_workers=1)
    os.utime(root / "metadata.jsonl", (0, 0))
    shards_of(root, tmp_path / "three", num_workers=3)
    assert contents(tmp_path / "one") == contents(tmp_path / "three")


@pytest.mark.slow
@pytest.mark.parametrize("after", [1, 8, 13, 20])
def test_what_was_interrupted_goes_on_to_the_same_bytes(tmp_path, after):
    root = some_pictures(tmp_path / "pictures")

    def stop(done, total):
        if done >= after + 1:  # one has no caption and counts from the beginning
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shards_of(root, tmp_path / "halted", advance=stop)
    finished = {file.name for file in (tmp_path / "halted").glob("*.tar")}
    with pytest.raises(UserError, match="not finished; run the same cgan prepare again"):
        build_dataset(DataConfig("shards", str(tmp_path / "halted")))
    shards_of(root, tmp_path / "halted")
    shards_of(root, tmp_path / "whole")
    assert len(finished) == (after - 1) // 8 and contents(tmp_path / "halted") == contents(tmp_path / "whole")


def until_stopped(root, out, wanted, delay):
    """Write shards; `delay` seconds after so many pictures this process stops where it is, to be killed there."""

    def advance(done, total):
        if done == wanted:
            threading.Timer(delay, os.kill, (os.getpid(), signal.SIGSTOP)).start()
        if done >= wanted:
            time.sleep(0.05)  # what is left takes longer than the delay

    multiprocessing.set_start_method(None, force=True)  # workers are forks of this process
    shards_of(root, out, format="jpg", shard_size=8, num_workers=2, advance=advance)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_killed_at_a_random_moment_and_run_again_the_bytes_are_the_same(tmp_path, seed):
    root = tmp_path / "pictures"
    root.mkdir()
    for i in range(160):
        a_picture(i, 500, 400).save(root / f"{i}.jpg")
        (root / f"{i}.txt").write_text(f"number {i}")
    shards_of(root, tmp_path / "whole", format="jpg", shard_size=8)
    chance = random.Random(seed)
    for wanted in sorted(chance.sample(range(8, 145), 2)):  # pictures
        process = SERVER.Process(target=until_stopped, args=(root, tmp_path / "killed", wanted, chance.uniform(0, 0.1)))
        process.start()
        while state_of(process.pid) != "T":
            assert process.is_alive()
            time.sleep(0.01)
        workers = open(f"/proc/{process.pid}/task/{process.pid}/children").read().split()
        process.kill()
        process.join()
        deadline = time.monotonic() + 300
        while any(state_of(worker) != "Z" for worker in workers):  # none is left behind
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert len(workers) == 2 and (tmp_path / "killed" / "unfinished.json").is_file()
    shards_of(root, tmp_path / "killed", format="jpg", shard_size=8)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


@pytest.mark.parametrize(
    ("change", "said"),
    [({"size": 64}, "with size=32"), ({"crop": "none"}, "with crop=center"), ({"shard_size": 9}, "with shard_size=8")],
)
def test_other_options_than_a_folder_was_begun_with_are_one_line(tmp_path, change, said):
    root = some_pictures(tmp_path / "pictures")
    shards_of(root, tmp_path / "out")
    with pytest.raises(UserError, match=f"was begun {said}; give --out a new folder"):
        shards_of(root, tmp_path / "out", **change)


def test_other_pictures_than_a_folder_was_begun_with_are_one_line(tmp_path):
    root = some_pictures(tmp_path / "pictures")
    shards_of(root, tmp_path / "out")
    a_picture(99).save(root / "gone.png")
    with pytest.raises(UserError, match="of other pictures or captions"):
        shards_of(root, tmp_path / "out")


def test_a_folder_with_something_else_is_not_written_into(tmp_path):
    root = some_pictures(tmp_path / "pictures")
    with pytest.raises(UserError, match="there is something else"):
        shards_of(root, root)


def test_a_shard_that_was_deleted_is_made_anew(tmp_path):
    root = some_pictures(tmp_path / "pictures")
    shards_of(root, tmp_path / "out")
    whole = contents(tmp_path / "out")
    (tmp_path / "out" / "shard-00001.tar").unlink()
    with pytest.raises(UserError, match="shard-00001.tar: missing"):
        build_dataset(DataConfig("shards", str(tmp_path / "out")))
    shards_of(root, tmp_path / "out")
    assert contents(tmp_path / "out") == whole


def test_the_index_beside_a_shard_is_what_reading_through_it_finds(tmp_path, cache):
    shards_of(some_pictures(tmp_path / "pictures"), tmp_path / "out")
    shards = sorted((tmp_path / "out").glob("*.tar"))
    assert [json.loads(sidecar_of(shard).read_text())["index"] for shard in shards] == [scanned(s) for s in shards]
    before = samples(ShardedPictures(tmp_path / "out", 32, cache))
    for shard in shards:
        sidecar_of(shard).unlink()
    assert equal(samples(ShardedPictures(tmp_path / "out", 32, cache / "another")), before)


def test_shards_can_be_prepared_again(tmp_path, cache):
    shards_of(some_pictures(tmp_path / "pictures"), tmp_path / "first")
    entries = read_shards(tmp_path / "first", cache)
    write_shards(entries, tmp_path / "second", ShardOptions(32, format="png", shard_size=5), 2, no_one)
    data = [samples(ShardedPictures(tmp_path / name, 32, cache)) for name in ("first", "second")]
    assert equal(*data)


@pytest.mark.parametrize("context", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_read_what_one_process_reads(tmp_path, cache, context):
    shards_of(some_pictures(tmp_path / "pictures"), tmp_path / "out")
    data = ShardedPictures(tmp_path / "out", 32, cache)
    alone = samples(data)  # the shards are open from here on
    loader = DataLoader(data, None, num_workers=2, multiprocessing_context=context)
    assert equal(list(loader), alone) and equal(samples(pickle.loads(pickle.dumps(data))), alone)


def test_a_picture_that_is_kept_whole_is_cropped_by_the_draw(tmp_path, cache):
    root = some_pictures(tmp_path / "pictures")
    shards_of(root, tmp_path / "out", crop="none")
    middle = ShardedPictures(tmp_path / "out", 32, cache)
    anywhere = ShardedPictures(tmp_path / "out", 32, cache, crop="random", flip=True, seed=1)
    whole = Image.open(io.BytesIO(read_shards(tmp_path / "out", cache)[0].picture.open("rb").read()))
    drawn = [anywhere.drawn(0, draw).image for draw in range(40)]
    assert whole.size == (40, 32) and drawn[0].shape == middle[0].image.shape == (3, 32, 32)
    assert all(torch.equal(anywhere.drawn(0, draw).image, drawn[draw]) for draw in range(40))
    pixels = torch.from_numpy(np.array(whole.convert("RGB"))).permute(2, 0, 1)
    places = [pixels[:, :, left : left + 32] for left in range(9)]
    places += [place.flip(2) for place in places]
    found = {next(i for i, place in enumerate(places) if torch.equal(place, image)) for image in drawn}
    assert len(found) > 9


def test_random_crops_are_decided_by_the_seed_and_the_place_in_the_list(tmp_path):
    root = some_pictures(tmp_path / "pictures")
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        shards_of(root, tmp_path / name, crop="random", seed=seed)
    one, same, other = (contents(tmp_path / name)["shard-00000.tar"] for name in ("one", "same", "other"))
    assert one == same != other


def write_tar(file, members):
    with tarfile.open(file, "w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def encoded(seed, kind="JPEG", **options):
    content = io.BytesIO()
    a_picture(seed).save(content, kind, **options)
    return content.getvalue()


def tars_of_img2dataset(root):
    """Two shards as img2dataset writes them: with a picture that was not to be had, and one without a caption."""
    root.mkdir()
    for number in (0, 1):
        members = {}
        for i in range(3):
            key = f"{number:05d}{i:04d}"
            about = {"url": "https://example.org/a.jpg", "caption": f"caption, {key}", "key": key, "status": "success"}
            members |= {f"{key}.jpg": encoded(i), f"{key}.json": json.dumps(about).encode()}
            members |= {f"{key}.txt": f"caption, {key}".encode()}
        members |= {f"{number:05d}0008.json": b'{"caption": "not fetched"}'}
        members |= {f"{number:05d}0009.jpg": encoded(9), f"{number:05d}0009.json": b'{"caption": null}'}
        write_tar(root / f"{number:05d}.tar", members)
        (root / f"{number:05d}_stats.json").write_text("{}")
    return root


def test_tars_of_img2dataset_are_read_as_they_are(tmp_path, cache):
    data = ShardedPictures(tars_of_img2dataset(tmp_path / "tars"), 32, cache)
    assert [data.captions_of(i)[0][-9:] for i in range(len(data))] == [
        f"0000{n}000{i}" for n in (0, 1) for i in range(3)
    ]
    assert [sample.image_id for sample in samples(data)] == list(range(6)) and data[5].image.shape == (3, 32, 32)


def test_tars_hold_any_picture_and_captions_as_text(tmp_path, cache):
    (tmp_path / "tars").mkdir()
    long = "a folder with a very long name/" * 6 + "picture"
    members = {"a.png": encoded(0, "PNG"), "a.txt": b"one caption\nin two lines"}
    members |= {f"{long}.webp": encoded(1, "WEBP"), f"{long}.txt": "ünï".encode(), "c.bmp": encoded(2, "BMP")}
    members |= {"c.json": b'{"captions": ["x", "y"]}', "d.jpg": b"", "d.txt": b"damaged"}
    write_tar(tmp_path / "tars" / "x.tar", members)
    data = ShardedPictures(tmp_path / "tars", 32, cache)
    assert [data.captions_of(i) for i in range(3)] == [["one caption\nin two lines"], ["ünï"], ["x", "y"]]
    assert all(data[i].image.shape == (3, 32, 32) for i in range(3))
    assert len(data) == 3 and data.skipped == [("x.tar: d.jpg", "damaged or not a picture")]


def test_a_rotated_photograph_in_a_tar_stands_upright(tmp_path, cache):
    exif = Image.Exif()
    exif[274] = 6
    (tmp_path / "tars").mkdir()
    write_tar(tmp_path / "tars" / "x.tar", {"a.jpg": encoded(0, exif=exif, quality=95, subsampling=0), "a.txt": b"x"})
    expected = Image.open(io.BytesIO(encoded(0, quality=95, subsampling=0))).transpose(Image.Transpose.ROTATE_270)
    pixels = torch.from_numpy(np.array(expected.crop((0, 5, 40, 45)))).permute(2, 0, 1).float()
    assert (ShardedPictures(tmp_path / "tars", 40, cache)[0].image - pixels).abs().max() < 6


def test_webdataset_reads_our_shards(tmp_path):
    webdataset = pytest.importorskip("webdataset")
    manifest = shards_of(some_pictures(tmp_path / "pictures"), tmp_path / "out")
    urls = [str(tmp_path / "out" / shard["name"]) for shard in manifest["shards"]]
    theirs = list(webdataset.WebDataset(urls, shardshuffle=False).decode("rgb8"))
    ours = samples(build_dataset(DataConfig("shards", str(tmp_path / "out"), resolution=32)))
    assert [sample["json"]["captions"] for sample in theirs] == [sample.captions for sample in ours]
    for a, b in zip(theirs, ours, strict=True):
        assert (a["png"] == b.image.permute(1, 2, 0).numpy()).all()


def test_a_shard_that_is_cut_off_is_one_line(tmp_path):
    root = tars_of_img2dataset(tmp_path / "tars")
    (root / "00001.tar").write_bytes((root / "00001.tar").read_bytes()[:1500])
    with pytest.raises(UserError, match="00001.tar: cut off") as error:
        build_dataset(DataConfig("shards", str(root)))
    assert "\n" not in str(error.value)


def test_a_folder_without_shards_is_one_line(tmp_path):
    with pytest.raises(UserError, match="holds no .tar file"):
        build_dataset(DataConfig("shards", str(tmp_path)))


def faults_of(root):
    return list(check_shards(root, 2, no_one))


def flip_a_byte_of_a_picture(shard):
    content = bytearray(shard.read_bytes())
    content[scanned(shard)[2][0] + 60] ^= 0xFF
    shard.write_bytes(content)


def cut_in_half(shard):
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2 // 512 * 512 + 7])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (flip_a_byte_of_a_picture, "shard-00001.tar: its bytes are not those that were written"),
        (flip_a_byte_of_a_picture, "shard-00001.tar, sample 000000010: the picture is damaged"),
        (cut_in_half, "shard-00001.tar: cut off"),
        (lambda shard: shard.unlink(), "shard-00001.tar: missing"),
        (lambda shard: (shard.parent / "other.tar").write_bytes(shard.read_bytes()), "other.tar: not in manifest.json"),
        (lambda shard: (shard.parent / "manifest.json").write_text("{"), "manifest.json: damaged"),
        (lambda shard: sidecar_of(shard).write_text("{}"), "shard-00001.json: does not fit"),
        (lambda shard: (shard.parent / "unfinished.json").write_text("{}"), "the preparation has not ended"),
    ],
)
def test_a_check_says_what_is_wrong_and_where(tmp_path, damage, said):
    shards_of(some_pictures(tmp_path / "pictures"), tmp_path / "out")
    assert faults_of(tmp_path / "out") == []
    damage(tmp_path / "out" / "shard-00001.tar")
    assert any(said in fault for fault in faults_of(tmp_path / "out"))


def test_a_check_of_foreign_tars_names_samples_without_picture_or_caption(tmp_path):
    faults = faults_of(tars_of_img2dataset(tmp_path / "tars"))
    said = {f"{n:05d}.tar, sample {n:05d}{key}" for n in (0, 1) for key in ("0008: no picture", "0009: no caption")}
    assert {fault.rpartition("/")[2] for fault in faults} == said


def test_the_command_writes_shards_and_checks_them(tmp_path, capsys):
    root = some_pictures(tmp_path / "pictures")
    settings = ["configs/gan/folder.yaml", f"data.root={root}"]
    main([*settings, "--out", str(tmp_path / "out"), "--size", "32", "--workers", "2"])
    said = capsys.readouterr().out
    assert "22 pictures with 32 captions in 1 shards" in said and "skipped 3: " in said
    main(["--check", str(tmp_path / "out")])
    assert capsys.readouterr().out == "nothing is wrong\n"
    for arguments in (["--check", str(root)], ["--check", *settings]):
        with pytest.raises(UserError, match="3 things are wrong|4 things are wrong"):
            main(arguments)
        said = capsys.readouterr().out
        assert "gone.png: missing" in said and "Bild ü3.jpg: damaged" in said and "Bild ü9.jpg: no caption" in said


def test_a_check_of_a_folder_names_pictures_that_no_caption_mentions(tmp_path, capsys):
    root = some_pictures(tmp_path / "pictures")
    with pytest.raises(UserError):
        main(["--check", str(root)])
    assert "Bild ü6.jpg: no line of the captions names it" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "nothing to prepare"),
        (["configs/gan/folder.yaml"], "data.root is not set"),
        (["configs/gan/folder.yaml", "data.root=ROOT"], "--out is not given"),
        (["configs/gan/folder.yaml", "data.root=ROOT", "--out", "x", "--size", "1"], "--size 1: give"),
        (["configs/gan/folder.yaml", "data.root=ROOT", "--out", "x", "--quality", "0"], "--quality 0"),
        (["configs/gan/folder.yaml", "data.root=ROOT", "--out", "x", "--shard-size", "0"], "--shard-size"),
        (["configs/gan/folder.yaml", "data.root=ROOT", "--out", "ROOT"], "there is something else"),
        (["--check", "nowhere"], "nowhere: expected a .yaml file or key=value"),
    ],
)
def test_a_mistake_in_the_command_is_one_line(tmp_path, arguments, said):
    root = some_pictures(tmp_path / "pictures")
    with pytest.raises(UserError, match=said) as error:
        main([argument.replace("ROOT", str(root)) for argument in arguments])
    assert "\n" not in str(error.value)


def test_random_crops_of_a_source_that_has_none_are_one_line():
    with pytest.raises(UserError, match="data.crop=random is for shards"):
        build_dataset(DataConfig("folder", "x", crop="random"))
