"""Settings and weights that had other names in earlier versions, so that old files and commands still work."""

from collections.abc import Callable, Mapping

SETTINGS = {  # dotted keys of RunConfig: the earlier name, and the present one
    "trainer.examiner": "trainer.eval_joint_encoder",
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
