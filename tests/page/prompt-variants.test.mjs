//! Several prompts from one text: alternatives in braces, and lines.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';

const WEB = fileURLToPath(new URL('../../web/', import.meta.url));

let promptVariants;
let VARIANTS_MAX;
let server;
before(async () => {
  const { createServer } = await import(pathToFileURL(createRequire(`${WEB}package.json`).resolve('vite')).href);
  server = await createServer({ root: WEB, configFile: false, logLevel: 'error', server: { middlewareMode: true, ws: false } });
  ({ promptVariants, VARIANTS_MAX } = await server.ssrLoadModule('/src/app/prompt-variants.ts'));
});
after(() => server.close());

const CASES = [
  ['', ['']],
  ['a cat', ['a cat']],
  ['a {red|blue} cat', ['a red cat', 'a blue cat']],
  ['{a|b} {c|d}', ['a c', 'a d', 'b c', 'b d']],
  ['a {|big }cat', ['a cat', 'a big cat']],
  ['a {big {red|blue}|small} cat', ['a big red cat', 'a big blue cat', 'a small cat']],
  ['a {red} cat', ['a {red} cat']],
  ['a {{red|blue}} cat', ['a {red} cat', 'a {blue} cat']],
  ['a {red|blue cat', ['a {red|blue cat']],
  ['a red|blue} cat', ['a red|blue} cat']],
  ['a \\{red|blue\\} cat', ['a {red|blue} cat']],
  ['a {red\\|blue|green} cat', ['a red|blue cat', 'a green cat']],
  ['a \\cat', ['a \\cat']],
  ['{', ['{']],
  ['{|}', ['', '']],
  ['a\nb', ['a\nb']],
];
for (const [text, prompts] of CASES)
  test(`${JSON.stringify(text)}_gives_${JSON.stringify(prompts)}`, () => assert.deepEqual(promptVariants(text, false), prompts));

test('each_line_is_a_prompt_where_it_is_asked_for', () => {
  assert.deepEqual(promptVariants('a {red|blue} cat\n\r\n \ra dog\n', true), ['a red cat', 'a blue cat', 'a dog']);
  assert.deepEqual(promptVariants('\n', true), ['\n']);
});

test('more_prompts_than_allowed_are_returned_as_one_more', () => {
  assert.equal(promptVariants('{a|b}'.repeat(6), false).length, VARIANTS_MAX);
  assert.equal(promptVariants('{a|b}'.repeat(40), false).length, VARIANTS_MAX + 1);
  assert.equal(promptVariants(Array(100).fill('a').join('\n'), true).length, VARIANTS_MAX + 1);
});

test('braces_that_are_not_closed_take_no_exponential_time', () => {
  const text = '{a|'.repeat(200);
  assert.deepEqual(promptVariants(text, false), [text]);
});
