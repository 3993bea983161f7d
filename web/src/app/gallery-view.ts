//! The gallery on the page: search, favourites, comparison, reuse of settings, export and deletion of generated images.
import { downloadZip } from 'client-zip';
import type { Gallery, GalleryImage } from '../gallery/database';
import { slug } from '../gallery/files';
import { element } from './dom';
import { t } from './i18n';
import { onPanelToggle } from './panels';

const section = element('gallery', HTMLDialogElement);
const list = element('gallery-list', HTMLElement);
const search = element('gallery-search', HTMLInputElement);
const favouritesOnly = element('favourites-only', HTMLInputElement);
const exportButton = element('gallery-export', HTMLButtonElement);
const count = element('gallery-count', HTMLElement);
const comparison = element('comparison', HTMLElement);

export interface GalleryView {
  /** Stores a generated image, and shows it. Rejects where the browser does not store it. */
  add(image: Omit<GalleryImage, 'id'>): Promise<void>;
}

/** Shows `gallery`. Calls `onReuse` with the file whose settings the user wants again, and `onFailed` with what a change of the gallery threw. */
export function startGalleryView(gallery: Gallery, onReuse: (image: File) => void, onFailed: (thrown: unknown) => void): GalleryView {
  let all: GalleryImage[] = [];
  /** Object URLs by image id. */
  const urls = new Map<number, string>();
  /** The ids of at most two images. */
  let compared: number[] = [];

  const change = async (work: () => Promise<void>): Promise<void> => {
    await work();
    if (!section.open) return;
    all = await gallery.all();
    render();
  };
  const update = (work: () => Promise<void>): Promise<void> => change(work).catch(onFailed);
  const matching = (): GalleryImage[] => {
    const term = search.value.toLowerCase();
    return all.filter(({ prompt, favourite }) => prompt.toLowerCase().includes(term) && (favourite || !favouritesOnly.checked));
  };
  const urlOf = ({ id, png }: GalleryImage): string => {
    const url = urls.get(id) ?? URL.createObjectURL(png);
    urls.set(id, url);
    return url;
  };
  const compare = (id: number): void => {
    compared = compared.includes(id) ? compared.filter((other) => other !== id) : [...compared, id].slice(-2);
    render();
  };
  const remove = ({ id }: GalleryImage): Promise<void> =>
    update(async () => {
      await gallery.delete(id);
      URL.revokeObjectURL(urls.get(id) ?? '');
      urls.delete(id);
      compared = compared.filter((other) => other !== id);
    });

  const card = (image: GalleryImage): HTMLElement => {
    const { id, prompt, seed, favourite, png } = image;
    const item = document.createElement('li');
    item.append(
      Object.assign(new Image(), { src: urlOf(image), alt: prompt, loading: 'lazy' }),
      Object.assign(document.createElement('p'), { textContent: `${prompt} · ${seed}` }),
      button(t('reuseSettings'), prompt, undefined, () => onReuse(new File([png], `${slug(prompt)}-${seed}.png`, { type: png.type }))),
      button(t('favourite'), prompt, favourite, () => void update(() => gallery.put({ ...image, favourite: !favourite }))),
      button(t('compare'), prompt, compared.includes(id), () => compare(id)),
      button(t('delete'), prompt, undefined, () => void remove(image)),
    );
    return item;
  };
  const render = (): void => {
    const shown = matching();
    list.replaceChildren(...shown.map(card));
    count.textContent = t('shownOfAll', { shown: shown.length, all: all.length });
    const pair = all.filter(({ id }) => compared.includes(id));
    comparison.hidden = pair.length < 2;
    comparison.replaceChildren(...pair.map((image) => Object.assign(new Image(), { src: urlOf(image), alt: image.prompt })));
  };

  onPanelToggle('gallery', () => void update(async () => {}));
  search.addEventListener('input', render);
  favouritesOnly.addEventListener('change', render);
  exportButton.addEventListener('click', async () => {
    const files = matching().map(({ id, prompt, seed, created_at_millis, png }) => ({
      name: `${slug(prompt)}-${seed}-${id}.png`,
      lastModified: new Date(created_at_millis),
      input: png,
    }));
    download(await downloadZip(files).blob(), 'pixart-web.zip');
  });
  return { add: (image) => change(() => gallery.add(image)) };
}

/** Creates a button for the image of `prompt`; with `pressed`, a toggle button. */
function button(text: string, prompt: string, pressed: boolean | undefined, onClick: () => void): HTMLButtonElement {
  const created = Object.assign(document.createElement('button'), { type: 'button', textContent: text });
  created.setAttribute('aria-label', `${text}: ${prompt}`);
  if (pressed !== undefined) created.setAttribute('aria-pressed', String(pressed));
  created.addEventListener('click', onClick);
  return created;
}

function download(file: Blob, name: string): void {
  const link = Object.assign(document.createElement('a'), { href: URL.createObjectURL(file), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href));
}
