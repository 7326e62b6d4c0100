// The pages of what became of the footage: one script, which reads its address.
import { render } from "preact";
import "../../../browse/report/palette.css";
import "../../../browse/report/style.css";
import { CommandsPage } from "./commands";
import { EvaluationPage, EvaluationsPage, GenerationPage } from "./evaluations";
import { ModelPage, ModelsPage } from "./models";
import { Places } from "./places";
import { RatePage } from "./rate";
import { RunPage, RunsPage } from "./runs";
import "./work.css";

const [place = "", rest = ""] = location.pathname.slice(1).split(/\/(.*)/s);
const id = decodeURIComponent(rest);

function Page() {
  if (place === "models") return id ? <ModelPage id={id} /> : <ModelsPage />;
  if (place === "evaluations") return id ? <EvaluationPage id={id} /> : <EvaluationsPage />;
  if (place === "generations") return <GenerationPage id={id} />;
  if (place === "commands") return <CommandsPage />;
  if (place === "rate") return <RatePage />;
  return id ? <RunPage id={id} /> : <RunsPage />;
}

const here = place === "generations" ? "evaluations" : place;
document.title = `${here} · reel app`;
render(<><div class="top"><span class="brand">reel</span><Places here={`/${here}`} /></div><Page /></>, document.getElementById("app")!);
if (location.hash) setTimeout(function show() { const found = document.getElementById(location.hash.slice(1)); if (found) found.scrollIntoView(); else setTimeout(show, 200); }, 200);
