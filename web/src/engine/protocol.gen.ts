// Generated from crates/protocol by `cargo xtask types`. Do not edit.

export type EngineRequest = { "kind": "open", checkpoint: string, device: DeviceKind, load_text_encoder: boolean, storage: StorageBackend, dtype: WeightDtype, memory_limit_bytes: number | null, components?: ComponentPlaces, loras?: Array<LoraSource>, } | { "kind": "estimate", id: number, checkpoint: string, device: DeviceKind, load_text_encoder: boolean, storage: StorageBackend, dtype: WeightDtype, measure_above_bytes: number, components?: ComponentPlaces, } | { "kind": "set_loras", id: number, loras: Array<LoraSource>, } | { "kind": "generate" } & GenerateRequest | { "kind": "resume", request: GenerateRequest, model_outputs: Uint8Array[], text_encoder_layer?: TextEncoderLayer, } | { "kind": "cancel", id: number, } | { "kind": "count_tokens", id: number, request: GenerateRequest, } | { "kind": "check", id: number, variant: string, device: DeviceKind, } | { "kind": "storage", id: number, task: StorageTask, storage: StorageBackend, };

export type ComponentPlaces = { transformer?: string, vae?: string, text_encoder?: string, tokenizer?: string, scheduler?: string, };

export type LoraSource = { 
/**
 * The URL of a `.safetensors` file or of PEFT's folder, which ends in `/`; or the name of local files.
 */
source: string, 
/**
 * The name in the metadata of images.
 */
name: string, 
/**
 * The factor of its update. At 0 it is off.
 */
scale: number, };

export type DeviceKind = "auto" | "webgpu" | "wasm";

export type StorageBackend = "auto" | "indexeddb" | "opfs" | "memory";

export type WeightDtype = "auto" | "f32" | "f16" | "q8" | "q4";

export type StorageTask = { "kind": "list" } | { "kind": "verify", checkpoint: string, } | { "kind": "delete", checkpoint: string, } | { "kind": "delete_prompts" };

export type GenerateRequest = { 
/**
 * Chosen by the client; every event about this image carries it.
 */
id: number, 
/**
 * May end in `--ar H:W` or `--hw H:W`, which choose the size.
 */
prompt: string, negative_prompt?: string, 
/**
 * Read `(word:1.3)`, `(word)` and `[word]` in the prompts as weights of words, and `\(` as a parenthesis. Without it brackets are
 * text.
 */
prompt_weighting?: boolean, 
/**
 * Seed of the torch-compatible noise; one generator serves all images of the request.
 */
seed?: number, 
/**
 * A seed for each image, in place of `seed`.
 */
seeds?: Array<number>, 
/**
 * Seed of the noise that the initial noise is turned towards by `variation_strength`. The images of a request all start from
 * the noise of their seed itself, each with the next variation seed, as in AUTOMATIC1111's web UI.
 */
variation_seed?: number, 
/**
 * Part of the way to the noise of `variation_seed`, from 0 (off) to 1.
 */
variation_strength?: number, 
/**
 * Number of denoising steps.
 */
num_inference_steps?: number, 
/**
 * The timesteps to denoise at, downwards, in place of `num_inference_steps`.
 */
timesteps?: Array<number>, 
/**
 * The noise levels to denoise at, downwards, in place of `num_inference_steps`.
 */
sigmas?: Array<number>, 
/**
 * Classifier-free guidance scale. At 1 or below guidance is off and the negative prompt is ignored.
 */
guidance_scale?: number, 
/**
 * Scale of perturbed-attention guidance; off at 0.
 */
pag_scale?: number, 
/**
 * Decrease of `pag_scale` with each timestep below 1000.
 */
pag_adaptive_scale?: number, 
/**
 * Transformer blocks whose self-attention is perturbed; the middle one by default.
 */
pag_applied_layers?: Array<number>, num_images_per_prompt?: number, 
/**
 * Generate only this one of the `num_images_per_prompt` images, counted from 0. Its pixels are those of the whole request.
 */
image_index?: number, 
/**
 * Image width in pixels; the checkpoint's native size by default.
 */
width?: number, 
/**
 * Image height in pixels; the checkpoint's native size by default.
 */
height?: number, 
/**
 * DDIM's η, from 0 to 1; ignored by schedulers without it.
 */
eta?: number, output_type?: OutputType, 
/**
 * Clean the prompts of links, markup and the like.
 */
clean_caption?: boolean, 
/**
 * Generate at the nearest resolution bin, then resize and crop.
 */
use_resolution_binning?: boolean, 
/**
 * Tokens a caption is padded or cut to: 120 for PixArt-α, 300 for PixArt-Σ.
 */
max_sequence_length?: number, 
/**
 * A scheduler with its settings, as `euler:use_karras_sigmas=true`; the checkpoint's by default.
 */
scheduler?: string, 
/**
 * The name of one of [`crate::STYLES`].
 */
style?: string, 
/**
 * The input image of img2img and inpainting, a PNG; a companion takes JPEG and WebP, too. EXIF orientation is applied, alpha ignored.
 */
image?: Uint8Array, 
/**
 * The inpainting mask, a PNG: white pixels are repainted, black pixels of `image` are preserved.
 */
mask_image?: Uint8Array, 
/**
 * Denoising strength in (0, 1]; 1 ignores the input image. Default 0.8, with a mask 1.
 */
strength?: number, 
/**
 * Factor of both sides in a second pass, above 1 up to 4: the image is resized by it and denoised again with `hires_strength`, as
 * AUTOMATIC1111's hires fix does. Off by default.
 */
hires_scale?: number, 
/**
 * Denoising strength of the second pass in (0, 1]. Default 0.7.
 */
hires_strength?: number, 
/**
 * Denoising steps that `hires_strength` takes its part of; those of the first pass by default.
 */
hires_steps?: number, 
/**
 * Initial noise, in place of the seed's: a safetensors file with `latents` `[images, 4, H/8, W/8]`.
 */
latents?: Uint8Array, text_encoder?: TextEncoderSource, 
/**
 * Record the latents after each step, to compare them with another device's.
 */
record?: boolean, };

