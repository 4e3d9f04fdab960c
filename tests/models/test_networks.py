import pytest
import torch
from torch.nn import functional as F
from torchvision.models import resnet18, resnet50
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.transforms import v2

from cgan.interfaces import TextFeatures, UserError
from cgan.models.augment import augment, cut_out, draw_augmentation, translate
from cgan.models.decoders import CaptionDecoder, DecoderConfig, PictureDecoder
from cgan.models.discriminator import Discriminator, DiscriminatorConfig, Head
from cgan.models.encoders.imagenet import ImageNetEncoder
from cgan.models.encoders.resnet import (
    BlurredConv2d,
    ImageEncoderConfig,
    ResNet50,
    SmallResNet,
    SubsampledConv2d,
    build_image_encoder,
)
from cgan.models.flow_prior import FlowMatchingPrior, WordFlowPrior
from cgan.models.generators import build_generator
from cgan.models.generators.base import Generator, GeneratorConfig
from cgan.models.latent_prior import CouplingPrior, NoPrior, sentence_alone
from cgan.models.posterior import Posterior
from cgan.models.priors import build_prior
from helpers.forked import SERVER
from helpers.gan import some_text


def tiny_generator(resolution: int = 32, **settings) -> Generator:
    config = GeneratorConfig(noise_dim=8, style_dim=16, width=4, max_channels=16, **settings)
    return build_generator(config, resolution, text_dim=16)


@pytest.mark.parametrize("resolution", [32, 64, 128, 256, 512])
def test_generator_draws_at_every_resolution_within_range(resolution):
    images = tiny_generator(resolution)(torch.randn(2, 8), some_text())
    assert images.shape == (2, 3, resolution, resolution) and images.abs().max() <= 1


def test_a_new_generator_draws_no_checkerboard():
    images = tiny_generator(low_pass=0.0)(torch.randn(2, 8), some_text())
    patches = images.unfold(2, 2, 2).unfold(3, 2, 2).flatten(-2)
    assert (patches.amax(-1) - patches.amin(-1)).max() < 1e-5


def test_caption_and_noise_both_change_the_picture():
    generator, noise, text = tiny_generator(), torch.randn(2, 8), some_text()
    images = generator(noise, text)
    assert not torch.allclose(images, generator(-noise, text))
    assert not torch.allclose(images, generator(noise, text._replace(sentence=-text.sentence)))


def test_padding_words_do_not_change_the_picture():
    torch.manual_seed(0)
    generator, noise, text = tiny_generator(word_attention=True), torch.randn(2, 8), some_text()
    torch.nn.init.normal_(generator.attention["16"].merge.weight)
    padded = text.words.masked_fill(~text.mask[:, :, None], 100.0)
    assert torch.allclose(generator(noise, text), generator(noise, text._replace(words=padded)), atol=1e-5)


@pytest.mark.parametrize("spectral_norm", [True, False])
def test_discriminator_has_a_head_for_the_trunk_and_for_each_map(spectral_norm):
    config = DiscriminatorConfig(width=4, max_channels=16, head_dim=8, spectral_norm=spectral_norm)
    discriminator = Discriminator(config, 32, text_dim=16, map_channels=[6, 12])
    maps = [torch.randn(2, 6, 8, 8), torch.randn(2, 12, 4, 4)]
    assert discriminator(torch.randn(2, 3, 32, 32), torch.randn(2, 16), maps).shape == (2, 3)


def test_logits_depend_on_the_caption():
    discriminator = Discriminator(DiscriminatorConfig(form="trunk", width=4, max_channels=16), 32, text_dim=16)
    hidden = discriminator.features(torch.randn(2, 3, 32, 32), [])
    first, second = (discriminator.logits(hidden, torch.randn(2, 16)) for _ in range(2))
    assert not torch.allclose(first, second)


def some_prior() -> CouplingPrior:
    torch.manual_seed(0)
    prior = CouplingPrior(noise_dim=5, text_dim=3, num_layers=4, hidden_dim=16)
    for parameter in prior.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return prior


def test_the_density_of_the_prior_is_that_of_the_noise_over_the_jacobian():
    prior, noise, sentence = some_prior(), torch.randn(4, 5), torch.randn(4, 3)
    latent = prior(noise, sentence_alone(sentence))
    for i in range(4):
        text = sentence_alone(sentence[i : i + 1])
        jacobian = torch.autograd.functional.jacobian(lambda z: prior(z[None], text)[0], noise[i])  # noqa: B023
        expected = torch.distributions.Normal(0.0, 1.0).log_prob(noise[i]).sum() - jacobian.slogdet().logabsdet
        assert prior.log_density(latent, sentence)[i].item() == pytest.approx(expected.item(), rel=1e-3, abs=1e-3)


