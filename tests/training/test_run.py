"""train(config) as a library call: what it returns and takes, and what it leaves alone."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from cgan.cli.train import with_default_config, with_resume_as_key
from cgan.config import load_config
from cgan.errors import UserError
from cgan.interfaces import Sample, TextEncoder, TextFeatures
from cgan.resources import STARTER_JOINT
from cgan.sampling.pipeline import TextToImage
from cgan.training.build import build_gan
from cgan.training.resume import budget, note_done
from cgan.training.run import TrainResult, train
from cgan.training.run_directory import write_settings

COLOURS = {"red": (220, 20, 20), "blue": (20, 20, 220)}
TINY = """data.num_images=32 data.resolution=32 gan.generator.width=4 gan.generator.max_channels=16
    gan.discriminator.width=4 gan.discriminator.form=trunk gan.adversarial_from=0 trainer.images=64
    trainer.batch_size=16 trainer.evaluate_every=0 trainer.wandb=disabled trainer.precision=32-true""".split()


class Cards:
    """Pictures of one colour each, with their captions."""

    def __init__(self, resolution: int = 32) -> None:
        self.resolution = resolution

    def __len__(self) -> int:
        return 32

    def captions_of(self, index: int) -> list[str]:
        return [f"a {list(COLOURS)[index % 2]} card"]

    def __getitem__(self, index: int) -> Sample:
        colour = torch.tensor(list(COLOURS.values())[index % 2], dtype=torch.uint8)
        image = colour[:, None, None].expand(3, self.resolution, self.resolution).contiguous()
        return Sample(image, self.captions_of(index), index)


class Hashed(TextEncoder):
    """Words as rows of a fixed table."""

    dim = 16

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(64, self.dim)

    def forward(self, captions: list[str]) -> TextFeatures:
        ids = [[sum(map(ord, word)) % 64 for word in caption.split()] for caption in captions]
        rows = [self.table(torch.tensor(each, device=self.table.weight.device)) for each in ids]
        words = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        lengths = torch.tensor([len(row) for row in rows], device=words.device)
        mask = torch.arange(words.shape[1], device=words.device) < lengths[:, None]
        return TextFeatures(words.sum(dim=1) / lengths[:, None], words, mask)

    def unknown_words(self, captions: list[str]) -> list[str]:
        return []

    def spec(self) -> dict:
        return {"encoder": "hashed"}


class CountSteps(pl.Callback):
    """Counts the steps of a training."""

    steps = 0

    def on_train_batch_end(self, *_) -> None:
        self.steps += 1


def tv_loss(fakes: Tensor, real: Tensor, text: TextFeatures) -> Tensor:
    return (fakes[..., 1:] - fakes[..., :-1]).abs().mean()


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> tuple[TrainResult, Hashed, CountSteps, list[str], dict, str]:
    """A training on a data set, text encoder, loss and callback of one's own; what it reported and left behind."""
    folder, encoder, counter, messages = tmp_path_factory.mktemp("own"), Hashed(), CountSteps(), []
    evaluated = [f"trainer.eval_joint_encoder={STARTER_JOINT}", "trainer.metrics=[fid]", "trainer.evaluate_every=160"]
    config = load_config([*TINY, *evaluated, "trainer.images=320", f"run_dir={folder / 'run'}"])
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    before = repr(config)
    losses = {"smoothness": tv_loss}
    result = train(config, Cards(), encoder, [counter], extra_losses=losses, report=messages.append)
    assert repr(config) == before
    return result, encoder, counter, messages, handlers, before


def test_own_parts_train_without_a_change_of_the_package(own):
    result, _, counter, messages, _, _ = own
    assert (result.status, result.exit_status, result.images_seen, counter.steps) == ("finished", 0, 320, 20)
    assert result.checkpoint == result.run_dir / "last.ckpt" and result.checkpoint.is_file()
    assert any("32 pictures at 32 px" in message for message in messages)
    assert result.metrics["joint/frechet_distance"] > 0 and (result.run_dir / "best.ckpt").is_file()
    assert "loss/smoothness" in (result.run_dir / "metrics.csv").read_text().splitlines()[0].split(",")


def test_a_run_of_own_parts_says_so_and_samples_with_the_encoder_it_is_given(own):
    result, encoder, *_ = own
    stored = load_config([str(result.run_dir / "config.yaml")])
    assert (stored.data.source, stored.text.encoder) == ("custom", "custom")
    with pytest.raises(UserError, match="the text encoder 'hashed' is not one of cgan's; give it in Python"):
        TextToImage.from_pretrained(result.run_dir)
    pipe = TextToImage.from_pretrained(result.run_dir, Hashed())
    assert torch.equal(pipe.text_encoder.table.weight, encoder.table.weight)
    assert pipe("a red card").size == (32, 32)


