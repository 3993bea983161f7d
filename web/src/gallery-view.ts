//! The gallery on the page: pictures that were drawn, to look at, choose, compare, draw again, save and delete.
import { downloadZip } from 'client-zip';
import { element } from './dom';
import { faultOf } from './fault';
import { Gallery, type Drawn } from './database';
import { slug } from './files';
import type { Fault } from './protocol.gen';
import { t } from './i18n';

const fold = element('gallery', HTMLDetailsElement);
const wall = element('gallery-list', HTMLElement);
const filter = element('gallery-search', HTMLInputElement);
const favourites = element('favourites-only', HTMLInputElement);
const exported = element('gallery-export', HTMLButtonElement);
const counted = element('gallery-count', HTMLElement);
const pair = element('comparison', HTMLElement);

interface Wall {
  /** Keeps a picture that was drawn. */
  add(drawn: Omit<Drawn, 'id'>): Promise<void>;
}

/** Shows the gallery. `again` takes the file of a picture to be drawn again, `failed` what went wrong. */
export function beginWall(gallery: Gallery, again: (png: Uint8Array) => void, failed: (fault: Fault) => void): Wall {
  let all: Drawn[] = [];
  /** Addresses of the pictures, by their key; and the two that are compared. */
  const urls = new Map<number, string>();
  let compared: number[] = [];

  const change = async (work: () => Promise<void>): Promise<void> => {
    try {
      await work();
      if (!fold.open) return;
      all = await gallery.all();
      render();
    } catch (thrown) {
      failed(faultOf(thrown));
    }
  };
  const shown = (): Drawn[] => {
    const words = filter.value.toLowerCase();
    return all.filter(({ prompt, favourite }) => prompt.toLowerCase().includes(words) && (favourite || !favourites.checked));
  };
  const urlOf = ({ id, png }: Drawn): string => {
    const url = urls.get(id) ?? URL.createObjectURL(png);
    urls.set(id, url);
    return url;
  };
  const compare = (id: number): void => {
    compared = compared.includes(id) ? compared.filter((other) => other !== id) : [...compared, id].slice(-2);
    render();
  };
  const remove = (drawn: Drawn): Promise<void> =>
    change(async () => {
      await gallery.delete(drawn.id);
      URL.revokeObjectURL(urls.get(drawn.id) ?? '');
      urls.delete(drawn.id);
      compared = compared.filter((id) => id !== drawn.id);
    });

  const card = (drawn: Drawn): HTMLElement => {
    const { id, prompt, seed, favourite, png } = drawn;
    const row = document.createElement('li');
    const picture = Object.assign(new Image(), { src: urlOf(drawn), alt: prompt, loading: 'lazy' });
    const name = Object.assign(document.createElement('p'), { textContent: `${prompt} · ${seed}` });
    row.append(
      picture,
      name,
      button(t('reuseSettings'), prompt, undefined, async () => again(new Uint8Array(await png.arrayBuffer()))),
      button(t('favourite'), prompt, favourite, () => void change(() => gallery.put({ ...drawn, favourite: !favourite }))),
      button(t('compare'), prompt, compared.includes(id), () => compare(id)),
      button(t('delete'), prompt, undefined, () => void remove(drawn)),
    );
    return row;
  };
  const render = (): void => {
    const pictures = shown();
    wall.replaceChildren(...pictures.map(card));
    counted.textContent = t('shownOfAll', { shown: pictures.length, all: all.length });
    const two = all.filter(({ id }) => compared.includes(id));
    pair.hidden = two.length < 2;
    pair.replaceChildren(...two.map((drawn) => Object.assign(new Image(), { src: urlOf(drawn), alt: drawn.prompt })));
  };

  fold.addEventListener('toggle', () => void change(async () => {}));
  filter.addEventListener('input', render);
  favourites.addEventListener('change', render);
  exported.addEventListener('click', async () => {
    const files = shown().map(({ id, prompt, seed, drawn_at, png }) => ({
      name: `${slug(prompt)}-${seed}-${id}.png`,
      lastModified: new Date(drawn_at),
      input: png,
    }));
    save(await downloadZip(files).blob(), 'pixart-web.zip');
  });
  return { add: (drawn) => change(() => gallery.add(drawn)) };
}

/** A button about the picture of a prompt; with `pressed`, one that stays down. */
function button(text: string, prompt: string, pressed: boolean | undefined, act: () => void): HTMLButtonElement {
  const made = Object.assign(document.createElement('button'), { type: 'button', textContent: text });
  made.setAttribute('aria-label', `${text}: ${prompt}`);
  if (pressed !== undefined) made.setAttribute('aria-pressed', String(pressed));
  made.addEventListener('click', act);
  return made;
}

function save(file: Blob, name: string): void {
  const link = Object.assign(document.createElement('a'), { href: URL.createObjectURL(file), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href));
}
