//! Former field names of a request, in stored requests and in pages that use the npm package.
import { FORMER_NAMES, type GenerateRequest } from './protocol.gen';

/** Returns `request` with every former field name replaced by the current one. Values are not checked: the engine does that. */
export function currentNames<T extends Partial<GenerateRequest>>(request: object): T {
  const names: Readonly<Record<string, string>> = FORMER_NAMES;
  return Object.fromEntries(Object.entries(request).map(([name, value]) => [names[name] ?? name, value])) as T;
}
