// Evaluations: models side by side by prompt; a generation beside the training clips nearest to it.
import { useState } from "preact/hooks";
import { CommandLine, CommandText } from "./commands";
import { ClipVideo, FactList, Failed, said, Section, State, useAsked, Video, Waiting, when } from "./parts";
import { count, short } from "./view";
import { generated, ofSnapshot, still, type Evaluation, type EvaluationFacts, type Generation, type Made, type NearClip } from "./work-api";

const AT_ONCE = 12;

export function EvaluationsPage() {
  const { found, fault } = useAsked<{ evaluations: Evaluation[] }>("evaluations", {}, 10_000);
  if (!found) return <main><h1>Evaluations</h1><Waiting fault={fault} /></main>;
  return (
    <main>
      <h1>Evaluations</h1>
      {found.evaluations.length ? <div class="scroll" tabIndex={0} role="region" aria-label="evaluations"><table class="rows">
        <thead><tr><th scope="col">evaluation</th><th scope="col">suite</th><th scope="col">models</th><th scope="col" class="n">videos</th><th scope="col" class="n">people's answers</th><th scope="col" class="n">judges'</th><th scope="col">begun</th></tr></thead>
        <tbody>{found.evaluations.map((one) => {
          const all = Object.values(one.models);
          const [ok, failed] = [all.reduce((n, m) => n + m.ok, 0), all.reduce((n, m) => n + m.failed, 0)];
          return (
            <tr key={one.evaluation}>
              <td><a href={`/evaluations/${encodeURIComponent(one.evaluation)}`}>{one.name || one.evaluation}</a></td><td>{one.suite}</td>
              <td>{Object.entries(one.models).map(([name, m]) => <span class="pair" key={name}>{name} <b>{count(m.ok)}</b>{m.failed > 0 && <> and <b class="alarm">{count(m.failed)} failed</b></>}</span>)}</td>
              <td class="n">{count(ok + failed)}{one.wanted ? ` of ${count(one.wanted)}` : ""}</td><td class="n">{one.studies ? <a href="/rate">{count(one.people)}</a> : count(one.people)}</td><td class="n">{count(one.judges)}</td><td class="keep">{when(one.at)}</td>
            </tr>
          );
        })}</tbody>
      </table></div> : <p class="empty">No evaluation yet. Make one: <code>reel evaluate base=RUN --prompts tiny --name first</code></p>}
    </main>
  );
}

export function EvaluationPage({ id }: { id: string }) {
  const [category, setCategory] = useState("");
  const [failed, setFailed] = useState(false);
  const [offset, setOffset] = useState(0);
  const { found, fault } = useAsked<EvaluationFacts>("evaluation", { evaluation: id, category, failed, offset, limit: AT_ONCE });
  if (!found) return <main><h1>Evaluation</h1><Waiting fault={fault} /></main>;
  const measures = found.measures.filter((one) => found.summary.some((row) => one.name in row.measures));
  const scores = [...new Set(found.summary.flatMap((row) => Object.keys(row.scores)))];
  return (
    <main>
      <p class="note"><a href="/evaluations">all evaluations</a></p>
      <h1>{found.name}</h1>
      <p class="lead">Suite {found.suite}; {found.models.join(", ")}. Means below are a first look: intervals are in the page of <code>reel evaluate --report</code>.</p>
      {fault && <Waiting fault={fault} />}
      <Section title="Means">
        <div class="scroll" tabIndex={0} role="region" aria-label="means by model"><table class="rows means">
          <thead><tr><th scope="col"></th>{found.summary.map((row) => <th scope="col" class="n" key={row.model}>{row.model}</th>)}</tr></thead>
          <tbody>
            <tr><th scope="row">videos</th>{found.summary.map((row) => <td class="n" key={row.model}>{count(row.ok)}{row.failed ? ` + ${count(row.failed)} failed` : ""}</td>)}</tr>
            {scores.map((name) => <tr key={name}><th scope="row">{name.replaceAll("_", " ")}</th>{found.summary.map((row) => <td class="n" key={row.model}>{said(row.scores[name])}</td>)}</tr>)}
            {measures.map((one) => <tr key={one.name}><th scope="row">{one.name} <small>{one.meaning}{one.unit && `, ${one.unit}`}</small></th>{found.summary.map((row) => <td class="n" key={row.model}>{said(row.measures[one.name])}</td>)}</tr>)}
          </tbody>
        </table></div>
        <CommandLine command="evaluate" arguments={{ name: found.name }} about="measure what is not measured" />
        <CommandLine command="evaluation-page" arguments={{ name: found.name }} about="write the page with intervals" />
      </Section>
      <Section title="Prompts">
        <p class="line">
          {found.categories.length > 0 && <label>category <select value={category} onChange={(e) => { setCategory(e.currentTarget.value); setOffset(0); }}><option value="">all</option>{found.categories.map((name) => <option key={name} value={name}>{name}</option>)}</select></label>}
          <label><input type="checkbox" checked={failed} onChange={(e) => { setFailed(e.currentTarget.checked); setOffset(0); }} /> only where a model failed</label>
          <span class="note" role="status">{count(found.total)} prompts</span>
        </p>
        {found.prompts.map((one) => (
          <article class="prompt" key={one.prompt_id}>
            <p><bdi><q>{one.prompt || "(no prompt)"}</q></bdi> {one.category && <span class="chip">{one.category}</span>}</p>
            <div class="strips videos">{one.videos.map((made) => <Shown key={made.generation_id} made={made} />)}</div>
          </article>
        ))}
        {!found.prompts.length && <p class="empty">No prompt passes.</p>}
        <p class="line"><button disabled={offset === 0} onClick={() => setOffset(Math.max(0, offset - AT_ONCE))}>earlier</button><button disabled={offset + AT_ONCE >= found.total} onClick={() => setOffset(offset + AT_ONCE)}>later</button><span class="note">{found.total ? `${count(offset + 1)} to ${count(Math.min(found.total, offset + AT_ONCE))}` : ""}</span></p>
      </Section>
    </main>
  );
}

