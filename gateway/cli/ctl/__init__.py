"""`gateway ctl`: acts of an admin, over Redis itself, so that they work while the admin port is down."""

from gateway.cli.ctl.commands import app

__all__ = ["app"]
