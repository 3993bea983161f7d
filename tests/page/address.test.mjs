//! Addresses of checkpoints as people paste them, by a table.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';

const WEB = fileURLToPath(new URL('../../web/', import.meta.url));
const HUB = 'https://huggingface.co/';
const BASE = 'https://example.org/app/';
const MAIN = 'https://huggingface.co/owner/name/resolve/main/';
const PULL = 'https://huggingface.co/owner/name/resolve/refs%2Fpr%2F11/';

const CASES = [
  ['', ''],
  ['   ', ''],
  ['owner/name', MAIN],
  [' owner/name ', MAIN],
  ['"owner/name"', MAIN],
  ['\u200bowner/name', MAIN],
  ['owner/name/', MAIN],
  ['owner/name@v2', 'https://huggingface.co/owner/name/resolve/v2/'],
  ['owner/name@refs/pr/11', PULL],
  ['owner/name@refs%2Fpr%2F11', PULL],
  ['owner/name/tree/main', MAIN],
  ['owner/name/resolve/main/model_index.json', MAIN],
  ['PixArt-alpha/PixArt-XL-2-1024-MS', 'https://huggingface.co/PixArt-alpha/PixArt-XL-2-1024-MS/resolve/main/'],
  ['https://huggingface.co/owner/name', MAIN],
  ['https://huggingface.co/owner/name/', MAIN],
  ['http://huggingface.co/owner/name', MAIN],
  ['HTTPS://HuggingFace.co/owner/name', MAIN],
  ['<https://huggingface.co/owner/name>', MAIN],
  ['`https://huggingface.co/owner/name`', MAIN],
  ['(https://huggingface.co/owner/name)', MAIN],
  ['[a model](https://huggingface.co/owner/name)', MAIN],
  ['https://huggingface.co/owner/name#usage', MAIN],
  ['https://huggingface.co/owner/name?not-for-all-audiences=true', MAIN],
  ['https://huggingface.co/owner/name.git', MAIN],
  ['https://huggingface.co/owner/name/tree/main', MAIN],
  ['https://huggingface.co/owner/name/tree/main/', MAIN],
  ['https://huggingface.co/owner/name/tree/main/sub/dir', `${MAIN}sub/dir/`],
  ['https://huggingface.co/owner/name/tree/main/sub%20dir', `${MAIN}sub%20dir/`],
  ['https://huggingface.co/owner/name/tree/main/transformer', MAIN],
  ['https://huggingface.co/owner/name/tree/main/sub/vae', `${MAIN}sub/`],
  ['https://huggingface.co/owner/name/tree/refs%2Fpr%2F11', PULL],
  ['https://huggingface.co/owner/name/tree/refs/pr/11', PULL],
  ['https://huggingface.co/owner/name/tree/refs%2Fpr%2F11/sub', `${PULL}sub/`],
  ['https://huggingface.co/owner/name/blob/main/model_index.json', MAIN],
  ['https://huggingface.co/owner/name/blob/main/transformer/config.json', MAIN],
  ['https://huggingface.co/owner/name/raw/main/README.md', MAIN],
  ['https://huggingface.co/owner/name/commits/main', MAIN],
  ['https://huggingface.co/owner/name/resolve/main', MAIN],
  ['https://huggingface.co/owner/name/resolve/main/', MAIN],
  ['https://huggingface.co/owner/name/resolve/main/model_index.json', MAIN],
  ['https://huggingface.co/owner/name/resolve/main/transformer/diffusion_pytorch_model.safetensors?download=true', MAIN],
  ['https://huggingface.co/owner/name/resolve/main/model_index.json?token=a%2Bb', `${MAIN}?token=a%2Bb`],
  ['huggingface.co/owner/name', MAIN],
  ['www.huggingface.co/owner/name', MAIN],
  ['hf.co/owner/name', MAIN],
  ['hf.co/owner/name/tree/main', MAIN],
  ['https://hf.co/owner/name', MAIN],
  ['hf://owner/name', MAIN],
  ['hf://owner/name@refs/pr/11', PULL],
  ['https://hf-mirror.com/owner/name', 'https://hf-mirror.com/owner/name/resolve/main/'],
  ['hf-mirror.com/owner/name/tree/v2', 'https://hf-mirror.com/owner/name/resolve/v2/'],
  ['https://www.modelscope.cn/models/owner/name', 'https://www.modelscope.cn/models/owner/name/resolve/main/'],
  ['https://hub.example.net/owner/name/tree/main', 'https://hub.example.net/owner/name/resolve/main/'],
  ['https://hub.example.net/owner/name/resolve/main/', 'https://hub.example.net/owner/name/resolve/main/'],
  ['git clone https://huggingface.co/owner/name', MAIN],
  ['git clone https://huggingface.co/owner/name.git my-folder', MAIN],
  ['git clone --depth 1 -b v2 https://huggingface.co/owner/name', 'https://huggingface.co/owner/name/resolve/v2/'],
  ['GIT_LFS_SKIP_SMUDGE=1 git clone https://huggingface.co/owner/name', MAIN],
  ['$ git lfs clone https://huggingface.co/owner/name', MAIN],
  ['git clone git@hf.co:owner/name', MAIN],
  ['hf download owner/name', MAIN],
  ['hf download owner/name --local-dir model', MAIN],
  ['hf download --revision v2 owner/name', 'https://huggingface.co/owner/name/resolve/v2/'],
  ['hf download owner/name --revision=refs/pr/11', PULL],
  ['huggingface-cli download owner/name model_index.json', MAIN],
  ['PixArtAlphaPipeline.from_pretrained("owner/name", torch_dtype=torch.float16)', MAIN],
  ['PixArtAlphaPipeline.from_pretrained("owner/name", revision="v2")', 'https://huggingface.co/owner/name/resolve/v2/'],
  ['https://cdn.example.net/model', 'https://cdn.example.net/model/'],
  ['https://cdn.example.net/model/', 'https://cdn.example.net/model/'],
  ['https://cdn.example.net/model/manifest.json', 'https://cdn.example.net/model/'],
  ['https://cdn.example.net/model/model_index.json?X-Sig=a%2Fb&Expires=1', 'https://cdn.example.net/model/?X-Sig=a%2Fb&Expires=1'],
  ['https://cdn.example.net/model?X-Sig=a', 'https://cdn.example.net/model/?X-Sig=a'],
  ['https://cdn.example.net/a b/', 'https://cdn.example.net/a%20b/'],
  ['localhost:8000/model', 'http://localhost:8000/model/'],
  ['127.0.0.1:8000', 'http://127.0.0.1:8000/'],
  ['models/scenes/', 'https://example.org/app/models/scenes/'],
  ['./models/scenes', 'https://example.org/app/models/scenes/'],
  ['/models/scenes', 'https://example.org/models/scenes/'],
  ['models/pixart/f16', 'https://example.org/app/models/pixart/f16/'],
  ['model', 'https://example.org/app/model/'],
  ['https://', 'https://example.org/app/https%3A%2F%2F/'],
  ['javascript:alert(1)', 'https://example.org/app/javascript%3Aalert(1/'],
];

