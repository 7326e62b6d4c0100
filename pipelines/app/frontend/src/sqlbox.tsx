// A condition, or a whole SELECT, with completion of the names of columns and tables.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { call, type ColumnFacts, type Table } from "./api";
import { shown } from "./grid";
import { count } from "./view";

interface Props { value: string; columns: ColumnFacts[]; tables: Record<string, string[]>; apply: (where: string) => void; error: string; open: (id: string) => void }
interface Offer { name: string; about: string }

const WORDS = ["and", "or", "not", "is null", "is not null", "in", "like", "ilike", "between", "select", "from", "where", "group by", "order by", "limit", "count(*)"];
const isQuery = (text: string) => /^\s*(select|with|from|describe|summarize)\b/i.test(text);

export function SqlBox({ value, columns, tables, apply, error, open }: Props) {
  const [text, setText] = useState(value);
  const [offers, setOffers] = useState<Offer[]>([]);
  const [at, setAt] = useState(0);
  const [moved, setMoved] = useState(false); // Enter takes an offer only after an arrow chose it
  const [table, setTable] = useState<Table | null>(null);
  const [wrong, setWrong] = useState("");
  const [busy, setBusy] = useState(false);
  const box = useRef<HTMLTextAreaElement>(null);
  useEffect(() => setText(value), [value]);
  const names = useMemo<Offer[]>(() => [
    ...columns.map((c) => ({ name: c.name, about: [c.meaning, c.unit && `(${c.unit})`].filter(Boolean).join(" ") })),
    ...Object.keys({ clips: 1, clips_full: 1, failures_latest: 1, ...tables }).map((name) => ({ name, about: "table" })),
    ...WORDS.map((name) => ({ name, about: "" })),
  ], [columns, tables]);

  const complete = (element: HTMLTextAreaElement) => {
    const before = element.value.slice(0, element.selectionStart);
    const inText = (before.split("'").length - 1) % 2 === 1;
    const word = inText ? "" : /[A-Za-z_]\w*$/.exec(before)?.[0].toLowerCase() ?? "";
    const found = word.length < 1 ? [] : names.filter((one) => one.name.includes(word) && one.name !== word);
    found.sort((a, b) => Number(b.name.startsWith(word)) - Number(a.name.startsWith(word)) || a.name.length - b.name.length);
    setOffers(found.slice(0, 8));
    setAt(0);
    setMoved(false);
  };
  const take = (offer: Offer) => {
    const element = box.current!;
    const before = element.value.slice(0, element.selectionStart).replace(/[A-Za-z_]\w*$/, offer.name);
    const after = element.value.slice(element.selectionStart);
    element.value = before + after; // at once: whoever types on must not find the caret elsewhere
    element.focus();
    element.setSelectionRange(before.length, before.length);
    setText(element.value);
    setOffers([]);
  };
  const run = async () => {
    setOffers([]);
    setWrong("");
    if (!isQuery(text)) { setTable(null); apply(text.trim()); return; }
    setBusy(true);
    try { setTable(await call<Table>("sql", { query: text })); } catch (e) { setWrong((e as Error).message); setTable(null); }
    finally { setBusy(false); }
  };
  const keys = (event: KeyboardEvent) => {
    if (offers.length && (event.key === "ArrowDown" || event.key === "ArrowUp")) { setAt((at + (event.key === "ArrowDown" ? (moved ? 1 : 0) : offers.length - 1)) % offers.length); setMoved(true); }
    else if (offers.length && (event.key === "Tab" || (event.key === "Enter" && moved))) take(offers[at]!);
    else if (event.key === "Enter" && !event.shiftKey) void run();
    else if (event.key === "Escape" && offers.length) setOffers([]);
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const ids = table?.columns.includes("clip_id");
  const id = table?.columns.indexOf("clip_id") ?? -1;
  const message = wrong || error;
  return (
    <div class="sql">
      <div class="line">
        <textarea ref={box} rows={Math.min(6, text.split("\n").length)} value={text} spellcheck={false} aria-label="SQL: a condition, or a SELECT" aria-invalid={!!message}
          aria-haspopup="listbox" aria-controls="offers" aria-autocomplete="list" aria-activedescendant={offers.length ? `offer-${at}` : undefined}
          placeholder="SQL: duration_s > 2 and camera_motion = 'static'"
          onInput={(e) => { setText(e.currentTarget.value); complete(e.currentTarget); }} onKeyDown={keys} onBlur={() => setTimeout(() => setOffers([]), 150)} />
        <button onClick={() => void run()} disabled={busy}>{isQuery(text) ? "Run" : "Filter"}</button>
      </div>
      <ul id="offers" role="listbox" aria-label="completions" class="offers" hidden={!offers.length}>
        {offers.map((one, i) => (
          <li key={one.name} id={`offer-${i}`} role="option" aria-selected={i === at} onPointerDown={(e) => { e.preventDefault(); take(one); }}><b>{one.name}</b> <span>{one.about}</span></li>
        ))}
      </ul>
      {message && <p class="alarm" role="alert">{message}</p>}
      {table && (
        <div class="result">
          <p class="note">
            {count(table.rows.length)} rows{table.more ? ", and more" : ""}
            {ids && <button class="quiet" onClick={() => { apply(`clip_id in (select clip_id from (${text.trim().replace(/;$/, "")}\n))`); setTable(null); }}>show these clips</button>}
            <button class="quiet" onClick={() => setTable(null)}>close</button>
          </p>
          <div class="scroll" tabIndex={0} role="region" aria-label="rows of the query">
            <table>
              <thead><tr>{table.columns.map((name) => <th key={name}>{name}</th>)}</tr></thead>
              <tbody>{table.rows.map((row, i) => <tr key={i}>{row.map((cell, j) => <td key={j}>{j === id ? <button class="quiet" onClick={() => open(String(cell))}>{shown(cell)}</button> : shown(cell)}</td>)}</tr>)}</tbody>
            </table>
          </div>
        </div>
      )}
    </div>
  );
}
