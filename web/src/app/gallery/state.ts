//! What the gallery shows, as one value. Pure: no DOM, no database.
import type { GalleryEntry } from '../../gallery/schema';

export interface GalleryFilter {
  /** Part of the prompt, in any case. */
  search: string;
  /** The name of a model; empty for all. */
  model: string;
  favouritesOnly: boolean;
  /** Dates as a date field writes them; empty for any. */
  from: string;
  until: string;
}

export interface GalleryState {
  /** `undefined` until the gallery is first visible. Newest first. */
  entries: readonly GalleryEntry[] | undefined;
  filter: GalleryFilter;
  /** The entries that match the filter. */
  shown: readonly GalleryEntry[];
  /** A tap selects instead of opening. */
  selecting: boolean;
  selected: ReadonlySet<number>;
  /** The image that has the focus, and where a range of selected ones begins. */
  active: number | undefined;
  anchor: number | undefined;
  /** The image in the lightbox. */
  opened: number | undefined;
  /** The first image of a comparison whose second one is not chosen yet. */
  comparing: number | undefined;
  compared: readonly [number, number] | undefined;
  /** The image whose menu is open. */
  menu: number | undefined;
  toast: GalleryToast | undefined;
  usage: { used_bytes: number; quota_bytes: number } | undefined;
}

export interface GalleryToast {
  text: string;
  /** The images that Undo restores. */
  deleted: readonly number[];
}

const NO_FILTER: GalleryFilter = { search: '', model: '', favouritesOnly: false, from: '', until: '' };
const DAY_MILLIS = 86_400_000;

export const CLOSED: GalleryState = {
  entries: undefined,
  filter: NO_FILTER,
  shown: [],
  selecting: false,
  selected: new Set(),
  active: undefined,
  anchor: undefined,
  opened: undefined,
  comparing: undefined,
  compared: undefined,
  menu: undefined,
  toast: undefined,
  usage: undefined,
};

/** Returns the state with other entries or another filter. What no longer exists is no longer selected. */
export function withEntries(state: GalleryState, entries: readonly GalleryEntry[], filter = state.filter): GalleryState {
  const ids = new Set(entries.map(({ id }) => id));
  const selected = new Set([...state.selected].filter((id) => ids.has(id)));
  const shown = entries.filter(matcher(filter));
  return { ...state, entries, filter, shown, selected, selecting: state.selecting && entries.length > 0 };
}

export function isFiltered(filter: GalleryFilter): boolean {
  return JSON.stringify(filter) !== JSON.stringify(NO_FILTER);
}

export function withoutFilter(state: GalleryState): GalleryState {
  return withEntries(state, state.entries ?? [], NO_FILTER);
}

function matcher({ search, model, favouritesOnly, from, until }: GalleryFilter): (entry: GalleryEntry) => boolean {
  const term = search.toLowerCase();
  const [first, end] = [localMidnight(from) ?? -Infinity, (localMidnight(until) ?? Infinity) + DAY_MILLIS];
  return (entry) =>
    (!favouritesOnly || entry.favourite) &&
    (model === '' || entry.model === model) &&
    entry.created_at_millis >= first &&
    entry.created_at_millis < end &&
    (term === '' || entry.prompt.toLowerCase().includes(term));
}

/** Returns the beginning of a day of this computer's calendar. */
function localMidnight(date: string): number | undefined {
  const millis = new Date(`${date}T00:00`).getTime();
  return Number.isNaN(millis) ? undefined : millis;
}

/** Returns the state after a choice of an image: alone, added to the selection, or as the end of a range. */
export function withSelected(state: GalleryState, id: number, how: 'toggle' | 'range'): GalleryState {
  const selected = new Set(state.selected);
  const [begin, end] = [state.anchor, id].map((id) => state.shown.findIndex((entry) => entry.id === id)).sort((a, b) => a - b);
  if (how === 'range' && begin !== undefined && end !== undefined && begin >= 0) {
    for (const entry of state.shown.slice(begin, end + 1)) selected.add(entry.id);
    return { ...state, selected, selecting: true, active: id };
  }
  if (!selected.delete(id)) selected.add(id);
  return { ...state, selected, selecting: true, active: id, anchor: id };
}

/** Returns the images that an action on the selection is for, newest first. */
export function selectedEntries({ entries = [], selected }: GalleryState): readonly GalleryEntry[] {
  return entries.filter(({ id }) => selected.has(id));
}
