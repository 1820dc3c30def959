"""What all parts of `bundle.json` have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _plain_file_name(name: str) -> str:
    if not name or name in (".", "..") or any(c in name for c in "/\\\0:"):
        raise ValueError(f"{name!r} is not a plain file name inside the bundle")
    return name


FileName = Annotated[str, AfterValidator(_plain_file_name)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Part(BaseModel):
    """Base of all manifest parts: immutable, and an unknown key is an error instead of being lost."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, serialize_by_alias=True)
