"""What a server's own list of models says for one key: which there are, and their sizes; kept for the next runs.

`mixtura models` and `mixtura doctor` ask a server for its list and keep it in the state folder. A run asks nobody: it
reads the list that is kept, for as long as it is fresh, and `with_accounts` puts its figures in place of the
catalogue's.
"""

import datetime as dt
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from mixtura.chat import JsonObject
from mixtura.errors import ConfigError
from mixtura.limits.window import Limits
from mixtura.models.catalog import Catalog, CatalogModel
from mixtura.models.environment import server_address
from mixtura.models.openai.endpoint import Endpoint
from mixtura.places import state_folder, unusable_state, write_atomically

FRESH = dt.timedelta(days=7)
"""How long a list counts. Providers announce what they take away weeks before."""
# Where servers write how many tokens a model reads, and how many it writes. Groq: context_window,
# max_completion_tokens. vLLM: max_model_len. llama.cpp: meta.n_ctx. OpenRouter, Together and Mistral: the rest.
_WINDOW = ("context_window", "max_model_len", "meta.n_ctx", "context_length", "max_context_length")
_OUTPUT = ("max_completion_tokens", "max_output_tokens", "top_provider.max_completion_tokens")
_MOST = 100_000_000  # tokens; a larger figure is no size of a model


class ListedModel(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One model of a server's list; sizes are tokens, None where the list does not say.

    `limits` are those that the head of a reply stated (`doctor --ask`); a list says nothing of them.
    """

    id: str
    window: int | None = None
    max_output: int | None = None
    limits: Limits | None = None


class AccountModels(msgspec.Struct, frozen=True, kw_only=True):
    """The models that one key may use at one server, as the server said on the day `asked`."""

    provider: str
    asked: dt.date
    models: tuple[ListedModel, ...]

    def get(self, model: str) -> ListedModel | None:
        """Return what the list says of a model, None where it does not name it."""
        return next((row for row in self.models if row.id == model), None)


def read_list(provider: str, rows: Iterable[JsonObject], day: dt.date) -> AccountModels:
    """Return what the rows of a server's list say; rows without an id and inactive models are passed over."""
    models = tuple(
        ListedModel(id=row["id"], window=_tokens(row, _WINDOW), max_output=_tokens(row, _OUTPUT))
        for row in rows
        if isinstance(row.get("id"), str) and row.get("active") is not False
    )
    return AccountModels(provider=provider, asked=day, models=models)


def _tokens(row: JsonObject, places: Sequence[str]) -> int | None:
    """Return the first figure in `places` that can be a number of tokens."""
    for place in places:
        value: Any = row
        for step in place.split("."):
            value = value.get(step) if isinstance(value, dict) else None
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _MOST:
            return value
    return None


def keep_list(listed: AccountModels, endpoint: Endpoint, catalog: Catalog, env: Mapping[str, str]) -> str:
    """Keep a list for the next runs, with the limits that the one before had, if it is fresh.

    A folder that cannot be written loses no more than that. Return why it is not kept, "" where it is.
    """
    before = kept_list(endpoint, catalog, env, listed.asked)
    known = {} if before is None else {model.id: model.limits for model in before.models}
    models = tuple(
        msgspec.structs.replace(model, limits=model.limits or known.get(model.id)) for model in listed.models
    )
    listed = msgspec.structs.replace(listed, models=models)
    try:
        write_atomically(_file(endpoint, catalog, env), msgspec.json.encode(listed))
    except OSError as error:
        return unusable_state(env, error)
    except ConfigError as error:
        return error.message
    return ""


def kept_list(endpoint: Endpoint, catalog: Catalog, env: Mapping[str, str], day: dt.date) -> AccountModels | None:
    """Return the list that is kept for the server and key of `endpoint`; None without one that is fresh on `day`."""
    try:
        listed = msgspec.json.decode(_file(endpoint, catalog, env).read_bytes(), type=AccountModels)
    except (OSError, ConfigError, msgspec.DecodeError, UnicodeDecodeError):
        return None  # it is asked for again some day
    return listed if dt.timedelta() <= day - listed.asked <= FRESH else None


def with_limits(listed: AccountModels, model: str, limits: Limits) -> AccountModels:
    """Return a list in which one model has the limits that a reply stated."""
    models = tuple(msgspec.structs.replace(row, limits=limits) if row.id == model else row for row in listed.models)
    return msgspec.structs.replace(listed, models=models)


def _file(endpoint: Endpoint, catalog: Catalog, env: Mapping[str, str]) -> Path:
    # Another key may use other models; the hash tells keys apart without showing them.
    address = server_address(endpoint.url, catalog.provider(endpoint.provider))
    name = hashlib.sha256(f"{address} {endpoint.key.reveal()}".encode()).hexdigest()[:24]
    return state_folder(env) / "models" / f"{name}.json"


def with_accounts(catalog: Catalog, lists: Iterable[AccountModels]) -> Catalog:
    """Return `catalog` with what the lists say in place of its own figures.

    A model that a list names is served, whatever the catalogue's dates say.
    """
    return catalog.extended(
        _row(catalog.get(listed.provider, model.id), model, listed) for listed in lists for model in listed.models
    )


def _row(row: CatalogModel | None, model: ListedModel, listed: AccountModels) -> CatalogModel:
    if row is None:
        row = CatalogModel(
            id=model.id, provider=listed.provider, checked=listed.asked, source="the server's list of models"
        )
    window = model.window or row.window
    # Of a model that the catalogue does not know, nobody knows whether it thinks before it answers: with a known size
    # of its replies it would be asked for short ones.
    most = row.max_output and (model.max_output or row.max_output)
    return msgspec.structs.replace(
        row,
        window=window,
        max_output=most if window is None or most is None else min(most, window),
        released=None,
        shut_down=None,
        enterprise_since=None,
        free=_limits(row, model.limits),
    )


def _limits(row: CatalogModel, stated: Limits | None) -> Limits | None:
    """Return the limits from which a run begins where no plan was named: those of the plan that `stated` belong to.

    A reply states two of four; where they are those of no plan, nothing is known of the others.
    """
    if stated is None:
        return row.free
    wanted = {name: value for name, value in msgspec.structs.asdict(stated).items() if value is not None}
    for plan in (row.free, row.developer):
        if plan is not None and all(getattr(plan, name) in (None, value) for name, value in wanted.items()):
            return plan
    return stated