export type OutputType = "png" | "np" | "pt" | "latent";

export type TextEncoderSource = { "kind": "tab" } | { "kind": "companion", url: string, token?: string, } | { "kind": "file", bytes: Uint8Array, };

export type Limits = { 
/**
 * Width and height of the training images, in pixels.
 */
native_size: number, size_min: number, size_max: number, 
/**
 * Divisor of width and height: the VAE's scale factor times the patch size.
 */
size_multiple: number, 
/**
 * True if there are resolution bins for the native size. An image generated in its bin may have any sides in the range.
 */
binned: boolean, };

export type EncodeRequest = { 
/**
 * Captions to encode, in the order of the reply's rows.
 */
captions: Array<string>, 
/**
 * Tokens a caption is padded or cut to: 120 for PixArt-α, 300 for PixArt-Σ.
 */
max_sequence_length?: number, };

export type EncodeResponse = { 
/**
 * `[captions, tokens, channels]` of `embeds`.
 */
shape: [number, number, number], 
/**
 * Row-major f32 prompt embeddings.
 */
embeds: Array<number>, 
/**
 * Row-major `[captions, tokens]`: 1 for a token to attend to, 0 for padding.
 */
attention_mask: Array<number>, 
/**
 * Tokens of each caption, and what was truncated; empty where the encoder does not tell.
 */
token_counts?: Array<TokenCount>, };

export type TokenCount = { 
/**
 * Tokens of the whole prompt, with the end token.
 */
tokens: number, 
/**
 * Tokens that the text encoder reads: the request's `max_sequence_length`.
 */
max_tokens: number, 
/**
 * The end of the cleaned prompt that is not read; empty where all of it is.
 */
truncated: string, };

export type EngineEvent = { "kind": "adapter" } & AdapterInfo | { "kind": "loading" } & LoadProgress | { "kind": "compiling", compiled: number, shaders: number, } | { "kind": "estimated" } & Estimate | { "kind": "ready" } & Checkpoint | { "kind": "planned", id: number, plan: string, peak_bytes: number, } | { "kind": "note", id: number, text: string, } | { "kind": "stage_started", id: number, stage: GenerationStage, } | { "kind": "text_encoder_layer" } & TextEncoderLayer | { "kind": "step" } & DenoisingStep | { "kind": "image" } & ImageResult | { "kind": "cancelled", id: number, } | { "kind": "checked", id: number, rows: Array<TapRow>, } | { "kind": "stored_checkpoints", id: number, checkpoints: Array<StoredCheckpoint>, prompt_cache: PromptCacheSize, } | { "kind": "loras_set", id: number, loras: Array<LoraScale>, } | { "kind": "tokens_counted" } & TokensCounted | { "kind": "fault", id: number | null, fault: Fault, };

export type AdapterInfo = { 
/**
 * Vendor, architecture and description, as the browser or driver reports them.
 */
name: string, 
/**
 * `webgpu`, or `wasm` for the CPU.
 */
backend: string, 
/**
 * WebGPU's `isFallbackAdapter`: the adapter emulates a GPU on the CPU.
 */
is_fallback_adapter: boolean, 
/**
 * Reason for the choice of this device, in words.
 */
reason: string, };