@pytest.mark.parametrize(("form", "num_layers"), [("couplings", 6), ("flow_matching", 2), ("word_flow", 2)])
def test_a_prior_learns_a_distribution_that_depends_on_the_caption(form, num_layers):
    torch.manual_seed(0)
    prior, generator = build_prior(form, 4, 2, num_layers, hidden_dim=32), torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(prior.parameters(), 3e-3)
    sentence = torch.eye(2).repeat(128, 1)
    text = sentence_alone(sentence)
    for _ in range(300):
        side = torch.randint(0, 2, (256, 1), generator=generator) * 2.0 - 1
        target = torch.cat([side, side, side, side], 1) * (1 + 2 * sentence[:, :1])  # two modes at 3 or at 1
        latent = target + 0.3 * torch.randn(256, 4, generator=generator)
        chance = torch.randn(256, 4, generator=generator), torch.rand(256, 1, generator=generator)
        loss = prior.loss(latent, text, *chance)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    size = prior(torch.randn(256, 4, generator=generator), text).detach().abs().mean(dim=1)
    assert size[::2].mean() == pytest.approx(3, abs=0.4) and size[1::2].mean() == pytest.approx(1, abs=0.2)


def test_a_prior_starts_as_the_noise_itself():
    noise, text = torch.randn(3, 5), some_text(3, dim=4)
    for prior in (build_prior("word_flow", 5, 4, 2, 16), build_prior("flow_matching", 5, 4, 2, 16), NoPrior()):
        assert torch.allclose(prior(noise, text), noise)
    assert isinstance(build_prior("couplings", 5, 4, num_layers=0, hidden_dim=16), NoPrior)


def test_flow_matching_finds_the_straight_way_to_a_single_latent():
    """The best velocity towards a point z is (z - x) / (1 - t); its loss at any other is what it misses it by."""
    prior, goal, text = FlowMatchingPrior(5, 4, 2, 16), torch.randn(1, 5), some_text(64, dim=4)
    prior.velocity = lambda x, time, given, told: (goal - x) / (1 - time)
    noise = torch.randn(64, 5)
    assert torch.allclose(prior(noise, text), goal.expand(64, 5), atol=1e-4)
    assert prior.loss(goal.expand(64, 5), text, noise, torch.rand(64, 1)) < 1e-8
    prior.velocity = lambda x, time, given, told: (goal - x) / (1 - time) + 2
    assert prior.loss(goal.expand(64, 5), text, noise, torch.rand(64, 1)).item() == pytest.approx(4, rel=1e-3)


@pytest.mark.parametrize("guidance", [1.0, 2.0, 3.0])
def test_guidance_goes_further_with_the_caption_away_from_none(guidance):
    """Without a caption latents are at 0; a caption moves them by its sentence, guidance that many times as far."""
    prior, text = FlowMatchingPrior(5, 5, 2, 16, guidance), some_text(64, dim=5)
    prior.velocity = lambda x, time, given, told: (given * told[..., :1] - x) / (1 - time)
    goal = 5**0.5 * torch.nn.functional.normalize(text.sentence)  # the prior sees sentences at this length
    torch.testing.assert_close(prior(torch.randn(64, 5), text), guidance * goal, atol=1e-4, rtol=1e-4)


def some_word_prior(guidance: float = 1.0) -> WordFlowPrior:
    torch.manual_seed(0)
    prior = WordFlowPrior(5, 16, 2, 16, guidance)
    for weight in prior.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    return prior.requires_grad_(False)


def test_latents_depend_on_words_but_not_on_padding():
    prior, noise, text = some_word_prior(2.0), torch.randn(2, 5), some_text()
    other = text.words + text.mask[..., None]
    padded = text.words + 9 * ~text.mask[..., None]
    assert not torch.allclose(prior(noise, text), prior(noise, text._replace(words=other)), atol=1e-3)
    torch.testing.assert_close(prior(noise, text), prior(noise, text._replace(words=padded)))


def test_words_that_are_kept_from_the_prior_are_as_none():
    prior, noise, time, text = some_word_prior(), torch.randn(6, 5), torch.rand(6, 1), some_text()
    told = torch.tensor([1.0, 0.0]).expand(6, 2)
    without = prior.loss(noise + 1, sentence_alone(text.sentence), noise, time)
    torch.testing.assert_close(prior.loss(noise + 1, text, noise, time, told), without)
    assert abs(prior.loss(noise + 1, text, noise, time) - without) > 1e-4


