// Generated from crates/protocol by `cargo xtask types`. Do not edit.

export type Request = { "kind": "open", checkpoint: string, device: DeviceKind, text: boolean, store: StoreKind, convert: ConvertTo, memory_bytes: number | null, } | { "kind": "estimate", id: number, checkpoint: string, device: DeviceKind, text: boolean, store: StoreKind, convert: ConvertTo, least_bytes: number, } | { "kind": "generate" } & Generate | { "kind": "resume", request: Generate, said: Uint8Array[], } | { "kind": "cancel", id: number, } | { "kind": "check", id: number, variant: string, device: DeviceKind, } | { "kind": "keep", id: number, task: KeepTask, store: StoreKind, };

export type DeviceKind = "auto" | "webgpu" | "wasm";

export type StoreKind = "auto" | "indexeddb" | "opfs" | "memory";

export type ConvertTo = "auto" | "f32" | "f16" | "q8" | "q4";

export type KeepTask = { "kind": "list" } | { "kind": "verify", checkpoint: string, } | { "kind": "delete", checkpoint: string, };

export type Generate = { 
/**
 * Chosen by the asker; every event about this picture carries it.
 */
id: number, 
/**
 * May end in `--ar H:W` or `--hw H:W`, which choose the size.
 */
prompt: string, negative_prompt?: string, 
/**
 * Seed of the torch-compatible noise; one generator draws for all pictures.
 */
seed?: number, 
/**
 * A seed for each picture, in place of `seed`.
 */
seeds?: Array<number>, 
/**
 * diffusers' `num_inference_steps`.
 */
steps?: number, 
/**
 * The timesteps to denoise at, downwards, in place of `steps`.
 */
timesteps?: Array<number>, 
/**
 * The noise levels to denoise at, downwards, in place of `steps`.
 */
sigmas?: Array<number>, 
/**
 * Classifier-free `guidance_scale`; at 1 or below the negative prompt is not used.
 */
guidance?: number, 
/**
 * Perturbed-attention guidance's scale; off at 0.
 */
pag_scale?: number, 
/**
 * What `pag_scale` falls by with each timestep below 1000.
 */
pag_adaptive_scale?: number, 
/**
 * The blocks whose attention is perturbed; the middle one where it is left out.
 */
pag_applied_layers?: Array<number>, num_images_per_prompt?: number, 
/**
 * Picture width in pixels; the checkpoint's own where it is left out.
 */
width?: number, 
/**
 * Picture height in pixels; the checkpoint's own where it is left out.
 */
height?: number, 
/**
 * DDIM's η, from 0 to 1; other schedulers have none.
 */
eta?: number, output_type?: OutputType, 
/**
 * Clean the prompts of links, markup and the like.
 */
clean_caption?: boolean, 
/**
 * Draw at the nearest size the network was trained on, then resize and crop.
 */
use_resolution_binning?: boolean, 
/**
 * Tokens a caption is padded or cut to: 120 for PixArt-α, 300 for PixArt-Σ.
 */
max_sequence_length?: number, 
/**
 * A scheduler with its settings, as `euler:use_karras_sigmas=true`; the checkpoint's own where it is left out.
 */
scheduler?: string, 
/**
 * The name of one of [`crate::STYLES`].
 */
style?: string, 
/**
 * A PNG to draw over.
 */
image?: Uint8Array, 
/**
 * A PNG that is white where `image` is to be drawn anew, and black where it is to stay.
 */
mask_image?: Uint8Array, 
/**
 * How far `image` is given up, from above 0 to 1, all of it: 0.8 where it is left out, and 1 with a mask.
 */
strength?: number, 
/**
 * A safetensors file with `latents` `[pictures, 4, H/8, W/8]`: normal noise to draw from, in place of the seed's.
 */
latents?: Uint8Array, text?: TextSource, 
/**
 * Keep the latent after each step, to compare it with another device's.
 */
record?: boolean, };

export type OutputType = "png" | "np" | "pt" | "latent";

export type TextSource = { "kind": "tab" } | { "kind": "companion", url: string, token?: string, } | { "kind": "file", bytes: Uint8Array, };

export type Limits = { 
/**
 * Width and height the checkpoint was trained at, in pixels.
 */
native_size: number, size_min: number, size_max: number, 
/**
 * Width and height must be multiples of this: the VAE's factor times the patch size.
 */
size_multiple: number, 
/**
 * The checkpoint's size has resolution bins: a picture drawn in its bin may have any sides in the range.
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

export type EncodeReply = { 
/**
 * `[captions, tokens, channels]` of `embeds`.
 */
shape: [number, number, number], 
/**
 * Row-major f32 text embeddings.
 */
embeds: Array<number>, 
/**
 * Row-major `[captions, tokens]`: 1 for a token to attend to, 0 for padding.
 */
mask: Array<number>, };

