"""Built-in scenes: drawn pictures whose captions are exactly true."""