def test_the_loss_of_several_latents_of_a_caption_is_that_of_the_caption_repeated():
    prior, noise, time, text = some_word_prior(), torch.randn(6, 5), torch.rand(6, 1), some_text()
    repeated = TextFeatures(*(x.repeat_interleave(3, dim=0) for x in text))
    torch.testing.assert_close(prior.loss(noise + 1, text, noise, time), prior.loss(noise + 1, repeated, noise, time))


@pytest.mark.parametrize("maps", [None, [(6, 8), (12, 4), (24, 2)], [(10, 3)] * 3])
def test_posterior_gives_moments_of_the_noise(maps):
    posterior = Posterior(32, text_dim=16, noise_dim=8, maps=maps)
    features = [torch.randn(2, channels, size, size) for channels, size in maps or []]
    mean, log_variance = posterior(torch.randn(2, 3, 32, 32), features, torch.randn(2, 16))
    assert mean.shape == log_variance.shape == (2, 8)


# ---------------------------------------------------------------------------------------------- image encoders


@pytest.mark.parametrize("network", ["small", "resnet50"])
@pytest.mark.parametrize("resolution", [32, 96])
def test_maps_have_the_channels_and_sizes_that_are_declared(network, resolution):
    encoder = build_image_encoder(ImageEncoderConfig(network=network, width=8, embedding_dim=16)).eval()
    features = encoder(torch.randn(2, 3, resolution, resolution))
    declared = zip(encoder.map_channels, encoder.map_sizes(resolution), strict=True)
    assert [tuple(m.shape[1:]) for m in features.maps] == [(c, size, size) for c, size in declared]
    assert features.embedding.shape == (2, 16) and encoder.embedding_dim == 16
    assert encoder.map_sizes(resolution) == [resolution // 4, resolution // 8, resolution // 16]  # finest first


def test_the_embedding_tells_left_from_right():
    torch.manual_seed(0)
    encoder = SmallResNet(width=8, embedding_dim=16).eval()
    image = torch.zeros(1, 3, 64, 64)
    image[:, :, :, :20] = 1
    assert not torch.allclose(encoder(image).embedding, encoder(image.flip(3)).embedding, atol=1e-3)


def normalised(images: torch.Tensor) -> torch.Tensor:
    """As torchvision wants them."""
    return v2.functional.normalize(images / 2 + 0.5, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def test_resnet50_starts_from_a_local_file_of_torchvision(tmp_path):
    network, images = resnet50().eval(), torch.rand(2, 3, 64, 64) * 2 - 1
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    encoder = ResNet50(16, str(tmp_path / "weights.pth")).eval()
    theirs = create_feature_extractor(network, ["layer1", "layer2", "layer3", "flatten"])(normalised(images))
    features = encoder(images)
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(features.maps, theirs.values(), strict=False))
    assert torch.allclose(features.embedding, encoder.network.fc(theirs["flatten"]), atol=1e-4)


def test_wrong_weights_of_resnet50_are_one_line(tmp_path):
    torch.save(resnet18().state_dict(), tmp_path / "other.pth")
    (tmp_path / "damaged.pth").write_bytes(b"cut off")
    for name in ("other.pth", "damaged.pth", "nowhere.pth", "."):
        with pytest.raises(UserError, match="joint.image.weights") as error:
            ResNet50(16, str(tmp_path / name))
        assert "\n" not in str(error.value)


def test_imagenet_features_come_from_a_local_file_of_torchvision(tmp_path):
    network = resnet18().eval()
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    maps = ImageNetEncoder(str(tmp_path / "weights.pth"))(images).maps
    theirs = create_feature_extractor(network, ["layer1", "layer2", "layer3"])(normalised(images))
    assert [m.shape[1:] for m in maps] == [(64, 16, 16), (128, 8, 8), (256, 4, 4)]
    assert all(torch.allclose(mine, their, atol=1e-5) for mine, their in zip(maps, theirs.values(), strict=True))


def test_wrong_imagenet_weights_are_one_line(tmp_path):
    torch.save({"x": torch.zeros(1)}, tmp_path / "other.pth")
    for path in (tmp_path / "other.pth", tmp_path / "nowhere.pth"):
        with pytest.raises(UserError, match="imagenet_weights"):
            ImageNetEncoder(str(path))


# ---------------------------------------------------------------------------------------------- decoders

WORDS = torch.tensor([[2, 3, 4, 5, 6], [4, 2, 0, 0, 0], [6, 6, 1, 0, 0]])  # 0 is padding, 1 the unknown word
LATENT = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))


