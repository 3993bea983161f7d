//! Real drags from outside of the page, through Chromium's own input pipeline.

const COPY = 1;

/** Drags files by their paths onto an element. */
export function dropFiles(page, selector, files) {
  return drag(page, selector, { files });
}

/** Drags `{ files, items }` of the protocol's `DragData` onto the middle of an element. */
export async function drag(page, selector, { files = [], items = [] }) {
  const target = page.locator(selector);
  await target.scrollIntoViewIfNeeded();
  const { x, y, width, height } = await target.boundingBox();
  const data = { items: items.map((item) => ({ title: '', baseURL: '', ...item })), files, dragOperationsMask: COPY };
  const client = await page.context().newCDPSession(page);
  for (const type of ['dragEnter', 'dragOver', 'drop'])
    await client.send('Input.dispatchDragEvent', { type, x: x + width / 2, y: y + height / 2, data });
  await client.detach();
}
