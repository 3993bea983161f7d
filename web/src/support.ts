//! What the browser must offer before anything is downloaded. Asks for no adapter: the worker does that.
import { fault } from './fault';
import type { Fault } from './protocol.gen';

/** Why no picture can be drawn in this browser; `undefined` where one can. */
export function missingSupport(): Fault | undefined {
  if ('gpu' in navigator) return undefined;
  return window.isSecureContext
    ? fault(
        'no_webgpu',
        'This browser offers no WebGPU, so no picture can be drawn here.',
        'use a current Chrome, Edge, Safari or Firefox with WebGPU switched on',
      )
    : fault(
        'no_webgpu',
        `Browsers offer WebGPU to secure pages only, and ${location.origin} is not one.`,
        'open the page over https, or from localhost',
      );
}
