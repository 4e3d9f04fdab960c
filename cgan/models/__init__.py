"""The networks: image encoder, generator, discriminator, posterior, and the blocks they share."""
