"""Activation patching on the customer's own Hugging Face modules. Knows no database and no Celery."""
