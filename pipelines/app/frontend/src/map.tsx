// The map: clips as points of a plane, shaded by cells where they are many; a lasso around some is a filter of the view.
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { call, media, type Box, type Cluster, type ColumnFacts, type MapOf, type Point, type View } from "./api";
import { Clusters } from "./clusters";
import { CommandLine } from "./commands";
import { Still } from "./grid";
import { draw, type Look } from "./paint";
import { count, share, withLasso } from "./view";

interface Props {
  view: View; version: number; columns: ColumnFacts[]; store: string; shown: number; look: Look; setLook: (look: Look) => void;
  change: (view: View) => void; open: (id: string) => void; fail: (message: string) => void;
}

const CELL = 4; // px that a cell of the shading is wide
const REACH = 9; // px from the pointer to a dot that it means
const WAIT_MS = 30;

export function ClipMap(props: Props) {
  const there = (name: string) => props.columns.some((c) => c.name === name);
  if (there("map_x") && there("map_y")) return <Drawn {...props} />;
  return (
    <div class="map empty">
      <div>
        <p>This store has no map yet. It is made from the captions' embeddings:</p>
        <CommandLine command="annotate" arguments={{ only: ["caption_map"] }} about="make the map" />
      </div>
    </div>
  );
}

function Drawn({ view, version, columns, shown, look, setLook, change, open, fail }: Props) {
  const frame = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const [size, setSize] = useState<[number, number]>([0, 0]);
  const [found, setFound] = useState<MapOf | null>(null);
  const [path, setPath] = useState<Point[]>([]); // of the lasso while it is drawn, in the map's units
  const [nearId, setNear] = useState(""); // the clip of the dot under the pointer: an answer that comes may number dots anew
  const [picked, setPicked] = useState(false); // whether keys went to it
  const drag = useRef<{ kind: "lasso" | "pan"; from: Point; box: Box } | null>(null);
  const [across, down] = [Math.min(400, Math.ceil(size[0] / CELL)), Math.min(400, Math.ceil(size[1] / CELL))];

  useLayoutEffect(() => {
    const element = frame.current!;
    const watch = new ResizeObserver(() => setSize([element.clientWidth, element.clientHeight]));
    watch.observe(element);
    return () => watch.disconnect();
  }, []);
  useEffect(() => {
    if (!across || !down) return;
    const request = new AbortController();
    const wait = setTimeout(() => {
      call<MapOf>("map", { view, box: look.box && shaped(look.box, across / down), across, down, colour: look.colour, weights: look.weights }, request.signal)
        .then((made) => { setFound(made); performance.mark("reel-map"); }, (e: Error) => e.name !== "AbortError" && fail(e.message));
    }, WAIT_MS);
    return () => { clearTimeout(wait); request.abort(); };
  }, [JSON.stringify([view, look]), version, across, down]);
  const near = nearId && found ? found.dots.clip_id.indexOf(nearId) : -1;
  const box: Box = (look.box && shaped(look.box, across / down)) ?? found?.box ?? [0, 0, 1, 1]; // before its clips have come
  useEffect(() => {
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const paint = () => { if (found && canvas.current && size[0]) draw(canvas.current, size, box, found, look, { across, down }, path.length ? path : view.lasso?.points ?? [], near); };
    paint();
    dark.addEventListener("change", paint);
    return () => dark.removeEventListener("change", paint);
  });

  const place = (event: PointerEvent | WheelEvent): Point => {
    const edge = canvas.current!.getBoundingClientRect();
    return [box[0] + ((event.clientX - edge.left) / edge.width) * (box[2] - box[0]), box[3] - ((event.clientY - edge.top) / edge.height) * (box[3] - box[1])];
  };
  const show = (part: Box | null) => { setNear(""); setPicked(false); setLook({ ...look, box: part }); };
  const zoom = (factor: number, at: Point = [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2]) =>
    show([at[0] + (box[0] - at[0]) * factor, at[1] + (box[1] - at[1]) * factor, at[0] + (box[2] - at[0]) * factor, at[1] + (box[3] - at[1]) * factor]);
  const pan = (x: number, y: number) => show([box[0] + x * (box[2] - box[0]), box[1] + y * (box[3] - box[1]), box[2] + x * (box[2] - box[0]), box[3] + y * (box[3] - box[1])]);
  const keepSight = () => change(withLasso(view, ([[0, 1], [2, 1], [2, 3], [0, 3]] as const).map(([x, y]): Point => [round(box[x]), round(box[y])])));

  const down_ = (event: PointerEvent) => {
    if (event.button > 1) return;
    canvas.current!.setPointerCapture(event.pointerId);
    const kind = event.button === 1 || event.shiftKey ? "pan" : "lasso";
    drag.current = { kind, from: place(event), box };
    if (kind === "pan" && !look.box) setLook({ ...look, box });
    if (event.button === 1) event.preventDefault();
  };
  const move = (event: PointerEvent) => {
    const at = place(event);
    if (drag.current?.kind === "lasso") { setPath((old) => [...(old.length ? old : [drag.current!.from]), at]); return; }
    if (drag.current?.kind === "pan") {
      const [dx, dy] = [drag.current.from[0] - at[0], drag.current.from[1] - at[1]];
      setLook({ ...look, box: [box[0] + dx, box[1] + dy, box[2] + dx, box[3] + dy] });
      return;
    }
    setPicked(false);
    setNear(found?.dots.clip_id[nearest(found, at, (REACH / size[0]) * (box[2] - box[0]))] ?? "");
  };
  const up = (event: PointerEvent) => {
    const was = drag.current;
    drag.current = null;
    setPath([]);
    if (was?.kind !== "lasso") return;
    const ring = thinned(path, (box[2] - box[0]) / size[0]);
    if (ring.length >= 3) change(withLasso(view, ring));
    else if (found) { // a click
      const dot = nearest(found, place(event), (REACH / size[0]) * (box[2] - box[0]));
      if (dot >= 0) open(found.dots.clip_id[dot]!);
    }
  };
  const pick = (step: number) => { // dots, from the middle of what is in sight outwards
    if (!found?.dots.x.length) return;
    const far = (i: number) => (found.dots.x[i]! - (box[0] + box[2]) / 2) ** 2 + (found.dots.y[i]! - (box[1] + box[3]) / 2) ** 2;
    const order = found.dots.x.map((_, i) => i).sort((a, b) => far(a) - far(b));
    const at = picked && near >= 0 ? order.indexOf(near) + step : 0;
    setNear(found.dots.clip_id[order[(at + order.length) % order.length]!]!);
    setPicked(true);
  };
  const keys = (event: KeyboardEvent) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = { ArrowLeft: [-0.2, 0], ArrowRight: [0.2, 0], ArrowUp: [0, 0.2], ArrowDown: [0, -0.2] }[event.key] as Point | undefined;
    if (step) pan(...step);
    else if (event.key === "+" || event.key === "=") zoom(0.6);
    else if (event.key === "-") zoom(1 / 0.6);
    else if (event.key === "0") show(null);
    else if (event.key === "n" || event.key === "p") pick(event.key === "n" ? 1 : -1);
    else if (event.key === "Escape" && picked) { setNear(""); setPicked(false); }
    else if (event.key === "Enter" && picked && near >= 0) open(nearId);
    else if (event.key === "Enter") keepSight();
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const dots = found?.dots.clip_id.length ?? 0;
  const hovered = found && near >= 0 ? { id: nearId, x: (found.dots.x[near]! - box[0]) / (box[2] - box[0]), y: (box[3] - found.dots.y[near]!) / (box[3] - box[1]) } : null;
  return (
    <div class="map">
      <div class="plane">
        <div class="line mapbar">
          <label>colour <select value={look.colour} onChange={(e) => setLook({ ...look, colour: e.currentTarget.value })}>
            <option value="">how many clips</option>
            {columns.filter(canColour).map((c) => <option key={c.name} value={c.name}>{c.name}</option>)}
          </select></label>
          <span class="gap" />
          <button onClick={() => zoom(0.6)} aria-label="zoom in" title="zoom in (+, wheel)">+</button>
          <button onClick={() => zoom(1 / 0.6)} aria-label="zoom out" title="zoom out (−, wheel)">−</button>
          <button class="quiet" disabled={!look.box} onClick={() => show(null)} title="whole map (0)">whole</button>
          <button class="quiet" onClick={keepSight} title="filter to the part that is shown (Enter)">keep what is in sight</button>
        </div>
        <div class="sheet" ref={frame}>
          <canvas ref={canvas} tabIndex={0} role="application" aria-roledescription="map" aria-describedby="map-says" class={hovered ? "hit" : ""}
            aria-label={`map of ${count(found?.clips ?? 0)} clips; arrows move it, + and − zoom, Enter filters to what is in sight; n and p go from clip to clip, Enter opens it`}
            onPointerDown={down_} onPointerMove={move} onPointerUp={up} onPointerCancel={() => { drag.current = null; setPath([]); }} onPointerLeave={() => { setNear(""); setPicked(false); }}
            onWheel={(e) => { e.preventDefault(); zoom(e.deltaY > 0 ? 1.25 : 0.8, place(e)); }} onKeyDown={keys} />
          {hovered && <div class="peek" aria-hidden="true" style={{ left: `${hovered.x * 100}%`, top: `${hovered.y * 100}%`, transform: `translate(${hovered.x > 0.5 ? "calc(-100% - 12px)" : "12px"}, ${hovered.y > 0.6 ? "-104%" : "12px"})` }}><Still key={hovered.id} id={hovered.id} /><video key={`v${hovered.id}`} src={media(hovered.id)} muted loop autoPlay playsInline tabIndex={-1} /></div>}
          <Legend found={found} look={look} />
        </div>
        <p class="note" id="map-says" role="status">{picked && near >= 0 ? `clip ${nearId}: Enter opens it` : found && says(found, dots)}</p>
      </div>
      <Clusters found={found} view={view} change={change} columns={columns} look={look} setLook={setLook} shown={shown} goTo={(one) => goTo(one, found, setLook, look)} />
    </div>
  );
}

