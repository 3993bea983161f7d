//! Several prompts from one text: alternatives in braces, lines, and words from lists.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';

const WEB = fileURLToPath(new URL('../../web/', import.meta.url));

let promptVariants;
let wildcards;
let VARIANTS_MAX;
let server;
before(async () => {
  const { createServer } = await import(pathToFileURL(createRequire(`${WEB}package.json`).resolve('vite')).href);
  server = await createServer({ root: WEB, configFile: false, logLevel: 'error', server: { middlewareMode: true, ws: false } });
  wildcards = await server.ssrLoadModule('/src/app/wildcards.ts');
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

const LISTS = { colour: 'red\n# a remark\n\n blue \r\ngreen', animal: 'a __colour__ cat', loop: '__loop__', 'time-of-day': 'night' };

test('a_wildcard_is_an_entry_of_its_list_which_the_seed_chooses', () => {
  const { withWildcards } = wildcards;
  const chosen = Array.from({ length: 60 }, (_, seed) => withWildcards('a __colour__ car', LISTS, seed));
  assert.deepEqual([...new Set(chosen)].sort(), ['a blue car', 'a green car', 'a red car']);
  assert.deepEqual(
    chosen,
    Array.from({ length: 60 }, (_, seed) => withWildcards('a __colour__ car', LISTS, seed)),
  );
  const pairs = Array.from({ length: 60 }, (_, seed) => withWildcards('__colour__ __Colour__', LISTS, seed));
  assert.equal(new Set(pairs).size, 9, 'each place is chosen by itself');
});

test('entries_may_name_other_lists_and_what_names_none_stays_as_it_is', () => {
  const { unknownWildcards, withWildcards } = wildcards;
  assert.match(withWildcards('__animal__ at __time-of-day__', LISTS, 5), /^a (red|blue|green) cat at night$/);
  assert.equal(withWildcards('__shape__ __ ____ a__b', LISTS, 1), '__shape__ __ ____ a__b');
  assert.equal(withWildcards('__loop__', LISTS, 1), '__loop__');
  assert.equal(withWildcards('__toString__ __constructor__', LISTS, 1), '__toString__ __constructor__');
  assert.deepEqual(unknownWildcards('__shape__ __colour__ __shape__ __size__', LISTS), ['shape', 'size']);
});

test('names_of_lists_are_lower_case_letters_and_digits_with_dashes', () => {
  const { wildcardName } = wildcards;
  assert.deepEqual(['Time of day', '  Größe!', '__x__', '***'].map(wildcardName), ['time-of-day', 'größe', 'x', '']);
});
