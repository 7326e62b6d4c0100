// Runs of training: losses, samples by step, and the way back to the footage.
import { CommandText } from "./commands";
import { Drawn, FactList, many, Section, State, said, useAsked, Video, Waiting } from "./parts";
import { useState } from "preact/hooks";
import { count } from "./view";
import { ofSnapshot, ofSource, type Snapshot, type Training, type TrainingFacts } from "./work-api";

export function ModelsPage() {
  const { found, fault } = useAsked<{ trainings: Training[] }>("trainings", {}, 5_000);
  if (!found) return <main><h1>Models</h1><Waiting fault={fault} /></main>;
  return (
    <main>
      <h1>Models</h1>
      <p class="lead">Runs of training that the store knows, and the folders of <code>reel app --runs FOLDER</code>.</p>
      {found.trainings.length ? <div class="scroll" tabIndex={0} role="region" aria-label="runs of training"><table class="rows">
        <thead><tr><th scope="col">run</th><th scope="col">state</th><th scope="col" class="n">step</th><th scope="col" class="n">loss</th><th scope="col">objective</th><th scope="col">snapshot</th><th scope="col">last change</th></tr></thead>
        <tbody>{found.trainings.map((one) => <tr key={one.key}>
          <td>{one.is_there ? <a href={`/models/${one.key}`}>{one.name}</a> : one.name}<small class="name">{one.is_there ? one.folder : `${one.folder} is gone`}</small></td>
          <td><State state={one.state} /></td><td class="n">{said(one.step)}{one.steps ? ` of ${count(one.steps)}` : ""}</td><td class="n">{said(one.loss)}</td><td>{one.objective}</td>
          <td>{one.snapshot && <a href={ofSnapshot(one.snapshot)}>{one.snapshot}</a>}</td><td class="keep">{one.changed_at ? new Date(one.changed_at * 1000).toISOString().slice(0, 16).replace("T", " ") : "–"}</td>
        </tr>)}</tbody>
      </table></div> : <p class="empty">No run of training is known. Train one: <code>reel train RECIPE --snapshot NAME</code>, or name a folder: <code>reel app --runs FOLDER</code></p>}
    </main>
  );
}

export function ModelPage({ id }: { id: string }) {
  const { found, fault } = useAsked<TrainingFacts>("train", { key: id }, 5_000);
  if (!found) return <main><h1>Model</h1><Waiting fault={fault} /></main>;
  const { origin } = found;
  return (
    <main>
      <p class="note"><a href="/models">all models</a></p>
      <h1>{found.name}</h1>
      <p class="lead"><State state={found.state} /> step {said(found.step)}{found.steps ? ` of ${count(found.steps)}` : ""}{found.objective && `, objective ${found.objective}`}; <code>{found.folder}</code>, known from {found.told_by}</p>
      <Section title="Curves">
        {found.charts.length ? <div class="charts">{found.charts.map((one) => <figure key={one.title} class="chart"><figcaption><b>{one.title}</b> {one.meaning}</figcaption><Drawn svg={one.svg} /></figure>)}</div> : <p class="empty">The log has no figures yet.</p>}
        <p class="note">Thin: each step, or the mean of neighbours in a long log. Thick: the mean of up to 9 points around, of fewer in a short log.</p>
      </Section>
      <Section title="Samples"><Samples run={found} /></Section>
      <Section title="Origin">
        <ol class="chain">
          <li><h3 class="plain">Checkpoint</h3>{Object.keys(origin.checkpoint).length ? <FactList facts={origin.checkpoint} /> : <p class="note">No checkpoint yet.</p>}</li>
          {origin.parents.map((one, i) => <li key={i}><h3 class="plain">Begun as {one.name}</h3><FactList facts={one} /></li>)}
          {origin.snapshots.map((one) => <li key={one.name + one.hash}><SnapshotFacts one={one} /></li>)}
        </ol>
      </Section>
      <Section title="Commands">
        {[["where it comes from", `reel lineage ${quote(found.folder)}`], ["what it makes", `reel generate ${quote(found.folder)} --prompt "a red ball" --out x.mp4`], ["measure it", `reel evaluate ${quote(found.name)}=${quote(found.folder)} --prompts ours --name ${quote(found.name)}`]].map(([about, line]) => <CommandText key={line!} about={about!} line={line!} />)}
      </Section>
      <Section title="Recipe"><pre class="text" tabIndex={0}>{found.recipe || "none"}</pre></Section>
    </main>
  );
}

const quote = (text: string) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'"'"'`)}'`);

function Samples({ run }: { run: TrainingFacts }) {
  const [at, setAt] = useState(-1);
  const steps = run.samples;
  if (!steps.length) return <p class="empty">The run has written no samples. A recipe asks for them: <code>samples: &#123;every: 500, prompts: [...]&#125;</code></p>;
  const place = at < 0 ? steps.length - 1 : Math.min(at, steps.length - 1);
  const now = steps[place]!;
  return (
    <>
      <label class="step">step <input type="range" min={0} max={steps.length - 1} value={place} onInput={(e) => setAt(Number(e.currentTarget.value))} aria-valuetext={`step ${now.step}`} /> <b>{count(now.step)}</b></label>
      <div class="strips videos">{now.files.map((name) => {
        const address = `/samples/${run.key}/${now.folder}/${name}`;
        const prompt = run.prompts[Number(name.split(".")[0])] ?? "";
        return <figure key={address}>{name.endsWith(".png") ? <img src={address} alt={`sample of step ${now.step}: ${prompt}`} loading="lazy" /> : <Video src={address} label={`sample of step ${now.step}: ${prompt}`} />}<figcaption>{prompt || name}</figcaption></figure>;
      })}</div>
    </>
  );
}

export function SnapshotFacts({ one }: { one: Snapshot }) {
  return (
    <>
      <h3 class="plain">Snapshot {one.is_here ? <a href={ofSnapshot(one.name)}>{one.name}</a> : one.name}</h3>
      <p class="note">{[one.clips !== null && `${count(one.clips)} clips`, one.hash.slice(0, 19), `of ${one.by}`].filter(Boolean).join(", ")}{one.note && `; ${one.note}`}</p>
      {one.sql && <pre class="text" tabIndex={0}>{one.sql}</pre>}
      {one.sources.length > 0 && <details><summary>{many(one.sources.length + one.more_sources, "source file")}</summary><ul class="sources">{one.sources.map((file) => <li key={file.uri}><a href={ofSource(file.uri)}><code>{file.uri}</code></a> <span class="note">{many(file.clips, "clip")}</span></li>)}</ul>{one.more_sources > 0 && <p class="note">and {count(one.more_sources)} more, with fewer clips each</p>}</details>}
    </>
  );
}
