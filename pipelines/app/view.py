"""What a person asked to see: filters, an order and a page of them, checked before anything is computed."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from reelwright.curation.store.sql_text import identifier, is_one_of, literal
from reelwright.errors import UserError
from reelwright.pipelines.app import polygon

WHERE, SEARCH, LASSO = "where", "search", "lasso"
MOST_FILTERS = 40
Name = Annotated[str, Field(max_length=200)]
Number = Annotated[float, Field(allow_inf_nan=False)]


class Strict(BaseModel):
    """Refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Search(Strict):
    """Clips near to a text or to a clip.

    Attributes:
        text: the words; or
        like: the id of a clip.
        visual: near in what is seen, not in what captions say.
        count: of the nearest clips, at most.
        least: similarity (cosine, 1 is the same) below which a clip does not pass.
    """

    text: Annotated[str, Field(max_length=500)] = ""
    like: Annotated[str, Field(max_length=64)] = ""
    visual: bool = False
    count: Annotated[int, Field(ge=1, le=5_000)] = 500
    least: Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)] | None = None

    @model_validator(mode="after")
    def _one(self) -> Search:
        if bool(self.text.strip()) == bool(self.like):
            raise ValueError("a search is by words or by a clip")
        return self


class Lasso(Strict):
    """Clips that lie in a polygon, as places of two columns of numbers; crossing lines leave holes (even-odd rule)."""

    x: Name = "map_x"
    y: Name = "map_y"
    points: Annotated[
        list[tuple[polygon.Coordinate, polygon.Coordinate]], Field(min_length=3, max_length=polygon.MOST_POINTS)
    ]


class View(Strict):
    """Filters and order.

    Attributes:
        ranges: column -> [least, most], null for no bound; clips without a value do not pass.
        values: column -> values that pass, null among them for clips without one.
        where: a condition in SQL over clips_full.
        search: clips near to a text or a clip, the nearest first where `sort` is empty.
        lasso: clips of a part of the map.
        fold: show one clip of each group of near duplicates.
        sort: a column, `random`, `near_bound` (first the clips about which the ranges decide narrowly), or empty for
            the table's order.
        descending: the largest first.
        seed: of a random order.
        show: kept; removed: what the filters leave out; or the name of one filter: what it alone leaves out.
    """

    ranges: Annotated[dict[Name, tuple[Number | None, Number | None]], Field(max_length=MOST_FILTERS)] = {}
    values: Annotated[
        dict[Name, Annotated[list[Annotated[str, Field(max_length=1_000)] | bool | None], Field(max_length=1_000)]],
        Field(max_length=MOST_FILTERS),
    ] = {}
    where: Annotated[str, Field(max_length=20_000)] = ""
    search: Search | None = None
    lasso: Lasso | None = None
    fold: bool = False
    sort: Name = ""
    descending: bool = False
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    show: Name = "kept"

    def filters(self) -> list[str]:
        """Return the names of the filters: range:COLUMN, value:COLUMN, where, search, lasso."""
        names = [f"range:{name}" for name in self.ranges] + [f"value:{name}" for name in self.values]
        names += [WHERE] * bool(self.where.strip()) + [SEARCH] * (self.search is not None)
        return names + [LASSO] * (self.lasso is not None)

    def key(self, name: str) -> str:
        """Return a text that tells this filter from others of its name."""
        kind, _, column = name.partition(":")
        by_column: dict[str, dict[str, Any]] = {"range": dict(self.ranges), "value": dict(self.values)}
        content: Any = by_column[kind][column] if column else getattr(self, kind)
        return f"{name}={content.model_dump_json() if isinstance(content, BaseModel) else json.dumps(content)}"


class Page(Strict):
    """A request for rows of a view.

    facets: columns whose histograms are wanted; columns: values to show with each clip.
    """

    view: View = View()
    columns: Annotated[list[Name], Field(max_length=12)] = []
    facets: Annotated[list[Name], Field(max_length=60)] = []
    offset: Annotated[int, Field(ge=0, le=2**31)] = 0
    limit: Annotated[int, Field(ge=0, le=500)] = 60


def parse(model: type[Any], body: bytes) -> Any:
    """Read a request's JSON.

    Args:
        model: what is expected.
        body: the bytes that came.

    Raises:
        UserError: the bytes are something else; the sentence names the place.
    """
    try:
        return model.model_validate_json(body or b"{}")
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part)[:60] for part in first["loc"])
        raise UserError(f"the request is wrong{f' at {place}' if place else ''}: {first['msg']}") from None
    except (ValueError, RecursionError):
        raise UserError("the request is no JSON that can be read") from None


def query(view: View, found: Sequence[str] = (), nan_columns: frozenset[str] = frozenset()) -> str:
    """Return the SELECT of the clips of a view, its near duplicates not folded.

    Args:
        view: the view.
        found: clip ids of its search, where it has one.
        nan_columns: columns that hold NaN, which SQL takes for larger than any number.
    """
    parts = {f"range:{name}": _range(name, bounds, name in nan_columns) for name, bounds in view.ranges.items()}
    parts |= {f"value:{name}": _among(name, values) for name, values in view.values.items()}
    if view.where.strip():
        parts[WHERE] = f"({view.where.strip()}\n)"
    if view.search is not None:
        parts[SEARCH] = is_one_of("clip_id", found) if found else "false"
    if view.lasso is not None:
        parts[LASSO] = polygon.condition(identifier(view.lasso.x), identifier(view.lasso.y), view.lasso.points)
    if view.show == "removed":
        parts = {"removed": _not(" AND ".join(parts.values())) if parts else "false"}
    elif view.show in parts:
        parts[view.show] = _not(parts[view.show])
    return "SELECT clip_id FROM clips_full" + (f" WHERE {' AND '.join(parts.values())}" if parts else "")


def _not(condition: str) -> str:
    """Return what a condition leaves out: also the rows of which it says nothing."""
    return f"NOT coalesce(({condition}), false)"


def _range(name: str, bounds: tuple[float | None, float | None], has_nan: bool) -> str:
    least, most = bounds
    quoted = identifier(name)
    parts = [f"{quoted} >= {_number(least)}"] if least is not None else []
    parts += [f"{quoted} <= {_number(most)}"] if most is not None else []
    if has_nan:
        parts.append(f"NOT isnan({quoted})")
    return " AND ".join(parts or [f"{quoted} IS NOT NULL"])


def _number(value: float) -> str:
    whole = math.isfinite(value) and value == int(value) and abs(value) < 2**53
    return str(int(value)) if whole else f"{value!r}"


def _among(name: str, values: list[str | bool | None]) -> str:
    quoted, nothing = identifier(name), None in values
    given = [("true" if v else "false") if isinstance(v, bool) else literal(v) for v in values if v is not None]
    if name == "review_tags":
        among = f"list_has_any({quoted}, [{', '.join(given)}])" if given else ""
    else:
        among = f"{quoted} IN ({', '.join(given)})" if given else ""
    parts = [part for part in (among, f"{quoted} IS NULL" * nothing) if part]
    return f"({' OR '.join(parts)})" if parts else "false"