export type LoadProgress = { stage: LoadStage, 
/**
 * The file that the bytes belong to.
 */
file: string, loaded_bytes: number, 
/**
 * `null` where the total is unknown.
 */
total_bytes: number | null, 
/**
 * Average of the last seconds; 0 at first.
 */
bytes_per_second: number, 
/**
 * `null` while it is unknown.
 */
seconds_left: number | null, };

export type LoadStage = "wait" | "fetch" | "convert" | "upload";

export type StoredCheckpoint = { 
/**
 * The checkpoint's URL or the name of its local files; the places of its components too, where they are in several.
 */
checkpoint: string, kind: StoredKind, 
/**
 * The request that opens a checkpoint whose components are in several places.
 */
composition?: StoredComposition, 
/**
 * `indexeddb`, `opfs` or `memory`.
 */
storage: string, bytes: number, 
/**
 * Shards that are missing, or were found damaged and deleted.
 */
missing: number, 
/**
 * True if the server had another checkpoint at the last verification.
 */
changed: boolean, 
/**
 * Milliseconds since 1970.
 */
saved_at: number, };

export type StoredKind = "model" | "text_encoder" | "lora";

export type StoredComposition = { checkpoint: string, components: ComponentPlaces, };

export type PromptCacheSize = { prompts: number, bytes: number, };

export type Estimate = { id: number, 
/**
 * Bytes that are still to be downloaded.
 */
download_bytes: number, 
/**
 * Storage quota that is not in use; `null` where the browser does not report it.
 */
free_storage_bytes: number | null, 
/**
 * Throughput of the connection; `null` where it was not measured.
 */
bytes_per_second: number | null, 
/**
 * `null` where it was not measured.
 */
generation_cost: GenerationCost | null, };

export type GenerationCost = { 
/**
 * Width and height in pixels.
 */
size: number, num_inference_steps: number, 
/**
 * Peak memory, with all weights that are loaded with the checkpoint.
 */
memory_bytes: number, 
/**
 * Extrapolated from about a second of the same operations, without the text encoder.
 */
seconds: number, };

export type Checkpoint = { limits: Limits, 
/**
 * The recommended preset.
 */
preset: Preset, 
/**
 * All presets.
 */
presets: Array<Preset>, 
/**
 * Valid names of a request's `scheduler`.
 */
schedulers: Array<string>, 
/**
 * Valid names of a request's `style`.
 */
styles: Array<string>, 
/**
 * Bytes of weights on the device.
 */
weight_bytes: number, 
/**
 * Name of the checkpoint, as in the metadata of its images.
 */
model: string, 
/**
 * Hash of the packed checkpoint, as in the metadata of its images.
 */
model_hash: string | null, 
/**
 * Hash of the packed text encoder; none where prompts are encoded elsewhere.
 */
text_encoder_hash: string | null, 
/**
 * Weight format of the transformer's matrices: `f32`, `bf16`, `f16`, `q8`, `q4_affine` or `q4`.
 */
weight_format: string, 
/**
 * LoRAs merged into the transformer.
 */
loras: Array<LoraScale>, 
/**
 * Storage backend of the checkpoint: `indexeddb`, `opfs` or `memory`.
 */
storage: string, 
/**
 * From the first byte requested until the weights were on the device.
 */
load_millis: number, 
/**
 * Part of `load_millis`: from storage to the device.
 */
upload_millis: number, 
/**
 * Size of the wasm heap, which never shrinks: the peak of loading.
 */
heap_bytes: number, };

export type LoraScale = { name: string, scale: number, };

export type Preset = { name: string, num_inference_steps: number, guidance_scale: number, 
/**
 * The checkpoint's scheduler where it is `None`.
 */
scheduler: string | null, timesteps: Array<number> | null, max_sequence_length: number, pag_scale: number, };

export type TokensCounted = { id: number, prompt: TokenCount | null, negative_prompt: TokenCount | null, };

export type TextEncoderLayer = { id: number, layer: number, layers: number, 
/**
 * Whether each block is read from storage when it is needed, and dropped after it: the device has no room for all.
 */
is_streamed: boolean, 
/**
 * The hidden state `[B, L, C]` after this block: f32, little-endian. It is an input of [`crate::EngineRequest::Resume`].
 */
hidden_state: Uint8Array, };

