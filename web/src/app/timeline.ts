//! When the parts of a generation began and ended, from the events of the engine. Pure.
import type { EngineEvent } from '../engine/protocol.gen';

export interface TimeSpan {
  kind: 'load' | 'text' | 'layer' | 'step' | 'decode';
  from_millis: number;
  to_millis: number;
  /** Which of `count` blocks or steps it is, from 1. */
  index?: number;
  count?: number;
  /** 2 in the second pass. */
  pass?: number;
  /** Bytes that were loaded, or those of the image. */
  bytes?: number;
}

/** The times of one generation, in milliseconds since the navigation started. */
export interface Timeline {
  spans: readonly TimeSpan[];
  /** The span that has not ended. */
  open: TimeSpan | undefined;
  /** When the last part ended. */
  mark_millis: number;
  /** Estimated peak memory. */
  peak_bytes: number | undefined;
}

/** Returns the timeline of a generation that has begun at `now_millis`. */
function started(now_millis: number): Timeline {
  return { spans: [], open: undefined, mark_millis: now_millis, peak_bytes: undefined };
}

/** Returns the timeline after `event`, which arrived at `now_millis` during a generation. */
export function withEvent(before: Timeline | undefined, event: EngineEvent, now_millis: number): Timeline {
  const timeline = before ?? started(now_millis);
  switch (event.kind) {
    case 'planned':
      return { ...timeline, peak_bytes: event.peak_bytes };
    case 'stage_started': {
      const closed = withoutOpen(timeline, now_millis);
      const { stage } = event;
      return stage === 'denoise' ? closed : { ...closed, open: { kind: stage, from_millis: now_millis, to_millis: now_millis } };
    }
    case 'loading': {
      const { open } = timeline;
      // A text encoder is loaded layer by layer while it encodes.
      if (open !== undefined && open.kind !== 'load') return { ...timeline, open: { ...open, bytes: event.loaded_bytes } };
      const from_millis = open?.from_millis ?? timeline.mark_millis;
      const loading = { kind: 'load', from_millis, to_millis: now_millis, bytes: event.loaded_bytes } as const;
      return { ...timeline, open: loading };
    }
    case 'text_encoder_layer':
      return withSpan(timeline, { kind: 'layer', index: event.layer, count: event.layers }, now_millis);
    case 'step':
      return withSpan(
        withoutOpen(timeline, timeline.mark_millis),
        { kind: 'step', index: event.step, count: event.total_steps, pass: event.pass },
        now_millis,
      );
    case 'image': {
      const { open } = timeline;
      return withoutOpen(open === undefined ? timeline : { ...timeline, open: { ...open, bytes: event.png.byteLength } }, now_millis);
    }
    default:
      return timeline;
  }
}

/** Returns the timeline with a span from the end of the last one. */
function withSpan(timeline: Timeline, span: Omit<TimeSpan, 'from_millis' | 'to_millis'>, now_millis: number): Timeline {
  const ended = { ...span, from_millis: timeline.mark_millis, to_millis: now_millis };
  return { ...timeline, spans: [...timeline.spans, ended], mark_millis: now_millis };
}

/** Returns the timeline with its open span ended. */
function withoutOpen(timeline: Timeline, now_millis: number): Timeline {
  const { open, spans } = timeline;
  const ended = open === undefined ? spans : [...spans, { ...open, to_millis: Math.max(now_millis, open.from_millis) }];
  return { ...timeline, spans: ended, open: undefined, mark_millis: now_millis };
}
