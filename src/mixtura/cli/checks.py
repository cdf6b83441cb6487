"""One finding of `mixtura doctor`."""

import msgspec


class Check(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One finding. `ok` is None for what is merely told; `fix` is the next step."""

    name: str
    ok: bool | None
    said: str
    fix: str = ""
