"""Every setting of the gateway, in one frozen and validated place.

Sources from lowest to highest: defaults, `gateway.toml`, environment, flags. `load` merges and checks them.
"""

from gateway.config.credentials import Credentials, Secret
from gateway.config.faults import ConfigError, Fault
from gateway.config.settings import Config, Setting, WebhookEvent, settings_table
from gateway.config.sources import load

__all__ = [
    "Config",
    "ConfigError",
    "Credentials",
    "Fault",
    "Secret",
    "Setting",
    "WebhookEvent",
    "load",
    "settings_table",
]
