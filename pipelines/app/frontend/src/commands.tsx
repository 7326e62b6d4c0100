// Commands: a line to copy; where the server was begun with --allow-commands, a button that starts it, and what it prints.
import { useEffect, useState } from "preact/hooks";
import { call } from "./api";
import { Copy, Section, span, State, Track, useAsked, Waiting } from "./parts";
import { count } from "./view";
import type { Commands, Form, Started } from "./work-api";

interface Asked { command: string; arguments: Record<string, unknown> }

let known: Promise<Commands> | null = null; // whether commands may be started does not change while a server runs
const about = () => (known ??= call<Commands>("commands"));

/** A line to copy. */
export function CommandText({ line, about: what }: { line: string; about?: string }) {
  return <p class="command"><code>{line}</code>{what && <span class="note">{what}</span>}<Copy text={line} label={`copy: ${line}`} /></p>;
}

/** A command of the server's list: its line as the server writes it, and a button that starts it where that is allowed. */
export function CommandLine({ command, arguments: given, about: what }: Asked & { about: string }) {
  const [line, setLine] = useState("");
  const [fault, setFault] = useState("");
  const [facts, setFacts] = useState<Commands | null>(null);
  const key = JSON.stringify([command, given]);
  useEffect(() => {
    call<{ line: string }>("command", { command, arguments: given }).then((made) => { setLine(made.line); setFault(""); }, (e: Error) => { setLine(""); setFault(e.message); });
    about().then(setFacts, () => undefined);
  }, [key]);
  const start = (on_cluster: boolean) => void call("start_command", { command, arguments: given, on_cluster }).then(() => { location.href = "/commands"; }, (e: Error) => setFault(e.message));
  return (
    <div class="do">
      {line && <CommandText line={line} about={what} />}
      {facts?.allowed && line && !fault && (
        <p class="line">
          <button class="start" type="button" onClick={() => start(false)}>start: {what}</button>
          {facts.cluster && facts.forms.find((one) => one.name === command)?.on_cluster && <button type="button" onClick={() => start(true)}>submit to {facts.cluster}: {what}</button>}
        </p>
      )}
      {fault && <p class="alarm" role="alert">{fault}</p>}
    </div>
  );
}

