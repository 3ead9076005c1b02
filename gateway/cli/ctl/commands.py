"""Every `ctl` command, in the order of its help."""

from __future__ import annotations

from cyclopts import App, Group

from gateway.cli.ctl import drops, lists, nodes, users

app = App(
    name="ctl",
    help="Ban, kick, list and change things while everything runs. Works over Redis, whatever the admin port does.",
    help_format="plaintext",
    result_action="return_value",
)

_GROUPS = (
    ("Drops: each says how many sockets it closed", drops.COMMANDS),
    ("Users", users.COMMANDS),
    ("Nodes and settings", nodes.COMMANDS),
)

for _place, (_title, _commands) in enumerate(_GROUPS):
    _group = Group(_title, sort_key=_place)
    for _order, (_name, _command) in enumerate(_commands.items()):
        app.command(_command, name=_name, group=_group, sort_key=_order)

_group = Group("Lists", sort_key=len(_GROUPS))
for _name, (_help, _commands) in lists.COMMANDS.items():
    _list = App(
        name=_name,
        help=_help,
        help_format="plaintext",
        result_action="return_value",
        group=_group,
    )
    for _order, (_verb, _command) in enumerate(_commands.items()):
        _list.command(_command, name=_verb, sort_key=_order)
    app.command(_list)
