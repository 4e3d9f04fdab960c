"""Data: pictures with captions, drawn or read from files, into batches."""
