// What several pages share: asking the server, again and again where something goes on; bars, chips, facts, players.
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { call, media, thumb } from "./api";
import { count, short } from "./view";
import type { Facts } from "./work-api";

/** Ask once, and again every `every` ms while it is not 0 and the page is seen. */
export function useAsked<T>(name: string, body: unknown, every = 0): { found: T | null; fault: string; again: () => void } {
  const [found, setFound] = useState<T | null>(null);
  const [fault, setFault] = useState("");
  const [turn, setTurn] = useState(0);
  const key = JSON.stringify([name, body]);
  useEffect(() => {
    const request = new AbortController();
    call<T>(name, body, request.signal).then((made) => { setFound(made); setFault(""); }, (e: Error) => { if (e.name !== "AbortError") setFault(e.message); });
    return () => request.abort();
  }, [key, turn]);
  useEffect(() => {
    if (!every) return;
    const timer = setInterval(() => { if (!document.hidden) setTurn((n) => n + 1); }, every);
    return () => clearInterval(timer);
  }, [every]);
  return { found, fault, again: () => setTurn((n) => n + 1) };
}

export function Waiting({ fault }: { fault: string }) {
  return fault ? <p class="alarm" role="alert">{fault}</p> : <p class="empty" role="status">asking …</p>;
}

export function Track({ share, thin }: { share: number; thin?: boolean }) {
  return <svg class={`track ${thin ? "thin" : ""}`} viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true"><rect class="bed" width="100" height="10" /><rect class="bar" width={100 * Math.min(1, Math.max(0, share))} height="10" /></svg>;
}

export function State({ state }: { state: string }) {
  const kind = ["finished", "done", "ok"].includes(state) ? "good" : state === "running" ? "going" : "bad";
  return state ? <span class={`chip ${kind}`}>{state === "lost" ? "killed" : state}</span> : null;
}

export function FactList({ facts }: { facts: Facts }) {
  return <dl class="facts">{Object.entries(facts).map(([name, value]) => [<dt key={name}>{name.replaceAll("_", " ")}</dt>, <dd key={`${name}=`}>{said(value)}</dd>])}</dl>;
}

export const said = (value: unknown) => (typeof value === "number" ? short(value) : value === null || value === undefined || value === "" ? "–" : String(value));

export const many = (n: number, what: string) => `${count(n)} ${what}${n === 1 ? "" : "s"}`;

/** A duration in two units: 45 s, 3 min 20 s, 2 h 5 min. */
export function span(seconds: number | null): string {
  if (seconds === null) return "–";
  if (seconds < 60) return `${Number(seconds.toPrecision(2))} s`;
  const [small, unit, big, name] = seconds < 3600 ? [seconds % 60, "s", seconds / 60, "min"] as const : [(seconds / 60) % 60, "min", seconds / 3600, "h"] as const;
  return `${Math.floor(big)} ${name} ${Math.floor(small)} ${unit}`;
}

export const when = (at: string | null) => (at ? at.slice(0, 16).replace("T", " ") : "–");

/** Put a text on the clipboard. A page that another machine serves without encryption has no clipboard of its own: there, by selecting. */
async function toClipboard(text: string): Promise<void> {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const held = document.activeElement as HTMLElement | null;
  const area = document.createElement("textarea");
  area.value = text;
  area.style.cssText = "position:fixed;opacity:0";
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  held?.focus();
  if (!done) throw new Error("the browser does not let pages copy");
}

/** A button that copies a text, and says so. */
export function Copy({ text, label, name = "copy" }: { text: string; label: string; name?: string }) {
  const [said, setSaid] = useState(name);
  return <button type="button" onClick={() => void toClipboard(text).then(() => setSaid("copied"), () => setSaid("cannot copy"))} aria-label={said === name ? label : `${said}: ${label}`}>{said}</button>;
}

/** Why a video is not there, in the place of its picture. */
export const Failed = ({ why }: { why: unknown }) => <p class="failed"><b>failed</b> {String(why || "the reason was not kept")}</p>;

/** A video that begins to load when it is played: by hovering, or by its controls. */
export function Video({ src, poster, label }: { src: string; poster?: string; label: string }) {
  const video = useRef<HTMLVideoElement>(null);
  return (
    <video ref={video} src={src} poster={poster ?? ""} controls loop muted playsInline preload={poster ? "none" : "metadata"} aria-label={label}
      onMouseEnter={() => void video.current?.play().catch(() => undefined)} onMouseLeave={() => video.current?.pause()} />
  );
}

export const ClipVideo = ({ id }: { id: string }) => <Video src={media(id)} poster={thumb(id)} label={`clip ${id}`} />;

export function Section({ title, id, children }: { title: string; id?: string; children: ComponentChildren }) {
  return <section id={id}><h2>{title}</h2>{children}</section>;
}

/** Curves that the server drew, as in the pages of reel progress: all text in them is escaped there. */
export const Drawn = ({ svg }: { svg: string }) => <div class="drawn" dangerouslySetInnerHTML={{ __html: svg }} />;
