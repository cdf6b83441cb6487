"""`ModelRegistry`: from a provider's name and a model's id to a model ready to be called.

Here the wrappers are put together, and here alone keys and base URLs are read: from the `env` that the
registry is made with.
"""

import datetime as dt
import hashlib
import os
import random
import urllib.parse
from collections.abc import Callable, Mapping
from functools import partial

import msgspec

from mixtura.chat import JsonObject
from mixtura.errors import ConfigError
from mixtura.forks import random_generator
from mixtura.limits.limiter import Limiter
from mixtura.models.base import ChatModel
from mixtura.models.card import ModelCard, Predicted, Price
from mixtura.models.catalog import TIERS, Catalog, CatalogModel, CatalogProvider, Tier
from mixtura.models.environment import api_key, base_url, place_of, server_address
from mixtura.models.in_process import asking, is_registered, load_provider
from mixtura.models.openai.endpoint import Endpoint
from mixtura.models.openai.failures import Failures
from mixtura.models.openai.http import HttpModel, answers, list_models
from mixtura.models.openai.proxy import proxy_for
from mixtura.models.openai.sdk import SdkClient
from mixtura.models.openai.trust import trust_in
from mixtura.models.openai.wire import Dialect
from mixtura.models.place import Place
from mixtura.models.predictions import Predictions, read_predictions
from mixtura.models.served import Accounting, Served
from mixtura.models.urls import BaseUrl, advice_for, read_base_url, secrets_in, url_problem
from mixtura.models.wrappers.limited import Limited
from mixtura.models.wrappers.priced import Priced
from mixtura.models.wrappers.queued import Queued
from mixtura.models.wrappers.retry import Retrying, RetryPolicy
from mixtura.models.wrappers.thinking import ThinkingApart
from mixtura.portable import OfOneProcess
from mixtura.secret import Secret
from mixtura.variables import Variables


