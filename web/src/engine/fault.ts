//! Faults as data. Everything that is thrown on either side of the worker becomes one `Fault` here. Presents nothing.
import type { Fault, FaultCode } from './protocol.gen';

/** Every code, with examples in docs/errors.md: whether it ends the engine, and whether a restarted worker may succeed. */
const CODES: Record<FaultCode, { ends_engine: boolean; is_recoverable: boolean }> = {
  no_webgpu: { ends_engine: true, is_recoverable: false },
  device_lost: { ends_engine: true, is_recoverable: true },
  out_of_memory: { ends_engine: false, is_recoverable: true },
  internal: { ends_engine: true, is_recoverable: true },
  gpu_validation: { ends_engine: false, is_recoverable: false },
  bad_request: { ends_engine: false, is_recoverable: false },
  bad_weights: { ends_engine: false, is_recoverable: false },
  bad_config: { ends_engine: false, is_recoverable: false },
  network: { ends_engine: false, is_recoverable: false },
  storage: { ends_engine: false, is_recoverable: false },
  companion: { ends_engine: false, is_recoverable: false },
  busy: { ends_engine: false, is_recoverable: false },
};

export function endsEngine({ code }: Fault): boolean {
  return CODES[code].ends_engine;
}

/** Returns whether the same request may succeed in a new worker. */
export function isRecoverable({ code }: Fault): boolean {
  return CODES[code].is_recoverable;
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

/** Returns `thrown` itself where it is a fault, otherwise an internal fault with its message. */
export function faultOf(thrown: unknown): Fault {
  return isFault(thrown) ? thrown : fault('internal', messageOf(thrown), 'restart the engine, or reload the page');
}

/** Returns the text of what was thrown, without its full stop: it is a part of a sentence. */
export function messageOf(thrown: unknown): string {
  return (thrown instanceof Error ? thrown.message : String(thrown)).replace(/[.\s]+$/, '');
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Handles a rejection that is reported elsewhere. A comment at each call says where. */
export function ignore(): void {}
