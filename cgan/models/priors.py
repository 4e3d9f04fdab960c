"""Latent priors by their form."""

from cgan.models.flow_prior import FlowMatchingPrior, WordFlowPrior
from cgan.models.latent_prior import CouplingPrior, NoPrior, Prior


def build_prior(
    form: str, noise_dim: int, text_dim: int, num_layers: int, hidden_dim: int, guidance: float = 1.0
) -> Prior:
    """Returns the latent prior of a form; with num_layers=0 the noise is the latent.

    Raises UserError for couplings with noise_dim below 2.
    """
    if num_layers == 0:
        return NoPrior()
    sizes = noise_dim, text_dim, num_layers, hidden_dim
    match form:
        case "couplings":
            return CouplingPrior(*sizes)
        case "flow_matching":
            return FlowMatchingPrior(*sizes, guidance)
        case "word_flow":
            return WordFlowPrior(*sizes, guidance)
    raise ValueError(f"unknown latent prior: {form}")
