// Studies: who has answered how much, and the raters' links; the rating page itself is the one that reel evaluate --rate serves.
import { Copy, many, Section, useAsked, Waiting, when } from "./parts";
import { count } from "./view";
import type { Study } from "./work-api";

const IS_ALONE = ["127.0.0.1", "localhost", "[::1]"].includes(location.hostname);

export function RatePage() {
  const { found, fault } = useAsked<{ studies: Study[]; plan: string }>("studies", {}, 10_000);
  if (!found) return <main><h1>Rate</h1><Waiting fault={fault} /></main>;
  return (
    <main>
      <h1>Rate</h1>
      <p class="lead">Studies with people: scores of videos one by one, or pairs of which the better is chosen. Whoever rates sees no model's name, and the videos carry none.</p>
      {found.studies.length > 0 && <p class="note">A rater's link opens that rater's page and nothing else of this server.{IS_ALONE && <> It leads to this machine alone: for raters elsewhere, begin <code>reel app</code> with <code>--host</code>.</>}</p>}
      {found.studies.map((one) => <OneStudy key={one.study} one={one} />)}
      {!found.studies.length && (found.plan
        ? <p class="empty">No study yet. Plan one of the newest evaluation: <code>{found.plan}</code> <Copy text={found.plan} label="copy the command" />, of pairs with <code>--kind gsb</code>. It stands here then; the page that the command serves beside may be ended.</p>
        : <p class="empty">No study yet, and no evaluation to rate: <code>reel evaluate</code> makes one.</p>)}
    </main>
  );
}

function OneStudy({ one }: { one: Study }) {
  const isPairs = one.kind === "gsb";
  return (
    <Section title={`${isPairs ? "Pairs" : "Scores"} of ${one.evaluation}`}>
      <p class="note">{many(one.items, isPairs ? "pair" : "video")} in {one.dimensions.join(", ").replaceAll("_", " ")}; planned {when(one.at)}; <code>{one.study}</code></p>
      {one.problem ? <p class="alarm">{one.problem}</p> : <>
        <p class="line"><a class="button" href={`/rate/${one.study}/`}>Rate</a></p>
        <table class="rows raters">
          <thead><tr><th scope="col">rater</th><th scope="col" class="n">answered</th><th scope="col" class="n">of</th><th scope="col" class="n">link</th></tr></thead>
          <tbody>{one.raters.map((who) => (
            <tr key={who.name}><td><bdi>{who.name}</bdi></td><td class="n">{count(who.answered)}</td><td class="n">{count(who.tasks)}</td><td class="n"><Copy text={location.origin + who.link} label={`copy the link of ${who.name}`} /></td></tr>
          ))}</tbody>
        </table>
      </>}
    </Section>
  );
}
