"""What a model is: its name and its variants, as settings that validate, hash and go into a run's JSON."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import field_validator, model_validator

from ..declare import Declared, SettingError, setting
from .registry import find, is_own


class ModelSpec(Declared):
    """Settings of a network; a field of this type takes a plain name, such as "cnn4", as well.

    >>> spec = fl.ModelSpec(name="cnn4", norm="group", width=0.5)
    >>> fl.train(fl.FedAvg(), data, spec, rounds=1, evaluation=fl.Evaluation(final="none")).experiment.model == spec
    True
    """

    name: str = setting(
        "cnn4",
        "cnn4, lenet, mobilenet, resnet18, resnet20; segnet for masks; module:function of your own; custom: cut by"
        " models.split",
    )
    norm: Literal["default", "batch", "group", "none"] = setting(
        "default", "normalisation; default: none for lenet, batch statistics for the others"
    )
    groups: int = setting(2, "groups of channels under norm = group; without effect otherwise", ge=1, span=(1, 32))
    width: float = setting(1.0, "factor on every layer's channels", gt=0, unit="×", log=True, span=(0.125, 2))
    head_init: Literal["default", "orthogonal", "he", "xavier"] = setting(
        "default", "the head's first weights; default: PyTorch's, uniform with a bias; the others: zero bias"
    )
    context: int = setting(
        0, "numbers of each client's own that the head reads beside the features; see share = all-context",
        ge=0, le=10_000, span=(0, 32), new=True,
    )  # fmt: skip
    code: str | None = setting(None, "digest of what your own modules compute; noted with the fingerprint", new=True)
    fingerprint: str | None = setting(None, "tells your own networks apart; noted when a run is made")

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name != "custom":
            find(name)
        return name

    @model_validator(mode="after")
    def _fits_custom(self) -> Self:
        if self.name != "custom":
            for field in ("fingerprint", "code"):
                if (given := getattr(self, field)) is not None and not is_own(self.name):
                    raise SettingError(field, given, "only for networks of your own, leave it None")
            return self
        if self.fingerprint is None:
            raise SettingError("fingerprint", None, "name = 'custom' needs a text that tells the network apart")
        for field in ("norm", "groups", "width", "head_init", "context"):
            given, only = getattr(self, field), type(self).model_fields[field].default
            if given != only:
                raise SettingError(field, given, f"a custom network is used as it is, leave it at {only!r}")
        return self

    @property
    def normalisation(self) -> str:
        """The norm in use: "batch", "group" or "none"."""
        if self.norm == "default":
            return "batch" if self.name == "custom" else find(self.name).norm
        return self.norm

    def channels(self, base: int) -> int:
        """Channels of a layer that has `base` of them at width 1: rounded, at least 1.

        Raises:
            SettingError: if GroupNorm cannot share them out; two channels a group at least, because a group with a
                single value (a 1x1 map) would come out constant.
        """
        channels = max(1, round(base * self.width))
        if self.normalisation == "group" and (channels % self.groups or channels < 2 * self.groups):
            raise SettingError(
                "ModelSpec.width",
                self.width,
                f"{self.name} gets a layer of {channels} channels, and norm = 'group' "
                f"with groups = {self.groups} needs a multiple of {self.groups}, at least {2 * self.groups}; "
                f"multiples of {self.groups / 8:g} always fit",
            )
        return channels
