//! Addresses of checkpoint folders as people paste them: of pages of a model hub, of files, of command lines. Pure.

export const HUB = 'https://huggingface.co';
/** Hosts of model hubs, which serve `owner/name/resolve/<revision>/<path>`; a short name stands for the hub itself. */
const HUB_HOSTS = new Map([
  ['huggingface.co', HUB],
  ['www.huggingface.co', HUB],
  ['hf.co', HUB],
  ['www.hf.co', HUB],
  ['hf-mirror.com', 'https://hf-mirror.com'],
  ['www.modelscope.cn', 'https://www.modelscope.cn'],
  ['modelscope.cn', 'https://modelscope.cn'],
]);
const REPOSITORY = /^[\w.-]+\/[\w.-]+$/;
/** The part of a hub's path between repository and revision. */
const VIEW = /^(tree|blob|resolve|raw|blame|edit|commits?)$/;
/** Kinds of repositories that precede the owner in a hub's path. */
const KINDS = ['models', 'datasets', 'spaces'];
/** Folders of a checkpoint's networks: who copies the address of one means the checkpoint. */
const COMPONENTS = ['transformer', 'vae', 'text_encoder', 'tokenizer', 'scheduler'];
const FILE = /\.(json|safetensors|model|bin|md|txt|png|jpe?g|gitattributes)$|^\.gitattributes$/i;
/** A file of a component that stands alone: what precedes it, its name, and its query. */
const COMPONENT_FILE = /^(.*?)([^/?#]+\.(?:safetensors|gguf)|(?:tokenizer|scheduler_config)\.json|spiece\.model)([?#].*)?$/i;
const MAIN = 'main';

/**
 * Returns the URL of the checkpoint folder that `text` names: it ends in `/`, or in `/` and the query that is sent with every file.
 * A repository `owner/name@revision` is one of the hub at `hub`, other text a path relative to `base`. Empty for an empty text.
 */
export function checkpointUrl(text: string, hub: string, base: string): string {
  const { address, revision } = unwrapped(text);
  if (address === '') return '';
  const url = parsed(address, hub, base, revision);
  return url ?? new URL(`${encodeURIComponent(address)}/`, base).href;
}

/** Returns the URL of the component or LoRA that `text` names: of a `.safetensors` or `.gguf` file (of a tokenizer's or a scheduler's file,
    too), else of a folder, as `checkpointUrl`. */
export function componentUrl(text: string, hub: string, base: string): string {
  const { address, revision } = unwrapped(text);
  const [, before = '', file = '', query = ''] = COMPONENT_FILE.exec(address) ?? [];
  if (file === '') return checkpointUrl(text, hub, base);
  const [, repository, at, path = ''] = /^(?:hf:\/\/)?([\w.-]+\/[\w.-]+)@([^/]+)\/(.*)$/i.exec(before) ?? [];
  const folder = repository === undefined ? before : `${repository}/resolve/${at}/${path}`;
  // In the file's place stands a folder that is no component's, so that the whole path is kept.
  const url = parsed(`${folder}~/${query}`, hub, base, revision) ?? new URL(`${folder}~/`, base).href;
  return url.replace(/\/~\/(?=$|\?)/, `/${encodeURIComponent(decoded(file))}`);
}

/** Returns the address in a quotation, a Markdown link or a command line, with the revision that the command names. */
function unwrapped(text: string): { address: string; revision: string | undefined } {
  // Zero-width characters come along with copied text.
  const line = text.replace(/[\u200b-\u200d\u2060\ufeff]/g, '').trim();
  const revision = /\brevision[ =]+["']?([^\s"',)]+)/.exec(line)?.[1] ?? /\s(?:-b|--branch)[ =]+(\S+)/.exec(line)?.[1];
  const link = /^!?\[[^\]]*\]\((\S+?)\)$/.exec(line)?.[1];
  const call = /from_pretrained\(\s*["']([^"']+)["']/.exec(line)?.[1];
  const command = /\b(?:git clone|(?:hf|huggingface-cli) download|git lfs clone)\s+(.*)$/.exec(line)?.[1];
  const argument = command?.replace(
    /(?<=^|\s)(-b|-o|--(branch|origin|depth|revision|local-dir|cache-dir|token|include|exclude))[ =]+\S+/g,
    '',
  );
  const name = argument?.split(/\s+/).find((word) => /^[^-].*\//.test(word));
  const address = (link ?? call ?? name ?? line).replace(/^git@([\w.-]+):/, 'https://$1/');
  const quotes = /^[\s"'`<([“”‘’«»]+|[\s"'`>)\]“”‘’«»,;]+$/g;
  return { address: address.replace(quotes, ''), revision };
}

function parsed(address: string, hub: string, base: string, revision: string | undefined): string | undefined {
  const schemeless = address.replace(/^hf:\/\//i, '');
  const [, name = schemeless, at] = /^([\w.-]+\/[\w.-]+?)\/?@([^\s?#]+?)\/?$/.exec(schemeless) ?? [];
  // A folder beside the page is written as one: models/scenes/.
  const is_repository = REPOSITORY.test(name.replace(/\/$/, '')) && !/^(\.{1,2}|models)\//.test(name) && !isHubHost(name, hub);
  if (is_repository) return resolveUrl(hub, name.replace(/\/$/, ''), at ?? revision ?? MAIN, []);
  const [first = '', , third = ''] = name.split('/');
  const is_hub_path = !/^(\w+:)?\/\/|^\.{0,2}\//.test(address) && VIEW.test(third) && !isHubHost(first, hub);
  const scheme = HUB_HOSTS.has(first.toLowerCase()) ? 'https:' : parse(hub, base)?.protocol;
  const with_scheme = isHubHost(name, hub) ? `${scheme}//${name}` : name;
  const relative_to = is_hub_path ? hub : base;
  const url = parse(hostWithPort(with_scheme), relative_to);
  if (url === undefined || !/^https?:$/.test(url.protocol)) return undefined;
  url.hash = '';
  const hub_origin = HUB_HOSTS.get(url.hostname);
  const is_hub = hub_origin !== undefined || is_hub_path || (parse(hub, base)?.origin === url.origin && !sameOrigin(base, url));
  const parts = url.pathname.split('/').filter((part) => part !== '');
  const view = parts.findIndex((part, index) => index > 0 && VIEW.test(part));
  if (view > 0 && (is_hub || /^(tree|blob|resolve|raw)$/.test(parts[view] ?? ''))) {
    const [found, path] = revisionOf(parts.slice(view + 1).map(decoded));
    const repository = parts
      .slice(0, view)
      .join('/')
      .replace(/\.git$/, '');
    return resolveUrl(hub_origin ?? url.origin, repository, found ?? revision ?? MAIN, path, queryOf(url, parts[view] === 'resolve'));
  }
  if (is_hub) {
    const length = KINDS.includes(parts[0] ?? '') ? 3 : 2;
    const repository = parts
      .slice(0, length)
      .map(decoded)
      .join('/')
      .replace(/\.git$/, '');
    const [plain = '', inline] = repository.split('@');
    return resolveUrl(hub_origin ?? url.origin, plain, inline ?? revision ?? MAIN, []);
  }
  url.pathname = `/${folderOf(parts)
    .map((part) => `${part}/`)
    .join('')}`;
  return `${url.origin}${url.pathname}${queryOf(url, true)}`;
}

/** Returns the URL of a folder of a hub's repository, whose files are served at `resolve`. */
function resolveUrl(hub: string, repository: string, revision: string, path: string[], query = ''): string {
  const folder = folderOf(path).map((part) => `${encodeURIComponent(part)}/`);
  return new URL(`${repository}/resolve/${encodeURIComponent(decoded(revision))}/${folder.join('')}${query}`, hub.replace(/\/?$/, '/'))
    .href;
}

/** Returns the revision at the beginning of a path, and the path in it. A pull request's revision has slashes. */
function revisionOf(parts: string[]): [string | undefined, string[]] {
  const [first, second, third, ...rest] = parts;
  if (first === 'refs' && second !== undefined && third !== undefined) return [`${first}/${second}/${third}`, rest];
  return [first, parts.slice(1)];
}

/** Returns the path of the checkpoint folder that the file or folder at `parts` belongs to. */
function folderOf(parts: string[]): string[] {
  const folder = FILE.test(parts.at(-1) ?? '') ? parts.slice(0, -1) : parts;
  return COMPONENTS.includes(folder.at(-1) ?? '') ? folder.slice(0, -1) : folder;
}

/** Returns the query that is sent with every file. A hub's pages have queries of their own. */
function queryOf(url: URL, is_sent: boolean): string {
  // Not through URLSearchParams, which would write a signature in another way.
  const parameters = url.search
    .replace(/^\?/, '')
    .split('&')
    .filter((parameter) => parameter !== '' && !/^download(=|$)/.test(parameter));
  return is_sent && parameters.length > 0 ? `?${parameters.join('&')}` : '';
}

/** Returns whether an address without a scheme begins with the host of a hub. */
function isHubHost(address: string, hub: string): boolean {
  const host = address.split('/')[0]?.toLowerCase() ?? '';
  return HUB_HOSTS.has(host) || (host !== '' && parse(hub, 'https://invalid/')?.host === host);
}

/** Returns an address of this machine, as `localhost:8000/model`, with its scheme. */
function hostWithPort(address: string): string {
  return /^(localhost|\d+(\.\d+){3}|\[[0-9a-f:]+\]|[\w-]+(\.[\w-]+)+)(:\d+)(\/|$)/i.test(address) ? `http://${address}` : address;
}

function sameOrigin(base: string, url: URL): boolean {
  return parse(base, base)?.origin === url.origin;
}

function parse(address: string, base: string): URL | undefined {
  try {
    return new URL(address, base);
  } catch {
    return undefined;
  }
}

/** Decodes a part of a path; one that is not encoded stays as it is. */
function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
