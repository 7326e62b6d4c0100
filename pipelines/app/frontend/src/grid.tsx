// The grid: only the rows of clips that are on the screen exist; a card plays while the pointer or the focus is on it.
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { call, media, thumb, type Page, type Row, type View } from "./api";
import { count, short, time } from "./view";

const CHUNK = 60, GAP = 10, LABEL = 46;
const TRIES = 3, AGAIN_MS = 1000; // of a chunk that a busy server did not give
const TALLEST = 12_000_000; // px that a browser can scroll; beyond, a pixel of the bar is more than a pixel of the grid

interface Props {
  view: View; page: Page | null; columns: string[]; focus: number; setFocus: (index: number) => void; selected: Set<string>;
  toggle: (index: number, upTo: boolean) => void; open: (index: number) => void; size: number; rows: Rows; stale: boolean;
}

/** Rows by their place in the view, fetched in chunks. */
export class Rows {
  private chunks = new Map<number, Row[]>();
  private asked = new Map<number, AbortController>();
  changed: () => void = () => {};
  constructor(readonly view: View, readonly columns: string[], readonly shown: number, first: Row[]) {
    if (first.length) this.chunks.set(0, first);
  }
  at(index: number): Row | undefined { return this.chunks.get(Math.floor(index / CHUNK))?.[index % CHUNK]; }
  want(from: number, to: number): void {
    const wanted = new Set<number>();
    for (let chunk = Math.floor(from / CHUNK); chunk <= Math.floor(to / CHUNK); chunk++) if (chunk * CHUNK < this.shown) wanted.add(chunk);
    for (const [chunk, request] of this.asked) if (!wanted.has(chunk)) { request.abort(); this.asked.delete(chunk); }
    for (const chunk of wanted) if (!this.chunks.has(chunk) && !this.asked.has(chunk)) void this.fetch(chunk);
  }
  async get(index: number): Promise<Row | undefined> {
    if (index < 0 || index >= this.shown) return undefined;
    if (!this.at(index)) await this.fetch(Math.floor(index / CHUNK));
    return this.at(index);
  }
  /** The ids of the clips from one place to another, those that were not scrolled to as well. */
  async ids(from: number, to: number): Promise<string[]> {
    const here = Array.from({ length: to - from + 1 }, (_, i) => this.at(from + i)?.clip_id);
    if (here.every((id) => id !== undefined)) return here as string[];
    return (await call<{ clip_ids: string[] }>("between", { view: this.view, offset: from, count: to - from + 1 })).clip_ids;
  }
  /** Take over what a decision made of rows that are here. */
  mark(ids: Set<string>, change: (row: Row) => Row): void {
    for (const [chunk, rows] of this.chunks) if (rows.some((row) => ids.has(row.clip_id))) this.chunks.set(chunk, rows.map((row) => (ids.has(row.clip_id) ? change(row) : row)));
    this.changed();
  }
  forget(): void { this.chunks.clear(); this.changed(); }
  private async fetch(chunk: number, left = TRIES): Promise<void> {
    const request = new AbortController();
    this.asked.set(chunk, request);
    try {
      const page = await call<Page>("page", { view: this.view, columns: this.columns, offset: chunk * CHUNK, limit: CHUNK }, request.signal);
      this.chunks.set(chunk, page.rows);
      if (this.chunks.size > 80) this.chunks.delete(this.chunks.keys().next().value!);
      this.changed();
    } catch { // scrolled past, or a server that is busy, or gone, which the next change of the view says
      if (!request.signal.aborted && left) setTimeout(() => { if (!this.asked.has(chunk) && !this.chunks.has(chunk)) void this.fetch(chunk, left - 1); }, AGAIN_MS);
    } finally { if (this.asked.get(chunk) === request) this.asked.delete(chunk); }
  }
}

