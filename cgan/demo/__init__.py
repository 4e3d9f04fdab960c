"""The demo: a page in the browser."""
