// The ways between the pages: the grid of clips, and what became of them.
import "./places.css";

const PLACES: [string, string][] = [
  ["/", "Clips"], ["/runs", "Runs"], ["/models", "Models"], ["/evaluations", "Evaluations"], ["/rate", "Rate"], ["/commands", "Commands"], ["/report", "Report"],
];

export function Places({ here }: { here: string }) {
  return (
    <nav class="places" aria-label="pages">
      {PLACES.map(([path, name]) => <a key={path} href={path} aria-current={path === here ? "page" : undefined}>{name}</a>)}
    </nav>
  );
}
