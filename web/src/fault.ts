//! Faults as data. Everything thrown on either side of the worker's border becomes one `Fault` here; nothing is
//! presented here.
import type { Fault, FaultCode } from './protocol.gen';

const CODES: Record<FaultCode, true> = {
  no_webgpu: true,
  device_lost: true,
  out_of_memory: true,
  gpu_validation: true,
  bad_request: true,
  bad_weights: true,
  bad_config: true,
  network: true,
  storage: true,
  companion: true,
  busy: true,
  internal: true,
};

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
