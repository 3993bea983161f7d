//! A worker with a device and a checkpoint that is built anew when it fails: the picture at work goes on at the step it was
//! in. Draws one picture at a time, in the order asked. Contract: every promise rejects with a `Fault`, and what is told as a
//! fault has ended something.
import { connect, type Client, type Opening, type Picture } from './client';
import { fault, faultOf, rebuilds } from './fault';
import type { Checkpoint, DeviceKind, Estimate, EngineEvent, ImageResult, StorageTask, StoredCheckpoint, StepProgress, StorageBackend, TapRow } from './protocol.gen';

export interface EngineOptions {
  device: DeviceKind;
  storage: StorageBackend;
  /** `undefined` opens none: what needs none can be asked. */
  opening: Opening | undefined;
  /** Asked once before more than `measure_above_bytes` are downloaded. Without it, whatever is missing is downloaded. */
  agree?: { measure_above_bytes: number; ask: (estimate: Estimate) => Promise<boolean> } | undefined;
  /** Hears everything that happens, and nothing after `close`. */
  listen: (event: EngineEvent) => void;
}

/** How a picture is drawn. */
export interface Drawn {
  stop?: AbortSignal | undefined;
  /** The model outputs of the steps that were run before an interruption. */
  model_outputs?: readonly Uint8Array[];
  /** Hears of each step that is made. */
  stepped?: (step: StepProgress) => void;
}

export interface Engine {
  /** The checkpoint, once it is on the device for the first time. */
  ready: Promise<Checkpoint>;
  /** Draws a picture; `undefined` once it was stopped. */
  generate(picture: Picture, how?: Drawn): Promise<ImageResult | undefined>;
  check(variant: string): Promise<TapRow[]>;
  keep(task: StorageTask): Promise<StoredCheckpoint[]>;
  close(): void;
}

/** How often in a row a picture is gone on with that did not come a step further. */
const TRIES = 3;
/** What is planned with after a device had not enough memory, of what was planned before. */
const LESS_MEMORY = 0.7;

/** Starts a worker, and opens its checkpoint. */
export function startEngine({ device, storage, opening, agree, listen }: EngineOptions): Engine {
  let memory_limit_bytes = opening?.memory_limit_bytes ?? null;
  let peak_bytes = 0;
  /** Hears of the steps of the picture at work; `undefined` between pictures. */
  let made: ((step: StepProgress) => void) | undefined;
  let [agreed, opened] = [agree === undefined, false];
  let closed = false;
  let turn: Promise<unknown> = Promise.resolve();

  const tell = (event: EngineEvent): void => {
    if (!closed) listen(event);
  };
  const hear = (event: EngineEvent): void => {
    if (event.kind === 'planned') peak_bytes = event.peak_bytes;
    if (event.kind === 'step') made?.(event);
    if (event.kind === 'ready') opened = true;
    if (event.kind === 'fault' && made !== undefined) return;
    // Lost while nothing was drawn: there is another one for the next picture.
    const lost = event.kind === 'fault' && event.id === null && event.fault.code === 'device_lost' && opened;
    if (!lost) return tell(event);
    const { what } = event.fault;
    rebuild().then(() => tell({ kind: 'note', id: 0, text: `${what}. It was opened again` }), () => 'told as it failed');
  };
  const begin = (): Client => connect(device, storage, hear);
  const open = async (): Promise<Checkpoint> => {
    if (opening === undefined) return new Promise(() => 'never: there is no checkpoint to wait for');
    if (agree !== undefined && !agreed) {
      const estimate = await client.estimate(opening, agree.measure_above_bytes);
      agreed = estimate.generation_cost === null || (await agree.ask(estimate));
      if (!agreed) throw fault('bad_request', `${opening.checkpoint} was not to be fetched`, 'open it again, or another one');
    }
    return client.open({ ...opening, memory_limit_bytes });
  };
  const rebuild = (): Promise<Checkpoint> => {
    opened = false;
    client.close();
    client = begin();
    return open();
  };

  const draw = async (picture: Picture, { stop, model_outputs = [], stepped }: Drawn): Promise<ImageResult | undefined> => {
    const outputs = [...model_outputs];
    made = (step) => {
      outputs.push(step.model_output);
      stepped?.(step);
    };
    let [tries, furthest] = [0, outputs.length];
    try {
      for (;;) {
        try {
          return await client.generate(picture, stop, outputs);
        } catch (thrown) {
          const reason = faultOf(thrown);
          tries = outputs.length > furthest ? 1 : tries + 1;
          furthest = outputs.length;
          if (!rebuilds(reason) || tries > TRIES || closed || stop?.aborted === true) throw reason;
          if (reason.code === 'out_of_memory') memory_limit_bytes = Math.floor((memory_limit_bytes ?? peak_bytes) * LESS_MEMORY);
          const less = memory_limit_bytes === null ? '' : `, with ${Math.round(memory_limit_bytes / 2 ** 20)} MiB`;
          await rebuild();
          tell({ kind: 'note', id: 0, text: `${reason.what}. The device was opened again${less}, and the picture goes on after step ${outputs.length}` });
        }
      }
    } catch (thrown) {
      tell({ kind: 'fault', id: 0, fault: faultOf(thrown) });
      throw thrown;
    } finally {
      made = undefined;
    }
  };

  let client = begin();
  return {
    ready: open(),
    generate(picture, how = {}) {
      const mine = turn.then(() => {
        if (how.stop?.aborted === true) return undefined;
        if (closed) throw fault('internal', 'the engine was stopped', 'ask again once it is open');
        return draw(picture, how);
      });
      turn = mine.catch(() => 'answered to whom it concerns');
      return mine;
    },
    check: (variant) => client.check(variant),
    keep: (task) => client.keep(task),
    close() {
      closed = true;
      client.close();
    },
  };
}
