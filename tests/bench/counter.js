//! Counts WebGPU calls of any engine: wraps the prototypes, and sets `globalThis.counter`. A plain
//! script without imports: inject it before a page's own, or begin a worker with it (`importScripts` or `import`).
//!
//! `reset()` begins a measurement; `read()` returns the counts since then:
//!   dispatches         direct and indirect ones, as they are encoded
//!   pipelines          compute and render, however created
//!   pipeline_ms        time in which at least one pipeline was being created, by the caller's clock
//!   submits            calls of `submit`
//!   bytes              over all dispatches, the sizes of the buffers in the bind groups that are set then: an upper
//!                      bound of what a dispatch touches once
//!   bytes_written      `writeBuffer`, and ranges mapped for writing
//!   bytes_read         ranges mapped for reading
//!   live_buffer_bytes  of buffers created and not destroyed since the script ran, collected ones included
//!   peak_buffer_bytes  the most that were live
(() => {
  const counts = {};
  let live = 0;
  let creating = 0;
  let creating_since = 0;

  function reset() {
    Object.assign(counts, {
      dispatches: 0,
      pipelines: 0,
      pipeline_ms: 0,
      submits: 0,
      bytes: 0,
      bytes_written: 0,
      bytes_read: 0,
      peak_buffer_bytes: live,
    });
    creating_since = performance.now();
  }

  function read() {
    const pending = creating > 0 ? performance.now() - creating_since : 0;
    return { ...counts, pipeline_ms: counts.pipeline_ms + pending, live_buffer_bytes: live };
  }

  /** Puts `make(original)` in the place of methods; where there is no WebGPU there is nothing to wrap. */
  function wrap(type, names, make) {
    const prototype = globalThis[type]?.prototype;
    for (const name of prototype ? names : []) {
      prototype[name] = make(prototype[name]);
    }
  }

  /** Runs `count` before the method. */
  const before = (count) => (original) =>
    function (...args) {
      count(this, ...args);
      return original.apply(this, args);
    };

  function beginCreating() {
    counts.pipelines += 1;
    if (creating === 0) creating_since = performance.now();
    creating += 1;
  }

  function endCreating() {
    creating -= 1;
    if (creating === 0) counts.pipeline_ms += performance.now() - creating_since;
  }

  wrap(
    'GPUDevice',
    ['createComputePipelineAsync', 'createRenderPipelineAsync'],
    (original) =>
      function (descriptor) {
        beginCreating();
        const created = original.call(this, descriptor);
        created.then(endCreating, endCreating);
        return created;
      },
  );
  wrap(
    'GPUDevice',
    ['createComputePipeline', 'createRenderPipeline'],
    (original) =>
      function (descriptor) {
        beginCreating();
        try {
          return original.call(this, descriptor);
        } finally {
          // The call returns at once. The device answers in order: the answer to an error scope that holds nothing tells
          // that the pipeline is there.
          this.pushErrorScope('out-of-memory');
          this.popErrorScope().then(endCreating, endCreating);
        }
      },
  );

  const group_bytes = new WeakMap();
  const bound = new WeakMap();

  function bindingBytes({ resource }) {
    const { buffer, offset = 0, size } = resource instanceof GPUBuffer ? { buffer: resource } : resource;
    return buffer === undefined ? 0 : (size ?? buffer.size - offset);
  }

  wrap(
    'GPUDevice',
    ['createBindGroup'],
    (original) =>
      function (descriptor) {
        const group = original.call(this, descriptor);
        const entries = [...descriptor.entries];
        group_bytes.set(
          group,
          entries.reduce((total, entry) => total + bindingBytes(entry), 0),
        );
        return group;
      },
  );
  wrap(
    'GPUComputePassEncoder',
    ['setBindGroup'],
    before((pass, index, group) => {
      if (!bound.has(pass)) bound.set(pass, new Map());
      bound.get(pass).set(index, group);
    }),
  );
  wrap(
    'GPUComputePassEncoder',
    ['dispatchWorkgroups', 'dispatchWorkgroupsIndirect'],
    before((pass) => {
      counts.dispatches += 1;
      for (const group of bound.get(pass)?.values() ?? []) counts.bytes += group_bytes.get(group) ?? 0;
    }),
  );

  const alive = new WeakSet();
  const mapped_for = new WeakMap();

  wrap(
    'GPUDevice',
    ['createBuffer'],
    (original) =>
      function (descriptor) {
        const buffer = original.call(this, descriptor);
        alive.add(buffer);
        live += buffer.size;
        counts.peak_buffer_bytes = Math.max(counts.peak_buffer_bytes, live);
        if (descriptor.mappedAtCreation) mapped_for.set(buffer, 'bytes_written');
        return buffer;
      },
  );
  wrap(
    'GPUBuffer',
    ['destroy'],
    before((buffer) => {
      if (alive.delete(buffer)) live -= buffer.size;
    }),
  );
  wrap(
    'GPUBuffer',
    ['mapAsync'],
    before((buffer, mode) => {
      mapped_for.set(buffer, mode === GPUMapMode.READ ? 'bytes_read' : 'bytes_written');
    }),
  );
  wrap(
    'GPUBuffer',
    ['getMappedRange'],
    (original) =>
      function (...args) {
        const range = original.apply(this, args);
        counts[mapped_for.get(this)] += range.byteLength;
        return range;
      },
  );
  wrap(
    'GPUQueue',
    ['submit'],
    before(() => {
      counts.submits += 1;
    }),
  );
  wrap(
    'GPUQueue',
    ['writeBuffer'],
    before((_queue, _buffer, _at, data, first = 0, length) => {
      const element = data.BYTES_PER_ELEMENT ?? 1;
      counts.bytes_written += length === undefined ? data.byteLength - first * element : length * element;
    }),
  );

  reset();
  globalThis.counter = { reset, read };
})();
