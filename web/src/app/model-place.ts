//! Where a model's components are.

import type { Component } from '../checkpoints/place';

/** A place: its URL, or a name for the user's `files`. */
export interface ModelPlace {
  place: string;
  files?: ReadonlyMap<string, File>;
}

export type ModelComponents = Partial<Record<Component, ModelPlace>>;
