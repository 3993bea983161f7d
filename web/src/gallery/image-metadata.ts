//! What is read from an image file's metadata, of whatever tool.
import type { GenerateRequest, LoraScale } from '../engine/protocol.gen';

/** The settings that a file holds. */
export interface ImageMetadata {
  /** The program that wrote them. */
  software: string;
  request: Partial<GenerateRequest>;
  /** Request fields of the files that the image was generated from. The file does not hold those. */
  files: readonly string[];
  /** Settings that a request has no field for, with their values. */
  ignored: readonly string[];
  /** Several images share the request, and the file does not say which of them it is. */
  ambiguous?: boolean;
  model?: string | undefined;
  model_hash?: string | undefined;
  weight_format?: string | undefined;
  /** LoRAs in the transformer. */
  loras?: readonly LoraScale[];
  /** Components from other places than the model, in words. */
  components?: readonly string[];
}