def test_a_run_of_own_parts_resumes_with_them_and_is_refused_without(own):
    result, *_ = own
    config = load_config([f"resume={result.run_dir}", "trainer.images=352"])
    with pytest.raises(UserError, match="data.source=custom: give the data set in Python"):
        train(config)
    longer = train(config, Cards(), Hashed())
    assert (longer.status, longer.images_seen, longer.run_dir) == ("finished", 352, result.run_dir)
    again = train(config, Cards(), Hashed())
    assert (again.status, again.images_seen) == ("already finished", 0)


def test_signal_handlers_stay_as_they_were(own):
    handlers = own[4]
    assert handlers == {number: signal.getsignal(number) for number in handlers}


@pytest.mark.slow
def test_a_library_call_prints_nothing(tmp_path):
    code = f"""if True:
        import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_run import Cards, Hashed, TINY
        from cgan import load_config, train
        train(load_config([*TINY, "run_dir=run", "trainer.images=16"]), Cards(), Hashed())"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0 and ended.stdout == "", ended.stderr
    assert (tmp_path / "run/last.ckpt").is_file()


def test_an_extra_loss_moves_the_generator(tmp_path):
    weights = []
    for factor in (0.0, 100.0):
        torch.manual_seed(0)
        config = load_config([*TINY, "trainer.images=16", f"run_dir={tmp_path / str(factor)}"])
        losses = {"smoothness": lambda fakes, real, text, factor=factor: factor * tv_loss(fakes, real, text)}
        result = train(config, Cards(), Hashed(), extra_losses=losses)
        weights.append(torch.load(result.checkpoint, weights_only=True)["state_dict"]["generator.to_image.0.weight"])
    assert not torch.equal(*weights)


def test_a_gan_is_built_from_a_configuration_and_an_encoder():
    gan = build_gan(load_config(TINY), text_encoder=Hashed())
    assert gan.text_encoder.dim == 16 and not any(p.requires_grad for p in gan.text_encoder.parameters())
    with pytest.raises(UserError, match="this GAN stands on a joint encoder: set joint.checkpoint"):
        build_gan(load_config(TINY))


@pytest.mark.parametrize(
    ("dataset", "said"),
    [(Cards(64), r"are \(3, 64, 64\) uint8; data.resolution=32"), ([], "the data set is empty")],
)
def test_a_data_set_that_keeps_no_contract_is_one_line(dataset, said, tmp_path):
    with pytest.raises(UserError, match=said):
        train(load_config([*TINY, f"run_dir={tmp_path / 'run'}"]), dataset, Hashed())


# ---------------------------------------------------------------------------------------------- configurations


def test_a_mistake_is_told_before_processes_look_for_a_common_run_directory(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="init=nowhere.ckpt: no such file"):
        train(load_config([*TINY, "init=nowhere.ckpt"]))


def test_a_finished_run_is_finished_though_its_files_are_gone(tmp_path):
    config = load_config([*TINY, "init=gone.ckpt", "data.source=folder", "data.root=gone"])
    write_settings(config, tmp_path)
    note_done(tmp_path, "gan", budget(config))
    told: list[str] = []
    result = train(load_config([f"resume={tmp_path}"]), report=told.append)
    assert result.status == "already finished" and told[0].startswith(f"{tmp_path} is finished")


@pytest.mark.parametrize("name", ["configs/gan/scenes.yaml", "gan/scenes.yaml"])
def test_shipped_configurations_are_found_in_any_folder(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config([name]).name == "scenes"
    (tmp_path / "gan").mkdir()
    (tmp_path / "gan/scenes.yaml").write_text("name: mine\n")
    assert load_config(["gan/scenes.yaml"]).name == "mine"


@pytest.mark.parametrize("name", ["nowhere.yaml", "../configs/gan/scenes.yaml", "/gan/scenes.yaml", "configs/no.yaml"])
def test_other_configurations_are_not(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no such file; configs/gan/scenes.yaml is one to start from"):
        load_config([name])


def test_arguments_become_settings():
    assert with_resume_as_key(["--resume", "runs/a", "seed=1"]) == ["resume=runs/a", "seed=1"]
    assert with_default_config(["resume=runs/a"]) == ["resume=runs/a"]
    assert with_default_config(["a.yaml", "seed=1"]) == ["a.yaml", "seed=1"]
    assert [Path(with_default_config(some)[0]).name for some in ([], ["resume=auto"])] == ["scenes.yaml"] * 2
