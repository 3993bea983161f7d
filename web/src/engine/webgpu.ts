//! WebGPU adapters as wgpu and cubecl expect them: both require what WebGPU leaves optional, and use it for nothing here. cubecl
//! panics in a browser without `timestamp-query`, with which it profiles; wgpu reads `info`. Drop when they no longer do.

const TIMESTAMP_QUERY = 'timestamp-query';
const UNNAMED = { vendor: '', architecture: '', device: '', description: '', subgroupMinSize: 4, subgroupMaxSize: 128 };

interface DeviceDescriptor {
  requiredFeatures?: Iterable<string>;
}

/** The part of `GPUAdapter` that is used here. */
interface Adapter {
  readonly features: ReadonlySet<string>;
  readonly info?: object;
  requestDevice(descriptor?: DeviceDescriptor): Promise<unknown>;
}

interface Gpu {
  requestAdapter(options?: object): Promise<Adapter | null>;
}

/** Makes every adapter that this worker requests from now on report `timestamp-query` and `info`. No device is asked for a feature
    that its adapter lacks. */
export function completeAdapters(): void {
  const { gpu } = navigator as { gpu?: Gpu };
  if (gpu === undefined) return;
  const request = gpu.requestAdapter.bind(gpu);
  Object.defineProperty(gpu, 'requestAdapter', {
    value: async (options?: object) => {
      const adapter = await request(options);
      return adapter && completed(adapter);
    },
  });
}

function completed(adapter: Adapter): Adapter {
  const { features } = adapter;
  if (!features.has(TIMESTAMP_QUERY)) {
    const request = adapter.requestDevice.bind(adapter);
    const requestDevice = (descriptor: DeviceDescriptor = {}): Promise<unknown> =>
      request({ ...descriptor, requiredFeatures: [...(descriptor.requiredFeatures ?? [])].filter((name) => features.has(name)) });
    Object.defineProperty(adapter, 'features', { value: new Set([...features, TIMESTAMP_QUERY]) });
    Object.defineProperty(adapter, 'requestDevice', { value: requestDevice });
  }
  if (adapter.info === undefined) Object.defineProperty(adapter, 'info', { value: UNNAMED });
  return adapter;
}
