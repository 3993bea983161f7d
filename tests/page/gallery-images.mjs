//! Images for tests of the gallery: PNG files with settings of this project, and rows of its database.
import { openPanel } from './browser.mjs';
import { itxt, png, pngChunk } from './image-files.mjs';

const REQUEST = { prompt: 'a star', seed: 1, num_inference_steps: 4, guidance_scale: 4.5, width: 64, height: 64 };

/** Returns a PNG file of one colour, as this project writes it. */
export function generatedPng(request, { colour = [200, 30, 30], model = 'scenes', size = 64 } = {}) {
  const json = JSON.stringify({ request: { ...REQUEST, ...request }, generated_by: { software: 'pixart-web', model, model_hash: 'abc' } });
  const text = pngChunk('iTXt', Buffer.concat([Buffer.from('pixart\0', 'latin1'), itxt(json)]));
  return png(size, size, 2, () => colour, [text]);
}

/** Returns a PNG as a file of an input element. */
export function pngFile(request, options = {}) {
  const { prompt, seed } = { ...REQUEST, ...request };
  return { name: `${prompt}-${seed}.png`, mimeType: 'image/png', buffer: generatedPng(request, options) };
}

/** Opens the gallery of a page without a model, and imports these files. Newest is the last one. */
export async function openGallery(page, url, files = []) {
  await page.goto(`${url}?checkpoint=&device=wasm&lang=en`);
  await openPanel(page, 'gallery');
  await page.waitForSelector('#gallery-root p, #gallery-root li');
  for (const [at, file] of files.entries()) {
    await page.setInputFiles('#gallery-files', file);
    await page.waitForFunction((count) => document.getElementById('gallery-count')?.textContent.endsWith(`of ${count}`), at + 1);
  }
}

/** Writes `count` rows into the gallery's database, with a thumbnail each, and one image file for all. The page that is open must have
    created the database. */
export function fillGallery(page, count) {
  return page.evaluate(async (count) => {
    const canvas = new OffscreenCanvas(320, 320);
    const context = canvas.getContext('2d', { willReadFrequently: true });
    const noise = context.createImageData(320, 320);
    const thumbnails = [];
    for (let colour = 0; colour < 24; colour += 1) {
      for (let at = 0; at < noise.data.length; at += 4) {
        const y = Math.floor(at / 1280);
        noise.data.set([(colour * 40 + (y >> 1)) % 256, (at % 256) ^ y, (colour * 90) % 256, 255], at);
      }
      context.putImageData(noise, 0, 0);
      thumbnails.push(new Uint8Array(await (await canvas.convertToBlob({ type: 'image/webp', quality: 0.8 })).arrayBuffer()));
    }
    const file = new Uint8Array(await (await canvas.convertToBlob({ type: 'image/png' })).arrayBuffer());
    const opening = indexedDB.open('pixart-web gallery');
    const database = await new Promise((resolve, reject) => {
      opening.onsuccess = () => resolve(opening.result);
      opening.onerror = () => reject(opening.error);
    });
    const words = ['star', 'fish', 'house', 'mushroom', 'pumpkin', 'tree'];
    for (let at = 0; at < count; ) {
      const transaction = database.transaction(['images', 'entries', 'thumbnails'], 'readwrite');
      const [images, entries, rows] = ['images', 'entries', 'thumbnails'].map((name) => transaction.objectStore(name));
      for (const end = Math.min(at + 1000, count); at < end; at += 1) {
        const id = at + 1;
        // A small file each: the size of the files is not what is measured.
        images.put({ id, png: new Blob([file.subarray(0, 2000)]) });
        const prompt = `a ${words[at % words.length]} of many in a field at night, number ${id}`;
        const created_at_millis = Date.UTC(2026, 0, 1) + at * 60_000;
        entries.put({ id, prompt, seed: id, favourite: at % 7 === 0, created_at_millis, width: 512, height: 512, model: 'scenes' });
        rows.put(thumbnails[at % thumbnails.length], id);
      }
      await new Promise((resolve, reject) => {
        transaction.oncomplete = resolve;
        transaction.onabort = () => reject(transaction.error);
      });
    }
    database.close();
    return thumbnails[0].length;
  }, count);
}