export function CommandsPage() {
  const [goes, setGoes] = useState(true);
  const { found, fault, again } = useAsked<Commands>("commands", {}, goes ? 1_500 : 0);
  const [chosen, setChosen] = useState("annotate");
  useEffect(() => setGoes(!found || found.started.some((one) => one.state === "running")), [found]);
  if (!found) return <main><h1>Commands</h1><Waiting fault={fault} /></main>;
  const form = found.forms.find((one) => one.name === chosen) ?? found.forms[0]!;
  return (
    <main>
      <h1>Commands</h1>
      <p class="lead">{found.allowed ? <>Commands run on this server's machine; their paths lie in <code>{found.work}</code>. They are interrupted when the server ends, and go on when they are started again.</> : <>This server hands out commands to copy. Begun with <code>reel app --allow-commands</code>, it starts them too.</>}</p>
      {fault && <Waiting fault={fault} />}
      <Section title="Make one">
        <div class="tabs" role="group" aria-label="command">{found.forms.map((one) => <button key={one.name} aria-pressed={one.name === form.name} class={one.name === form.name ? "on" : ""} onClick={() => setChosen(one.name)}>{one.name}</button>)}</div>
        <FormOf key={form.name} form={form} facts={found} started={() => { setGoes(true); again(); }} />
      </Section>
      {found.allowed && <Section title="Started here">
        {found.started.length ? <ul class="going">{found.started.map((one) => <Begun key={one.key} one={one} stop={() => void call("stop_command", { key: one.key }).then(again, again)} />)}</ul> : <p class="empty">Nothing yet.</p>}
      </Section>}
    </main>
  );
}

function FormOf({ form, facts, started }: { form: Form; facts: Commands; started: () => void }) {
  const [given, setGiven] = useState<Record<string, string | boolean>>({});
  const [line, setLine] = useState("");
  const [fault, setFault] = useState("");
  const arguments_ = argumentsOf(form, given);
  const lacks = form.fields.filter((one) => one.is_required && !(one.name in arguments_));
  const key = JSON.stringify([form.name, arguments_]);
  useEffect(() => {
    setFault("");
    if (lacks.length) { setLine(""); return; }
    const request = new AbortController();
    const wait = setTimeout(() => call<{ line: string }>("command", { command: form.name, arguments: arguments_ }, request.signal).then((made) => setLine(made.line), (e: Error) => { if (e.name !== "AbortError") { setLine(""); setFault(e.message); } }), 150);
    return () => { clearTimeout(wait); request.abort(); };
  }, [key]);
  const start = (on_cluster: boolean) => void call("start_command", { command: form.name, arguments: arguments_, on_cluster }).then(started, (e: Error) => setFault(e.message));
  const set = (name: string, value: string | boolean) => setGiven({ ...given, [name]: value });
  return (
    <form class="form" onSubmit={(e) => { e.preventDefault(); if (facts.allowed && line) start(false); }} aria-label={`reel ${form.name}`}>
      <p class="meaning">{form.about}</p>
      {form.fields.map((one) => {
        const id = `${form.name}-${one.name}`;
        const value = given[one.name];
        return (
          <p class="field" key={id}>
            <label for={id}>{one.name.replaceAll("_", " ")}{one.is_required && " *"}</label>
            {one.kind === "truth" ? <input id={id} type="checkbox" checked={value === true} onChange={(e) => set(one.name, e.currentTarget.checked)} />
              : one.kind === "choice" ? <select id={id} value={String(value ?? "")} onChange={(e) => set(one.name, e.currentTarget.value)}>{one.choices.map((choice) => <option key={choice} value={choice}>{choice || "default"}</option>)}</select>
                : one.is_long ? <textarea id={id} rows={2} value={String(value ?? "")} onInput={(e) => set(one.name, e.currentTarget.value)} />
                  : <input id={id} inputMode={one.kind === "number" ? "decimal" : "text"} value={String(value ?? "")} placeholder={one.default === null || one.default === "" || Array.isArray(one.default) ? "" : String(one.default)} onInput={(e) => set(one.name, e.currentTarget.value)} />}
            <small>{one.about}{one.kind === "list" && ", with commas"}</small>
          </p>
        );
      })}
      {lacks.length > 0 && <p class="note">Fill in: {lacks.map((one) => one.name.replaceAll("_", " ")).join(", ")}.</p>}
      {line && <CommandText line={line} />}
      {fault && <p class="alarm" role="alert">{fault}</p>}
      {facts.allowed && <p class="line"><button class="start" disabled={!line}>Start here</button>{facts.cluster && form.on_cluster && <button type="button" disabled={!line} onClick={() => start(true)}>Submit to {facts.cluster}</button>}</p>}
    </form>
  );
}

/** What was filled in, as the server takes it; a field that was left alone is left out. */
function argumentsOf(form: Form, given: Record<string, string | boolean>): Record<string, unknown> {
  const made: Record<string, unknown> = {};
  for (const one of form.fields) {
    const value = given[one.name];
    if (value === undefined || value === "" || value === false) continue;
    if (one.kind === "list") made[one.name] = String(value).split(",").map((part) => part.trim()).filter(Boolean);
    else if (one.kind === "number") made[one.name] = Number.isFinite(Number(value)) ? Number(value) : value;
    else made[one.name] = value;
  }
  return made;
}

function Begun({ one, stop }: { one: Started; stop: () => void }) {
  const share = one.total ? (one.done ?? 0) / one.total : 0;
  return (
    <li class="card" data-state={one.state}>
      <p class="command"><code>{one.line}</code> <State state={one.state} /> <span class="note">{span((one.ended ?? Date.now() / 1000) - one.began)}{one.code ? `, exit code ${one.code}` : ""}</span>{one.state === "running" && <button onClick={stop}>stop</button>}</p>
      {one.total ? <><Track share={share} /><p class="sum">{count(one.done ?? 0)} of {count(one.total)}</p></> : null}
      {one.output && <pre class="text" tabIndex={0} aria-label={`what ${one.line} printed`}>{one.output}</pre>}
    </li>
  );
}
