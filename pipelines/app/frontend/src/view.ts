// A view as a value, and as the address of the page, which can be sent to somebody.
import type { Box, Point, Value, View } from "./api";
import type { Look } from "./paint";

export const EMPTY: View = {
  ranges: {}, values: {}, where: "", search: null, lasso: null, fold: false, sort: "", descending: false, seed: 0, show: "kept",
};

export interface Place { view: View; clip: string; panel: string; facets: string[] | null; map: Look }

export function read(address: string): Place {
  const query = new URLSearchParams(address);
  let view = EMPTY;
  try {
    const given: unknown = JSON.parse(query.get("v") ?? "{}");
    if (given && typeof given === "object" && !Array.isArray(given)) {
      const known = Object.entries(given).filter(([name]) => name in EMPTY);
      view = { ...EMPTY, ...Object.fromEntries(known) };
    }
  } catch { /* an address that was cut off shows everything */ }
  const facets = query.get("facets");
  return { view, clip: query.get("clip") ?? "", panel: query.get("panel") ?? "", facets: facets ? facets.split(",") : null, map: look(query) };
}

/** How the map is looked at: map=all or four corners, colour=COLUMN, weights=COLUMN. */
function look(query: URLSearchParams): Look {
  const corners = (query.get("map") ?? "").split(",").map(Number);
  const box = corners.length === 4 && corners.every(Number.isFinite) ? (corners as Box) : null;
  return { on: query.has("map"), box, colour: query.get("colour") ?? "cluster_id", weights: query.get("weights") ?? "" };
}

export function write(place: Place): string {
  const query = new URLSearchParams();
  const changed = Object.entries(place.view).filter(([name, value]) => JSON.stringify(value) !== JSON.stringify(EMPTY[name as keyof View]));
  if (changed.length) query.set("v", JSON.stringify(Object.fromEntries(changed)));
  if (place.facets) query.set("facets", place.facets.join(","));
  if (place.clip) query.set("clip", place.clip);
  if (place.panel) query.set("panel", place.panel);
  if (place.map.on) {
    query.set("map", place.map.box ? place.map.box.map((one) => Number(one.toPrecision(6))).join(",") : "all");
    if (place.map.colour !== "cluster_id") query.set("colour", place.map.colour);
    if (place.map.weights) query.set("weights", place.map.weights);
  }
  const text = query.toString();
  return text ? `?${text}` : "/";
}

export function withRange(view: View, name: string, range: [number | null, number | null] | null): View {
  const { [name]: _old, ...others } = view.ranges;
  const none = range === null || (range[0] === null && range[1] === null);
  const ranges = none ? others : { ...others, [name]: range };
  return shownAgain({ ...view, ranges, sort: view.sort === "near_bound" && !Object.keys(ranges).length ? "" : view.sort });
}

export function withValues(view: View, name: string, values: Value[]): View {
  const { [name]: _old, ...others } = view.values;
  return shownAgain({ ...view, values: values.length ? { ...others, [name]: values } : others });
}

export function withLasso(view: View, points: Point[] | null): View {
  return shownAgain({ ...view, lasso: points && { x: "map_x", y: "map_y", points } });
}

export function without(view: View, filter: string): View {
  const [kind, ...rest] = filter.split(":");
  const column = rest.join(":");
  if (kind === "range") return withRange(view, column, null);
  if (kind === "value") return withValues(view, column, []);
  if (kind === "lasso") return withLasso(view, null);
  return shownAgain(kind === "where" ? { ...view, where: "" } : { ...view, search: null });
}

export function filters(view: View): string[] {
  return [
    ...Object.keys(view.ranges).map((name) => `range:${name}`), ...Object.keys(view.values).map((name) => `value:${name}`),
    ...(view.where.trim() ? ["where"] : []), ...(view.search ? ["search"] : []),
    ...(view.lasso ? ["lasso"] : []),
  ];
}

/** A view that showed what a filter removes goes back to what is kept once that filter is gone. */
function shownAgain(view: View): View {
  const there = view.show === "kept" || (view.show === "removed" && filters(view).length > 0) || filters(view).includes(view.show);
  return there ? view : { ...view, show: "kept" };
}

/** The view with one more condition in SQL; the one there may end in a comment. */
export const withWhere = (view: View, condition: string): View => ({ ...view, where: view.where.trim() ? `(${view.where.trim()}\n) and ${condition}` : condition });

export function described(view: View, filter: string): string {
  const [kind, ...rest] = filter.split(":");
  const column = rest.join(":");
  if (kind === "range") {
    const [least, most] = view.ranges[column] ?? [null, null];
    return [least !== null ? `${short(least)} ≤ ` : "", column, most !== null ? ` ≤ ${short(most)}` : ""].join("");
  }
  if (kind === "value") return `${column}: ${(view.values[column] ?? []).map((v) => (v === null ? "none" : String(v))).join(", ")}`;
  if (kind === "where") return view.where.length > 60 ? `${view.where.slice(0, 59)}…` : view.where;
  if (kind === "lasso") return "a part of the map";
  const least = view.search?.least === undefined ? "" : `, similarity ≥ ${view.search.least}`;
  return (view.search?.like ? `like ${view.search.like.slice(0, 8)}` : `“${view.search?.text ?? ""}”`) + least;
}

/** A number in few characters: 0.012, 12.3, 1,235, 1.2 M. */
export function short(value: number): string {
  if (!Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  if (size >= 1e9) return `${trim(value / 1e9)} G`;
  if (size >= 1e6) return `${trim(value / 1e6)} M`;
  if (size >= 1e4) return `${trim(value / 1e3)} k`;
  if (size >= 1000 || Number.isInteger(value)) return Math.round(value).toLocaleString("en");
  return size > 0 && size < 1e-3 ? value.toExponential(1) : String(Number(value.toPrecision(3)));
}

const trim = (value: number) => String(Number(value.toPrecision(3)));
export const share = (value: number) => `${Number((100 * value).toPrecision(value < 0.1 ? 2 : 3))} %`;
export const count = (value: number) => value.toLocaleString("en");

export function time(seconds: number): string {
  if (seconds < 60) return `${Number(seconds.toPrecision(3))} s`;
  const s = Math.floor(seconds % 60);
  const rest = `${String(Math.floor(seconds / 60) % 60).padStart(2, "0")}:${String(s).padStart(2, "0")}`;
  return seconds < 3600 ? rest : `${Math.floor(seconds / 3600)}:${rest}`;
}
