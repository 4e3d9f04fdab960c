"""Training: the two LightningModules, their losses and optimizers, and a run from configuration to checkpoint."""
