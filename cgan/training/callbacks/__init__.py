"""Lightning callbacks: samples, progress, throughput, evaluation, checkpoints, health and interrupts."""