/** Components and LoRAs: a file stays one, and the folder that it is in, too. */
const COMPONENTS = [
  ['owner/name', MAIN],
  ['owner/name@v2', 'https://huggingface.co/owner/name/resolve/v2/'],
  ['owner/name/tree/main/text_encoder', MAIN],
  ['https://huggingface.co/owner/name/blob/main/vae/model.fp16.safetensors', `${MAIN}vae/model.fp16.safetensors`],
  ['https://huggingface.co/owner/name/resolve/main/t5-Q4_K_M.gguf?download=true', `${MAIN}t5-Q4_K_M.gguf`],
  ['huggingface.co/owner/name/blob/v2/a%20b.safetensors', 'https://huggingface.co/owner/name/resolve/v2/a%20b.safetensors'],
  ['owner/name@v2/sub/lora.safetensors', 'https://huggingface.co/owner/name/resolve/v2/sub/lora.safetensors'],
  ['hf://owner/name@main/lora.safetensors', `${MAIN}lora.safetensors`],
  ['https://cdn.example.net/vae/my vae.safetensors?X-Sig=a', 'https://cdn.example.net/vae/my%20vae.safetensors?X-Sig=a'],
  ['models/t5.gguf', 'https://example.org/app/models/t5.gguf'],
  ['encoders/t5.gguf', 'https://example.org/app/encoders/t5.gguf'],
  ['/t5.gguf', 'https://example.org/t5.gguf'],
  ['localhost:8000/t5.gguf', 'http://localhost:8000/t5.gguf'],
  ['https://cdn.example.net/tokenizer/spiece.model', 'https://cdn.example.net/tokenizer/spiece.model'],
  ['https://cdn.example.net/a/scheduler_config.json', 'https://cdn.example.net/a/scheduler_config.json'],
];

let componentUrl;
let checkpointUrl;
let server;
before(async () => {
  const { createServer } = await import(pathToFileURL(createRequire(`${WEB}package.json`).resolve('vite')).href);
  server = await createServer({ root: WEB, configFile: false, logLevel: 'error', server: { middlewareMode: true, ws: false } });
  ({ checkpointUrl, componentUrl } = await server.ssrLoadModule('/src/checkpoints/address.ts'));
});
after(() => server.close());

for (const [address, url] of CASES) {
  test(`${JSON.stringify(address)}_is_opened_at_${url || 'nothing'}`, () => assert.equal(checkpointUrl(address, HUB, BASE), url));
}

for (const [address, url] of COMPONENTS) {
  test(`a_component_at_${JSON.stringify(address)}_is_${url}`, () => {
    assert.equal(componentUrl(address, HUB, BASE), url);
    assert.equal(componentUrl(url, HUB, BASE), url);
  });
}

test('a_repository_is_one_of_the_hub_that_the_page_names', () => {
  const hub = 'http://127.0.0.1:7860/';
  assert.equal(checkpointUrl('owner/name@v2', hub, BASE), `${hub}owner/name/resolve/v2/`);
  assert.equal(checkpointUrl(`${hub}owner/name`, hub, BASE), `${hub}owner/name/resolve/main/`);
  assert.equal(checkpointUrl('127.0.0.1:7860/owner/name', hub, BASE), `${hub}owner/name/resolve/main/`);
});

test('an_address_that_was_resolved_stays_as_it_is', () => {
  for (const [, url] of CASES) assert.equal(checkpointUrl(url, HUB, BASE), url);
});
