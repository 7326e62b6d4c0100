// Snapshots: save the view as one, see those that there are, and set two side by side.
import { useEffect, useState } from "preact/hooks";
import { CommandLine } from "./commands";
import { call, type Beside, type ColumnFacts, type Compared, type Frozen, type Page, type SnapshotFacts, type View } from "./api";
import { Still } from "./grid";
import { count, short, withWhere } from "./view";

interface Props { behind: boolean; view: View; change: (view: View) => void; shown: number; columns: ColumnFacts[]; facets: string[]; close: () => void; open: (id: string) => void }

export function Snapshots({ behind, view, change, shown, columns, facets, close, open }: Props) {
  const [list, setList] = useState<SnapshotFacts[]>([]);
  const [name, setName] = useState("");
  const [weights, setWeights] = useState("");
  const [made, setMade] = useState<Frozen | null>(null);
  const [wrong, setWrong] = useState("");
  const [busy, setBusy] = useState(false);
  const [pair, setPair] = useState<[string, string]>(["", ""]);
  const [compared, setCompared] = useState<Compared | null>(null);
  const load = () => call<{ snapshots: SnapshotFacts[] }>("snapshots").then((found) => setList(found.snapshots), (e: Error) => setWrong(e.message));
  useEffect(() => { void load(); }, []);
  const [dropped, setDropped] = useState(0);
  const judged = view.show === "kept" && columns.some((c) => c.name === "review_verdict"); // of what filters remove, one more removes more
  useEffect(() => {
    setDropped(0);
    if (!judged) return;
    const request = new AbortController();
    call<Page>("page", { view: withWhere(view, "review_verdict = 'drop'"), columns: [], facets: [], limit: 1 }, request.signal).then((found) => setDropped(found.shown), () => undefined);
    return () => request.abort();
  }, [JSON.stringify(view), judged]);
  const attempt = async (work: () => Promise<void>) => {
    setBusy(true);
    setWrong("");
    try { await work(); } catch (e) { setWrong((e as Error).message); } finally { setBusy(false); }
  };
  const save = () => attempt(async () => { setMade(await call<Frozen>("freeze", { name: name.trim(), view, weights })); setName(""); await load(); });
  const beside = () => attempt(async () => setCompared(await call<Compared>("compare", { a: pair[0], b: pair[1], columns: facets.filter((f) => columns.some((c) => c.name === f && c.kind !== "tags" && c.kind !== "other" && c.computed_by !== "review")).slice(0, 8) })));
  const balances = ["density", "cluster"].filter((by) => columns.some((c) => c.name === (by === "cluster" ? "cluster_id" : by)));
  return (
    <div class="panel" inert={behind} role="dialog" aria-modal="true" aria-label="snapshots">
      <div class="bar"><h2>Snapshots</h2><span class="gap" /><button onClick={close} aria-label="close">×</button></div>
      <form onSubmit={(e) => { e.preventDefault(); void save(); }}>
        <p>Freeze the {count(shown)} clips shown, so that later curation cannot change them.</p>
        {dropped > 0 && <p class="alarm">{dropped === 1 ? "1 of them is" : `${count(dropped)} of them are`} dropped, and would be in it. <button type="button" class="quiet" onClick={() => change(withWhere(view, "review_verdict is distinct from 'drop'"))}>leave {dropped === 1 ? "it" : "them"} out</button></p>}
        <div class="line">
          <input placeholder="name" aria-label="name of the snapshot" value={name} onInput={(e) => setName(e.currentTarget.value)} maxLength={100} />
          <select aria-label="weights" value={weights} onChange={(e) => setWeights(e.currentTarget.value)}>
            <option value="">all weigh the same</option>
            {balances.map((by) => <option key={by} value={by}>balanced by {by}</option>)}
            {columns.filter((c) => c.kind === "number" && c.computed_by !== "clips").map((c) => <option key={c.name} value={c.name}>weight: {c.name}</option>)}
          </select>
          <button disabled={busy || !name.trim() || !shown}>{busy ? "Saving …" : "Save snapshot"}</button>
        </div>
      </form>
      {name.trim() && shown > 0 && <AsCommand name={name.trim()} view={view} weights={weights} />}
      {wrong && <p class="alarm" role="alert">{wrong}</p>}
      {made && <div class="made" role="status"><p><b>{made.name}</b>: {count(made.clips)} clips, {made.hash.slice(0, 16)}</p><Uses name={made.name} /></div>}
      <table class="list">
        <thead><tr><th>name</th><th class="n">clips</th><th>made</th><th>weights</th><th>compare</th></tr></thead>
        <tbody>
          {list.map((one) => (
            <tr key={one.name} title={one.sql}>
              <td>{one.name}</td><td class="n">{count(one.clips)}</td><td>{one.at.slice(0, 16).replace("T", " ")}</td><td>{one.weights}</td>
              <td>{([0, 1] as const).map((side) => <label key={side}><input type="radio" name={`side-${side}`} aria-label={`${side === 0 ? "from" : "to"} ${one.name}`} checked={pair[side] === one.name} onChange={() => setPair(side === 0 ? [one.name, pair[1]] : [pair[0], one.name])} /> {side === 0 ? "from" : "to"}</label>)}</td>
            </tr>
          ))}
        </tbody>
      </table>
      {list.length > 1 && <button disabled={busy || !pair[0] || !pair[1] || pair[0] === pair[1]} onClick={() => void beside()}>Compare</button>}
      {compared && <Comparison compared={compared} open={open} />}
    </div>
  );
}

