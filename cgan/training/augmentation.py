"""How the pictures of a training are changed where the configuration does not say so: by their number and their kind.

Captions may name sides, so that pictures are mirrored only where data.flip says so; shards do that by themselves.
"""

from cgan.config import RunConfig
from cgan.models.picture_augment import PictureAugmentation

FEW_FOR_JOINT = 20_000  # up to which a joint encoder learns pictures by heart in the time that it trains
FEW_FOR_GAN = 2_000  # up to which a generator does so: it copies most of 685 photographs, and none of 7,795 emoji
SHIFTED = (
    "{count:,} pictures are few, so the GAN sees them shifted by up to a sixteenth, against copies; "
    "gan.picture_augmentation=[] leaves them as they are"
)


def joint_augmentation(config: RunConfig, num_pictures: int) -> list[PictureAugmentation]:
    """Returns how a joint encoder's pictures are changed: a few of them by small crops and colours."""
    few: list[PictureAugmentation] = ["crop", "colour"] if is_few(config, num_pictures, FEW_FOR_JOINT) else []
    return mirrored(config, few if config.joint.augmentation is None else config.joint.augmentation)


def gan_augmentation(config: RunConfig, num_pictures: int) -> list[PictureAugmentation]:
    """Returns how a GAN's pictures are changed: a few of them by small shifts. What a user sets stays as it is."""
    if config.gan.picture_augmentation is not None:
        return [*config.gan.picture_augmentation]
    return mirrored(config, ["translation"] if is_few(config, num_pictures, FEW_FOR_GAN) else [])


def is_few(config: RunConfig, num_pictures: int, most: int) -> bool:
    """Returns whether pictures are so few that networks learn them by heart; scenes come in many variants."""
    return config.data.source != "scenes" and num_pictures <= most


def mirrored(config: RunConfig, kinds: list[PictureAugmentation]) -> list[PictureAugmentation]:
    """Returns kinds of augmentation, and with data.flip mirroring among them."""
    wanted = config.data.flip and config.data.source != "shards" and "flip" not in kinds
    return [*kinds, "flip"] if wanted else [*kinds]
