//! The engine in a real browser's worker, on a real WebGPU adapter and on the processor: it draws, it refuses, it goes on.

#![cfg(target_family = "wasm")]

use std::cell::RefCell;
use std::rc::Rc;

use js_sys::{Function, Map, Reflect, Uint8Array};
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

/// The checkpoint that ships with the page.
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
        let heard = Rc::clone(&events);
        let hear = Closure::<dyn Fn(JsValue)>::new(move |event| heard.borrow_mut().push(event));
        let hear: Function = hear.into_js_value().unchecked_into();
        let engine = Engine::open(hear, device.into()).await.expect("WebGPU is here");
        let session = Self { engine, events };
        console_log!("adapter: {}", text(&session.last("adapter"), "name"));
        session
    }

    async fn loaded(device: &str) -> Self {
        let session = Self::open(device).await;
        session.engine.load(files(&SCENES), 0.0).await.expect("the embedded checkpoint loads");
        session
    }

    /// The newest event of a kind.
    fn last(&self, kind: &str) -> JsValue {
        let events = self.events.borrow();
        let found = events.iter().rev().find(|event| text(event, "kind") == kind);
        found.unwrap_or_else(|| panic!("no event of the kind {kind}")).clone()
    }

    /// The PNG that the request gives.
    async fn draw(&self, prompt: &str, steps: u32) -> Vec<u8> {
        self.engine.generate(request(prompt, steps), JsValue::UNDEFINED).await.expect("draws");
        Uint8Array::from(get(&self.last("image"), "png")).to_vec()
    }
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
        r#"{{"id": 1, "prompt": "{prompt}", "negative_prompt": "", "seed": 7, "steps": {steps}, "guidance": 4.5,
            "width": 64, "height": 64, "text": {{"kind": "tab"}}}}"#
    );
    js_sys::JSON::parse(&json).expect("valid JSON")
}

#[wasm_bindgen_test]
async fn a_prompt_becomes_a_png_on_the_gpu() {
    a_prompt_becomes_a_png_and_after_a_bad_request_the_same_one_again("webgpu").await;
}

#[wasm_bindgen_test]
async fn a_prompt_becomes_a_png_on_the_processor() {
    a_prompt_becomes_a_png_and_after_a_bad_request_the_same_one_again("wasm").await;
}

async fn a_prompt_becomes_a_png_and_after_a_bad_request_the_same_one_again(device: &str) {
    let session = Session::loaded(device).await;
    let first = session.draw("a red circle", 2).await;
    assert_eq!(&first[..8], b"\x89PNG\r\n\x1a\n");

    let fault = session.engine.generate(request("", 2), JsValue::UNDEFINED).await.expect_err("no prompt");
    assert_eq!(text(&fault, "code"), "bad_request");
    let fault = session.engine.generate(request("a red circle", 0), JsValue::UNDEFINED).await.expect_err("no steps");
    assert_eq!(text(&fault, "what"), "steps is 0");

    assert!(session.draw("a red circle", 2).await == first, "one request gave two pictures");
    assert!(session.draw("a blue square", 2).await != first, "two requests gave one picture");
}

#[wasm_bindgen_test]
async fn a_truncated_file_is_named() {
    let session = Session::open("wasm").await;
    let mut scenes = SCENES;
    let (path, bytes) = &mut scenes[7];
    *bytes = &bytes[..bytes.len() / 2];
    let path = *path;
    let fault = session.engine.load(files(&scenes), 0.0).await.expect_err("half a file");
    assert_eq!(text(&fault, "code"), "bad_weights");
    assert!(text(&fault, "what").contains(path), "{}", text(&fault, "what"));
}
