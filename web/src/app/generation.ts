//! Generations: what Generate requests, the queue that runs it, the journal that survives a reload, and the images of this visit.
import type { ImageRequest } from '../engine/client';
import { type GenerateOptions, weightsHash } from '../engine/engine';
import { faultOf, ignore } from '../engine/fault';
import type { ImageResult } from '../engine/protocol.gen';
import { element } from './dom';
import { applyRequest, readFiles, readNumImages, readPromptVariants, readRequest, withChosenWords, withPromptSize } from './form';
import { fillCell, hideGrid, readGrid, showGrid } from './grid';
import { HISTORY_MAX, type HistoryItem } from './history';
import { t } from './i18n';
import type { ImageStore } from './image-store';
import { type SelectedLoras, selectedLoras } from './lora-list';
import type { ModelSession } from './model-session';
import { notifyDone } from './notify';
import type { PageState } from './page-state';
import { GenerationQueue, type Job, type Task } from './queue';
import { generating, withFault } from './state';

/** Steps of a generation that was interrupted. */
type ResumedSteps = Pick<GenerateOptions, 'model_outputs' | 'model_hash'>;

export interface Generations {
  /** Generates an image once those requested before have ended; resolves with `undefined` if it was cancelled. */
  generate(request: ImageRequest): Promise<ImageResult | undefined>;
  /** Requests what the form holds as one job: the images of the X/Y grid, or one or several of each prompt, with a seed each. */
  submit(): void;
  /** Offers to resume the generation that was running when this tab was closed or reloaded. */
  offerUnfinished(): Promise<void>;
  cancelRunning(): void;
  cancel(id: Job['id']): void;
  /** Returns the images of this visit, the newest first. */
  history(): readonly HistoryItem[];
  /** Returns the image on the canvas, if it is of this visit. */
  shown(): HistoryItem | undefined;
  /** Returns the id of an image in the gallery, if it is stored. */
  galleryId(item: HistoryItem): number | undefined;
  /** Returns whether an image of the gallery is of this visit. */
  isOfVisit(galleryId: number): boolean;
}

