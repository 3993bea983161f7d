//! Interop with JavaScript: values, events, the event loop and the clock.

use burn::tensor::{Device, Tensor, TensorData};
use pixart_protocol::{EngineEvent, Fault, FaultCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

/// Converts a value to a plain object: `None` becomes `null`, bytes a `Uint8Array`.
pub(crate) fn to_js(value: &impl Serialize) -> JsValue {
    let serializer = serde_wasm_bindgen::Serializer::new().serialize_missing_as_null(true);
    value.serialize(&serializer).expect("protocol types have a JavaScript form")
}

/// Converts a plain object to a value; `what` names it in the fault.
pub(crate) fn from_js<T: DeserializeOwned>(object: JsValue, what: &str) -> Result<T, Fault> {
    serde_wasm_bindgen::from_value(object).map_err(|error| {
        Fault::new(
            FaultCode::BadRequest,
            format!("{what} cannot be read: {}", error.to_string().trim_start_matches("Error: ")),
            "send the fields that protocol.gen.ts describes",
        )
    })
}

/// The worker's function that receives events.
#[derive(Clone)]
pub(crate) struct Emitter(pub(crate) js_sys::Function);

impl Emitter {
    pub(crate) fn emit(&self, event: &EngineEvent) {
        if let Err(error) = self.0.call1(&JsValue::NULL, &to_js(event)) {
            web_sys::console::error_2(&"an event could not be sent".into(), &error);
        }
    }
}

/// Returns the message of a thrown value, without its full stop.
pub(crate) fn message_of(thrown: &JsValue) -> String {
    let message = thrown.dyn_ref::<js_sys::Error>().map(|error| String::from(error.message()));
    let message = message
        .or_else(|| thrown.as_string())
        .unwrap_or_else(|| String::from(js_sys::JSON::stringify(thrown).unwrap_or_default()));
    without_stop(&message).to_owned()
}

/// Returns a browser's sentence as a part of another one.
pub(crate) fn without_stop(sentence: &str) -> &str {
    sentence.trim_end_matches(['.', ' ', '\n'])
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
    fn set_onmessage(this: &MessagePort, handler: &js_sys::Function);
    #[wasm_bindgen(method, js_name = postMessage)]
    fn post_message(this: &MessagePort, message: JsValue);
    #[wasm_bindgen(method)]
    fn close(this: &MessagePort);
}

/// Yields to the event loop once, so that pending messages are received. A timeout would take four milliseconds.
pub(crate) async fn yield_to_event_loop() {
    let channel = MessageChannel::new();
    let received = js_sys::Promise::new(&mut |then, _| channel.port1().set_onmessage(&then));
    channel.port2().post_message(JsValue::NULL);
    JsFuture::from(received).await.expect("a posted message is received");
    channel.port1().close();
}

/// Returns the little-endian bytes of numbers.
pub(crate) fn f32_bytes(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// Returns the tensor of this shape whose numbers [`f32_bytes`] wrote; `None` where they do not fill it.
pub(crate) fn tensor_of_bytes<const RANK: usize>(
    bytes: &[u8],
    shape: [usize; RANK],
    device: &Device,
) -> Option<Tensor<RANK>> {
    let (numbers, rest) = bytes.as_chunks::<4>();
    let fits = rest.is_empty() && numbers.len() == shape.iter().product::<usize>();
    let numbers: Vec<f32> = numbers.iter().map(|number| f32::from_le_bytes(*number)).collect();
    fits.then(|| Tensor::from_data(TensorData::new(numbers, shape), device))
}

/// Returns the milliseconds since the page's time origin.
pub(crate) fn now_millis() -> f64 {
    let clock = js_sys::Reflect::get(&js_sys::global(), &"performance".into());
    let clock = clock.expect("every browser scope has performance").unchecked_into::<web_sys::Performance>();
    clock.now()
}

/// Returns the size of the wasm heap.
pub(crate) fn heap_bytes() -> f64 {
    (core::arch::wasm32::memory_size(0) << 16) as f64
}