/** The same snapshot by the command line. */
function AsCommand({ name, view, weights }: { name: string; view: View; weights: string }) {
  const [given, setGiven] = useState<Record<string, unknown> | null>(null);
  useEffect(() => {
    const request = new AbortController();
    const wait = setTimeout(() => call<{ arguments: Record<string, unknown> }>("freeze_arguments", { name, view, weights }, request.signal).then((found) => setGiven(found.arguments), (e: Error) => { if (e.name !== "AbortError") setGiven(null); }), 150);
    return () => { clearTimeout(wait); request.abort(); };
  }, [name, view, weights]);
  return given && <details class="as-command"><summary>as a command</summary><CommandLine command="snapshot" arguments={given} about={`freeze ${name}`} /></details>;
}

/** What a snapshot is made for; both commands run in the server's folder. */
function Uses({ name }: { name: string }) {
  const [out, setOut] = useState(`exports/${name}`);
  const [recipe, setRecipe] = useState("");
  return (
    <>
      <label>folder to export to <input value={out} onInput={(e) => setOut(e.currentTarget.value)} /></label>
      {out.trim() && <CommandLine command="export" arguments={{ out: out.trim(), snapshot: name }} about={`export ${name}`} />}
      <label>recipe to train by <input value={recipe} placeholder="recipe.yaml" onInput={(e) => setRecipe(e.currentTarget.value)} /></label>
      {recipe.trim() && <CommandLine command="train" arguments={{ recipe: recipe.trim(), snapshot: name }} about={`train on ${name}`} />}
    </>
  );
}

function Comparison({ compared, open }: { compared: Compared; open: (id: string) => void }) {
  const { a, b } = compared;
  return (
    <section class="compared" aria-label="comparison">
      <p>{a.name}: {count(a.clips)} clips → {b.name}: {count(b.clips)}. {count(compared.added)} came, {count(compared.removed)} went, {count(compared.kept)} stayed{compared.reweighted ? `, ${count(compared.reweighted)} with another weight` : ""}.</p>
      {([["came", compared.came], ["went", compared.went]] as const).map(([what, ids]) => ids.length > 0 && (
        <div key={what}><h3>{what}</h3><ul class="near">{ids.slice(0, 12).map((id) => <li key={id}><button onClick={() => open(id)} aria-label={`open clip ${id}`}><Still id={id} /></button></li>)}</ul></div>
      ))}
      <div class="pairs">{Object.entries(compared.columns).map(([name, one]) => one.kind !== "none" && <figure key={name}><figcaption>{name}</figcaption><Pair beside={one} /></figure>)}</div>
      <p class="note"><span class="key a" /> {a.name} <span class="key b" /> {b.name}; each as a share of its own clips</p>
    </section>
  );
}

function Pair({ beside }: { beside: Exclude<Beside, { kind: "none" }> }) {
  const sum = (list: number[]) => list.reduce((x, y) => x + y, 0) || 1;
  const [sa, sb] = [sum(beside.a), sum(beside.b)];
  const most = Math.max(...beside.a.map((n) => n / sa), ...beside.b.map((n) => n / sb)) || 1;
  const ends = beside.kind === "histogram" ? [short(beside.edges[0]!), short(beside.edges.at(-1)!)] : [beside.words[0] ?? "", beside.words.at(-1) ?? ""];
  return (
    <div>
      <svg viewBox={`0 0 ${beside.a.length * 2} 30`} preserveAspectRatio="none" aria-hidden="true">
        {beside.a.map((n, i) => <g key={i}><rect class="a" x={i * 2 + 0.1} width={0.85} y={30 - (30 * n) / sa / most} height={(30 * n) / sa / most} /><rect class="b" x={i * 2 + 0.95} width={0.85} y={30 - (30 * (beside.b[i] ?? 0)) / sb / most} height={(30 * (beside.b[i] ?? 0)) / sb / most} /></g>)}
      </svg>
      <p class="note ends"><span>{ends[0]}</span><span>{ends[1]}</span></p>
    </div>
  );
}
