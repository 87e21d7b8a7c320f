"""What every endpoint shares: transactions, paging, idempotency, and how bodies are read."""
