// Draws the map on a canvas: shaded cells, dots, names of clusters, the lasso.
import type { Box, MapOf, Point } from "./api";

/** What of the map is shown, and how; it is in the page's address. */
export interface Look { on: boolean; box: Box | null; colour: string; weights: string }

interface Cells { across: number; down: number }
const NAMED = 14; // clusters whose names are drawn
const DOT = [2.2, 4.5] as const; // px: half the width of a dot where there are many, and few

export function draw(canvas: HTMLCanvasElement, [width, height]: [number, number], box: Box, found: MapOf, look: Look, cells: Cells, lasso: Point[], near: number): void {
  const fine = devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * fine) || canvas.height !== Math.round(height * fine)) { canvas.width = Math.round(width * fine); canvas.height = Math.round(height * fine); }
  const pen = canvas.getContext("2d")!;
  pen.setTransform(fine, 0, 0, fine, 0, 0);
  pen.clearRect(0, 0, width, height);
  const x = (value: number) => ((value - box[0]) / (box[2] - box[0])) * width;
  const y = (value: number) => ((box[3] - value) / (box[3] - box[1])) * height;
  const style = getComputedStyle(canvas);
  const [ink, paper, bar] = ["--ink", "--sheet", "--bar"].map((name) => style.getPropertyValue(name));
  const colour = colours(found, look, matchMedia("(prefers-color-scheme: dark)").matches, bar!);
  const all = found.dots.clip_id.length === found.inside;
  if (!all) shade(pen, found, cells, [x, y], colour);
  pen.globalAlpha = all ? 0.85 : 0.5;
  for (let i = 0; i < found.dots.x.length; i++) {
    pen.fillStyle = all ? colour(found.dots.colour?.[i] ?? null) : ink!;
    const r = all ? Math.min(DOT[1], Math.max(DOT[0], 60 / Math.sqrt(found.inside))) : 0.7;
    pen.fillRect(x(found.dots.x[i]!) - r, y(found.dots.y[i]!) - r, 2 * r, 2 * r);
  }
  pen.globalAlpha = 1;
  names(pen, found, [x, y], [width, height], ink!, paper!);
  outline(pen, lasso, [x, y], bar!);
  if (near >= 0) {
    pen.strokeStyle = ink!;
    pen.lineWidth = 2;
    pen.beginPath();
    pen.arc(x(found.dots.x[near]!), y(found.dots.y[near]!), 6, 0, 2 * Math.PI);
    pen.stroke();
  }
}

type Axes = [(value: number) => number, (value: number) => number];

function shade(pen: CanvasRenderingContext2D, found: MapOf, { across, down }: Cells, [x, y]: Axes, colour: (value: number | null) => string): void {
  const most = Math.log(1 + Math.max(...found.cells.count, 1));
  const [x0, y0, x1, y1] = found.box;
  const [w, h] = [(x1 - x0) / across, (y1 - y0) / down];
  found.cells.at.forEach((at, i) => {
    const left = x(x0 + (at % across) * w), top = y(y1 - Math.floor(at / across) * h);
    pen.globalAlpha = 0.18 + 0.82 * (Math.log(1 + found.cells.count[i]!) / most);
    pen.fillStyle = colour(found.cells.colour?.[i] ?? null);
    pen.fillRect(left, top, x(x0 + ((at % across) + 1) * w) - left + 0.3, y(y1 - (Math.floor(at / across) + 1) * h) - top + 0.3);
  });
}

/** Where the values are a measure: from blue over grey to orange; categories: hues a golden angle apart. */
function colours(found: MapOf, look: Look, dark: boolean, bar: string): (value: number | null) => string {
  const { scale } = found;
  const none = dark ? "#6b665f" : "#a9a39a";
  if (!look.colour || scale.kind === "count") return () => bar;
  if (scale.kind === "words") return (value) => (value === null || value < 0 ? none : `hsl(${Math.round((value * 137.508 + 28) % 360)} ${dark ? "62% 62%" : "66% 42%"})`);
  const span = scale.most - scale.least || 1;
  return (value) => {
    if (value === null) return none;
    const t = Math.max(0, Math.min(1, (value - scale.least) / span));
    return `hsl(${Math.round(t < 0.5 ? 225 : 28)} ${Math.round(Math.abs(t - 0.5) * 150 + 8)}% ${dark ? 64 : 46}%)`;
  };
}

function names(pen: CanvasRenderingContext2D, found: MapOf, [x, y]: Axes, [width, height]: [number, number], ink: string, paper: string): void {
  pen.font = "600 12px system-ui, sans-serif";
  pen.textAlign = "center";
  pen.lineWidth = 3.5;
  pen.lineJoin = "round";
  const taken: [number, number, number, number][] = [];
  for (const one of found.clusters.list.slice(0, NAMED)) {
    if (one.x === null || one.y === null) continue;
    const text = one.name ? (one.name.length > 28 ? `${one.name.slice(0, 27)}…` : one.name) : `${one.id}`;
    const half = pen.measureText(text).width / 2;
    const at: Point = [Math.max(half + 4, Math.min(width - half - 4, x(one.x))), y(one.y)];
    const rect: [number, number, number, number] = [at[0] - half, at[1] - 11, at[0] + half, at[1] + 4];
    if (x(one.x) < 0 || x(one.x) > width || at[1] < 10 || at[1] > height - 4) continue;
    if (taken.some((t) => rect[0] < t[2] && rect[2] > t[0] && rect[1] < t[3] && rect[3] > t[1])) continue;
    taken.push(rect);
    pen.strokeStyle = paper;
    pen.strokeText(text, ...at);
    pen.fillStyle = ink;
    pen.fillText(text, ...at);
  }
}

function outline(pen: CanvasRenderingContext2D, lasso: Point[], [x, y]: Axes, bar: string): void {
  if (lasso.length < 2) return;
  pen.beginPath();
  lasso.forEach(([px, py], i) => (i ? pen.lineTo(x(px), y(py)) : pen.moveTo(x(px), y(py))));
  pen.closePath();
  pen.globalAlpha = 0.12;
  pen.fillStyle = bar;
  pen.fill("evenodd");
  pen.globalAlpha = 1;
  pen.strokeStyle = bar;
  pen.lineWidth = 1.8;
  pen.stroke();
}
