"""Links that give an auditor the evidence of one run without an account."""