def caption_decoder(num_words: int = 7) -> CaptionDecoder:
    torch.manual_seed(0)
    return CaptionDecoder(DecoderConfig(word_dim=8, hidden_dim=24), embedding_dim=8, num_words=num_words)


@pytest.mark.parametrize("resolution", [32, 64, 128])
@pytest.mark.parametrize("width", [4, 25])
def test_picture_decoder_draws_at_every_resolution_within_range(resolution, width):
    decoder = PictureDecoder(DecoderConfig(width=width, max_channels=100), 8, resolution)
    images = decoder(100 * LATENT)
    assert images.shape == (3, 3, resolution, resolution) and images.abs().max() <= 1


def test_a_new_picture_decoder_draws_no_checkerboard():
    images = PictureDecoder(DecoderConfig(width=4, max_channels=16), 8, 32)(LATENT)
    patches = images.unfold(2, 2, 2).unfold(3, 2, 2).flatten(-2)
    assert (patches.amax(-1) - patches.amin(-1)).max() < 1e-5


@torch.no_grad()
def test_no_word_sees_those_after_it():
    decoder = caption_decoder()
    logits = decoder(LATENT, WORDS)  # (3, 6, 9)
    changed = WORDS.clone()
    changed[:, 2] = 3
    others = decoder(LATENT, changed)
    assert torch.equal(logits[:, :3], others[:, :3]) and not torch.allclose(logits[:, 3:], others[:, 3:])


@torch.no_grad()
def test_the_loss_of_a_caption_is_that_of_a_loop_over_its_words_and_its_end():
    decoder, nats = caption_decoder(), []
    for latent, row in zip(LATENT, WORDS.tolist(), strict=True):
        words = [word for word in row if word != 0]
        for i, word in enumerate([*words, decoder.end]):
            logits = decoder(latent[None], torch.tensor([words[:i]], dtype=torch.long))[0, -1]
            nats.append(-logits.log_softmax(0)[word].item())
    assert decoder.loss(LATENT, WORDS).item() == pytest.approx(sum(nats) / len(nats), rel=1e-5)


@torch.no_grad()
def test_padding_does_not_change_the_loss_of_a_caption():
    decoder = caption_decoder()
    assert torch.allclose(decoder.loss(LATENT, F.pad(WORDS, (0, 4))), decoder.loss(LATENT, WORDS), atol=1e-6)


def test_a_learned_caption_is_written_again():
    decoder, known = caption_decoder(), WORDS[:2]
    optimizer = torch.optim.Adam(decoder.parameters(), 1e-2)
    for _ in range(200):
        loss = decoder.loss(LATENT[:2], known)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    decoded = decoder.greedy_decode(LATENT[:2])
    assert loss < 0.1 and decoded.tolist() == F.pad(known, (0, 1)).tolist()  # the end is written as 0


def test_captions_end_once_and_hold_no_padding_before_their_end():
    decoder = caption_decoder()
    decoder.logits.weight.data *= 30  # sure of itself, so that captions end at all sorts of places
    written = decoder.greedy_decode(torch.randn(500, 8, generator=torch.Generator().manual_seed(0)), max_words=6)
    lengths = (written != 0).sum(dim=1)
    assert torch.equal(written != 0, torch.arange(written.shape[1]) < lengths[:, None])
    assert written.max() < decoder.begin and not (written == 1).any() and len(lengths.unique()) > 3


def test_what_is_written_does_not_depend_on_the_other_captions():
    decoder = caption_decoder()
    decoder.logits.weight.data *= 30
    together = decoder.greedy_decode(LATENT, max_words=6)
    for latent, words in zip(LATENT, together, strict=True):
        alone = decoder.greedy_decode(latent[None], max_words=6)[0]
        assert F.pad(alone, (0, together.shape[1] - len(alone))).tolist() == words.tolist()


# ---------------------------------------------------------------------------------------------- augmentation


def test_translation_moves_the_picture_as_a_whole():
    images = torch.zeros(64, 3, 32, 32)
    images[:, :, 16, 16] = 1
    (draws,) = draw_augmentation(["translation"], 64, images.device)
    places = translate(images, draws).flatten(2).argmax(dim=2)
    rows, columns = places // 32 - 16, places % 32 - 16
    assert (translate(images, draws).sum(dim=(1, 2, 3)) == 3).all()
    assert rows.min() == columns.min() == -4 and rows.max() == columns.max() == 4


