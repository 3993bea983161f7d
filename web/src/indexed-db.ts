//! Blobs in IndexedDB, which WebKit does not store in a private window.

/** The errors of browsers that store no Blobs; WebKit's is the first. */
const REFUSALS = ['UnknownError', 'DataCloneError'];

/** Calls `put` with a Blob of the bytes, and with the bytes themselves where the browser stores no Blobs. */
export async function putBlob(
  bytes: Uint8Array<ArrayBuffer>,
  put: (value: Blob | Uint8Array<ArrayBuffer>) => Promise<unknown>,
): Promise<void> {
  try {
    await put(new Blob([bytes]));
  } catch (thrown) {
    if (!(thrown instanceof DOMException) || !REFUSALS.includes(thrown.name)) throw thrown;
    await put(bytes);
  }
}
