// Studies: who has answered how much; the rating page itself is the one that reel evaluate --rate serves.
import { Section, useAsked, Waiting, when } from "./parts";
import { count } from "./view";
import type { Study } from "./work-api";

export function RatePage() {
  const { found, fault } = useAsked<{ studies: Study[] }>("studies", {}, 10_000);
  if (!found) return <main><h1>Rate</h1><Waiting fault={fault} /></main>;
  return (
    <main>
      <h1>Rate</h1>
      <p class="lead">Studies of people's scores. Whoever rates sees no model's name, and the videos carry none.</p>
      {found.studies.map((one) => (
        <Section key={one.study} title={`${one.kind === "gsb" ? "Pairs" : "Scores"} of ${one.evaluation}`}>
          <p class="note">{count(one.items)} {one.kind === "gsb" ? "pairs" : "videos"} in {one.dimensions.join(", ").replaceAll("_", " ")}; planned {when(one.at)}; <code>{one.study}</code></p>
          {one.problem ? <p class="alarm">{one.problem}</p> : <>
            <p class="line"><a class="button" href={`/rate/${one.study}/`}>Rate</a></p>
            <table class="rows raters"><thead><tr><th scope="col">rater</th><th scope="col" class="n">answered</th><th scope="col" class="n">of</th></tr></thead>
              <tbody>{one.raters.map((who) => <tr key={who.name}><td>{who.name}</td><td class="n">{count(who.answered)}</td><td class="n">{count(who.tasks)}</td></tr>)}</tbody></table>
          </>}
        </Section>
      ))}
      {!found.studies.length && <p class="empty">No study yet. Plan one: <code>reel evaluate --rate EVALUATION --raters anna,ben,chen</code></p>}
    </main>
  );
}
