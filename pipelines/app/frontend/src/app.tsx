// The page: filters on the left, the grid, one clip and the snapshots over it; keys for all that is done often.
import { render } from "preact";
import { useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { call, type ColumnFacts, type Done, type Page, type Row, type Start, type Stepped, type View } from "./api";
import "../../../browse/report/palette.css"; // of all pages of reel
import "./app.css";
import { ClipPage, isTyping } from "./clip";
import { Exact, FacetBox } from "./facets";
import { Snapshots } from "./freeze";
import { Grid, Rows } from "./grid";
import { ClipMap } from "./map";
import { Places } from "./places";
import { SqlBox } from "./sqlbox";
import { count, described, EMPTY, filters, read, without, write, type Place } from "./view";

const FIRST_FACETS = ["duration_s", "aesthetic_score", "aesthetic_standin_score", "motion_score", "blur_score", "text_coverage", "watermark_score", "camera_motion", "height", "review_verdict", "review_tags"];
const WAIT_MS = 30; // a moving slider asks at most so often
const FOUND = 500, MOST_FOUND = 5000; // clips of a search, unless somebody says how many, and at most
const SLOW_MS = 250; // what takes longer is seen to be under way
const KEYS: [string, string][] = [
  ["arrows", "move"], ["Enter", "open the clip"], ["k  d", "keep, drop"], ["s", "star, or no star"], ["t", "tag"], ["x", "select"], ["Shift+x", "select up to here"], ["Esc", "select none, close"],
  ["u  Shift+u", "undo, redo"], ["q", "queue: the next undecided clip opens after each decision"], ["/", "search"], [",  .", "one frame back, on"], ["[  ]", "slower, faster"], ["space", "play, pause"], ["n  p", "on the map: the next clip, the one before"], ["?", "these keys"],
];

function App() {
  const [place, setPlaceState] = useState<Place>(() => read(location.search));
  const [start, setStart] = useState<Start | null>(null);
  const [page, setPage] = useState<Page | null>(null);
  const [rows, setRows] = useState(() => new Rows(EMPTY, [], 0, []));
  const [focus, setFocus] = useState(0);
  const [selected, setSelected] = useState<Set<string>>(new Set());
  const [anchor, setAnchor] = useState(0);
  const [message, setMessage] = useState<{ text: string; undo: boolean } | null>(null);
  const [fault, setFault] = useState("");
  const [wrongSql, setWrongSql] = useState("");
  const [stale, setStale] = useState(false); // what is shown is of the view before
  const [version, setVersion] = useState(0);
  const [queue, setQueue] = useState(false);
  const [side, setSide] = useState(false);
  const [asked, setAsked] = useState<"" | "tag" | "keys">("");
  const [reviewer, setReviewer] = useState(() => localStorage.getItem("reviewer") ?? "");
  const [size, setSize] = useState(() => Number(localStorage.getItem("size")) || (innerWidth < 600 ? 170 : 230));
  const tagTargets = useRef<string[] | null>([]); // null: all shown
  const { view } = place;

  const setPlace = useCallback((next: Partial<Place>, push = false) => {
    setPlaceState((old) => {
      const made = { ...old, ...next };
      history[push ? "pushState" : "replaceState"](null, "", write(made));
      return made;
    });
  }, []);
  const setView = useCallback((made: View) => { setFocus(0); setPlace({ view: made }); }, []);
  useEffect(() => {
    const back = () => { setPlaceState(read(location.search)); setFocus(0); };
    addEventListener("popstate", back);
    return () => removeEventListener("popstate", back);
  }, []);
  useEffect(() => {
    call<Start>("start").then((found) => { setStart(found); setReviewer((old) => old || found.user || "me"); }, (e: Error) => setFault(e.message));
  }, []);

  const known = useMemo(() => new Map((start?.columns ?? []).map((c) => [c.name, c])), [start]);
  const facets = useMemo(() => (place.facets ?? FIRST_FACETS).filter((name) => known.has(name)), [place.facets, known]);
  const columns = useMemo(() => {
    const sorted = view.sort && known.get(view.sort)?.kind !== "tags" && known.has(view.sort) && !view.sort.startsWith("review_") ? [view.sort] : [];
    return [...sorted, ...Object.keys(view.ranges)].filter((n, i, all) => all.indexOf(n) === i && !n.startsWith("review_") && n !== "duration_s").slice(0, 3);
  }, [view, known]);

  useEffect(() => { // the view's first rows, asked for before the columns are known; and its histograms
    const request = new AbortController();
    const slow = setTimeout(() => setStale(true), SLOW_MS);
    const arrived = () => { clearTimeout(slow); setStale(false); };
    const wait = setTimeout(() => {
      call<Page>("page", { view, columns, facets, limit: 60 }, request.signal).then((found) => {
        arrived();
        setPage(found);
        setRows(new Rows(view, columns, found.shown, found.rows));
        setFault("");
        setWrongSql("");
        performance.mark("reel-page");
      }, (e: Error) => {
        if (e.name === "AbortError") return;
        arrived();
        if (view.where) setWrongSql(e.message); else setFault(e.message);
      });
    }, start ? WAIT_MS : 0);
    return () => { clearTimeout(wait); clearTimeout(slow); request.abort(); };
  }, [view, start, facets.join(), columns.join(), version]);

  // --- decisions -----------------------------------------------------------------------------------------------------

  const current = place.map.on ? "" : rows.at(focus)?.clip_id ?? ""; // on the map no clip has the focus
  const targets = place.clip ? [place.clip] : selected.size ? [...selected] : current ? [current] : [];

  const done = (made: Done, what: string) => {
    const stays = made.stays ? `; ${count(made.stays)} stay, since somebody decided about them later` : "";
    setMessage({ text: `${count(made.changed)} ${what}${stays}`, undo: made.undo > 0 });
    setVersion((n) => n + 1);
  };
  const decide = async (action: string, text = "", ids = targets) => {
    if (!ids.length || !reviewer.trim()) return;
    try {
      const made = await call<Done>("decide", { action, text, reviewer: reviewer.trim(), clip_ids: ids });
      const did = made.action ?? action;
      rows.mark(new Set(ids), (row) => changed(row, did, text));
      done(made, past(did, text));
      if (queue && place.clip && ["keep", "drop"].includes(action)) await nextUndecided(place.clip);
    } catch (e) { setFault((e as Error).message); }
  };
  const back = async (which: "undo" | "redo") => {
    try {
      done(await call<Done>(which, { reviewer: reviewer.trim() }), which === "undo" ? "undone" : "done again");
      rows.forget();
    } catch (e) { setMessage({ text: (e as Error).message, undo: false }); }
  };
  const decideAll = async (action: string, text = "") => {
    if (!page || !reviewer.trim() || (!text && !confirm(`${action} all ${count(page.shown)} clips shown?`))) return;
    try { done(await call<Done>("decide", { action, text, reviewer: reviewer.trim(), view }), past(action, text)); rows.forget(); } catch (e) { setFault((e as Error).message); }
  };
  const askTag = (ids: string[] | null) => { tagTargets.current = ids; setAsked("tag"); };
  const toggle = async (index: number, upTo: boolean) => { // of clips that have not come yet, too
    const [from, to] = upTo ? [Math.min(anchor, index), Math.max(anchor, index)] : [index, index];
    if (!upTo) setAnchor(index);
    try {
      const ids = await rows.ids(from, to);
      setSelected((old) => { const next = new Set(old); for (const id of ids) if (upTo || !next.delete(id)) next.add(id); return next; });
    } catch (e) { setFault((e as Error).message); }
  };

  // --- going about ---------------------------------------------------------------------------------------------------

  const show = (id: string) => setPlace({ clip: id }, !place.clip);
  const open = (index: number) => void rows.get(index).then((row) => { if (row) { setFocus(index); show(row.clip_id); } });
  const step = async (asked: { of: string; back?: boolean; undecided?: boolean; itself?: boolean }) => { // from a clip, wherever the list has moved
    const next = await call<Stepped>("step", { view, ...asked });
    if (next.clip_id) { setFocus(next.place); show(next.clip_id); }
    return next.clip_id;
  };
  const go = (steps: number) => void step({ of: place.clip, back: steps < 0 }).catch((e: Error) => setFault(e.message));
  const nextUndecided = async (of: string, itself = false) => {
    try {
      if (await step({ of, undecided: true, itself })) return;
      close();
      setMessage({ text: "the queue is at its end", undo: false });
    } catch (e) { setFault((e as Error).message); }
  };
  const startQueue = () => { setQueue(true); void nextUndecided(place.clip || current, true); };
  useEffect(() => { // what asked is gone: keys go to the clips again
    if (!asked && !place.clip && !place.panel) document.querySelector<HTMLElement>(".grid, .map canvas")?.focus();
  }, [asked, place.clip, place.panel]);
  const close = () => { setPlace({ clip: "", panel: "" }); setQueue(false); };

  const keys = useRef((_: KeyboardEvent) => {});
  keys.current = (event) => { // set while drawing: a key right after another sees what that one did
    if (event.key === "Escape") {
      if (asked) setAsked("");
      else if (isTyping(event)) (event.target as HTMLElement).blur();
      else if (place.clip || place.panel) close();
      else setSelected(new Set());
      return;
    }
    if (isTyping(event) || event.altKey) return;
    const key = event.key.toLowerCase();
    if ((event.ctrlKey || event.metaKey) && key === "z") void back(event.shiftKey ? "redo" : "undo");
    else if (event.ctrlKey || event.metaKey) return;
    else if (key === "u") void back(event.shiftKey ? "redo" : "undo");
    else if (key === "?") setAsked("keys");
    else if (key === "/") document.querySelector<HTMLElement>("#search")?.focus();
    else if (place.panel) return;
    else if (key === "k") void decide("keep");
    else if (key === "d") void decide("drop");
    else if (key === "s") void decide("flip_star");
    else if (key === "t" && targets.length) askTag(targets);
    else if (key === "q") startQueue();
    else if (key === "x" && !place.clip && !place.map.on && page?.shown) void toggle(focus, event.shiftKey);
    else if (place.clip && event.key === "ArrowRight") go(1);
    else if (place.clip && event.key === "ArrowLeft") go(-1);
    else return;
    event.preventDefault();
  };
  useEffect(() => {
    const pressed = (event: KeyboardEvent) => keys.current(event);
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, []);

  if (!start) return <div class="loading">{fault ? <p class="alarm" role="alert">{fault}</p> : <p>opening the store …</p>}</div>;
  const chips = filters(view).filter((name) => name !== "where" || !wrongSql); // what the server refuses filters nothing
  const clear = () => setView({ ...EMPTY, sort: view.sort === "near_bound" ? "" : view.sort, descending: view.descending });
  const inClip = !!place.clip;
  const behind = inClip || !!place.panel || !!asked; // what lies under a dialog takes no keys
  return (
    <div class={`app ${side ? "side" : ""}`}>
      <header class="top" inert={behind}>
        <button class="menu" aria-label="filters" aria-expanded={side} onClick={() => setSide(!side)}>☰</button>
        <h1><span class="brand">reel</span> <span class="store" title={start.store}>{start.store.split("/").slice(-2).join("/")}</span></h1>
        <Places here="/" />
        <SearchBox view={view} change={setView} looks={known.has("visual_embedding")} />
        <label class="who">reviewer <input value={reviewer} maxLength={60} aria-invalid={!reviewer.trim()} onInput={(e) => { setReviewer(e.currentTarget.value); localStorage.setItem("reviewer", e.currentTarget.value.trim()); }} /></label>
        <button onClick={() => setPlace({ panel: "snapshots" }, true)}>Snapshots</button>
        <button class="quiet" onClick={() => setAsked("keys")} aria-label="keys">?</button>
      </header>
      <nav class="filters" aria-label="filters" inert={behind}>
        {facets.map((name) => <FacetBox key={name} column={known.get(name)!} facet={page?.facets[name]} view={view} change={setView} remove={() => setPlace({ facets: facets.filter((one) => one !== name), view: without(without(view, `range:${name}`), `value:${name}`) })} />)}
        <AddFacet columns={start.columns} have={facets} add={(name) => setPlace({ facets: [...facets, name] })} />
      </nav>
      <main inert={behind}>
        <SqlBox value={view.where} columns={start.columns} tables={start.tables} error={wrongSql} open={show} apply={(where) => setView({ ...view, where })} />
        <div class="tools">
          <p class="size" role="status">{stale && "looking … "}<b>{page ? count(page.shown) : "…"}</b> of {count(page?.total ?? start.clips)} clips{view.show !== "kept" ? view.show === "removed" ? ", removed by all filters" : `, removed by ${described(view, view.show)}` : ""}</p>
          {chips.map((name) => (
            <span class={`chip ${view.show === name ? "on" : ""}`} key={name}>
              <button onClick={() => setView({ ...view, show: view.show === name ? "kept" : name })} aria-pressed={view.show === name} title="show what this filter alone removes">{described(view, name)} {!!page?.removed_by[name] && <span class="minus">−{count(page.removed_by[name])}</span>}</button>
              <button onClick={() => setView(without(view, name))} aria-label={`remove the filter ${described(view, name)}`}>×</button>
            </span>
          ))}
          {chips.length > 0 && <button class="quiet" aria-pressed={view.show === "removed"} onClick={() => setView({ ...view, show: view.show === "removed" ? "kept" : "removed" })}>{view.show === "removed" ? "show what is kept" : "show what is removed"}</button>}
          {chips.length > 0 && <button class="quiet" onClick={clear}>clear all</button>}
          {view.search && <SearchLimits view={view} found={page?.similarity ?? null} change={setView} />}
          <span class="looks">
            <span class="which" role="group" aria-label="show as">
              <button aria-pressed={!place.map.on} onClick={() => setPlace({ map: { ...place.map, on: false } }, true)}>grid</button>
              <button aria-pressed={place.map.on} onClick={() => setPlace({ map: { ...place.map, on: true } }, true)}>map</button>
            </span>
            {!place.map.on && <SortBox columns={start.columns} view={view} change={setView} />}
            {known.has("near_duplicate_group") && <label class="check"><input type="checkbox" checked={view.fold} onChange={() => setView({ ...view, fold: !view.fold })} /> fold near duplicates</label>}
            {!place.map.on && <label class="check" title="of the pictures">size <input type="range" min={120} max={480} step={10} value={size} onInput={(e) => { setSize(Number(e.currentTarget.value)); localStorage.setItem("size", e.currentTarget.value); }} /></label>}
          </span>
        </div>
        {fault && <p class="alarm" role="alert">{fault}</p>}
        {page?.waiting && <p class="note" role="status">{page.waiting}</p>}
        {place.map.on && <ClipMap view={view} version={version} columns={start.columns} store={start.store} shown={page?.shown ?? 0} look={place.map} setLook={(map) => setPlace({ map })} change={setView} open={show} fail={setFault} />}
        {!place.map.on && <Grid stale={stale} view={view} page={page} rows={rows} columns={columns} focus={focus} setFocus={setFocus} selected={selected} toggle={(index, upTo) => void toggle(index, upTo)} open={open} size={size} />}
        {page?.shown === 0 && <p class="nothing">No clip passes. {chips.length > 0 && <button onClick={clear}>clear the filters</button>}</p>}
        <footer class="hand" aria-label="decide">
          <span class="note">{selected.size ? `${count(selected.size)} selected` : place.map.on ? "no clip chosen" : <>for <span class="whom">{rows.at(focus)?.caption || current || "no clip"}</span></>}</span>
          <button class="keep" disabled={!targets.length} onClick={() => void decide("keep")}>keep</button>
          <button class="drop" disabled={!targets.length} onClick={() => void decide("drop")}>drop</button>
          <button disabled={!targets.length} onClick={() => askTag(targets)}>tag</button>
          <button disabled={!targets.length} onClick={() => void decide("flip_star")} aria-label="star, or no star">★</button>
          <button class="quiet" onClick={() => void back("undo")}>undo</button>
          <button class="quiet" onClick={() => void back("redo")}>redo</button>
          {selected.size > 0 && <button class="quiet" onClick={() => setSelected(new Set())}>select none</button>}
          <span class="gap" />
          <button class="quiet" onClick={startQueue}>queue</button>
          <button class="quiet wide" onClick={() => askTag(null)}>tag all shown</button>
          <button class="quiet wide" onClick={() => void decideAll("keep")}>keep all shown</button>
          <button class="quiet wide" onClick={() => void decideAll("drop")}>drop all shown</button>
        </footer>
      </main>
      {inClip && <ClipPage id={place.clip} behind={!!asked} columns={start.columns} version={version} queue={queue} close={close} go={go} open={show} fail={setFault} decide={(action, text) => void decide(action, text ?? "", [place.clip])}
        place={page && rows.at(focus)?.clip_id === place.clip ? `${count(focus + 1)} of ${count(page.shown)}` : ""} change={(part) => { setPlace({ clip: "", view: { ...view, sort: "", show: "kept", ...part } }, true); setFocus(0); }} />}
      {place.panel === "snapshots" && !inClip && <Snapshots behind={!!asked} view={view} change={setView} shown={page?.shown ?? 0} columns={start.columns} facets={facets} close={close} open={show} />}
      {asked === "tag" && <TagDialog count={tagTargets.current?.length ?? page?.shown ?? 0} known={tagsOf(page)} close={() => setAsked("")} add={(tag) => { setAsked(""); void (tagTargets.current ? decide("tag", tag, tagTargets.current) : decideAll("tag", tag)); }} />}
      {asked === "keys" && <div class="panel small" role="dialog" aria-modal="true" aria-label="keys"><div class="bar"><h2>Keys</h2><span class="gap" /><button onClick={() => setAsked("")} aria-label="close" autoFocus>×</button></div><dl>{KEYS.map(([key, does]) => [<dt key={key}><kbd>{key}</kbd></dt>, <dd key={does}>{does}</dd>])}</dl></div>}
      <Toast message={message} undo={() => void back("undo")} close={() => setMessage(null)} />
    </div>
  );
}

const past = (action: string, text: string) => ({ keep: "kept", drop: "dropped", clear: "undecided again", tag: `tagged ${text}`, untag: `no longer tagged ${text}`, star: "starred", unstar: "no longer starred", caption: text ? "caption written" : "caption taken back" })[action] ?? action;

function changed(row: Row, action: string, text: string): Row {
  const { review } = row;
  if (action === "keep" || action === "drop") return { ...row, review: { ...review, verdict: action } };
  if (action === "clear") return { ...row, review: { ...review, verdict: null } };
  if (action === "star" || action === "unstar") return { ...row, review: { ...review, star: action === "star" } };
  if (action === "tag") return { ...row, review: { ...review, tags: [...new Set([...review.tags, text])].sort() } };
  if (action === "untag") return { ...row, review: { ...review, tags: review.tags.filter((tag) => tag !== text) } };
  return action === "caption" && text ? { ...row, caption: text } : row;
}

function tagsOf(page: Page | null): string[] {
  const facet = page?.facets["review_tags"];
  return facet?.kind === "counts" ? facet.values.map((one) => String(one.value)) : [];
}

function SearchBox({ view, change, looks }: { view: View; change: (view: View) => void; looks: boolean }) {
  const [text, setText] = useState(view.search?.text ?? "");
  const [visual, setVisual] = useState(!!view.search?.visual);
  useEffect(() => setText(view.search?.text ?? ""), [view.search]);
  const by = visual ? "search by what is seen" : "search by what captions say";
  return (
    <form class="search" role="search" onSubmit={(e) => { e.preventDefault(); const words = text.trim(); change({ ...view, search: words ? { text: words, ...limits(view.search, visual), ...(visual ? { visual } : {}) } : null, sort: words ? "" : view.sort }); }}>
      <input id="search" type="search" placeholder={by} aria-label={by} value={text} maxLength={500} onInput={(e) => setText(e.currentTarget.value)} />
      {looks && <select aria-label="search in" value={String(visual)} onChange={(e) => setVisual(e.currentTarget.value === "true")}><option value="false">captions</option><option value="true">pictures</option></select>}
    </form>
  );
}

/** What somebody set stays for the next words; similarities of another kind of search are another scale. */
function limits(search: View["search"], visual: boolean): { count?: number; least?: number } {
  const { count, least } = search ?? {};
  return { ...(count === undefined ? {} : { count }), ...(least === undefined || !!search?.visual !== visual ? {} : { least }) };
}

function SearchLimits({ view, found, change }: { view: View; found: [number, number] | null; change: (view: View) => void }) {
  const { count: most, least, ...search } = view.search!;
  const set = (made: { count?: number | undefined; least?: number | undefined }) =>
    change({ ...view, search: { ...search, ...(made.count === undefined ? {} : { count: made.count }), ...(made.least === undefined ? {} : { least: made.least }) } });
  const range = found ? `, ${found[0].toFixed(2)} to ${found[1].toFixed(2)} among those found` : "";
  return (
    <span class="limits" role="group" aria-label="limits of the search">
      <label class="check" title={`the nearest clips alone: from 1 to ${count(MOST_FOUND)}`}>at most <Exact label="most clips of the search" value={most ?? null} hint={String(FOUND)} set={(value) => set({ least, count: value === null ? undefined : Math.min(MOST_FOUND, Math.max(1, Math.round(value))) })} /> clips</label>
      <label class="check" title={`how near a clip must be: 1 is the same${range}`}>least similarity <Exact label="least similarity" value={least ?? null} hint={found ? found[0].toFixed(2) : ""} set={(value) => set({ count: most, least: value === null ? undefined : Math.min(1, Math.max(-1, value)) })} /></label>
    </span>
  );
}

function SortBox({ columns, view, change }: { columns: ColumnFacts[]; view: View; change: (view: View) => void }) {
  return (
    <span class="sort">
      <select aria-label="sort by" value={view.sort} onChange={(e) => change({ ...view, sort: e.currentTarget.value, seed: e.currentTarget.value === "random" ? Math.floor(Math.random() * 2 ** 31) : 0 })}>
        <option value="">{view.search ? "nearest first" : "in the store's order"}</option>
        <option value="random">at random</option>
        <option value="near_bound" disabled={!Object.keys(view.ranges).length}>nearest to a bound</option>
        {columns.filter((c) => !["tags", "other"].includes(c.kind) && !c.name.endsWith("_fingerprint")).map((c) => <option key={c.name} value={c.name}>{c.name}</option>)}
      </select>
      <button class="quiet" disabled={["", "random", "near_bound"].includes(view.sort)} aria-label={view.descending ? "largest first" : "smallest first"} title={view.descending ? "largest first" : "smallest first"} onClick={() => change({ ...view, descending: !view.descending })}>{view.descending ? "↓" : "↑"}</button>
    </span>
  );
}

function AddFacet({ columns, have, add }: { columns: ColumnFacts[]; have: string[]; add: (name: string) => void }) {
  const can = columns.filter((c) => !have.includes(c.name) && c.kind !== "other" && !c.name.endsWith("_fingerprint") && c.name !== "clip_id");
  return (
    <label class="add">add a filter
      <select value="" onChange={(e) => { if (e.currentTarget.value) add(e.currentTarget.value); e.currentTarget.value = ""; }}>
        <option value="">choose a column</option>
        {can.map((c) => <option key={c.name} value={c.name} title={c.meaning}>{c.name}{c.unit ? ` (${c.unit})` : ""}</option>)}
      </select>
    </label>
  );
}

function TagDialog({ count: clips, known, add, close }: { count: number; known: string[]; add: (tag: string) => void; close: () => void }) {
  const input = useRef<HTMLInputElement>(null);
  useLayoutEffect(() => input.current?.focus(), []); // at once: the next key is the tag's
  return (
    <div class="panel small" role="dialog" aria-modal="true" aria-label="tag">
      <form onSubmit={(e) => { e.preventDefault(); const tag = input.current!.value.trim(); if (tag) add(tag); }}>
        <label>Tag {clips === 1 ? "the clip" : `${count(clips)} clips`} <input ref={input} list="tags" maxLength={60} /></label>
        <datalist id="tags">{known.map((tag) => <option key={tag} value={tag} />)}</datalist>
        <div class="line"><button>Tag</button><button type="button" class="quiet" onClick={close}>cancel</button></div>
      </form>
    </div>
  );
}

function Toast({ message, undo, close }: { message: { text: string; undo: boolean } | null; undo: () => void; close: () => void }) {
  useEffect(() => {
    if (!message) return;
    const wait = setTimeout(close, 6000);
    return () => clearTimeout(wait);
  }, [message]);
  return <div class={`toast ${message ? "" : "gone"}`} role="status">{message?.text}{message?.undo && <button class="quiet" onClick={undo}>undo</button>}</div>;
}

render(<App />, document.getElementById("app")!);
