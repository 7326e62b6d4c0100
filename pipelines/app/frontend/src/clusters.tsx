// The clusters of the view: names, sizes before and after weighting, each a filter.
import type { Cluster, ColumnFacts, MapOf, View } from "./api";
import type { Look } from "./paint";
import { count, share, withRange, withValues } from "./view";

interface Props { found: MapOf | null; view: View; change: (view: View) => void; columns: ColumnFacts[]; look: Look; setLook: (look: Look) => void; shown: number; goTo: (one: Cluster) => void }

export function Clusters({ found, view, change, columns, look, setLook, shown, goTo }: Props) {
  const has = (name: string) => columns.some((c) => c.name === name);
  const { list, clips, effective, weights } = found?.clusters ?? { list: [], clips: 0, effective: 0, weights: "" };
  const most = Math.max(...list.map((one) => Math.max(one.share, one.weighted)), 1e-9);
  const chosen = (one: Cluster) => (one.name && has("cluster_name") ? (view.values["cluster_name"] ?? []).includes(one.name) : view.ranges["cluster_id"]?.[0] === one.id);
  const toggle = (one: Cluster) => {
    if (!one.name || !has("cluster_name")) return change(withRange(view, "cluster_id", chosen(one) ? null : [one.id, one.id]));
    const now = view.values["cluster_name"] ?? [];
    change(withValues(view, "cluster_name", chosen(one) ? now.filter((name) => name !== one.name) : [...now, one.name]));
  };
  return (
    <section class="clusters" aria-label="clusters">
      <div class="line">
        <h2>Clusters</h2><span class="gap" />
        <label class="note">weighted <select aria-label="weighted by" value={look.weights} onChange={(e) => setLook({ ...look, weights: e.currentTarget.value })}>
          <option value="">all alike</option>
          {has("density") && <option value="density">balanced by density</option>}
          {has("cluster_id") && <option value="cluster">balanced by cluster</option>}
          {columns.filter((c) => c.kind === "number" && c.computed_by !== "clips" && !["map_x", "map_y", "cluster_id"].includes(c.name)).map((c) => <option key={c.name} value={c.name}>weight: {c.name}</option>)}
        </select></label>
      </div>
      {!list.length && found && <p class="note">{has("cluster_id") ? "No clip shown belongs to a cluster." : "There are no clusters yet: reel annotate --only clusters cluster_names"}</p>}
      {weights && <p class="note">Weighted, the {count(clips)} of {count(shown)} clips are worth {count(Math.round(effective))} of equal weight.</p>}
      <ul>
        {list.map((one) => (
          <li key={one.id}>
            <label title={one.name}>
              <input type="checkbox" checked={chosen(one)} onChange={() => toggle(one)} />
              <span class="word">{one.name || `cluster ${one.id}`}</span>
              <span class="n">{count(one.clips)}</span>
            </label>
            <button class="quiet bars" onClick={() => goTo(one)} disabled={one.x === null} aria-label={`show ${one.name || `cluster ${one.id}`} on the map: ${share(one.share)}${weights ? `, weighted ${share(one.weighted)}` : ""}`}>
              <span class="before" style={{ width: `${(100 * one.share) / most}%` }} />
              {weights && <span class="after" style={{ width: `${(100 * one.weighted) / most}%` }} />}
              <small>{share(one.share)}{weights && ` → ${share(one.weighted)}`}</small>
            </button>
          </li>
        ))}
      </ul>
      {weights && <p class="note"><span class="key a" /> share of clips <span class="key b" /> share of draws</p>}
    </section>
  );
}