export type DenoisingStep = { id: number, step: number, 
/**
 * Steps of all passes.
 */
total_steps: number, 
/**
 * 1, or 2 in the second pass of a request with `hires_scale`.
 */
pass: number, 
/**
 * The image so far; `null` where the VAE's latent RGB factors are unknown.
 */
preview: PreviewImage | null, 
/**
 * The guided model output of this step: f32, little-endian. Those of all steps so far are the input of
 * [`crate::EngineRequest::Resume`].
 */
model_output: Uint8Array, };

export type PreviewImage = { width: number, height: number, 
/**
 * Red, green and blue of each pixel, row by row.
 */
rgb: Uint8Array, };

export type GenerationStage = "text" | "denoise" | "decode";

export type ImageResult = { id: number, width: number, height: number, 
/**
 * Steps that were run: fewer than requested where `strength` is below 1.
 */
num_inference_steps: number, seed: number, 
/**
 * The image as a PNG file with its request in text chunks.
 */
png: Uint8Array, 
/**
 * The latents after each step as a safetensors file, where `record` was set.
 */
recording: Uint8Array | null, millis: StageMillis, memory: MemoryUsage, };

export type StageMillis = { text: number, denoise: number, decode: number, total: number, };

export type MemoryUsage = { 
/**
 * Size of the wasm heap, which never shrinks.
 */
heap_bytes: number, 
/**
 * GPU memory, where there is a GPU: weights, and pooled pages.
 */
device_bytes: number | null, };

export type TapRow = { variant: string, tap: string, 
/**
 * Largest absolute difference; not finite where either side is.
 */
max_abs: number, 
/**
 * `max_abs` over the largest magnitude of the recorded tensor.
 */
max_relative: number, 
/**
 * The bound that `max_relative` (for the 8-bit image: `max_abs`) was held to.
 */
tolerance: number, verdict: Verdict, };

export type Verdict = { "kind": "pass" } | { "kind": "fail", why: string, } | { "kind": "not_built", why: string, };

export type Catalogue = { models: Array<CatalogueModel>, 
/**
 * Smaller files of the models' text encoder.
 */
text_encoders: Array<CatalogueTextEncoder>, };

export type CatalogueModel = { 
/**
 * As `pixart-sigma-512`.
 */
name: string, title: string, 
/**
 * Licence of the transformer's repository, by the hub's identifier.
 */
license: string, 
/**
 * A name of [`Preset::NAMES`](crate::Preset::NAMES).
 */
preset: string, 
/**
 * Side of the native image in pixels.
 */
size: number, 
/**
 * Memory of one guided image of this size with weights in q8, without the text encoder.
 */
memory_bytes: number, 
/**
 * Multiply-accumulates of one image of this size with the preset, without the text encoder: the time on a device is this over
 * its rate.
 */
macs: number, 
/**
 * Variant of the weight files, where a component has one.
 */
variant: string | null, 
/**
 * `owner/name@revision` of the repository with the pipeline's `model_index.json`.
 */
base: string, components: CatalogueComponents, };

export type CatalogueComponents = { transformer: CatalogueComponent, vae: CatalogueComponent, text_encoder: CatalogueComponent, tokenizer: CatalogueComponent, scheduler: CatalogueComponent, };

export type CatalogueTextEncoder = { 
/**
 * As `t5-xxl-q8_0`.
 */
name: string, title: string, component: CatalogueComponent, };

export type CatalogueComponent = { 
/**
 * `owner/name`.
 */
repository: string, 
/**
 * A commit, or a branch.
 */
revision: string, 
/**
 * By the hub's identifier.
 */
license: string, 
/**
 * The network, as `pixart synth --arch` names it; none for a tokenizer or a scheduler.
 */
architecture: string | null, 
/**
 * Dtype of the weights, or the quantization of a GGUF file: `q4_k_m`.
 */
dtype: string | null, 
/**
 * Whether the files were downloaded and generated an image with this program.
 */
verified: boolean, files: Array<CatalogueFile>, };

export type CatalogueFile = { path: string, bytes: number, bytes_from: BytesFrom, };

export type BytesFrom = "pointer" | "listing" | "inferred";

export type Fault = { code: FaultCode, 
/**
 * Description of the failure, with the value that caused it.
 */
what: string, 
/**
 * Next step for the user.
 */
remedy: string, };

export type FaultCode = "no_webgpu" | "device_lost" | "out_of_memory" | "gpu_validation" | "bad_request" | "bad_weights" | "bad_config" | "network" | "storage" | "companion" | "busy" | "internal";

/** The current name of each former field of a `GenerateRequest`. */
export const FORMER_NAMES = {
  steps: 'num_inference_steps',
  guidance: 'guidance_scale',
  text: 'text_encoder',
} as const;
