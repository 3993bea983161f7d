//! Every word that the page says, in English and in German. What the engine reports is English, behind a sentence of the table.
import { element } from './dom';

const LANGUAGES = ['en', 'de'] as const;
type Language = (typeof LANGUAGES)[number];

/** Each in the order of the languages; `{name}` stands for a value. Elements of index.html name theirs in `data-word`, that of a
    label in `data-label`, and of a placeholder in `data-hint`. */
const WORDS = {
  tagline: ["Draws a prompt in this tab, on this computer's GPU, or on its processor.", 'Zeichnet einen Prompt in diesem Tab, auf der GPU dieses Rechners oder auf seinem Prozessor.'],
  prompt: ['Prompt', 'Prompt'],
  negative: ['Negative prompt', 'Negativer Prompt'],
  seed: ['Seed', 'Seed'],
  count: ['Pictures', 'Bilder'],
  steps: ['Steps', 'Schritte'],
  guidance: ['Guidance', 'Guidance'],
  scheduler: ['Scheduler', 'Scheduler'],
  style: ['Style', 'Stil'],
  width: ['Width', 'Breite'],
  height: ['Height', 'Höhe'],
  image: ['Picture', 'Bild'],
  mask: ['Mask: white is drawn anew', 'Maske: Weißes wird neu gezeichnet'],
  paint: ['Paint over what is to be drawn anew', 'Übermale, was neu gezeichnet werden soll'],
  brush: ['Brush', 'Pinsel'],
  unpaint: ['Paint nothing', 'Nichts übermalen'],
  strength: ['Strength', 'Stärke'],
  device: ['Computed by', 'Gerechnet von'],
  address: ["Open a folder's address, or owner/name@revision of a model hub", 'Die Adresse eines Ordners öffnen, oder owner/name@revision eines Model-Hubs'],
  open: ['Open', 'Öffnen'],
  repair: ['Repair', 'Reparieren'],
  openKept: ['Open', 'Öffnen'],
  space: ['{used} MB are kept here; the browser offers {left} MB more', '{used} MB liegen hier; der Browser bietet noch {left} MB'],
  folder: ['Open a folder of this computer (or drop it on the page)', 'Einen Ordner dieses Rechners öffnen (oder auf die Seite ziehen)'],
  filter: ['Pictures whose prompt has', 'Bilder, deren Prompt enthält'],
  random: ['New seed each time', 'Jedes Mal ein neuer Seed'],
  tab: ['this tab', 'diesem Tab'],
  companion: ['a companion at', 'einem Companion bei'],
  stored: ['nobody: it is in a file of embeddings', 'niemandem: er liegt als Datei von Embeddings vor'],
  record: ['Keep the numbers of every step, to compare devices', 'Die Zahlen jedes Schritts behalten, um Geräte zu vergleichen'],
  favourites: ['Favourites alone', 'Nur Favoriten'],
  table: ['A table over one or two fields', 'Eine Tabelle über ein oder zwei Felder'],
  across: ['Across', 'Waagrecht'],
  down: ['Down', 'Senkrecht'],
  noField: ['no field', 'kein Feld'],
  values: ['Values, with commas', 'Werte, mit Kommas'],
  draw: ['Draw', 'Zeichnen'],
  cancel: ['Cancel', 'Abbrechen'],
  settings: ['Settings', 'Einstellungen'],
  checkpoints: ['Checkpoints', 'Checkpoints'],
  gallery: ['Gallery', 'Galerie'],
  over: ['Draw over a picture', 'Über ein Bild zeichnen'],
  readBy: ['The prompt is read by', 'Der Prompt wird gelesen von'],
  fastest: ['what is fastest here', 'dem, was hier am schnellsten ist'],
  gpu: ['the GPU (WebGPU)', 'der GPU (WebGPU)'],
  processor: ['the processor', 'dem Prozessor'],
  own: ["the checkpoint's", 'der des Checkpoints'],
  none: ['none', 'keiner'],
  goOn: ['Go on', 'Weiter'],
  letGo: ['Leave it', 'Lassen'],
  restart: ['Start again', 'Neu starten'],
  download: ['Download PNG', 'PNG herunterladen'],
  recording: ['Download the recording', 'Aufzeichnung herunterladen'],
  export: ['Save these as a zip file', 'Diese als Zip-Datei sichern'],
  noCheckpoint: ['No checkpoint', 'Kein Checkpoint'],
  opening: ['Opening the device', 'Das Gerät wird geöffnet'],
  compiling: ['Compiling shader {at} of {all}', 'Shader {at} von {all} wird übersetzt'],
  starting: ['Starting', 'Es geht los'],
  text: ['Reading the prompt', 'Der Prompt wird gelesen'],
  denoise: ['Drawing', 'Es wird gezeichnet'],
  decode: ['Developing', 'Das Bild wird entwickelt'],
  step: ['Drawing: step {step} of {steps}', 'Schritt {step} von {steps}'],
  left: [', {seconds} s left', ', noch {seconds} s'],
  ready: ['Ready', 'Bereit'],
  took: ['Ready. The last picture took {seconds} s', 'Bereit. Das letzte Bild brauchte {seconds} s'],
  stopped: ['Stopped', 'Angehalten'],
  software: [': a software adapter, slow', ': ein Software-Adapter, langsam'],
  asking: ['Waiting for you', 'Wartet auf dich'],
  estimate: ['Before this checkpoint is fetched', 'Bevor dieser Checkpoint geholt wird'],
  costFetch: ['{size} MB are to be fetched', '{size} MB sind zu holen'],
  costRate: [', about {time} at {rate} MB/s', ', etwa {time} bei {rate} MB/s'],
  costRoom: ['; the browser offers {room} MB', '; der Browser bietet {room} MB'],
  costMemory: ['A picture needs about {memory} MB of memory, weights and all', 'Ein Bild braucht etwa {memory} MB Speicher, Gewichte eingeschlossen'],
  costPicture: ['A picture of {size} px in {steps} steps takes about {time} here', 'Ein Bild von {size} px in {steps} Schritten dauert hier etwa {time}'],
  costNoRoom: ['There is not enough room for it: delete checkpoints that are kept', 'Dafür ist nicht genug Platz: lösche Checkpoints, die hier liegen'],
  costSlow: ['No GPU computes this: it will be slow', 'Keine GPU rechnet das: es wird langsam'],
  fetchIt: ['Fetch it', 'Holen'],
  notNow: ['Not now', 'Nicht jetzt'],
  preset: ['Preset', 'Voreinstellung'],
  wait: ['Another tab is fetching this checkpoint', 'Ein anderer Tab holt diesen Checkpoint'],
  fetch: ['Loading', 'Wird geladen'],
  convert: ['Converting', 'Wird umgewandelt'],
  upload: ['Moving to the device', 'Kommt auf das Gerät'],
  shapes: ['Width to height', 'Breite zu Höhe'],
  companionAddress: ['Companion address', 'Adresse des Companions'],
  companionToken: ['Companion token', 'Token des Companions'],
  embeddings: ['File of embeddings', 'Datei von Embeddings'],
  result: ['Result', 'Ergebnis'],
  pair: ['Two pictures side by side', 'Zwei Bilder nebeneinander'],
  hintNegative: ['what the picture should not show', 'was das Bild nicht zeigen soll'],
  hintToken: ['token, where it asks for one', 'Token, wo er eines verlangt'],
  caption: ['{prompt} · seed {seed} · {steps} steps', '{prompt} · Seed {seed} · {steps} Schritte'],
  paired: ['The companion at {at} has {models}', 'Der Companion bei {at} hat {models}'],
  pairedLoading: ['The companion at {at} is still loading', 'Der Companion bei {at} lädt noch'],
  pairedReads: ['{id} on {device}, which reads prompts', '{id} auf {device}, der Prompts liest'],
  pairedDraws: ['{id} on {device}, which reads prompts and draws', '{id} auf {device}, der Prompts liest und zeichnet'],
  unpaired: ['{what}: this tab reads prompts itself where it can', '{what}: dieser Tab liest Prompts selbst, wo er kann'],
  unfinished: ['“{prompt}” was left after step {step}.', '„{prompt}“ blieb nach Schritt {step} liegen.'],
  again: ['Draw again', 'Neu zeichnen'],
  favourite: ['Favourite', 'Favorit'],
  compare: ['Compare', 'Vergleichen'],
  remove: ['Delete', 'Löschen'],
  verify: ['Verify', 'Prüfen'],
  kept: ['{megabytes} MB in {store}', '{megabytes} MB in {store}'],
  changed: [', another one is at its address now: delete it to fetch that', ', an seiner Adresse liegt jetzt ein anderer: lösche ihn, um den zu holen'],
  missing: [', {count} records missing', ', {count} Teile fehlen'],
  counted: ['{shown} of {all}', '{shown} von {all}'],
  fault_no_webgpu: ['This browser cannot use a GPU here.', 'Dieser Browser kann hier keine GPU benutzen.'],
  fault_device_lost: ['The GPU was lost.', 'Die GPU ging verloren.'],
  fault_out_of_memory: ['There is not enough memory for this.', 'Dafür reicht der Speicher nicht.'],
  fault_gpu_validation: ['The GPU refused to compute this.', 'Die GPU weigerte sich, das zu rechnen.'],
  fault_bad_request: ['This cannot be drawn as it was asked.', 'So, wie es verlangt wurde, lässt sich das nicht zeichnen.'],
  fault_bad_weights: ['The checkpoint is damaged, or not what it should be.', 'Der Checkpoint ist beschädigt oder nicht, was er sein sollte.'],
  fault_bad_config: ['The checkpoint is of a kind that is not known here.', 'Der Checkpoint ist von einer Art, die hier nicht bekannt ist.'],
  fault_network: ['Something could not be fetched.', 'Etwas ließ sich nicht holen.'],
  fault_storage: ['This browser could not keep something.', 'Dieser Browser konnte etwas nicht behalten.'],
  fault_companion: ['The companion did not help.', 'Der Companion half nicht.'],
  fault_busy: ['The companion has too much to do.', 'Der Companion hat zu viel zu tun.'],
  fault_internal: ['Something went wrong in this program.', 'In diesem Programm ging etwas schief.'],
} as const satisfies Record<string, readonly [string, string]>;

