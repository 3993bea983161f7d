//! Every word that the page says, in English and in German. What the engine reports is English, behind a sentence of the table.
import { element } from './dom';

const LANGUAGES = ['en', 'de'] as const;
type Language = (typeof LANGUAGES)[number];

/** Each in the order of the languages; `{name}` stands for a value. Elements of index.html name theirs in `data-word`, that of a
    label in `data-label`, and of a placeholder in `data-hint`. */
const WORDS = {
  tagline: ["Generates images from a prompt in this browser tab, on this computer's GPU or CPU.", 'Erzeugt Bilder aus einem Prompt in diesem Browser-Tab, auf der GPU oder CPU dieses Rechners.'],
  prompt: ['Prompt', 'Prompt'],
  negative: ['Negative prompt', 'Negativer Prompt'],
  seed: ['Seed', 'Seed'],
  count: ['Number of images', 'Anzahl Bilder'],
  steps: ['Steps', 'Schritte'],
  guidance: ['Guidance scale', 'Guidance-Skala'],
  scheduler: ['Scheduler', 'Scheduler'],
  style: ['Style', 'Stil'],
  width: ['Width', 'Breite'],
  height: ['Height', 'Höhe'],
  image: ['Input image', 'Ausgangsbild'],
  mask: ['Inpaint mask (white is regenerated)', 'Inpainting-Maske (Weiß wird neu generiert)'],
  paint: ['Paint over the area to regenerate', 'Übermale den Bereich, der neu generiert wird'],
  brush: ['Brush size', 'Pinselgröße'],
  unpaint: ['Clear mask', 'Maske löschen'],
  strength: ['Strength', 'Stärke'],
  device: ['Device', 'Gerät'],
  address: ['Model URL, or owner/name@revision on a model hub', 'URL des Modells oder owner/name@revision auf einem Model-Hub'],
  open: ['Open', 'Öffnen'],
  repair: ['Repair', 'Reparieren'],
  space: ['{used} MB stored, {left} MB available', '{used} MB gespeichert, {left} MB verfügbar'],
  folder: ['Model folder on this computer (or drop it on the page)', 'Modellordner auf diesem Rechner (oder auf die Seite ziehen)'],
  filter: ['Search prompts', 'Prompts durchsuchen'],
  random: ['Random seed', 'Zufälliger Seed'],
  tab: ['This tab', 'Dieser Tab'],
  companion: ['Companion server', 'Companion-Server'],
  stored: ['Prompt embeddings from a file', 'Prompt-Embeddings aus einer Datei'],
  record: ['Record every step, to compare devices', 'Jeden Schritt aufzeichnen, um Geräte zu vergleichen'],
  favourites: ['Favourites only', 'Nur Favoriten'],
  table: ['X/Y grid over one or two settings', 'X/Y-Raster über eine oder zwei Einstellungen'],
  across: ['X axis', 'X-Achse'],
  down: ['Y axis', 'Y-Achse'],
  noField: ['None', 'Keine'],
  values: ['Values, separated by commas', 'Werte, durch Kommas getrennt'],
  draw: ['Generate', 'Generieren'],
  cancel: ['Cancel', 'Abbrechen'],
  settings: ['Settings', 'Einstellungen'],
  checkpoints: ['Models', 'Modelle'],
  gallery: ['Gallery', 'Galerie'],
  over: ['Image-to-image and inpainting', 'Bild-zu-Bild und Inpainting'],
  readBy: ['Text encoder', 'Text-Encoder'],
  fastest: ['Automatic (fastest)', 'Automatisch (am schnellsten)'],
  gpu: ['GPU (WebGPU)', 'GPU (WebGPU)'],
  processor: ['CPU (WebAssembly)', 'CPU (WebAssembly)'],
  own: ['Model default', 'Standard des Modells'],
  none: ['None', 'Keiner'],
  goOn: ['Resume', 'Fortsetzen'],
  letGo: ['Discard', 'Verwerfen'],
  restart: ['Restart', 'Neu starten'],
  download: ['Download PNG', 'PNG herunterladen'],
  recording: ['Download recording', 'Aufzeichnung herunterladen'],
  export: ['Download as ZIP', 'Als ZIP herunterladen'],
  noCheckpoint: ['No model loaded', 'Kein Modell geladen'],
  opening: ['Initializing the device', 'Das Gerät wird initialisiert'],
  compiling: ['Compiling shader {at} of {all}', 'Shader {at} von {all} wird kompiliert'],
  starting: ['Starting', 'Startet'],
  text: ['Encoding the prompt', 'Der Prompt wird kodiert'],
  denoise: ['Generating', 'Das Bild wird generiert'],
  decode: ['Decoding the image', 'Das Bild wird dekodiert'],
  step: ['Generating: step {step} of {steps}', 'Generiert: Schritt {step} von {steps}'],
  left: [', {seconds} s left', ', noch {seconds} s'],
  ready: ['Ready', 'Bereit'],
  took: ['Ready. The last image took {seconds} s', 'Bereit. Das letzte Bild dauerte {seconds} s'],
  stopped: ['Stopped', 'Gestoppt'],
  software: [': fallback adapter, slow', ': Fallback-Adapter, langsam'],
  asking: ['Waiting for your confirmation', 'Wartet auf deine Bestätigung'],
  estimate: ['Download this model?', 'Dieses Modell herunterladen?'],
  costFetch: ['Download: {size} MB', 'Download: {size} MB'],
  costRate: [', about {time} at {rate} MB/s', ', etwa {time} bei {rate} MB/s'],
  costRoom: ['; {room} MB of storage available', '; {room} MB Speicherplatz verfügbar'],
  costMemory: ['Memory: about {memory} MB, including the weights', 'Arbeitsspeicher: etwa {memory} MB, einschließlich der Gewichte'],
  costPicture: ['Time per image: about {time} for {size} × {size} px in {steps} steps', 'Zeit pro Bild: etwa {time} für {size} × {size} px in {steps} Schritten'],
  costNoRoom: ['Not enough storage: delete stored models first', 'Nicht genug Speicherplatz: lösche zuerst gespeicherte Modelle'],
  costSlow: ['Runs without a GPU: slow', 'Läuft ohne GPU: langsam'],
  fetchIt: ['Download', 'Herunterladen'],
  notNow: ['Not now', 'Nicht jetzt'],
  preset: ['Preset', 'Voreinstellung'],
  wait: ['Another tab is downloading this model', 'Ein anderer Tab lädt dieses Modell herunter'],
  fetch: ['Downloading', 'Wird heruntergeladen'],
  convert: ['Converting', 'Wird konvertiert'],
  upload: ['Loading onto the device', 'Wird auf das Gerät geladen'],
  shapes: ['Aspect ratio', 'Seitenverhältnis'],
  companionAddress: ['Companion URL', 'URL des Companions'],
  companionToken: ['Access token of the companion', 'Zugriffstoken des Companions'],
  embeddings: ['Embeddings file', 'Embeddings-Datei'],
  result: ['Result', 'Ergebnis'],
  pair: ['Side-by-side comparison', 'Vergleich nebeneinander'],
  hintNegative: ['what the image should not show', 'was das Bild nicht zeigen soll'],
  hintToken: ['access token, if required', 'Zugriffstoken, falls nötig'],
  caption: ['{prompt} · seed {seed} · {steps} steps', '{prompt} · Seed {seed} · {steps} Schritte'],
  paired: ['Companion at {at}: {models}', 'Companion bei {at}: {models}'],
  pairedLoading: ['The companion at {at} is still loading its model', 'Der Companion bei {at} lädt sein Modell noch'],
  pairedReads: ['{id} on {device} (encodes prompts)', '{id} auf {device} (kodiert Prompts)'],
  pairedDraws: ['{id} on {device} (encodes prompts, generates images)', '{id} auf {device} (kodiert Prompts, generiert Bilder)'],
  unpaired: ['{what}. This tab encodes the prompt instead, if the model includes a text encoder', '{what}. Stattdessen kodiert dieser Tab den Prompt, falls das Modell einen Text-Encoder enthält'],
  unfinished: ['“{prompt}” was interrupted after step {step}.', '„{prompt}“ wurde nach Schritt {step} unterbrochen.'],
  again: ['Reuse settings', 'Einstellungen übernehmen'],
  favourite: ['Favourite', 'Favorit'],
  compare: ['Compare', 'Vergleichen'],
  remove: ['Delete', 'Löschen'],
  verify: ['Verify', 'Überprüfen'],
  kept: ['{megabytes} MB in {store}', '{megabytes} MB in {store}'],
  changed: [', the model at this URL has changed: delete this one to download the new one', ', das Modell unter dieser URL hat sich geändert: lösche dieses, um das neue herunterzuladen'],
  missing: [', {count} shards missing', ', {count} Shards fehlen'],
  counted: ['{shown} of {all}', '{shown} von {all}'],
  fault_no_webgpu: ['WebGPU is not available in this browser.', 'WebGPU ist in diesem Browser nicht verfügbar.'],
  fault_device_lost: ['The GPU device was lost.', 'Das GPU-Gerät ging verloren.'],
  fault_out_of_memory: ['Not enough memory.', 'Nicht genug Arbeitsspeicher.'],
  fault_gpu_validation: ['The GPU reported a validation error.', 'Die GPU meldete einen Validierungsfehler.'],
  fault_bad_request: ['The request is not valid.', 'Die Anfrage ist ungültig.'],
  fault_bad_weights: ["The model's weights are damaged, or do not match its configuration.", 'Die Gewichte des Modells sind beschädigt oder passen nicht zu seiner Konfiguration.'],
  fault_bad_config: ["The model's configuration is not supported.", 'Die Konfiguration des Modells wird nicht unterstützt.'],
  fault_network: ['A download failed.', 'Ein Download ist fehlgeschlagen.'],
  fault_storage: ['This browser could not store data.', 'Dieser Browser konnte Daten nicht speichern.'],
  fault_companion: ['The request to the companion failed.', 'Die Anfrage an den Companion ist fehlgeschlagen.'],
  fault_busy: ['The companion is busy.', 'Der Companion ist ausgelastet.'],
  fault_internal: ['Internal error.', 'Interner Fehler.'],
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
