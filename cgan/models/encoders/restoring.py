"""Settings of image encoders by which they are built again from a file of weights."""

from cgan.interfaces import ImageEncoder, UserError
from cgan.models.encoders.clip import CLIPImageEncoder
from cgan.models.encoders.resnet import ResNet50, SmallResNet


def image_encoder_spec(encoder: ImageEncoder) -> dict | None:
    """Returns JSON-able settings of a joint encoder's image half; None for other networks, which do not travel."""
    match encoder:
        case SmallResNet():
            sizes = {"width": encoder.map_channels[0], "embedding_dim": encoder.embedding_dim}
            return {
                "encoder": "small",
                **sizes,
                "antialias": encoder.antialias,
                "antialias_stages": encoder.antialias_stages,
            }
        case ResNet50():
            return {"encoder": "resnet50", "embedding_dim": encoder.embedding_dim}
        case CLIPImageEncoder():
            return {"encoder": "clip", **encoder.spec()}
    return None


def restore_image_encoder(spec: dict) -> ImageEncoder:
    """Returns the encoder that image_encoder_spec describes, without its weights; raises UserError for other kinds."""
    match spec["encoder"]:
        case "small":
            return SmallResNet(
                spec["width"], spec["embedding_dim"], spec.get("antialias", False), spec.get("antialias_stages", False)
            )
        case "resnet50":
            return ResNet50(spec["embedding_dim"])
        case "clip":
            return CLIPImageEncoder({name: value for name, value in spec.items() if name != "encoder"})
    raise UserError(f"the image encoder {spec['encoder']!r} is unknown; install the version of cgan that wrote it")