class ModelRegistry(OfOneProcess):
    """Finds models by provider and id; each is made once.

    Args:
        catalog: the providers and models known; None for the one that ships with Mixtura.
        env: where keys, base URLs and proxies are read; None for the process's environment, as it is now.
        client: the user's own SDK client (groq, openai, or alike), which then makes every call.
        rng: jitters the pauses between attempts.
        policy: how often a failed call is tried.
        today: the day by which models are alive or gone.
        plan: the plan of the keys, whose limits are then kept from the first call on; None takes MIXTURA_PLAN from
            `env`, and without it the free plan's are a guess until the first reply tells better.
        predicted: what calls of (provider, model) are expected to take before they were measured; None reads the file
            that MIXTURA_PREDICTIONS of `env` names, if any.
        limiter: counts every call against its rate limits. None: the event loop's own limiter where it has one
            (`run_virtual`), else that of the Redis server that MIXTURA_REDIS_URL of `env` names, else the process's.

    Raises:
        ConfigError: no such plan; predictions that are none, or a file of them that cannot be read.
    """

    def __init__(
        self,
        catalog: Catalog | None = None,
        *,
        env: Mapping[str, str] | None = None,
        client: object | None = None,
        rng: random.Random | None = None,
        policy: RetryPolicy | None = None,
        today: Callable[[], dt.date] = dt.date.today,
        plan: str | None = None,
        predicted: Predictions | None = None,
        limiter: Limiter | None = None,
    ) -> None:
        self.catalog = catalog or Catalog.load()
        self._env = env = Variables.of(os.environ if env is None else env)
        self.plan = _plan(plan, self._env)
        self.predicted = _predicted(predicted, self._env)
        self._client = None if client is None else SdkClient(client)
        self._rng = rng or random_generator()
        self._policy = policy or RetryPolicy()
        self._today = today
        self._limiter = limiter
        self._served: dict[tuple[str, str], Served] = {}
        self._cards: dict[tuple[str, str], ModelCard] = {}
        self._addresses: dict[str, Secret] = {}

    def find(self, provider: str, model: str) -> Served:
        """Return the model, its failures retried, its thinking apart and its cost known where a price is.

        Raises:
            ConfigError: the provider is unknown, or its base URL or key cannot be used.
            MissingKeyError: it needs a key and none is set.
        """
        served = self._served.get((provider, model))
        if served is None:
            served = self._served[provider, model] = self._compose(self.known_as(provider), model)
        return served

    def unwrapped(self, provider: str, model: str) -> ChatModel:
        """Return the model as it answers by itself: not retried, not counted, its thinking left where it stands.

        Raises:
            ConfigError: as `find`.
        """
        if self.provider(provider).in_process:
            with asking(provider):
                return load_provider(provider).find(model, self._env).chat
        return self._bare(provider, model, None if self._client is not None else self.endpoint(provider))

    def card(self, provider: str, model: str) -> ModelCard:
        """Return what the catalogue knows of the model, and what is predicted; but for its id that may be nothing."""
        card = self._cards.get((provider, model))
        if card is None:
            provider = self.known_as(provider)
            row = self.catalog.get(provider, model)
            card = row.card if row is not None else ModelCard(id=model, provider=provider)
            own = self.catalog.providers.get(provider)
            if card.price is None and own is not None and own.one_machine:
                # A machine of one's own bills nothing.
                card = msgspec.structs.replace(card, price=Price(input=0.0, output=0.0))
            if self.is_in_process(provider):
                with asking(provider):
                    card = load_provider(provider).card(model, self._env)
            if (provider, model) in self.predicted:
                card = msgspec.structs.replace(card, predicted=self.predicted[provider, model])
            self._cards[provider, model] = card
        return card

    def replacement(self, provider: str, model: str) -> str | None:
        """Return the id to use in place of `model`: the first of its replacements that is still served."""
        return self.catalog.living_replacement(provider, model, self._today())

    async def list_models(self, provider: str) -> list[JsonObject]:
        """Return what the provider's own list of models says, row by row.

        Raises:
            ConfigError: as `find`.
            ModelError: the list could not be had.
        """
        if self.provider(provider).in_process:
            with asking(provider):
                return [{"id": name} for name in load_provider(provider).names(self._env)]
        endpoint = self.endpoint(provider)
        return await list_models(endpoint, self._failures(endpoint.provider, endpoint))

    def endpoint(self, provider: str) -> Endpoint:
        """Return where `provider` is reached and with which key.

        Raises:
            ConfigError: the provider is unknown or in this process, or its base URL or key cannot be used.
            MissingKeyError: it needs a key and none is set.
        """
        provider = self.known_as(provider)
        row = self.provider(provider)
        if row.in_process:
            raise ConfigError(f"{provider!r} has no address: its models run in this process")
        if (address := self._addresses.get(provider)) is not None:
            row = msgspec.structs.replace(row, base_url=address.reveal())
        base = base_url(row, self._env)
        proxy, variable = proxy_for(base.url, self._env)
        endpoint = Endpoint(
            provider=provider,
            url=base.url,
            query=Secret(base.query, sought=secrets_in(base.query)),
            notes=base.notes,
            key=api_key(provider, row, self._env),
            key_header=row.key_header,
            proxy=proxy,
            proxy_from=variable,
            trust=trust_in(self._env, os.environ),
        )
        if endpoint.trust.file or endpoint.trust.folder:
            endpoint.way()  # A file that is named and cannot be used is said before anything is sent.
        return endpoint

    def known_as(self, provider: str) -> str:
        """Return the name by which a provider is known here, and may be shown.

        It is the same but for an address whose query may hold a key: that has stars there, and is kept here.
        """
        if "?" not in provider or url_problem(provider.strip()):
            return provider
        base = read_base_url(provider.strip())
        if base.shown == base.whole:
            return provider
        name, number = base.shown, 1
        address = Secret(provider.strip(), sought=secrets_in(base.query))
        while self._addresses.setdefault(name, address) != address:
            number += 1
            name = base.shown.replace("***", f"***{number}")
        return name

    def provider(self, name: str) -> CatalogProvider:
        """Return the catalogue's row of a provider, or one for a provider in this process that a package offers.

        Raises:
            ConfigError: no such provider.
        """
        if name not in self.catalog.providers and self.is_in_process(name):
            return CatalogProvider(title=name, in_process=True)
        return self.catalog.provider(name)

    def is_in_process(self, provider: str) -> bool:
        """Say whether the models of `provider` run in this process, by the catalogue or an installed package."""
        row = self.catalog.providers.get(provider)
        return row.in_process if row is not None else "://" not in provider and is_registered(provider)

    def _failures(self, provider: str, endpoint: Endpoint | None = None) -> Failures:
        advice = "" if endpoint is None else advice_for(BaseUrl(endpoint.url, endpoint.query.reveal()))
        return Failures(provider, self.catalog, self._today, advice=advice)

    def _asked(self, own: CatalogProvider) -> CatalogProvider:
        """Return the row of the provider that is asked: the one of the user's client, else `own`."""
        return own if self._client is None else self._client.server_in(self.catalog) or own

    def _bare(self, provider: str, model: str, endpoint: Endpoint | None) -> ChatModel:
        """Return a model at an endpoint, or (None) behind the user's client, in no wrapper."""
        own = self.catalog.provider(provider)
        asked = self._asked(own)
        dialect = Dialect.of(asked, self.catalog.get(provider, model) if asked is own else None)
        if endpoint is not None:
            return HttpModel(endpoint, dialect, self._failures(provider, endpoint))
        assert self._client is not None
        return self._client.model(dialect, self._failures(provider))

    def _compose(self, provider: str, model: str) -> Served:
        if self.provider(provider).in_process:
            return self._in_process(provider, model)
        row, own = self.catalog.get(provider, model), self.catalog.provider(provider)
        asked = self._asked(own)
        if self._client is None:
            endpoint = self.endpoint(provider)
            chat = self._bare(provider, model, endpoint)
            url, key = endpoint.url, endpoint.key
            alive, notes = partial(answers, endpoint), endpoint.notes
        else:
            chat = self._bare(provider, model, None)
            url, key, alive, notes = self._client.base_url, self._client.key, None, ()
        server = server_address(url, own) or provider
        accounting = self._accounting(server, key, model, row)
        place = place_of(asked, server)
        chat = Limited(chat, provider, accounting)
        if place.queues or asked.max_concurrency is not None:
            chat = Queued(chat, accounting, place.name, asked.max_concurrency)
        # A machine that is busy, or loads its model, is waited for as long as the deadline allows.
        patient = msgspec.structs.replace(self._policy, patient=True) if place.queues else self._policy
        chat = ThinkingApart(Retrying(chat, patient, self._rng))
        card = self.card(provider, model)
        if card.price is not None:
            chat = Priced(chat, card.price)
        return Served(
            chat,
            card,
            accounting,
            partial=self._client is None and not place.queues,
            place=place,
            answers=alive,
            notes=notes,
        )

    def _in_process(self, provider: str, model: str) -> Served:
        # No limits, and no second tries: what fails in this process fails again.
        with asking(provider):
            found = load_provider(provider).find(model, self._env)
            if not isinstance(found, Served):
                raise TypeError(f"find({model!r}) returned {type(found).__name__}, not Served")
        chat: ChatModel = ThinkingApart(found.chat)
        if found.card.price is not None:
            chat = Priced(chat, found.card.price)
        place = found.place if found.place.name else Place(name=f"{provider}/{model}", served_by="process")
        return found._replace(chat=chat, place=place)

    def _accounting(self, server: str, key: Secret, model: str, row: CatalogModel | None) -> Accounting:
        # Providers limit organisations, and of an organisation only its key is known here: whichever way a server is
        # reached, the same key shares one account. The hash tells keys apart without showing them.
        host = urllib.parse.urlsplit(server).netloc or server
        group = f"{host}/{hashlib.sha256(f'{server} {key.reveal()}'.encode()).hexdigest()[:16]}"
        plans = tuple(limits for plan in TIERS if row is not None and (limits := row.limits(plan)) is not None)
        limits = row.limits(self.plan or "free") if row is not None else None
        return Accounting(
            key=f"{group}/{model}",
            group=group,
            limits=limits,
            known=self.plan is not None,
            plans=plans,
            keeper=self._limiter,
            redis=Secret.of_address(self._env.get("MIXTURA_REDIS_URL", "").strip()),
        )


def _plan(given: str | None, env: Mapping[str, str]) -> Tier | None:
    named = given or env.get("MIXTURA_PLAN", "").strip().lower()
    if not named:
        return None
    for plan in TIERS:
        if plan == named:
            return plan
    raise ConfigError(f"unknown plan {named!r}: expected {', '.join(TIERS)} (MIXTURA_PLAN)")


def _predicted(given: Predictions | None, env: Mapping[str, str]) -> Predictions:
    named = env.get("MIXTURA_PREDICTIONS", "").strip()
    if given is not None:
        try:
            return msgspec.convert(dict(given), dict[tuple[str, str], Predicted])
        except (msgspec.ValidationError, TypeError, ValueError) as error:
            raise ConfigError(f"predicted: expected {{(provider, model): Predicted(...)}}: {error}") from error
    try:
        return read_predictions(named) if named else {}
    except ConfigError as error:
        raise ConfigError(f"MIXTURA_PREDICTIONS: {error.message}") from error
