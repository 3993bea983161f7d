//! The timeline of the last image: a plot of load, prompt, steps and decoding, and the same as a table.
import type { AdapterInfo, Checkpoint } from '../../engine/protocol.gen';
import { formatBytes, formatDuration } from '../format';
import { t } from '../i18n';
import type { State } from '../state';
import type { TimeSpan } from '../timeline';
import { x } from './texts';

const KINDS = ['load', 'text', 'layer', 'step', 'decode'] as const;
/** Units of the plot's own, from left to right and for a row. */
const WIDTH = 1000;
const ROW = 10;
/** The least width of a span that is still seen. */
const SPAN_MIN = 1.5;

/** Returns all spans, from the first byte of the model, without the time between loading and generation. */
function spansOf({ image_timeline: timeline, checkpoint }: State): TimeSpan[] {
  const { spans } = timeline ?? { spans: [] };
  const from = Math.min(...spans.map(({ from_millis }) => from_millis));
  const load = checkpoint?.load_millis ?? 0;
  const shifted = spans.map((span) => ({ ...span, from_millis: span.from_millis - from + load, to_millis: span.to_millis - from + load }));
  const loaded: TimeSpan[] = load > 0 ? [{ kind: 'load', from_millis: 0, to_millis: load, bytes: checkpoint?.weight_bytes ?? 0 }] : [];
  return [...loaded, ...shifted].sort((left, right) => left.from_millis - right.from_millis || right.to_millis - left.to_millis);
}

export function TimelinePlot({ state, companion }: { state: State; companion: string | undefined }) {
  const spans = spansOf(state);
  const end = Math.max(1, ...spans.map(({ to_millis }) => to_millis));
  const rows = KINDS.filter((kind) => spans.some((span) => span.kind === kind));
  if (state.image_timeline === undefined) return <p>{x('timelineNone')}</p>;
  return (
    <>
      <p>{x('timelineNote', { prompt: state.image_prompt })}</p>
      <div class="plot">
        <div class="lanes" aria-hidden="true">
          {rows.map((kind) => (
            <span key={kind}>{x(`lane_${kind}`)}</span>
          ))}
        </div>
        <svg viewBox={`0 0 ${WIDTH} ${rows.length * ROW}`} preserveAspectRatio="none" role="img" aria-label={x('timelineTitle')}>
          {spans.map((span) => (
            <rect
              key={`${span.kind} ${span.from_millis} ${span.index}`}
              class={`span-${span.kind}`}
              x={(WIDTH * span.from_millis) / end}
              y={rows.indexOf(span.kind) * ROW + 1}
              width={Math.max(SPAN_MIN, (WIDTH * (span.to_millis - span.from_millis)) / end)}
              height={ROW - 2}
            />
          ))}
        </svg>
        <div class="ticks" aria-hidden="true">
          {[0, 0.5, 1].map((part) => (
            <span key={part}>{formatDuration((part * end) / 1000, 1)}</span>
          ))}
        </div>
      </div>
      <p class="memory">{memoryOf(state)}</p>
      <SpanTable spans={spans} state={state} companion={companion} />
    </>
  );
}

function SpanTable({ spans, state, companion }: { spans: readonly TimeSpan[]; state: State; companion: string | undefined }) {
  return (
    <table>
      <caption>{x('timelineTable')}</caption>
      <thead>
        <tr>
          {(['part', 'start', 'duration', 'bytes', 'device'] as const).map((column) => (
            <th key={column} scope="col">
              {x(`column_${column}`)}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {spans.map((span) => (
          <tr key={`${span.kind} ${span.from_millis} ${span.index}`}>
            <th scope="row">{nameOf(span)}</th>
            <td>{formatDuration(span.from_millis / 1000, 2)}</td>
            <td>{formatDuration((span.to_millis - span.from_millis) / 1000, 2)}</td>
            <td>{span.bytes === undefined ? '–' : formatBytes(span.bytes)}</td>
            <td>{deviceOf(span, state.adapter, state.checkpoint, companion)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function nameOf({ kind, index = 0, count = 0, pass = 1 }: TimeSpan): string {
  if (kind === 'layer') return x('layerName', { index, count });
  if (kind !== 'step') return x(`lane_${kind}`);
  return x('stepName', { index, count }) + (pass > 1 ? t('secondPass') : '');
}

function deviceOf(
  { kind }: TimeSpan,
  adapter: AdapterInfo | undefined,
  checkpoint: Checkpoint | undefined,
  companion: string | undefined,
): string {
  const device = adapter === undefined ? '–' : `${adapter.name} (${adapter.backend})`;
  if (kind === 'load') return `${checkpoint?.storage ?? '–'} → ${device}`;
  return kind === 'text' && companion !== undefined ? companion : device;
}

function memoryOf({ image, image_timeline: timeline }: State): string {
  const heap = image?.memory.heap_bytes;
  const device = image?.memory.device_bytes ?? null;
  const parts = [
    ...(timeline?.peak_bytes === undefined ? [] : [x('memoryPlanned', { size: formatBytes(timeline.peak_bytes) })]),
    ...(heap === undefined ? [] : [x('memoryHeap', { size: formatBytes(heap) })]),
    ...(device === null ? [] : [x('memoryDevice', { size: formatBytes(device) })]),
  ];
  return parts.join(' ');
}
