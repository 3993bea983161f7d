//! The engine in a browser's worker, on a WebGPU adapter and on the CPU: generates, refuses requests, and resumes.

#![cfg(target_family = "wasm")]

use std::cell::RefCell;
use std::rc::Rc;

use js_sys::{Array, Function, Map, Reflect, Uint8Array};
use pixart_browser::Engine;
use wasm_bindgen::prelude::Closure;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_test::{console_log, wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_dedicated_worker);

macro_rules! scenes {
    ($($path:literal),* $(,)?) => {
        [$(($path, include_bytes!(concat!("../../../web/models/scenes/", $path)).as_slice())),*]
    };
}

/// The checkpoint that is shipped with the page.
const SCENES: [(&str, &[u8]); 8] = scenes!(
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/spiece.model",
    "transformer/config.json",
    "transformer/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
);

/// An engine and the events it has emitted.
struct Session {
    engine: Engine,
    events: Rc<RefCell<Vec<JsValue>>>,
}

impl Session {
    async fn open(device: &str) -> Self {
        pixart_browser::construct();
        let events = Rc::new(RefCell::new(Vec::new()));
        let received = Rc::clone(&events);
        let on_event = Closure::<dyn Fn(JsValue)>::new(move |event| received.borrow_mut().push(event));
        let on_event: Function = on_event.into_js_value().unchecked_into();
        let engine = Engine::open(on_event, device.into(), None).await.expect("WebGPU is here");
        let session = Self { engine, events };
        console_log!("adapter: {}", text(&session.last("adapter"), "name"));
        session
    }

    async fn loaded(device: &str) -> Self {
        let session = Self::open(device).await;
        let store = store();
        let manifest = session.convert(&store, &SCENES).await.expect("the embedded checkpoint is converted");
        let read = function(&store, "read");
        session
            .engine
            .load(&manifest, read, "memory".into(), Some(manifest.clone()), 0.0, Array::new())
            .await
            .expect("it loads");
        assert!(session.engine.has_text_encoder() && !session.engine.has_vae_encoder());
        session
    }

    async fn convert(&self, store: &JsValue, scenes: &[(&str, &[u8])]) -> Result<String, JsValue> {
        let weight_format = self.engine.conversion_dtype("transformer", files(scenes))?.as_string().expect("a word");
        let conversion = format!(
            r#"{{"networks": ["text_encoder", "transformer", "vae"], "weight_format": "{weight_format}", "shard_bytes": 1000000,
                "source": "a test", "in_file_order": false, "finished_shards": {{}}}}"#
        );
        let conversion = js_sys::JSON::parse(&conversion).expect("valid JSON");
        let [read, begin, put] = ["read", "begin", "put"].map(|name| function(store, name));
        Engine::convert(conversion, files(scenes), read, begin, put).await
    }

    /// Returns the events of a kind.
    fn all(&self, kind: &str) -> Vec<JsValue> {
        self.events.borrow().iter().filter(|event| text(event, "kind") == kind).cloned().collect()
    }

    /// Returns the last event of a kind.
    fn last(&self, kind: &str) -> JsValue {
        self.all(kind).pop().unwrap_or_else(|| panic!("no event of the kind {kind}"))
    }

    async fn generate(&self, prompt: &str, steps: u32, model_outputs: &JsValue) -> Result<(), JsValue> {
        self.engine.prepare(request(prompt, steps))?;
        self.engine.generate(1, JsValue::UNDEFINED, model_outputs.clone()).await
    }

    /// Returns the PNG of a request.
    async fn generate_png(&self, prompt: &str, steps: u32) -> Vec<u8> {
        self.resume(prompt, steps, &JsValue::UNDEFINED).await
    }

    /// Returns the PNG of a request that resumes after the steps of `model_outputs`.
    async fn resume(&self, prompt: &str, steps: u32, model_outputs: &JsValue) -> Vec<u8> {
        self.generate(prompt, steps, model_outputs).await.expect("it generates");
        Uint8Array::from(get(&self.last("image"), "png")).to_vec()
    }
}

/// Returns a store of shards in memory, as the page has one.
fn store() -> JsValue {
    let text = r"(() => {
        const shards = new Map();
        const hex = (hash) => Array.from(new Uint8Array(hash), (byte) => byte.toString(16).padStart(2, '0')).join('');
        return {
            shards,
            begin: async () => {},
            put: async (section, index, bytes) => {
                const hash = hex(await crypto.subtle.digest('SHA-256', bytes));
                shards.set(`${section}-${String(index).padStart(5, '0')}-${hash.slice(0, 8)}.bin`, bytes);
                return hash;
            },
            read: async (file, begin, end) => {
                if (!shards.has(file)) throw { code: 'network', what: `${file} is gone`, remedy: 'none' };
                return shards.get(file).subarray(begin, end);
            },
        };
    })()";
    js_sys::eval(text).expect("it is JavaScript")
}

fn function(store: &JsValue, name: &str) -> Function {
    get(store, name).unchecked_into()
}

fn files(files: &[(&str, &[u8])]) -> Map {
    let map = Map::new();
    for (path, bytes) in files {
        map.set(&(*path).into(), &Uint8Array::from(*bytes));
    }
    map
}

