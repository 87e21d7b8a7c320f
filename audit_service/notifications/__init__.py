"""Telling people and programs what happened: signed webhooks and e-mail, from an outbox."""
