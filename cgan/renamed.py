"""Maps names of settings and weights in earlier versions to their present ones, for old files and commands.

It also has the settings that older files do not state.
"""

from collections.abc import Callable, Mapping
from functools import partial

SETTINGS = {  # dotted keys of RunConfig: the earlier name, and the present one
    "trainer.examiner": "trainer.eval_joint_encoder",
    "gan.redrawn_share": "gan.reconstructed_fraction",
    "gan.prior_learning_rate": "gan.latent_prior_learning_rate",
    "gan.generator.learned_places": "gan.generator.positional_bias",
    "gan.generator.prior": "gan.generator.latent_prior",
    "gan.generator.prior_layers": "gan.generator.latent_prior_layers",
    "gan.generator.prior_dim": "gan.generator.latent_prior_dim",
    "gan.discriminator.head_places": "gan.discriminator.head_resolution",
}
OLDER_GENERATOR = {  # settings of generators from before there were these keys
    "latent_prior": "couplings",
    "positional_bias": False,
    "equal_gain": False,
    "latent_prior_guidance": 1.0,
    "low_pass": 0.0,
}
OLDER_IMAGE_ENCODER = {"antialias": False, "antialias_stages": False}  # the same of a joint encoder's image half
OLDER = {  # the same of whole runs, by section
    "gan": {
        "latent_prior_alone_from": 1.0,
        "discriminator_matrix_learning_rate": 0.0,
        "matching": "contrastive",
        "matching_from": 0.0,
    },
    "gan.generator": OLDER_GENERATOR,
    "gan.discriminator": {"stem": "strided"},
    "joint.image": OLDER_IMAGE_ENCODER,
}


def rename_settings(settings: Mapping, section: str = "", report: Callable[[str], None] = lambda hint: None) -> dict:
    """Returns nested settings under their present names, those of a section of RunConfig such as "gan.generator".

    `report` gets a line for each earlier name. Where both names of a setting are given, the present one counts.
    """
    found = {}
    for name, value in settings.items():
        key = f"{section}.{name}" if section else str(name)
        new = SETTINGS.get(key, key)
        if new != key:
            report(f"{key} is now called {new}")
        value = rename_settings(value, new, report) if isinstance(value, Mapping) else value
        if new == key:
            found[name] = value
        else:
            found.setdefault(new.removeprefix(f"{section}."), value)
    return found


def rename_weights(names: Mapping[str, str], module: object, state_dict: dict, prefix: str, *_: object) -> None:
    """Renames a module's weights in a state dict, in place: the tensors below `prefix` get the present names."""
    for key in list(state_dict):
        part, dot, rest = key.removeprefix(prefix).partition(".")
        if key.startswith(prefix) and part in names:
            state_dict[f"{prefix}{names[part]}{dot}{rest}"] = state_dict.pop(key)


def weights_renamed(**names: str) -> Callable[..., None]:
    """Returns a hook for nn.Module.register_load_state_dict_pre_hook; names are earlier=present parts of the module."""
    return partial(rename_weights, names)