fn get(object: &JsValue, key: &str) -> JsValue {
    Reflect::get(object, &key.into()).expect("an object")
}

fn text(object: &JsValue, key: &str) -> String {
    get(object, key).as_string().unwrap_or_else(|| panic!("{key} of {object:?} is no string"))
}

fn request(prompt: &str, steps: u32) -> JsValue {
    let json = format!(
        r#"{{"id": 1, "prompt": "{prompt}", "negative_prompt": "", "seed": 7, "num_inference_steps": {steps}, "guidance_scale": 4.5,
            "width": 64, "height": 64, "text_encoder": {{"kind": "tab"}}}}"#
    );
    js_sys::JSON::parse(&json).expect("valid JSON")
}

/// The multiplications of an image exceed 32 bits.
#[wasm_bindgen_test]
fn multiplications_are_counted_in_64_bits() {
    let mut folder = pixart_weights::Folder::default();
    SCENES
        .iter()
        .filter(|(path, _)| path.ends_with(".json"))
        .for_each(|(path, bytes)| folder.insert(*path, bytes.to_vec()));
    let planner = pixart_model::Planner::read(&folder, pixart_model::DeviceLimits::UNLIMITED).expect("it has all keys");
    let batch = pixart_model::LatentBatch { images: 1, latent_size: [16, 16], guided: true };
    let [none, one, many] = [0, 1, 1000].map(|steps| planner.mac_count(batch, steps, 120).matmul);
    assert_eq!(many - none, 1000 * (one - none));
    // Two captions, four blocks of 14 matrices of 192 × 192, 64 tokens.
    assert_eq!(one - none, 2 * 4 * 14 * 192 * 192 * 64);
}

#[wasm_bindgen_test]
async fn a_prompt_becomes_a_png_on_the_gpu() {
    a_prompt_becomes_a_png_and_after_a_bad_request_the_same_one_again("webgpu").await;
}

#[wasm_bindgen_test]
async fn a_prompt_becomes_a_png_on_the_cpu() {
    a_prompt_becomes_a_png_and_after_a_bad_request_the_same_one_again("wasm").await;
}

async fn a_prompt_becomes_a_png_and_after_a_bad_request_the_same_one_again(device: &str) {
    let session = Session::loaded(device).await;
    let first = session.generate_png("a red circle", 2).await;
    assert_eq!(&first[..8], b"\x89PNG\r\n\x1a\n");

    let model_outputs: js_sys::Array = session.all("step").iter().map(|step| get(step, "model_output")).collect();
    assert_eq!(model_outputs.length(), 2);
    assert_eq!(get(&get(&session.last("step"), "preview"), "width"), 8);

    let fault = session.generate("", 2, &JsValue::UNDEFINED).await.expect_err("no prompt");
    assert_eq!(text(&fault, "code"), "bad_request");
    let fault = session.generate("a red circle", 0, &JsValue::UNDEFINED).await.expect_err("no steps");
    assert_eq!(text(&fault, "what"), "num_inference_steps is 0");
    let fault = session.generate("a red circle", 1, &model_outputs).await.expect_err("more steps than that");
    assert!(text(&fault, "what").contains("too many"), "{}", text(&fault, "what"));

    for made in 0..=2 {
        let again = session.resume("a red circle", 2, &model_outputs.slice(0, made)).await;
        assert!(again == first, "resumed after {made} steps, the image differs");
    }

    assert!(session.generate_png("a red circle", 2).await == first, "one request gave two images");
    assert!(session.generate_png("a blue square", 2).await != first, "two requests gave one image");
}

#[wasm_bindgen_test]
async fn a_truncated_file_is_named() {
    let session = Session::open("wasm").await;
    let mut scenes = SCENES;
    let (path, bytes) = &mut scenes[7];
    *bytes = &bytes[..bytes.len() / 2];
    let path = *path;
    let fault = session.convert(&store(), &scenes).await.expect_err("half a file");
    assert_eq!(text(&fault, "code"), "bad_weights");
    assert!(text(&fault, "what").contains(path), "{}", text(&fault, "what"));
}

#[wasm_bindgen_test]
async fn a_fault_that_the_page_throws_while_shards_are_read_is_returned() {
    let session = Session::open("wasm").await;
    let store = store();
    let manifest = session.convert(&store, &SCENES).await.expect("the embedded checkpoint is converted");
    get(&store, "shards").unchecked_into::<Map>().clear();
    let loading = session.engine.load(&manifest, function(&store, "read"), "memory".into(), None, 0.0, Array::new());
    let fault = loading.await.expect_err("nothing can be read");
    assert_eq!(text(&fault, "code"), "network");
    assert!(text(&fault, "what").ends_with(".bin is gone"), "{}", text(&fault, "what"));
    assert!(Engine::validate_manifest(&manifest).is_ok());
    let fault =
        Engine::validate_manifest(&manifest.replace("pixart-pack", "other")).expect_err("it is of another format");
    assert_eq!(text(&fault, "code"), "bad_weights");
}