export type Event = { "kind": "adapter" } & Adapter | { "kind": "loading" } & Loading | { "kind": "compiling", compiled: number, shaders: number, } | { "kind": "estimated" } & Estimate | { "kind": "ready" } & Checkpoint | { "kind": "planned", id: number, plan: string, bytes: number, } | { "kind": "note", id: number, text: string, } | { "kind": "began", id: number, stage: Stage, } | { "kind": "step" } & Step | { "kind": "image" } & Image | { "kind": "cancelled", id: number, } | { "kind": "checked", id: number, rows: Array<TapRow>, } | { "kind": "kept", id: number, checkpoints: Array<KeptCheckpoint>, } | { "kind": "fault", id: number | null, fault: Fault, };

export type Adapter = { 
/**
 * As the browser or driver reports it: vendor, architecture, description.
 */
name: string, 
/**
 * The graphics interface it is reached through.
 */
backend: string, 
/**
 * True where the adapter is a GPU that is known to be played by the processor.
 */
software: boolean, 
/**
 * Why it was taken, in words.
 */
why: string, };

export type Loading = { stage: LoadingStage, 
/**
 * What the bytes are of.
 */
file: string, loaded_bytes: number, 
/**
 * `null` where nobody tells how many there will be.
 */
total_bytes: number | null, 
/**
 * Over the last seconds; 0 at first.
 */
bytes_per_second: number, 
/**
 * `null` while it cannot be told.
 */
seconds_left: number | null, };

export type LoadingStage = "wait" | "fetch" | "convert" | "upload";

export type KeptCheckpoint = { checkpoint: string, 
/**
 * `indexeddb`, `opfs` or `memory`.
 */
store: string, bytes: number, 
/**
 * Records that are missing, or were found damaged and removed.
 */
missing: number, 
/**
 * Another checkpoint was at its address when it was last verified.
 */
changed: boolean, 
/**
 * Milliseconds since 1970.
 */
saved_at: number, };

export type Estimate = { id: number, 
/**
 * Bytes that are still to be fetched.
 */
fetch_bytes: number, 
/**
 * Bytes that the browser offers for what is kept; `null` where it does not tell.
 */
room_bytes: number | null, 
/**
 * Of the connection; `null` where it was not measured.
 */
bytes_per_second: number | null, 
/**
 * `null` where it was not measured.
 */
drawing: Cost | null, };

export type Cost = { 
/**
 * Width and height in pixels.
 */
size: number, steps: number, 
/**
 * What has to be held at once, all weights included that are loaded with the checkpoint.
 */
memory_bytes: number, 
/**
 * By the time that the same kinds of operations took in about a second, without reading the prompt.
 */
seconds: number, };

export type Checkpoint = { limits: Limits, 
/**
 * What it is best asked for.
 */
preset: Preset, 
/**
 * What it, and others of its kind, may be asked for.
 */
presets: Array<Preset>, 
/**
 * The names that a request's `scheduler` may be.
 */
schedulers: Array<string>, 
/**
 * The names that a request's `style` may be.
 */
styles: Array<string>, 
/**
 * Bytes that went to the device.
 */
bytes: number, 
/**
 * Where the checkpoint is kept: `indexeddb`, `opfs` or `memory`.
 */
store: string, 
/**
 * From the first byte asked for until the weights were on the device.
 */
load_millis: number, 
/**
 * Of that, from the store to the device.
 */
upload_millis: number, 
/**
 * The module's memory, which never shrinks: the most that loading took.
 */
heap_bytes: number, };

export type Preset = { name: string, steps: number, guidance: number, 
/**
 * The checkpoint's own scheduler where there is none.
 */
scheduler: string | null, timesteps: Array<number> | null, max_sequence_length: number, pag_scale: number, };

export type Step = { id: number, step: number, steps: number, 
/**
 * The picture as it looks so far; `null` where nothing is known of the autoencoder's colours.
 */
preview: Preview | null, 
/**
 * What the network said: f32, little-endian. With those of all steps before, [`crate::Request::Resume`] goes on from here.
 */
said: Uint8Array, };

export type Preview = { width: number, height: number, 
/**
 * Red, green and blue of each pixel, row by row.
 */
rgb: Uint8Array, };

export type Stage = "text" | "denoise" | "decode";

export type Image = { id: number, width: number, height: number, steps: number, seed: number, 
/**
 * The picture as a PNG file with its request in text chunks.
 */
png: Uint8Array, 
/**
 * What the picture was on its way, as a safetensors file, where that was asked for.
 */
recording: Uint8Array | null, millis: StageMillis, memory: Memory, };

export type StageMillis = { text: number, denoise: number, decode: number, total: number, };

export type Memory = { 
/**
 * The module's memory, which never shrinks.
 */
heap_bytes: number, 
/**
 * Of the GPU's, where there is one: weights, and pages kept for the next picture.
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
 * The bound that `max_relative` (for the 8-bit picture: `max_abs`) was held to.
 */
tolerance: number, verdict: Verdict, };

export type Verdict = { "kind": "pass" } | { "kind": "fail", why: string, } | { "kind": "not_built", why: string, };

export type Fault = { code: FaultCode, 
/**
 * What failed, and the value it failed on.
 */
what: string, 
/**
 * What the reader can do next.
 */
remedy: string, };

export type FaultCode = "no_webgpu" | "device_lost" | "out_of_memory" | "gpu_validation" | "bad_request" | "bad_weights" | "bad_config" | "network" | "storage" | "companion" | "busy" | "internal";
