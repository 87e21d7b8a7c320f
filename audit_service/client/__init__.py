"""The service from Python: typed calls, errors as exceptions; paging, retries and following built in.

``Client`` answers, ``AsyncClient`` is awaited; both have the calls of ``_calls.Calls``.
"""

from audit_service.client._clients import AsyncClient as AsyncClient
from audit_service.client._clients import Client as Client
from audit_service.client._tables import Table as Table

__all__ = ["AsyncClient", "Client", "Table"]
