// Generated from crates/protocol by `cargo xtask types`. Do not edit.

export type Request = { "kind": "open", checkpoint: string, device: DeviceKind, } | { "kind": "generate" } & Generate | { "kind": "cancel", id: number, } | { "kind": "check", id: number, variant: string, device: DeviceKind, };

export type DeviceKind = "auto" | "webgpu" | "wasm";

export type Generate = { 
/**
 * Chosen by the asker; every event about this picture carries it.
 */
id: number, prompt: string, negative_prompt: string, 
/**
 * Seed of the torch-compatible noise.
 */
seed: number, steps: number, 
/**
 * Classifier-free guidance scale; at 1 or below the negative prompt is not used.
 */
guidance: number, 
/**
 * Picture width in pixels.
 */
width: number, 
/**
 * Picture height in pixels.
 */
height: number, text: TextSource, };

export type TextSource = { "kind": "tab" } | { "kind": "companion", url: string, };

export type Limits = { 
/**
 * Width and height the checkpoint was trained at, in pixels.
 */
native_size: number, size_min: number, size_max: number, 
/**
 * Width and height must be multiples of this: the VAE's factor times the patch size.
 */
size_multiple: number, };

export type EncodeRequest = { 
/**
 * Captions to encode, in the order of the reply's rows.
 */
captions: Array<string>, };

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

export type Event = { "kind": "adapter" } & Adapter | { "kind": "loading", file: string, loaded_bytes: number, total_bytes: number, } | { "kind": "ready" } & Checkpoint | { "kind": "planned", id: number, plan: string, } | { "kind": "began", id: number, stage: Stage, } | { "kind": "step", id: number, step: number, steps: number, } | { "kind": "image" } & Image | { "kind": "cancelled", id: number, } | { "kind": "checked", id: number, rows: Array<TapRow>, } | { "kind": "fault", id: number | null, fault: Fault, };

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

export type Checkpoint = { limits: Limits, 
/**
 * Bytes of checkpoint files read.
 */
bytes: number, 
/**
 * From the first byte asked for until the weights were on the device.
 */
load_millis: number, };

export type Stage = "text" | "denoise" | "decode";

export type Image = { id: number, width: number, height: number, steps: number, seed: number, 
/**
 * The picture as a PNG file with its request in text chunks.
 */
png: Uint8Array, millis: StageMillis, };

export type StageMillis = { text: number, denoise: number, decode: number, total: number, };

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

export type FaultCode = "no_webgpu" | "device_lost" | "out_of_memory" | "gpu_validation" | "bad_request" | "bad_weights" | "bad_config" | "network" | "companion" | "internal";
