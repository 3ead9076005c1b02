"""The admin acts, gathered: what the Server API, the command line and the control channel share."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.config import Config, Credentials
from gateway.services.accounts import Accounts
from gateway.services.bans import Bans
from gateway.services.broadcasts import Broadcasts
from gateway.services.content import Contents
from gateway.services.control import Control
from gateway.services.deletion import Deletion
from gateway.services.drops import Drops
from gateway.services.friends import Friends
from gateway.services.history import Histories
from gateway.services.messages import Messages
from gateway.services.outbox import Outbox
from gateway.services.presence import Presence
from gateway.services.profiles import Profiles
from gateway.services.rates import Rates, Replays
from gateway.services.relationships import Relationships
from gateway.services.settings import Settings
from gateway.services.tags import Tags
from gateway.services.tokens import Tokens
from gateway.services.words import Words
from gateway.store.store import Store


@dataclass(frozen=True, slots=True)
class Services:
    """One instance of each admin service over one store."""

    accounts: Accounts
    bans: Bans
    broadcasts: Broadcasts
    control: Control
    friends: Friends
    deletion: Deletion
    histories: Histories
    messages: Messages
    outbox: Outbox
    presence: Presence
    profiles: Profiles
    rates: Rates
    relationships: Relationships
    replays: Replays
    settings: Settings
    tags: Tags
    tokens: Tokens
    words: Words

    @classmethod
    def over(cls, store: Store, config: Config, credentials: Credentials) -> Services:
        """Builds them."""
        drops = Drops(store, config.drop_wait_s)
        settings = Settings(store, config)
        words = Words(store, config.words_max)
        contents = Contents(words, settings, config.body_bytes_max)
        accounts = Accounts(store, config)
        outbox = Outbox(store, config, settings)
        friends = Friends(store, settings, outbox, config.list_max)
        return cls(
            accounts=accounts,
            bans=Bans(store, drops),
            broadcasts=Broadcasts(store, settings, contents, config),
            control=Control(store, drops),
            friends=friends,
            deletion=Deletion(store, drops, friends, outbox, config),
            histories=Histories(store),
            messages=Messages(store, settings, contents, outbox, config),
            outbox=outbox,
            presence=Presence(store),
            profiles=Profiles(store, settings, outbox),
            rates=Rates(store, config.rate_limits),
            relationships=Relationships(store, settings, config.list_max),
            replays=Replays(store, config.signature_window_s),
            settings=settings,
            tags=Tags(store),
            tokens=Tokens(store, drops, accounts, settings, credentials, config.token_lifetime_s),
            words=words,
        )