export function createGenerations(page: PageState, model: ModelSession, images: ImageStore): Generations {
  let history: readonly HistoryItem[] = [];
  let historyIds = 0;
  const galleryIds = new Map<HistoryItem['id'], number>();
  const queue = new GenerationQueue<ImageResult>((jobs) => {
    const [last] = page.current().jobs;
    page.show({ ...page.current(), jobs });
    if (last !== undefined && jobs.length === 0) notifyDone(last.prompt);
  });

  const run = async (
    request: ImageRequest,
    files: Promise<Partial<ImageRequest>>,
    { model_outputs = [], model_hash }: ResumedSteps,
    loras: SelectedLoras,
    signal: AbortSignal,
  ): Promise<ImageResult | undefined> => {
    const engine = model.engine();
    page.show(generating(page.current(), request.prompt));
    const read = await files.catch((thrown) => {
      page.show(withFault(page.current(), faultOf(thrown)));
      throw thrown;
    });
    const complete = withPromptSize({ ...request, ...read });
    // The engine reports the fault as an event, too.
    await model.mergeLoras(loras);
    const { checkpoint } = page.current();
    const journal = await images.journal({
      checkpoint: model.key(),
      request: complete,
      model_hash: model_hash ?? (checkpoint && weightsHash(checkpoint, checkpoint.loras)),
      model_outputs: [...model_outputs],
    });
    try {
      const image = await engine.generate(complete, {
        signal,
        model_outputs,
        model_hash,
        onStep: (step) => journal?.add(step.model_output),
        onAnew: (hash) => journal?.restart(hash),
      });
      if (image === undefined) return image;
      // The seed of the image is final.
      const { image_index: _, num_images_per_prompt: __, ...repeatable } = complete;
      historyIds += 1;
      const item = { id: historyIds, image, prompt: request.prompt, request: repeatable };
      history = [item, ...history].slice(0, HISTORY_MAX);
      page.show(page.current());
      const id = await images.add(request.prompt, image);
      if (id !== undefined) galleryIds.set(item.id, id);
      page.show(page.current());
      return image;
    } finally {
      // What it leaves behind expires by itself.
      await journal?.end().catch(ignore);
    }
  };

  /** Returns a generation with the LoRAs that are selected now. `files` holds the fields of the request that are still being read;
      `resumed` the steps that are done, and the weights that they were made with. */
  const taskOf = (request: ImageRequest, files: Promise<Partial<ImageRequest>>, resumed: ResumedSteps = {}): Task<ImageResult> => {
    const selected = selectedLoras();
    return (signal) => run(request, files, resumed, selected, signal);
  };
  const generate = (request: ImageRequest, resumed: ResumedSteps = {}): Promise<ImageResult | undefined> => {
    const [result = Promise.resolve(undefined)] = queue.add(request.prompt, [taskOf(request, Promise.resolve({}), resumed)]);
    return result;
  };
  const submitForm = (): void => {
    const [request, files, count, grid] = [readRequest(), readFiles(), readNumImages(), readGrid()];
    // What is not awaited now is reported by the job that needs it.
    files.catch(ignore);
    if (grid !== undefined) {
      // The cell's values take precedence over those read with the files.
      const tasks = grid.cells.map(({ overrides }) => {
        const overridden = files.then((read) => ({ ...read, ...overrides }));
        overridden.catch(ignore);
        return taskOf({ ...request, ...overrides }, overridden);
      });
      const results = queue.add(request.prompt, tasks, () => showGrid(grid));
      for (const [index, cell] of grid.cells.entries())
        results[index]?.then((image) => image && fillCell(cell, image, cell.overrides.prompt ?? request.prompt), ignore);
      return;
    }
    // Variations of one seed have the next variation seeds.
    const field = request.variation_strength ? 'variation_seed' : 'seed';
    const requests = readPromptVariants().flatMap((prompt, variant) =>
      Array.from({ length: count }, (_, index) => {
        const numbered = { ...request, [field]: ((request[field] ?? 0) + index) >>> 0 };
        // Prompts of one text and seed differ in the words that are chosen.
        return { ...numbered, prompt: withChosenWords(prompt, (numbered.seed ?? 0) + Math.imul(variant, 0x9e3779b1)) };
      }),
    );
    const tasks = requests.map((request) => taskOf(request, files));
    for (const result of queue.add(request.prompt, tasks, hideGrid)) result.catch(ignore);
  };

  return {
    generate: (request) => generate(request),
    submit() {
      page.show({ ...page.current(), notice: undefined });
      try {
        submitForm();
      } catch (thrown) {
        page.show(withFault(page.current(), faultOf(thrown)));
      }
    },
    async offerUnfinished() {
      const unfinished = await images.unfinished();
      if (unfinished === undefined || unfinished.checkpoint !== model.key()) return;
      const { request, model_outputs, model_hash } = unfinished;
      const group = element('unfinished', HTMLElement);
      group.hidden = false;
      element('unfinished-text', HTMLElement).textContent = t('unfinished', { prompt: request.prompt, step: model_outputs.length });
      element('resume', HTMLButtonElement).onclick = () => {
        group.hidden = true;
        applyRequest(request, ['image', 'mask_image']);
        generate(request, { model_outputs, model_hash }).catch(ignore);
      };
      element('discard', HTMLButtonElement).onclick = () => {
        group.hidden = true;
        images.discard();
      };
    },
    cancelRunning: () => queue.cancelRunning(),
    cancel: (id) => queue.cancel(id),
    history: () => history,
    shown: () => history.find(({ image }) => image === page.current().image),
    galleryId: ({ id }) => galleryIds.get(id),
    isOfVisit: (galleryId) => [...galleryIds.values()].includes(galleryId),
  };
}
