"""`Controls`: widgets made from a declaration of settings; they cannot drift from what is validated and hashed.

controls = Controls(fl.FedBABU())       # or a class, or a family: Controls(fl.Partition)
controls.value                          # the settings, or SettingError
controls.problems                       # {"swa.cycle": "swa.cycle = 9: must fit ..."}, shown beside the controls too
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import ipywidgets
import traitlets

from ..declare import Declared, Family, Problem, SettingError
from ..describe import first_line, rows
from ..training.what_if import FIXED
from .field_kinds import default_of, field_of, first_of, tooltip_of
from .fields import Field, Group, Maybe, complaint, described, fold, free, menu_of, try_button

WRONG = object()


class Controls(ipywidgets.VBox):
    """A control for every setting of a declaration, validated as it changes.

    Args:
        declared: settings to start from, or their class; an abstract family gets a menu of its kinds, with only the
            chosen kind's own settings below.
        family: where `declared` is a kind, the family to choose from.
        label: what the menu of kinds is called.
        first: by class, the settings that are seen at first; the others are folded. By default a kind's own.
        hide: names of settings, at any depth, that have no control and keep the value they are given.
        choices: by dotted name, the values of a menu in place of free text.
        across: side by side instead of one below the other.
        attempt: called with the dotted name of a setting of which other values are to be tried; None: nobody offers it.

    Attributes:
        changed: counts changes; observe it.
        valid: whether there is no problem; observe it.
        fields: the control of each setting, by name.
        kind: the menu of kinds, if there is one.
    """

    changed = traitlets.Int(0)
    valid = traitlets.Bool(True)

    def __init__(
        self,
        declared: Declared | type[Declared],
        *,
        family: type[Family] | None = None,
        label: str = "kind",
        first: Mapping[type[Declared], Sequence[str]] | None = None,
        hide: Sequence[str] = (),
        choices: Mapping[str, Sequence[Any]] | None = None,
        across: bool = False,
        attempt: Callable[[str], object] | None = None,
    ) -> None:
        super().__init__(layout=ipywidgets.Layout(width="100%"))
        self._across, self._attempt = across, attempt
        self._first, self._hide, self._choices = dict(first or {}), tuple(hide), dict(choices or {})
        self._built: dict[type[Declared], tuple[dict[str, Field], ipywidgets.VBox]] = {}
        self._general = ipywidgets.HTML(layout=ipywidgets.Layout(display="none", width="100%"))
        self._own: dict[str, Problem] = {}  # what validation found, by field; "" for all
        self._told: dict[str, Problem] = {}  # what others complained about
        self._value: Declared | None = None
        self._class: type[Declared] | None = None
        self._hidden: dict[str, Any] = {}
        self._quiet = True
        self.fields: dict[str, Field] = {}
        self.kind: ipywidgets.Dropdown | None = None
        given, chosen = (None, declared) if isinstance(declared, type) else (declared, type(declared))
        if isinstance(declared, type) and issubclass(declared, Family) and declared.abstract:
            family, chosen = declared, next(iter(declared.members().values()))
        self._family = family
        if family is not None:
            self._members = family.members()
            tooltip = f"{first_line(family) or label} Known: {', '.join(self._members)}"
            self.kind = ipywidgets.Dropdown(options=menu_of(self._members), **described(label, tooltip))
            self.kind.value = chosen.model_fields["kind"].default
            self.kind.observe(self._choose, "value")
            beside = [try_button(label, partial(attempt, ""))] if attempt and len(self._members) > 1 else []
            self._kinds = ipywidgets.HBox([self.kind, *beside], layout={"width": "100%", "align_items": "center"})
        self._put(chosen, given)
        self._quiet = False
        self._validate()

    @property
    def value(self) -> Any:
        """The settings.

        Raises:
            SettingError: with every problem, if there is one.
        """
        if self._value is None:
            problems = [problem._replace(field=name) for name, problem in self._problems().items()]
            raise SettingError("; ".join(self.problems.values()) or "some settings are wrong", problems=problems)
        return self._value

    @value.setter
    def value(self, settings: Declared) -> None:
        self.look_again()
        self._quiet = True
        try:
            if self.kind is not None:
                self.kind.value = type(settings).model_fields["kind"].default
            self._put(type(settings), settings)
        finally:
            self._quiet = False
        self._changed_inside()

    def change(self, **settings: Any) -> None:
        """Set some of the settings, as a person would."""
        self.value = self.value.replace(**settings)

    @property
    def problems(self) -> dict[str, str]:
        """What is wrong, by the dotted name of the setting; "" where it is about all of them."""
        return {name: str(problem) for name, problem in self._problems().items()}

    def complain(self, error: SettingError) -> None:
        """Show what turned out to be wrong outside, beside the settings that it names, until something changes."""
        for problem in error.problems:
            if not self._point(problem.path, problem):
                self._told[""] = problem
        self._show()

    def look_again(self) -> None:
        """Offer the kinds that were defined since, here and further inside."""
        for _, inner in self._inner():
            inner.look_again()
        known = self._members | self._family.members() if self.kind is not None and self._family is not None else {}
        if self.kind is None or known == self._members:
            return
        self._members, chosen = known, self.kind.value
        quiet, self._quiet = self._quiet, True
        with self.kind.hold_sync():
            self.kind.options, self.kind.value = menu_of(known), chosen
        self._quiet = quiet

    def close(self) -> None:
        """Free the widgets of all kinds that were chosen, too."""
        for fields, body in self._built.values():
            for field in fields.values():
                field.close()
            free(body)
        free(self)

    def control(self, path: str) -> Any:
        """The control of a setting by its dotted name: a `Field`, or `Controls` of nested settings."""
        name, _, rest = path.partition(".")
        inner = dict(self._inner())
        if name in inner and (rest or name not in self.fields):
            return inner[name].control(rest)
        field = self.fields[name]
        if rest:
            raise KeyError(path)
        return inner.get(name, field)

    def _put(self, chosen: type[Declared], settings: Declared | None) -> None:
        if chosen not in self._built:
            self._built[chosen] = self._build(chosen, settings)
        elif settings is not None:
            for name, field in self._built[chosen][0].items():
                field.write(getattr(settings, name))
        if settings is not None or chosen is not self._class:
            hidden = [name for name in chosen.model_fields if name in self._hide and settings is not None]
            self._hidden = {name: getattr(settings, name) for name in hidden}
        self._class = chosen
        self.fields, body = self._built[chosen]
        self.children = [self._general, body] if self.kind is None else [self._kinds, self._general, body]

    def _build(self, chosen: type[Declared], settings: Declared | None) -> tuple[dict[str, Field], ipywidgets.VBox]:
        tooltips = {row["name"]: tooltip_of(row) for row in rows(chosen)}
        fields = {}
        for name, info in chosen.model_fields.items():
            if name == "kind" or name in self._hide:
                continue
            value = default_of(info) if settings is None else getattr(settings, name)
            menu = self._choices.get(name)
            field = fields[name] = field_of(name, info.annotation, info, tooltips[name], menu, self._nested)
            field.write(value)
            field.listen(self._changed_inside)
            if self._attempt and menu is None and field.several and name not in FIXED:
                field.append(try_button(name, partial(self._attempt, name)))
        first = first_of(chosen, fields, self._first)
        shown = [fields[name].widget for name in first if name in fields]
        for name in first if self._across else ():
            fields[name].beside_others()
        shown += fold([field.widget for name, field in fields.items() if name not in first])
        body = ipywidgets.VBox(shown, layout={"width": "100%"} | ({"flex_flow": "row wrap"} if self._across else {}))
        if self.kind is not None:
            body.add_class("flatlab-kind")
        return fields, body

    def _nested(self, name: str) -> Callable[[Any, type[Family] | None], Controls]:
        """What makes the controls of settings inside a setting."""
        below = f"{name}."
        inner = {key.removeprefix(below): value for key, value in self._choices.items() if key.startswith(below)}
        attempt = None if name in FIXED else self._attempt
        options: dict[str, Any] = {"first": self._first, "hide": self._hide, "choices": inner}
        options["attempt"] = attempt and (lambda path: attempt(f"{below}{path}".rstrip(".")))
        return lambda value, family: Controls(value, family=family, label=name, **options)

    def _choose(self, change: dict[str, Any]) -> None:
        if self._quiet:
            return
        self._quiet = True
        try:
            old, before = self._class, self.fields
            chosen = self._members[change["new"]]
            self._put(chosen, None)
            # What a person has set goes along, but for what makes the one kind and the other what they are.
            special = {name for kind in (old, chosen) if kind for name in kind.__annotations__}
            for name in before.keys() & self.fields.keys() - special:
                value = before[name].read_or(WRONG)
                if value is not WRONG:
                    self.fields[name].write(value)
        finally:
            self._quiet = False
        self._changed_inside()

    def _changed_inside(self) -> None:
        if not self._quiet:
            self._validate()
            self.changed += 1

    def _validate(self) -> None:
        assert self._class is not None
        self._forget()
        self._own, self._value = {}, None
        values = dict(self._hidden)
        for name, field in self.fields.items():
            try:
                values[name] = field.read()
            except SettingError as error:
                if not isinstance(field, Group | Maybe) or field.controls is None:
                    self._own[name] = error.problems[0]  # nested settings show theirs themselves
                values[name] = WRONG
        if WRONG not in values.values():
            try:
                self._value = self._class(**values)
            except SettingError as error:
                self._blame(error)
        self._show()

    def _blame(self, error: SettingError) -> None:
        for problem in error.problems:
            name = next(iter(problem.path), "")
            if name in self.fields and not isinstance(self.fields[name], Group | Maybe):
                before = f"{self._own[name].allowed}; or " if name in self._own else ""
                self._own[name] = Problem(name, self.fields[name].read_or(WRONG), before + problem.allowed)
            elif not self._point(problem.path, problem):
                self._own[""] = problem

    def _problems(self) -> dict[str, Problem]:
        problems = self._own | self._told
        for name, inner in self._inner():
            problems |= {f"{name}.{path}" if path else name: problem for path, problem in inner._problems().items()}
        return problems

    def _point(self, path: list[str], problem: Problem) -> bool:
        """Put a problem beside the setting at `path`, here or further inside."""
        inner = dict(self._inner())
        if not path:
            return False
        if path[0] in self.fields:
            if not (len(path) > 1 and path[0] in inner and inner[path[0]]._point(path[1:], problem)):
                self._told[path[0]] = problem
                self._show()
            return True
        return any(controls._point(path, problem) for controls in inner.values())

    def _forget(self) -> None:
        self._told = {}
        for _, inner in self._inner():
            if inner._told or inner._inner():
                inner._forget()
                inner._show()

    def _show(self) -> None:
        for name, field in self.fields.items():
            field.mark(str(self._told.get(name) or self._own.get(name) or ""))
        general = str(self._told.get("") or self._own.get("") or "")
        self._general.value, self._general.layout.display = complaint(general), "" if general else "none"
        self.valid = self._value is not None and not self.problems

    def _inner(self) -> list[tuple[str, Controls]]:
        return [
            (name, field.controls)
            for name, field in self.fields.items()
            if isinstance(field, Group | Maybe) and field.controls
        ]
