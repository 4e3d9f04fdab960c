"""The networks: encoders, generators, discriminators, posterior, latent prior, and the blocks they share."""
