//! How fast this device generates: multiply-accumulates a second, measured before a download and by the images of published models.
import type { AdapterInfo, EngineEvent } from '../engine/protocol.gen';
import type { ModelWork } from './stored-models';

/** The localStorage key of the rates, by the name of the device. */
const RATES_KEY = 'device rates';

/** Returns the multiply-accumulates a second of a device, if some were measured. */
export function rateOf(adapter: AdapterInfo | undefined): number | undefined {
  return adapter && rates()[keyOf(adapter)];
}

/** Keeps the rate that an event tells of the model that is open or about to be opened. */
export function recordRate(
  event: EngineEvent,
  adapter: AdapterInfo | undefined,
  work: ModelWork | undefined,
  steps: number | undefined,
): void {
  if (adapter === undefined || work === undefined) return;
  const { macs, size } = work;
  const seconds = secondsOf(event, size, steps);
  if (seconds === undefined || !(seconds > 0)) return;
  try {
    localStorage.setItem(RATES_KEY, JSON.stringify({ ...rates(), [keyOf(adapter)]: macs / seconds }));
  } catch {
    // Without storage the times stay unknown.
  }
}

/** Returns the seconds that the event tells of an image at the model's own size, with its own number of steps. */
function secondsOf(event: EngineEvent, size: number, steps: number | undefined): number | undefined {
  if (event.kind === 'estimated') return event.generation_cost?.seconds;
  if (event.kind !== 'image' || steps === undefined) return undefined;
  const { width, height, num_inference_steps, millis } = event;
  // The steps take most of the time, and each in proportion to the pixels.
  return (((millis.denoise + millis.decode) / 1e3) * (size * size * steps)) / (width * height * num_inference_steps);
}

function keyOf({ name, backend }: AdapterInfo): string {
  return `${name} (${backend})`;
}

function rates(): Record<string, number> {
  try {
    const stored: unknown = JSON.parse(localStorage.getItem(RATES_KEY) ?? '{}');
    if (typeof stored !== 'object' || stored === null) return {};
    return Object.fromEntries(Object.entries(stored).filter(([, rate]) => typeof rate === 'number' && rate > 0));
  } catch {
    // There is no storage, or another page has written there.
    return {};
  }
}
