//! What can be done with images of the gallery outside of it: files, clipboard, links, other apps.
import { downloadZip } from 'client-zip';
import { messageOf } from '../../engine/fault';
import type { Gallery } from '../../gallery/database';
import { fileStem } from '../../gallery/files';
import { readMetadata } from '../../gallery/metadata';
import type { GalleryEntry } from '../../gallery/schema';
import { differing, type Settings, settingsOf } from '../../gallery/settings';
import { linkOf } from '../../gallery/share-link';
import { contactSheet, draw, SHEET_IMAGES_MAX } from '../../gallery/sheet';
import { t } from '../i18n';
import type { GalleryStore } from './store';

/** Settings that name an image and do not vary it by the user's choice. */
const NOT_AXES = ['image_index', 'model_hash', 'software'];

export function download(file: Blob, name: string): void {
  const link = Object.assign(document.createElement('a'), { href: URL.createObjectURL(file), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href));
}

/** Returns an image as a file; rejects where another tab has deleted it. */
export async function fileOf(gallery: Gallery, entry: GalleryEntry): Promise<File> {
  const png = await gallery.image(entry.id);
  if (png === undefined) throw new Error(t('imageGone'));
  return new File([png], `${fileStem(entry)}.png`, { type: 'image/png', lastModified: entry.created_at_millis });
}

export async function readSettings(gallery: Gallery, { id }: GalleryEntry): Promise<Settings> {
  const png = await gallery.image(id);
  return settingsOf(png && (await readMetadata(new Uint8Array(await png.arrayBuffer()))));
}

/** Downloads images as a ZIP file. Each is read when its turn comes. */
export async function downloadImages({ gallery }: GalleryStore, entries: readonly GalleryEntry[]): Promise<void> {
  async function* files() {
    for (const entry of entries) {
      const input = await gallery.image(entry.id);
      if (input === undefined) continue;
      yield { name: `${fileStem(entry)}-${entry.id}.png`, lastModified: new Date(entry.created_at_millis), input };
    }
  }
  download(await downloadZip(files()).blob(), 'pixart-web.zip');
}

/** Puts an image on the clipboard. Called during a click: the browser waits for the file. */
export async function copyImage(store: GalleryStore, entry: GalleryEntry): Promise<void> {
  try {
    await navigator.clipboard.write([new ClipboardItem({ 'image/png': fileOf(store.gallery, entry) })]);
    store.toast(t('imageCopied'));
  } catch (thrown) {
    store.toast(t('notCopied', { why: messageOf(thrown) }));
  }
}

/** Puts a link on the clipboard that holds an image's whole request. */
export async function copyLink(store: GalleryStore, entry: GalleryEntry): Promise<void> {
  try {
    const file = await fileOf(store.gallery, entry);
    const metadata = await readMetadata(new Uint8Array(await file.arrayBuffer()));
    if (metadata === undefined) return store.toast(t('noSettingsToShare'));
    await navigator.clipboard.writeText(linkOf(metadata, location.href));
    store.toast(t('linkCopied'));
  } catch (thrown) {
    store.toast(t('notCopied', { why: messageOf(thrown) }));
  }
}

/** Returns whether other apps of this device take image files. */
export function canShareFiles(): boolean {
  return navigator.canShare?.({ files: [new File([], 'image.png', { type: 'image/png' })] }) ?? false;
}

export async function shareImage(store: GalleryStore, entry: GalleryEntry): Promise<void> {
  try {
    await navigator.share({ files: [await fileOf(store.gallery, entry)], title: entry.prompt });
  } catch (thrown) {
    // The user has closed the list of apps.
    if (thrown instanceof DOMException && thrown.name === 'AbortError') return;
    store.toast(t('notShared', { why: messageOf(thrown) }));
  }
}

export async function downloadContactSheet(store: GalleryStore, entries: readonly GalleryEntry[]): Promise<void> {
  if (entries.length > SHEET_IMAGES_MAX) return store.toast(t('sheetLarge', { most: SHEET_IMAGES_MAX }));
  const cells = [];
  for (const { id, prompt, seed } of entries) cells.push({ image: await store.gallery.image(id), caption: `${seed} · ${prompt}` });
  download(await contactSheet(cells), 'contact-sheet.png');
}

/** Downloads images as a grid whose axes are the one or two settings in which they differ. */
export async function downloadGrid(store: GalleryStore, entries: readonly GalleryEntry[]): Promise<void> {
  if (entries.length > SHEET_IMAGES_MAX) return store.toast(t('sheetLarge', { most: SHEET_IMAGES_MAX }));
  // In the order in which they were generated.
  const all: { entry: GalleryEntry; settings: Settings }[] = [];
  for (const entry of entries.toReversed()) all.push({ entry, settings: await readSettings(store.gallery, entry) });
  const axes = differing(all.map(({ settings }) => settings)).filter((name) => !NOT_AXES.includes(name));
  const [x, y] = axes;
  if (x === undefined || axes.length > 2) return store.toast(t('gridAxes', { count: axes.length, settings: axes.join(', ') || '–' }));
  const settingOf = (settings: Settings, axis: string | undefined): string =>
    axis === undefined ? '' : (settings.get(axis) ?? t('notSet'));
  const valuesOf = (axis: string | undefined): string[] =>
    [...new Set(all.map(({ settings }) => settingOf(settings, axis)))].sort(byNumber);
  const headingOf = (axis: string | undefined, value: string, between: string): string =>
    axis === undefined ? '' : `${axis}${between}${value}`;
  const columns = valuesOf(x);
  const rows = [];
  for (const row of valuesOf(y)) {
    const cells = [];
    for (const column of columns) {
      const found = all.find(({ settings }) => settingOf(settings, x) === column && settingOf(settings, y) === row);
      cells.push({ image: found && (await store.gallery.image(found.entry.id)), caption: '' });
    }
    rows.push({ label: headingOf(y, row, '\n'), cells });
  }
  download(await draw({ columns: columns.map((value) => headingOf(x, value, ' ')), rows }), 'xy-grid.png');
}

/** Numbers by size, anything else as it came. */
function byNumber(left: string, right: string): number {
  const difference = Number(left) - Number(right);
  return Number.isNaN(difference) ? 0 : difference;
}
