"""Providers and models as data: endpoints, context windows, prices, limits and dates.

The rows are in `data/providers.toml` and `data/<provider>.toml`, each with its source and the date of the last check.
`read_models` reads a user's own rows, and `Catalog.extended` adds them. This module makes no network calls.
"""

import datetime as dt
import difflib
import functools
import re
import tomllib
import urllib.parse
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Literal, get_args

import msgspec

from mixtura.errors import ConfigError
from mixtura.input_files import cause_of, read_input, shown_name, utf8_text
from mixtura.limits.window import Limits
from mixtura.models.card import ModelCard, Price
from mixtura.models.place import Patience
from mixtura.models.urls import BaseUrl, is_azure, looks_like_address, read_base_url

Tier = Literal["free", "developer", "enterprise"]
"""A provider's plan, as users name it: `--plan`, MIXTURA_PLAN and `Mixture(plan=...)` take one of these."""
TIERS: tuple[Tier, ...] = get_args(Tier)

# Holds the key of a server that is named by its address.
_OWN_KEY = "MIXTURA_API_KEY"
_HOST = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,30}")


class CatalogProvider(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A provider: its address and key, and its dialect of the OpenAI API. data/providers.toml explains the fields.

    The models of a provider that is `in_process` run in this process: it has no address, and its entry point
    (`models/in_process.py`) finds its models.
    """

    title: str
    base_url: str = ""
    in_process: bool = False
    base_url_env: str = ""
    base_url_suffix: str = ""
    host_env: str = ""
    key_env: str = ""
    key_header: str = ""
    key_optional: bool = False
    keys_at: str = ""
    access_at: dict[str, str] = {}
    max_tokens: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    usage_option: bool = False
    reasoning: Literal["", "groq"] = ""
    formats_alone: bool = False
    max_concurrency: int | None = None
    one_machine: bool = False
    any_address: bool = False
    patience: Patience | None = None
    checked: dt.date | None = None


class CatalogModel(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One model of one provider, served now or in the past.

    Unknown figures are None. `chat` is false for models that return verdicts (moderation) instead of answers. `schemas`
    says what becomes of a JSON schema for the answer: the model keeps to it ("strict"), takes it as a help
    ("best_effort") or takes none ("none").
    """

    id: str
    provider: str = ""
    family: str = ""
    chat: bool = True
    released: dt.date | None = None
    shut_down: dt.date | None = None
    enterprise_since: dt.date | None = None
    replacement: str | None = None
    window: int | None = None
    max_output: int | None = None
    price: Price | None = None
    speed: float | None = None
    reasons: bool = False
    efforts: tuple[str, ...] = ()
    default_effort: str | None = None
    schemas: Literal["strict", "best_effort", "none"] | None = None
    free: Limits | None = None
    developer: Limits | None = None
    note: str = ""
    checked: dt.date | None = None
    source: str = ""

    def is_served(self, day: dt.date, tier: Tier = "free") -> bool:
        """Return whether a key of `tier` can use the model on `day`, as far as the catalogue knows."""
        if self.released is not None and day < self.released:
            return False
        if self.shut_down is not None and day >= self.shut_down:
            return False
        return tier == "enterprise" or self.enterprise_since is None or day < self.enterprise_since

    def limits(self, tier: Tier) -> Limits | None:
        """Return the limits of `tier`, None if unknown. Enterprise limits are agreed per key, so they are None."""
        return {"free": self.free, "developer": self.developer}.get(tier)

    @property
    def card(self) -> ModelCard:
        """The part of this row that the engine uses."""
        return ModelCard(
            id=self.id,
            provider=self.provider,
            window=self.window,
            max_output=self.max_output,
            price=self.price,
            efforts=self.efforts,
            default_effort=self.default_effort,
            reasons=self.reasons,
            speed=self.speed,
        )


class _ModelFile(msgspec.Struct, forbid_unknown_fields=True):
    checked: dt.date
    source: str
    models: list[CatalogModel]


# Older versions of Azure's API refuse `stream_options` and `max_completion_tokens`.
_AZURE_SINCE = "2024-09-01"


def azure(url: str, version: str) -> CatalogProvider:
    """Return what Azure takes; `version` is that of the API that is asked: a day, "" for one that nobody names."""
    recent = version >= _AZURE_SINCE
    return CatalogProvider(
        title="Azure",
        base_url=url,
        max_tokens="max_completion_tokens" if recent else "max_tokens",
        usage_option=recent,
    )


def _azure_at(url: str, base: BaseUrl) -> CatalogProvider:
    """Return the row of Azure at an address, which says the version unless it is that of the latest, /openai/v1."""
    version = urllib.parse.parse_qs(base.query).get("api-version", [""])[0]
    return msgspec.structs.replace(
        azure(url, version or ("9" if base.path.endswith("/openai/v1") else "")),
        key_env=_OWN_KEY,
        key_optional=True,
        key_header="api-key",
        # What its models think is not sent, and comes before the answer.
        patience=Patience(first_token=300.0, hedge_after=60.0),
    )


class Catalog:
    """The known providers by name, and the known models by (provider, id)."""

    def __init__(self, providers: Mapping[str, CatalogProvider], models: Iterable[CatalogModel]) -> None:
        self.providers = dict(providers)
        self._models = {(model.provider, model.id): model for model in models}

    @classmethod
    def load(cls) -> "Catalog":
        """Return the catalogue that ships with Mixtura. It is read once per process."""
        return _load_shipped()

    def extended(self, rows: Iterable[CatalogModel]) -> "Catalog":
        """Return a catalogue with `rows` added. A row replaces the one with the same provider and id."""
        return Catalog(self.providers, [*self._models.values(), *rows])

    def provider(self, name: str) -> CatalogProvider:
        """Return a provider by name.

        A name that is an `http://` or `https://` address stands for the OpenAI-compatible server at that address. Its
        key, if the server needs one, is in MIXTURA_API_KEY.

        Raises:
            ConfigError: the provider is unknown.
        """
        if name in self.providers:
            return self.providers[name]
        if looks_like_address(name):
            base = read_base_url(name.strip(), key=_OWN_KEY, example=self._known_at(name))
            # Of one that ends in the path of a request, that says that nothing is to be added.
            url = name.strip() if base.exact else base.whole
            if is_azure(base):
                return _azure_at(url, base)
            return CatalogProvider(
                title=base.shown,
                base_url=url,
                key_env=_OWN_KEY,
                key_optional=True,
                usage_option=True,
                # Nobody knows what is behind an address: a second try could wait behind the first.
                one_machine=True,
            )
        near = difflib.get_close_matches(name.strip(), self.providers, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(self.providers))}."
        address = f", such as http://{name}:8000/v1" if not near and _HOST.fullmatch(name) else ""
        raise ConfigError(f"unknown provider {shown_name(name)!r}: {hint} A base URL works too{address}")

    def _known_at(self, name: str) -> str:
        """Return the base URL of the provider whose host `name` is, "" for none."""
        return next((row.base_url for row in self.providers.values() if f"//{name.strip()}/" in row.base_url), "")

    def models(self, provider: str | None = None) -> list[CatalogModel]:
        """Return all models, or those of one provider, in the catalogue's order."""
        return [model for model in self._models.values() if provider in (None, model.provider)]

    def get(self, provider: str, model: str) -> CatalogModel | None:
        """Return the row of a model, None when it is not in the catalogue."""
        return self._models.get((provider, model))

    def live(self, provider: str, day: dt.date, tier: Tier = "free") -> list[str]:
        """Return the ids of the models that a key of `tier` can use on `day`."""
        return [model.id for model in self.models(provider) if model.is_served(day, tier)]

    def replacement(self, provider: str, model: str) -> str | None:
        """Return the id of the model that replaces `model`, None when the catalogue names none."""
        row = self.get(provider, model)
        return row.replacement if row else None

    def living_replacement(self, provider: str, model: str, day: dt.date, tier: Tier = "free") -> str | None:
        """Follow the replacements of `model` to one that is served on `day`, None when there is no such model."""
        seen = {model}
        following = self.replacement(provider, model)
        while following is not None and following not in seen:
            row = self.get(provider, following)
            if row is None or row.is_served(day, tier):
                return following
            seen.add(following)
            following = row.replacement
        return None

    def nearest(self, provider: str, model: str, day: dt.date, count: int = 3) -> tuple[str, ...]:
        """Return up to `count` ids of served models that resemble `model`, the most similar first.

        Only chat models with a known price are suggested, because little is known about the others.
        """
        live = [row.id for row in self.models(provider) if row.is_served(day) and row.chat and row.price]
        near = difflib.get_close_matches(model, live, n=count, cutoff=0.3)
        return tuple(near or live[:count])


def parse_models(text: str, provider: str) -> list[CatalogModel]:
    """Parse one provider's model file. A row without a date or source of its own takes those of the file."""
    parsed = msgspec.convert(tomllib.loads(text), _ModelFile)
    return [
        msgspec.structs.replace(
            row, provider=provider, checked=row.checked or parsed.checked, source=row.source or parsed.source
        )
        for row in parsed.models
    ]


@functools.cache
def _load_shipped() -> Catalog:
    data = files("mixtura.models") / "data"
    providers = msgspec.convert(tomllib.loads((data / "providers.toml").read_text("utf-8")), dict[str, CatalogProvider])
    models = [
        row
        for name in providers
        if (data / f"{name}.toml").is_file()
        for row in parse_models((data / f"{name}.toml").read_text("utf-8"), name)
    ]
    return Catalog(providers, models)


def read_models(path: Path, provider: str) -> list[CatalogModel]:
    """Read a user's own model file.

    Raises:
        ConfigError: the file cannot be read or a row is invalid. The message names the file and the key.
    """
    try:
        return parse_models(utf8_text(read_input(path)), provider)
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{shown_name(path)}: {cause_of(error)}") from error
