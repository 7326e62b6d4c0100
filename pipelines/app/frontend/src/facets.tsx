// Filters: a slider on a histogram per column of numbers, a list with counts per column of words.
import { useState } from "preact/hooks";
import type { ColumnFacts, Facet, Value, View } from "./api";
import { count, short, withRange, withValues } from "./view";

interface Props { column: ColumnFacts; facet: Facet | undefined; view: View; change: (view: View) => void; remove: () => void }

export function FacetBox({ column, facet, view, change, remove }: Props) {
  const filtered = column.name in view.ranges || column.name in view.values;
  return (
    <section class={`facet ${filtered ? "on" : ""}`} aria-label={column.name} data-facet={column.name}>
      <header>
        <h3 title={column.meaning}>{column.name}</h3>
        <span class="unit">{column.unit}</span>
        {filtered && <button class="quiet" onClick={() => change(without(view, column.name))} aria-label={`clear the filter on ${column.name}`}>clear</button>}
        <button class="quiet away" onClick={remove} aria-label={`hide ${column.name}`} title="hide">×</button>
      </header>
      {facet?.kind === "histogram" && <Slider column={column} facet={facet} view={view} change={change} />}
      {facet?.kind === "counts" && <Words column={column} facet={facet} view={view} change={change} />}
      {facet?.kind === "none" && <p class="note">no values to filter by</p>}
    </section>
  );
}

function without(view: View, name: string): View {
  return withValues(withRange(view, name, null), name, []);
}

type Histogram = Extract<Facet, { kind: "histogram" }>;
type Counts = Extract<Facet, { kind: "counts" }>;

function Slider({ column, facet, view, change }: { column: ColumnFacts; facet: Histogram; view: View; change: (view: View) => void }) {
  const bins = facet.counts.length;
  const [least, most] = view.ranges[column.name] ?? [null, null];
  const first = facet.edges[0]!, last = facet.edges[bins]!;
  const at = (value: number) => (last > first ? Math.min(bins, Math.max(0, ((value - first) / (last - first)) * bins)) : 0);
  const low = least === null ? 0 : at(least), high = most === null ? bins : at(most);
  const tallest = Math.max(1, ...facet.counts);
  const bound = (place: number, end: number) => (place === end ? null : Number(facet.edges[place]!.toPrecision(6)));
  const slide = (which: 0 | 1, place: number) => {
    const other = which === 0 ? Math.floor(high) : Math.ceil(low);
    const [a, b] = which === 0 ? [Math.min(place, other), most] : [least, Math.max(place, other)];
    change(withRange(view, column.name, which === 0 ? [bound(a as number, 0), most] : [least, bound(b as number, bins)]));
  };
  const shown = column.kind === "time" ? (v: number) => new Date(v * 1000).toISOString().slice(0, 10) : short;
  return (
    <div class="slider">
      <svg viewBox={`0 0 ${bins} 24`} preserveAspectRatio="none" aria-hidden="true">
        {facet.counts.map((n, i) => {
          const height = n ? Math.max(0.8, (n / tallest) * 24) : 0;
          return <rect key={i} x={i + 0.06} width={0.88} y={24 - height} height={height} class={i + 1 > low && i < high ? "in" : "out"} />;
        })}
      </svg>
      <div class="thumbs">
        <input type="range" min={0} max={bins} step={1} value={low} aria-label={`least ${column.name}`} aria-valuetext={least === null ? "no bound" : short(least)}
          onInput={(e) => slide(0, Number(e.currentTarget.value))} />
        <input type="range" min={0} max={bins} step={1} value={high} aria-label={`most ${column.name}`} aria-valuetext={most === null ? "no bound" : short(most)}
          onInput={(e) => slide(1, Number(e.currentTarget.value))} />
      </div>
      <div class="ends">
        <Exact label={`least ${column.name}, exactly`} value={least} hint={shown(facet.least)} set={(v) => change(withRange(view, column.name, [v, most]))} />
        {facet.missing > 0 && <span class="note" title="clips without a value">{count(facet.missing)} without</span>}
        <Exact label={`most ${column.name}, exactly`} value={most} hint={shown(facet.most)} set={(v) => change(withRange(view, column.name, [least, v]))} />
      </div>
    </div>
  );
}

export function Exact({ label, value, hint, set }: { label: string; value: number | null; hint: string; set: (value: number | null) => void }) {
  const [typed, setTyped] = useState<string | null>(null); // histograms that come while somebody types leave it alone
  return (
    <input class="exact" inputMode="decimal" aria-label={label} placeholder={hint} value={typed ?? (value === null ? "" : String(value))}
      onInput={(e) => setTyped(e.currentTarget.value)} onBlur={() => setTyped(null)}
      onChange={(e) => {
        const text = e.currentTarget.value.trim();
        const number = Number(text);
        if (!text) set(null);
        else if (Number.isFinite(number)) set(number);
        setTyped(null);
      }} />
  );
}

function Words({ column, facet, view, change }: { column: ColumnFacts; facet: Counts; view: View; change: (view: View) => void }) {
  const [all, setAll] = useState(false);
  const chosen = view.values[column.name] ?? [];
  const rows: { value: Value; count: number }[] = [...facet.values];
  if (facet.missing || chosen.includes(null)) rows.push({ value: null, count: facet.missing });
  for (const one of chosen) if (!rows.some((row) => row.value === one)) rows.push({ value: one, count: 0 });
  const most = Math.max(1, ...rows.map((row) => row.count));
  const shown = all ? rows : rows.slice(0, 8);
  const toggle = (value: Value) =>
    change(withValues(view, column.name, chosen.includes(value) ? chosen.filter((one) => one !== value) : [...chosen, value]));
  return (
    <ul class="words">
      {shown.map((row) => (
        <li key={String(row.value)}>
          <label>
            <input type="checkbox" checked={chosen.includes(row.value)} onChange={() => toggle(row.value)} />
            <span class="word">{row.value === null ? <i>none</i> : String(row.value)}</span>
            <span class="bar" style={{ width: `${(34 * row.count) / most}%` }} />
            <span class="n">{count(row.count)}</span>
          </label>
        </li>
      ))}
      {rows.length > 8 && <li><button class="quiet" onClick={() => setAll(!all)}>{all ? "fewer" : `${rows.length - 8 + facet.more} more`}</button></li>}
    </ul>
  );
}
