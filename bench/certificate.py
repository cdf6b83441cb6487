"""A certificate for the benchmark's server, signed by an authority made for this run alone."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import trustme


class Certificate(NamedTuple):
    """PEM files: `authority` is what a client has to trust, `chain` the server's certificate and its key.

    A process trusts the authority, and no other, when SSL_CERT_FILE names it before the process makes its first TLS
    context: Python's default context reads that variable, and so do httpx and rustls.
    """

    authority: Path
    chain: Path


@contextlib.contextmanager
def issued() -> Iterator[Certificate]:
    """Yield a certificate for 127.0.0.1; its files are deleted afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        found = Certificate(Path(folder) / "authority.pem", Path(folder) / "server.pem")
        authority = trustme.CA()
        authority.cert_pem.write_to_path(found.authority)
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(found.chain)
        yield found
