// The server's API, typed. Every call is a POST of JSON: pipelines/app/routes.py has the other side.

export type Kind = "number" | "time" | "truth" | "text" | "tags" | "other";
export type Value = string | boolean | null;
export interface ColumnFacts { name: string; kind: Kind; type: string; unit: string; meaning: string; computed_by: string }
export interface SnapshotFacts { name: string; clips: number; hash: string; sql: string; at: string; weights: string }
export interface Start {
  store: string; clips: number; columns: ColumnFacts[]; tables: Record<string, string[]>; snapshots: SnapshotFacts[]; user: string;
}
export interface Search { text?: string; like?: string; visual?: boolean; count?: number; least?: number }
export type Point = [number, number];
export type Box = [number, number, number, number];
export interface Lasso { x: string; y: string; points: Point[] }
export interface View {
  ranges: Record<string, [number | null, number | null]>;
  values: Record<string, Value[]>;
  where: string; search: Search | null; lasso: Lasso | null; fold: boolean; sort: string; descending: boolean; seed: number; show: string;
}
export interface Mark { verdict: "keep" | "drop" | null; star: boolean; tags: string[] }
export interface Row {
  clip_id: string; width: number; height: number; duration_s: number; fps: number; num_frames: number; caption: string; copies: number; similarity: number | null;
  values: Record<string, unknown>; review: Mark;
}
export type Facet =
  | { kind: "none" }
  | { kind: "histogram"; edges: number[]; counts: number[]; missing: number; least: number; most: number }
  | { kind: "counts"; values: { value: string | boolean; count: number }[]; missing: number; more: number };
export interface Page {
  total: number; passing: number; shown: number; offset: number; rows: Row[]; facets: Record<string, Facet>;
  removed_by: Record<string, number>; similarity: [number, number] | null; waiting: string;
}
export interface Caption { text: string; kind: string; author: string; is_taken: boolean; is_written: boolean }
export interface Near { clip_id: string; score: number; caption: string }
export interface Part { start_s: number; end_s: number; shot_index: number; clip_id?: string; transition?: string; detector?: string; confidence?: number; crop_x?: number; crop_y?: number; crop_w?: number; crop_h?: number }
export interface Gap { kind: "transition" | "dropped" | "unused"; start_s: number; end_s: number; why: string }
export interface Clip {
  clip_id: string; row: Record<string, unknown>; source: Record<string, unknown>;
  timeline: { shots: Part[]; clips: Part[]; gaps: Gap[] }; failures: Record<string, unknown>[]; captions: Caption[];
  alike: Record<string, Near[]>; review: Mark & { caption: string | null; caption_by: string; by: string; at: string | null };
  history: { action: string; reviewer: string; at: string; caption: string | null }[];
}
export interface Stepped { clip_id: string; place: number }
export interface Done { action_id: string; action?: string; changed: number; stays: number; undo: number; redo: number }
export interface Frozen { name: string; clips: number; hash: string; sql: string }
export interface Table { columns: string[]; rows: unknown[][]; more: boolean }
export type Beside =
  | { kind: "none" }
  | { kind: "histogram"; edges: number[]; a: number[]; b: number[] }
  | { kind: "counts"; words: string[]; a: number[]; b: number[] };
export interface Compared {
  a: { name: string; clips: number }; b: { name: string; clips: number }; kept: number; added: number; removed: number;
  reweighted: number; came: string[]; went: string[]; columns: Record<string, Beside>;
}

export interface Cluster { id: number; name: string; clips: number; share: number; weighted: number; x: number | null; y: number | null }
export interface MapOf {
  box: Box; clips: number; without: number; inside: number;
  cells: { at: number[]; count: number[]; colour: (number | null)[] | null };
  dots: { clip_id: string[]; x: number[]; y: number[]; colour: (number | null)[] | null };
  scale: { kind: "count" } | { kind: "words"; words: string[] } | { kind: "number"; least: number; most: number };
  clusters: { list: Cluster[]; clips: number; effective: number; weights: string };
}

export async function call<T>(name: string, body: unknown = {}, signal?: AbortSignal): Promise<T> {
  const answer = await fetch(`/api/${name}`, {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body), signal: signal ?? null,
  });
  const text = await answer.text();
  let found: unknown;
  try {
    found = JSON.parse(text);
  } catch {
    throw new Error("the server gave no answer that can be read; is it still running?");
  }
  if (!answer.ok) throw new Error((found as { error?: string }).error ?? `the server answered ${answer.status}`);
  return found as T;
}

export const media = (id: string) => `/media/${encodeURIComponent(id)}.mp4`;
export const thumb = (id: string) => `/thumb/${encodeURIComponent(id)}.jpg`;
