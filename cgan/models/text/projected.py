"""A frozen pretrained text encoder under trained projections: words it knows, in a latent learned from pictures."""

from torch import Tensor, nn
from torch.nn import functional as F

from cgan.interfaces import TextEncoder, TextFeatures
from cgan.models.text.pretrained import PretrainedTextEncoder


class ProjectedTextEncoder(TextEncoder):
    """Projects the sentence and the words of a frozen encoder linearly to `dim` numbers.

    The projections keep near what the frozen encoder has near, so a word that no caption of the training held lies by
    its neighbours. They alone are weights of the state_dict; spec() names the frozen encoder.
    """

    def __init__(self, frozen: PretrainedTextEncoder, dim: int) -> None:
        super().__init__()
        self.frozen, self.dim = frozen, dim
        self.sentence, self.words = nn.Linear(frozen.dim, dim), nn.Linear(frozen.dim, dim)

    def forward(self, captions: list[str]) -> TextFeatures:
        """Returns TextFeatures of captions, in which the length of the frozen encoder's sentences does not count."""
        text = self.frozen(captions)
        return TextFeatures(self.sentence(of_unit_variance(text.sentence)), self.words(text.words), text.mask)

    def unknown_words(self, captions: list[str]) -> list[str]:
        """Returns an empty list: the frozen encoder's tokenizer splits every word into known pieces."""
        return []

    def spec(self) -> dict:
        """Returns the frozen encoder's name and settings, and the size of the latent; see TextEncoder.spec."""
        return {**self.frozen.spec(), "encoder": "projected", "dim": self.dim}

    @classmethod
    def from_spec(cls, spec: dict) -> "ProjectedTextEncoder":
        """Returns an encoder with untrained projections; raises UserError where the frozen one can't be loaded."""
        return cls(PretrainedTextEncoder(spec["name"], spec["max_words"]), spec["dim"])


def of_unit_variance(sentence: Tensor) -> Tensor:
    """Returns sentences (B, D) scaled to length sqrt(D), so that a number of them is about 1 in size."""
    return F.normalize(sentence, dim=1) * sentence.shape[1] ** 0.5