const canColour = (c: ColumnFacts) => ["number", "text", "truth"].includes(c.kind) && !c.name.endsWith("_fingerprint") && !["clip_id", "source_md5", "map_x", "map_y"].includes(c.name);

function says(found: MapOf, dots: number): string {
  const without = found.without ? ` ${count(found.without)} clips have no place on it.` : "";
  if (!found.inside) return `No clip is in sight.${without}`;
  const all = dots === found.inside;
  return `${count(found.inside)} clips in sight, ${all ? "each a dot" : `shaded by cell; ${count(dots)} of them (${share(dots / found.inside)}) are dots too`}. Draw a line around some to filter.${without}`;
}

function Legend({ found, look }: { found: MapOf | null; look: Look }) {
  if (found?.scale.kind !== "number") return null;
  return <p class="legend" aria-hidden="true">{look.colour} <span>{Number(found.scale.least.toPrecision(3))}</span><i /><span>{Number(found.scale.most.toPrecision(3))}</span></p>;
}

function goTo(one: Cluster, found: MapOf | null, setLook: (look: Look) => void, look: Look) {
  if (!found || one.x === null || one.y === null) return;
  const [w, h] = [(found.box[2] - found.box[0]) / 2, (found.box[3] - found.box[1]) / 2];
  setLook({ ...look, box: [one.x - w, one.y - h, one.x + w, one.y + h] });
}

