"""What is audited, what was promised, and what was found. Imports no torch."""
