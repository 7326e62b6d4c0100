// One clip: player with frame steps, decisions, captions side by side, columns, timeline of its source, neighbours.
import { useEffect, useRef, useState } from "preact/hooks";
import { call, media, type Clip, type ColumnFacts, type View } from "./api";
import { Captions } from "./captions";
import { shown, Still } from "./grid";
import { Timeline } from "./timeline";
import { count, EMPTY, short } from "./view";

interface Props {
  id: string; columns: ColumnFacts[]; place: string; version: number; queue: boolean; behind: boolean; close: () => void; go: (step: number) => void; open: (id: string) => void;
  decide: (action: string, text?: string) => void; change: (part: Partial<View>) => void; fail: (message: string) => void;
}

export function ClipPage({ id, columns, place, version, queue, behind, close, go, open, decide, change, fail }: Props) {
  const [clip, setClip] = useState<Clip | null>(null);
  const [find, setFind] = useState("");
  const panel = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const request = new AbortController();
    call<Clip>("clip", { clip_id: id }, request.signal).then(setClip, (e: Error) => e.name !== "AbortError" && fail(e.message));
    return () => request.abort();
  }, [id, version]);
  useEffect(() => { panel.current?.focus(); if (panel.current) panel.current.scrollTop = 0; }, [id]);
  const facts = new Map(columns.map((one) => [one.name, one]));
  const now = clip?.clip_id === id ? clip : null;
  const copies = Number(now?.row["near_duplicate_count"]) || 1;
  const fps = Number(now?.row["fps"]) || 24;
  const values = now ? Object.entries(now.row).filter(([name]) => !name.endsWith("_fingerprint") && (!find || name.includes(find) || facts.get(name)?.meaning.includes(find))) : [];
  return (
    <div class="clip" ref={panel} inert={behind} role="dialog" aria-modal="true" aria-label={`clip ${id}`} tabIndex={-1}>
      <div class="bar">
        <button onClick={() => go(-1)} aria-label="previous clip" title="previous (←)">←</button>
        <button onClick={() => go(1)} aria-label="next clip" title="next (→)">→</button>
        <span class="note">{place}{queue ? " · queue" : ""}</span>
        <span class="gap" />
        {copies > 1 && <button onClick={() => change({ ...EMPTY, values: { near_duplicate_group: [String(now?.row["near_duplicate_group"])] } })}>its {count(copies - 1)} near {copies === 2 ? "duplicate" : "duplicates"}</button>}
        {now?.alike["look"] && <button onClick={() => change({ search: { like: id, visual: true } })}>more that look so</button>}
        <button onClick={() => change({ search: { like: id } })}>more like this</button>
        <button onClick={close} aria-label="close" title="close (Esc)">×</button>
      </div>
      <Player id={id} fps={fps} />
      <div class="decide">
        <button class={`keep ${now?.review.verdict === "keep" ? "on" : ""}`} aria-pressed={now?.review.verdict === "keep"} onClick={() => decide(now?.review.verdict === "keep" ? "clear" : "keep")}>keep <kbd>k</kbd></button>
        <button class={`drop ${now?.review.verdict === "drop" ? "on" : ""}`} aria-pressed={now?.review.verdict === "drop"} onClick={() => decide(now?.review.verdict === "drop" ? "clear" : "drop")}>drop <kbd>d</kbd></button>
        <button aria-pressed={!!now?.review.star} class={now?.review.star ? "on" : ""} onClick={() => decide(now?.review.star ? "unstar" : "star")}>★ star <kbd>s</kbd></button>
        {now?.review.tags.map((tag) => <button class="tag" key={tag} onClick={() => decide("untag", tag)} aria-label={`remove the tag ${tag}`}>{tag} ×</button>)}
        <TagInput add={(tag) => decide("tag", tag)} />
        {now?.review.by && <span class="note">{now.review.by}, {now.review.at?.slice(0, 16).replace("T", " ")}</span>}
      </div>
      {now && (
        <div class="about">
          <Captions key={id} captions={now.captions} write={(text) => decide("caption", text)} />
          <section>
            <h2>Source</h2>
            <p class="path">{String(now.source["uri"] ?? "unknown")}</p>
            <Timeline clip={now} open={open} />
            {Boolean(now.source["note"]) && <p class="note">{String(now.source["note"])}</p>}
            {now.failures.length > 0 && <ul class="failures">{now.failures.map((one, i) => <li key={i}><b>{String(one["stage"])}</b> {String(one["error"])}</li>)}</ul>}
          </section>
          {Object.entries(now.alike).map(([by, near]) => (
            <section key={by}>
              <h2>Nearest by {by}</h2>
              <ul class="near">{near.map((one) => <li key={one.clip_id}><button onClick={() => open(one.clip_id)} aria-label={`open clip ${one.clip_id}: ${one.caption ?? ""}`} title={one.caption}><Still id={one.clip_id} /><span>{one.score.toFixed(2)}</span></button></li>)}</ul>
            </section>
          ))}
          <section>
            <h2>Columns</h2>
            <input type="search" placeholder="find a column" aria-label="find a column" value={find} onInput={(e) => setFind(e.currentTarget.value)} />
            <table class="columns">
              <thead><tr><th scope="col">column</th><th scope="col">value</th><th scope="col">maker, fingerprint</th></tr></thead>
              <tbody>
                {values.map(([name, value]) => {
                  const fact = facts.get(name);
                  const mark = fact?.computed_by ? now.row[`${fact.computed_by}_fingerprint`] : null;
                  return (
                    <tr key={name} title={fact?.type}>
                      <th scope="row">{name}<small>{fact?.meaning}</small></th>
                      <td>{typeof value === "number" ? short(value) : shown(value)} <span class="unit">{fact?.unit}</span></td>
                      <td class="maker">{fact?.computed_by}{mark ? <small>{String(mark)}</small> : null}</td>
                    </tr>
                  );
                })}
              </tbody>
            </table>
          </section>
          {now.history.length > 0 && (
            <section>
              <h2>Decisions</h2>
              <ul class="history">{now.history.map((one, i) => <li key={i}><b>{one.action}</b> {one.reviewer} <span class="note">{one.at.slice(0, 16).replace("T", " ")}</span></li>)}</ul>
            </section>
          )}
        </div>
      )}
    </div>
  );
}