export function Grid({ view, page, columns, focus, setFocus, selected, toggle, open, size, rows, stale }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const [extent, setExtent] = useState({ width: 0, height: 0 });
  const [top, setTop] = useState(0);
  const [, redraw] = useState(0);
  rows.changed = () => redraw((n) => n + 1);

  useLayoutEffect(() => {
    const element = box.current!;
    const watch = new ResizeObserver(() => setExtent({ width: element.clientWidth, height: element.clientHeight }));
    watch.observe(element);
    return () => watch.disconnect();
  }, []);

  const across = Math.max(1, Math.floor((extent.width - GAP) / (size + GAP)));
  const width = Math.floor((extent.width - GAP * (across + 1)) / across);
  const height = Math.round((width * 9) / 16) + LABEL + GAP;
  const shown = page?.shown ?? 0;
  const lines = Math.ceil(shown / across);
  const whole = lines * height + GAP;
  const scale = Math.max(1, (whole - extent.height) / Math.max(1, TALLEST - extent.height));
  const start = top * scale;
  const first = Math.max(0, Math.floor(start / height) - 1);
  const last = Math.min(lines - 1, Math.ceil((start + extent.height) / height));

  useEffect(() => {
    if (!shown || !extent.width) return;
    const wait = setTimeout(() => rows.want(first * across, Math.min(shown - 1, (last + 1) * across)), 40);
    return () => clearTimeout(wait);
  }, [first, last, across, rows, shown, extent.width]);

  useEffect(() => { // a new view begins at its top
    if (box.current && focus === 0) box.current.scrollTop = 0;
  }, [rows]);

  useLayoutEffect(() => { // the card with the focus is in sight, at once: whoever scrolls on from there is not taken back
    const element = box.current;
    if (!element || !across || !extent.height) return;
    const line = Math.floor(focus / across) * height;
    if (line < start) element.scrollTop = line / scale;
    else if (line + height > start + extent.height) element.scrollTop = (line + height + GAP - extent.height) / scale;
  }, [focus, across, extent.height]);

  const cards = [];
  for (let index = first * across; index < Math.min(shown, (last + 1) * across); index++) cards.push(index);
  const keys = (event: KeyboardEvent) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: across, ArrowUp: -across, PageDown: across * 3, PageUp: -across * 3 }[event.key];
    if (event.key === "Home") move(0);
    else if (event.key === "End") move(shown - 1);
    else if (step !== undefined) move(focus + step);
    else if (event.key === "Enter" && event.target === event.currentTarget) open(focus);
    else return;
    event.preventDefault();
  };
  const move = (index: number) => setFocus(Math.max(0, Math.min(shown - 1, index)));
  const shift = scale > 1 ? top - start : 0; // where the bar is coarser than the grid, rows hang at the bar's place

  return (
    <div class="grid" ref={box} tabIndex={0} role="listbox" aria-multiselectable="true" aria-busy={stale} aria-label={`${count(shown)} clips`} aria-activedescendant={shown ? `card-${focus}` : undefined}
      onScroll={(e) => setTop(e.currentTarget.scrollTop)} onKeyDown={keys}>
      <div role="presentation" style={{ height: `${Math.min(whole, TALLEST)}px`, position: "relative" }}>
        {cards.map((index) => (
          <Card key={index} index={index} row={rows.at(index)} folded={view.fold} focused={index === focus} chosen={selected.has(rows.at(index)?.clip_id ?? "")} columns={columns}
            style={{ transform: `translate(${GAP + (index % across) * (width + GAP)}px, ${GAP + Math.floor(index / across) * height + shift}px)`, width: `${width}px`, height: `${height - GAP}px` }}
            pick={(event) => { setFocus(index); if (event.ctrlKey || event.metaKey || event.shiftKey) toggle(index, event.shiftKey); else open(index); }}
            tick={() => { setFocus(index); toggle(index, false); }} />
        ))}
      </div>
    </div>
  );
}

interface CardProps {
  index: number; row: Row | undefined; folded: boolean; focused: boolean; chosen: boolean; columns: string[]; style: Record<string, string>;
  pick: (event: MouseEvent) => void; tick: () => void;
}

function Card({ index, row, folded, focused, chosen, columns, style, pick, tick }: CardProps) {
  const [over, setOver] = useState(false);
  const tags = useMemo(() => row?.review.tags ?? [], [row]);
  if (!row) return <div id={`card-${index}`} role="option" aria-selected="false" aria-label="loading" class={`card empty ${focused ? "focused" : ""}`} style={style} />;
  const { verdict, star } = row.review;
  const copies = folded ? row.copies : 1;
  return (
    <div id={`card-${index}`} role="option" aria-selected={chosen} data-clip={row.clip_id}
      class={`card ${focused ? "focused" : ""} ${chosen ? "chosen" : ""} ${verdict ?? ""}`} style={style} onClick={pick}
      onPointerEnter={(e) => e.pointerType === "mouse" && setOver(true)} onPointerLeave={() => setOver(false)}>
      <div class="frame">
        <Still id={row.clip_id} />
        {(over || focused) && <video src={media(row.clip_id)} muted loop autoPlay playsInline preload="auto" tabIndex={-1} aria-hidden="true" />}
        <span class="length">{time(row.duration_s)}</span>
        <span class={`tick ${chosen ? "on" : ""}`} aria-hidden="true" onClick={(e) => { e.stopPropagation(); tick(); }} title="select (x)">{chosen ? "✓" : ""}</span>
        {verdict && <span class={`verdict ${verdict}`}>{verdict}</span>}
        {copies > 1 && <span class="copies">{count(copies)} alike</span>}
        {star && <span class="star" title="starred">★</span>}
      </div>
      <p class="caption">{row.caption || <span class="note">{row.clip_id}</span>}</p>
      <p class="facts">
        {tags.map((tag) => <span class="tag" key={tag}>{tag}</span>)}
        {row.similarity !== null && <span title="to what is searched for: 1 is the same">similarity {row.similarity.toFixed(2)}</span>}
        {columns.map((name) => <span key={name} title={name}>{shown(row.values[name])}</span>)}
        <span>{row.width}×{row.height}</span>
      </p>
    </div>
  );
}

export function Still({ id }: { id: string }) {
  const [broken, setBroken] = useState("");
  const ask = () => { // an image tells no reason; the same address does
    setBroken("no picture");
    void fetch(thumb(id)).then(async (answer) => { if (!answer.ok) setBroken(`no picture: ${(await answer.json() as { error: string }).error}`); }).catch(() => undefined);
  };
  if (broken) return <span class="broken" title={broken}><span>{broken}</span></span>;
  return <img src={thumb(id)} alt="" loading="lazy" decoding="async" draggable={false} onError={ask} />;
}

export function shown(value: unknown): string {
  if (value === null || value === undefined) return "–";
  if (typeof value === "number") return short(value);
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
