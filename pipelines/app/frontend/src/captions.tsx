// Captions of a clip, side by side: each is edited in its place, and what is written becomes a variant of its own.
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Caption } from "./api";

interface Props { captions: Caption[]; write: (text: string) => void }

const NEW = -1; // the place of a caption that is written from nothing

export function Captions({ captions, write }: Props) {
  const [edited, setEdited] = useState<number | null>(null);
  const heading = useRef<HTMLHeadingElement>(null);
  const close = () => { setEdited(null); heading.current?.closest<HTMLElement>("[role=dialog]")?.focus(); };
  const save = (text: string) => { close(); write(text); };
  return (
    <section class="captions">
      <h2 ref={heading}>Captions</h2>
      {!captions.length && <p class="note">This clip has no caption yet.</p>}
      <ul>
        {captions.map((one, i) => (
          <li key={`${one.author} ${one.text}`} class={one.is_taken ? "taken" : ""}>
            {edited === i ? <Editor given={one.text} save={save} close={close} /> : <p>{one.text}</p>}
            <p class="note">
              {one.is_taken && <span class="tag" title="unless they ask for another column or other kinds">training and exports take it</span>} {one.kind}{one.author && ` · ${one.author}`}{" "}
              {edited !== i && <button class="quiet" onClick={() => setEdited(i)} aria-label={`edit the caption by ${one.author || one.kind}`}>edit</button>}
              {one.is_written && edited !== i && <button class="quiet" onClick={() => save("")}>take back</button>}
            </p>
          </li>
        ))}
        {edited === NEW && <li><Editor given="" save={save} close={close} /></li>}
      </ul>
      {edited === null && <p><button class="quiet" onClick={() => setEdited(NEW)}>write a caption</button></p>}
    </section>
  );
}

function Editor({ given, save, close }: { given: string; save: (text: string) => void; close: () => void }) {
  const [text, setText] = useState(given);
  const box = useRef<HTMLTextAreaElement>(null);
  useLayoutEffect(() => box.current?.focus(), []);
  return (
    <form class="editor" onSubmit={(e) => { e.preventDefault(); save(text); }} onKeyDown={(e) => {
      if (e.key === "Escape") { e.stopPropagation(); close(); }
      if (e.key === "Enter" && (e.ctrlKey || e.metaKey) && text.trim()) { e.preventDefault(); save(text); }
    }}>
      <textarea ref={box} rows={4} aria-label="caption" value={text} maxLength={20000} onInput={(e) => setText(e.currentTarget.value)} />
      <p class="line"><button disabled={text.trim() === given.trim() || !text.trim()}>Save caption</button><button type="button" class="quiet" onClick={close}>cancel</button></p>
    </form>
  );
}
