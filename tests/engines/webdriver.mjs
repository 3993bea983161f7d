//! A client of W3C WebDriver, and pages with the part of Playwright's interface that the tests use: Firefox and WebKitGTK have no
//! other protocol in common. Contract: a script's value arrives as Playwright would give it, with bytes as `Buffer`.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { request } from 'node:http';
import { createServer } from 'node:net';

/** The key under which WebDriver sends a reference to an element. */
const ELEMENT = 'element-6066-11e4-a52e-4f735466cecf';
const START_MILLIS = 30_000;
const POLL_MILLIS = 50;
const KEYS = { Control: '\uE009', Shift: '\uE008', Enter: '\uE007', Tab: '\uE004', Escape: '\uE00C' };

/** Starts a driver and a session of its browser. `command(port)` is the driver's command line. */
export async function openSession({ command, capabilities, env = {} }) {
  const port = await freePort();
  const [program, ...args] = command(port);
  const driver = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'], env: { ...process.env, ...env } });
  // Browsers write much that concerns no test; it is shown if none opens.
  let messages = '';
  driver.stderr.on('data', (text) => (messages = (messages + text).slice(-10_000)));
  const failed = once(driver, 'error').then(([error]) => Promise.reject(new Error(`${program} cannot be started: ${error.message}`)));
  try {
    await Promise.race([untilAnswers(port), failed]);
    const created = await call(port, 'POST', '/session', { capabilities: { alwaysMatch: capabilities } });
    const path = `/session/${created.sessionId}`;
    const send = (method, rest, body) => call(port, method, path + rest, body);
    await send('POST', '/timeouts', { script: 3_600_000, pageLoad: 120_000 });
    const close = () => closeSession(send, driver, created.capabilities['moz:processID']);
    return { page: new WebDriverPage(send), capabilities: created.capabilities, close };
  } catch (error) {
    driver.kill();
    throw new Error(`no session of ${program}: ${error.message}\n${messages}`);
  }
}

/** Ends the session and its driver, and the browser too where that is too busy to obey. */
async function closeSession(send, driver, browser) {
  try {
    await send('DELETE', '');
  } catch (error) {
    if (browser === undefined) throw error;
    process.kill(browser, 'SIGKILL');
  } finally {
    if (driver.exitCode === null && driver.signalCode === null) {
      driver.kill();
      await once(driver, 'exit');
    }
  }
}

/** The page of a session. */
class WebDriverPage {
  constructor(send) {
    this.send = send;
  }

  async goto(url) {
    await this.send('POST', '/frame', { id: null });
    await this.send('POST', '/url', { url });
  }

  reload() {
    return this.send('POST', '/refresh', {});
  }

  /** Calls `work`, a function or the text of an expression, with `argument` in the page, and returns what it resolves with. */
  async evaluate(work, argument) {
    const value = typeof work === 'function' ? `(${work})(given)` : work;
    const script = `const [given, done] = arguments;
      const base64 = (view) => {
        let text = '';
        for (const byte of new Uint8Array(view.buffer, view.byteOffset, view.byteLength)) text += String.fromCharCode(byte);
        return btoa(text);
      };
      const written = (_, value) => (ArrayBuffer.isView(value) ? { base64: base64(value) } : value);
      (async () => (${value}))().then(
        (value) => done(JSON.stringify({ value }, written)),
        (error) => done(JSON.stringify({ error: String(error?.message ?? error?.what ?? error) })),
      );`;
    const read = (_, value) => (typeof value?.base64 === 'string' ? Buffer.from(value.base64, 'base64') : value);
    const answer = JSON.parse(await this.send('POST', '/execute/async', { script, args: [argument ?? null] }), read);
    if (answer.error !== undefined) throw new Error(answer.error);
    return answer.value;
  }

  async waitForFunction(condition, argument, { timeout = 30_000 } = {}) {
    for (const end = Date.now() + timeout; !(await this.evaluate(condition, argument)); ) {
      if (Date.now() > end) throw new Error(`not true within ${timeout} ms: ${condition}`);
      await new Promise((resolve) => setTimeout(resolve, POLL_MILLIS));
    }
  }

