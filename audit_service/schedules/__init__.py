"""When which audit is due again."""
