"""The web configuration file, as Prometheus's exporter-toolkit defines it: TLS, client certificates, users.

What cannot be done here as it is done there is an error, never ignored; no error repeats what was given.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, ValidationInfo, model_validator

from .document import ConfigError, dotted, problems, read_mapping
from .values import ReadableFile, Section

_BCRYPT = re.compile(r"\$2[aby]\$(0[4-9]|[12]\d|3[01])\$[./A-Za-z0-9]{53}")


def _beside(value: object, info: ValidationInfo) -> object:
    if not isinstance(value, str) or "-----BEGIN" in value:
        raise ValueError("must be the path of a file")
    assert isinstance(info.context, Path)
    return info.context / value


def _bcrypt_hash(value: SecretStr) -> SecretStr:
    if not _BCRYPT.fullmatch(value.get_secret_value()):
        raise ValueError("must be a bcrypt hash, as `htpasswd -nBC 10 name` prints it after the colon")
    return value


FileBeside = Annotated[ReadableFile, BeforeValidator(_beside)]
ClientAuth = Literal["NoClientCert", "RequestClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert"]
TlsVersion = Literal["TLS12", "TLS13"]
BcryptHash = Annotated[SecretStr, AfterValidator(_bcrypt_hash)]


class TlsServer(Section):
    """Our certificate, and what is asked of clients."""

    cert_file: FileBeside
    key_file: FileBeside
    client_auth_type: ClientAuth = "NoClientCert"
    client_ca_file: FileBeside | None = None
    min_version: TlsVersion = "TLS12"
    max_version: TlsVersion = "TLS13"

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        verifies = self.client_auth_type in ("VerifyClientCertIfGiven", "RequireAndVerifyClientCert")
        if verifies != bool(self.client_ca_file):
            raise ValueError("client_ca_file and a client_auth_type that verifies need each other")
        if self.min_version > self.max_version:
            raise ValueError("min_version is above max_version")
        return self


class HttpServer(Section):
    """How HTTP is spoken; `http2` is without effect, for there is no HTTP/2 here."""

    http2: bool = True


class WebFile(Section):
    """The whole file."""

    tls_server_config: TlsServer | None = None
    http_server_config: HttpServer = HttpServer()
    basic_auth_users: dict[str, BcryptHash] = Field(default={})


def load_web_file(path: Path) -> WebFile:
    """The file's content, where the files that it names are relative to it; raises ConfigError with every problem."""
    content = {key: value for key, value in read_mapping(path).items() if value is not None}
    try:
        return WebFile.model_validate(content, context=path.parent)
    except ValidationError as error:
        raise ConfigError(f"{path}: {dotted(keys)}: {sentence}" for keys, sentence in problems(error)) from None
