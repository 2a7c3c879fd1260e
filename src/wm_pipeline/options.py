"""The base of every options model: what a parameters file may say."""

from pydantic import BaseModel, ConfigDict


class Options(BaseModel):
    """Frozen, validated options; an unknown key is an error, not a surprise."""

    model_config = ConfigDict(frozen=True, extra="forbid")
