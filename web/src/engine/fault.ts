//! Faults as data. Everything thrown on either side of the worker's border becomes one `Fault` here; nothing is
//! presented here.
import type { Fault, FaultCode } from './protocol.gen';

/** Every code: whether nothing more can be drawn after it, and whether a worker that is started anew may do better. */
const CODES: Record<FaultCode, { ends_engine: boolean; rebuilds: boolean }> = {
  no_webgpu: { ends_engine: true, rebuilds: false },
  device_lost: { ends_engine: true, rebuilds: true },
  out_of_memory: { ends_engine: false, rebuilds: true },
  internal: { ends_engine: true, rebuilds: true },
  gpu_validation: { ends_engine: false, rebuilds: false },
  bad_request: { ends_engine: false, rebuilds: false },
  bad_weights: { ends_engine: false, rebuilds: false },
  bad_config: { ends_engine: false, rebuilds: false },
  network: { ends_engine: false, rebuilds: false },
  storage: { ends_engine: false, rebuilds: false },
  companion: { ends_engine: false, rebuilds: false },
  busy: { ends_engine: false, rebuilds: false },
};

export function endsEngine({ code }: Fault): boolean {
  return CODES[code].ends_engine;
}

export function rebuilds({ code }: Fault): boolean {
  return CODES[code].rebuilds;
}

export function fault(code: FaultCode, what: string, remedy: string): Fault {
  return { code, what, remedy };
}

export function isFault(value: unknown): value is Fault {
  return (
    isRecord(value) &&
    typeof value.code === 'string' &&
    Object.hasOwn(CODES, value.code) &&
    typeof value.what === 'string' &&
    typeof value.remedy === 'string'
  );
}

/** `thrown` itself where it is a fault; otherwise an internal fault with its message. */
export function faultOf(thrown: unknown): Fault {
  return isFault(thrown) ? thrown : fault('internal', messageOf(thrown), 'restart the engine, or reload the page');
}

export function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
