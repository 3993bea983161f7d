//! Field names of earlier versions, in stored requests and in the options of other people's pages.
import { FORMER_NAMES, type GenerateRequest } from './protocol.gen';

/** Returns `request` with every former field name replaced by the current one. Values are not checked: the engine does that. */
export function currentNames<T extends Partial<GenerateRequest>>(request: object): T {
  const names: Readonly<Record<string, string>> = FORMER_NAMES;
  return Object.fromEntries(Object.entries(request).map(([name, value]) => [names[name] ?? name, value])) as T;
}
