import pytest
import torch

from cgan.data.scenes import Scenes
from cgan.interfaces import Batch
from cgan.joint import JointConfig, JointEncoder
from cgan.networks.image_encoder import ImageEncoder, ImageEncoderConfig
from cgan.text.lstm import Vocabulary


@pytest.fixture
def batch(tmp_path) -> Batch:
    samples = [Scenes(32, 32, cache=tmp_path)[i] for i in range(32)]
    captions = [max(sample.captions, key=len) for sample in samples]
    return Batch(torch.stack([s.image for s in samples]), captions, torch.arange(32))


def test_feature_maps_come_finest_first():
    features = ImageEncoder(ImageEncoderConfig(width=8, embedding_dim=16))(torch.randn(2, 3, 64, 64))
    assert features.embedding.shape == (2, 16)
    assert [tuple(m.shape[1:]) for m in features.maps] == [(8, 16, 16), (16, 8, 8), (32, 4, 4)]


def test_the_embedding_tells_left_from_right():
    torch.manual_seed(0)
    encoder = ImageEncoder(ImageEncoderConfig(width=8, embedding_dim=16)).eval()
    image = torch.zeros(1, 3, 64, 64)
    image[:, :, :, :20] = 1
    assert not torch.allclose(encoder(image).embedding, encoder(image.flip(3)).embedding, atol=1e-3)


def test_training_makes_pictures_find_their_captions(batch):
    torch.manual_seed(0)
    joint = JointEncoder(JointConfig(image=ImageEncoderConfig(width=16)), Vocabulary.of(batch.captions))
    joint.log = lambda *args, **kwargs: None
    optimizer = joint.configure_optimizers()
    for _ in range(60):
        optimizer.zero_grad()
        joint.training_step(batch, 0).backward()
        optimizer.step()
    found = joint.scores(batch.images, batch.captions).argmax(dim=1) == torch.arange(32)
    assert found.float().mean() > 0.8
