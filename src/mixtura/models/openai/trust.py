"""Which authorities are trusted to sign the certificates of providers and proxies.

`SSL_CERT_FILE` and `SSL_CERT_DIR` name them, in place of the system's, as they do for the official SDKs. Without either
the system's trust store counts: on Linux where Python's OpenSSL looks, elsewhere by `truststore`.
"""

import functools
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from mixtura.errors import ConfigError

if TYPE_CHECKING:
    import ssl

FILE, FOLDER = "SSL_CERT_FILE", "SSL_CERT_DIR"
# Other programs read these; people who set one of them expect that everything does.
_OF_OTHERS = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT", "NODE_EXTRA_CA_CERTS", "AWS_CA_BUNDLE")
_BEGINS = (b"-----BEGIN CERTIFICATE-----", b"-----BEGIN TRUSTED CERTIFICATE-----", b"-----BEGIN X509 CERTIFICATE-----")
_HASHED = re.compile(r"[0-9a-f]{8}\.\d+")


class Trust(msgspec.Struct, frozen=True, kw_only=True):
    """The authorities that are trusted.

    Attributes:
        file: a PEM file of their certificates; "" for none.
        folder: a folder of such files under their hashed names, or several as in PATH; "" for none.
        unread: a variable of other programs that names authorities where neither of ours does; "" for none.
    """

    file: str = ""
    folder: str = ""
    unread: str = ""

    @property
    def named(self) -> str:
        """What is trusted, in words."""
        named = [f"{name} ({value!r})" for name, value in ((FILE, self.file), (FOLDER, self.folder)) if value]
        return " and ".join(named) or "this system's trust store"


def trust_in(env: Mapping[str, str], process: Mapping[str, str]) -> Trust:
    """Return what is trusted by `env`, and where that names nothing by the environment of the process.

    The latter is what OpenSSL reads by itself, whoever calls it.
    """

    def named(variable: str) -> str:
        return (env.get(variable) or process.get(variable) or "").strip()

    file, folder = named(FILE), named(FOLDER)
    if file or folder:
        return Trust(file=file, folder=folder)
    return Trust(unread=next((name for name in _OF_OTHERS if named(name)), ""))


def context_of(trust: Trust) -> "ssl.SSLContext":
    """Return what checks certificates, made once for each `trust`.

    Raises:
        ConfigError: what SSL_CERT_FILE or SSL_CERT_DIR names cannot be used.
    """
    if not trust.file and not trust.folder:
        return _system()
    folders = [folder for folder in trust.folder.split(os.pathsep) if folder and Path(folder).is_dir()]
    if trust.file:
        return _named(trust.file, _changed(trust.file), os.pathsep.join(folders))
    if not folders:
        what = (
            "is a file; a file of certificates is named by " + FILE if Path(trust.folder).is_file() else "is no folder"
        )
        raise ConfigError(f"{FOLDER} names {trust.folder!r}, which {what}; correct it, or unset it {_OTHERWISE}")
    if not any(_has_hashed(folder) for folder in folders):
        raise ConfigError(
            f"{FOLDER} names {trust.folder!r}, where no certificate lies under its hashed name; "
            f"run `openssl rehash {folders[0]}`, or unset it {_OTHERWISE}"
        )
    return _named("", 0, os.pathsep.join(folders))


_OTHERWISE = "to trust this system's authorities"


def _changed(file: str) -> int:
    """Return when the file was last written: a new authority in it counts from then on."""
    try:
        found = Path(file).stat()
    except OSError as problem:
        raise _unusable(file, f"cannot be read ({problem.strerror})") from None
    if not Path(file).is_file():
        raise _unusable(file, f"is no file; a folder of certificates is named by {FOLDER}")
    return found.st_mtime_ns


def _unusable(file: str, why: str) -> ConfigError:
    return ConfigError(
        f"{FILE} names {file!r}, which {why}; name a PEM file of the authorities to trust, or unset it {_OTHERWISE}"
    )


@functools.lru_cache(maxsize=8)
def _named(file: str, changed: int, folders: str) -> "ssl.SSLContext":
    """Return what trusts the authorities in a file and in folders alone. `changed` tells versions of a file apart."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if file:
        try:
            data = Path(file).read_bytes()
        except OSError as problem:
            raise _unusable(file, f"cannot be read ({problem.strerror})") from None
        if not any(begin in data for begin in _BEGINS):
            why = "holds no certificate in PEM form"
            if data.startswith(b"\x30\x82"):
                why += f" (it looks like DER, which `openssl x509 -inform der -in {file} -out NEW.pem` converts)"
            raise _unusable(file, why)
        try:
            context.load_verify_locations(cafile=file)
        except (ssl.SSLError, OSError) as problem:
            reason = getattr(problem, "reason", None) or problem.strerror or "damaged"
            raise _unusable(file, f"holds a certificate that cannot be read ({reason})") from None
    if folders:
        context.load_verify_locations(capath=folders)
    return _made_ready(context)


@functools.cache
def _system() -> "ssl.SSLContext":
    """Return what trusts the authorities of this system."""
    import ssl

    if sys.platform not in ("darwin", "win32"):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_default_certs()
        folder = ssl.get_default_verify_paths().capath
        if context.cert_store_stats()["x509"] or (folder and _has_hashed(folder)):
            return _made_ready(context)
    # An OpenSSL that was built for another system looks where nothing is; macOS and Windows have stores of their own.
    import truststore

    return _made_ready(truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT))


def _made_ready(context: "ssl.SSLContext") -> "ssl.SSLContext":
    import ssl

    context.set_alpn_protocols(["http/1.1"])
    # A company's authority is most often known by an intermediate one. Python 3.13 would also ask that certificates
    # keep to every rule of RFC 5280, which those of inspecting proxies do not; that is left out, as in pip.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def _has_hashed(folder: str) -> bool:
    try:
        return any(_HASHED.fullmatch(path.name) for path in Path(folder).iterdir())
    except OSError:
        return False