def test_cutout_greys_a_quarter_of_the_picture_at_most():
    images = torch.ones(256, 3, 32, 32)
    cut = (cut_out(images, *draw_augmentation(["cutout"], 256, images.device)) == 0).float().mean(dim=(1, 2, 3))
    assert cut.max() <= 0.25 and cut.min() >= 0.04 and cut.std() > 0


def test_gradients_pass_through_augmentation():
    images = torch.rand(4, 3, 32, 32, requires_grad=True)
    kinds = ["colour", "translation", "cutout"]
    changed = augment(images, kinds, draw_augmentation(kinds, 4, images.device))
    changed.square().sum().backward()
    assert changed.shape == images.shape and images.grad.abs().sum() > 0


@pytest.mark.parametrize(("channels", "size", "places"), [(6, 16, 8), (6, 4, 4), (6, 7, 4), (6, 14, 8)])
def test_a_head_may_pool_before_or_after_its_pointwise_convolution(channels, size, places):
    head, x = Head(channels, text_dim=5, head_dim=8, resolution=places), torch.randn(2, channels, size, size)
    after = F.adaptive_avg_pool2d(head.reduce(x), min(size, places))
    mixed = F.leaky_relu(head.mix(F.leaky_relu(after, 0.2)), 0.2)
    rows = F.adaptive_avg_pool2d(mixed, 4).flatten(1)
    assert torch.allclose(head(x), F.leaky_relu(head.positions(rows), 0.2), atol=1e-5)


def test_a_blurred_convolution_is_a_strided_one_on_means_of_neighbours():
    layer, x = BlurredConv2d(5, 7), torch.randn(2, 5, 16, 16)
    means = F.avg_pool2d(F.pad(x, (1,) * 4), 2, stride=1)
    torch.testing.assert_close(layer(x), F.conv2d(means, layer.weight, stride=2))


def test_the_gradient_of_antialiased_features_has_no_pattern_of_two_pixels():
    """A stride treats even and odd pixels differently; the blur before it takes that out of the gradient."""

    def nyquist(antialias: bool) -> float:
        torch.manual_seed(0)
        encoder, images = SmallResNet(8, 16, antialias).eval(), torch.randn(8, 3, 32, 32, requires_grad=True)
        loss = torch.stack([x.abs().mean() for x in encoder(images).maps]).sum()
        power = torch.fft.fft(torch.autograd.grad(loss, images)[0][..., 4:-4]).abs().square().mean(dim=(0, 1, 2))
        return float(power[len(power) // 2] / power.mean())

    assert nyquist(True) < 0.02 < 0.2 < nyquist(False)


def test_the_gradient_of_features_with_antialiased_stages_has_no_pattern_of_four_pixels():
    """The second stride does to four pixels what the first does to two."""

    def quarter(antialias_stages: bool) -> float:
        torch.manual_seed(0)
        encoder, images = SmallResNet(8, 16, True, antialias_stages).eval(), torch.randn(16, 3, 64, 64).requires_grad_()
        loss = torch.stack([x.abs().mean() for x in encoder(images).maps]).sum()
        gradient = torch.autograd.grad(loss, images)[0][..., 8:-8, 8:-8]
        power = torch.fft.fft(gradient).abs().square().mean(dim=(0, 1, 2))
        place = len(power) // 4
        return float(2 * power[place] / (power[place - 2] + power[place + 2]))

    assert quarter(True) < 1.5 < 3 < quarter(False)


def test_every_second_place_taken_first_gives_what_a_strided_convolution_gives():
    torch.manual_seed(0)
    ours = SubsampledConv2d(4, 8).to(memory_format=torch.channels_last)
    theirs = torch.nn.Conv2d(4, 8, 1, 2, bias=False)  # in the usual order of memory, in which nothing is overwritten
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(3, 4, 10, 10)
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    outputs = [net(given) for net, given in zip((ours, theirs), inputs, strict=True)]
    for output in outputs:
        output.square().sum().backward()
    torch.testing.assert_close(*outputs)
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)


def train_narrow_encoders():
    for width in (4, 8, 12):
        encoder = SmallResNet(width, 16).to(memory_format=torch.channels_last)
        for _ in range(6):
            encoder(torch.rand(32, 3, 32, 32)).embedding.square().mean().backward()


def test_narrow_image_encoders_train_in_channels_last_order():
    process = SERVER.Process(target=train_narrow_encoders)  # which ends at once where a kernel spoils its memory
    process.start()
    process.join()
    assert process.exitcode == 0
