//! Values across the JavaScript border, and the clock of the page.

use pixart_protocol::{EngineEvent, Fault, FaultCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

/// Rust → plain object; an absent value is `null`, bytes are a `Uint8Array`.
pub(crate) fn object(value: &impl Serialize) -> JsValue {
    let serializer = serde_wasm_bindgen::Serializer::new().serialize_missing_as_null(true);
    value.serialize(&serializer).expect("protocol types have a JavaScript form")
}

/// Plain object → Rust.
pub(crate) fn value<T: DeserializeOwned>(object: JsValue, what: &str) -> Result<T, Fault> {
    serde_wasm_bindgen::from_value(object).map_err(|error| {
        Fault::new(FaultCode::BadRequest, format!("{what}: {error}"), "send the fields that protocol.gen.ts describes")
    })
}

/// The function that takes the worker's events.
#[derive(Clone)]
pub(crate) struct Emitter(pub(crate) js_sys::Function);

impl Emitter {
    pub(crate) fn emit(&self, event: &EngineEvent) {
        if let Err(error) = self.0.call1(&JsValue::NULL, &object(event)) {
            web_sys::console::error_2(&"an event could not be delivered".into(), &error);
        }
    }
}

#[wasm_bindgen]
extern "C" {
    type MessageChannel;
    #[wasm_bindgen(constructor)]
    fn new() -> MessageChannel;
    #[wasm_bindgen(method, getter)]
    fn port1(this: &MessageChannel) -> MessagePort;
    #[wasm_bindgen(method, getter)]
    fn port2(this: &MessageChannel) -> MessagePort;

    type MessagePort;
    #[wasm_bindgen(method, setter)]
    fn set_onmessage(this: &MessagePort, hear: &js_sys::Function);
    #[wasm_bindgen(method, js_name = postMessage)]
    fn post_message(this: &MessagePort, message: JsValue);
    #[wasm_bindgen(method)]
    fn close(this: &MessagePort);
}

/// Lets the event loop turn once: messages that wait are received. A timeout would do, and take four milliseconds.
pub(crate) async fn turn() {
    let channel = MessageChannel::new();
    let turned = js_sys::Promise::new(&mut |then, _| channel.port1().set_onmessage(&then));
    channel.port2().post_message(JsValue::NULL);
    JsFuture::from(turned).await.expect("a message that was posted arrives");
    channel.port1().close();
}

/// Milliseconds since the page's time origin.
pub(crate) fn now_millis() -> f64 {
    let clock = js_sys::Reflect::get(&js_sys::global(), &"performance".into());
    let clock = clock.expect("every browser scope has a clock").unchecked_into::<web_sys::Performance>();
    clock.now()
}

/// Bytes of the module's memory.
pub(crate) fn heap_bytes() -> f64 {
    (core::arch::wasm32::memory_size(0) << 16) as f64
}
