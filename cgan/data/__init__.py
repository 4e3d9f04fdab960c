"""Data: pictures with captions, generated as scenes or read from files, and their batches."""
