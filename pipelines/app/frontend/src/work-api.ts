// The API of runs, models, generations and commands, typed: pipelines/app/work/routes.py has the other side.

export type Facts = Record<string, string | number | boolean | null>;
export interface UnderWay { command: string; started_at: string; what: string; done: number; total: number; host: string; pid: number; state: "running" | "lost"; seen_at: number; counts: Facts }
export interface Stage { name: string; meaning: string; count: number; hours: number; share: number }
export interface Group { stage: string; message: string; count: number; examples: string[] | null }
export interface Failure { uri: string | null; clip_id: string | null; stage: string; error: string; attempts: number; at: string }
export interface Run { run_id: string; command: string; state: string; started_at: string | null; seconds: number | null; counts: Facts; stages: { label: string; seconds: number; share: number }[] }
export interface Watched {
  under_way: UnderWay[]; sources: { found: number; ok: number; duplicate: number; failed: number; other: number }; funnel: Stage[];
  failures: Group[]; more_failures: number; newest: Failure[]; runs: Run[];
}
export interface RunFacts { run_id: string; command: string; state: string; started_at: string | null; ended_at: string | null; recipe: string; counts: Facts; stage_seconds: Facts; stage_bytes: Facts; usage: Facts; versions: Facts }
export interface Training { key: string; name: string; folder: string; told_by: string; is_there: boolean; state: string; step: number | null; steps: number | null; loss: number | null; snapshot: string; changed_at: number; objective: string }
export interface Snapshot { name: string; hash: string; by: string; note: string; clips: number | null; sql: string; sources: { uri: string; clips: number }[]; more_sources: number; is_here: boolean }
export interface TrainingFacts extends Training {
  recipe: string; charts: { title: string; meaning: string; svg: string }[]; samples: { step: number; folder: string; files: string[] }[]; prompts: string[];
  origin: { checkpoint: Facts; parents: (Facts & { name: string })[]; snapshots: Snapshot[] };
}
export interface Evaluation { evaluation: string; name: string; suite: string; at: string | null; prompts: number | null; wanted: number | null; models: Record<string, { ok: number; failed: number }>; people: number; judges: number; studies: number }
export interface Measure { name: string; unit: string; meaning: string }
export interface Made { generation_id: string; model: string; sample: number | null; seed: number | null; state: string; error: string | null; width: number | null; height: number | null; measures: Record<string, number> }
export interface Prompt { prompt_id: string; prompt: string; category: string; videos: Made[] }
export interface EvaluationFacts {
  evaluation: string; name: string; suite: string; models: string[]; settings: string; measures: Measure[]; categories: string[]; prompts: Prompt[]; total: number; offset: number;
  summary: { model: string; ok: number; failed: number; measures: Record<string, number>; scores: Record<string, number> }[];
}
export interface NearClip { clip_id: string; likeness: number; caption: string; source: string; start_s: number; end_s: number; weight: Record<string, number>; scores: Facts; loss: string }
export interface Generation {
  row: Facts & { generation_id: string; model: string; prompt: string | null; state: string }; measures: (Measure & { value: number })[];
  ratings: { kind: string; dimension: string; value: number; rater: string; is_human: boolean; generation_id: string }[]; lineage: string; evaluation: string; evaluation_name: string;
  others: { generation_id: string; model: string; state: string; error: string | null }[]; trained_on: { name: string; hash: string; by: string; note: string; clips: number | null }[];
  near: { by: string; note: string; clips: NearClip[] }[]; notes: string[];
}
export interface Field { name: string; kind: "text" | "truth" | "list" | "choice" | "number"; choices: string[]; default: unknown; about: string; is_required: boolean; is_long: boolean }
export interface Form { name: string; about: string; on_cluster: boolean; fields: Field[] }
export interface Started { key: string; line: string; state: "running" | "done" | "failed" | "stopped"; code: number | null; began: number; ended: number | null; output: string; done: number | null; total: number | null }
export interface Commands { allowed: boolean; work: string; cluster: string; forms: Form[]; started: Started[] }
export interface Study { study: string; evaluation: string; kind: string; dimensions: string[]; items: number; at: string | null; raters: { name: string; answered: number; tasks: number; link: string }[]; problem: string }

export const generated = (id: string) => `/generated/${encodeURIComponent(id)}.mp4`;
export const still = (id: string) => `/generated/${encodeURIComponent(id)}.jpg`;
/** The address of the grid with a view. */
export const grid = (view: Record<string, unknown>) => `/?${new URLSearchParams({ v: JSON.stringify(view) })}`;
const quoted = (text: string) => `'${text.replaceAll("'", "''")}'`;
export const ofSnapshot = (name: string) => grid({ where: `clip_id in (select clip_id from snapshot_rows where snapshot = ${quoted(name)})` });
export const ofSource = (uri: string) => grid({ where: `uri = ${quoted(uri)}` });
