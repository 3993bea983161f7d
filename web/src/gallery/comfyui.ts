//! ComfyUI's graph of nodes: what its sampler, its texts and its empty latents say.
import { isRecord } from '../engine/fault';
import type { GenerateRequest } from '../engine/protocol.gen';
import type { ImageMetadata } from './image-metadata';
import { schedulerOf } from './infotext';

interface Node {
  class_type: string;
  inputs: Record<string, unknown>;
}

/** Nodes that add nothing to a request. */
const PLAIN = /^(VAE|Save|Preview|CLIPLoader|CLIPSetLastLayer|DualCLIP|TripleCLIP|LoadImage|T5)/;
/** Links followed from a sampler to a text. */
const LINKS_MAX = 16;

/** Reads the graph under the keyword `prompt`; `undefined` where there is none. A `workflow` alone is the editor's, without values. */
export function readComfyUi(prompt: string | undefined, workflow: string | undefined): ImageMetadata | undefined {
  const graph = graphOf(prompt);
  if (graph === undefined)
    return workflow?.includes('"nodes"') ? { software: 'ComfyUI', request: {}, files: [], ignored: ['workflow'] } : undefined;
  const used = new Set<Node>();
  const follow = (link: unknown): Node | undefined => {
    const node = Array.isArray(link) ? graph.get(String(link[0])) : undefined;
    if (node !== undefined) used.add(node);
    return node;
  };
  const value = (input: unknown, links = LINKS_MAX): unknown => {
    const node = follow(input);
    if (node === undefined) return Array.isArray(input) ? undefined : input;
    const { inputs } = node;
    const next = inputs.text ?? inputs.value ?? inputs.string ?? inputs.seed ?? inputs.noise_seed ?? inputs.conditioning ?? inputs.positive;
    return links > 0 ? value(next, links - 1) : undefined;
  };
  const sampler = [...graph.values()].find(({ class_type }) => class_type.includes('Sampler') && !class_type.includes('Select'));
  if (sampler === undefined) return { software: 'ComfyUI', request: {}, files: [], ignored: [] };
  used.add(sampler);
  const { inputs } = sampler;
  const guider = follow(inputs.guider)?.inputs ?? inputs;
  const selected = follow(inputs.sampler)?.inputs ?? inputs;
  const spacing = follow(inputs.sigmas)?.inputs ?? inputs;
  const latents = follow(inputs.latent_image)?.inputs ?? {};
  const model = [...graph.values()].find(({ inputs }) => typeof inputs.ckpt_name === 'string' || typeof inputs.unet_name === 'string');
  if (model !== undefined) used.add(model);

  const ignored: string[] = [];
  const number = (name: string, input: unknown): Partial<GenerateRequest> => {
    const read = value(input);
    return typeof read === 'number' && Number.isFinite(read) ? { [name]: read } : {};
  };
  const text = (input: unknown): string => {
    const read = value(input);
    return typeof read === 'string' ? read : '';
  };
  const [sampler_name, schedule] = [String(value(selected.sampler_name) ?? ''), String(value(spacing.scheduler) ?? '')];
  const scheduler = schedulerOf(sampler_name, schedule);
  if (scheduler === undefined && sampler_name !== '') ignored.push(`sampler: ${sampler_name} ${schedule}`.trim());
  const denoise = value(spacing.denoise);
  const strength = typeof denoise === 'number' && denoise < 1 ? denoise : undefined;
  const seed = value(inputs.seed ?? inputs.noise_seed ?? follow(inputs.noise)?.inputs.noise_seed);
  const isSeed = typeof seed === 'number' && seed <= 2 ** 32 - 1;
  if (typeof seed === 'number' && !isSeed) ignored.push(`seed: ${seed}`);
  const request: Partial<GenerateRequest> = {
    prompt: text(guider.positive ?? guider.conditioning),
    negative_prompt: text(guider.negative),
    prompt_weighting: true,
    ...(isSeed && { seed }),
    ...number('num_inference_steps', spacing.steps),
    ...number('guidance_scale', guider.cfg),
    ...number('width', latents.width),
    ...number('height', latents.height),
    ...(scheduler !== undefined && { scheduler }),
    ...(strength !== undefined && { strength }),
  };
  const loaders = [...graph.values()].filter(({ inputs }) => typeof inputs.lora_name === 'string');
  for (const loader of loaders) used.add(loader);
  const loras = loaders.map(({ inputs }) => {
    const scale = Number(value(inputs.strength_model) ?? 1);
    return { name: String(inputs.lora_name), scale: Number.isFinite(scale) ? scale : 1 };
  });
  const others = [...graph.values()].filter((node) => !used.has(node) && !PLAIN.test(node.class_type));
  ignored.push(...new Set(others.map(({ class_type }) => class_type)));
  const files = strength === undefined ? [] : ['image'];
  const name = model?.inputs.ckpt_name ?? model?.inputs.unet_name;
  return { software: 'ComfyUI', request, files, ignored, loras, model: typeof name === 'string' ? name : undefined };
}

/** Parses a graph: nodes by id. ComfyUI writes NaN, which is no JSON. */
function graphOf(text: string | undefined): ReadonlyMap<string, Node> | undefined {
  try {
    const json: unknown = JSON.parse((text ?? '').replace(/([:[,]\s*)NaN\b/g, '$1null'));
    if (!isRecord(json)) return undefined;
    const nodes = Object.entries(json).flatMap(([id, node]): [string, Node][] =>
      isRecord(node) && typeof node.class_type === 'string' && isRecord(node.inputs)
        ? [[id, { class_type: node.class_type, inputs: node.inputs }]]
        : [],
    );
    return nodes.length === 0 ? undefined : new Map(nodes);
  } catch {
    // Not JSON.
    return undefined;
  }
}
