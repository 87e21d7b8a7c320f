"""The one settings object. Every field can be set by the environment variable AUDIT_<FIELD>."""

from functools import cache
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import limits
import platformdirs
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from audit_service.errors import InvalidInput

_APP = "audit-service"


class Settings(BaseSettings):
    """What a process of the service knows about its surroundings; with nothing set, the embedded default."""

    model_config = SettingsConfigDict(env_prefix="AUDIT_", env_ignore_empty=True, frozen=True, extra="forbid")

    database_url: str | None = Field(default=None, repr=False)
    """A Postgres to use; none means that a private one is started."""
    broker_url: str | None = Field(default=None, repr=False)
    """A Redis-protocol broker to use; none means that a private one is started."""
    data_dir: Path = Field(default_factory=lambda: platformdirs.user_data_path(_APP))
    """Where the private Postgres and broker keep their data."""
    cache_dir: Path = Field(default_factory=lambda: platformdirs.user_cache_path(_APP))
    """What can be made again at any time: converted models, downloads."""
    api_url: str | None = None
    """The service that commands talk to; none means the one of this data directory, or one of their own."""
    host: str = "127.0.0.1"
    """Where the API listens."""
    port: int = Field(default=8321, ge=0, le=65535)
    """0 takes any free port."""

    token: SecretStr | None = None
    """What commands show to the service; none means the administrator's token that the data directory may hold."""
    session_hours: float = Field(default=12.0, gt=0)
    """How long a sign-in lasts."""
    login_limit: str = "10/minute"
    """Sign-ins that one address may try, and that may be tried for one account."""
    api_limit: str = "1200/minute"
    """Requests that one token may send."""
    public_url: str | None = None
    """The service's address as people's browsers see it; an OpenID provider sends them back there."""
    oidc_issuer: str | None = None
    """An OpenID provider that people sign in with; none leaves them their passwords."""
    oidc_client_id: str = ""
    oidc_client_secret: SecretStr | None = None

    log_format: Literal["text", "json"] = "text"
    """How processes write their logs; json has one object a line, with request, run and organisation."""

    shard_lease_s: float = Field(default=20.0, gt=0)
    """A worker that was not heard of for so long has lost its shard to the others."""
    device: str = "auto"
    """Where workers load models: auto (a GPU if there is one), cpu, cuda, cuda:1, or spread over all GPUs by layers."""
    report_languages: tuple[Literal["en", "zh-Hant"], ...] = ("en",)
    """Languages that every run is reported in, as a JSON list."""
    signing_pkcs12: Path | None = None
    """PKCS#12 file of the key that signs reports; none leaves them unsigned, and they say so."""
    signing_pkcs11: Path | None = None
    """PKCS#11 library of a token with the key that signs reports; it goes before a file."""
    signing_token: str = ""
    """Label of the token."""
    signing_label: str = ""
    """Label of the key and its certificate on the token."""
    signing_passphrase: SecretStr | None = None
    """What opens the file, or the token's PIN."""
    timestamp_url: str | None = None
    """Time-stamping authority (RFC 3161) for signatures; none leaves them without a time stamp, and they say so."""

    model_roots: tuple[Path, ...] = ()
    """Folders that model versions are registered from, as a JSON list.

    None is refused, but by a private service that only this machine reaches, which takes all: ["/"].
    ``{organisation}`` stands for the id of the organisation that asks: ["/models/{organisation}"].
    """
    models_dir: Path | None = None
    """Where imported models are put, the same place for API and workers; none means in the data directory."""
    mlflow_uri: str | None = None
    """An MLflow tracking server whose model registry is followed."""
    mlflow_webhook_secret: SecretStr | None = None
    """What its webhooks are signed with; none refuses them."""
    mlflow_poll_s: float | None = Field(default=None, gt=0)
    """Look for new versions so often, for a registry that sends no webhooks; none does not look."""
    mlflow_organisation: str | None = None
    """Id of the organisation that the registry's models belong to; none means the first one."""
    webhook_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    """Private networks that webhooks may be sent into, and by plain HTTP, as a JSON list: ["10.20.0.0/16"]."""
    smtp_url: SecretStr | None = None
    """Server for e-mail: smtps://user:password@host:465, or smtp://host:25; none sends no e-mail."""
    smtp_from: str = "audit-service@localhost"
    """The sender of e-mail."""

    def model_roots_of(self, organisation_id: str) -> tuple[Path, ...]:
        """The folders that the organisation registers models from."""
        return tuple(Path(str(root).replace("{organisation}", organisation_id)) for root in self.model_roots)

    @field_validator("data_dir", "cache_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @field_validator("database_url")
    @classmethod
    def _name_the_driver(cls, value: str | None) -> str | None:
        """Accept the usual spellings of a Postgres URL; the driver is always psycopg."""
        if value is None:
            return None
        scheme, separator, rest = value.partition("://")
        if not separator or scheme not in {"postgres", "postgresql", "postgresql+psycopg"}:
            raise ValueError("the database must be Postgres: postgresql://user:password@host:port/name")
        return f"postgresql+psycopg://{rest}"

    @field_validator("login_limit", "api_limit")
    @classmethod
    def _a_rate(cls, value: str) -> str:
        try:
            limits.parse(value)
        except ValueError as error:
            raise ValueError("a rate is written like 10/minute or 1200/hour") from error
        return value

    @field_validator("smtp_url")
    @classmethod
    def _a_mail_server(cls, value: SecretStr | None) -> SecretStr | None:
        parts = urlsplit(value.get_secret_value()) if value else None
        if parts and (parts.scheme not in {"smtp", "smtps"} or not parts.hostname):
            raise ValueError("a mail server is written like smtps://user:password@host:465 or smtp://host:25")
        return value

    @field_validator("broker_url")
    @classmethod
    def _redis_protocol(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("redis://", "rediss://", "sentinel://")):
            raise ValueError("the broker must speak the Redis protocol: redis://:password@host:port/0")
        return value


@cache
def get_settings() -> Settings:
    """The settings of this process, read from the environment once.

    Raises InvalidInput that names the variable, but not its value: that may hold a password.
    """
    try:
        return Settings()
    except ValidationError as error:
        wrong = [f"AUDIT_{str(problem['loc'][0]).upper()}: {problem['msg']}" for problem in error.errors()]
    raise InvalidInput("The settings cannot be used.", remedy="Correct these environment variables.", details=wrong)
