// A clip on its source's timeline: shots with their cuts and gradual transitions, borders, clips, and what is in none.
import type { Clip, Gap, Part } from "./api";
import { count, share, time } from "./view";

const LISTED = 40; // gaps that are named one by one
const KINDS = { transition: "gradual transition", dropped: "dropped", unused: "in no clip" };

export function Timeline({ clip, open }: { clip: Clip; open: (id: string) => void }) {
  const { shots, clips, gaps } = clip.timeline;
  const end = Math.max(Number(clip.source["duration_s"]) || 0, ...shots.map((s) => s.end_s ?? 0), ...clips.map((c) => c.end_s ?? 0)) || 1;
  const at = (part: { start_s: number; end_s: number }) => ({ left: `${(100 * (part.start_s ?? 0)) / end}%`, width: `${(100 * Math.max(0, (part.end_s ?? 0) - (part.start_s ?? 0))) / end}%` });
  const about = (part: { start_s: number; end_s: number }) => `${time(part.start_s ?? 0)} – ${time(part.end_s ?? 0)}`;
  const bordered = shots.filter((s) => border(s, clip.source));
  const cuts = shots.filter((s) => s.transition === "cut").length, gradual = shots.filter((s) => s.transition === "gradual").length;
  return (
    <div class="timeline">
      <Lane name="shots">
        {shots.map((s, i) => <span key={i} class={`shot ${s.transition ?? ""}`} style={at(s)} title={`shot ${s.shot_index}: ${about(s)}; begins with ${s.transition ?? "?"}${s.detector ? `, by ${s.detector}` : ""}${s.confidence ? `, ${share(s.confidence)} sure` : ""}`} />)}
        {gaps.filter((g) => g.kind !== "unused").map((g, i) => <span key={`gap${i}`} class={g.kind} style={at(g)} title={`${KINDS[g.kind]}: ${about(g)}; ${g.why}`} />)}
      </Lane>
      {bordered.length > 0 && <Lane name="borders">{bordered.map((s, i) => <span key={i} class="bordered" style={{ ...at(s), "--bare": `${100 * border(s, clip.source)}%` }} title={`${about(s)}: ${borderText(s, clip.source)}`} />)}</Lane>}
      <Lane name="clips">
        {gaps.filter((g) => g.kind === "unused").map((g, i) => <span key={`gap${i}`} class="unused" style={at(g)} title={`${about(g)}: ${g.why}`} />)}
        {clips.map((c) => <button key={c.clip_id} class={c.clip_id === clip.clip_id ? "here" : ""} aria-current={c.clip_id === clip.clip_id ? "true" : undefined} style={at(c)} onClick={() => c.clip_id && open(c.clip_id)} aria-label={`clip of ${about(c)}`} title={about(c)} />)}
      </Lane>
      <p class="note ends"><span>0 s</span><span>{many(shots.length, "shot")}: {many(cuts, "cut")}, {many(gradual, "gradual transition")}; {many(clips.length, "clip")}</span><span>{time(end)}</span></p>
      {bordered.length > 0 && <p class="note">Borders: {borderText(bordered[0]!, clip.source)}{bordered.length > 1 && `, and in ${many(bordered.length - 1, "more shot")}`}</p>}
      <Gaps gaps={gaps} about={about} />
    </div>
  );
}

function Lane({ name, children }: { name: string; children: preact.ComponentChildren }) {
  return <div class="lane"><small>{name}</small><div class={`row ${name}`}>{children}</div></div>;
}

function Gaps({ gaps, about }: { gaps: Gap[]; about: (gap: Gap) => string }) {
  if (!gaps.length) return <p class="note">All of it is in clips.</p>;
  const sum = gaps.reduce((all, gap) => all + gap.end_s - gap.start_s, 0);
  return (
    <details class="gaps">
      <summary>{time(sum)} of it {gaps.length === 1 ? "is" : "are"} in no clip, and why</summary>
      <ul>{gaps.slice(0, LISTED).map((gap, i) => <li key={i}><span class={`key ${gap.kind}`} /> {about(gap)} <span class="note">{gap.kind === "transition" ? gap.why : `${KINDS[gap.kind]}: ${gap.why}`}</span></li>)}</ul>
      {gaps.length > LISTED && <p class="note">and {count(gaps.length - LISTED)} more</p>}
    </details>
  );
}

/** The share of a source's frame that borders take in a shot. */
function border(shot: Part, source: Record<string, unknown>): number {
  const [w, h] = [Number(source["width"]), Number(source["height"])];
  return w && h && shot.crop_w && shot.crop_h ? Math.max(0, 1 - (shot.crop_w * shot.crop_h) / (w * h)) : 0;
}

const borderText = (s: Part, source: Record<string, unknown>) => `picture ${s.crop_w}×${s.crop_h} at ${s.crop_x}, ${s.crop_y} of ${source["width"]}×${source["height"]} (${share(border(s, source))} is border)`;
const many = (n: number, what: string) => `${count(n)} ${what}${n === 1 ? "" : "s"}`;