export type Word = keyof typeof WORDS;

const KEPT = 'language';
const select = element('language', HTMLSelectElement);
let language: Language = 'en';

/** A word in the reader's language, with its values. */
export function word(name: Word, values: Record<string, string | number> = {}): string {
  const text: string = WORDS[name][LANGUAGES.indexOf(language)] ?? WORDS[name][0];
  return text.replace(/\{(\w+)\}/g, (_, key: string) => String(values[key]));
}

/** Speaks the language that was chosen before, that `?lang=` names, or the browser's; `changed` is called at each other choice. */
export function beginWords(asked: string | null, changed: () => void): void {
  const wanted = [asked, remembered(), navigator.language.slice(0, 2)];
  speak(wanted.map(known).find((found) => found !== undefined) ?? 'en');
  select.addEventListener('change', () => {
    speak(known(select.value) ?? 'en');
    try {
      localStorage.setItem(KEPT, language);
    } catch {
      // A window that keeps nothing speaks it until it is closed.
    }
    changed();
  });
}

function speak(chosen: Language): void {
  language = select.value = document.documentElement.lang = chosen;
  for (const spoken of document.querySelectorAll<HTMLElement>('[data-word], [data-label], [data-hint]')) {
    const { word: text, label, hint } = spoken.dataset;
    if (text !== undefined) spoken.textContent = named(text);
    if (label !== undefined) spoken.setAttribute('aria-label', named(label));
    if (hint !== undefined) spoken.setAttribute('placeholder', named(hint));
  }
}

/** The word that an element of index.html names. */
function named(name: string): string {
  if (!Object.hasOwn(WORDS, name)) throw new Error(`index.html says ${name}, which is no word`);
  return word(name as Word);
}

function known(name: string | null): Language | undefined {
  return LANGUAGES.find((language) => language === name);
}

function remembered(): string | null {
  try {
    return localStorage.getItem(KEPT);
  } catch {
    return null;
  }
}
