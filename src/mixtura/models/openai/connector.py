"""The connector of aiohttp, but that a certificate which was refused is not asked for at the host's other addresses."""

from typing import Any

import aiohttp


class CertificateError(aiohttp.ClientError):
    """A certificate was not accepted: that of `host` and `port`, which may be a proxy's; `error` says why."""

    def __init__(self, host: str, port: int | None, error: Exception) -> None:
        self.host, self.port, self.error = host, port, error
        super().__init__(f"the certificate of {host}:{port} was not accepted: {error}")


class Connector(aiohttp.TCPConnector):
    """See the module."""

    async def _wrap_create_connection(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return await super()._wrap_create_connection(*args, **kwargs)
        except aiohttp.ClientConnectorCertificateError as problem:
            # As a ClientConnectorError it would be caught, and the next address be tried.
            raise CertificateError(problem.host, problem.port, problem.certificate_error) from problem