/** A part of the map in another shape of window: as much of it as before, around the same middle. */
function shaped(box: Box, ratio: number): Box {
  const [w, h] = [box[2] - box[0], box[3] - box[1]];
  const [wide, high] = w / h > ratio ? [w, w / ratio] : [h * ratio, h];
  const [x, y] = [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2];
  return [x - wide / 2, y - high / 2, x + wide / 2, y + high / 2];
}

function nearest(found: MapOf, at: Point, reach: number): number {
  let best = -1, least = reach * reach;
  for (let i = 0; i < found.dots.x.length; i++) {
    const d = (found.dots.x[i]! - at[0]) ** 2 + (found.dots.y[i]! - at[1]) ** 2;
    if (d < least) { least = d; best = i; }
  }
  return best;
}

/** A drawn line with few corners: those that a straight line would miss by more than `slack` (Douglas & Peucker, 1973). */
export function thinned(path: Point[], slack: number): Point[] {
  if (path.length < 3) return [];
  const [a, b] = [path[0]!, path.at(-1)!];
  const middle = path.reduce((far, p, i) => (Math.hypot(p[0] - a[0], p[1] - a[1]) > Math.hypot(path[far]![0] - a[0], path[far]![1] - a[1]) ? i : far), 0);
  const ring = middle && middle < path.length - 1 ? [...part(path.slice(0, middle + 1), slack), ...part(path.slice(middle), slack).slice(1)] : part(path, slack);
  if (ring.length > 60) return thinned(path, slack * 1.6);
  const wide = Math.max(...path.map((p) => Math.hypot(p[0] - a[0], p[1] - a[1])));
  return wide < slack * 6 || (ring.length < 3 && Math.hypot(b[0] - a[0], b[1] - a[1]) > 0) ? [] : ring.map(([x, y]) => [round(x), round(y)]);
}

const round = (value: number) => Number(value.toPrecision(6));

function part(path: Point[], slack: number): Point[] {
  const [a, b] = [path[0]!, path.at(-1)!];
  const length = Math.hypot(b[0] - a[0], b[1] - a[1]);
  let far = 0, most = 0;
  for (let i = 1; i < path.length - 1; i++) {
    const p = path[i]!;
    const off = length ? Math.abs((b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0])) / length : Math.hypot(p[0] - a[0], p[1] - a[1]);
    if (off > most) { most = off; far = i; }
  }
  return most > slack ? [...part(path.slice(0, far + 1), slack), ...part(path.slice(far), slack).slice(1)] : [a, b];
}