function Player({ id, fps }: { id: string; fps: number }) {
  const video = useRef<HTMLVideoElement>(null);
  const [speed, setSpeed] = useState(1);
  const [at, setAt] = useState(0);
  useEffect(() => { if (video.current) video.current.playbackRate = speed; }, [speed, id]);
  const step = (frames: number) => {
    const element = video.current;
    if (!element) return;
    element.pause();
    const frame = Math.floor(element.currentTime * fps + 0.01) + frames;
    element.currentTime = Math.max(0, Math.min(element.duration || 0, (frame + 0.5) / fps)); // the middle of a frame: its ends round either way
  };
  useEffect(() => {
    const keys = (event: KeyboardEvent) => {
      if (isTyping(event)) return;
      if (event.key === ",") step(-1);
      else if (event.key === ".") step(1);
      else if (event.key === " ") { const v = video.current; if (v) void (v.paused ? v.play() : v.pause()); }
      else if (event.key === "[") setSpeed((s) => Math.max(0.25, s / 2));
      else if (event.key === "]") setSpeed((s) => Math.min(4, s * 2));
      else return;
      event.preventDefault();
    };
    addEventListener("keydown", keys);
    return () => removeEventListener("keydown", keys);
  }, [fps, id]);
  return (
    <div class="player">
      <video ref={video} key={id} src={media(id)} controls loop muted autoPlay playsInline onTimeUpdate={(e) => setAt(e.currentTarget.currentTime)} onLoadedMetadata={(e) => { e.currentTarget.playbackRate = speed; }} />
      <div class="steps">
        <button onClick={() => step(-1)} aria-label="one frame back" title="one frame back (,)">‹ frame</button>
        <span class="n" data-frame={Math.floor(at * fps + 0.01)}>{at.toFixed(2)} s · frame {Math.floor(at * fps + 0.01)}</span>
        <button onClick={() => step(1)} aria-label="one frame on" title="one frame on (.)">frame ›</button>
        <label>speed <select value={String(speed)} onChange={(e) => setSpeed(Number(e.currentTarget.value))}>{[0.25, 0.5, 1, 2, 4].map((s) => <option key={s} value={String(s)}>{s}×</option>)}</select></label>
      </div>
    </div>
  );
}

function TagInput({ add }: { add: (tag: string) => void }) {
  return (
    <input class="tagger" placeholder="tag (t)" aria-label="add a tag" maxLength={60} onKeyDown={(e) => {
      if (e.key === "Enter" && e.currentTarget.value.trim()) { add(e.currentTarget.value.trim()); e.currentTarget.value = ""; }
      if (e.key === "Escape") e.currentTarget.blur();
      if (e.key === "Enter" || e.key === "Escape") e.stopPropagation();
    }} />
  );
}

export function isTyping(event: KeyboardEvent): boolean {
  const element = event.target as HTMLElement;
  if (element.tagName === "INPUT") return !["checkbox", "range", "radio"].includes((element as HTMLInputElement).type);
  return ["TEXTAREA", "SELECT"].includes(element.tagName);
}