  async #element(selector) {
    return (await this.send('POST', '/element', { using: 'css selector', value: selector }))[ELEMENT];
  }

  async click(selector) {
    await this.send('POST', `/element/${await this.#element(selector)}/click`, {});
  }

  /** Enters a frame: later calls concern its document, until the next `goto`. */
  async enterFrame(selector) {
    await this.send('POST', '/frame', { id: { [ELEMENT]: await this.#element(selector) } });
  }

  /** Selects the files at `paths` in a file field. */
  async setInputFiles(selector, paths) {
    await this.send('POST', `/element/${await this.#element(selector)}/value`, { text: paths.join('\n') });
  }

  /** Runs `work` with the first element that `selector` finds, and `argument`. */
  on(selector, work, argument) {
    return this.evaluate(`(${work})(document.querySelector(given.selector), given.argument)`, { selector, argument });
  }

  fill(selector, text) {
    return this.on(
      selector,
      (field, text) => {
        field.value = text;
        for (const kind of ['input', 'change']) field.dispatchEvent(new Event(kind, { bubbles: true }));
      },
      text,
    );
  }

  async selectOption(selector, value) {
    await this.fill(selector, value);
  }

  async check(selector) {
    if (!(await this.on(selector, (box) => box.checked))) await this.click(selector);
  }

  isEnabled(selector) {
    return this.on(selector, (element) => !element.disabled);
  }

  isVisible(selector) {
    return this.on(selector, (element) => element !== null && element.getClientRects().length > 0);
  }

  innerText(selector) {
    return this.on(selector, (element) => element.innerText);
  }

  inputValue(selector) {
    return this.on(selector, (field) => field.value);
  }

  locator(selector) {
    return { evaluate: (work, argument) => this.on(selector, work, argument) };
  }

  /** Presses a key, or keys held together: `Control+Enter`. */
  async press(keys) {
    const values = keys.split('+').map((name) => KEYS[name] ?? name);
    const actions = [
      ...values.map((value) => ({ type: 'keyDown', value })),
      ...values.reverse().map((value) => ({ type: 'keyUp', value })),
    ];
    await this.send('POST', '/actions', { actions: [{ type: 'key', id: 'keyboard', actions }] });
  }

  /** Sets the size of the window so that the page has this width, and at least this height. */
  async setViewportSize({ width, height }) {
    await this.send('POST', '/window/rect', { width, height });
    const inner = await this.evaluate(() => [outerWidth - innerWidth, outerHeight - innerHeight]);
    await this.send('POST', '/window/rect', { width: width + inner[0], height: height + inner[1] });
  }

  async screenshot() {
    return Buffer.from(await this.send('GET', '/screenshot'), 'base64');
  }
}

/** Sends a command; throws the driver's error. Without a time limit: scripts wait for generations. */
function call(port, method, path, body) {
  return new Promise((resolve, reject) => {
    const text = body === undefined ? '' : JSON.stringify(body);
    const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) };
    const sent = request({ host: '127.0.0.1', port, method, path, headers }, async (reply) => {
      const chunks = [];
      for await (const chunk of reply) chunks.push(chunk);
      const { value } = JSON.parse(Buffer.concat(chunks).toString());
      if (reply.statusCode === 200) resolve(value);
      else reject(new Error(`${method} ${path}: ${value?.error}: ${value?.message}`));
    });
    sent.on('error', reject);
    sent.end(text);
  });
}

async function untilAnswers(port) {
  for (const end = Date.now() + START_MILLIS; ; await new Promise((resolve) => setTimeout(resolve, POLL_MILLIS))) {
    try {
      return await call(port, 'GET', '/status');
    } catch (error) {
      if (error.code !== 'ECONNREFUSED' || Date.now() > end) throw error;
    }
  }
}

async function freePort() {
  const listener = createServer().listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const { port } = listener.address();
  listener.close();
  await once(listener, 'close');
  return port;
}
