//! The engines beside Chromium: Firefox, through geckodriver, and WebKitGTK's MiniBrowser, through WebKitWebDriver.
import { existsSync, readdirSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { openSession } from './webdriver.mjs';

/** WebGPU of a Firefox on Linux, where it is off by default, over Mesa's software Vulkan. */
export const WEBGPU_PREFS = { 'dom.webgpu.enabled': true, 'dom.webgpu.workers.enabled': true, 'gfx.webgpu.ignore-blocklist': true };

/** Features that Safari has on and WebKitGTK has off: the private file system, and estimates of storage. */
export const SAFARI_FEATURES = ['StorageAPI', 'StorageAPIEstimate', 'FileSystem', 'AccessHandle'];

export const ENGINES = { firefox: () => openFirefox(), webkit: () => openWebkit() };

/** Opens Firefox with a fresh profile, or with the one in `profile`. */
export function openFirefox({ prefs = {}, profile } = {}) {
  const args = ['-headless', ...(profile === undefined ? [] : ['-profile', profile])];
  return openSession({
    command: (port) => [named('GECKODRIVER', ['geckodriver']), '--port', String(port), '--log', 'fatal'],
    capabilities: { browserName: 'firefox', 'moz:firefoxOptions': { binary: named('FIREFOX', ['firefox-esr', 'firefox']), args, prefs } },
  });
}

/** Opens WebKitGTK's MiniBrowser, which needs a display and stores nothing beyond its session, as in a private window. */
export function openWebkit(features = []) {
  if (!process.env.DISPLAY && !process.env.WAYLAND_DISPLAY) throw new Error('WebKitGTK needs a display: run this under `xvfb-run -a`');
  const args = ['--automation', ...(features.length > 0 ? [`--features=${features.map((name) => `+${name}`).join(',')}`] : [])];
  const browser = { binary: process.env.MINIBROWSER || miniBrowser(), args };
  return openSession({
    command: (port) => [named('WEBKIT_DRIVER', ['WebKitWebDriver']), `--port=${port}`],
    capabilities: { browserName: 'MiniBrowser', 'webkitgtk:browserOptions': browser },
  });
}

/** The program that `variable` names, else the first of `names` on PATH. */
function named(variable, names) {
  if (process.env[variable]) return process.env[variable];
  const folders = (process.env.PATH ?? '').split(delimiter);
  const found = names.flatMap((name) => folders.map((folder) => join(folder, name))).find((path) => existsSync(path));
  if (found === undefined) throw new Error(`none of ${names.join(', ')} is on PATH; name one in ${variable}`);
  return found;
}

/** MiniBrowser lies in a folder of WebKitGTK's version and of the processor's architecture. */
function miniBrowser() {
  const folders = readdirSync('/usr/lib', { withFileTypes: true }).filter((entry) => entry.isDirectory());
  const roots = ['/usr/lib', ...folders.map(({ name }) => join('/usr/lib', name))];
  const found = roots.flatMap((root) => ['6.0', '4.1', '4.0'].map((version) => join(root, `webkit2gtk-${version}/MiniBrowser`)));
  const path = [...found, ...roots.map((root) => join(root, 'webkitgtk-6.0/MiniBrowser'))].find((path) => existsSync(path));
  if (path === undefined) throw new Error('WebKitGTK has no MiniBrowser here; name it in MINIBROWSER');
  return path;
}