function Shown({ made }: { made: Made }) {
  const title = `${made.model}${made.sample ? `, sample ${made.sample}` : ""}`;
  return (
    <figure data-generation={made.generation_id}>
      {made.state === "ok" ? <Video src={generated(made.generation_id)} poster={still(made.generation_id)} label={`video of ${title}`} /> : <Failed why={made.error} />}
      <figcaption><b>{title}</b> <a href={`/generations/${encodeURIComponent(made.generation_id)}`}>nearest clips<span class="unseen"> of {title}</span></a>{Object.entries(made.measures).slice(0, 4).map(([name, value]) => <span key={name}>{name.replaceAll("_", " ")} {short(value)}</span>)}</figcaption>
    </figure>
  );
}

export function GenerationPage({ id }: { id: string }) {
  const { found, fault } = useAsked<Generation>("generation", { generation: id });
  if (!found) return <main><h1>Generation</h1><Waiting fault={fault} /><p class="note">The nearest clips are looked up; the first time a model of captions is loaded.</p></main>;
  const { row } = found;
  return (
    <main>
      <p class="note"><a href={`/evaluations/${encodeURIComponent(found.evaluation)}`}>evaluation {found.evaluation_name || found.evaluation}</a></p>
      <h1 class="small"><q>{row.prompt || "(no prompt)"}</q></h1>
      <p class="lead">{row.model} <State state={row.state} /> <code>{row.generation_id}</code></p>
      <div class="beside">
        <figure class="videos own">{row.state === "ok" ? <Video src={generated(row.generation_id)} poster={still(row.generation_id)} label={`the generation of ${row.model}`} /> : <Failed why={row["error"]} />}<figcaption>the generation{found.others.length > 0 && <>; the same prompt and seed by {found.others.map((one, i) => <>{i > 0 && ", "}<a href={`/generations/${encodeURIComponent(one.generation_id)}`}>{one.model}</a></>)}</>}</figcaption></figure>
        <section class="card"><h3 class="plain">Measures and ratings</h3>
          {found.measures.length || found.ratings.length ? <dl class="facts">{found.measures.map((one) => [<dt key={one.name} title={one.meaning}>{one.name}</dt>, <dd key={`${one.name}=`}>{said(one.value)} <small>{one.unit}</small></dd>])}{found.ratings.map((one, i) => [<dt key={`r${i}`}>{one.dimension.replaceAll("_", " ")}, {one.rater}{one.is_human ? "" : " (judge)"}</dt>, <dd key={`r${i}=`}>{one.kind === "gsb" ? preferred(one, row.generation_id) : said(one.value)}</dd>])}</dl> : <p class="note">None yet.</p>}
          <h3 class="plain">Trained on</h3>
          {found.trained_on.length ? <ul>{found.trained_on.map((one) => <li key={one.name + one.hash}>{one.note ? one.name : <a href={ofSnapshot(one.name)}>{one.name}</a>} <span class="note">{one.clips !== null ? `${count(one.clips)} clips, ` : ""}{one.by}{one.note && `; ${one.note}`}</span></li>)}</ul> : <p class="note">Its lineage names no snapshot.</p>}
        </section>
      </div>
      {found.notes.map((note) => <p class="where" key={note}>{note}</p>)}
      {found.near.map((some) => <Section key={some.by} title={`Nearest in ${some.by}`}><p class="note">{some.note}; 1 is the same</p><div class="strips videos">{some.clips.map((clip) => <Near key={clip.clip_id} clip={clip} />)}</div></Section>)}
      <Section title="Commands"><CommandText line={`reel trace ${row.generation_id} --out trace.html`} about="this page as a file" /></Section>
      <Section title="Lineage"><pre class="text" tabIndex={0}>{found.lineage}</pre></Section>
    </main>
  );
}

const preferred = (one: { value: number; generation_id: string }, own: string) => (one.value === 0 ? "same" : (one.value > 0) === (one.generation_id === own) ? "better" : "worse");

function Near({ clip }: { clip: NearClip }) {
  return (
    <figure data-clip={clip.clip_id}>
      <ClipVideo id={clip.clip_id} />
      <figcaption><q>{clip.caption || "(no caption)"}</q><b>{clip.likeness.toFixed(2)}</b> <a href={`/?clip=${encodeURIComponent(clip.clip_id)}`}>{clip.clip_id.slice(0, 12)}</a><span>{clip.source}, {clip.start_s.toFixed(1)} to {clip.end_s.toFixed(1)} s</span>{clip.loss && <span>{clip.loss}</span>}<FactList facts={{ ...Object.fromEntries(Object.entries(clip.weight).map(([name, value]) => [`weight in ${name}`, value])), ...clip.scores }} /></figcaption>
    </figure>
  );
}
