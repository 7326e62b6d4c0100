// Runs of curation: what goes on, the funnel, failures, runs that ended.
import { CommandLine } from "./commands";
import { FactList, Section, span, State, Track, useAsked, Waiting, when } from "./parts";
import { count, short } from "./view";
import type { RunFacts, UnderWay, Watched } from "./work-api";

const EVERY_MS = 2_000;

export function RunsPage() {
  const { found, fault } = useAsked<Watched>("runs", {}, EVERY_MS);
  if (!found) return <main><h1>Runs</h1><Waiting fault={fault} /></main>;
  const { sources } = found;
  const whole = sources.found || 1;
  return (
    <main>
      <h1>Runs</h1>
      {fault && <Waiting fault={fault} />}
      <Section title="Now">
        {found.under_way.length ? <ul class="going" role="status">{found.under_way.map((one) => <Going key={`${one.command}${one.started_at}${one.pid}`} one={one} />)}</ul>
          : <p class="empty">No run goes on. {found.runs[0] ? <>The last one: {found.runs[0].command}, {when(found.runs[0].started_at)}, {found.runs[0].state}.</> : null}</p>}
      </Section>
      <Section title="Funnel" id="funnel">
        <table class="funnel">
          <thead><tr><th scope="col">stage</th><th scope="col" class="n">count</th><th scope="col" class="wide">footage</th><th scope="col" class="n">length</th></tr></thead>
          <tbody>{found.funnel.map((stage) => <tr key={stage.name}><th scope="row">{stage.name}<small>{stage.meaning}</small></th><td class="n" data-stage={stage.name}>{count(stage.count)}</td><td class="wide"><Track share={stage.share} /></td><td class="n">{span(stage.hours * 3600)}</td></tr>)}</tbody>
        </table>
        <svg class="ends" viewBox="0 0 100 10" preserveAspectRatio="none" role="img" aria-label="files by how they ended">
          <rect class="ok" x="0" width={(100 * sources.ok) / whole} height="10" />
          <rect class="duplicate" x={(100 * sources.ok) / whole} width={(100 * sources.duplicate) / whole} height="10" />
          <rect class="failed" x={(100 * (sources.ok + sources.duplicate)) / whole} width={(100 * sources.failed) / whole} height="10" />
        </svg>
        <p class="sum">{count(sources.found)} files = <span class="key ok">{count(sources.ok)} ok</span> + <span class="key duplicate">{count(sources.duplicate)} duplicate</span> + <span class="key failed">{count(sources.failed)} failed</span>{sources.other ? <b class="alarm"> and {count(sources.other)} in no known state</b> : null}</p>
      </Section>
      <Section title="Failures" id="failures">
        {found.failures.length ? <>
          <div class="scroll" tabIndex={0} role="region" aria-label="failures by kind"><table class="rows">
            <thead><tr><th scope="col">stage</th><th scope="col">message</th><th scope="col" class="n">times</th><th scope="col">for example</th></tr></thead>
            <tbody>{found.failures.map((one, i) => <tr key={i}><td><span class="chip">{one.stage}</span></td><td class="message">{one.message || "no message"}</td><td class="n">{count(one.count)}</td><td>{(one.examples ?? []).map((name) => <Example key={name} name={name} />)}</td></tr>)}</tbody>
          </table></div>
          {found.more_failures > 0 && <p class="note">and {count(found.more_failures)} more kinds of failure</p>}
          <details><summary>the newest {count(found.newest.length)}</summary><ul class="newest">{found.newest.map((one, i) => <li key={i}><span class="chip">{one.stage}</span> <Example name={one.clip_id ?? one.uri ?? ""} /> {one.error} <span class="note">attempt {one.attempts}, {when(one.at)}</span></li>)}</ul></details>
          <CommandLine command="annotate" arguments={{ retry_failed: true }} about="try annotations again that failed" />
        </> : <p class="empty">Nothing failed.</p>}
      </Section>
      <Section title="Ended" id="ended">
        {found.runs.length ? <div class="scroll" tabIndex={0} role="region" aria-label="runs that ended"><table class="rows">
          <thead><tr><th scope="col">started</th><th scope="col">command</th><th scope="col">state</th><th scope="col" class="n">took</th><th scope="col">counts</th><th scope="col">worker time by stage</th></tr></thead>
          <tbody>{found.runs.map((run) => <tr key={run.run_id}>
            <td class="keep">{when(run.started_at)}</td><td><a href={`/runs/${encodeURIComponent(run.run_id)}`}>{run.command} {run.run_id.slice(0, 12)}</a></td><td><State state={run.state} /></td><td class="n">{span(run.seconds)}</td>
            <td class="small">{Object.entries(run.counts).slice(0, 12).map(([name, value]) => <span class="pair" key={name}>{name.replaceAll("_", " ")} <b>{typeof value === "number" ? short(value) : String(value ?? "–")}</b></span>)}</td>
            <td class="stages">{run.stages.map((stage) => <div key={stage.label}><span>{stage.label}</span><Track share={stage.share} thin /><span class="n">{span(stage.seconds)}</span></div>)}</td>
          </tr>)}</tbody>
        </table></div> : <p class="empty">No run has been recorded.</p>}
      </Section>
    </main>
  );
}

function Going({ one }: { one: UnderWay }) {
  const share = one.total ? one.done / one.total : 0;
  return (
    <li class="card" data-state={one.state}>
      <p><b>{one.command}</b>{one.what && one.what !== one.command ? `, ${one.what}` : ""} <State state={one.state} /> <span class="note">since {when(one.started_at)}, process {one.pid} on {one.host}</span></p>
      <Track share={share} />
      <p class="sum">{count(one.done)} of {count(one.total)} ({Math.floor(100 * share)} %){Object.entries(one.counts).filter(([, value]) => typeof value === "number").map(([name, value]) => <span key={name}> · {count(value as number)} {name.replaceAll("_", " ")}</span>)}</p>
      {one.state === "lost" && <p class="note">Its process is gone. What it had committed is in the store; the same command goes on from there.</p>}
    </li>
  );
}

function Example({ name }: { name: string }) {
  return <code class="name">{/^[0-9a-f]{24}$/.test(name) ? <a href={`/?clip=${name}`}>{name}</a> : name}</code>;
}

export function RunPage({ id }: { id: string }) {
  const { found, fault } = useAsked<RunFacts>("run", { run: id });
  if (!found) return <main><h1>Run</h1><Waiting fault={fault} /></main>;
  const parts: [string, RunFacts["counts"]][] = [["Counts", found.counts], ["Seconds of workers by stage", found.stage_seconds], ["Bytes by stage", found.stage_bytes], ["Usage of models", found.usage], ["Versions", found.versions]];
  return (
    <main>
      <p class="note"><a href="/runs">all runs</a></p>
      <h1>{found.command} {found.run_id}</h1>
      <p class="lead"><State state={found.state} /> {when(found.started_at)} to {when(found.ended_at)}</p>
      <div class="cards loose">{parts.filter(([, facts]) => Object.keys(facts).length).map(([title, facts]) => <section class="card" key={title}><h3 class="plain">{title}</h3><FactList facts={facts} /></section>)}</div>
      <Section title="Recipe"><pre class="text" tabIndex={0}>{found.recipe || "none"}</pre></Section>
    </main>
  );
}
