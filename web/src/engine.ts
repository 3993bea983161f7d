//! A worker with a device and a checkpoint that is built anew when it fails: the picture at work goes on at the step it was
//! in. Draws one picture at a time, in the order asked. Contract: every promise rejects with a `Fault`, and what is told as a
//! fault has ended something.
import { connect, type Client, type Opening, type Picture } from './client';
import { fault, faultOf, rebuilds } from './fault';
import type { Checkpoint, DeviceKind, Estimate, Event, Image, KeepTask, KeptCheckpoint, Step, StoreKind, TapRow } from './protocol.gen';

export interface EngineOptions {
  device: DeviceKind;
  store: StoreKind;
  /** `undefined` opens none: what needs none can be asked. */
  opening: Opening | undefined;
  /** Asked once before more than `least_bytes` are fetched: whether to. Without it, whatever is missing is fetched. */
  agree?: { least_bytes: number; ask: (estimate: Estimate) => Promise<boolean> } | undefined;
  /** Hears everything that happens, and nothing after `close`. */
  listen: (event: Event) => void;
}

/** How a picture is drawn. */
export interface Drawn {
  stop?: AbortSignal | undefined;
  /** What its first steps said, where they have been made before. */
  said?: readonly Uint8Array[];
  /** Hears of each step that is made. */
  stepped?: (step: Step) => void;
}

export interface Engine {
  /** The checkpoint, once it is on the device for the first time. */
  ready: Promise<Checkpoint>;
  /** Draws a picture; `undefined` once it was stopped. */
  generate(picture: Picture, how?: Drawn): Promise<Image | undefined>;
  check(variant: string): Promise<TapRow[]>;
  keep(task: KeepTask): Promise<KeptCheckpoint[]>;
  close(): void;
}

/** How often in a row a picture is gone on with that did not come a step further. */
const TRIES = 3;
/** What is planned with after a device had not enough memory, of what was planned before. */
const LESS_MEMORY = 0.7;

/** Starts a worker, and opens its checkpoint. */
export function startEngine({ device, store, opening, agree, listen }: EngineOptions): Engine {
  let memory_bytes = opening?.memory_bytes ?? null;
  let planned_bytes = 0;
  /** Hears of the steps of the picture at work; `undefined` between pictures. */
  let made: ((step: Step) => void) | undefined;
  let [agreed, opened] = [agree === undefined, false];
  let closed = false;
  let turn: Promise<unknown> = Promise.resolve();

  const tell = (event: Event): void => {
    if (!closed) listen(event);
  };
  const hear = (event: Event): void => {
    if (event.kind === 'planned') planned_bytes = event.bytes;
    if (event.kind === 'step') made?.(event);
    if (event.kind === 'ready') opened = true;
    if (event.kind === 'fault' && made !== undefined) return;
    // Lost while nothing was drawn: there is another one for the next picture.
    const lost = event.kind === 'fault' && event.id === null && event.fault.code === 'device_lost' && opened;
    if (!lost) return tell(event);
    const { what } = event.fault;
    rebuild().then(() => tell({ kind: 'note', id: 0, text: `${what}. It was opened again` }), () => 'told as it failed');
  };
  const begin = (): Client => connect(device, store, hear);
  const open = async (): Promise<Checkpoint> => {
    if (opening === undefined) return new Promise(() => 'never: there is no checkpoint to wait for');
    if (agree !== undefined && !agreed) {
      const estimate = await client.estimate(opening, agree.least_bytes);
      agreed = estimate.drawing === null || (await agree.ask(estimate));
      if (!agreed) throw fault('bad_request', `${opening.checkpoint} was not to be fetched`, 'open it again, or another one');
    }
    return client.open({ ...opening, memory_bytes });
  };
  const rebuild = (): Promise<Checkpoint> => {
    opened = false;
    client.close();
    client = begin();
    return open();
  };

  const draw = async (picture: Picture, { stop, said = [], stepped }: Drawn): Promise<Image | undefined> => {
    const steps = [...said];
    made = (step) => {
      steps.push(step.said);
      stepped?.(step);
    };
    let [tries, furthest] = [0, steps.length];
    try {
      for (;;) {
        try {
          return await client.generate(picture, stop, steps);
        } catch (thrown) {
          const reason = faultOf(thrown);
          tries = steps.length > furthest ? 1 : tries + 1;
          furthest = steps.length;
          if (!rebuilds(reason) || tries > TRIES || closed || stop?.aborted === true) throw reason;
          if (reason.code === 'out_of_memory') memory_bytes = Math.floor((memory_bytes ?? planned_bytes) * LESS_MEMORY);
          const less = memory_bytes === null ? '' : `, with ${Math.round(memory_bytes / 2 ** 20)} MiB`;
          await rebuild();
          tell({ kind: 'note', id: 0, text: `${reason.what}. The device was opened again${less}, and the picture goes on after step ${steps.length}` });
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
