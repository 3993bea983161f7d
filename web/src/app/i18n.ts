//! The texts of the page, in English and German. Faults come from the engine in English; the page adds a translated title.
import { element } from './dom';
import { GALLERY_TEXTS } from './gallery/texts';

const LANGUAGES = ['en', 'de'] as const;
type Language = (typeof LANGUAGES)[number];

/** Translations in the order of `LANGUAGES`. `{name}` is a placeholder for a value. Elements of index.html name their text in
    `data-i18n`, their accessible name in `data-i18n-label` and their placeholder text in `data-i18n-placeholder`. */
// biome-ignore format: a line holds a text in all languages.
const TEXTS = {
  ...GALLERY_TEXTS,
  tagline: ["Generates images from a prompt in this browser tab, on this computer's GPU or CPU.", 'Erzeugt Bilder aus einem Prompt in diesem Browser-Tab, auf der GPU oder CPU dieses Rechners.'],
  prompt: ['Prompt', 'Prompt'],
  promptHint: ['Describe the image', 'Beschreibe das Bild'],
  request: ['Request', 'Anfrage'],
  history: ['History', 'Verlauf'],
  close: ['Close', 'Schließen'],
  imageActions: ['This image', 'Dieses Bild'],
  again: ['Again, new seed', 'Noch einmal, neuer Seed'],
  welcome: ['Describe an image below, or start from one of these', 'Beschreibe unten ein Bild, oder beginne mit einem von diesen'],
  chooseModel: ['Choose a model', 'Modell wählen'],
  onThisComputer: ['Runs on this computer. Prompts and images are not sent anywhere.', 'Läuft auf diesem Rechner. Prompts und Bilder werden nirgendwohin gesendet.'],
  onCompanion: ['Prompts are sent to the companion at {companion}. Images are generated on this computer.', 'Prompts werden an den Companion bei {companion} gesendet. Bilder entstehen auf diesem Rechner.'],
  vary: ['Vary a little', 'Leicht variieren'],
  queue: ['Queue', 'Warteschlange'],
  removeFromQueue: ['Remove from the queue: {prompt}', 'Aus der Warteschlange entfernen: {prompt}'],
  imagesOfJob: ['{count} images', '{count} Bilder'],
  imageOfJob: ['Image {image} of {images}. ', 'Bild {image} von {images}. '],
  eachLine: ['Each line is a prompt', 'Jede Zeile ist ein Prompt'],
  promptCount: ['{count} prompts, with their own images', '{count} Prompts, mit eigenen Bildern'],
  useAsStart: ['Use as start image', 'Als Ausgangsbild'],
  editPart: ['Edit a part', 'Teil bearbeiten'],
  tokens: ['{tokens} of {max} tokens', '{tokens} von {max} Token'],
  notReadPrompt: ['The end of the prompt is not read: “{text}”', 'Das Ende des Prompts wird nicht gelesen: „{text}“'],
  notReadNegativePrompt: ['The end of the negative prompt is not read: “{text}”', 'Das Ende des negativen Prompts wird nicht gelesen: „{text}“'],
  negativePrompt: ['Negative prompt', 'Negativer Prompt'],
  seed: ['Seed', 'Seed'],
  numImages: ['Number of images', 'Anzahl Bilder'],
  steps: ['Steps', 'Schritte'],
  guidanceScale: ['Guidance scale', 'Guidance-Skala'],
  scheduler: ['Scheduler', 'Scheduler'],
  style: ['Style', 'Stil'],
  width: ['Width', 'Breite'],
  height: ['Height', 'Höhe'],
  initImage: ['Input image', 'Ausgangsbild'],
  maskImage: ['Inpaint mask', 'Inpainting-Maske'],
  paintMask: ['Paint the area to regenerate, or choose a mask file in which it is white', 'Übermale den Bereich, der neu generiert wird, oder wähle eine Maskendatei, in der er weiß ist'],
  brushSize: ['Brush size', 'Pinselgröße'],
  clearMask: ['Clear mask', 'Maske löschen'],
  strength: ['Strength', 'Stärke'],
  promptWeighting: ['Weights in the prompt: (word:1.3), [word]', 'Gewichte im Prompt: (Wort:1.3), [Wort]'],
  hiresScale: ['Second pass: scale', 'Zweiter Durchgang: Faktor'],
  hiresStrength: ['Second pass: strength', 'Zweiter Durchgang: Stärke'],
  hiresSteps: ['Second pass: steps', 'Zweiter Durchgang: Schritte'],
  variationSeed: ['Variation seed', 'Variations-Seed'],
  variationStrength: ['Variation strength', 'Variationsstärke'],
  device: ['Device', 'Gerät'],
  modelUrl: ['Model URL or hub repository', 'Modell-URL oder Hub-Repository'],
  open: ['Open', 'Öffnen'],
  repair: ['Repair', 'Reparieren'],
  storageUsage: ['{used} MB stored, {left} MB available', '{used} MB gespeichert, {left} MB verfügbar'],
  modelFolder: ['Local folder (or drop it on the page)', 'Lokaler Ordner (oder auf die Seite ziehen)'],
  catalogue: ['Published models', 'Veröffentlichte Modelle'],
  catalogueEncoder: ['With this text encoder', 'Mit diesem Text-Encoder'],
  catalogueEntry: [
    'about {gigabytes} GB to download, up to {memory} GB of memory, licence {license}',
    'etwa {gigabytes} GB Download, bis zu {memory} GB Speicher, Lizenz {license}',
  ],
  ownTextEncoder: ["The model's own", 'Der des Modells'],
  components: ['Components from other places', 'Komponenten von anderen Orten'],
  component: ['Component', 'Komponente'],
  component_transformer: ['Transformer', 'Transformer'],
  component_vae: ['VAE', 'VAE'],
  component_text_encoder: ['Text encoder', 'Text-Encoder'],
  component_tokenizer: ['Tokenizer', 'Tokenizer'],
  component_scheduler: ['Scheduler', 'Scheduler'],
  componentUrl: ['Address of a folder, a repository or a file', 'Adresse eines Ordners, eines Repositorys oder einer Datei'],
  componentFile: ['Local file (or drop it on the page)', 'Lokale Datei (oder auf die Seite ziehen)'],
  add: ['Add', 'Hinzufügen'],
  use: ['Use', 'Verwenden'],
  remove: ['Remove', 'Entfernen'],
  loras: ['LoRA', 'LoRA'],
  loraUrl: ['Address of a LoRA', 'Adresse eines LoRA'],
  noLora: ['{name} is no LoRA.', '{name} ist kein LoRA.'],
  loraOff: ['off', 'aus'],
  stored_text_encoder: ['Text encoder', 'Text-Encoder'],
  stored_lora: ['LoRA', 'LoRA'],
  randomSeed: ['Random seed', 'Zufälliger Seed'],
  textTab: ['This tab', 'Dieser Tab'],
  textCompanion: ['Companion server', 'Companion-Server'],
  textFile: ['Prompt embeddings from a file', 'Prompt-Embeddings aus einer Datei'],
  record: ['Record every step', 'Jeden Schritt aufzeichnen'],
  grid: ['X/Y grid', 'X/Y-Raster'],
  xAxis: ['X axis', 'X-Achse'],
  yAxis: ['Y axis', 'Y-Achse'],
  noAxis: ['None', 'Keine'],
  axisValues: ['Values', 'Werte'],
  generate: ['Generate', 'Generieren'],
  cancel: ['Cancel', 'Abbrechen'],
  settings: ['Settings', 'Einstellungen'],
  models: ['Models', 'Modelle'],
  imageToImage: ['Image-to-image and inpainting', 'Bild-zu-Bild und Inpainting'],
  textEncoder: ['Text encoder', 'Text-Encoder'],
  deviceAuto: ['Automatic (fastest)', 'Automatisch (am schnellsten)'],
  deviceGpu: ['GPU (WebGPU)', 'GPU (WebGPU)'],
  deviceCpu: ['CPU (WebAssembly)', 'CPU (WebAssembly)'],
  modelDefault: ['Model default', 'Modellstandard'],
  noStyle: ['None', 'Keiner'],
  resume: ['Resume', 'Fortsetzen'],
  discard: ['Discard', 'Verwerfen'],
  restart: ['Restart', 'Neu starten'],
  downloadPng: ['Download PNG', 'PNG herunterladen'],
  downloadRecording: ['Download recording', 'Aufzeichnung herunterladen'],
  noModel: ['No model loaded', 'Kein Modell geladen'],
  initializing: ['Initializing the device', 'Das Gerät wird initialisiert'],
  compiling: ['Compiling shader {at} of {all}', 'Shader {at} von {all} wird kompiliert'],
  starting: ['Starting', 'Startet'],
  stage_text: ['Encoding the prompt', 'Der Prompt wird kodiert'],
  stage_denoise: ['Generating', 'Das Bild wird generiert'],
  stage_decode: ['Decoding the image', 'Das Bild wird dekodiert'],
  layerOf: ['Encoding the prompt: layer {layer} of {layers}', 'Der Prompt wird kodiert: Schicht {layer} von {layers}'],
  layerStreamed: [
    'Encoding the prompt: layer {layer} of {layers}, each read from storage',
    'Der Prompt wird kodiert: Schicht {layer} von {layers}, jede aus dem Speicher gelesen',
  ],
  storedPrompts: [
    'Encoded prompts: {count}, {megabytes} MB. They need no text encoder again. ',
    'Kodierte Prompts: {count}, {megabytes} MB. Der Textencoder wird dafür nicht wieder gebraucht. ',
  ],
  secondPass: [', second pass', ', zweiter Durchgang'],
  stepOf: ['Generating: step {step} of {steps}', 'Generiert: Schritt {step} von {steps}'],
  timeLeft: [', {seconds} s left', ', noch {seconds} s'],
  ready: ['Ready', 'Bereit'],
  lastImage: ['Ready. The last image took {seconds} s', 'Bereit. Das letzte Bild dauerte {seconds} s'],
  stopped: ['Stopped', 'Gestoppt'],
  fallbackAdapter: [': fallback adapter, slow', ': Fallback-Adapter, langsam'],
  awaitingConfirmation: ['Waiting for your confirmation', 'Wartet auf deine Bestätigung'],
  downloadQuestion: ['Download this model?', 'Dieses Modell herunterladen?'],
  estimateDownload: ['Download: {size} MB', 'Download: {size} MB'],
  estimateTime: [', about {time} at {rate} MB/s', ', etwa {time} bei {rate} MB/s'],
  estimateStorage: ['; {room} MB of storage available', '; {room} MB Speicherplatz verfügbar'],
  estimateMemory: ['Memory: about {memory} MB, including the weights', 'Arbeitsspeicher: etwa {memory} MB, einschließlich der Gewichte'],
  estimateImage: ['Time per image: about {time} for {size} × {size} px in {steps} steps', 'Zeit pro Bild: etwa {time} für {size} × {size} px in {steps} Schritten'],
  storageTooSmall: ['Not enough storage: delete stored models first', 'Nicht genug Speicherplatz: lösche zuerst gespeicherte Modelle'],
  slowWithoutGpu: ['Runs without a GPU: slow', 'Läuft ohne GPU: langsam'],
  download: ['Download', 'Herunterladen'],
  notNow: ['Not now', 'Nicht jetzt'],
  preset: ['Preset', 'Voreinstellung'],
  loading_wait: ['Another tab is downloading this model', 'Ein anderer Tab lädt dieses Modell herunter'],
  loading_fetch: ['Downloading', 'Wird heruntergeladen'],
  loading_convert: ['Converting', 'Wird konvertiert'],
  loading_upload: ['Loading onto the device', 'Wird auf das Gerät geladen'],
  aspectRatio: ['Aspect ratio', 'Seitenverhältnis'],
  companionUrl: ['Companion URL', 'URL des Companions'],
  accessToken: ['Access token of the companion', 'Zugriffstoken des Companions'],
  embeddingsFile: ['Embeddings file', 'Embeddings-Datei'],
  result: ['Result', 'Ergebnis'],
  negativePromptHint: ['what the image should not show', 'was das Bild nicht zeigen soll'],
  accessTokenHint: ['access token, if required', 'Zugriffstoken, falls nötig'],
  caption: ['{prompt} · seed {seed} · {steps} steps', '{prompt} · Seed {seed} · {steps} Schritte'],
  companionModels: ['Companion at {at}: {models}', 'Companion bei {at}: {models}'],
  companionLoading: ['The companion at {at} is still loading its model', 'Der Companion bei {at} lädt sein Modell noch'],
  companionEncodes: ['{id} on {device} (encodes prompts)', '{id} auf {device} (kodiert Prompts)'],
  companionGenerates: ['{id} on {device} (encodes prompts, generates images)', '{id} auf {device} (kodiert Prompts, generiert Bilder)'],
  companionUnavailable: ['{what}. This tab encodes the prompt instead, if the model includes a text encoder', '{what}. Stattdessen kodiert dieser Tab den Prompt, falls das Modell einen Text-Encoder enthält'],
  unfinished: ['“{prompt}” was interrupted after step {step}.', '„{prompt}“ wurde nach Schritt {step} unterbrochen.'],
  verify: ['Verify', 'Überprüfen'],
  storedSize: ['{megabytes} MB in {store}', '{megabytes} MB in {store}'],
  modelChanged: [', the model at this URL has changed: open it to download the new one', ', das Modell unter dieser URL hat sich geändert: öffne es, um das neue herunterzuladen'],
  shardsMissing: [', {count} shards missing', ', {count} Shards fehlen'],
  carried: ['Also set: {settings}', 'Außerdem gesetzt: {settings}'],
  reset: ['Reset', 'Zurücksetzen'],
  imageOfImages: ['image {image} of {images}', 'Bild {image} von {images}'],
  droppable: ['Drop one image, the folder of a model, or a file of a LoRA or of a component.', 'Ziehe ein einzelnes Bild, den Ordner eines Modells oder die Datei eines LoRA oder einer Komponente auf die Seite.'],
  dropNoCheckpoint: ['The folder {name} holds no model: it has no transformer/config.json and no manifest.json.', 'Der Ordner {name} enthält kein Modell: es fehlen transformer/config.json und manifest.json.'],
  dropLink: ['A link was dropped.', 'Ein Link wurde abgelegt.'],
  dropText: ['Text was dropped outside of a text field.', 'Text wurde außerhalb eines Textfelds abgelegt.'],
  dropNothing: ['Nothing was dropped.', 'Es wurde nichts abgelegt.'],
  dropSeveral: ['{count} files were dropped.', '{count} Dateien wurden abgelegt.'],
  dropWeights: ['{name} holds neither a LoRA nor a component that this page knows.', '{name} enthält weder ein LoRA noch eine Komponente, die diese Seite kennt.'],
  dropNoImage: ['{name} is no image.', '{name} ist kein Bild.'],
  dropUnknownImage: ['{name} is no PNG, JPEG, WebP, AVIF, GIF or BMP file.', '{name} ist keine PNG-, JPEG-, WebP-, AVIF-, GIF- oder BMP-Datei.'],
  dropLarge: ['{name} is larger than 256 MB.', '{name} ist größer als 256 MB.'],
  dropUnreadable: ['{name} could not be read. Check that it still exists, and drop it again.', '{name} konnte nicht gelesen werden. Prüfe, ob die Datei noch existiert, und lege sie noch einmal ab.'],
  dropWhileGenerating: ['An image is being generated. Cancel it or wait, then drop {name} again.', 'Ein Bild wird gerade generiert. Brich ab oder warte, und lege {name} dann noch einmal ab.'],
  noSettings: ['{name} holds no generation settings. It can be the input image of image-to-image.', '{name} enthält keine Einstellungen. Es kann das Ausgangsbild für Bild-zu-Bild sein.'],
  useAsInitImage: ['Use as input image', 'Als Ausgangsbild verwenden'],
  restored: ['The settings of {name} are in the form.', 'Die Einstellungen aus {name} stehen im Formular.'],
  restoredFrom: ['The settings of {name}, written by {software}, are in the form as far as it has them.', 'Die Einstellungen aus {name}, geschrieben von {software}, stehen im Formular, soweit es sie hat.'],
  needsInitImage: ['The file does not hold its input image: choose it under image-to-image.', 'Die Datei enthält ihr Ausgangsbild nicht: wähle es unter Bild-zu-Bild.'],
  needsMask: ['The file does not hold its inpaint mask: choose or paint it again.', 'Die Datei enthält ihre Inpainting-Maske nicht: wähle oder male sie noch einmal.'],
  needsLatents: ['It was generated from a file of latents, for which the form has no field.', 'Das Bild entstand aus einer Datei mit Latents, für die das Formular kein Feld hat.'],
  needsEmbeddings: ['It was generated from a file of prompt embeddings: choose it under text encoder.', 'Das Bild entstand aus einer Datei mit Prompt-Embeddings: wähle sie unter Text-Encoder.'],
  ambiguousImage: ['It is one of {images} images, and the file does not say which: the form generates the first.', 'Es ist eines von {images} Bildern, und die Datei sagt nicht, welches: das Formular generiert das erste.'],
  withoutMerged: ['It was generated with {merged}: add it to generate the same image.', 'Das Bild entstand mit {merged}: füge es hinzu, um dasselbe Bild zu generieren.'],
  ignoredSettings: ['Not used: {settings}.', 'Nicht verwendet: {settings}.'],
  otherModel: ['It was generated by the model {theirs}; {ours} is open.', 'Das Bild entstand mit dem Modell {theirs}; geöffnet ist {ours}.'],
  otherWeights: ['It was generated with weights in {theirs}; here they are in {ours}.', 'Das Bild entstand mit Gewichten in {theirs}; hier sind sie in {ours}.'],
  notStored: ['The image is on this page, and was not stored in the gallery: {why}. Download it to keep it.', 'Das Bild ist auf dieser Seite und wurde nicht in der Galerie gespeichert: {why}. Lade es herunter, um es zu behalten.'],
  galleryUnchanged: ['The gallery could not be changed: {why}.', 'Die Galerie konnte nicht geändert werden: {why}.'],
  galleryFull: ["this browser's storage is full", 'der Speicher dieses Browsers ist voll'],
  galleryNewer: ['a newer version of this page wrote the gallery; reload the page', 'eine neuere Version dieser Seite hat die Galerie geschrieben; lade die Seite neu'],
  galleryClosed: ['the gallery was closed or deleted; reload the page', 'die Galerie wurde geschlossen oder gelöscht; lade die Seite neu'],
  galleryBlocked: ['this window has no storage, or its database does not answer', 'dieses Fenster hat keinen Speicher, oder seine Datenbank antwortet nicht'],
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

export type TextKey = keyof typeof TEXTS;

/** The localStorage key of the selected language. */
const LANGUAGE_KEY = 'language';
const select = element('language', HTMLSelectElement);
let language: Language = 'en';

/** Returns a text in the current language, with `values` in place of its placeholders. */
export function t(key: TextKey, values: Record<string, string | number> = {}): string {
  const text: string = TEXTS[key][LANGUAGES.indexOf(language)] ?? TEXTS[key][0];
  return text.replace(/\{(\w+)\}/g, (_, name: string) => String(values[name]));
}

/** Selects the language: `requested` (from `?lang=`), else the one stored before, else the browser's. Calls `onChange` when the user selects another one. */
export function startI18n(requested: string | null, onChange: () => void): void {
  const candidates = [requested, storedLanguage(), navigator.language.slice(0, 2)];
  setLanguage(candidates.map(supported).find((found) => found !== undefined) ?? 'en');
  select.addEventListener('change', () => {
    setLanguage(supported(select.value) ?? 'en');
    try {
      localStorage.setItem(LANGUAGE_KEY, language);
    } catch {
      // Without storage the language lasts until the window is closed.
    }
    onChange();
  });
}

function setLanguage(selected: Language): void {
  language = select.value = document.documentElement.lang = selected;
  for (const translated of document.querySelectorAll<HTMLElement>('[data-i18n], [data-i18n-label], [data-i18n-placeholder]')) {
    const { i18n: text, i18nLabel: label, i18nPlaceholder: placeholder } = translated.dataset;
    if (text !== undefined) translated.textContent = t(checkedKey(text));
    if (label !== undefined) translated.setAttribute('aria-label', t(checkedKey(label)));
    if (placeholder !== undefined) translated.setAttribute('placeholder', t(checkedKey(placeholder)));
  }
}

/** Checks a key that an element of index.html names. */
function checkedKey(name: string): TextKey {
  if (!Object.hasOwn(TEXTS, name)) throw new Error(`index.html names the text ${name}, which does not exist`);
  return name as TextKey;
}

function supported(name: string | null): Language | undefined {
  return LANGUAGES.find((language) => language === name);
}

function storedLanguage(): string | null {
  try {
    return localStorage.getItem(LANGUAGE_KEY);
  } catch {
    return null;
  }
}
