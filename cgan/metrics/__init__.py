"""What measures pictures."""
