"""Credentials that calls may carry."""

from recollect_server.admin.keys import ApiKeys
from recollect_server.rpc.call import Principal


class ApiKeyAuthenticator:
    """Accepts API keys."""

    def __init__(self, keys: ApiKeys) -> None:
        self._keys = keys

    async def authenticate(self, token: str) -> Principal:
        """See `rpc.interceptors.Authenticator`."""
        key = await self._keys.authenticate(token)
        return Principal(key.tenant, key.user_id, key.role, key.key_id)
