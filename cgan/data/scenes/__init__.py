"""Built-in scenes: generated pictures with captions that describe them exactly."""
